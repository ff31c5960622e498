//! Sums of a few tokens over nm-vi, in the order of tensor cores, straight from the bytes of the file.
//!
//! A quad is 64 bytes of 128 columns of rows g and g + 8; see [`Quads`]. Windows are the same with activations that were gathered to match. A strip is
//! walked through eight times, a pair of rows each time: it fits the cache, and meanwhile the next strip is fetched from beginning to end.
//!
//! Vector instructions for 64 weights and one token, with dot products, besides loads: 20. Counted in machine code; nothing was timed.

use std::arch::aarch64::*;
use std::ops::Range;

use super::products::Products;
use super::unpack::Quads;
use super::{fetch, load_signed};
use crate::cpu::Matrix;
use crate::cpu::gemv::{Line, Lines};

/// Rows of a strip.
const ROWS: usize = 16;
/// Bytes of a tile.
const TILE: usize = 512;

#[target_feature(enable = "neon")]
pub(super) fn sums_of<const DOT: bool>(
    products: Products<DOT>,
    weight: &Matrix<'_>,
    rows: Range<usize>,
    x: &Lines<'_>,
    sums: &mut [i32],
) {
    let bytes = weight.data.len() / weight.rows.div_ceil(ROWS);
    let strips = weight.data[rows.start / ROWS * bytes..].chunks_exact(bytes);
    for (strip, sums) in strips.zip(sums.chunks_mut(ROWS * x.tokens)) {
        for g in 0..ROWS / 2 {
            for token in (0..x.tokens).step_by(2) {
                let lines = &x.lines[token * x.stride..];
                if token + 1 < x.tokens {
                    put(of_pair::<DOT, 2>(products, strip, g, lines, x.stride), g, token, x.tokens, sums);
                } else {
                    put(of_pair::<DOT, 1>(products, strip, g, lines, x.stride), g, token, x.tokens, sums);
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
#[target_feature(enable = "neon")]
fn of_pair<const DOT: bool, const T: usize>(
    products: Products<DOT>,
    strip: &[u8],
    g: usize,
    lines: &[Line],
    stride: usize,
) -> [[i32; T]; 2] {
    let quads = Quads::new(0);
    let tiles = strip.as_chunks::<TILE>().0;
    let mut sums = [[products.zero(); T]; 2];
    for (i, tile) in tiles.iter().enumerate() {
        fetch(strip.as_ptr().wrapping_add(strip.len() + (g * tiles.len() + i) * 64));
        // Two tiles share the lines of 256 columns.
        let lines = &lines[i / 2 * 4..];
        for (half, rows) in quads.unpack(&tile.as_chunks().0[g]).into_iter().enumerate() {
            for (sums, bytes) in sums.iter_mut().zip(rows) {
                let planes = products.planes(bytes);
                for (t, sum) in sums.iter_mut().enumerate() {
                    let lines = &lines[t * stride..][..4];
                    let mut x = [vdupq_n_s8(0); 4];
                    for (x, line) in x.iter_mut().zip(lines) {
                        *x = load_signed(&line.0.as_chunks().0[i % 2 * 2 + half]);
                    }
                    *sum = products.add(*sum, &planes, &x);
                }
            }
        }
    }
    let mut out = [[0; T]; 2];
    for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *out = products.finish(*sum);
    }
    out
}
