//! Sums of a few tokens over nm-vi, in the order of tensor cores, straight from the bytes of the file.
//!
//! ```text
//! quad (64 bytes) = rows g and g + 8, 128 columns: four lanes of V0 M0 V1 M1
//!   ── transpose ──▶ 32 bytes of pair codes, 32 bytes of index nibbles ──▶ weights = 1 1 1 1 + first value at i0 + second value at i1
//! ```
//!
//! Windows are the same with activations that were gathered to match. A strip is walked through eight times, a pair of rows each time: it fits the
//! cache, and meanwhile the next strip is fetched from beginning to end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::sums::{Sums, load_half, planes};
use super::unpack::table;
use crate::cpu::Matrix;
use crate::cpu::gemv::{Line, Lines};
use crate::cpu::x86_64::{PAIR_VALUES, byte_of, fetch};

/// Rows of a strip.
const ROWS: usize = 16;
/// Bytes of a tile.
const TILE: usize = 512;
/// Bytes of a tile that belong to a pair of rows.
const QUAD: usize = 64;

#[target_feature(enable = "avx2")]
pub(super) fn sums_of(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    let bytes = weight.data.len() / weight.rows.div_ceil(ROWS);
    let strips = weight.data[rows.start / ROWS * bytes..].chunks_exact(bytes);
    let tables = Tables::new();
    for (strip, sums) in strips.zip(sums.chunks_mut(ROWS * x.tokens)) {
        for g in 0..ROWS / 2 {
            for token in (0..x.tokens).step_by(2) {
                let lines = &x.lines[token * x.stride..];
                if token + 1 < x.tokens {
                    put(of_pair::<2>(&tables, strip, g, lines, x.stride), g, token, x.tokens, sums);
                } else {
                    put(of_pair::<1>(&tables, strip, g, lines, x.stride), g, token, x.tokens, sums);
                }
            }
        }
    }
}

/// Stores the sums of rows g and g + 8, of those that are there.
fn put<const T: usize>(of_pair: [[i32; T]; 2], g: usize, token: usize, tokens: usize, sums: &mut [i32]) {
    for (of_row, row) in of_pair.iter().zip([g, g + ROWS / 2]) {
        if let Some(sums) = sums.get_mut(row * tokens + token..row * tokens + token + T) {
            sums.copy_from_slice(of_row);
        }
    }
}

/// The sums of rows g and g + 8 of a strip.
#[target_feature(enable = "avx2")]
fn of_pair<const T: usize>(tables: &Tables, strip: &[u8], g: usize, lines: &[Line], stride: usize) -> [[i32; T]; 2] {
    let tiles = strip.len() / TILE;
    // Whatever is taken for a tile beyond the last: its activations are zero.
    let quad = |tile: usize| &strip[tile.min(tiles - 1) * TILE + g * QUAD..][..QUAD];
    let mut sums = [Sums::<T>::new(), Sums::<T>::new()];
    for i in 0..tiles.div_ceil(2) {
        let ahead = strip.as_ptr().wrapping_add(strip.len() + (g * tiles + 2 * i) * QUAD);
        fetch(ahead);
        fetch(ahead.wrapping_add(QUAD));
        let [u, w] = tables.unpack(quad(2 * i));
        let [v, x] = tables.unpack(quad(2 * i + 1));
        let lines = &lines[4 * i..];
        sums[0].add([planes(u), planes(v)], lines, stride);
        sums[1].add([planes(w), planes(x)], lines, stride);
    }
    sums.map(|sums| sums.finish())
}

/// Tables for a quad.
struct Tables {
    /// Brings pair codes that lie in the order of lanes into that of groups, two groups being in one half and the next two in the other.
    order: __m256i,
    /// The values of row g and of row g + 8 by pair code.
    values: [__m256i; 2],
    /// 4^i0 and 4^i1 by index nibble.
    places: [__m256i; 2],
}

impl Tables {
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        let values = |row: usize| std::array::from_fn(|code| if code < 9 { PAIR_VALUES[code][row] } else { 0 });
        Self {
            order: table(&[0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]),
            values: [table(&values(0)), table(&values(1))],
            places: [
                table(&std::array::from_fn(|nibble| 1 << (2 * (nibble & 3)))),
                table(&std::array::from_fn(|nibble| 1 << (2 * (nibble >> 2)))),
            ],
        }
    }

    /// The 32 groups of both rows in the form of t2.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn unpack(&self, quad: &[u8]) -> [__m256i; 2] {
        let (first, second) = (load_half(quad, 0), load_half(quad, 1));
        let (half0, half1) = (_mm256_unpacklo_epi32(first, second), _mm256_unpackhi_epi32(first, second));
        let pairs = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(half0, half1), self.order);
        let (low, high) = (_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        let pairs = _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high));
        let fifteen = _mm256_set1_epi8(15);
        let slots = [_mm256_and_si256(pairs, fifteen), _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), fifteen)];

        // Of these, the low half is of row g and the high one of row g + 8.
        let indices = _mm256_unpackhi_epi64(half0, half1);
        let even = _mm256_and_si256(indices, fifteen);
        let odd = _mm256_and_si256(_mm256_srli_epi16::<4>(indices), fifteen);
        let (front, back) = (_mm256_unpacklo_epi8(even, odd), _mm256_unpackhi_epi8(even, odd));
        let nibbles = [_mm256_permute2x128_si256::<0x20>(front, back), _mm256_permute2x128_si256::<0x31>(front, back)];

        let mut rows = nibbles;
        for (r, row) in rows.iter_mut().enumerate() {
            let mut weights = _mm256_set1_epi8(byte_of([0; 4]));
            for (slot, places) in slots.iter().zip(&self.places) {
                let values = _mm256_shuffle_epi8(self.values[r], *slot);
                let places = _mm256_shuffle_epi8(*places, nibbles[r]);
                weights = _mm256_add_epi8(weights, _mm256_sign_epi8(places, values));
            }
            *row = weights;
        }
        rows
    }
}
