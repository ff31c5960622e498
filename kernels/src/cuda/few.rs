//! Layers of 1 to 16 tokens: `src/decode.cu`, whose weights wait in registers, and `src/stream.cu`, where they wait in shared memory.

use super::abi::LinearArgs;
use super::device::Device;
use super::error::Result;
use super::images;
use super::launch::{Grid, Stream};
use super::linear::Shape;

/// A kernel for few tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Few {
    /// Tiles of 128 columns that a warp takes at a time.
    tiles: u32,
    /// Blocks of 16 rows.
    blocks: u32,
    /// Groups of 8 tokens.
    groups: u32,
    /// Whether weights wait in shared memory.
    streams: bool,
}

const fn decode(tiles: u32, blocks: u32, groups: u32) -> Few {
    Few { tiles, blocks, groups, streams: false }
}

const fn stream(tiles: u32, blocks: u32, groups: u32) -> Few {
    Few { streams: true, ..decode(tiles, blocks, groups) }
}

/// What the two sources instantiate.
const ALL: [Few; 14] = [
    decode(1, 1, 1),
    decode(2, 1, 1),
    decode(3, 1, 1),
    decode(4, 1, 1),
    decode(2, 2, 1),
    decode(2, 1, 2),
    decode(3, 1, 2),
    decode(4, 1, 2),
    decode(2, 2, 2),
    stream(2, 2, 1),
    stream(4, 2, 1),
    stream(1, 2, 2),
    stream(2, 2, 2),
    stream(2, 4, 2),
];

/// Most warps of a block.
const WARPS: u32 = 20;
/// Shared memory of a block that is not weights: sums, a barrier, what the driver takes.
const OTHER_SHARED: u32 = 6 << 10;

/// All kernels for so many tokens, the best first.
pub(crate) fn choices(device: &Device, shape: Shape, tokens: usize) -> Vec<Few> {
    let groups = tokens.div_ceil(8) as u32;
    let fits = |few: &Few| few.groups == groups && (!few.streams || (device.is_hopper() && few.fits(device, shape)));
    let mut all: Vec<Few> = ALL.into_iter().filter(fits).collect();
    let best = best(shape, groups, device.multiprocessors());
    all.sort_by_key(|few| best.iter().position(|b| b == few).unwrap_or(best.len()));
    all
}

/// What was measured to be fastest on a Hopper GPU of 132 multiprocessors; the second is for others, or where the first does not fit.
fn best(shape: Shape, groups: u32, units: u32) -> [Few; 2] {
    let (strips, tiles) = ((shape.rows as u32).div_ceil(16), (shape.cols / 128) as u32);
    // Up to two blocks a multiprocessor are one wave of launches that overlap well.
    let small = strips <= 2 * units;
    match (groups, small) {
        (1, true) if tiles <= WARPS => [decode(1, 1, 1), decode(2, 1, 1)],
        (1, true) if tiles <= 3 * WARPS => [decode(3, 1, 1), decode(4, 1, 1)],
        (1, true) => [decode(4, 1, 1), decode(3, 1, 1)],
        (1, false) if strips > 8 * units => [decode(3, 1, 1), decode(2, 2, 1)],
        (1, false) if tiles <= WARPS => [stream(2, 2, 1), decode(2, 2, 1)],
        (1, false) => [decode(2, 2, 1), decode(2, 1, 1)],
        (_, true) if tiles <= WARPS => [decode(2, 1, 2), decode(3, 1, 2)],
        (_, true) => [stream(1, 2, 2), decode(2, 2, 2)],
        (_, false) if strips > 8 * units => [stream(2, 2, 2), decode(3, 1, 2)],
        (_, false) => [stream(2, 4, 2), decode(2, 2, 2)],
    }
}

impl Few {
    pub(crate) fn name(self) -> String {
        let family = if self.streams { "stream" } else { "decode" };
        format!("{family} {}x{}x{}", self.tiles, self.blocks, self.groups)
    }

    /// As many warps as the columns need, an even number, so that a thread of the last step always writes the same row.
    fn warps(self, shape: Shape) -> u32 {
        ((shape.cols / 128) as u32).div_ceil(self.tiles).next_multiple_of(2).min(WARPS)
    }

    /// Shared memory of a block's weights.
    fn weight_bytes(self, shape: Shape) -> u32 {
        if self.streams { self.blocks * shape.cols as u32 * 4 } else { 0 }
    }

    fn fits(self, device: &Device, shape: Shape) -> bool {
        shape.cols < 1 << 20 && self.weight_bytes(shape) <= device.shared_bytes() - OTHER_SHARED
    }

    pub(crate) fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        let kind = if shape.sparse { "sparse" } else { "dense" };
        let (image, family, shared) = if self.streams {
            (&images::STREAM, "stream", device.shared_bytes() - OTHER_SHARED)
        } else {
            (&images::DECODE, "decode", 0)
        };
        let name = format!("{family}_{kind}_{}_{}_{}", self.tiles, self.blocks, self.groups);
        let kernel = device.kernel(image, &name, shared)?.with_shared(self.weight_bytes(shape));
        let grid = Grid {
            blocks: [(shape.rows as u32).div_ceil(16 * self.blocks), 1, 1],
            threads: 32 * self.warps(shape),
            overlap: device.can_overlap(),
            cluster: 1,
        };
        // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say, and that there are at most 8 · `groups` tokens is what
        // `choices` gave; weights are padded to 256 rows, a multiple of every grid's rows; the shared memory is what the kernel's contract says.
        unsafe { stream.launch(kernel, grid, &[args]) }
    }
}
