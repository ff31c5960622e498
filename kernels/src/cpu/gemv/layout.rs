//! Activations in the order in which the bytes of an encoding unfold.
//!
//! A vector of 64 weight bytes becomes *planes*: plane i holds the i-th weight of every byte (or 6-bit code, or group). So the activations are cut into
//! blocks of 64 · planes columns and dealt out to lines in the same way, once for each call, and no weight is ever moved to where its input is.
//!
//! ```text
//! block of 256 columns    0 1 2 3 | 4 5 6 7 | …                 line 0: 0 4 8 …   line 1: 1 5 9 …   line 2: 2 6 10 …   line 3: 3 7 11 …
//! ```

use sbnc_format::{Encoding, Order, Pattern, encoding::windows};

use crate::cpu::Matrix;

/// A vector of activations, as wide as the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [i8; LINE]);

/// Activations of a line.
pub(crate) const LINE: usize = 64;

/// How activations are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Four lines a block: t2, nm-6b and fragments.
    Fours,
    /// As [`Layout::Fours`], of each line first every fourth value: nm-6b where a load parts the bytes of its codes (64-bit Arm).
    Parted,
    /// Five lines a block: t5.
    Fives,
    /// The columns that the windows of a pattern read, then as [`Layout::Fours`].
    Windows(Pattern),
}

impl Layout {
    /// What the kernels of a matrix read.
    pub(crate) fn of(weight: &Matrix<'_>) -> Self {
        match (weight.packing.encoding, weight.packing.order) {
            (Encoding::T5, _) => Self::Fives,
            (Encoding::Nm6b, _) if cfg!(target_arch = "aarch64") => Self::Parted,
            (_, Order::Windows) => Self::Windows(weight.packing.pattern),
            _ => Self::Fours,
        }
    }

    /// Lines of a block.
    fn planes(self) -> usize {
        if self == Self::Fives { 5 } else { 4 }
    }

    /// Lines of a token.
    pub(crate) fn lines(self, cols: usize) -> usize {
        let columns = match self {
            Self::Windows(pattern) => cols / pattern.m() * pattern.windows().unwrap_or(1) * 4,
            _ => cols,
        };
        columns.div_ceil(LINE * self.planes()) * self.planes()
    }

    /// Deals out the activations of a token and adds up what it dealt. What is beyond the last is zero. `out` has [`Layout::lines`] lines.
    #[inline(always)]
    pub(crate) fn deal(self, x: &[i8], out: &mut [Line]) -> i32 {
        match self {
            Self::Fours => {
                for (block, out) in x.chunks(4 * LINE).zip(out.as_chunks_mut::<4>().0) {
                    let mut groups = [[0; 4]; LINE];
                    groups.as_flattened_mut()[..block.len()].copy_from_slice(block);
                    deal_fours(&groups, out);
                }
            }
            Self::Parted => {
                Self::Fours.deal(x, out);
                for line in out.iter_mut() {
                    line.0 = std::array::from_fn(|i| line.0[4 * (i % 16) + i / 16]);
                }
            }
            Self::Fives => {
                for (block, out) in x.chunks(5 * LINE).zip(out.as_chunks_mut::<5>().0) {
                    let mut groups = [[0; 5]; LINE];
                    groups.as_flattened_mut()[..block.len()].copy_from_slice(block);
                    for (i, line) in out.iter_mut().enumerate() {
                        line.0 = groups.map(|group| group[i]);
                    }
                }
            }
            Self::Windows(pattern) => {
                let count = x.len() / pattern.m() * pattern.windows().unwrap_or(1);
                for (block, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let mut groups = [[0; 4]; LINE];
                    for (q, group) in (block * LINE..count).zip(groups.iter_mut()) {
                        group.copy_from_slice(&x[windows::input_of(4 * q, pattern)..][..4]);
                    }
                    deal_fours(&groups, out);
                }
            }
        }
        out.iter().flat_map(|line| line.0).map(i32::from).sum()
    }
}

#[inline(always)]
fn deal_fours(groups: &[[i8; 4]; LINE], out: &mut [Line; 4]) {
    // Written as shifts of words, which compilers turn into vectors.
    let words = groups.map(|group| u32::from_le_bytes(group.map(|v| v as u8)));
    for (i, line) in out.iter_mut().enumerate() {
        line.0 = words.map(|word| (word >> (8 * i)) as i8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_dealt_out_once_and_the_rest_is_zero() {
        for (layout, planes) in [(Layout::Fours, 4), (Layout::Fives, 5)] {
            let x: Vec<i8> = (0..700).map(|i| (i % 127) as i8 + 1).collect();
            let mut out = vec![Line([-1; LINE]); layout.lines(x.len())];
            layout.deal(&x, &mut out);
            for column in 0..out.len() * LINE {
                let (block, within) = (column / (planes * LINE), column % (planes * LINE));
                let value = out[block * planes + within % planes].0[within / planes];
                assert_eq!(value, x.get(column).copied().unwrap_or(0), "{layout:?}, column {column}");
            }
        }
    }

    #[test]
    fn a_parted_line_has_every_fourth_value_first() {
        let x: Vec<i8> = (0..300).map(|i| (i % 127) as i8 + 1).collect();
        let mut lines = [Layout::Fours, Layout::Parted].map(|layout| {
            let mut out = vec![Line([-1; LINE]); layout.lines(x.len())];
            layout.deal(&x, &mut out);
            out
        });
        let [fours, parted] = &mut lines;
        for (fours, parted) in fours.iter().zip(parted.iter()) {
            for (i, &value) in fours.0.iter().enumerate() {
                assert_eq!(parted.0[16 * (i % 4) + i / 4], value, "{i}");
            }
        }
    }

    #[test]
    fn windows_read_their_inputs() {
        let pattern = Pattern::new(6, 8).expect("a pattern");
        let x: Vec<i8> = (0..240).map(|i| (i % 127) as i8 + 1).collect();
        let layout = Layout::Windows(pattern);
        let mut out = vec![Line([-1; LINE]); layout.lines(x.len())];
        layout.deal(&x, &mut out);
        for column in 0..360 {
            let value = out[column / 256 * 4 + column % 4].0[column % 256 / 4];
            assert_eq!(value, x[windows::input_of(column, pattern)], "column {column}");
        }
    }
}
