//! `t5`: five trits a byte, as the digits of a number to base 3 (SPEC §10.2).
//!
//! ```text
//! byte j of a row = Σ (trit(5j + i) + 1) · 3^i,  i = 0..4
//! ```

use super::{Offence, simd};
use crate::error::rule;

/// Trits of a byte.
pub(super) const GROUP: usize = 5;

/// Trits of every byte; the illegal ones read as zero.
static TRITS: [[i8; GROUP]; 256] = table();

const fn table() -> [[i8; GROUP]; 256] {
    let mut table = [[0; GROUP]; 256];
    let mut byte = 0;
    while byte < 243 {
        let (mut rest, mut i) = (byte, 0);
        while i < GROUP {
            table[byte][i] = (rest % 3) as i8 - 1;
            rest /= 3;
            i += 1;
        }
        byte += 1;
    }
    table
}

/// Bytes of a row.
pub(super) fn row_bytes(cols: usize) -> usize {
    cols.div_ceil(GROUP)
}

/// Encodes one row.
pub(super) fn encode_row(trits: &[i8], out: &mut [u8]) {
    let (groups, rest) = trits.as_chunks();
    simd::run(Pack { groups, out });
    if !rest.is_empty() {
        let mut last = [0i8; GROUP];
        last[..rest.len()].copy_from_slice(rest);
        out[groups.len()] = byte_of(&last);
    }
}

struct Pack<'a> {
    groups: &'a [[i8; GROUP]],
    out: &'a mut [u8],
}

impl simd::Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (byte, group) in self.out.iter_mut().zip(self.groups) {
            *byte = byte_of(group);
        }
    }
}

#[inline(always)]
fn byte_of(trits: &[i8; GROUP]) -> u8 {
    let digit = |i: usize| trits[i].wrapping_add(1) as u8;
    digit(0) + 3 * (digit(1) + 3 * (digit(2) + 3 * (digit(3) + 3 * digit(4))))
}

/// Decodes one row.
pub(super) fn decode_row(bytes: &[u8], out: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    let done = super::t5_x86::decode(bytes, out);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    decode_by_table(&bytes[done..], &mut out[done * GROUP..]);
}

fn decode_by_table(bytes: &[u8], out: &mut [i8]) {
    let (whole, rest) = out.as_chunks_mut();
    for (&byte, group) in bytes.iter().zip(whole) {
        *group = TRITS[usize::from(byte)];
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&TRITS[usize::from(bytes[bytes.len() - 1])][..rest.len()]);
    }
}

/// The largest byte.
struct Max<'a>(&'a [u8]);

impl simd::Kernel for Max<'_> {
    type Output = u8;

    #[inline(always)]
    fn run(self) -> u8 {
        self.0.iter().fold(0, |max, &byte| max.max(byte))
    }
}

/// Checks whole rows; the first offence by row and column.
pub(super) fn validate(bytes: &[u8], cols: usize) -> Result<(), Offence> {
    let (width, used) = (row_bytes(cols), cols % GROUP);
    // The first digit beyond the columns that is not 1.
    let misfilled = |row: &[u8]| (used..GROUP).find(|&i| used != 0 && TRITS[usize::from(row[width - 1])][i] != 0);
    if simd::run(Max(bytes)) <= 242 && (used == 0 || bytes.chunks_exact(width).all(|row| misfilled(row).is_none())) {
        return Ok(());
    }
    for (row, bytes) in bytes.chunks_exact(width).enumerate() {
        if let Some(j) = bytes.iter().position(|&b| b > 242) {
            return Err(Offence::new(rule::T5_BYTE, row, GROUP * j, "a byte of at most 242", bytes[j]));
        }
        if let Some(i) = misfilled(bytes) {
            return Err(Offence::new(
                rule::T5_PADDING,
                row,
                cols - used + i,
                "digit 1 beyond the columns",
                bytes[width - 1],
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte in every place, legal or not, in rows of every length up to some steps.
    #[test]
    fn every_way_gives_the_same() {
        for cols in 1..400 {
            for start in (0..256).step_by(61) {
                let bytes: Vec<u8> = (start..start + row_bytes(cols)).map(|b| b as u8).collect();
                let (mut ours, mut theirs) = (vec![9; cols], vec![8; cols]);
                decode_row(&bytes, &mut ours);
                decode_by_table(&bytes, &mut theirs);
                assert_eq!(ours, theirs, "{cols} columns from {start}");
            }
        }
    }
}
