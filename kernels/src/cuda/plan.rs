//! Which kernel computes a layer, by its shape and the number of tokens, and how that kernel is launched.

use super::abi::LinearArgs;
use super::device::Device;
use super::error::Result;
use super::images;
use super::launch::{Grid, Stream};
use super::linear::{DECODE_TOKENS, Shape};

/// A kernel and its launch for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Decode(Decode),
}

/// A shape of the decode kernel: tiles a warp takes at a time, blocks of 16 rows, groups of 8 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Decode {
    tiles: u32,
    blocks: u32,
    tokens: u32,
}

const fn decode(tiles: u32, blocks: u32, tokens: u32) -> Decode {
    Decode { tiles, blocks, tokens }
}

/// What `src/decode.cu` instantiates.
const DECODES: [Decode; 14] = [
    decode(1, 1, 1),
    decode(1, 2, 1),
    decode(2, 1, 1),
    decode(2, 2, 1),
    decode(2, 4, 1),
    decode(3, 1, 1),
    decode(4, 1, 1),
    decode(4, 2, 1),
    decode(1, 1, 2),
    decode(1, 2, 2),
    decode(2, 1, 2),
    decode(2, 2, 2),
    decode(3, 1, 2),
    decode(4, 1, 2),
];

/// Most warps of a decode kernel's block.
const DECODE_WARPS: u32 = 20;

/// The choice for so many tokens.
pub(crate) fn choose(device: &Device, shape: Shape, tokens: usize) -> Choice {
    choices(device, shape, tokens)[0]
}

/// All choices for so many tokens, the best first.
pub(crate) fn choices(_device: &Device, shape: Shape, tokens: usize) -> Vec<Choice> {
    let groups = tokens.min(DECODE_TOKENS).div_ceil(8) as u32;
    let mut choices: Vec<Decode> = DECODES.into_iter().filter(|d| d.tokens == groups).collect();
    choices.sort_by_key(|d| d.warps(shape) * d.tiles < (shape.cols / 128) as u32);
    choices.into_iter().map(|d| Choice(Kind::Decode(d))).collect()
}

impl Choice {
    /// A name for tables.
    pub fn name(&self) -> String {
        match self.0 {
            Kind::Decode(d) => format!("decode {}x{}x{}", d.tiles, d.blocks, d.tokens),
        }
    }

    /// Launches the kernel for a layer whose buffers were checked.
    pub(crate) fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        match self.0 {
            Kind::Decode(d) => d.launch(device, shape, stream, args),
        }
    }
}

impl Decode {
    /// As many warps as the columns need, an even number, so that a thread of the last step always writes the same row.
    fn warps(self, shape: Shape) -> u32 {
        ((shape.cols / 128) as u32).div_ceil(self.tiles).next_multiple_of(2).min(DECODE_WARPS)
    }

    fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        let kind = if shape.sparse { "sparse" } else { "dense" };
        let name = format!("decode_{kind}_{}_{}_{}", self.tiles, self.blocks, self.tokens);
        let kernel = device.kernel(&images::DECODE, &name, 0)?;
        let grid = Grid {
            blocks: [(shape.rows as u32).div_ceil(16 * self.blocks), 1, 1],
            threads: 32 * self.warps(shape),
            overlap: device.can_overlap(),
        };
        // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say, and that there are at most 8 · `tokens` tokens is what
        // `choices` gave; weights are padded to 256 rows, a multiple of every grid's rows.
        unsafe { stream.launch(kernel, grid, &[args]) }
    }
}
