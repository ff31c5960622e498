//! Ternary linear layers on processors without kernels of their own: strips of rows are decoded by the format's own code, and multiplied by plain loops
//! that the compiler makes vectors of. Safe, the same everywhere, and far from the fastest.

use std::cell::RefCell;

use super::activations::Activations;
use super::linear::{Linear, Output};
use super::pool::{Pool, Shares};
use super::portable::output;

/// Weights of a task: few enough to stay in a cache, enough to be worth handing out.
const WEIGHTS: usize = 128 << 10;

thread_local! {
    /// The decoded rows of a task. It grows to the largest task and stays.
    static TRITS: RefCell<Vec<i8>> = const { RefCell::new(Vec::new()) };
}

/// Computes some layers whose shapes and places were checked.
pub(crate) fn linear(pool: &Pool, layers: &[Linear<'_>], x: &Activations, out: &mut Output<'_>) {
    let (values, stride) = (Shares::new(out.values), out.stride);
    for layer in layers {
        let weight = layer.weight;
        let strip = weight.packing.strip(weight.cols);
        let strips = (WEIGHTS / (strip.rows * weight.cols)).max(1);
        let rows = strips * strip.rows;
        pool.run(weight.rows.div_ceil(rows), &|task| {
            let first = task * rows;
            let here = rows.min(weight.rows - first);
            let bytes = &weight.data[task * strips * strip.bytes..][..here.div_ceil(strip.rows) * strip.bytes];
            TRITS.with_borrow_mut(|trits| {
                trits.resize(trits.len().max(here * weight.cols), 0);
                let trits = &mut trits[..here * weight.cols];
                weight.packing.decode(bytes, weight.cols, trits);
                for token in 0..x.tokens() {
                    // SAFETY: the places of layers do not overlap, which the caller has checked; within a layer every row belongs to one task.
                    let out = unsafe { values.range(token * stride + layer.offset + first, here) };
                    for (row, (out, trits)) in (first..).zip(out.iter_mut().zip(trits.chunks_exact(weight.cols))) {
                        let bias = layer.bias.map_or(0.0, |bias| bias[row]);
                        *out = output(dot(trits, x.values(token)), weight.scales[row], x.scale(token)) + bias;
                    }
                }
            });
        });
    }
}

/// `Σ trit · x`: 16 sums side by side, which products of 8 bits fit for as long as any row is.
fn dot(trits: &[i8], x: &[i8]) -> i32 {
    let (blocks, rest) = trits.as_chunks::<16>();
    let (x_blocks, x_rest) = x.as_chunks::<16>();
    let mut sums = [0i32; 16];
    for (trits, x) in blocks.iter().zip(x_blocks) {
        for ((sum, &trit), &x) in sums.iter_mut().zip(trits).zip(x) {
            *sum += i32::from(i16::from(trit) * i16::from(x));
        }
    }
    let rest = rest.iter().zip(x_rest).map(|(&trit, &x)| i32::from(trit) * i32::from(x));
    sums.iter().sum::<i32>() + rest.sum::<i32>()
}
