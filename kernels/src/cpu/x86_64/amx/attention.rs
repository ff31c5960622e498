//! Attention of many queries with AMX: products of numbers with 8 bits each, whose sums are as exact as those of f32.
//!
//! ```text
//! queries = q0 + q1 + q2, weights = p0 + p1 + p2    exactly: 24 bits are three times 8
//! keys = k0 + k1, values = v0 + v1                  exactly, of f16; of bf16 there is only the first
//! scores  [key][query]  = k0·q0 + k0·q1 + k0·q2 + k1·q0 + k1·q1        what is left out is below 2⁻²⁵ of the largest
//! totals  [dim][query] += v0·p0 + v0·p1 + v0·p2 + v1·p0                what is left out is below 2⁻¹⁸
//! ```
//!
//! What is between the products (masks, exponentials, running maxima) is that of [`prefill`](crate::cpu::ops::attention::prefill), with lanes along queries.
//! Tiles want two numbers that are multiplied in one step side by side; which two is free, if both factors agree. Here number i goes with number i + 16 of
//! each 32, so that two vectors of 16 become one without a shuffle.

use std::arch::x86_64::*;

use super::tile::{PAIR, Tiles};
use crate::cpu::gemm::{Line, TILE};
use crate::cpu::ops::attention::plan::Task;
use crate::cpu::ops::attention::prefill::{add_up, are_masked, limits, mask, soften, turn, turn_back};
use crate::cpu::ops::attention::{Heads, NOTHING, State};
use crate::cpu::ops::scratch::take;
use crate::cpu::simd::{Simd, Stored};
use crate::cpu::x86_64::{Avx512, avx512};

/// Queries of a task, about: as many as the making of tiles of keys and values is spread over.
pub(crate) const QUERIES: usize = 128;

/// Keys of a block.
const KEYS: usize = 128;

/// Lanes of a group, whose scores lie together.
const WIDTH: usize = 64;

/// Numbers that are multiplied in one step.
const STEP: usize = 32;

/// Parts of what is f32: queries and weights.
const FINE: usize = 3;
/// Parts of what is stored in 16 bits: keys and values.
const PARTS: usize = 2;

/// Parts of keys and queries whose products count.
const SCORES: [(usize, usize); 5] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
/// Parts of values and weights whose products count.
const TOTALS: [(usize, usize); 4] = [(0, 0), (0, 1), (0, 2), (1, 0)];

/// Whether heads of this shape and numbers of this kind are for this kernel.
pub(crate) fn takes<T: Stored>(heads: &Heads) -> bool {
    T::PARTS <= PARTS && heads.dim.is_multiple_of(STEP) && super::has_bf16()
}

/// Floats that a task needs.
pub(crate) fn memory(heads: &Heads, task: &Task) -> usize {
    let (lanes, dim) = (task.queries(heads.group()).next_multiple_of(WIDTH), heads.dim);
    let tiles = (FINE * lanes * dim + 2 * PARTS * KEYS * dim + FINE * lanes * KEYS) / 2;
    lanes * (2 * dim + KEYS + 5) + tiles
}

/// Computes a task.
///
/// # Safety
///
/// The processor has AMX with bf16, the process may use it, and [`takes`] said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
pub(crate) unsafe fn run<'a, T: Stored>(
    s: Avx512,
    (qkv, heads, task): (&[f32], &Heads, &Task),
    (keys, values): (&[T], &[T]),
    mut memory: &'a mut [f32],
) -> State<'a> {
    let (dim, queries) = (heads.dim, task.queries(heads.group()));
    let lanes = queries.next_multiple_of(WIDTH);
    let turned = take(&mut memory, lanes * dim);
    let totals = take(&mut memory, lanes * dim);
    let scores = take(&mut memory, lanes * KEYS);
    let (sums, largest) = (take(&mut memory, lanes), take(&mut memory, lanes));
    let decay = take(&mut memory, lanes);
    let (from, to) = (take(&mut memory, lanes), take(&mut memory, lanes));
    let of_queries = pairs(take(&mut memory, FINE * lanes * dim / 2));
    let of_keys = pairs(take(&mut memory, PARTS * KEYS * dim / 2));
    let of_values = pairs(take(&mut memory, PARTS * KEYS * dim / 2));
    let of_weights = pairs(take(&mut memory, FINE * lanes * KEYS / 2));
    turn(s, qkv, heads, task, WIDTH, turned);
    split_queries(turned, dim, of_queries);
    totals.fill(0.0);
    sums.fill(0.0);
    largest.fill(NOTHING);
    // SAFETY: the caller's; this function does not call itself.
    let mut tiles = unsafe { Tiles::new() };

    for (i, (keys, values)) in keys.chunks(KEYS * dim).zip(values.chunks(KEYS * dim)).enumerate() {
        let (count, first) = (keys.len() / dim, task.keys.start + i * KEYS);
        split_keys(s, keys, dim, of_keys);
        split_values(s, values, dim, of_values);
        let masks = are_masked(heads, task, first, count);
        if masks {
            limits(heads, task, first, KEYS, from, to);
        }
        let groups = scores.chunks_exact_mut(KEYS * WIDTH).zip(totals.chunks_exact_mut(dim * WIDTH));
        for (group, (scores, totals)) in groups.enumerate() {
            let lanes = group * WIDTH..(group + 1) * WIDTH;
            let last = task.position + ((lanes.end - 1) / heads.group()).min(task.rows - 1);
            let seen = (last + 1).saturating_sub(first).min(count);
            if seen == 0 {
                continue;
            }
            let steps = seen.div_ceil(STEP);
            let of_queries = &of_queries[group * WIDTH / STEP * (FINE * dim / STEP)..];
            let of_weights = &mut of_weights[group * WIDTH / STEP * (FINE * KEYS / STEP)..];
            for half in 0..WIDTH / STEP {
                let of_queries = &of_queries[half * (FINE * dim / STEP)..][..FINE * dim / STEP];
                for step in 0..steps {
                    let of_keys = &of_keys[step * (PARTS * dim / STEP)..][..PARTS * dim / STEP];
                    tiles.clear();
                    for (keys, queries) in of_keys.chunks_exact(PARTS).zip(of_queries.chunks_exact(FINE)) {
                        for (k, q) in SCORES.into_iter().filter(|&(k, _)| k < T::PARTS) {
                            tiles.add_bf16(&keys[k], &queries[q]);
                        }
                    }
                    tiles.store_strided(&mut scores[step * STEP * WIDTH + half * STEP..], WIDTH);
                }
            }
            let scores = &mut scores[..seen * WIDTH];
            if masks {
                mask::<4, _, 16>(s, &from[lanes.clone()], &to[lanes.clone()], scores);
            }
            let decay = &mut decay[lanes.clone()];
            let weights = soften::<4, _, 16>(s, scores, &mut largest[lanes.clone()], decay);
            add_up::<4, _, 16>(s, weights, decay, &mut sums[lanes]);
            split_weights(scores, of_weights);
            if decay.iter().any(|&decay| decay != 1.0) {
                fade(totals, decay);
            }
            for (block, of_values) in of_values.chunks_exact(PARTS * KEYS / STEP).enumerate() {
                for half in 0..WIDTH / STEP {
                    let of_weights = &of_weights[half * (FINE * KEYS / STEP)..];
                    let totals = &mut totals[block * STEP * WIDTH + half * STEP..];
                    tiles.load_strided(totals, WIDTH);
                    for (values, weights) in
                        of_values.chunks_exact(PARTS).zip(of_weights.chunks_exact(FINE)).take(steps)
                    {
                        for (v, p) in TOTALS.into_iter().filter(|&(v, _)| v < T::PARTS) {
                            tiles.add_bf16(&values[v], &weights[p]);
                        }
                    }
                    tiles.store_strided(totals, WIDTH);
                }
            }
        }
    }
    drop(tiles);
    turn_back(s, totals, (dim, WIDTH, queries), turned);
    State { stride: dim, totals: turned, sums, largest }
}

/// Memory for pairs of tiles.
fn pairs(memory: &mut [f32]) -> &mut [[Line; PAIR]] {
    // SAFETY: any bytes are lines, and lines are bytes.
    let (before, lines, _) = unsafe { memory.align_to_mut::<[Line; PAIR]>() };
    assert!(before.is_empty(), "memory that begins with a line of the cache");
    lines
}

/// The nearest bf16 of each number, in the upper half of its lane, and what is left, which has 8 bits less.
#[inline]
#[target_feature(enable = "avx512f")]
fn nearest(v: __m512) -> (__m512i, __m512) {
    let rounded = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
    let nearest = _mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000u32.cast_signed()));
    (nearest, _mm512_sub_ps(v, _mm512_castsi512_ps(nearest)))
}

/// Takes the first part of two vectors, side by side, and leaves the rest.
#[inline]
#[target_feature(enable = "avx512f")]
fn part(numbers: &mut [__m512; 2]) -> __m512i {
    let [(first, first_rest), (second, second_rest)] = [nearest(numbers[0]), nearest(numbers[1])];
    *numbers = [first_rest, second_rest];
    side_by_side(first, second)
}

/// Two vectors of bf16, each in the upper half of its lane, side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn side_by_side(first: __m512i, second: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_srli_epi32::<16>(first), second)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn vector(values: &[f32]) -> __m512 {
    match values.first_chunk::<16>() {
        // SAFETY: 64 bytes are readable behind the reference; the load needs no alignment.
        Some(values) => unsafe { _mm512_loadu_ps(values.as_ptr()) },
        None => _mm512_setzero_ps(),
    }
}

/// From `[group][dim][lane]` to `[32 lanes][32 dims][part]`.
#[target_feature(enable = "avx512f,avx512bw")]
fn split_queries(turned: &[f32], dim: usize, out: &mut [[Line; PAIR]]) {
    let each = FINE * dim / STEP;
    for (block, out) in out.chunks_exact_mut(each).enumerate() {
        let turned = &turned[block * STEP / WIDTH * WIDTH * dim + block * STEP % WIDTH..];
        for (step, out) in out.chunks_exact_mut(FINE).enumerate() {
            for line in 0..PAIR {
                let lane = line / TILE * TILE;
                let at = (step * STEP + line % TILE) * WIDTH + lane;
                let mut numbers = [vector(&turned[at..]), vector(&turned[at + TILE * WIDTH..])];
                for out in &mut *out {
                    avx512::store(&mut out[line].0, part(&mut numbers));
                }
            }
        }
    }
}

/// From `[key][dim]` to `[32 keys][32 dims][part]`; beyond the last key of a step there are zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split_keys<T: Stored>(s: Avx512, keys: &[T], dim: usize, out: &mut [[Line; PAIR]]) {
    for (keys, out) in keys.chunks(STEP * dim).zip(out.chunks_exact_mut(PARTS * dim / STEP)) {
        for key in 0..STEP {
            let row = keys.get(key * dim..(key + 1) * dim);
            for (step, out) in out.chunks_exact_mut(PARTS).enumerate() {
                let mut numbers = [_mm512_setzero_ps(); 2];
                if let Some(row) = row {
                    let halves = row[step * STEP..][..STEP].as_chunks().0;
                    numbers = [T::widen(s, &halves[0]), T::widen(s, &halves[1])];
                }
                for out in &mut out[..T::PARTS] {
                    avx512::store(&mut out[key].0, part(&mut numbers));
                }
            }
        }
    }
}

/// From `[key][dim]` to `[32 dims][32 keys][part]`, on their side; beyond the last key of a step there are zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split_values<T: Stored>(s: Avx512, values: &[T], dim: usize, out: &mut [[Line; PAIR]]) {
    let each = PARTS * KEYS / STEP;
    for (step, values) in values.chunks(STEP * dim).enumerate() {
        for first in (0..dim).step_by(TILE) {
            let mut squares = [[_mm512_setzero_ps(); TILE]; PARTS];
            for key in 0..TILE {
                let row = |key: usize| match values.get(key * dim + first..key * dim + first + TILE) {
                    Some(row) => T::widen(s, &row.as_chunks().0[0]),
                    None => _mm512_setzero_ps(),
                };
                let mut numbers = [row(key), row(key + TILE)];
                for square in &mut squares[..T::PARTS] {
                    square[key] = _mm512_castsi512_ps(part(&mut numbers));
                }
            }
            let out = &mut out[first / STEP * each + step * PARTS..][..T::PARTS];
            for (square, out) in squares.into_iter().zip(out) {
                let lines = &mut out[first % STEP..][..TILE];
                for (row, line) in s.transpose(square).into_iter().zip(lines) {
                    avx512::store(&mut line.0, _mm512_castps_si512(row));
                }
            }
        }
    }
}

/// From `[key][lane]` to `[32 lanes][32 keys][part]`; beyond the last key there are zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split_weights(weights: &[f32], out: &mut [[Line; PAIR]]) {
    let each = FINE * KEYS / STEP;
    for lane in (0..WIDTH).step_by(TILE) {
        let out = &mut out[lane / STEP * each..][..each];
        for (weights, out) in weights.chunks(STEP * WIDTH).zip(out.chunks_exact_mut(FINE)) {
            for key in 0..TILE {
                let row = |key: usize| vector(weights.get(key * WIDTH + lane..).unwrap_or(&[]));
                let mut numbers = [row(key), row(key + TILE)];
                for out in &mut *out {
                    avx512::store(&mut out[lane % STEP + key].0, part(&mut numbers));
                }
            }
        }
    }
}

/// Multiplies what was gathered with earlier maxima.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn fade(totals: &mut [f32], decay: &[f32]) {
    let decay = [vector(decay), vector(&decay[16..]), vector(&decay[32..]), vector(&decay[48..])];
    for totals in totals.chunks_exact_mut(WIDTH) {
        for (totals, decay) in totals.chunks_exact_mut(16).zip(decay) {
            avx512::store_floats(totals, _mm512_mul_ps(vector(totals), decay));
        }
    }
}
