//! Panels from rows with two bits a trit. A byte holds four codes: a look-up repeats it four times, shifts bring each code to the lowest bits.
//!
//! ```text
//! lines (sdot, smlal)   [columns / 4][16 rows][4]: a vector has four columns of four rows
//! pairs (smmla)         [columns / 8][16 rows][8]: a vector has eight columns of two rows, and fills two lines with seven others
//! ```

use std::arch::aarch64::*;

use super::{load, store};
use crate::cpu::gemm::{Line, PANEL};

/// Byte b of every word, four times.
static BYTES: [[u8; 16]; 4] = repeats(4, 1);
/// Each byte of word w, four times.
static WORDS: [[u8; 16]; 4] = repeats(1, 4);

/// In every fourth of 16 bytes: which of as many bytes is repeated, in steps within a table and between tables.
const fn repeats(within: usize, between: usize) -> [[u8; 16]; 4] {
    let mut tables = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        tables[i / 16][i % 16] = (i / 16 * between + i % 16 / 4 * within) as u8;
        i += 1;
    }
    tables
}

/// The bytes of rows from byte `first` of each on, in sixteens.
fn sixteens(rows: &[u8], stride: usize, first: usize, lines: usize) -> [&[[u8; 16]]; PANEL] {
    std::array::from_fn(|row| rows[row * stride + first..][..lines].as_chunks().0)
}

/// Fills the lines of a panel from 16 rows, `stride` bytes apart, from byte `first` of each on. The number of lines is a multiple of 16.
#[target_feature(enable = "neon")]
pub(crate) fn lines(rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
    let rows = sixteens(rows, stride, first, lines.len());
    let repeats = [load(&BYTES[0]), load(&BYTES[1]), load(&BYTES[2]), load(&BYTES[3])];
    for (i, lines) in lines.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (four, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = rows;
            let words = transposed(load(&a[i]), load(&b[i]), load(&c[i]), load(&d[i]));
            for (j, line) in lines.iter_mut().enumerate() {
                store(&mut line.0.as_chunks_mut().0[four], codes(words[j / 4], repeats[j % 4]));
            }
        }
    }
}

/// As [`lines`], for matrix products.
#[target_feature(enable = "neon")]
pub(crate) fn pairs(rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
    let rows = sixteens(rows, stride, first, lines.len());
    let repeats = [load(&WORDS[0]), load(&WORDS[1]), load(&WORDS[2]), load(&WORDS[3])];
    for (i, lines) in lines.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (pair, rows) in rows.as_chunks::<2>().0.iter().enumerate() {
            // Two bytes of one row and two of the other, for every eight columns.
            let (a, b) = (vreinterpretq_u16_u8(load(&rows[0][i])), vreinterpretq_u16_u8(load(&rows[1][i])));
            let both = [vreinterpretq_u8_u16(vzip1q_u16(a, b)), vreinterpretq_u8_u16(vzip2q_u16(a, b))];
            for (eight, lines) in lines.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                store(&mut lines[pair / 4].0.as_chunks_mut().0[pair % 4], codes(both[eight / 4], repeats[eight % 4]));
            }
        }
    }
}

/// The codes of four bytes, each repeated four times.
#[inline]
#[target_feature(enable = "neon")]
fn codes(bytes: uint8x16_t, repeats: uint8x16_t) -> uint8x16_t {
    let shifts = vreinterpretq_s8_u32(vdupq_n_u32(u32::from_le_bytes([0, -2, -4, -6].map(i8::cast_unsigned))));
    vandq_u8(vshlq_u8(vqtbl1q_u8(bytes, repeats), shifts), vdupq_n_u8(3))
}

/// Words of four rows to rows of words.
#[inline]
#[target_feature(enable = "neon")]
fn transposed(a: uint8x16_t, b: uint8x16_t, c: uint8x16_t, d: uint8x16_t) -> [uint8x16_t; 4] {
    let (a, b, c, d) =
        (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b), vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
    let (even, odd) = (vreinterpretq_u64_u32(vtrn1q_u32(a, b)), vreinterpretq_u64_u32(vtrn2q_u32(a, b)));
    let (even2, odd2) = (vreinterpretq_u64_u32(vtrn1q_u32(c, d)), vreinterpretq_u64_u32(vtrn2q_u32(c, d)));
    [
        vreinterpretq_u8_u64(vtrn1q_u64(even, even2)),
        vreinterpretq_u8_u64(vtrn1q_u64(odd, odd2)),
        vreinterpretq_u8_u64(vtrn2q_u64(even, even2)),
        vreinterpretq_u8_u64(vtrn2q_u64(odd, odd2)),
    ]
}
