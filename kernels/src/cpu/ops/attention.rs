//! Causal attention over a cache of keys and values.

use std::ops::Range;

use super::Half;
use crate::cpu::Cpu;
use crate::cpu::pool::Shares;

/// The shape of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// How far a token looks back, itself included; everything if there is none.
    pub window: Option<usize>,
}

impl Heads {
    /// Values of a token's q, k and v.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }
}

/// Rows of a batch that are consecutive tokens of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The rows.
    pub rows: Range<usize>,
    /// Position of the first of them in the sequence.
    pub position: usize,
    /// The sequence's place in the cache.
    pub slot: usize,
}

/// Keys and values of one layer: `[slot][kv head][position][dim]`.
#[derive(Debug)]
pub struct Cache<'a> {
    /// How they are stored.
    pub half: Half,
    /// Positions of a slot.
    pub capacity: usize,
    /// Turned keys.
    pub keys: &'a mut [u16],
    /// Values.
    pub values: &'a mut [u16],
}

impl Cpu {
    /// Attention of the rows' queries (`heads.row()` apart, turned) over everything stored up to their own position, which is stored already.
    /// `out` has `heads.heads · heads.dim` values a row.
    pub fn attend(&self, qkv: &[f32], heads: &Heads, segments: &[Segment], cache: &Cache<'_>, out: &mut [f32]) {
        let (dim, group) = (heads.dim, heads.heads / heads.kv_heads);
        let width = heads.heads * dim;
        let rows = out.len() / width;
        let out = Shares::new(out);
        self.pool.run(rows * heads.heads, &|task| {
            let (row, head) = (task / heads.heads, task % heads.heads);
            let Some(segment) = segments.iter().find(|s| s.rows.contains(&row)) else { return };
            // SAFETY: every pair of row and head is handed out once.
            let out = unsafe { out.range(row * width + head * dim, dim) };
            let position = segment.position + row - segment.rows.start;
            let first = heads.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let query = &qkv[row * heads.row() + head * dim..][..dim];
            let start = (segment.slot * heads.kv_heads + head / group) * cache.capacity;
            let stored = (start + first) * dim..(start + position + 1) * dim;
            let keys = cache.keys[stored.clone()].chunks_exact(dim);
            let dot = |key: &[u16]| -> f32 { key.iter().zip(query).map(|(&k, q)| cache.half.unpack(k) * q).sum() };
            let scores: Vec<f32> = keys.map(|key| dot(key) / (dim as f32).sqrt()).collect();
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            out.fill(0.0);
            for (score, value) in scores.iter().zip(cache.values[stored].chunks_exact(dim)) {
                let weight = (score - largest).exp();
                sum += weight;
                out.iter_mut().zip(value).for_each(|(out, &v)| *out += weight * cache.half.unpack(v));
            }
            out.iter_mut().for_each(|out| *out /= sum);
        });
    }
}
