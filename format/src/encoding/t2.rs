//! `t2`: four trits a byte, the code of a trit being trit + 1 (SPEC §10.1).
//!
//! ```text
//! bit     7 6   5 4   3 2   1 0
//!        4j+3  4j+2  4j+1   4j     columns in byte j of a row
//! ```

use super::{Offence, simd};
use crate::error::rule;

/// Bytes of a row.
pub(super) fn row_bytes(cols: usize) -> usize {
    cols.div_ceil(4)
}

/// Encodes one row.
pub(super) fn encode_row(trits: &[i8], out: &mut [u8]) {
    pack(trits.as_chunks().0, out);
    let rest = trits.as_chunks::<4>().1;
    if !rest.is_empty() {
        let mut last = [0i8; 4];
        last[..rest.len()].copy_from_slice(rest);
        out[trits.len() / 4] = byte_of(last);
    }
}

/// Packs groups of four trits: also the first step of the encodings of groups.
pub(super) fn pack(groups: &[[i8; 4]], out: &mut [u8]) {
    simd::run(Pack { groups, out });
}

struct Pack<'a> {
    groups: &'a [[i8; 4]],
    out: &'a mut [u8],
}

impl simd::Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (byte, &group) in self.out.iter_mut().zip(self.groups) {
            *byte = byte_of(group);
        }
    }
}

/// The byte of four trits.
#[inline(always)]
pub(super) const fn byte_of(trits: [i8; 4]) -> u8 {
    // Two's complement −1 is 0xFF, so adding 1 to every byte and dropping the carries gives the codes.
    let codes = [
        trits[0].wrapping_add(1) as u8,
        trits[1].wrapping_add(1) as u8,
        trits[2].wrapping_add(1) as u8,
        trits[3].wrapping_add(1) as u8,
    ];
    let word = u32::from_le_bytes(codes);
    (word | word >> 6 | word >> 12 | word >> 18) as u8
}

/// Four trits from a byte; code 3 reads as 0.
#[inline(always)]
pub(super) const fn trits_of(byte: u8) -> [i8; 4] {
    let x = byte as u32;
    let codes = (x | x << 6 | x << 12 | x << 18) & 0x0303_0303;
    let illegal = codes & codes >> 1 & 0x0101_0101;
    let codes = codes ^ illegal << 1;
    // Subtracts 1 from every byte: the guard bits stop borrows.
    let trits = ((codes | 0x8080_8080) - 0x0101_0101) ^ 0x8080_8080;
    let [a, b, c, d] = trits.to_le_bytes();
    [a as i8, b as i8, c as i8, d as i8]
}

/// Decodes one row.
pub(super) fn decode_row(bytes: &[u8], out: &mut [i8]) {
    let (whole, rest) = out.as_chunks_mut();
    simd::run(Unpack { bytes, out: whole });
    if !rest.is_empty() {
        let last = trits_of(bytes[bytes.len() - 1]);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

struct Unpack<'a> {
    bytes: &'a [u8],
    out: &'a mut [[i8; 4]],
}

impl simd::Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (&byte, group) in self.bytes.iter().zip(self.out) {
            *group = trits_of(byte);
        }
    }
}

/// Whether every code of `bytes` is legal.
struct Legal<'a>(&'a [u8]);

impl simd::Kernel for Legal<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let (words, rest) = self.0.as_chunks::<8>();
        let mut illegal = 0u64;
        for word in words {
            let x = u64::from_le_bytes(*word);
            illegal |= x & x >> 1;
        }
        let rest = rest.iter().fold(0u8, |acc, &x| acc | x & x >> 1);
        illegal & 0x5555_5555_5555_5555 == 0 && rest & 0x55 == 0
    }
}

/// Checks whole rows; the first offence by row and column.
pub(super) fn validate(bytes: &[u8], cols: usize) -> Result<(), Offence> {
    let width = row_bytes(cols);
    if simd::run(Legal(bytes)) && (cols.is_multiple_of(4) || padding_is_zero(bytes, cols)) {
        return Ok(());
    }
    for (row, bytes) in bytes.chunks_exact(width).enumerate() {
        for (j, &byte) in bytes.iter().enumerate() {
            for i in 0..4 {
                let code = byte >> (2 * i) & 3;
                let col = 4 * j + i;
                if code == 3 {
                    return Err(Offence::new(rule::T2_CODE, row, col, "a code of 0 to 2", code));
                }
                if col >= cols && code != 1 {
                    return Err(Offence::new(rule::T2_PADDING, row, col, "code 1 beyond the columns", code));
                }
            }
        }
    }
    Ok(())
}

fn padding_is_zero(bytes: &[u8], cols: usize) -> bool {
    let used = 2 * (cols % 4) as u32;
    bytes.chunks_exact(row_bytes(cols)).all(|row| row[row.len() - 1] >> used == 0b0101_0101 >> used)
}
