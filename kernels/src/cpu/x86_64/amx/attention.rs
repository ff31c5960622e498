//! Attention of many queries in tiles of bf16.
//!
//! ```text
//! queries, once a task      [32 lanes][32 dims]     scores [key][lane]  = keys · queries
//! a block of keys           [32 keys][32 dims]      weights 2^(score − largest), in place; maximum and sum of each lane
//! its values, on their side [32 dims][32 keys]      totals [dim][lane] += valuesᵀ · weights
//! ```
//!
//! A number is the sum of two of bf16: the nearest, and the nearest to what is left. Products of the two lower parts are left out, so that a product is
//! exact to 2⁻¹⁶. Keys and values that are stored as bf16 have no lower part. An instruction multiplies pairs of numbers that lie in one lane of 32 bits; which
//! numbers are a pair is free, so pairs are 16 apart: they are made of two vectors without moving anything across lanes.

use std::arch::x86_64::*;
use std::f32::consts::{LN_2, LOG2_E};

use super::tile::{FloatTile, Quad, Tiles};
use crate::cpu::ops::attention::{Heads, NOTHING, Prefill, State, Task};
use crate::cpu::ops::scratch::take;
use crate::cpu::simd::{Simd, Stored};
use crate::cpu::x86_64::Avx512;
use crate::cpu::{Isa, Platform};

/// Keys of a block.
const KEYS: usize = 128;
/// Numbers along the products of a tile, and lanes of two tiles.
const STEP: usize = 32;
/// Steps of a block's keys.
const STEPS: usize = KEYS / STEP;
/// Lines of a tile, and lanes of a line.
const TILE: usize = 16;

/// Queries of a task, about: enough that turning values on their side costs little, few enough for the second cache.
pub(crate) const QUERIES: usize = 256;

/// Floats that a task needs.
pub(crate) fn memory(heads: &Heads, task: &Task) -> usize {
    let lanes = task.queries(heads.group()).next_multiple_of(STEP);
    lanes * (3 * heads.dim + 2) + 2 * KEYS * heads.dim + 2 * KEYS * STEP
}

/// Proof that the process may use AMX; for heads that are whole steps, and keys and values that are two numbers of bf16 at most.
#[derive(Clone, Copy)]
pub(crate) struct Tiled(Avx512);

impl Tiled {
    pub(crate) fn new<T: Stored>(platform: Platform, heads: &Heads) -> Option<Self> {
        let serves = platform.isa() == Isa::Amx && heads.dim.is_multiple_of(STEP) && T::PARTS <= 2;
        Avx512::new(platform).filter(|_| serves).map(Self)
    }

    /// What the queries of a task find.
    pub(crate) fn attend<'a, T: Stored>(self, task: Prefill<'a, '_, T>) -> State<'a> {
        // SAFETY: the value proves that the processor has the instructions; tiles live in kernels only, none of which calls this one.
        unsafe { attend(self.0, task) }
    }
}

/// # Safety
///
/// The processor has AMX with bf16 and the process may use it; no [`Tiles`] of this thread lives.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
unsafe fn attend<'a, T: Stored>(s: Avx512, input: Prefill<'a, '_, T>) -> State<'a> {
    // SAFETY: the caller's.
    let mut tiles = unsafe { Tiles::new() };
    let Prefill { qkv, heads, task, keys: all_keys, values: all_values, mut memory } = input;
    let dim = heads.dim;
    let queries = task.queries(heads.group());
    let lanes = queries.next_multiple_of(STEP);
    let of_dim = dim / STEP;
    let found = take(&mut memory, lanes * dim);
    let turned = quads(take(&mut memory, lanes * dim));
    let totals = quads(take(&mut memory, lanes * dim));
    let keys = quads(take(&mut memory, KEYS * dim));
    let values = quads(take(&mut memory, KEYS * dim));
    let scores = quads(take(&mut memory, KEYS * STEP));
    let weights = quads(take(&mut memory, KEYS * STEP));
    let sums = take(&mut memory, lanes);
    let largest = take(&mut memory, lanes);
    turn(s, qkv, heads, task, turned);
    totals.as_flattened_mut().as_flattened_mut().fill(0.0);
    sums.fill(0.0);
    largest.fill(NOTHING);

    let blocks = all_keys.chunks(KEYS * dim).zip(all_values.chunks(KEYS * dim));
    for (i, (stored_keys, stored_values)) in blocks.enumerate() {
        let (count, first) = (stored_keys.len() / dim, task.keys.start + i * KEYS);
        split_keys(s, stored_keys, dim, keys);
        split_values(s, stored_values, dim, values);
        for pair in 0..lanes / STEP {
            let Some(seen) = Seen::new(heads, task, (first, count), pair) else { continue };
            for (keys, scores) in keys.chunks_exact(of_dim).zip(scores.iter_mut()).take(seen.steps) {
                tiles.clear();
                for (key, query) in keys.iter().zip(&turned[pair * of_dim..][..of_dim]) {
                    add::<T>(&mut tiles, key, query);
                }
                tiles.store_floats(scores);
            }
            if let Some(limits) = &seen.limits {
                mask(s, limits, &mut scores[..seen.steps]);
            }
            let (scores, weights) = (&scores[..seen.steps], &mut weights[..seen.steps]);
            let of_pair = pair * STEP..(pair + 1) * STEP;
            let totals = &mut totals[pair * of_dim..][..of_dim];
            let decay = soften(s, scores, weights, &mut largest[of_pair.clone()], &mut sums[of_pair]);
            if let Some(decay) = decay {
                scale(s, decay, totals);
            }
            for (values, totals) in values.chunks_exact(STEPS).zip(totals) {
                tiles.load_floats(totals);
                for (value, weight) in values.iter().zip(&*weights) {
                    add::<T>(&mut tiles, value, weight);
                }
                tiles.store_floats(totals);
            }
        }
    }
    turn_back(s, totals, dim, found);
    largest.iter_mut().for_each(|largest| *largest *= LN_2);
    State { stride: dim, totals: found, sums, largest }
}

/// Memory as quads of tiles.
fn quads(memory: &mut [f32]) -> &mut [Quad] {
    memory.as_chunks_mut::<{ TILE * TILE }>().0.as_chunks_mut::<4>().0
}

/// Adds the products of two tiles of `a` and two of `b`.
#[inline(always)]
fn add<T: Stored>(tiles: &mut Tiles, a: &Quad, b: &Quad) {
    if T::PARTS == 1 { tiles.add_bf16_upper(a, b) } else { tiles.add_bf16(a, b) }
}

/// A line of a tile.
#[inline(always)]
fn line(tile: &FloatTile, line: usize) -> &[f32; TILE] {
    &tile.as_chunks().0[line]
}

#[inline(always)]
fn line_mut(tile: &mut FloatTile, line: usize) -> &mut [f32; TILE] {
    &mut tile.as_chunks_mut().0[line]
}

/// The upper halves of two vectors, `a`'s below `b`'s in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn upper(a: __m512, b: __m512) -> __m512 {
    let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
    _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(a), b))
}

/// A vector whose upper halves are those of the nearest bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn near(v: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000)))
}

/// What is left of a vector without the upper halves of the one near it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn rest(v: __m512, near: __m512) -> __m512 {
    _mm512_sub_ps(v, _mm512_and_ps(near, _mm512_castsi512_ps(_mm512_set1_epi32(-65536))))
}

/// Writes a line of two vectors' upper parts into tile `place` of a quad, and of their lower parts into tile `place + 2`, if numbers like `T` have any.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split<T: Stored>(s: Avx512, (a, b): (__m512, __m512), quad: &mut Quad, place: usize, number: usize) {
    let (near_a, near_b) = (near(a), near(b));
    s.store(upper(near_a, near_b), line_mut(&mut quad[place], number));
    if T::PARTS > 1 {
        s.store(upper(near(rest(a, near_a)), near(rest(b, near_b))), line_mut(&mut quad[place + 2], number));
    }
}

/// Queries in tiles of `[dim pair][lane]`, scaled so that a weight is a power of two; lanes past the last query repeat it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn turn(s: Avx512, qkv: &[f32], heads: &Heads, task: &Task, turned: &mut [Quad]) {
    let (dim, group) = (heads.dim, heads.group());
    let factor = s.splat(LOG2_E / (dim as f32).sqrt());
    let last = task.queries(group) - 1;
    for (pair, quads) in turned.chunks_exact_mut(dim / STEP).enumerate() {
        for half in 0..2 {
            let rows: [&[f32]; TILE] = std::array::from_fn(|lane| {
                let query = (pair * STEP + half * TILE + lane).min(last);
                let head = task.kv_head * group + query % group;
                &qkv[(task.row + query / group) * heads.row() + head * dim..][..dim]
            });
            for (step, quad) in quads.iter_mut().enumerate() {
                let square = |from: usize| {
                    let mut square = [s.splat(0.0); TILE];
                    for (vector, row) in square.iter_mut().zip(&rows) {
                        *vector = s.mul(s.load(&row[from..].as_chunks().0[0]), factor);
                    }
                    s.transpose(square)
                };
                let (low, high) = (square(step * STEP), square(step * STEP + TILE));
                for (i, pair) in low.into_iter().zip(high).enumerate() {
                    split::<f32>(s, pair, quad, half, i);
                }
            }
        }
    }
}

/// Rows of totals from tiles of `[dim][lane]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn turn_back(s: Avx512, totals: &[Quad], dim: usize, found: &mut [f32]) {
    for (quads, found) in totals.chunks_exact(dim / STEP).zip(found.chunks_exact_mut(STEP * dim)) {
        for (i, tile) in quads.as_flattened().iter().enumerate() {
            // Tiles of a quad: two of dimensions, each with two of lanes.
            let (first, half) = (i / 2 * TILE, i % 2);
            let square = s.transpose(std::array::from_fn(|row| s.load(line(tile, row))));
            for (row, vector) in found[half * TILE * dim..].chunks_exact_mut(dim).zip(square) {
                s.store(vector, &mut row[first..].as_chunks_mut().0[0]);
            }
        }
    }
}

/// Keys of a block in tiles of `[key][dim pair]`; those past the last are zero.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split_keys<T: Stored>(s: Avx512, stored: &[T], dim: usize, keys: &mut [Quad]) {
    let count = stored.len() / dim;
    for key in 0..count.next_multiple_of(STEP) {
        let quads = &mut keys[key / STEP * (dim / STEP)..][..dim / STEP];
        let (half, number) = (key / TILE % 2, key % TILE);
        let zeros = [T::ZERO; TILE];
        for (step, quad) in quads.iter_mut().enumerate() {
            let part = |i: usize| {
                let there = || &stored[key * dim + step * STEP + i * TILE..].as_chunks().0[0];
                T::widen(s, if key < count { there() } else { &zeros })
            };
            split::<T>(s, (part(0), part(1)), quad, half, number);
        }
    }
}

/// Values of a block in tiles of `[dim][key pair]`; those past the last are zero.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn split_values<T: Stored>(s: Avx512, stored: &[T], dim: usize, values: &mut [Quad]) {
    let count = stored.len() / dim;
    let zeros = [T::ZERO; TILE];
    for step in 0..count.div_ceil(STEP) {
        for first in (0..dim).step_by(TILE) {
            let quad = &mut values[first / STEP * STEPS + step];
            let square = |from: usize| {
                let mut square = [s.splat(0.0); TILE];
                for (i, vector) in square.iter_mut().enumerate() {
                    let there = || &stored[(from + i) * dim + first..].as_chunks().0[0];
                    *vector = T::widen(s, if from + i < count { there() } else { &zeros });
                }
                s.transpose(square)
            };
            let (low, high) = (square(step * STEP), square(step * STEP + TILE));
            for (i, pair) in low.into_iter().zip(high).enumerate() {
                split::<T>(s, pair, quad, first / TILE % 2, i);
            }
        }
    }
}

/// What two tiles of lanes see of a block.
struct Seen {
    /// Steps of keys that any of them sees.
    steps: usize,
    /// The first and the last key that each lane sees, unless all lanes see all keys of these steps.
    limits: Option<[[f32; STEP]; 2]>,
}

impl Seen {
    /// `None` if they see nothing of it.
    fn new(heads: &Heads, task: &Task, (first, count): (usize, usize), pair: usize) -> Option<Self> {
        let group = heads.group();
        let position = |lane: usize| task.position + ((pair * STEP + lane) / group).min(task.rows - 1);
        // Keys of the block up to a lane's own, and those before its window, which may begin after the block.
        let count_of = |lane: usize| (position(lane) + 1).saturating_sub(first).min(count);
        let begin = |lane: usize| heads.first(position(lane)).saturating_sub(first).min(KEYS);
        let steps = count_of(STEP - 1).div_ceil(STEP);
        if steps == 0 {
            return None;
        }
        let is_whole = count_of(0) == steps * STEP && begin(STEP - 1) == 0;
        let limits = (!is_whole).then(|| {
            [std::array::from_fn(|lane| begin(lane) as f32), std::array::from_fn(|lane| count_of(lane) as f32 - 1.0)]
        });
        Some(Self { steps, limits })
    }
}

/// Hides scores of keys that lanes do not see.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn mask(s: Avx512, [from, to]: &[[f32; STEP]; 2], scores: &mut [Quad]) {
    let never = s.splat(f32::NEG_INFINITY);
    for (i, tile) in scores.as_flattened_mut().iter_mut().enumerate() {
        let lanes = i % 2;
        let (from, to) = (s.load(&from.as_chunks().0[lanes]), s.load(&to.as_chunks().0[lanes]));
        for number in 0..TILE {
            let key = s.splat((i / 2 * TILE + number) as f32);
            let line = line_mut(tile, number);
            let seen = s.where_le(key, to, s.load(line), never);
            s.store(s.where_le(from, key, seen, never), line);
        }
    }
}

/// Makes weights of scores; the factors for what was gathered with earlier maxima, unless all are 1.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn soften(
    s: Avx512,
    scores: &[Quad],
    weights: &mut [Quad],
    largest: &mut [f32],
    sums: &mut [f32],
) -> Option<[__m512; 2]> {
    let (largest, sums) = (largest.as_chunks_mut::<TILE>().0, sums.as_chunks_mut::<TILE>().0);
    let before = [s.load(&largest[0]), s.load(&largest[1])];
    let mut found = [before; 2];
    for quad in scores {
        for number in 0..TILE {
            for (i, tile) in quad.iter().enumerate() {
                found[i / 2][i % 2] = s.max(s.load(line(tile, number)), found[i / 2][i % 2]);
            }
        }
    }
    let shift = [s.max(found[0][0], found[1][0]), s.max(found[0][1], found[1][1])];
    let mut totals = [[s.splat(0.0); 2]; 2];
    for (quad, weights) in scores.iter().zip(weights) {
        for number in 0..TILE {
            for half in 0..2 {
                let weight = |i: usize| power_of_two(s.sub(s.load(line(&quad[2 * i + half], number)), shift[half]));
                let pair = (weight(0), weight(1));
                totals[0][half] = s.add(totals[0][half], pair.0);
                totals[1][half] = s.add(totals[1][half], pair.1);
                split::<f32>(s, pair, weights, half, number);
            }
        }
    }
    let decay = [power_of_two(s.sub(before[0], shift[0])), power_of_two(s.sub(before[1], shift[1]))];
    for half in 0..2 {
        let sum = s.mul_add(s.load(&sums[half]), decay[half], s.add(totals[0][half], totals[1][half]));
        s.store(sum, &mut sums[half]);
        s.store(shift[half], &mut largest[half]);
    }
    let are_new = |half: usize| _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(shift[half], before[half]) != 0;
    (are_new(0) || are_new(1)).then_some(decay)
}

/// 2ˣ within 4e-7 for −100 ≤ x ≤ 0, and 2⁻¹⁰⁰ below: nothing beside the weight of the largest score, which is 1, and yet with a lower part that is no
/// subnormal number, which instructions take a hundred times as long for.
///
/// The polynomial of the fifth degree has the least relative error for −½ ≤ x ≤ ½, 7.5e-8.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn power_of_two(x: __m512) -> __m512 {
    let x = _mm512_max_ps(_mm512_set1_ps(-100.0), x);
    let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let part = _mm512_sub_ps(x, whole);
    let mut p = _mm512_set1_ps(0.001_327_641_5);
    for coefficient in [0.009_675_529, 0.055_507_135, 0.240_221_2, 0.693_146_94, 1.000_000_1] {
        p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, whole)
}

/// Multiplies totals by the factors of their lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
fn scale(s: Avx512, factors: [__m512; 2], totals: &mut [Quad]) {
    for (i, tile) in totals.as_flattened_mut().iter_mut().enumerate() {
        for number in 0..TILE {
            let line = line_mut(tile, number);
            s.store(s.mul(s.load(line), factors[i % 2]), line);
        }
    }
}
