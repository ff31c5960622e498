//! Keys and values of all sequences of a session.
//!
//! For each layer there are two buffers, `[sequence][kv head][position][dim]`: in 16 bits, or in f32 for comparing models.

use sbnc_kernels::cpu::Cpu;
use sbnc_kernels::cpu::ops::{Cache, Half, Heads, Rotation, WideCache};

use crate::device::Segment;
use crate::error::Result;
use crate::memory::zeros;
use crate::session::CacheType;

/// Keys and values, and the attention over them.
pub(super) struct KvCache {
    layers: Layers,
    heads: Heads,
    rotation: Rotation,
    /// Positions of a sequence.
    capacity: usize,
}

enum Layers {
    Half(Half, Vec<Sides<u16>>),
    Wide(Vec<Sides<f32>>),
}

/// The keys and the values of a layer.
struct Sides<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

impl KvCache {
    /// Room for `capacity` positions of each sequence in each layer.
    pub(super) fn new(
        (layers, heads): (usize, Heads),
        rotation: Rotation,
        kind: CacheType,
        (sequences, capacity): (usize, usize),
    ) -> Result<Self> {
        let len = sequences * heads.kv_heads * capacity * heads.dim;
        let layers = match kind {
            CacheType::F16 => Layers::Half(Half::F16, sides(layers, len)?),
            CacheType::Bf16 => Layers::Half(Half::Bf16, sides(layers, len)?),
            CacheType::F32 | CacheType::Auto => Layers::Wide(sides(layers, len)?),
        };
        Ok(Self { layers, heads, rotation, capacity })
    }

    /// Turns q and k of all rows, stores k and v, and attends.
    pub(super) fn attend(
        &mut self,
        cpu: &Cpu,
        layer: usize,
        segments: &[Segment],
        qkv: &mut [f32],
        attention: &mut [f32],
    ) {
        let Self { layers, heads, rotation, capacity } = self;
        match layers {
            Layers::Half(half, layers) => {
                let Sides { keys, values } = &mut layers[layer];
                let mut cache = Cache { half: *half, capacity: *capacity, keys, values };
                cpu.rotate_and_store(qkv, heads, rotation, segments, &mut cache);
                cpu.attend(qkv, heads, segments, &cache, attention);
            }
            Layers::Wide(layers) => {
                let Sides { keys, values } = &mut layers[layer];
                let mut cache = WideCache { capacity: *capacity, keys, values };
                cpu.rotate_and_store_wide(qkv, heads, rotation, segments, &mut cache);
                cpu.attend_wide(qkv, heads, segments, &cache, attention);
            }
        }
    }

    /// Copies the first `len` positions of a sequence to another.
    pub(super) fn copy(&mut self, from: usize, to: usize, len: usize) {
        let head = self.capacity * self.heads.dim;
        let start = |sequence: usize, kv_head: usize| (sequence * self.heads.kv_heads + kv_head) * head;
        for kv_head in 0..self.heads.kv_heads {
            let (from, to, len) = (start(from, kv_head), start(to, kv_head), len * self.heads.dim);
            match &mut self.layers {
                Layers::Half(_, layers) => copy(layers, from, to, len),
                Layers::Wide(layers) => copy(layers, from, to, len),
            }
        }
    }
}

fn sides<T: bytemuck::Zeroable>(layers: usize, len: usize) -> Result<Vec<Sides<T>>> {
    let room = || zeros(len, "keys and values");
    (0..layers).map(|_| Ok(Sides { keys: room()?, values: room()? })).collect()
}

fn copy<T: Copy>(layers: &mut [Sides<T>], from: usize, to: usize, len: usize) {
    for side in layers.iter_mut().flat_map(|sides| [&mut sides.keys, &mut sides.values]) {
        side.copy_within(from..from + len, to);
    }
}
