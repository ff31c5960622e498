//! Panels times activations: 16 rows and some tokens at a time, in one of three ways.
//!
//! ```text
//!            products of an instruction   tokens   registers of sums
//! widened    8, in 16 bits                3        24
//! dots       16                           6        24
//! matrices   32                           6        24
//! ```
//!
//! Beside each of the 24 registers stands a register of activations for every token (a pair of them for matrices), and weights pass through one or two.
//! So a kernel issues an instruction of products nearly every time: what bounds it is how many of those the processor starts in a cycle.

use std::arch::aarch64::*;

use super::{Matrices, Products, load, load_signed};
use crate::cpu::gemm::{Line, PANEL, Slab, SumLine};

/// Lines whose products fit into 16 bits: each adds one to a lane, of −256 to 254.
const LINES: usize = 120;

/// Calls `$tile` for all tokens of all panels, at most `$most` at a time; no tile is much smaller than the others.
macro_rules! by_tiles {
    ($products:ident, $lines:ident, $slab:ident, $sums:ident, $most:literal, $($tokens:literal => $tile:expr,)*) => {
        let each = $slab.cols.len() / 4;
        for (panel, sums) in $lines.chunks_exact(each).zip($sums.chunks_exact_mut($slab.tokens())) {
            let mut token = 0;
            while token < $slab.tokens() {
                let left = $slab.tokens() - token;
                let now = left.div_ceil(left.div_ceil($most));
                let sums = &mut sums[token..token + now];
                match now {
                    $($tokens => $tile($products, panel, $slab, token, sums),)*
                    _ => unreachable!("a tile of at most {} tokens", $most),
                }
                token += now;
            }
        }
    };
}

/// Multiplies panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
#[target_feature(enable = "neon")]
pub(crate) fn widened(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    type P = Products<false>;
    let products = P::WIDENED;
    start(sums, add);
    by_tiles!(products, lines, slab, sums, 3, 1 => P::tile::<1>, 2 => P::tile::<2>, 3 => P::tile::<3>,);
}

/// As [`widened`], with dot products.
#[target_feature(enable = "neon")]
pub(crate) fn dots(products: Products<true>, lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    type P = Products<true>;
    start(sums, add);
    by_tiles!(products, lines, slab, sums, 6,
        1 => P::tile::<1>, 2 => P::tile::<2>, 3 => P::tile::<3>, 4 => P::tile::<4>, 5 => P::tile::<5>, 6 => P::tile::<6>,
    );
}

/// As [`widened`], with matrix products; panels are made by [`super::panel::pairs`].
#[target_feature(enable = "neon")]
pub(crate) fn matrices(products: Matrices, lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    type P = Matrices;
    start(sums, add);
    by_tiles!(products, lines, slab, sums, 6,
        1 => P::tile::<1>, 2 => P::tile::<1>, 3 => P::tile::<2>, 4 => P::tile::<2>, 5 => P::tile::<3>, 6 => P::tile::<3>,
    );
}

/// Sums are added to what is there, which is nothing at first.
fn start(sums: &mut [SumLine], add: bool) {
    if !add {
        sums.fill(SumLine([0; PANEL]));
    }
}

/// Adds four sums to those that are there.
#[inline]
#[target_feature(enable = "neon")]
fn add_to(sums: &mut [i32; 4], vector: int32x4_t) {
    // SAFETY: 16 bytes are readable behind the reference; the load needs no alignment.
    let all = vaddq_s32(unsafe { vld1q_s32(sums.as_ptr()) }, vector);
    // SAFETY: as many are writable.
    unsafe { vst1q_s32(sums.as_mut_ptr(), all) }
}

/// Eight columns of two tokens.
#[inline]
#[target_feature(enable = "neon")]
fn load_pair(a: &[i8; 8], b: &[i8; 8]) -> int8x16_t {
    // SAFETY: 8 bytes are readable behind the reference; the load needs no alignment.
    let a = unsafe { vld1_s8(a.as_ptr()) };
    // SAFETY: as above.
    vcombine_s8(a, unsafe { vld1_s8(b.as_ptr()) })
}

/// A quarter of a line.
#[inline]
#[target_feature(enable = "neon")]
fn weights(line: &Line, quarter: usize) -> int8x16_t {
    vreinterpretq_s8_u8(load(&line.0.as_chunks().0[quarter]))
}

impl Products<false> {
    #[target_feature(enable = "neon")]
    fn tile<const T: usize>(self, panel: &[Line], slab: &Slab<'_>, token: usize, sums: &mut [SumLine]) {
        for (i, panel) in panel.chunks(LINES).enumerate() {
            let rows: [&[[i8; 4]]; T] =
                std::array::from_fn(|t| &slab.row(token + t).as_chunks().0[i * LINES..][..panel.len()]);
            let mut products = [[[vdupq_n_s16(0); 2]; 4]; T];
            for (k, line) in panel.iter().enumerate() {
                let mut x = [vdupq_n_s8(0); T];
                for (x, row) in x.iter_mut().zip(&rows) {
                    let four = i32::from_ne_bytes(row[k].map(i8::cast_unsigned));
                    *x = vreinterpretq_s8_s32(vdupq_n_s32(four));
                }
                for four in 0..4 {
                    let weights = weights(line, four);
                    for (products, &x) in products.iter_mut().zip(&x) {
                        let [low, high] = products[four];
                        let low = vmlal_s8(low, vget_low_s8(weights), vget_low_s8(x));
                        products[four] = [low, vmlal_high_s8(high, weights, x)];
                    }
                }
            }
            for (products, sums) in products.iter().zip(sums.iter_mut()) {
                for ([low, high], sums) in products.iter().zip(sums.0.as_chunks_mut().0) {
                    add_to(sums, vpaddq_s32(vpaddlq_s16(*low), vpaddlq_s16(*high)));
                }
            }
        }
    }
}

impl Products<true> {
    #[target_feature(enable = "neon")]
    fn tile<const T: usize>(self, panel: &[Line], slab: &Slab<'_>, token: usize, sums: &mut [SumLine]) {
        let (lines, mut all) = (panel.as_chunks::<4>().0, [[vdupq_n_s32(0); 4]; T]);
        let rows: [&[[i8; 16]]; T] = std::array::from_fn(|t| &slab.row(token + t).as_chunks().0[..lines.len()]);
        for (k, lines) in lines.iter().enumerate() {
            let mut x = [vdupq_n_s8(0); T];
            for (x, row) in x.iter_mut().zip(&rows) {
                *x = load_signed(&row[k]);
            }
            // Weights of one register at a time: sums and activations take all others.
            for four in 0..4 {
                let weights = weights(&lines[0], four);
                for (all, &x) in all.iter_mut().zip(&x) {
                    all[four] = self.dot_with::<0>(all[four], weights, x);
                }
            }
            for four in 0..4 {
                let weights = weights(&lines[1], four);
                for (all, &x) in all.iter_mut().zip(&x) {
                    all[four] = self.dot_with::<1>(all[four], weights, x);
                }
            }
            for four in 0..4 {
                let weights = weights(&lines[2], four);
                for (all, &x) in all.iter_mut().zip(&x) {
                    all[four] = self.dot_with::<2>(all[four], weights, x);
                }
            }
            for four in 0..4 {
                let weights = weights(&lines[3], four);
                for (all, &x) in all.iter_mut().zip(&x) {
                    all[four] = self.dot_with::<3>(all[four], weights, x);
                }
            }
        }
        for (of_token, sums) in all.iter().zip(sums) {
            of_token.iter().zip(sums.0.as_chunks_mut().0).for_each(|(&four, sums)| add_to(sums, four));
        }
    }
}

impl Matrices {
    /// P pairs of tokens; where the last pair is but one token, that one is taken twice.
    #[target_feature(enable = "neon")]
    fn tile<const P: usize>(self, panel: &[Line], slab: &Slab<'_>, token: usize, sums: &mut [SumLine]) {
        let (lines, mut all) = (panel.as_chunks::<2>().0, [[vdupq_n_s32(0); 8]; P]);
        let row = |t: usize| &slab.row(token + t.min(sums.len() - 1)).as_chunks::<8>().0[..lines.len()];
        let rows: [[&[[i8; 8]]; 2]; P] = std::array::from_fn(|p| [row(2 * p), row(2 * p + 1)]);
        for (k, lines) in lines.iter().enumerate() {
            let mut x = [vdupq_n_s8(0); P];
            for (x, rows) in x.iter_mut().zip(&rows) {
                *x = load_pair(&rows[0][k], &rows[1][k]);
            }
            for pair in 0..8 {
                let weights = weights(&lines[pair / 4], pair % 4);
                for (all, &x) in all.iter_mut().zip(&x) {
                    all[pair] = self.multiply(all[pair], weights, x);
                }
            }
        }
        for (of_pair, sums) in all.iter().zip(sums.chunks_mut(2)) {
            for (four, [a, b]) in of_pair.as_chunks().0.iter().enumerate() {
                for (t, sums) in sums.iter_mut().enumerate() {
                    // Products of a pair of rows lie row by row, in each token by token.
                    let of_token = if t == 0 { vuzp1q_s32(*a, *b) } else { vuzp2q_s32(*a, *b) };
                    add_to(&mut sums.0.as_chunks_mut().0[four], of_token);
                }
            }
        }
    }
}
