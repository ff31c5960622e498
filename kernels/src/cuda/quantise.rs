//! What comes before a ternary layer: the norm, the activation of gated layers, the last step of attention, and int8 in the order that the layer's kernel reads.

use sbnc_format::Pattern;

use super::abi::QuantiseArgs;
use super::attention::Parts;
use super::buffer::Buffer;
use super::dense::fits;
use super::device::Device;
use super::error::{DeviceError, Result};
use super::images;
use super::launch::{Grid, Stream};
use super::linear::{Activations, DECODE_TOKENS, Linear};

/// Values of some rows: from `first` on in every `stride` values of a buffer. Both are multiples of 8.
#[derive(Debug)]
pub struct Columns<'a, T> {
    /// The buffer.
    pub buffer: &'a Buffer<T>,
    /// Where a row's values begin.
    pub first: usize,
    /// From row to row.
    pub stride: usize,
}

impl<T> Clone for Columns<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Columns<'_, T> {}

impl<'a, T: bytemuck::Pod> Columns<'a, T> {
    /// Rows that fill the buffer.
    pub fn rows(buffer: &'a Buffer<T>, cols: usize) -> Self {
        Self { buffer, first: 0, stride: cols }
    }

    /// Where they begin, if there are so many.
    pub(crate) fn address(&self, what: &str, rows: usize, cols: usize) -> Result<u64> {
        let Self { buffer, first, stride } = *self;
        if !first.is_multiple_of(8) || !stride.is_multiple_of(8) {
            return Err(DeviceError::Misuse(format!(
                "{what}: rows from {first} on, {stride} apart; both must be multiples of 8"
            )));
        }
        fits(what, buffer.len(), first + (rows.max(1) - 1) * stride + cols)?;
        Ok(buffer.address() + (first * size_of::<T>()) as u64)
    }
}

/// The function of a gated feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// The square of the positive part.
    Relu2,
    /// x · Φ(x), of the normal distribution Φ itself.
    Gelu,
}

/// Where activations come from.
#[derive(Debug)]
pub enum Source<'a> {
    /// f32 rows.
    F32(Columns<'a, f32>),
    /// f16 rows.
    F16(Columns<'a, u16>),
    /// bf16 rows.
    Bf16(Columns<'a, u16>),
    /// activation(gate) · up.
    Gated(Activation, Columns<'a, f32>, Columns<'a, f32>),
    /// The same of bf16.
    GatedBf16(Activation, Columns<'a, u16>, Columns<'a, u16>),
    /// What attention over parts of the keys left behind.
    Parts(&'a Parts),
}

/// An RMS norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// A factor for each column.
    pub weight: &'a Buffer<f32>,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// int8 activations, as long as the layers that read them need.
#[derive(Debug)]
pub struct Quantised {
    values: Buffer<i8>,
    scales: Buffer<f32>,
}

impl Quantised {
    /// Room for `tokens` rows of a layer's [`stored_cols`](Linear::stored_cols).
    pub fn new(device: &Device, tokens: usize, stored_cols: usize) -> Result<Self> {
        Ok(Self { values: device.alloc(tokens * stored_cols)?, scales: device.alloc(tokens)? })
    }

    /// The activations of the last quantisation, of so many tokens.
    pub fn view(&self, tokens: usize) -> Activations<'_> {
        Activations { values: &self.values, scales: &self.scales, tokens }
    }
}

/// How a layer wants its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    padded: usize,
    windows: Option<Pattern>,
}

impl Order {
    /// The order that a layer reads.
    pub fn of(layer: &Linear) -> Self {
        Self { padded: layer.stored_cols(), windows: layer.windows() }
    }
}

/// Quantises `tokens` rows of `cols` values to 8 or 4 bits.
pub fn quantise(
    stream: &Stream,
    source: &Source<'_>,
    (tokens, cols): (usize, usize),
    norm: Option<Norm<'_>>,
    bits: u32,
    order: Order,
    out: &mut Quantised,
) -> Result<()> {
    fits("quantised rows", out.values.len(), tokens * order.padded)?;
    fits("token scales", out.scales.len(), tokens)?;
    let m = order.windows.map_or(0, Pattern::m);
    let width = order.windows.and_then(|p| p.windows()).map_or(cols, |windows| cols / m.max(1) * windows * 4);
    if width > order.padded || (m > 0 && !cols.is_multiple_of(m)) {
        let what = format!("a layer of {} stored columns does not take {cols} inputs", order.padded);
        return Err(DeviceError::Misuse(what));
    }
    let args = QuantiseArgs {
        out: out.values.address(),
        scale: out.scales.address(),
        padded: order.padded as u32,
        windows_of: m as u32,
        order: u32::from(tokens <= DECODE_TOKENS),
        bits,
        ..QuantiseArgs::default()
    };
    launch(stream, source, (tokens, cols), norm, args)
}

/// Normalises rows without quantising them.
pub fn normalise(
    stream: &Stream,
    source: &Source<'_>,
    (tokens, cols): (usize, usize),
    norm: Option<Norm<'_>>,
    out: &mut Buffer<f32>,
) -> Result<()> {
    fits("normalised rows", out.len(), tokens * cols)?;
    launch(stream, source, (tokens, cols), norm, QuantiseArgs { plain: out.address(), ..QuantiseArgs::default() })
}

/// Normalises the rows of `x` that `rows` names, all of which are below `among`: what is in that buffer is its maker's business.
pub fn normalise_some(
    stream: &Stream,
    x: Columns<'_, f32>,
    (rows, among): (&Buffer<u32>, usize),
    (tokens, cols): (usize, usize),
    norm: Norm<'_>,
    out: &mut Buffer<f32>,
) -> Result<()> {
    fits("normalised rows", out.len(), tokens * cols)?;
    x.address("rows to choose from", among, cols)?;
    fits("chosen rows", rows.len(), tokens)?;
    let args = QuantiseArgs { plain: out.address(), rows: rows.address(), ..QuantiseArgs::default() };
    launch(stream, &Source::F32(x), (tokens, cols), Some(norm), args)
}

fn launch(
    stream: &Stream,
    source: &Source<'_>,
    (tokens, cols): (usize, usize),
    norm: Option<Norm<'_>>,
    mut args: QuantiseArgs,
) -> Result<()> {
    let device = stream.device();
    let rows = if args.rows == 0 { tokens } else { 1 };
    let name = match source {
        Source::F32(x) => {
            args.x = x.address("activations", rows, cols)?;
            args.stride = x.stride as u32;
            "quantise_f32"
        }
        Source::F16(x) | Source::Bf16(x) => {
            args.x = x.address("activations", rows, cols)?;
            args.stride = x.stride as u32;
            if matches!(source, Source::F16(_)) { "quantise_f16" } else { "quantise_bf16" }
        }
        Source::Gated(activation, gate, up) => {
            (args.x, args.up) = (gate.address("gates", rows, cols)?, up.address("up projections", rows, cols)?);
            (args.stride, args.up_stride, args.activation) = (gate.stride as u32, up.stride as u32, *activation as u32);
            "quantise_gated_f32"
        }
        Source::GatedBf16(activation, gate, up) => {
            (args.x, args.up) = (gate.address("gates", rows, cols)?, up.address("up projections", rows, cols)?);
            (args.stride, args.up_stride, args.activation) = (gate.stride as u32, up.stride as u32, *activation as u32);
            "quantise_gated_bf16"
        }
        Source::Parts(parts) => {
            parts.describe(&mut args, tokens, cols)?;
            "quantise_parts"
        }
    };
    if let Some(norm) = norm {
        fits("a norm's weight", norm.weight.len(), cols)?;
        (args.weight, args.eps) = (norm.weight.address(), norm.eps);
    }
    // A thread of the kernel takes chunks of 8 values; those that put parts together have fewer threads.
    let most = if matches!(source, Source::Parts(_)) { 512 } else { 1024 };
    let chunks = [1, 2, 4].into_iter().find(|chunks| cols <= 8 * most * chunks);
    let Some(chunks) = chunks.filter(|_| cols.is_multiple_of(8) && cols > 0) else {
        let what = format!(
            "rows of {cols} values: the GPU's kernels take multiples of 8 up to {}; run on the CPU (--device cpu)",
            32 * most
        );
        return Err(DeviceError::Misuse(what));
    };
    args.cols = cols as u32;
    let kernel = device.kernel(&images::QUANTISE, &format!("{name}_{chunks}"), cols as u32)?;
    let threads = (cols / 8).div_ceil(chunks).next_multiple_of(32) as u32;
    let grid = Grid { blocks: [tokens as u32, 1, 1], threads, overlap: device.can_overlap(), cluster: 1 };
    // SAFETY: the kernel takes this struct; inputs, outputs and weights are as long as tokens and columns say, rows begin at multiples of 8 values, and the grid is the contract's.
    unsafe { stream.launch(kernel, grid, &[&args]) }
}
