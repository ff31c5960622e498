//! Ternary layers on the GPU: `y = Σ trit · x × row scale × token scale (+ bias) (+ residual)`.
//!
//! ```text
//! Validated ── upload ──▶ Linear ── forward ──▶ which kernel, by tokens and shape ──▶ launch
//!   nm-vi: as stored      t2: repacked on the GPU        nm-6b, t5: decoded and encoded again on the CPU
//! ```
//!
//! Activations are int8 rows as wide as the layer's *stored columns*: for windows the gathered inputs, and for at most [`DECODE_TOKENS`] tokens permuted as the
//! decode kernels read them. Quantising, gathering and permuting is not done here.

use std::convert::Infallible;

use sbnc_format::{Encoding, Order, Packing, Pattern, Validated};

use super::abi::{LinearArgs, RepackArgs};
use super::buffer::Buffer;
use super::device::Device;
use super::error::{DeviceError, Result};
use super::images;
use super::launch::{Grid, Stream};
use super::many;
use super::plan::{self, Choice};
use super::quantise::Activation;

/// The most tokens for which inputs are permuted within each 64 columns: position 16c + 4i + e holds column 16i + 4c + e.
pub const DECODE_TOKENS: usize = 16;

/// Rows that the stored weights are padded to, so that every tile of every kernel lies in memory.
const ROWS_PADDED: usize = 256;
/// Bytes of a tile of 16 rows × 128 columns.
const TILE: usize = 512;
/// A lane's bytes of a tile of zeros.
const ZERO_SPARSE: [u32; 4] = [0x8888_8888, 0x4444_4444, 0x8888_8888, 0x4444_4444];

/// A ternary layer in a GPU's memory.
#[derive(Debug)]
pub struct Linear {
    device: Device,
    weights: Buffer<u32>,
    row_scales: Buffer<f32>,
    shape: Shape,
    pattern: Pattern,
    windowed: bool,
}

/// The same of a dense tile.
const ZERO_DENSE: [u32; 4] = [0x8888_8888; 4];

/// What decides which kernel computes a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Outputs.
    pub(crate) rows: usize,
    /// Columns as stored: a multiple of 128.
    pub(crate) cols: usize,
    /// Whether the tiles are 2:4 sparse.
    pub(crate) sparse: bool,
}

impl Shape {
    /// No sum is larger in magnitude: as many products as a row can have non-zeros, each at most 128.
    pub(crate) fn sum_bound(self) -> u64 {
        (if self.sparse { self.cols / 2 } else { self.cols }) as u64 * 128
    }
}

/// Quantised activations on the GPU.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// A row of as many values as the layer has stored columns for each token.
    pub values: &'a Buffer<i8>,
    /// A multiplier for each token.
    pub scales: &'a Buffer<f32>,
    /// How many tokens.
    pub tokens: usize,
}

/// Where a layer's output goes: a row of as many values as the layer has rows for each token.
#[derive(Debug)]
pub enum Output<'a> {
    /// bf16.
    Bf16(&'a mut Buffer<u16>),
    /// f32.
    F32(&'a mut Buffer<f32>),
    /// f32 values, to which the layer's are added: a residual stream.
    Add(&'a mut Buffer<f32>),
    /// The sums, before any scale, bias or residual.
    Sums(&'a mut Buffer<i32>),
}

/// What is added to a layer's output before it is rounded: a bias in f32, a residual in bf16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A value for each row.
    pub bias: Option<&'a Buffer<f32>>,
    /// Values laid out as the output.
    pub residual: Option<&'a Buffer<u16>>,
}

impl Output<'_> {
    fn kind(&self) -> u32 {
        match self {
            Self::Bf16(_) => 0,
            Self::F32(_) => 1,
            Self::Sums(_) => 2,
            Self::Add(_) => 3,
        }
    }

    fn place(&self) -> (u64, usize) {
        match self {
            Self::Bf16(buffer) => (buffer.address(), buffer.len()),
            Self::F32(buffer) | Self::Add(buffer) => (buffer.address(), buffer.len()),
            Self::Sums(buffer) => (buffer.address(), buffer.len()),
        }
    }
}

impl Linear {
    /// Copies a checked tensor to the GPU: `nm-vi` as it is stored, t2 repacked on the GPU, nm-6b and t5 decoded and encoded again on the CPU, which takes time.
    pub fn upload(device: &Device, tensor: &Validated<'_>) -> Result<Self> {
        let (rows, cols) = tensor.matrix();
        let (weights, cols, sparse) = match (tensor.encoding(), tensor.order()) {
            (Encoding::NmVi, order) => {
                let width = if order == Order::Windows { windows_width(cols, tensor.pattern()) } else { cols };
                let width = width.next_multiple_of(128);
                (padded(device, bytemuck::cast_slice(&words(tensor.data())), rows, width, ZERO_SPARSE)?, width, true)
            }
            (Encoding::Nm6b, _) => {
                let data = encoded(tensor, Encoding::NmVi, Order::Fragments);
                let width = cols.next_multiple_of(128);
                (padded(device, bytemuck::cast_slice(&words(&data)), rows, width, ZERO_SPARSE)?, width, true)
            }
            (Encoding::T2, _) => (repacked(device, tensor.data(), rows, cols)?, cols.next_multiple_of(128), false),
            (Encoding::T5, _) => {
                let data = encoded(tensor, Encoding::T2, Order::Rows);
                (repacked(device, &data, rows, cols)?, cols.next_multiple_of(128), false)
            }
            (other, _) => {
                let what = format!("a layer of encoding {} is not ternary", other.name());
                return Err(DeviceError::Misuse(what));
            }
        };
        Ok(Self {
            device: device.clone(),
            weights,
            row_scales: device.upload(&tensor.scales())?,
            shape: Shape { rows, cols, sparse },
            pattern: tensor.pattern(),
            windowed: tensor.order() == Order::Windows,
        })
    }

    /// Whether layers that read the same inputs can be [joined](Self::join).
    pub fn can_join(parts: &[&Self]) -> bool {
        let Some((last, others)) = parts.split_last() else { return false };
        let like_last = |p: &&Self| {
            let same =
                (p.shape.cols, p.shape.sparse, p.windows()) == (last.shape.cols, last.shape.sparse, last.windows());
            same && p.shape.rows.is_multiple_of(16)
        };
        others.iter().all(like_last)
    }

    /// One layer with the outputs of all parts, one after another. One launch then does the work of several.
    pub fn join(stream: &Stream, parts: Vec<Self>) -> Result<Self> {
        if !Self::can_join(&parts.iter().collect::<Vec<_>>()) {
            return Err(DeviceError::Misuse("layers of different columns or patterns cannot be joined".to_owned()));
        }
        let device = stream.device().clone();
        let (cols, rows) = (parts[0].shape.cols, parts.iter().map(|p| p.shape.rows).sum::<usize>());
        let words = |rows: usize| rows.div_ceil(16) * (cols / 128) * TILE / 4;
        let mut weights = device.alloc(words(rows.next_multiple_of(ROWS_PADDED)))?;
        let mut row_scales = device.alloc(rows)?;
        let mut before = 0;
        for part in &parts {
            weights.copy_from(words(before), &part.weights, words(part.shape.rows), stream)?;
            row_scales.copy_from(before, &part.row_scales, part.shape.rows, stream)?;
            before += part.shape.rows;
        }
        let zero = if parts[0].shape.sparse { ZERO_SPARSE } else { ZERO_DENSE };
        weights.fill_at(words(rows), &zero.repeat((weights.len() - words(rows)) / 4))?;
        stream.synchronize()?;
        let shape = Shape { rows, ..parts[0].shape };
        Ok(Self { device, weights, row_scales, shape, pattern: parts[0].pattern, windowed: parts[0].windowed })
    }

    /// Outputs of the layer.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Values of a row of activations: the inputs, or the gathered inputs of windows, up to a multiple of 128.
    pub fn stored_cols(&self) -> usize {
        self.shape.cols
    }

    /// The pattern by which inputs are gathered into windows, if they are.
    pub fn windows(&self) -> Option<Pattern> {
        self.windowed.then_some(self.pattern)
    }

    /// Bytes of the GPU's memory that the weights take.
    pub fn bytes(&self) -> usize {
        4 * self.weights.len() + 4 * self.row_scales.len()
    }

    /// Computes the layer in a stream, with the kernel that was measured to be fastest for its shape and the tokens.
    pub fn forward(&self, stream: &Stream, x: Activations<'_>, out: Output<'_>, epilogue: Epilogue<'_>) -> Result<()> {
        if x.tokens == 0 {
            return Err(DeviceError::Misuse("no tokens".to_owned()));
        }
        self.forward_with(plan::choose(&self.device, self.shape, x.tokens), stream, x, out, epilogue)
    }

    /// All kernels that can compute the layer for so many tokens, for tuning.
    pub fn choices(&self, tokens: usize) -> Vec<Choice> {
        plan::choices(&self.device, self.shape, tokens)
    }

    /// Computes the layer with one of [`choices`](Self::choices).
    pub fn forward_with(
        &self,
        choice: Choice,
        stream: &Stream,
        x: Activations<'_>,
        mut out: Output<'_>,
        epilogue: Epilogue<'_>,
    ) -> Result<()> {
        self.check(x, &mut out, epilogue)?;
        let args = self.args(x, &mut out, epilogue);
        choice.launch(&self.device, self.shape, stream, &args)
    }

    /// Whether [`forward_gated`](Self::forward_gated) takes this layer.
    pub fn takes_gated(&self) -> bool {
        many::gated_tile(&self.device, self.shape, DECODE_TOKENS + 1).is_some()
    }

    /// Computes a layer whose first half of rows are gates of the second, for more than [`DECODE_TOKENS`] tokens, and writes activation(gate) · up in bf16.
    pub fn forward_gated(
        &self,
        stream: &Stream,
        x: Activations<'_>,
        activation: Activation,
        out: &mut Buffer<u16>,
        bias: Option<&Buffer<f32>>,
    ) -> Result<()> {
        let tile = many::gated_tile(&self.device, self.shape, x.tokens).filter(|_| x.tokens > DECODE_TOKENS);
        let Some(tile) = tile else {
            let what = format!("no kernel computes {} gates for {} tokens", self.shape.rows, x.tokens);
            return Err(DeviceError::Misuse(what));
        };
        let (mut out, epilogue) = (Output::Bf16(out), Epilogue { bias, residual: None });
        self.check_inputs(x)?;
        self.check_outputs(x.tokens, x.tokens * self.shape.rows / 2, &mut out, epilogue)?;
        let args = LinearArgs { activation: activation as u32, ..self.args(x, &mut out, epilogue) };
        tile.launch(&self.device, self.shape, stream, &args, true)
    }

    /// What kernels are told.
    fn args(&self, x: Activations<'_>, out: &mut Output<'_>, epilogue: Epilogue<'_>) -> LinearArgs {
        LinearArgs {
            weights: self.weights.address(),
            x: x.values.address(),
            token_scales: x.scales.address(),
            row_scales: self.row_scales.address(),
            bias: epilogue.bias.map_or(0, Buffer::address),
            residual: epilogue.residual.map_or(0, Buffer::address),
            out: out.place().0,
            rows: self.shape.rows as u32,
            cols: self.shape.cols as u32,
            stride: self.shape.cols as u32,
            tokens: x.tokens as u32,
            kind: out.kind(),
            ..LinearArgs::default()
        }
    }

    fn check(&self, x: Activations<'_>, out: &mut Output<'_>, epilogue: Epilogue<'_>) -> Result<()> {
        self.check_inputs(x)?;
        self.check_outputs(x.tokens, x.tokens * self.shape.rows, out, epilogue)
    }

    fn check_inputs(&self, x: Activations<'_>) -> Result<()> {
        if x.values.len() < x.tokens * self.shape.cols {
            return self.too_short("activations", x.tokens, x.values.len(), x.tokens * self.shape.cols);
        }
        if x.scales.len() < x.tokens {
            return self.too_short("token scales", x.tokens, x.scales.len(), x.tokens);
        }
        Ok(())
    }

    fn too_short(&self, what: &str, tokens: usize, found: usize, wanted: usize) -> Result<()> {
        let Shape { rows, cols, .. } = self.shape;
        let what = format!("{what} of {found} values, and {tokens} tokens of a {rows} × {cols} layer need {wanted}");
        Err(DeviceError::Misuse(what))
    }

    /// Whether there is room for so many outputs, and what is added to them is as long.
    fn check_outputs(&self, tokens: usize, outputs: usize, out: &mut Output<'_>, epilogue: Epilogue<'_>) -> Result<()> {
        let too_short = |what: &str, found, wanted| self.too_short(what, tokens, found, wanted);
        if out.place().1 < outputs {
            return too_short("an output", out.place().1, outputs);
        }
        if let Some(bias) = epilogue.bias.filter(|b| b.len() < self.shape.rows) {
            return too_short("a bias", bias.len(), self.shape.rows);
        }
        if let Some(residual) = epilogue.residual.filter(|r| r.len() < outputs) {
            return too_short("a residual", residual.len(), outputs);
        }
        Ok(())
    }
}

/// Columns of the expanded matrix of a windowed tensor.
fn windows_width(cols: usize, pattern: Pattern) -> usize {
    pattern.windows().map_or(cols, |windows| cols / pattern.m() * windows * 4)
}

/// Little-endian bytes as the words that kernels read; borrowed where they lie well.
fn words(bytes: &[u8]) -> std::borrow::Cow<'_, [u32]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(words) if cfg!(target_endian = "little") => std::borrow::Cow::Borrowed(words),
        _ => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
    }
}

/// Tiles as they are, and tiles of zeros up to a multiple of `ROWS_PADDED` rows.
fn padded(device: &Device, tiles: &[u32], rows: usize, cols: usize, zero: [u32; 4]) -> Result<Buffer<u32>> {
    let words = rows.next_multiple_of(ROWS_PADDED) / 16 * (cols / 128) * TILE / 4;
    let mut weights = device.alloc(words)?;
    weights.fill_at(0, tiles)?;
    weights.fill_at(tiles.len(), &zero.repeat((words - tiles.len()) / 4))?;
    Ok(weights)
}

/// Rows of `t2` as dense tiles.
fn repacked(device: &Device, data: &[u8], rows: usize, cols: usize) -> Result<Buffer<u32>> {
    let (tile_rows, tile_cols) = (rows.next_multiple_of(ROWS_PADDED) / 16, cols.div_ceil(128));
    let source = device.upload(data)?;
    let tiles = device.alloc::<u32>(tile_rows * tile_cols * TILE / 4)?;
    let args = RepackArgs {
        trits: source.address(),
        tiles: tiles.address(),
        rows: rows as u32,
        row_bytes: cols.div_ceil(4) as u32,
        tile_rows: tile_rows as u32,
        tile_cols: tile_cols as u32,
    };
    let kernel = device.kernel(&images::REPACK, "repack_t2", 0)?;
    let stream = device.stream()?;
    let blocks = (tile_rows * tile_cols).div_ceil(8) as u32;
    // SAFETY: the kernel takes this struct, reads `rows` rows of the source and writes every tile; both outlive the wait below.
    unsafe {
        stream.launch(kernel, Grid { blocks: [blocks, 1, 1], threads: 256, overlap: false, cluster: 1 }, &[&args])
    }?;
    stream.synchronize()?;
    Ok(tiles)
}

/// The data of a tensor in another encoding of the same trits.
fn encoded(tensor: &Validated<'_>, to: Encoding, order: Order) -> Vec<u8> {
    let (rows, cols) = tensor.matrix();
    let packing = Packing { encoding: to, order, pattern: tensor.pattern() };
    let strip = packing.strip(cols);
    let mut out = vec![0; rows.div_ceil(strip.rows) * strip.bytes];
    let mut trits = Vec::with_capacity(rows * cols);
    let Ok(()) = tensor.packing().decode_batches(tensor.data(), (rows, cols), |_, piece| {
        trits.extend_from_slice(piece);
        Ok::<_, Infallible>(())
    });
    // A checked tensor has no group that the other encoding could not hold.
    let whole = packing.encode(&trits, cols, &mut out);
    debug_assert!(whole.is_ok());
    out
}
