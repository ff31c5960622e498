//! One decoder layer on the GPU, for steps of one token a sequence and for all others. Each is a list of launches in one stream.
//!
//! ```text
//! decode   norm+int8 · qkv · attention (rotates, stores, attends) · parts+norm+int8 · o+add · norm+int8 · gate up · gate+norm+int8 · down+add
//! prefill  the same with: … qkv · rotate+store · attention · norm+int8 …
//! ```

use sbnc_kernels::cuda::attention::{self, Projected, Where};
use sbnc_kernels::cuda::{
    Activation, Buffer, Columns, DeviceError, Epilogue, Linear, Norm, Order, Output, Quantised, Source, Stream,
    normalise, quantise,
};

use super::buffers::{Buffers, NARROW};
use super::weights::{Gpu, GpuLayer, Group};

type Result<T, E = DeviceError> = std::result::Result<T, E>;

/// Writes the first values of the residual stream.
pub(super) fn embed(gpu: &Gpu, buffers: &mut Buffers, rows: usize, stream: &Stream) -> Result<()> {
    gpu.embed.embed(stream, &buffers.ids, rows, &mut buffers.x)
}

/// A layer for one new token of each of `rows` sequences.
pub(super) fn decode(gpu: &Gpu, b: &mut Buffers, layer: usize, rows: usize, stream: &Stream) -> Result<()> {
    let parts = b.parts.as_mut().ok_or_else(|| DeviceError::Misuse("no kernels decode these heads".to_owned()))?;
    let (l, cache) = (&gpu.layers[layer], &mut b.caches[layer]);
    let at = Where { sequences: &b.sequences, positions: &b.positions, rows };
    let mut project = Project { rows, eps: gpu.eps, stream, quantised: &mut b.quantised, once: &mut b.once };
    project.narrow(
        &l.qkv,
        &Source::F32(Columns::rows(&b.x, l.qkv.cols)),
        Some(&l.attn_norm),
        gpu.input_bits,
        &mut b.projected,
    )?;
    attention::decode(stream, &gpu.heads, &b.places, at, &projected(&b.projected, l), cache, parts)?;
    project.add(&l.o, &Source::Parts(parts), l.attn_sub_norm.as_ref(), &mut b.x)?;
    let x = Source::F32(Columns::rows(&b.x, l.gate_up.cols));
    project.narrow(&l.gate_up, &x, Some(&l.ffn_norm), gpu.input_bits, &mut b.projected)?;
    let [gate, up] = [0, 1].map(|role| columns(&b.projected, &l.gate_up, role));
    project.add(&l.down, &Source::Gated(gpu.activation, gate, up), l.ffn_sub_norm.as_ref(), &mut b.x)
}

/// A layer for any rows.
pub(super) fn prefill(gpu: &Gpu, b: &mut Buffers, layer: usize, rows: usize, stream: &Stream) -> Result<()> {
    let (l, cache) = (&gpu.layers[layer], &mut b.caches[layer]);
    let at = Where { sequences: &b.sequences, positions: &b.positions, rows };
    let mut project = Project { rows, eps: gpu.eps, stream, quantised: &mut b.quantised, once: &mut b.once };
    let narrow = rows <= NARROW;

    let x = Source::F32(Columns::rows(&b.x, l.qkv.cols));
    if narrow {
        project.narrow(&l.qkv, &x, Some(&l.attn_norm), gpu.input_bits, &mut b.projected)?;
        attention::store(stream, &gpu.heads, &b.places, at, &projected(&b.projected, l), cache, &mut b.queries)?;
    } else {
        project.wide(&l.qkv, &x, Some(&l.attn_norm), gpu.input_bits, &mut b.projected_wide)?;
        attention::store(stream, &gpu.heads, &b.places, at, &projected(&b.projected_wide, l), cache, &mut b.queries)?;
    }
    attention::prefill(stream, &gpu.heads, &b.places, at, (&b.queries, &b.tiles), cache, &mut b.attention)?;
    let attended = Source::F16(Columns::rows(&b.attention, l.o.cols));
    project.add(&l.o, &attended, l.attn_sub_norm.as_ref(), &mut b.x)?;

    let x = Source::F32(Columns::rows(&b.x, l.gate_up.cols));
    if narrow {
        project.narrow(&l.gate_up, &x, Some(&l.ffn_norm), gpu.input_bits, &mut b.projected)?;
        let [gate, up] = [0, 1].map(|role| columns(&b.projected, &l.gate_up, role));
        project.add(&l.down, &Source::Gated(gpu.activation, gate, up), l.ffn_sub_norm.as_ref(), &mut b.x)
    } else {
        let wide = &mut b.projected_wide;
        let down = if project.gated(&l.gate_up, &x, &l.ffn_norm, gpu.input_bits, gpu.activation, &mut wide[0])? {
            Source::Bf16(Columns::rows(&wide[0], l.down.cols))
        } else {
            project.wide(&l.gate_up, &x, Some(&l.ffn_norm), gpu.input_bits, wide)?;
            let [gate, up] = [0, 1].map(|role| columns(wide, &l.gate_up, role));
            Source::GatedBf16(gpu.activation, gate, up)
        };
        project.add(&l.down, &down, l.ffn_sub_norm.as_ref(), &mut b.x)
    }
}

/// The outputs of a role, among those of all projections of the group.
fn columns<'a, T>(outputs: &'a [Buffer<T>; 3], group: &Group, role: usize) -> Columns<'a, T> {
    let (part, first) = group.place(role);
    Columns { buffer: &outputs[part], first, stride: group.parts[part].layer.rows() }
}

fn projected<'a, T>(outputs: &'a [Buffer<T>; 3], l: &'a GpuLayer) -> Projected<'a, T> {
    let [q, k, v] = [0, 1, 2].map(|role| columns(outputs, &l.qkv, role));
    Projected { q, k, v, q_norm: l.q_norm.as_ref(), k_norm: l.k_norm.as_ref() }
}

/// Linear layers of a step: what they read is quantised, once where they can share it.
struct Project<'a> {
    rows: usize,
    eps: f32,
    stream: &'a Stream,
    quantised: &'a mut Quantised,
    once: &'a mut Buffer<f32>,
}

impl Project<'_> {
    /// f32 outputs, one buffer for each part.
    fn narrow(
        &mut self,
        group: &Group,
        source: &Source<'_>,
        norm: Option<&Buffer<f32>>,
        bits: u32,
        out: &mut [Buffer<f32>; 3],
    ) -> Result<()> {
        self.each(group, source, norm, bits, |part, run| run(Output::F32(&mut out[part])))
    }

    /// bf16 outputs.
    fn wide(
        &mut self,
        group: &Group,
        source: &Source<'_>,
        norm: Option<&Buffer<f32>>,
        bits: u32,
        out: &mut [Buffer<u16>; 3],
    ) -> Result<()> {
        self.each(group, source, norm, bits, |part, run| run(Output::Bf16(&mut out[part])))
    }

    /// Gates and what they gate in one layer, whose outputs are gated at once, in bf16: whether that is possible.
    fn gated(
        &mut self,
        group: &Group,
        source: &Source<'_>,
        norm: &Buffer<f32>,
        bits: u32,
        activation: Activation,
        out: &mut Buffer<u16>,
    ) -> Result<bool> {
        let [part] = &group.parts[..] else { return Ok(false) };
        if part.norm.is_some() || !part.layer.takes_gated() {
            return Ok(false);
        }
        let norm = Some(Norm { weight: norm, eps: self.eps });
        quantise(self.stream, source, (self.rows, group.cols), norm, bits, Order::of(&part.layer), self.quantised)?;
        part.layer.forward_gated(self.stream, self.quantised.view(self.rows), activation, out, part.bias.as_ref())?;
        Ok(true)
    }

    /// Adds the outputs to the residual stream. The inputs of such layers are 8 bits wide in all models.
    fn add(
        &mut self,
        group: &Group,
        source: &Source<'_>,
        norm: Option<&Buffer<f32>>,
        x: &mut Buffer<f32>,
    ) -> Result<()> {
        self.each(group, source, norm, 8, |_, run| run(Output::Add(x)))
    }

    fn each(
        &mut self,
        group: &Group,
        source: &Source<'_>,
        norm: Option<&Buffer<f32>>,
        bits: u32,
        mut give: impl FnMut(usize, &mut dyn FnMut(Output<'_>) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let shape = (self.rows, group.cols);
        let eps = self.eps;
        // A norm of the layer and norms of the projections' own: the first is computed once.
        let twice = norm.is_some() && group.parts.iter().any(|p| p.norm.is_some());
        if twice {
            let norm = norm.map(|weight| Norm { weight, eps });
            normalise(self.stream, source, shape, norm, self.once)?;
        }
        let mut made: Option<&Linear> = None;
        for (i, part) in group.parts.iter().enumerate() {
            let layer = &part.layer;
            // Parts without norms of their own share what was quantised for one before them, if it lies as they want it.
            let shared = made.is_some_and(|before| part.norm.is_none() && Order::of(before) == Order::of(layer));
            if !shared {
                let order = Order::of(layer);
                let out = &mut *self.quantised;
                if twice {
                    let once = Source::F32(Columns::rows(self.once, group.cols));
                    quantise(
                        self.stream,
                        &once,
                        shape,
                        part.norm.as_ref().map(|weight| Norm { weight, eps }),
                        bits,
                        order,
                        out,
                    )?;
                } else {
                    quantise(
                        self.stream,
                        source,
                        shape,
                        part.norm.as_ref().or(norm).map(|weight| Norm { weight, eps }),
                        bits,
                        order,
                        out,
                    )?;
                }
                made = part.norm.is_none().then_some(layer);
            }
            let x = self.quantised.view(self.rows);
            let epilogue = Epilogue { bias: part.bias.as_ref(), residual: None };
            give(i, &mut |out| layer.forward(self.stream, x, out, epilogue))?;
        }
        Ok(())
    }
}
