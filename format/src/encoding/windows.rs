//! `nm-vi` in order windows: (M−2):M patterns as overlapping 2:4 windows (SPEC §10.5).
//!
//! ```text
//! block of M = 8 columns   0 1 2 3 4 5 6 7
//! window 0                 └─────┘               each window holds at most two non-zeros;
//! window 1                     └─────┘           a non-zero goes to the first window that
//! window 2                         └─────┘       covers it and still has room
//! ```
//!
//! This module turns rows into expanded rows and back. How expanded rows are stored is the business of [`fragments`](super::fragments).

use super::{Illegal, Offence, Pattern};
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

/// Places the non-zeros of one row in windows. A block with more than M−2 of them is an error: nothing is ever left out.
pub(super) fn expand_row(trits: &[i8], pattern: Pattern, out: &mut [i8]) -> Result<(), Illegal> {
    let (m, windows) = (pattern.m(), pattern.windows().unwrap_or(1));
    out.fill(0);
    for (b, (block, out)) in trits.chunks_exact(m).zip(out.chunks_exact_mut(4 * windows)).enumerate() {
        // One pass from left to right: a non-zero of columns 2w and 2w+1 goes to window w−1 if it has room, else to w.
        let mut held = [0u8; 7];
        for (col, &trit) in block.iter().enumerate() {
            if trit == 0 {
                continue;
            }
            let last = (col / 2).min(windows - 1);
            let first = (col / 2).saturating_sub(1);
            let Some(w) = (first..=last).find(|&w| held[w] < 2) else {
                return Err(Illegal { row: 0, col: b * m + col });
            };
            held[w] += 1;
            out[4 * w + col - 2 * w] = trit;
        }
    }
    Ok(())
}

/// Adds the windows of one row up. Bytes that no encoder writes may add up to more than one; they are cut off at one.
pub(super) fn contract_row(expanded: &[i8], pattern: Pattern, out: &mut [i8]) {
    let (m, windows) = (pattern.m(), pattern.windows().unwrap_or(1));
    out.fill(0);
    for (block, out) in expanded.chunks_exact(4 * windows).zip(out.chunks_exact_mut(m)) {
        for (w, window) in block.as_chunks::<4>().0.iter().enumerate() {
            for (to, &trit) in out[2 * w..].iter_mut().zip(window) {
                *to = (*to + trit).clamp(-1, 1);
            }
        }
    }
}

/// Checks that an expanded row is what [`expand_row`] makes (R090).
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
