//! Attention over keys and values in f32: twice the memory and plain code, for comparing a model with other people's f32 code.
//!
//! Sixteen bits of a key are enough for a trained model, but not for telling whether two programs compute the same: one value that rounds the other way
//! into the next int8 input shows up in every logit. What applications run is in [`attention`](super::Cache).

use super::attention::{Heads, Segment};
use super::rotary::{Pairing, Rotation};
use crate::cpu::Cpu;
use crate::cpu::pool::Shares;

/// Sums that are kept side by side, so that a vector unit can keep them.
const LANES: usize = 8;

/// Keys and values of one layer in f32: `[slot][kv head][position][dim]`.
#[derive(Debug)]
pub struct WideCache<'a> {
    /// Positions of a slot.
    pub capacity: usize,
    /// Turned keys.
    pub keys: &'a mut [f32],
    /// Values.
    pub values: &'a mut [f32],
}

impl Cpu {
    /// [`Cpu::rotate_and_store`] without rounding.
    pub fn rotate_and_store_wide(
        &self,
        qkv: &mut [f32],
        heads: &Heads,
        rotation: &Rotation,
        segments: &[Segment],
        cache: &mut WideCache<'_>,
    ) {
        let (dim, capacity) = (heads.dim, cache.capacity);
        let (keys, values) = (Shares::new(cache.keys), Shares::new(cache.values));
        self.pool.chunks(qkv, heads.row(), &|token, row| {
            let Some(segment) = segments.iter().find(|s| s.rows.contains(&token)) else { return };
            let position = segment.position + token - segment.rows.start;
            let (turned, v) = row.split_at_mut((heads.heads + heads.kv_heads) * dim);
            turned.chunks_exact_mut(dim).for_each(|head| turn(rotation, head, position));
            let k = &turned[heads.heads * dim..];
            for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
                let start = ((segment.slot * heads.kv_heads + head) * capacity + position) * dim;
                // SAFETY: a token's place in the cache is its own: slot, head and position differ between the tokens of a call.
                unsafe { keys.range(start, dim) }.copy_from_slice(k);
                // SAFETY: as for the key.
                unsafe { values.range(start, dim) }.copy_from_slice(v);
            }
        });
    }

    /// [`Cpu::attend`] without rounding.
    pub fn attend_wide(
        &self,
        qkv: &[f32],
        heads: &Heads,
        segments: &[Segment],
        cache: &WideCache<'_>,
        out: &mut [f32],
    ) {
        let (dim, group) = (heads.dim, heads.heads / heads.kv_heads);
        let scale = 1.0 / (dim as f32).sqrt();
        self.pool.chunks(out, dim, &|task, out| {
            let (row, head) = (task / heads.heads, task % heads.heads);
            let Some(segment) = segments.iter().find(|s| s.rows.contains(&row)) else { return };
            let position = segment.position + row - segment.rows.start;
            let first = heads.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let query = &qkv[row * heads.row() + head * dim..][..dim];
            let start = (segment.slot * heads.kv_heads + head / group) * cache.capacity;
            let stored = (start + first) * dim..(start + position + 1) * dim;
            let keys = cache.keys[stored.clone()].chunks_exact(dim);
            // The softmax as it comes: what was summed so far is scaled down whenever a larger score appears.
            let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
            out.fill(0.0);
            for (key, value) in keys.zip(cache.values[stored].chunks_exact(dim)) {
                let score = dot(query, key) * scale;
                if score > largest {
                    let shrink = (largest - score).exp();
                    out.iter_mut().for_each(|out| *out *= shrink);
                    (largest, sum) = (score, sum * shrink);
                }
                let weight = (score - largest).exp();
                sum += weight;
                out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v);
            }
            out.iter_mut().for_each(|out| *out /= sum);
        });
    }
}

/// Turns a head to its position.
fn turn(rotation: &Rotation, head: &mut [f32], position: usize) {
    let range = position * rotation.pairs..(position + 1) * rotation.pairs;
    let angles = rotation.cos[range.clone()].iter().zip(&rotation.sin[range]);
    for (pair, (cos, sin)) in angles.enumerate() {
        let (i, j) = match rotation.pairing {
            Pairing::Half => (pair, pair + rotation.pairs),
            Pairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        lanes.iter_mut().zip(a).zip(b).for_each(|((lane, a), b)| *lane += a * b);
    }
    lanes.iter().sum::<f32>() + rest
}
