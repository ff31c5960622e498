//! A layer of one token with what comes before it, in one launch: `src/single.cu`. Launches that wait for each other are what a step of one token is made of.

use super::abi::QuantiseArgs;
use super::buffer::Buffer;
use super::error::{DeviceError, Result};
use super::images;
use super::launch::{Grid, Stream};
use super::linear::{Epilogue, Linear, Output};
use super::quantise::{Activation, Norm, Order, Source, describe};

/// Most warps of a block.
const WARPS: usize = 20;
/// The kind of output of gates and what they gate.
const GATED: u32 = 4;

/// How a block shares out its work: tiles of 128 columns that a warp takes at a time, chunks of 8 inputs that a thread takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    tiles: usize,
    chunks: usize,
    warps: usize,
}

impl Split {
    /// What the source instantiates, where it is enough for a row of `inputs`, of which a layer stores `cols`.
    fn of(inputs: usize, cols: usize) -> Option<Self> {
        let tiles = if cols / 128 <= 2 * WARPS { 2 } else { 3 };
        let warps = (cols / 128).div_ceil(tiles).min(WARPS);
        let needed = (inputs / 8).div_ceil(32 * warps);
        let possible: &[usize] = if tiles == 2 { &[1] } else { &[2, 4] };
        let chunks = possible.iter().copied().find(|&chunks| needed <= chunks)?;
        Some(Self { tiles, chunks, warps })
    }
}

/// What one token's layer reads: values, their norm, and the bits that they are quantised to.
#[derive(Clone, Copy, Debug)]
pub struct Reads<'a> {
    /// The values.
    pub source: &'a Source<'a>,
    /// How many.
    pub inputs: usize,
    /// Of all of them.
    pub norm: Option<Norm<'a>>,
    /// 8 or 4.
    pub bits: u32,
}

impl Linear {
    /// Whether [`forward_one`](Self::forward_one) takes this layer; `gates`, if its rows are gates and as many that they gate.
    pub fn takes_one(&self, inputs: usize, gates: bool) -> bool {
        let whole = !gates || self.rows().is_multiple_of(32);
        whole && inputs.is_multiple_of(8) && inputs > 0 && Split::of(inputs, self.stored_cols()).is_some()
    }

    /// Quantises one token and computes the layer. With an activation the first half of the rows are gates of the second, and the output, f32, is activation(gate) · up.
    pub fn forward_one(
        &self,
        stream: &Stream,
        reads: Reads<'_>,
        gate: Option<Activation>,
        mut out: Output<'_>,
        bias: Option<&Buffer<f32>>,
    ) -> Result<()> {
        let Reads { source, inputs, norm, bits } = reads;
        let possible = self.takes_one(inputs, gate.is_some()) && (gate.is_none() || matches!(out, Output::F32(_)));
        let Some(split) = Split::of(inputs, self.stored_cols()).filter(|_| possible) else {
            let what = format!("no kernel for one token computes {} rows of {inputs} inputs", self.rows());
            return Err(DeviceError::Misuse(what));
        };
        let outputs = self.rows() / if gate.is_some() { 2 } else { 1 };
        let epilogue = Epilogue { bias, residual: None };
        self.check_outputs(1, outputs, &mut out, epilogue)?;
        let mut quantise =
            QuantiseArgs { windows_of: Order::of(self).window(inputs)?, bits, ..QuantiseArgs::default() };
        let source_name = describe(source, (1, inputs), norm, &mut quantise)?;
        let mut linear = self.args(1, &mut out, epilogue);
        let name = match (gate, source) {
            (Some(activation), Source::F32(_)) => {
                (linear.kind, linear.activation) = (GATED, activation as u32);
                "gated"
            }
            (None, Source::F32(_) | Source::Parts(_)) => source_name,
            _ => return Err(DeviceError::Misuse("one token is read as f32, or as parts of attention".to_owned())),
        };
        let kind = if self.is_sparse() { "sparse" } else { "dense" };
        let name = format!("single_{name}_{kind}_{}_{}", split.tiles, split.chunks);
        let device = stream.device();
        let kernel = device.kernel(&images::SINGLE, &name, inputs as u32)?;
        let grid = Grid {
            blocks: [outputs.div_ceil(16) as u32, 1, 1],
            threads: 32 * split.warps as u32,
            overlap: device.can_overlap(),
            cluster: 1,
        };
        // SAFETY: the kernel takes these structs; inputs, norm, bias and outputs are as long as the layer says, weights are padded to a multiple of 64 rows, and the block has
        // threads for every input, as `Split::of` says.
        unsafe { stream.launch(kernel, grid, &[&linear, &quantise]) }
    }
}
