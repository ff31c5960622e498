//! Linear layers of a few tokens, where the time is that of reading the weights: every weight is read once, from where it lies in the file.
//!
//! ```text
//! x ── deal out (once a call for each layout) ──▶ lines ─┐
//! weights: tasks of some rows, claimed by threads ───────┴─ sums of (w + 1)·x ── − Σx ──▶ scaled, + bias ──▶ out
//! ```
//!
//! A thread reads its weights in several places by turns (`turns`): what fetches ahead within a processor stops at the end of a page, and while it begins
//! again in one place it goes on in the others.
//!
//! Trits are stored as w + 1, which is what instructions that multiply unsigned with signed bytes take, so all kernels give sums of (w + 1)·x. What
//! differs between processors is how the bytes of a few rows become such sums: [`Kernel`]. For many tokens there are better ways.

mod layout;
mod turns;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use self::turns::{MOST_ROWS, Turns};
pub(crate) use layout::{LINE, Layout, Line};

use super::activations::Activations;
use super::linear::{Linear, Output};
use super::matrix::Matrix;
use super::pool::{Pool, Shares};

/// Tokens whose sums are taken in one pass over the weights.
pub(crate) const TOKENS: usize = 8;
/// Weight bytes of a task: long enough to be worth handing out, short enough to share out evenly.
const TASK_BYTES: usize = 24 << 10;

/// Sums `Σ (w + 1)·x` of `rows` of a matrix: `sums[(row − rows.start) · tokens + token]`. Only strips' first rows begin a range.
pub(crate) type Kernel = fn(&Matrix<'_>, Range<usize>, &Lines<'_>, &mut [i32]);

/// Activations of some tokens, dealt out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    /// Token after token.
    pub(crate) lines: &'a [Line],
    /// Lines of a token.
    pub(crate) stride: usize,
    /// At least one, at most [`TOKENS`].
    pub(crate) tokens: usize,
}

/// Memory for activations that were dealt out; grows to the largest call and stays.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Mutex<Room>);

#[derive(Debug, Default)]
struct Room {
    lines: Vec<Line>,
    /// Σx of every token of every layout, over what was dealt out.
    totals: Vec<i32>,
}

/// How activations are dealt out: [`Layout::deal`], compiled for a processor.
pub(crate) type Deal = fn(Layout, &[i8], &mut [Line]) -> i32;

/// Layouts that there are.
const LAYOUTS: usize = 8;

/// The layouts of a call, and where the lines of each begin; their totals are in the same order.
struct Dealt {
    begins: [Option<(Layout, usize)>; LAYOUTS],
    tokens: usize,
}

/// Computes the layers with `kernel`, which reads activations that `deal` dealt out.
pub(crate) fn linear(
    (pool, scratch): (&Pool, &Scratch),
    (kernel, deal): (Kernel, Deal),
    layers: &[Linear<'_>],
    x: &Activations,
    out: &mut Output<'_>,
) {
    let mut room = scratch.0.lock().unwrap_or_else(PoisonError::into_inner);
    let dealt = Dealt::new(layers, x, deal, &mut room);
    let room = &*room;
    let stride = out.stride;
    let out = Shares::new(out.values);
    let turns = Turns::new(layers, pool.threads());
    pool.run(turns.tasks(), &|task| {
        for (layer, rows) in turns.of(task) {
            let mut sums = [0; MOST_ROWS * TOKENS];
            for token in (0..x.tokens()).step_by(TOKENS) {
                let tokens = token..x.tokens().min(token + TOKENS);
                let (lines, totals) = dealt.of(&layer.weight, tokens.clone(), room);
                let sums = &mut sums[..rows.len() * tokens.len()];
                kernel(&layer.weight, rows.clone(), &lines, sums);
                for (t, total) in totals.iter().enumerate() {
                    // SAFETY: turns have different rows or layers, whose outputs do not overlap (`Cpu::linear` checks that), and this one holds one
                    // part at a time.
                    let out = unsafe { out.range((token + t) * stride + layer.offset + rows.start, rows.len()) };
                    let sums = sums[t..].iter().step_by(tokens.len()).map(|sum| sum.wrapping_sub(*total));
                    scale(sums, layer, rows.start, x.scale(token + t), out);
                }
            }
        }
    });
}

/// Weight bytes of each stream that a thread fetches while it waits: all of them fit the second cache.
const WISHED: usize = 96 << 10;

/// Has threads that wait fetch what they read first of these layers.
pub(crate) fn expect(pool: &Pool, layers: &[Linear<'_>]) {
    let turns = Turns::new(layers, pool.threads());
    for thread in 1..pool.threads() {
        let (begins, bytes) = turns.begins(thread);
        pool.wish(thread, begins, bytes.min(WISHED));
    }
}

impl Dealt {
    /// Deals the activations out in every layout that the layers need, one after another.
    fn new(layers: &[Linear<'_>], x: &Activations, deal: Deal, room: &mut Room) -> Self {
        let mut begins = [None; LAYOUTS];
        let (mut count, mut end) = (0, 0);
        for layer in layers {
            let layout = Layout::of(&layer.weight);
            if begins.iter().flatten().any(|&(dealt, _)| dealt == layout) {
                continue;
            }
            begins[count] = Some((layout, end));
            let of_token = layout.lines(x.cols());
            let lines = end..end + x.tokens() * of_token;
            let totals = count * x.tokens()..(count + 1) * x.tokens();
            (count, end) = (count + 1, lines.end);
            if room.lines.len() < lines.end {
                room.lines.resize(lines.end, Line([0; LINE]));
            }
            if room.totals.len() < totals.end {
                room.totals.resize(totals.end, 0);
            }
            let lines = room.lines[lines].chunks_exact_mut(of_token.max(1));
            for ((token, lines), total) in lines.enumerate().zip(&mut room.totals[totals]) {
                *total = deal(layout, x.values(token), lines);
            }
        }
        Self { begins, tokens: x.tokens() }
    }

    /// What the kernels of a matrix read for some tokens.
    fn of<'a>(&self, weight: &Matrix<'_>, tokens: Range<usize>, room: &'a Room) -> (Lines<'a>, &'a [i32]) {
        let layout = Layout::of(weight);
        let found = self.begins.iter().flatten().enumerate().find(|(_, dealt)| dealt.0 == layout);
        let (i, begin) = found.map_or((0, 0), |(i, dealt)| (i, dealt.1));
        let stride = layout.lines(weight.cols);
        let lines = &room.lines[begin + tokens.start * stride..begin + tokens.end * stride];
        let totals = &room.totals[i * self.tokens..][tokens.clone()];
        (Lines { lines, stride, tokens: tokens.len() }, totals)
    }
}

/// Scales sums as [`portable::output`] does, and adds the bias. Rows mostly have one scale, so the quotient is kept.
#[inline]
fn scale(sums: impl Iterator<Item = i32>, layer: &Linear<'_>, first: usize, activation_scale: f32, out: &mut [f32]) {
    let scales = &layer.weight.scales[first..][..out.len()];
    let (mut scale, mut factor) = (f32::NAN, f64::NAN);
    for ((out, sum), &row_scale) in out.iter_mut().zip(sums).zip(scales) {
        if row_scale.to_bits() != scale.to_bits() {
            (scale, factor) = (row_scale, f64::from(row_scale) / f64::from(activation_scale));
        }
        *out = (f64::from(sum) * factor) as f32;
    }
    if let Some(bias) = layer.bias {
        out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
    }
}
