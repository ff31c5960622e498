//! Stored rows to rows with two bits a trit, by byte permutations. The plain form of this is `gemm::rows`.

use std::arch::x86_64::*;
use std::ops::Range;

use sbnc_format::{Encoding, Order};

use super::{load, load_part, store};
use crate::cpu::Matrix;
use crate::cpu::gemm::tables;

/// Unpacks some rows; the first is a multiple of 16. Beyond the last column up to 128 bytes of `out` are written.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn unpack(weight: &Matrix<'_>, range: Range<usize>, out: &mut [u8], stride: usize, windows: &mut Vec<u8>) {
    let strip = weight.packing.strip(weight.cols);
    let strips = &weight.data[range.start / strip.rows * strip.bytes..range.end.div_ceil(strip.rows) * strip.bytes];
    let strips = strips.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * stride));
    match (weight.packing.encoding, weight.packing.order) {
        (Encoding::T2, _) => strips.for_each(|(bytes, out)| out[..bytes.len()].copy_from_slice(bytes)),
        (Encoding::T5, _) => {
            let tables = T5::new();
            strips.for_each(|(bytes, out)| tables.row(bytes, out));
        }
        (Encoding::Nm6b, _) => strips.for_each(|(bytes, out)| nm6b(bytes, out)),
        (_, Order::Windows) => {
            let width = strip.bytes / 512 * 32 + 64;
            windows.resize(width * 16, 0);
            let (tables, join) = (Fragments::new(0x55), Contraction::new(weight.packing.pattern.m() / 2 - 1));
            let blocks = weight.cols / weight.packing.pattern.m();
            for (bytes, out) in strips {
                tables.strip(bytes, windows, width);
                for (windows, out) in windows.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                    join.row(windows, blocks, out);
                }
            }
        }
        _ => {
            let tables = Fragments::new(0);
            strips.for_each(|(bytes, out)| tables.strip(bytes, out, stride));
        }
    }
}

/// Tables for `t5`.
struct T5 {
    /// Codes of the first four trits for bytes below 128 and from 128 on.
    four: [[__m512i; 2]; 2],
    /// The 80 bytes of codes from the low five bytes of each 8 of two vectors.
    close: [__m512i; 2],
}

impl T5 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn new() -> Self {
        let mut four = [[_mm512_setzero_si512(); 2]; 2];
        for (i, four) in four.as_flattened_mut().iter_mut().enumerate() {
            let mut bytes = [0; 64];
            for (j, byte) in bytes.iter_mut().enumerate() {
                *byte = tables::T5[64 * i + j] as u8;
            }
            *four = load(&bytes);
        }
        let mut close = [[0; 64]; 2];
        for (i, byte) in close.as_flattened_mut().iter_mut().enumerate().take(80) {
            // Four bytes of t5 make a group of 40 bits; groups 0 and 1 of each four are in the first vector, 2 and 3 in the second.
            let (group, at) = (i / 5, i % 5);
            *byte = (64 * (group % 4 / 2) + 16 * (group / 4) + 8 * (group % 2) + at) as u8;
        }
        Self { four, close: [load(&close[0]), load(&close[1])] }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn row(&self, bytes: &[u8], out: &mut [u8]) {
        let (whole, rest) = bytes.as_chunks::<64>();
        for (i, bytes) in whole.iter().enumerate() {
            self.codes(load(bytes), &mut out[80 * i..]);
        }
        if !rest.is_empty() {
            self.codes(load_part(rest), &mut out[80 * whole.len()..]);
        }
    }

    /// 64 bytes to 80; 128 are written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn codes(&self, bytes: __m512i, out: &mut [u8]) {
        let [[a, b], [c, d]] = self.four;
        let (low, high) = (_mm512_permutex2var_epi8(a, bytes, b), _mm512_permutex2var_epi8(c, bytes, d));
        let four = _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high);
        let (one, two) = (_mm512_set1_epi8(1), _mm512_set1_epi8(2));
        let fifth = _mm512_maskz_mov_epi8(_mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(81)), one);
        let fifth =
            _mm512_mask_mov_epi8(fifth, _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(162u8.cast_signed())), two);
        let groups = [_mm512_unpacklo_epi8(four, fifth), _mm512_unpackhi_epi8(four, fifth)];
        let groups = [joined(groups[0]), joined(groups[1])];
        if let Some((first, rest)) = out.split_first_chunk_mut()
            && let Some(rest) = rest.first_chunk_mut()
        {
            store(first, _mm512_permutex2var_epi8(groups[0], self.close[0], groups[1]));
            store(rest, _mm512_permutex2var_epi8(groups[0], self.close[1], groups[1]));
        }
    }
}

/// Joins 10 bits of each of four words to 40 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn joined(words: __m512i) -> __m512i {
    let twenty = _mm512_madd_epi16(words, _mm512_set1_epi32(1 | 1024 << 16));
    let low = _mm512_set1_epi64(0xF_FFFF);
    // Bits of `low` from the first, all others from the second.
    _mm512_ternarylogic_epi64::<0xCA>(low, twenty, _mm512_srli_epi64::<12>(twenty))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn nm6b(bytes: &[u8], out: &mut [u8]) {
    let table = load(&tables::NM6B);
    let mut spread = [0; 64];
    for (i, at) in spread.iter_mut().enumerate() {
        *at = (i / 8 * 6 + (i % 8).min(5)) as u8;
    }
    let spread = load(&spread);
    let fields = _mm512_set1_epi64(0x2A24_1E18_120C_0600);
    for (bytes, out) in bytes.chunks(48).zip(out.as_chunks_mut::<64>().0) {
        let eights = _mm512_permutexvar_epi8(spread, load_part(bytes));
        let codes = _mm512_multishift_epi64_epi8(fields, eights);
        // A permutation looks at six bits of each index.
        store(out, _mm512_permutexvar_epi8(codes, table));
    }
}

/// Tables for `nm-vi`: four lanes hold rows g and g + 8 of a tile, which become the halves of a vector.
struct Fragments {
    pairs: __m512i,
    indices: __m512i,
    /// Index nibbles to the low bits of their bytes.
    nibbles: __m512i,
    states: [__m512i; 2],
    index_pairs: __m512i,
    codes: __m512i,
}

impl Fragments {
    /// Each code is joined with `flip` by "xor".
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn new(flip: u8) -> Self {
        const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
        let (mut pairs, mut indices, mut states, mut index_pairs) = ([0; 64], [0; 64], [[0; 64]; 2], [0; 64]);
        for i in 0..64 {
            (pairs[i], indices[i]) = tables::PLACES[i / 32][i % 32];
            states[0][i] = tables::PAIRS[i / 32][i % 16];
            states[1][i] = 3 * tables::PAIRS[i / 32][i % 16];
            let pair = PAIRS.iter().position(|&(a, b)| a + 4 * b == i % 16).unwrap_or(0);
            index_pairs[i] = 9 * pair as u8;
        }
        let mut codes = [0; 64];
        for (i, code) in codes.iter_mut().enumerate().take(54) {
            let (first, second) = PAIRS[i / 9];
            *code = tables::with(tables::with(0x55, first, i as u8 % 3), second, i as u8 / 3 % 3) ^ flip;
        }
        Self {
            pairs: load(&pairs),
            indices: load(&indices),
            nibbles: _mm512_set1_epi64(0x3C30_2C20_1C10_0C00),
            states: [load(&states[0]), load(&states[1])],
            index_pairs: load(&index_pairs),
            codes: load(&codes),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn strip(&self, bytes: &[u8], out: &mut [u8], stride: usize) {
        let (upper, lower) = out.split_at_mut(8 * stride);
        for (tile, bytes) in bytes.as_chunks::<512>().0.iter().enumerate() {
            let rows = upper.chunks_exact_mut(stride).zip(lower.chunks_exact_mut(stride));
            for (quad, (upper, lower)) in bytes.as_chunks::<64>().0.iter().zip(rows) {
                let codes = self.quad(load(quad));
                let (upper, lower) = (&mut upper[32 * tile..], &mut lower[32 * tile..]);
                if let (Some(upper), Some(lower)) = (upper.first_chunk_mut(), lower.first_chunk_mut()) {
                    store_32(upper, _mm512_castsi512_si256(codes));
                    store_32(lower, _mm512_extracti64x4_epi64::<1>(codes));
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn quad(&self, quad: __m512i) -> __m512i {
        let fifteen = _mm512_set1_epi8(15);
        let pairs = _mm512_permutexvar_epi8(self.pairs, quad);
        let nibbles = _mm512_multishift_epi64_epi8(self.nibbles, _mm512_permutexvar_epi8(self.indices, quad));
        let first = _mm512_shuffle_epi8(self.states[0], _mm512_and_si512(pairs, fifteen));
        let second = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), fifteen);
        let second = _mm512_shuffle_epi8(self.states[1], second);
        let places = _mm512_shuffle_epi8(self.index_pairs, _mm512_and_si512(nibbles, fifteen));
        let state = _mm512_add_epi8(_mm512_add_epi8(first, second), places);
        _mm512_permutexvar_epi8(state, self.codes)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_32(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// How windows of whole blocks become columns: for the low and the high nibble of every output byte the window whose low half it is, and the one whose
/// high half it is.
struct Contraction {
    sources: [__m512i; 4],
    present: [u64; 4],
    /// Blocks, windows and bytes of a step.
    blocks: usize,
    windows: usize,
    bytes: usize,
}

impl Contraction {
    /// For blocks of `each` windows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn new(each: usize) -> Self {
        let (mut sources, mut present) = ([[0; 64]; 4], [0; 4]);
        // An even number of blocks is a whole number of bytes.
        let blocks = 64 / (2 * each) * 2;
        let bytes = blocks * (each + 1) / 2;
        for nibble in 0..2 * bytes {
            let (byte, half) = (nibble / 2, nibble % 2);
            let (block, i) = (nibble / (each + 1), nibble % (each + 1));
            if i < each {
                sources[2 * half][byte] = (block * each + i) as u8;
                present[2 * half] |= 1 << byte;
            }
            if i > 0 {
                sources[2 * half + 1][byte] = (block * each + i - 1) as u8;
                present[2 * half + 1] |= 1 << byte;
            }
        }
        let sources = [load(&sources[0]), load(&sources[1]), load(&sources[2]), load(&sources[3])];
        Self { sources, present, blocks, windows: blocks * each, bytes }
    }

    /// Joins the `blocks` blocks of a row, whose zeros have the code 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn row(&self, windows: &[u8], blocks: usize, out: &mut [u8]) {
        let [a, b, c, d] = self.present;
        let low = _mm512_set1_epi8(15);
        for i in 0..blocks.div_ceil(self.blocks) {
            let windows = load_part(&windows[i * self.windows..]);
            let low_of_low = _mm512_maskz_permutexvar_epi8(a, self.sources[0], windows);
            let high_of_low = _mm512_maskz_permutexvar_epi8(b, self.sources[1], windows);
            let low_of_high = _mm512_maskz_permutexvar_epi8(c, self.sources[2], windows);
            let high_of_high = _mm512_maskz_permutexvar_epi8(d, self.sources[3], windows);
            let first = _mm512_or_si512(low_of_low, _mm512_srli_epi16::<4>(high_of_low));
            let second = _mm512_or_si512(_mm512_slli_epi16::<4>(low_of_high), high_of_high);
            // Low bits of the first, high bits of the second.
            let codes = _mm512_ternarylogic_epi64::<0xCA>(low, first, second);
            if let Some(out) = out[i * self.bytes..].first_chunk_mut() {
                store(out, _mm512_xor_si512(codes, _mm512_set1_epi8(0x55)));
            }
        }
    }
}
