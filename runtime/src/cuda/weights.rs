//! What a model has in a GPU's memory: its weights, as the kernels read them. Sessions share it.

use sbnc_kernels::cpu::ops::{Activation as CpuActivation, Pairing};
use sbnc_kernels::cuda::attention::Heads;
use sbnc_kernels::cuda::{Activation, Buffer, Dense, Device, DeviceError, Linear, Stream};

use super::told;
use crate::error::{Error, Kind, Result};
use crate::model::Loaded;
use crate::plan::{Layer, Projections};
use crate::tensor::File;

/// A model on a GPU.
pub(crate) struct Gpu {
    pub(super) device: Device,
    pub(super) heads: Heads,
    pub(super) activation: Activation,
    /// Bits of the inputs of attention and feed-forward.
    pub(super) input_bits: u32,
    pub(super) eps: f32,
    pub(super) embed: Dense,
    pub(super) layers: Vec<GpuLayer>,
    pub(super) norm: Buffer<f32>,
    /// `None` where the head is the embedding.
    head: Option<Dense>,
}

/// A layer of it.
pub(super) struct GpuLayer {
    pub(super) attn_norm: Buffer<f32>,
    pub(super) qkv: Group,
    pub(super) q_norm: Option<Buffer<f32>>,
    pub(super) k_norm: Option<Buffer<f32>>,
    pub(super) attn_sub_norm: Option<Buffer<f32>>,
    pub(super) o: Group,
    pub(super) ffn_norm: Buffer<f32>,
    pub(super) gate_up: Group,
    pub(super) ffn_sub_norm: Option<Buffer<f32>>,
    pub(super) down: Group,
}

/// Projections of the same input: one layer where they can be joined, which saves launches, else one after another.
pub(super) struct Group {
    pub(super) parts: Vec<Part>,
    /// Values of the input.
    pub(super) cols: usize,
    /// Where the outputs of each role begin: in which part, and from which value on.
    roles: Vec<(usize, usize)>,
}

/// A layer and what belongs to it.
pub(super) struct Part {
    pub(super) layer: Linear,
    pub(super) bias: Option<Buffer<f32>>,
    /// A norm of this part's input, after the layer's.
    pub(super) norm: Option<Buffer<f32>>,
}

impl Group {
    /// Where the outputs of the `role`-th of q, k, v or gate, up begin.
    pub(super) fn place(&self, role: usize) -> (usize, usize) {
        self.roles[role]
    }

    /// Copies projections to the GPU; `widths` are the outputs of each role.
    fn upload(device: &Device, stream: &Stream, file: &File, from: &Projections, widths: &[usize]) -> Result<Self> {
        let mut parts = Vec::new();
        for part in &from.parts {
            if !part.weight.is_ternary() {
                let error =
                    Error::new(Kind::Unsupported, "a projection", "trits, on a GPU", "numbers that were left dense");
                return Err(error.remedy("run it on the CPU (--device cpu)"));
            }
            let vector = |v: &Option<Vec<f32>>| v.as_ref().map(|v| device.upload(v)).transpose();
            let layer = Linear::upload(device, &part.weight.validated(file)).map_err(told)?;
            parts.push(Part {
                layer,
                bias: vector(&part.bias).map_err(told)?,
                norm: vector(&part.norm).map_err(told)?,
            });
        }
        let alike = parts.len() > 1 && parts.iter().all(|p| p.norm.is_none());
        let biases = from.parts.iter().any(|p| p.bias.is_some());
        let joined = alike && {
            let layers: Vec<&Linear> = parts.iter().map(|p| &p.layer).collect();
            Linear::can_join(&layers)
        };
        if joined {
            let layers = parts.drain(..).map(|p| p.layer).collect();
            let layer = Linear::join(stream, layers).map_err(told)?;
            let bias: Vec<f32> =
                from.parts.iter().flat_map(|p| p.bias.clone().unwrap_or_else(|| vec![0.0; p.weight.rows])).collect();
            let bias = if biases { Some(device.upload(&bias).map_err(told)?) } else { None };
            parts.push(Part { layer, bias, norm: None });
        }
        let mut roles = Vec::new();
        let mut before = 0;
        for (role, width) in widths.iter().enumerate() {
            roles.push(if parts.len() == 1 { (0, before) } else { (role, 0) });
            before += width;
        }
        Ok(Self { parts, cols: from.cols, roles })
    }
}

impl Gpu {
    /// Opens the first GPU and copies a model to it.
    pub(crate) fn new(model: &Loaded) -> Result<Self> {
        let device = Device::open(0).map_err(told)?;
        let (config, plan, file) = (&model.config, &model.plan, &model.file);
        let heads = Heads {
            heads: config.heads,
            kv_heads: config.kv_heads,
            dim: config.head_dim,
            window: config.window,
            interleaved: config.pairing == Pairing::Interleaved,
            eps: config.norm_eps,
        };
        heads.check().map_err(told)?;
        let stream = device.stream().map_err(told)?;
        let (q, kv, inner) = (config.q_width(), config.kv_width(), config.intermediate);
        let layer = |layer: &Layer| -> Result<GpuLayer> {
            let vector = |v: &[f32]| device.upload(v).map_err(told);
            let optional = |v: &Option<Vec<f32>>| v.as_ref().map(|v| device.upload(v)).transpose().map_err(told);
            let group = |from: &Projections, widths: &[usize]| Group::upload(&device, &stream, file, from, widths);
            Ok(GpuLayer {
                attn_norm: vector(&layer.attn_norm)?,
                qkv: group(&layer.qkv, &[q, kv, kv])?,
                q_norm: optional(&layer.q_norm)?,
                k_norm: optional(&layer.k_norm)?,
                attn_sub_norm: optional(&layer.attn_sub_norm)?,
                o: group(&layer.o, &[config.hidden])?,
                ffn_norm: vector(&layer.ffn_norm)?,
                gate_up: group(&layer.gate_up, &[inner, inner])?,
                ffn_sub_norm: optional(&layer.ffn_sub_norm)?,
                down: group(&layer.down, &[config.hidden])?,
            })
        };
        let dense = |weight: &crate::tensor::Weight| Dense::upload(&device, &weight.validated(file)).map_err(told);
        Ok(Self {
            heads,
            activation: match config.activation {
                CpuActivation::Silu => Activation::Silu,
                CpuActivation::Relu2 => Activation::Relu2,
                CpuActivation::Gelu => Activation::Gelu,
            },
            input_bits: config.activation_bits,
            eps: config.norm_eps,
            embed: dense(&plan.embed)?,
            layers: plan.layers.iter().map(layer).collect::<Result<_>>()?,
            norm: device.upload(&plan.norm).map_err(told)?,
            head: plan.head.as_ref().map(dense).transpose()?,
            device,
        })
    }

    pub(super) fn head(&self) -> &Dense {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// The GPU's name.
    pub(crate) fn name(&self) -> &str {
        self.device.name()
    }

    /// All groups of projections.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.layers.iter().flat_map(|l| [&l.qkv, &l.o, &l.gate_up, &l.down])
    }
}

/// Whether there is a GPU that could be asked for: what [`crate::Device::Auto`] wants to know before it copies a model.
pub(crate) fn is_there() -> bool {
    !matches!(Device::open(0), Err(DeviceError::NoDriver(_) | DeviceError::NoDevice { .. }))
}
