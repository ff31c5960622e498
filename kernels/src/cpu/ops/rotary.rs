//! Rotary position embedding, and the way of keys and values into the cache.

use super::attention::{Cache, Heads, Segment};
use crate::cpu::Cpu;
use crate::cpu::pool::Shares;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Element i with element i + half.
    Half,
    /// Element 2i with element 2i + 1.
    Interleaved,
}

/// The angles of all positions: `cos[position · pairs + pair]`, and `sin` likewise.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Which elements turn together.
    pub pairing: Pairing,
    /// Pairs of a head.
    pub pairs: usize,
    /// Cosines (with the attention factor of a scaling, where there is one).
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl Rotation {
    fn turn(&self, head: &mut [f32], position: usize) {
        let range = position * self.pairs..(position + 1) * self.pairs;
        let angles = self.cos[range.clone()].iter().zip(&self.sin[range]);
        for (pair, (cos, sin)) in angles.enumerate() {
            let (i, j) = match self.pairing {
                Pairing::Half => (pair, pair + self.pairs),
                Pairing::Interleaved => (2 * pair, 2 * pair + 1),
            };
            let (a, b) = (head[i], head[j]);
            head[i] = a * cos - b * sin;
            head[j] = a * sin + b * cos;
        }
    }
}

impl Cpu {
    /// Takes rows of q, k and v (`heads.row()` values each), turns q in place and k on its way into the cache, and stores v there too.
    pub fn rotate_and_store(
        &self,
        qkv: &mut [f32],
        heads: &Heads,
        rotation: &Rotation,
        segments: &[Segment],
        cache: &mut Cache<'_>,
    ) {
        let (dim, half) = (heads.dim, cache.half);
        let capacity = cache.capacity;
        let (keys, values) = (Shares::new(cache.keys), Shares::new(cache.values));
        self.pool.chunks(qkv, heads.row(), &|token, row| {
            let Some(segment) = segments.iter().find(|s| s.rows.contains(&token)) else { return };
            let position = segment.position + token - segment.rows.start;
            let (q, kv) = row.split_at_mut(heads.heads * dim);
            q.chunks_exact_mut(dim).for_each(|head| rotation.turn(head, position));
            let (k, v) = kv.split_at_mut(heads.kv_heads * dim);
            for (head, (k, v)) in k.chunks_exact_mut(dim).zip(v.chunks_exact(dim)).enumerate() {
                rotation.turn(k, position);
                let start = ((segment.slot * heads.kv_heads + head) * capacity + position) * dim;
                // SAFETY: a token's place in the cache is its own: slot, head and position differ between the tokens of a call.
                let key = unsafe { keys.range(start, dim) };
                // SAFETY: as for the key.
                let value = unsafe { values.range(start, dim) };
                key.iter_mut().zip(&*k).for_each(|(to, &from)| *to = half.pack(from));
                value.iter_mut().zip(v).for_each(|(to, &from)| *to = half.pack(from));
            }
        });
    }
}
