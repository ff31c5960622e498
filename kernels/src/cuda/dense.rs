//! Matrices of plain numbers on the GPU: the embedding, and the output head, which may be the same.
//!
//! ```text
//! ids ── embed ──▶ rows of f32          normalised rows ── logits ──▶ logits, and where few tokens: the largest of each
//! ```

use sbnc_format::{Encoding, Validated};

use super::abi::{EmbedArgs, HeadArgs};
use super::buffer::Buffer;
use super::device::Device;
use super::error::{DeviceError, Result};
use super::images;
use super::launch::{Grid, Stream};

/// The most tokens of the kernel that keeps them all in shared memory and finds the largest logits on the way.
pub const FEW_TOKENS: usize = 16;
/// Threads of a block of the head's kernels, but for many tokens.
const THREADS: u32 = 256;

/// What a matrix is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Bf16,
    I8,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }
}

/// A matrix of f32, f16, bf16 or int8 with a multiplier a row.
#[derive(Debug)]
pub struct Dense {
    device: Device,
    values: Buffer<u8>,
    scales: Option<Buffer<f32>>,
    kind: Kind,
    rows: usize,
    cols: usize,
}

/// Room for logits and for what their kernels leave behind.
#[derive(Debug)]
pub struct Logits {
    /// A row of the vocabulary for each token.
    pub values: Buffer<f32>,
    halves: Buffer<u16>,
    best: Buffer<f32>,
    best_row: Buffer<u32>,
    /// Blocks that looked for the largest logit, or 0.
    pub(crate) blocks: u32,
}

impl Logits {
    /// Room for the logits of `tokens` rows of a head.
    pub fn new(head: &Dense, tokens: usize) -> Result<Self> {
        let device = &head.device;
        let best = 2 * device.multiprocessors() as usize * tokens.min(FEW_TOKENS);
        let halves = if head.takes_fast_kernels() { 2 * tokens * head.cols } else { 0 };
        Ok(Self {
            values: device.alloc(tokens * head.rows)?,
            halves: device.alloc(halves)?,
            best: device.alloc(best)?,
            best_row: device.alloc(best)?,
            blocks: 0,
        })
    }

    pub(crate) fn best(&self) -> (u64, u64) {
        (self.best.address(), self.best_row.address())
    }
}

impl Dense {
    /// Copies a checked matrix to the GPU.
    pub fn upload(device: &Device, tensor: &Validated<'_>) -> Result<Self> {
        let (rows, cols) = tensor.matrix();
        let kind = match tensor.encoding() {
            Encoding::F32 => Kind::F32,
            Encoding::F16 => Kind::F16,
            Encoding::Bf16 => Kind::Bf16,
            Encoding::I8 => Kind::I8,
            other => return Err(DeviceError::Misuse(format!("a matrix of encoding {} is ternary", other.name()))),
        };
        if !cols.is_multiple_of(8) {
            let what =
                format!("rows of {cols} values: the GPU's kernels take multiples of 8; run on the CPU (--device cpu)");
            return Err(DeviceError::Misuse(what));
        }
        let scales = tensor.scales();
        let scales = if scales.is_empty() { None } else { Some(device.upload(&scales)?) };
        Ok(Self { device: device.clone(), values: device.upload(tensor.data())?, scales, kind, rows, cols })
    }

    /// Rows: the vocabulary.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the GPU's memory that it takes.
    pub fn bytes(&self) -> usize {
        self.values.len() + 4 * self.scales.as_ref().map_or(0, Buffer::len)
    }

    /// Writes the row of each token as f32. The ids must be below [`rows`](Self::rows); who sends them checks that.
    pub fn embed(&self, stream: &Stream, ids: &Buffer<u32>, tokens: usize, out: &mut Buffer<f32>) -> Result<()> {
        fits("tokens", ids.len(), tokens)?;
        fits("an embedding's output", out.len(), tokens * self.cols)?;
        let args = EmbedArgs {
            table: self.values.address(),
            scale: self.scales.as_ref().map_or(0, Buffer::address),
            ids: ids.address(),
            out: out.address(),
            cols: self.cols as u32,
            reserved: 0,
        };
        let kernel = self.device.kernel(&images::EMBED, &format!("embed_{}", self.kind.name()), 0)?;
        let grid =
            Grid { blocks: [tokens as u32, 1, 1], threads: THREADS, overlap: self.device.can_overlap(), cluster: 1 };
        // SAFETY: the kernel takes this struct; ids and output are as long as the tokens say, and rows are a multiple of 8 long, as `upload` checked.
        unsafe { stream.launch(kernel, grid, &[&args]) }
    }

    fn takes_fast_kernels(&self) -> bool {
        self.kind != Kind::F32 && self.cols.is_multiple_of(64)
    }

    /// Groups of 4 tokens of the kernel for few tokens and its shared memory, where it takes so many.
    fn few(&self, tokens: usize) -> Option<(usize, u32)> {
        let groups = tokens.div_ceil(4).next_power_of_two();
        let padding = if self.kind == Kind::I8 { 16 } else { 64 };
        let shared = groups * 8 * (2 * self.cols + padding);
        let possible = tokens <= FEW_TOKENS && shared + 2048 <= self.device.shared_bytes() as usize;
        possible.then_some((groups, shared as u32))
    }

    /// Computes the logits of normalised rows of `x`.
    pub fn logits(&self, stream: &Stream, x: &Buffer<f32>, tokens: usize, out: &mut Logits) -> Result<()> {
        fits("normalised rows", x.len(), tokens * self.cols)?;
        fits("logits", out.values.len(), tokens * self.rows)?;
        let args = HeadArgs {
            weights: self.values.address(),
            scale: self.scales.as_ref().map_or(0, Buffer::address),
            x: x.address(),
            halves: out.halves.address(),
            logits: out.values.address(),
            best: out.best.address(),
            best_row: out.best_row.address(),
            rows: self.rows as u32,
            cols: self.cols as u32,
            tokens: tokens as u32,
            reserved: 0,
        };
        let overlap = self.device.can_overlap();
        let launch = |name: &str, blocks: [u32; 3], threads: u32, shared: u32| {
            let kernel = self.device.kernel(&images::HEAD, name, shared)?;
            // SAFETY: the kernels take this struct; the lengths were checked above and by `Logits::new`, and grids are those that each kernel's contract names.
            unsafe { stream.launch(kernel, Grid { blocks, threads, overlap, cluster: 1 }, &[&args]) }
        };
        let kind = self.kind.name();
        out.blocks = 0;
        if !self.takes_fast_kernels() {
            return launch(&format!("head_plain_{kind}"), [(self.rows as u32).div_ceil(8), 1, 1], THREADS, 0);
        }
        if let Some((groups, shared)) = self.few(tokens) {
            // Two blocks a multiprocessor, or one where they need the shared memory of both.
            let each = if groups < 4 && 2 * (shared + 2048) <= self.device.shared_bytes() { 2 } else { 1 };
            let blocks = (each * self.device.multiprocessors()).min((self.rows as u32).div_ceil(128));
            fits("room for the largest logits", out.best.len(), tokens * blocks as usize)?;
            out.blocks = blocks;
            return launch(&format!("head_few_{kind}_{groups}"), [blocks, 1, 1], THREADS, shared);
        }
        fits("room for halves", out.halves.len(), 2 * tokens * self.cols)?;
        launch(&format!("head_split_{kind}"), [tokens as u32, 1, 1], THREADS, 0)?;
        // Four stages of 128 rows and of two terms of 64 tokens, 64 columns of each.
        let shared = 4 * (128 + 2 * 64) * 64 * self.kind.bytes();
        let blocks = [(tokens as u32).div_ceil(64), (self.rows as u32).div_ceil(128), 1];
        launch(&format!("head_many_{kind}"), blocks, 128, shared as u32)
    }
}

/// Refuses a buffer that is too short.
pub(crate) fn fits(what: &str, found: usize, wanted: usize) -> Result<()> {
    if found >= wanted {
        return Ok(());
    }
    Err(DeviceError::Misuse(format!("{what}: {found} values, and {wanted} are needed")))
}
