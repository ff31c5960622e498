//! The GPU memory of a session: keys and values, and the rows of a step. Everything is allocated with the engine, for the largest step that there can be.

use sbnc_kernels::cuda::attention::{Cache, Parts, Places, Queries, Tiles, can_decode};
use sbnc_kernels::cuda::{Buffer, DeviceError, Logits, Quantised, Stream};

use super::weights::{Gpu, Group};
use crate::config::Config;
use crate::cpu::Size;
use crate::rope::Scaling;

/// Steps of more rows than this have their projections in bf16.
pub(super) const NARROW: usize = 256;
/// The most projections that share an input: q, k and v.
const MOST_PARTS: usize = 3;

pub(super) struct Buffers {
    pub(super) size: Size,
    pub(super) places: Places,
    /// Keys and values of each layer.
    pub(super) caches: Vec<Cache>,
    pub(super) ids: Buffer<u32>,
    pub(super) sequences: Buffer<u32>,
    pub(super) positions: Buffer<u32>,
    pub(super) tiles: Tiles,
    /// The residual stream.
    pub(super) x: Buffer<f32>,
    pub(super) quantised: Quantised,
    /// Normalised inputs, where a projection has a norm of its own besides.
    pub(super) once: Buffer<f32>,
    /// Outputs of q, k, v, and of gate and up, in small steps.
    pub(super) projected: [Buffer<f32>; MOST_PARTS],
    /// The same in large steps, bf16.
    pub(super) projected_wide: [Buffer<u16>; MOST_PARTS],
    pub(super) queries: Queries,
    /// Outputs of prefill attention, f16.
    pub(super) attention: Buffer<u16>,
    /// Outputs of decoding attention; `None` where there are no kernels for the model's heads.
    pub(super) parts: Option<Parts>,
    /// Rows whose last states are wanted, and those.
    pub(super) wanted: Buffer<u32>,
    pub(super) last: Buffer<f32>,
    pub(super) logits: Logits,
}

impl Buffers {
    pub(super) fn new(gpu: &Gpu, config: &Config, size: Size, stream: &Stream) -> Result<Self, DeviceError> {
        let (device, heads) = (&gpu.device, &gpu.heads);
        let turns = turns(config, size.context);
        let places = Places::new(device, heads, size.sequences, size.context, &turns)?;
        let cache = |_| Cache::new(device, heads, places.pages(), stream);
        let caches = (0..gpu.layers.len()).map(cache).collect::<Result<_, _>>()?;
        let rows = size.chunk;
        let stored = widest(gpu, |g| g.parts.iter().map(|p| p.layer.stored_cols()).max().unwrap_or(0));
        let apart = widest(gpu, |g| if g.parts.iter().any(|p| p.norm.is_some()) { g.cols } else { 0 });
        // What lies between projections; o and down add to the residual stream at once.
        let outputs = |part: usize| {
            let groups = gpu.layers.iter().flat_map(|l| [&l.qkv, &l.gate_up]);
            groups.filter_map(|g| g.parts.get(part)).map(|p| p.layer.rows()).max().unwrap_or(0)
        };
        let (narrow, wide) = (rows.min(NARROW), if rows > NARROW { rows } else { 0 });
        let q = heads.heads * heads.dim;
        Ok(Self {
            size,
            caches,
            ids: device.alloc(rows)?,
            sequences: device.alloc(rows)?,
            positions: device.alloc(rows)?,
            tiles: Tiles::new(device, rows, size.sequences.min(rows))?,
            x: device.alloc(rows * config.hidden)?,
            quantised: Quantised::new(device, rows, stored)?,
            once: device.alloc(rows * apart)?,
            projected: [
                device.alloc(narrow * outputs(0))?,
                device.alloc(narrow * outputs(1))?,
                device.alloc(narrow * outputs(2))?,
            ],
            projected_wide: [
                device.alloc(wide * outputs(0))?,
                device.alloc(wide * outputs(1))?,
                device.alloc(wide * outputs(2))?,
            ],
            queries: Queries::new(device, heads, rows)?,
            attention: device.alloc(rows * q)?,
            parts: if can_decode(heads) { Some(Parts::new(device, heads, size.sequences)?) } else { None },
            wanted: device.alloc(size.wanted)?,
            last: device.alloc(size.wanted * config.hidden)?,
            logits: Logits::new(gpu.head(), size.wanted)?,
            places,
        })
    }
}

/// The widest of something among all groups.
fn widest(gpu: &Gpu, of: impl Fn(&Group) -> usize) -> usize {
    gpu.groups().map(of).max().unwrap_or(0)
}

/// (cosine, sine) of every pair at every position.
fn turns(config: &Config, positions: usize) -> Vec<f32> {
    let scaling: &Scaling = &config.scaling;
    match scaling.rotation(config.pairing, config.theta, config.head_dim, positions) {
        Ok(rotation) => rotation.cos.iter().zip(&rotation.sin).flat_map(|(&cos, &sin)| [cos, sin]).collect(),
        // Too little memory for a table: `Places::new` refuses the short one.
        Err(_) => Vec::new(),
    }
}
