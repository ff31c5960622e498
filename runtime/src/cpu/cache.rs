//! Keys and values of all sequences of a session, in 16 bits.

use sbnc_kernels::cpu::ops::{Cache, Half, Heads};

use crate::error::Result;
use crate::memory::zeros;

/// For each layer, `[sequence][kv head][position][dim]`, the keys and the values.
pub(super) struct KvCache {
    layers: Vec<(Vec<u16>, Vec<u16>)>,
    half: Half,
    capacity: usize,
    kv_heads: usize,
    dim: usize,
}

impl KvCache {
    /// Room for `capacity` positions of each sequence.
    pub(super) fn new(layers: usize, heads: &Heads, half: Half, sequences: usize, capacity: usize) -> Result<Self> {
        let len = sequences * heads.kv_heads * capacity * heads.dim;
        let room = || zeros(len, "keys and values");
        let layers = (0..layers).map(|_| Ok((room()?, room()?))).collect::<Result<_>>()?;
        Ok(Self { layers, half, capacity, kv_heads: heads.kv_heads, dim: heads.dim })
    }

    /// One layer, as kernels take it.
    pub(super) fn layer(&mut self, layer: usize) -> Cache<'_> {
        let (keys, values) = &mut self.layers[layer];
        Cache { half: self.half, capacity: self.capacity, keys, values }
    }

    /// Copies the first `len` positions of a sequence to another.
    pub(super) fn copy(&mut self, from: usize, to: usize, len: usize) {
        let head = self.capacity * self.dim;
        let start = |sequence: usize, kv_head: usize| (sequence * self.kv_heads + kv_head) * head;
        for side in self.layers.iter_mut().flat_map(|(keys, values)| [keys, values]) {
            for kv_head in 0..self.kv_heads {
                let from = start(from, kv_head);
                side.copy_within(from..from + len * self.dim, start(to, kv_head));
            }
        }
    }
}
