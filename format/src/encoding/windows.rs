//! `nm-vi` in order windows: (M−2):M patterns as overlapping 2:4 windows (SPEC §10.5).
//!
//! ```text
//! block of M = 8 columns   0 1 2 3 4 5 6 7
//! window 0                 └─────┘               each window holds at most two non-zeros;
//! window 1                     └─────┘           a non-zero goes to the first window that
//! window 2                         └─────┘       covers it and still has room
//! ```
//!
//! This module turns rows into expanded rows and back. How expanded rows are stored is the business of the module `fragments`.

use super::{Illegal, Offence, Pattern, t2};
use crate::error::rule;

/// Columns of the expanded matrix.
pub(super) fn expanded_cols(cols: usize, pattern: Pattern) -> usize {
    pattern.windows().map_or(0, |windows| cols / pattern.m() * windows * 4)
}

/// The input that a column of the expanded matrix reads.
pub fn input_of(expanded_col: usize, pattern: Pattern) -> usize {
    let windows = pattern.windows().unwrap_or(1);
    let (window, lane) = (expanded_col / 4, expanded_col % 4);
    window / windows * pattern.m() + window % windows * 2 + lane
}

/// The two columns without non-zeros, in the form of `t2`.
const ZEROS: u8 = 0b0101;

/// What one window makes of four columns in the form of `t2`, the first two of which hold what the window before left over. Low byte: the window, with
/// the first two non-zeros. High byte: the last two columns with the rest. Non-zeros of the first two columns always find room.
static PLACED: [u16; 256] = placed();

const fn placed() -> [u16; 256] {
    let mut table = [0; 256];
    let mut columns = 0;
    while columns < 256 {
        let trits = t2::trits_of(columns as u8);
        let (mut held, mut left) = ([0; 4], [0; 4]);
        let (mut count, mut i) = (0, 0);
        while i < 4 {
            if trits[i] != 0 {
                count += 1;
            }
            if count <= 2 {
                held[i] = trits[i];
            } else {
                left[i - 2] = trits[i];
            }
            i += 1;
        }
        let left = t2::byte_of(left) & 15;
        table[columns] = u16::from_le_bytes([t2::byte_of(held), left]);
        columns += 1;
    }
    table
}

/// Places the non-zeros of one row in windows. A block with more than M−2 of them is an error: nothing is ever left out. `scratch` is reused between
/// calls.
pub(super) fn place_row(trits: &[i8], pattern: Pattern, out: &mut [i8], scratch: &mut Vec<u8>) -> Result<(), Illegal> {
    let packed = t2::row_bytes(trits.len());
    scratch.resize(packed + out.len() / 4, 0);
    let (packed, placed) = scratch.split_at_mut(packed);
    t2::encode_row(trits, packed);
    let illegal = match pattern.windows() {
        Some(2) => place::<2>(packed, placed),
        Some(3) => place::<3>(packed, placed),
        Some(4) => place::<4>(packed, placed),
        Some(5) => place::<5>(packed, placed),
        Some(6) => place::<6>(packed, placed),
        _ => place::<7>(packed, placed),
    };
    t2::decode_row(placed, out);
    illegal.map_or(Ok(()), |(block, column)| Err(Illegal { row: 0, col: block * pattern.m() + column }))
}

/// Returns the block and the column of the first non-zero without room.
fn place<const WINDOWS: usize>(packed: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let columns = |pair: usize| packed[pair / 2] >> (4 * (pair % 2)) & 15;
    for (b, windows) in out.as_chunks_mut::<WINDOWS>().0.iter_mut().enumerate() {
        let first = b * (WINDOWS + 1);
        let mut left = columns(first);
        for (w, window) in windows.iter_mut().enumerate() {
            let [held, rest] = PLACED[usize::from(left | columns(first + w + 1) << 4)].to_le_bytes();
            (*window, left) = (held, rest);
        }
        if left != ZEROS {
            return Some((b, 2 * WINDOWS + usize::from(left & 3 == 1)));
        }
    }
    None
}

/// Adds the windows of one row up. Of bytes that no encoder writes any trits may come.
pub(super) fn contract_row(expanded: &[i8], pattern: Pattern, out: &mut [i8]) {
    match pattern.windows() {
        Some(2) => contract::<2, 6>(expanded, out),
        Some(3) => contract::<3, 8>(expanded, out),
        Some(4) => contract::<4, 10>(expanded, out),
        Some(5) => contract::<5, 12>(expanded, out),
        Some(6) => contract::<6, 14>(expanded, out),
        _ => contract::<7, 16>(expanded, out),
    }
}

fn contract<const WINDOWS: usize, const M: usize>(expanded: &[i8], out: &mut [i8]) {
    let windows = bytemuck::cast_slice::<i8, u8>(expanded).as_chunks::<4>().0.as_chunks::<WINDOWS>().0;
    for (windows, block) in windows.iter().zip(out.as_chunks_mut::<M>().0) {
        // A column is non-zero in one window at most, so "or" adds; and it makes trits of any trits.
        let mut sum = 0u128;
        for (w, &window) in windows.iter().enumerate() {
            sum |= u128::from(u32::from_le_bytes(window)) << (16 * w);
        }
        bytemuck::cast_slice_mut::<i8, u8>(block).copy_from_slice(&sum.to_le_bytes()[..M]);
    }
}

/// Checks that an expanded row is what [`place_row`] makes (R090).
pub(super) fn check_row(expanded: &[i8], pattern: Pattern, row: usize) -> Result<(), Offence> {
    let windows = pattern.windows().unwrap_or(1);
    for (b, block) in expanded.chunks_exact(4 * windows).enumerate() {
        for (w, pair) in block.as_chunks::<4>().0.windows(2).enumerate() {
            for lane in 0..2 {
                // Column `lane` of window w + 1 is column `lane + 2` of window w, which must be full of lower ones.
                let lower = pair[0][..lane + 2].iter().filter(|&&t| t != 0).count();
                if pair[1][lane] != 0 && (lower < 2 || pair[0][lane + 2] != 0) {
                    let col = b * pattern.m() + 2 * (w + 1) + lane;
                    let expected = "a non-zero in the first window with room for it";
                    return Err(Offence::new(rule::WINDOW_PLACEMENT, row, col, expected, pair[1][lane] as u8));
                }
            }
        }
    }
    Ok(())
}
