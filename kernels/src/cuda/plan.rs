//! Which kernel computes a layer, by its shape and the number of tokens.
//!
//! The kernels are in two families, `few` and `many`; each estimates its own times from what was measured (`docs/gpu-kernels.md`), and here the best is taken.

use super::abi::LinearArgs;
use super::device::Device;
use super::error::Result;
use super::few::{self, Few};
use super::launch::Stream;
use super::linear::{DECODE_TOKENS, Shape};
use super::many::{self, Tile};

/// A kernel for a layer and a number of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Few(Few),
    Hopper(Tile),
    /// Tokens of a tile of the kernel for every GPU.
    Any(u32),
}

/// The choice for so many tokens.
pub(crate) fn choose(device: &Device, shape: Shape, tokens: usize) -> Choice {
    choices(device, shape, tokens)[0]
}

/// All choices for so many tokens, the best first; there is always one.
pub(crate) fn choices(device: &Device, shape: Shape, tokens: usize) -> Vec<Choice> {
    let units = device.multiprocessors();
    if tokens <= DECODE_TOKENS {
        few::choices(device, shape, tokens).into_iter().map(|f| Choice(Kind::Few(f))).collect()
    } else if device.is_hopper() && many::sums_are_floats(shape) {
        many::tiles(shape, units, tokens).into_iter().map(|t| Choice(Kind::Hopper(t))).collect()
    } else {
        many::any_tiles(shape, units, tokens).into_iter().map(|t| Choice(Kind::Any(t))).collect()
    }
}

impl Choice {
    /// A name for tables.
    pub fn name(&self) -> String {
        match self.0 {
            Kind::Few(few) => few.name(),
            Kind::Hopper(tile) => tile.name(),
            Kind::Any(tokens) => format!("tiles 128x{tokens}"),
        }
    }

    /// Launches the kernel for a layer whose buffers were checked, and for the tokens that it was chosen for.
    pub(crate) fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        match self.0 {
            Kind::Few(few) => few.launch(device, shape, stream, args),
            Kind::Hopper(tile) => tile.launch(device, shape, stream, args, false),
            Kind::Any(tokens) => many::launch_any(tokens, device, shape, stream, args),
        }
    }
}
