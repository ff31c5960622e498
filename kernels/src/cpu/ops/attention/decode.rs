//! Attention of one row: its query heads that share a kv head, with lanes along the dimensions of a head.
//!
//! Keys and values are widened in registers, for up to four query heads at a time. Dimensions that do not fill a vector are padded with zeros.
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled; iterators hide that")]

use super::{Heads, NOTHING, State};
use crate::cpu::ops::scratch::take;
use crate::cpu::simd::{Kernel, Simd, Stored, exp, widen};

/// Keys of a block: their scores and one pass over their values stay in the first-level cache.
const KEYS: usize = 64;

/// Lanes of the widest vectors.
const WIDEST: usize = 16;

/// Floats that a task needs.
pub(super) fn memory(heads: &Heads) -> usize {
    let row = 2 * heads.dim.next_multiple_of(WIDEST) + KEYS;
    heads.group() * row + 3 * heads.group() + KEYS * heads.dim + 8 * WIDEST
}

pub(super) struct Decode<'a, T> {
    /// `dim` values for each query.
    pub(super) queries: &'a [f32],
    pub(super) dim: usize,
    pub(super) keys: &'a [T],
    pub(super) values: &'a [T],
    pub(super) memory: &'a mut [f32],
}

impl<'a, T: Stored> Kernel for Decode<'a, T> {
    type Output = State<'a>;

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> State<'a> {
        let Self { queries, dim, keys, values, mut memory } = self;
        let (group, stride) = (queries.len() / dim, dim.next_multiple_of(N));
        let scaled = take(&mut memory, group * stride);
        let totals = take(&mut memory, group * stride);
        let scores = take(&mut memory, group * KEYS);
        let sums = take(&mut memory, group);
        let largest = take(&mut memory, group);
        let decay = take(&mut memory, group);
        let scale = 1.0 / (dim as f32).sqrt();
        scaled.fill(0.0);
        for (to, from) in scaled.chunks_exact_mut(stride).zip(queries.chunks_exact(dim)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
        }
        totals.fill(0.0);
        sums.fill(0.0);
        largest.fill(NOTHING);

        let wide = take(&mut memory, if S::WIDENS_FAST { 0 } else { KEYS * dim });
        let at_a_time = if S::MANY_REGISTERS { 4 } else { 2 };
        for (keys, values) in keys.chunks(KEYS * dim).zip(values.chunks(KEYS * dim)) {
            if S::WIDENS_FAST {
                score_all(s, at_a_time, scaled, keys, dim, scores);
            } else {
                widen(s, keys, wide);
                score_all(s, at_a_time, scaled, &wide[..keys.len()], dim, scores);
            }
            for (query, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
                scores[keys.len() / dim..].fill(f32::NEG_INFINITY);
                decay[query] = soften(s, scores, &mut largest[query], &mut sums[query]);
            }
            if S::WIDENS_FAST {
                gather_all(s, at_a_time, scores, decay, values, dim, totals);
            } else {
                widen(s, values, wide);
                gather_all(s, at_a_time, scores, decay, &wide[..values.len()], dim, totals);
            }
        }
        State { stride, totals, sums, largest }
    }
}

/// [`score`] for all queries.
#[inline(always)]
fn score_all<T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    at_a_time: usize,
    scaled: &[f32],
    keys: &[T],
    dim: usize,
    scores: &mut [f32],
) {
    let stride = dim.next_multiple_of(N);
    let group = scaled.len() / stride;
    let mut first = 0;
    while first < group {
        let count = at_a_time.min(group - first);
        let (q, to) = (&scaled[first * stride..], &mut scores[first * KEYS..]);
        match count {
            4 => score::<4, T, S, N>(s, q, stride, keys, dim, to, first == 0),
            3 => score::<3, T, S, N>(s, q, stride, keys, dim, to, first == 0),
            2 => score::<2, T, S, N>(s, q, stride, keys, dim, to, first == 0),
            _ => score::<1, T, S, N>(s, q, stride, keys, dim, to, first == 0),
        }
        first += count;
    }
}

/// [`gather`] for all queries.
#[inline(always)]
fn gather_all<T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    at_a_time: usize,
    scores: &[f32],
    decay: &[f32],
    values: &[T],
    dim: usize,
    totals: &mut [f32],
) {
    let stride = dim.next_multiple_of(N);
    let group = totals.len() / stride;
    let mut first = 0;
    while first < group {
        let count = at_a_time.min(group - first);
        let (p, decay, to) = (&scores[first * KEYS..], &decay[first..], &mut totals[first * stride..]);
        match count {
            4 => gather::<4, T, S, N>(s, p, decay, values, dim, to, first == 0),
            3 => gather::<3, T, S, N>(s, p, decay, values, dim, to, first == 0),
            2 => gather::<2, T, S, N>(s, p, decay, values, dim, to, first == 0),
            _ => gather::<1, T, S, N>(s, p, decay, values, dim, to, first == 0),
        }
        first += count;
    }
}

/// Asks for what lies a block after the first `count` elements of `from`. Blocks of keys and of values take turns, so the processor does not see that both are
/// read in order.
#[inline(always)]
fn fetch<T: Stored, S: Simd<N>, const N: usize>(s: S, from: &[T], count: usize, block: usize) {
    let next = from.as_ptr().wrapping_add(block);
    for i in (0..count).step_by(64 / size_of::<T>()) {
        s.prefetch(next.wrapping_add(i));
    }
}

/// Products of `Q` queries with a block of keys, `KEYS` apart for each query.
#[inline(always)]
fn score<const Q: usize, T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    queries: &[f32],
    stride: usize,
    keys: &[T],
    dim: usize,
    scores: &mut [f32],
    ahead: bool,
) {
    let full = dim / N;
    let mut q: [&[[f32; N]]; Q] = [&[]; Q];
    for j in 0..Q {
        q[j] = queries[j * stride..][..stride].as_chunks::<N>().0;
    }
    let last = keys.len() / dim - 1;
    for key in (0..=last).step_by(4) {
        let mut k: [&[[T; N]]; 4] = [&[]; 4];
        let mut tail: [&[T]; 4] = [&[]; 4];
        for i in 0..4 {
            let (chunks, rest) = keys[last.min(key + i) * dim..][..dim].as_chunks::<N>();
            (k[i], tail[i]) = (&chunks[..full], rest);
        }
        let mut sums = [[s.splat(0.0); 4]; Q];
        if ahead {
            fetch(s, &keys[key * dim..], 4 * dim, KEYS * dim);
        }
        for c in 0..full {
            for i in 0..4 {
                let v = T::widen(s, &k[i][c]);
                for j in 0..Q {
                    sums[j][i] = s.mul_add(v, s.load(&q[j][c]), sums[j][i]);
                }
            }
        }
        if full * N < dim {
            for i in 0..4 {
                let v = s.widen_tail(tail[i]);
                for j in 0..Q {
                    sums[j][i] = s.mul_add(v, s.load(&q[j][full]), sums[j][i]);
                }
            }
        }
        for j in 0..Q {
            scores[j * KEYS + key..][..4].copy_from_slice(&s.sums(sums[j]));
        }
    }
}

/// Makes weights of scores, and gives the factor for what was gathered with an earlier maximum.
#[inline(always)]
fn soften<S: Simd<N>, const N: usize>(s: S, scores: &mut [f32], largest: &mut f32, sum: &mut f32) -> f32 {
    let scores = scores.as_chunks_mut::<N>().0;
    let before = *largest;
    let mut all = s.splat(before);
    for v in &*scores {
        all = s.max(s.load(v), all);
    }
    *largest = s.largest(all);
    let shift = s.splat(*largest);
    let mut total = s.splat(0.0);
    for v in scores {
        let weight = exp(s, s.sub(s.load(v), shift));
        total = s.add(total, weight);
        s.store(weight, v);
    }
    let mut decay = [0.0; N];
    s.store(exp(s, s.sub(s.splat(before), shift)), &mut decay);
    *sum = *sum * decay[0] + s.total(total);
    decay[0]
}

/// Adds the values of a block with the weights of `Q` queries to their totals.
#[inline(always)]
fn gather<const Q: usize, T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    weights: &[f32],
    decay: &[f32],
    values: &[T],
    dim: usize,
    totals: &mut [f32],
    ahead: bool,
) {
    let (full, stride) = (dim / N, dim.next_multiple_of(N));
    if ahead {
        fetch(s, values, values.len(), KEYS * dim);
    }
    let mut c = 0;
    while c + 4 <= full {
        columns::<Q, 4, T, S, N>(s, weights, decay, values, (dim, c), totals);
        c += 4;
    }
    while c < full {
        columns::<Q, 1, T, S, N>(s, weights, decay, values, (dim, c), totals);
        c += 1;
    }
    if full * N < dim {
        for j in 0..Q {
            let total: &mut [f32; N] = &mut totals[j * stride..][..stride].as_chunks_mut::<N>().0[full];
            let mut sum = s.mul(s.load(total), s.splat(decay[j]));
            for (k, value) in values.chunks_exact(dim).enumerate() {
                sum = s.mul_add(s.splat(weights[j * KEYS + k]), s.widen_tail(&value[full * N..]), sum);
            }
            s.store(sum, total);
        }
    }
}

/// [`gather`] for `C` vectors from vector `first` on.
#[inline(always)]
fn columns<const Q: usize, const C: usize, T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    weights: &[f32],
    decay: &[f32],
    values: &[T],
    (dim, first): (usize, usize),
    totals: &mut [f32],
) {
    let stride = dim.next_multiple_of(N);
    let mut sums = [[s.splat(0.0); C]; Q];
    for j in 0..Q {
        let total = &totals[j * stride + first * N..][..C * N];
        for i in 0..C {
            sums[j][i] = s.mul(s.load(&total.as_chunks::<N>().0[i]), s.splat(decay[j]));
        }
    }
    let mut p: [&[f32]; Q] = [&[]; Q];
    let count = values.len() / dim;
    for j in 0..Q {
        p[j] = &weights[j * KEYS..][..count];
    }
    for (k, value) in values.chunks_exact(dim).enumerate().take(count) {
        let value = value[first * N..][..C * N].as_chunks::<N>().0;
        let mut v = [s.splat(0.0); C];
        for i in 0..C {
            v[i] = T::widen(s, &value[i]);
        }
        for j in 0..Q {
            let weight = s.splat(p[j][k]);
            for i in 0..C {
                sums[j][i] = s.mul_add(weight, v[i], sums[j][i]);
            }
        }
    }
    for j in 0..Q {
        let total = totals[j * stride + first * N..][..C * N].as_chunks_mut::<N>().0;
        for i in 0..C {
            s.store(sums[j][i], &mut total[i]);
        }
    }
}
