//! Attention of many queries: products of small matrices, with lanes along queries.
//!
//! ```text
//! queries, turned on their side once      [dim][lanes]
//! a block of keys, widened                [key][dim]     scores [key][lanes]   = keys · queries
//! weights, made in place of the scores    [key][lanes]   maximum and sum of each lane: no sums across lanes
//! the values of the block, widened        [key][dim]     totals [dim][lanes]  += valuesᵀ · weights
//! ```
//!
//! So neither keys nor values are transposed, and a head may have any number of dimensions.
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled; iterators hide that")]

use super::plan::Task;
use super::{Heads, NOTHING, State};
use crate::cpu::ops::scratch::take;
use crate::cpu::simd::{Kernel, Simd, Stored, exp, widen};

/// Keys of a block.
const KEYS: usize = 48;

/// Rows of a tile: keys for scores, dimensions for totals.
const TALL: usize = 6;

/// The most lanes that queries are padded to a multiple of.
const LANES: usize = 64;

/// Floats that a task needs.
pub(super) fn memory(heads: &Heads, task: &Task) -> usize {
    let lanes = task.queries(heads.group()).next_multiple_of(LANES);
    lanes * (2 * heads.dim + KEYS + 6) + KEYS * heads.dim + 16 * 16
}

pub(in crate::cpu) struct Prefill<'a, 'b, T> {
    pub(in crate::cpu) qkv: &'b [f32],
    pub(in crate::cpu) heads: &'b Heads,
    pub(in crate::cpu) task: &'b Task,
    pub(in crate::cpu) keys: &'b [T],
    pub(in crate::cpu) values: &'b [T],
    pub(in crate::cpu) memory: &'a mut [f32],
}

impl<'a, T: Stored> Kernel for Prefill<'a, '_, T> {
    type Output = State<'a>;

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> State<'a> {
        let vectors = self.task.queries(self.heads.group()).div_ceil(N);
        match (vectors, S::MANY_REGISTERS) {
            (1, _) => self.tiles::<1, S, N>(s),
            (2, _) | (_, false) => self.tiles::<2, S, N>(s),
            _ => self.tiles::<4, S, N>(s),
        }
    }
}

impl<'a, T: Stored> Prefill<'a, '_, T> {
    /// With tiles of `V` vectors.
    #[inline(always)]
    fn tiles<const V: usize, S: Simd<N>, const N: usize>(self, s: S) -> State<'a> {
        let Self { qkv, heads, task, keys, values, mut memory } = self;
        let dim = heads.dim;
        let (queries, width) = (task.queries(heads.group()), V * N);
        let lanes = queries.next_multiple_of(width);
        let turned = take(&mut memory, lanes * dim);
        let totals = take(&mut memory, lanes * dim);
        let scores = take(&mut memory, lanes * KEYS);
        let wide = take(&mut memory, KEYS * dim);
        let sums = take(&mut memory, lanes);
        let largest = take(&mut memory, lanes);
        let decay = take(&mut memory, lanes);
        let (from, to) = (take(&mut memory, lanes), take(&mut memory, lanes));
        turn(s, qkv, heads, task, width, turned);
        totals.fill(0.0);
        sums.fill(0.0);
        largest.fill(NOTHING);

        for (i, (keys, values)) in keys.chunks(KEYS * dim).zip(values.chunks(KEYS * dim)).enumerate() {
            let (count, first) = (keys.len() / dim, task.keys.start + i * KEYS);
            widen(s, keys, wide);
            let masks = are_masked(heads, task, first, count);
            if masks {
                limits(heads, task, first, from, to);
            }
            for (group, scores) in scores.chunks_exact_mut(KEYS * width).enumerate() {
                let turned = &turned[group * dim * width..][..dim * width];
                for (keys, scores) in
                    wide.chunks_exact(TALL * dim).zip(scores.chunks_exact_mut(TALL * width)).take(count.div_ceil(TALL))
                {
                    score::<V, S, N>(s, turned, keys, dim, scores);
                }
                let lanes = group * width..(group + 1) * width;
                let scores = &mut scores[..count * width];
                if masks {
                    mask::<V, S, N>(s, &from[lanes.clone()], &to[lanes.clone()], scores);
                }
                soften::<V, S, N>(s, scores, &mut largest[lanes.clone()], &mut sums[lanes.clone()], &mut decay[lanes]);
            }
            widen(s, values, wide);
            for (group, scores) in scores.chunks_exact(KEYS * width).enumerate() {
                let totals = &mut totals[group * dim * width..][..dim * width];
                let (scores, decay) = (&scores[..count * width], &decay[group * width..][..width]);
                gather::<V, S, N>(s, &wide[..count * dim], dim, scores, decay, totals);
            }
        }
        turn_back(s, totals, (dim, width, queries), turned);
        State { stride: dim, totals: turned, sums, largest }
    }
}

/// Writes the queries, scaled, as `[group of lanes][dim][lane]`; lanes past the last query repeat it.
#[inline(always)]
fn turn<S: Simd<N>, const N: usize>(s: S, qkv: &[f32], heads: &Heads, task: &Task, width: usize, turned: &mut [f32]) {
    let (dim, group) = (heads.dim, heads.group());
    let queries = task.queries(group);
    let scale = 1.0 / (dim as f32).sqrt();
    let lanes = turned.len() / dim;
    for first in (0..lanes).step_by(N) {
        let mut rows: [&[f32]; N] = [&[]; N];
        for lane in 0..N {
            let query = (first + lane).min(queries - 1);
            let head = task.kv_head * group + query % group;
            rows[lane] = &qkv[(task.row + query / group) * heads.row() + head * dim..][..dim];
        }
        let turned = &mut turned[first / width * width * dim + first % width..];
        for d in (0..dim / N * N).step_by(N) {
            let mut square = [s.splat(0.0); N];
            for lane in 0..N {
                square[lane] = s.mul(s.load(&rows[lane][d..][..N].as_chunks::<N>().0[0]), s.splat(scale));
            }
            let square = s.transpose(square);
            for i in 0..N {
                s.store(square[i], &mut turned[(d + i) * width..][..N].as_chunks_mut::<N>().0[0]);
            }
        }
        for d in dim / N * N..dim {
            for lane in 0..N {
                turned[d * width + lane] = rows[lane][d] * scale;
            }
        }
    }
}

/// The other way: a row of `dim` totals for each query.
#[inline(always)]
fn turn_back<S: Simd<N>, const N: usize>(
    s: S,
    totals: &[f32],
    (dim, width, queries): (usize, usize, usize),
    out: &mut [f32],
) {
    for first in (0..queries).step_by(N) {
        let totals = &totals[first / width * width * dim + first % width..];
        let lanes = N.min(queries - first);
        for d in (0..dim / N * N).step_by(N) {
            let mut square = [s.splat(0.0); N];
            for i in 0..N {
                square[i] = s.load(&totals[(d + i) * width..][..N].as_chunks::<N>().0[0]);
            }
            let square = s.transpose(square);
            for lane in 0..lanes {
                s.store(square[lane], &mut out[(first + lane) * dim + d..][..N].as_chunks_mut::<N>().0[0]);
            }
        }
        for d in dim / N * N..dim {
            for lane in 0..lanes {
                out[(first + lane) * dim + d] = totals[d * width + lane];
            }
        }
    }
}

/// Whether any of `count` keys from `first` on is hidden from any row.
fn are_masked(heads: &Heads, task: &Task, first: usize, count: usize) -> bool {
    first + count > task.position + 1 || first < heads.first(task.position + task.rows - 1)
}

/// Which keys of a block each query sees: those from `from` to `to`, counted from the first of the block.
fn limits(heads: &Heads, task: &Task, first: usize, from: &mut [f32], to: &mut [f32]) {
    // Blocks are short, so that these are exact; lanes without a query see what the last query sees.
    let relative = |position: usize| (position as f64 - first as f64).clamp(-1.0, KEYS as f64) as f32;
    for (query, (from, to)) in from.iter_mut().zip(to).enumerate() {
        let position = task.position + (query / heads.group()).min(task.rows - 1);
        *from = relative(heads.first(position));
        *to = relative(position);
    }
}

/// Scores of `TALL` keys.
#[inline(always)]
fn score<const V: usize, S: Simd<N>, const N: usize>(
    s: S,
    turned: &[f32],
    keys: &[f32],
    dim: usize,
    scores: &mut [f32],
) {
    let mut k: [&[f32]; TALL] = [&[]; TALL];
    for i in 0..TALL {
        k[i] = &keys[i * dim..][..dim];
    }
    let mut sums = [[s.splat(0.0); V]; TALL];
    for (c, queries) in turned.as_chunks::<N>().0.as_chunks::<V>().0.iter().enumerate().take(dim) {
        let mut q = [s.splat(0.0); V];
        for v in 0..V {
            q[v] = s.load(&queries[v]);
        }
        for i in 0..TALL {
            let key = s.splat(k[i][c]);
            for v in 0..V {
                sums[i][v] = s.mul_add(key, q[v], sums[i][v]);
            }
        }
    }
    let scores = scores.as_chunks_mut::<N>().0;
    for (sums, scores) in sums.iter().zip(scores.as_chunks_mut::<V>().0) {
        for v in 0..V {
            s.store(sums[v], &mut scores[v]);
        }
    }
}

#[inline(always)]
fn mask<const V: usize, S: Simd<N>, const N: usize>(s: S, from: &[f32], to: &[f32], scores: &mut [f32]) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks::<N>().0);
    let never = s.splat(f32::NEG_INFINITY);
    for (key, scores) in scores.as_chunks_mut::<N>().0.as_chunks_mut::<V>().0.iter_mut().enumerate() {
        let key = s.splat(key as f32);
        for v in 0..V {
            let seen = s.where_le(key, s.load(&to[v]), s.load(&scores[v]), never);
            s.store(s.where_le(s.load(&from[v]), key, seen, never), &mut scores[v]);
        }
    }
}

/// Makes weights of scores, and `decay` the factor for what was gathered with earlier maxima.
#[inline(always)]
fn soften<const V: usize, S: Simd<N>, const N: usize>(
    s: S,
    scores: &mut [f32],
    largest: &mut [f32],
    sums: &mut [f32],
    decay: &mut [f32],
) {
    let scores = scores.as_chunks_mut::<N>().0.as_chunks_mut::<V>().0;
    let (largest, sums, decay) =
        (largest.as_chunks_mut::<N>().0, sums.as_chunks_mut::<N>().0, decay.as_chunks_mut::<N>().0);
    let mut shift = [s.splat(0.0); V];
    let mut total = shift;
    for v in 0..V {
        shift[v] = s.load(&largest[v]);
    }
    for scores in &*scores {
        for v in 0..V {
            shift[v] = s.max(s.load(&scores[v]), shift[v]);
        }
    }
    for v in 0..V {
        let factor = exp(s, s.sub(s.load(&largest[v]), shift[v]));
        total[v] = s.mul(s.load(&sums[v]), factor);
        s.store(factor, &mut decay[v]);
        s.store(shift[v], &mut largest[v]);
    }
    for scores in scores {
        for v in 0..V {
            let weight = exp(s, s.sub(s.load(&scores[v]), shift[v]));
            total[v] = s.add(total[v], weight);
            s.store(weight, &mut scores[v]);
        }
    }
    for v in 0..V {
        s.store(total[v], &mut sums[v]);
    }
}

/// Adds the values of a block with their weights to the totals.
#[inline(always)]
fn gather<const V: usize, S: Simd<N>, const N: usize>(
    s: S,
    values: &[f32],
    dim: usize,
    weights: &[f32],
    decay: &[f32],
    totals: &mut [f32],
) {
    let mut d = 0;
    while d + TALL <= dim {
        rows::<TALL, V, S, N>(s, values, (dim, d), weights, decay, totals);
        d += TALL;
    }
    while d + 2 <= dim {
        rows::<2, V, S, N>(s, values, (dim, d), weights, decay, totals);
        d += 2;
    }
    if d < dim {
        rows::<1, V, S, N>(s, values, (dim, d), weights, decay, totals);
    }
}

/// [`gather`] for `H` dimensions from `first` on.
#[inline(always)]
fn rows<const H: usize, const V: usize, S: Simd<N>, const N: usize>(
    s: S,
    values: &[f32],
    (dim, first): (usize, usize),
    weights: &[f32],
    decay: &[f32],
    totals: &mut [f32],
) {
    let decay = decay.as_chunks::<N>().0;
    let totals = &mut totals.as_chunks_mut::<N>().0.as_chunks_mut::<V>().0[first..][..H];
    let mut sums = [[s.splat(0.0); V]; H];
    for h in 0..H {
        for v in 0..V {
            sums[h][v] = s.mul(s.load(&totals[h][v]), s.load(&decay[v]));
        }
    }
    for (value, weights) in values.chunks_exact(dim).zip(weights.as_chunks::<N>().0.as_chunks::<V>().0) {
        let value = &value[first..][..H];
        let mut w = [s.splat(0.0); V];
        for v in 0..V {
            w[v] = s.load(&weights[v]);
        }
        for h in 0..H {
            let value = s.splat(value[h]);
            for v in 0..V {
                sums[h][v] = s.mul_add(value, w[v], sums[h][v]);
            }
        }
    }
    for h in 0..H {
        for v in 0..V {
            s.store(sums[h][v], &mut totals[h][v]);
        }
    }
}
