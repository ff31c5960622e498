//! Stored rows to rows with two bits a trit, by shuffles within 16 bytes. The plain form of this is `gemm::rows`.

use std::arch::x86_64::*;
use std::ops::Range;

use sbnc_format::{Encoding, Order};

use super::{load, load_16, store_16};
use crate::cpu::Matrix;
use crate::cpu::gemm::{rows, tables};

/// Unpacks some rows; the first is a multiple of 16. Beyond the last column up to 128 bytes of `out` are written.
#[target_feature(enable = "avx2")]
pub(crate) fn unpack(weight: &Matrix<'_>, range: Range<usize>, out: &mut [u8], stride: usize, windows: &mut Vec<u8>) {
    let strip = weight.packing.strip(weight.cols);
    let strips = &weight.data[range.start / strip.rows * strip.bytes..range.end.div_ceil(strip.rows) * strip.bytes];
    let strips = strips.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * stride));
    match (weight.packing.encoding, weight.packing.order) {
        (Encoding::T2, _) => strips.for_each(|(bytes, out)| out[..bytes.len()].copy_from_slice(bytes)),
        (Encoding::T5, _) => strips.for_each(|(bytes, out)| t5(bytes, out)),
        (Encoding::Nm6b, _) => strips.for_each(|(bytes, out)| nm6b(bytes, out)),
        (_, Order::Windows) => {
            let width = strip.bytes / 512 * 32;
            windows.resize(width * 16, 0);
            let (each, blocks) = (weight.packing.pattern.m() / 2 - 1, weight.cols / weight.packing.pattern.m());
            for (bytes, out) in strips {
                fragments(bytes, windows, width, 0);
                for (windows, out) in windows.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                    if each == 3 {
                        threes(windows, blocks, out);
                    } else {
                        rows::contract(windows, each, blocks, out);
                    }
                }
            }
        }
        _ => strips.for_each(|(bytes, out)| fragments(bytes, out, stride, 0x55)),
    }
}

/// The first 16 bytes, zeros behind them where there are fewer.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteen(bytes: &[u8]) -> __m128i {
    match bytes.first_chunk() {
        Some(bytes) => load_16(bytes),
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            load_16(&padded)
        }
    }
}

/// With q(i) = byte div 3^i, digit i is q(i) − 3·q(i + 1), so that Σ digit(i)·4^i = q(0) + q(1) + 4·q(2) + 16·q(3) + 64·q(4).
#[target_feature(enable = "avx2")]
fn t5(bytes: &[u8], out: &mut [u8]) {
    for i in 0..bytes.len().div_ceil(16) {
        t5_codes(sixteen(&bytes[16 * i..]), &mut out[20 * i..]);
    }
}

/// 16 bytes to 20; 26 are written.
#[inline]
#[target_feature(enable = "avx2")]
fn t5_codes(bytes: __m128i, out: &mut [u8]) {
    let byte = _mm256_cvtepu8_epi16(bytes);
    let third = _mm256_mulhi_epu16(byte, _mm256_set1_epi16(21846));
    let ninth = _mm256_mulhi_epu16(byte, _mm256_set1_epi16(7282));
    let third3 = _mm256_mulhi_epu16(byte, _mm256_set1_epi16(2428));
    let third4 = _mm256_mulhi_epu16(byte, _mm256_set1_epi16(810));
    let low = _mm256_add_epi16(_mm256_add_epi16(byte, third), _mm256_slli_epi16::<2>(ninth));
    let high = _mm256_add_epi16(_mm256_slli_epi16::<4>(third3), _mm256_slli_epi16::<6>(third4));
    // Ten bits of each word: two make 20 bits, four 40.
    let twenty = _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi32(1 | 1024 << 16));
    let first = _mm256_and_si256(twenty, _mm256_set1_epi64x(0xF_FFFF));
    let second = _mm256_and_si256(_mm256_srli_epi64::<12>(twenty), _mm256_set1_epi64x(0xFF_FFF0_0000));
    let close = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 8, 9, 10, 11, 12, -1, -1, -1, -1, -1, -1));
    let forty = _mm256_shuffle_epi8(_mm256_or_si256(first, second), close);
    if let Some(out) = out.first_chunk_mut() {
        store_16(out, _mm256_castsi256_si128(forty));
    }
    if let Some(out) = out[10..].first_chunk_mut() {
        store_16(out, _mm256_extracti128_si256::<1>(forty));
    }
}

#[target_feature(enable = "avx2")]
fn nm6b(bytes: &[u8], out: &mut [u8]) {
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().take(bytes.len().div_ceil(12)).enumerate() {
        nm6b_codes(sixteen(&bytes[12 * i..]), out);
    }
}

/// 12 bytes to 16.
#[inline]
#[target_feature(enable = "avx2")]
fn nm6b_codes(bytes: __m128i, out: &mut [u8; 16]) {
    let threes = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    let bits = _mm_shuffle_epi8(bytes, threes);
    let field = |bits: __m128i, mask: i32| _mm_and_si128(bits, _mm_set1_epi32(mask));
    let codes = _mm_or_si128(
        _mm_or_si128(field(bits, 0x3F), field(_mm_slli_epi32::<2>(bits), 0x3F00)),
        _mm_or_si128(field(_mm_slli_epi32::<4>(bits), 0x3F_0000), field(_mm_slli_epi32::<6>(bits), 0x3F00_0000)),
    );
    let table = tables::NM6B.as_chunks::<16>().0;
    let lower = _mm_shuffle_epi8(load_16(&table[0]), codes);
    let upper = _mm_shuffle_epi8(load_16(&table[1]), codes);
    let beyond = _mm_shuffle_epi8(load_16(&table[2]), codes);
    // Bits 4 and 5 of the codes, moved to the highest, choose between tables.
    let trits = _mm_blendv_epi8(lower, upper, _mm_slli_epi16::<3>(codes));
    store_16(out, _mm_blendv_epi8(trits, beyond, _mm_slli_epi16::<2>(codes)));
}

/// Constants for `nm-vi`; the lower halves are for row g, the upper ones for row g + 8.
struct Fragments {
    pairs: __m256i,
    indices: __m256i,
    /// The flip of a trit, +1 to all ones, −1 to 0101…, for a pair code.
    flips: __m256i,
    /// The two bits of each slot for an index nibble.
    slots: [__m256i; 2],
}

impl Fragments {
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        let (mut pairs, mut indices, mut flips, mut slots) = ([0; 32], [0; 32], [0; 32], [[0; 32]; 2]);
        for i in 0..32 {
            let (row, q) = (i / 16, i % 16);
            // Places in the words of four lanes that were brought together: lane c is at 4c.
            let place = |at: u8| at / 16 * 4 + at % 4;
            pairs[i] = place(tables::PLACES[row][q].0);
            indices[i] = place(tables::PLACES[row][q].1);
            flips[i] = [0, 0xFF, 0x55][usize::from(tables::PAIRS[row][q])];
            slots[0][i] = 3 << (2 * (q % 4));
            slots[1][i] = 3 << (2 * (q / 4));
        }
        Self {
            pairs: load(&pairs),
            indices: load(&indices),
            flips: load(&flips),
            slots: [load(&slots[0]), load(&slots[1])],
        }
    }

    /// 16 groups of rows g and g + 8 from the words of four lanes: flips of zeros.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(&self, values: __m128i, indices: __m128i) -> __m256i {
        let fifteen = _mm256_set1_epi8(15);
        let pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), self.pairs);
        let twice = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(indices), self.indices);
        // Even groups have the low nibble, odd ones the high nibble of the same byte.
        let nibbles = _mm256_or_si256(
            _mm256_and_si256(twice, _mm256_set1_epi16(0x000F)),
            _mm256_and_si256(_mm256_srli_epi16::<4>(twice), _mm256_set1_epi16(0x0F00)),
        );
        let first = _mm256_shuffle_epi8(self.flips, _mm256_and_si256(pairs, fifteen));
        let second = _mm256_shuffle_epi8(self.flips, _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), fifteen));
        _mm256_or_si256(
            _mm256_and_si256(first, _mm256_shuffle_epi8(self.slots[0], nibbles)),
            _mm256_and_si256(second, _mm256_shuffle_epi8(self.slots[1], nibbles)),
        )
    }
}

/// One strip of 16 rows; all codes are joined with `zeros` by "xor".
#[target_feature(enable = "avx2")]
fn fragments(bytes: &[u8], out: &mut [u8], stride: usize, zeros: i8) {
    let tables = Fragments::new();
    let zeros = _mm256_set1_epi8(zeros);
    let (upper, lower) = out.split_at_mut(8 * stride);
    for (tile, bytes) in bytes.as_chunks::<512>().0.iter().enumerate() {
        let rows = upper.chunks_exact_mut(stride).zip(lower.chunks_exact_mut(stride));
        for (quad, (upper, lower)) in bytes.as_chunks::<64>().0.iter().zip(rows) {
            let lanes = quad.as_chunks::<16>().0;
            let [a, b, c, d] = [load_16(&lanes[0]), load_16(&lanes[1]), load_16(&lanes[2]), load_16(&lanes[3])];
            let (low, low2) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
            let (high, high2) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
            let halves = [
                tables.codes(_mm_unpacklo_epi64(low, low2), _mm_unpackhi_epi64(low, low2)),
                tables.codes(_mm_unpacklo_epi64(high, high2), _mm_unpackhi_epi64(high, high2)),
            ];
            for (half, codes) in halves.into_iter().enumerate() {
                let codes = _mm256_xor_si256(codes, zeros);
                let at = 32 * tile + 16 * half;
                if let (Some(upper), Some(lower)) = (upper[at..].first_chunk_mut(), lower[at..].first_chunk_mut()) {
                    store_16(upper, _mm256_castsi256_si128(codes));
                    store_16(lower, _mm256_extracti128_si256::<1>(codes));
                }
            }
        }
    }
}

/// Joins blocks of three windows, whose zeros have the code 0: the pattern 6:8, the commonest.
#[target_feature(enable = "avx2")]
fn threes(windows: &[u8], blocks: usize, out: &mut [u8]) {
    let spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    let close = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    for i in 0..blocks.div_ceil(4) {
        let block = _mm_shuffle_epi8(sixteen(&windows[12 * i..]), spread);
        let field = |bits: __m128i, mask: i32| _mm_and_si128(bits, _mm_set1_epi32(mask));
        let joined = _mm_or_si128(
            _mm_or_si128(field(block, 0xFF), field(_mm_srli_epi32::<4>(block), 0xFF0)),
            field(_mm_srli_epi32::<8>(block), 0xFF00),
        );
        let codes = _mm_shuffle_epi8(_mm_xor_si128(joined, _mm_set1_epi8(0x55)), close);
        if let Some(out) = out[8 * i..].first_chunk_mut() {
            store_16(out, codes);
        }
    }
}
