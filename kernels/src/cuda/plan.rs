//! Which kernel computes a layer, by its shape and the number of tokens, and how that kernel is launched.

use super::abi::LinearArgs;
use super::device::Device;
use super::error::Result;
use super::images;
use super::launch::{Grid, Stream};
use super::linear::{DECODE_TOKENS, Shape};
use super::tensor_map::{Elements, Matrix, TensorMap};

/// A kernel and its launch for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Decode(Decode),
    /// The same shapes of the kernel whose weights come to shared memory.
    Stream(Decode),
    Prefill(Tile),
    /// Tokens of a tile of the kernel for every GPU.
    Tiles(u32),
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

/// What `src/stream.cu` instantiates.
const STREAMS: [Decode; 15] = [
    decode(1, 1, 1),
    decode(1, 2, 1),
    decode(2, 1, 1),
    decode(2, 2, 1),
    decode(2, 4, 1),
    decode(4, 1, 1),
    decode(4, 2, 1),
    decode(4, 4, 1),
    decode(1, 1, 2),
    decode(1, 2, 2),
    decode(2, 1, 2),
    decode(2, 2, 2),
    decode(2, 4, 2),
    decode(4, 1, 2),
    decode(4, 2, 2),
];

/// A tile of the prefill kernel: groups of 128 rows, tokens, stages, blocks that split the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tile {
    rows: u32,
    tokens: u32,
    stages: u32,
    split: u32,
}

const fn tile(rows: u32, tokens: u32, stages: u32, split: u32) -> Tile {
    Tile { rows, tokens, stages, split }
}

/// What `src/prefill.cu` instantiates.
const TILES: [Tile; 12] = [
    tile(2, 192, 6, 1),
    tile(2, 128, 8, 1),
    tile(1, 256, 5, 1),
    tile(1, 192, 7, 1),
    tile(1, 128, 9, 1),
    tile(1, 64, 16, 1),
    tile(1, 32, 24, 1),
    tile(1, 128, 9, 2),
    tile(1, 64, 16, 2),
    tile(1, 64, 16, 4),
    tile(1, 32, 24, 2),
    tile(1, 32, 24, 4),
];

/// Tokens of a tile in `src/tiles.cu`.
const TILE_TOKENS: [u32; 3] = [32, 64, 128];
/// Sums of the prefill kernel are smaller than this: it takes them for floats.
const SUM_BOUND: u64 = 1 << 22;

/// Most warps of a decode kernel's block.
const DECODE_WARPS: u32 = 20;

/// The choice for so many tokens.
pub(crate) fn choose(device: &Device, shape: Shape, tokens: usize) -> Choice {
    choices(device, shape, tokens)[0]
}

/// All choices for so many tokens, the best first.
pub(crate) fn choices(device: &Device, shape: Shape, tokens: usize) -> Vec<Choice> {
    if tokens <= DECODE_TOKENS {
        let groups = tokens.div_ceil(8) as u32;
        let mut choices: Vec<Decode> = DECODES.into_iter().filter(|d| d.tokens == groups).collect();
        choices.sort_by_key(|d| d.warps(shape) * d.tiles < (shape.cols / 128) as u32);
        let streams =
            STREAMS.into_iter().filter(|d| d.tokens == groups && d.stream_bytes(shape) <= device.shared_bytes() - 8192);
        let streams = streams.filter(|_| device.is_hopper()).map(|d| Choice(Kind::Stream(d)));
        return choices.into_iter().map(|d| Choice(Kind::Decode(d))).chain(streams).collect();
    }
    let units = device.multiprocessors();
    if !device.is_hopper() || shape.sum_bound() >= SUM_BOUND {
        let mut choices = TILE_TOKENS;
        choices.sort_by_key(|&t| tiles_cost(t, shape, units, tokens));
        return choices.into_iter().map(|t| Choice(Kind::Tiles(t))).collect();
    }
    let mut choices: Vec<Tile> = TILES.into_iter().filter(|t| t.fits(shape, units, tokens)).collect();
    choices.sort_by(|a, b| a.cost(shape, units, tokens).total_cmp(&b.cost(shape, units, tokens)));
    choices.into_iter().map(|t| Choice(Kind::Prefill(t))).collect()
}

impl Choice {
    /// A name for tables.
    pub fn name(&self) -> String {
        match self.0 {
            Kind::Decode(d) => format!("decode {}x{}x{}", d.tiles, d.blocks, d.tokens),
            Kind::Stream(d) => format!("stream {}x{}x{}", d.tiles, d.blocks, d.tokens),
            Kind::Prefill(t) => format!("{}x{}/{}", 128 * t.rows, t.tokens, t.split),
            Kind::Tiles(tokens) => format!("tiles 128x{tokens}"),
        }
    }

    /// Launches the kernel for a layer whose buffers were checked.
    pub(crate) fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        match self.0 {
            Kind::Decode(d) => d.launch(false, device, shape, stream, args),
            Kind::Stream(d) => d.launch(true, device, shape, stream, args),
            Kind::Prefill(t) => t.launch(device, shape, stream, args),
            Kind::Tiles(tokens) => launch_tiles(tokens, device, shape, stream, args),
        }
    }
}

impl Decode {
    /// As many warps as the columns need, an even number, so that a thread of the last step always writes the same row.
    fn warps(self, shape: Shape) -> u32 {
        ((shape.cols / 128) as u32).div_ceil(self.tiles).next_multiple_of(2).min(DECODE_WARPS)
    }

    /// Shared memory of a block's weights.
    fn stream_bytes(self, shape: Shape) -> u32 {
        self.blocks * shape.cols as u32 * 4
    }

    fn launch(self, streams: bool, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        let kind = if shape.sparse { "sparse" } else { "dense" };
        let (image, family, shared) = if streams {
            (&images::STREAM, "stream", device.shared_bytes() - 8192)
        } else {
            (&images::DECODE, "decode", 0)
        };
        let name = format!("{family}_{kind}_{}_{}_{}", self.tiles, self.blocks, self.tokens);
        let kernel = device.kernel(image, &name, shared)?.with_shared(self.stream_bytes(shape));
        let grid = Grid {
            blocks: [(shape.rows as u32).div_ceil(16 * self.blocks), 1, 1],
            threads: 32 * self.warps(shape),
            overlap: device.can_overlap(),
            cluster: 1,
        };
        // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say, and that there are at most 8 · `tokens` tokens is what
        // `choices` gave; weights are padded to 256 rows, a multiple of every grid's rows.
        unsafe { stream.launch(kernel, grid, &[args]) }
    }
}

impl Tile {
    fn count(self, shape: Shape, tokens: usize) -> u32 {
        (shape.rows as u32).div_ceil(128 * self.rows) * (tokens as u32).div_ceil(self.tokens)
    }

    /// Split sums are for grids that fit the GPU at once, and for layers with columns enough to split.
    fn fits(self, shape: Shape, units: u32, tokens: usize) -> bool {
        self.split == 1
            || (self.count(shape, tokens) * self.split <= units && shape.cols as u32 / 128 >= 4 * self.split)
    }

    /// Estimated time: waves of tiles, each as long as its products and a fixed start and end.
    fn cost(self, shape: Shape, units: u32, tokens: usize) -> f64 {
        let waves = f64::from((self.count(shape, tokens) * self.split).div_ceil(units));
        let steps = shape.cols as f64 / 128.0 / f64::from(self.split);
        // Clocks of 128 columns: the products, or the copy of the operands where they are few.
        let products = f64::from(128 * self.rows * self.tokens * 128) / 8192.0;
        let copies = f64::from(128 * self.rows * 32 + self.tokens * 128) / 40.0;
        waves * (steps * products.max(copies) + 1500.0 + 800.0 * f64::from(u32::from(self.split > 1)))
    }

    /// Shared memory of a block, as `src/prefill.cu` lays it out.
    fn shared_bytes(self) -> u32 {
        let scales = 2 * (self.tokens + 128 * self.rows) * 4;
        self.stages * (self.tokens * 128 + self.rows * 128 * 32) + 6 * 4096 + 2 * scales + self.stages * 16 + 1024
    }

    fn launch(self, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
        let kind = if shape.sparse { "sparse" } else { "dense" };
        let name = format!("prefill_{kind}_{}_{}_{}", self.rows, self.tokens, self.split);
        let kernel = device.kernel(&images::PREFILL, &name, self.shared_bytes())?;
        let x = Matrix {
            address: args.x,
            cols: u64::from(args.stride),
            rows: u64::from(args.tokens),
            tile: (128, self.tokens),
            elements: Elements::Bytes,
        };
        let weights = Matrix {
            address: args.weights,
            cols: shape.cols as u64,
            rows: shape.rows.next_multiple_of(256) as u64 / 16,
            tile: (128, 8 * self.rows),
            elements: Elements::Words,
        };
        let tiles = self.count(shape, args.tokens as usize) * self.split;
        let grid = Grid {
            blocks: [if self.split > 1 { tiles } else { tiles.min(device.multiprocessors()) }, 1, 1],
            threads: 384,
            overlap: device.can_overlap(),
            cluster: self.split,
        };
        let out = Matrix {
            address: args.out,
            cols: shape.rows as u64,
            rows: u64::from(args.tokens),
            tile: if args.kind == 0 { (64, 32) } else { (32, 16) },
            elements: if args.kind == 0 { Elements::Bf16 } else { Elements::F32 },
        };
        let (x, weights) = (TensorMap::new(&x)?, TensorMap::new(&weights)?);
        // Rows at other multiples are not copied by the hardware: the kernel does not look at their map.
        let out = if shape.rows.is_multiple_of(8) { TensorMap::new(&out)? } else { x };
        // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say; weights are padded to 256 rows, as their map says; the shared
        // memory is what the kernel's layout needs.
        unsafe { stream.launch(kernel, grid, &[&x, &weights, &out, args]) }
    }
}

/// Estimated time in products: waves of tiles, two on a multiprocessor, with a fixed part for each.
fn tiles_cost(tile: u32, shape: Shape, units: u32, tokens: usize) -> u64 {
    let tiles = u64::from((shape.rows as u32).div_ceil(128)) * u64::from((tokens as u32).div_ceil(tile));
    tiles.div_ceil(2 * u64::from(units)) * u64::from(tile + 32)
}

fn launch_tiles(tokens: u32, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
    let kind = if shape.sparse { "sparse" } else { "dense" };
    let shared = (4 * (tokens * 128 + 4096)).max(tokens * 132 * 4);
    let kernel = device.kernel(&images::TILES, &format!("tiles_{kind}_{tokens}"), shared)?;
    let grid = Grid {
        blocks: [(shape.rows as u32).div_ceil(128), args.tokens.div_ceil(tokens), 1],
        threads: 256,
        overlap: false,
        cluster: 1,
    };
    // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say; weights are padded to 256 rows, a multiple of the tiles'.
    unsafe { stream.launch(kernel, grid, &[args]) }
}
