//! Layers of more tokens: `src/prefill.cu` on Hopper, `src/tiles.cu` on every other GPU and for layers so wide that Hopper's kernel cannot hold their sums.

use super::abi::LinearArgs;
use super::device::Device;
use super::error::Result;
use super::images;
use super::launch::{Grid, Stream};
use super::linear::Shape;
use super::tensor_map::{Elements, Matrix, TensorMap};

/// A tile of Hopper's kernel, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    /// Times 128 rows.
    rows: u32,
    tokens: u32,
    /// Stages of 128 columns in shared memory.
    stages: u32,
    /// Blocks that split the columns.
    split: u32,
    /// For 2:4 sparse weights and for dense ones.
    costs: [Cost; 2],
}

/// A tile's time on an H100, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    /// Of 128 columns.
    step: f64,
    /// Of the rest: its start and end.
    fixed: f64,
    /// How many times longer a step takes where every multiprocessor works.
    load: f64,
}

const fn tile(rows: u32, tokens: u32, stages: u32, split: u32, sparse: [f64; 3], dense: [f64; 3]) -> Tile {
    let [step, fixed, load] = sparse;
    let costs = [Cost { step, fixed, load }, Cost { step: dense[0], fixed: dense[1], load: dense[2] }];
    Tile { rows, tokens, stages, split, costs }
}

/// What `src/prefill.cu` instantiates. The costs were fitted to the table in `docs/gpu-kernels.md`, where the choices they lead to are 1 % slower than the best ones.
const TILES: [Tile; 12] = [
    tile(2, 192, 6, 1, [530., 2800., 1.08], [850., 4300., 1.00]),
    tile(2, 128, 8, 1, [379., 1400., 1.12], [553., 2000., 1.06]),
    tile(1, 256, 5, 1, [338., 2000., 1.20], [553., 2400., 1.10]),
    tile(1, 192, 7, 1, [265., 1500., 1.28], [410., 2000., 1.10]),
    tile(1, 128, 9, 1, [213., 1300., 1.18], [276., 1400., 1.08]),
    tile(1, 64, 16, 1, [174., 500., 1.13], [200., 600., 1.13]),
    tile(1, 32, 24, 1, [147., 600., 1.15], [174., 500., 1.15]),
    tile(1, 128, 9, 2, [213., 4200., 1.10], [276., 4000., 1.10]),
    tile(1, 64, 16, 2, [174., 2600., 1.10], [200., 2600., 1.10]),
    tile(1, 64, 16, 4, [174., 3500., 1.10], [200., 3500., 1.10]),
    tile(1, 32, 24, 2, [147., 2500., 1.10], [174., 2500., 1.10]),
    tile(1, 32, 24, 4, [147., 3000., 1.10], [174., 3000., 1.10]),
];

/// Tokens of a tile in `src/tiles.cu`.
const ANY_TOKENS: [u32; 3] = [32, 64, 128];

/// Whether Hopper's kernel, which takes its sums for floats, can hold those of a layer.
pub(crate) fn sums_are_floats(shape: Shape) -> bool {
    shape.sum_bound() < 1 << 22
}

/// The tiles for a layer, the best first.
pub(crate) fn tiles(shape: Shape, units: u32, tokens: usize) -> Vec<Tile> {
    let mut tiles: Vec<Tile> = TILES.into_iter().filter(|t| t.fits(shape, units, tokens)).collect();
    tiles.sort_by(|a, b| a.cost(shape, units, tokens).total_cmp(&b.cost(shape, units, tokens)));
    tiles
}

/// The tile for gates and what they gate, if Hopper's kernel takes such a layer: gates begin whole strips, and their outputs can be copied.
pub(crate) fn gated_tile(device: &Device, shape: Shape, tokens: usize) -> Option<Tile> {
    let possible = device.is_hopper() && sums_are_floats(shape) && shape.rows.is_multiple_of(32);
    let tiles = || tiles(shape, device.multiprocessors(), tokens);
    possible.then(tiles)?.into_iter().find(Tile::gates)
}

impl Tile {
    pub(crate) fn name(&self) -> String {
        format!("{}x{}/{}", 128 * self.rows, self.tokens, self.split)
    }

    fn count(&self, shape: Shape, tokens: usize) -> u32 {
        (shape.rows as u32).div_ceil(128 * self.rows) * (tokens as u32).div_ceil(self.tokens)
    }

    /// Split sums are for grids that fit the GPU at once, and for layers with columns enough to split.
    fn fits(&self, shape: Shape, units: u32, tokens: usize) -> bool {
        self.split == 1
            || (self.count(shape, tokens) * self.split <= units && shape.cols as u32 / 128 >= 4 * self.split)
    }

    /// Estimated nanoseconds: as many waves as the tiles need.
    fn cost(&self, shape: Shape, units: u32, tokens: usize) -> f64 {
        let Cost { step, fixed, load } = self.costs[usize::from(!shape.sparse)];
        let blocks = self.count(shape, tokens) * self.split;
        let busy = f64::from(blocks.min(units)) / f64::from(units);
        let steps = shape.cols as f64 / 128.0 / f64::from(self.split);
        f64::from(blocks.div_ceil(units)) * (steps * step * (1.0 + (load - 1.0) * busy) + fixed)
    }

    /// Whether there is a form of this tile for gates and what they gate.
    fn gates(&self) -> bool {
        self.rows == 2
    }

    /// Shared memory of a block, as `src/prefill.cu` lays it out.
    fn shared_bytes(&self) -> u32 {
        let scales = 2 * (self.tokens + 128 * self.rows) * 4;
        let stage = self.tokens * 128 + self.rows * 128 * 32;
        self.stages * stage + 6 * 4096 + 2 * scales + self.stages * 16 + 1024
    }

    /// With `gated` outputs, the first half of the rows are gates of the second, and the output is bf16, half as many.
    pub(crate) fn launch(
        &self,
        device: &Device,
        shape: Shape,
        stream: &Stream,
        args: &LinearArgs,
        gated: bool,
    ) -> Result<()> {
        let kind = match (gated, shape.sparse) {
            (false, true) => "sparse",
            (false, false) => "dense",
            (true, true) => "gated_sparse",
            (true, false) => "gated_dense",
        };
        let name = format!("prefill_{kind}_{}_{}_{}", self.rows, self.tokens, self.split);
        let kernel = device.kernel(&images::PREFILL, &name, self.shared_bytes())?;
        let [x, weights, out] = self.maps(shape, args, gated)?;
        let tiles = self.count(shape, args.tokens as usize) * self.split;
        let grid = Grid {
            blocks: [if self.split > 1 { tiles } else { tiles.min(device.multiprocessors()) }, 1, 1],
            threads: 384,
            overlap: device.can_overlap(),
            cluster: self.split,
        };
        // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say; weights are padded to 256 rows, as their map says; the shared
        // memory is what the kernel's layout needs.
        unsafe { stream.launch(kernel, grid, &[&x, &weights, &out, args]) }
    }

    /// Activations, weights and output.
    fn maps(&self, shape: Shape, args: &LinearArgs, gated: bool) -> Result<[TensorMap; 3]> {
        // Gates and what they gate are two boxes of weights, and half as many outputs.
        let halves = if gated { 2 } else { 1 };
        let x = TensorMap::new(&Matrix {
            address: args.x,
            cols: u64::from(args.stride),
            rows: u64::from(args.tokens),
            tile: (128, self.tokens),
            elements: Elements::Bytes,
        })?;
        let weights = TensorMap::new(&Matrix {
            address: args.weights,
            cols: shape.cols as u64,
            rows: shape.rows.next_multiple_of(256) as u64 / 16,
            tile: (128, 8 * self.rows / halves),
            elements: Elements::Words,
        })?;
        let out = Matrix {
            address: args.out,
            cols: shape.rows as u64 / u64::from(halves),
            rows: u64::from(args.tokens),
            tile: if args.kind == 0 { (64, 32) } else { (32, 16) },
            elements: if args.kind == 0 { Elements::Halves } else { Elements::F32 },
        };
        // Other numbers of rows cannot be copied by the hardware: the kernel does not look at their map.
        let out = if shape.rows.is_multiple_of(8) { TensorMap::new(&out)? } else { x };
        Ok([x, weights, out])
    }
}

/// Tokens of a tile of the kernel for every GPU, the best first: waves of tiles, two on a multiprocessor, with a fixed part for each.
pub(crate) fn any_tiles(shape: Shape, units: u32, tokens: usize) -> Vec<u32> {
    let mut tiles = ANY_TOKENS.to_vec();
    tiles.sort_by_key(|&tile| {
        let count = u64::from((shape.rows as u32).div_ceil(128)) * u64::from((tokens as u32).div_ceil(tile));
        count.div_ceil(2 * u64::from(units)) * u64::from(tile + 32)
    });
    tiles
}

/// Launches the kernel for every GPU.
pub(crate) fn launch_any(tokens: u32, device: &Device, shape: Shape, stream: &Stream, args: &LinearArgs) -> Result<()> {
    let kind = if shape.sparse { "sparse" } else { "dense" };
    let shared = (4 * (tokens * 128 + 4096)).max(tokens * 132 * 4);
    let kernel = device.kernel(&images::TILES, &format!("tiles_{kind}_{tokens}"), shared)?;
    let blocks = [(shape.rows as u32).div_ceil(128), args.tokens.div_ceil(tokens), 1];
    let grid = Grid { blocks, threads: 256, overlap: false, cluster: 1 };
    // SAFETY: the caller checked that the activations, scales and outputs are as long as shape and tokens say; weights are padded to 256 rows, a multiple of the tiles'.
    unsafe { stream.launch(kernel, grid, &[args]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: u32 = 132;

    /// Measured to be the best, or within 3 % of it.
    #[test]
    fn tiles_are_chosen_as_measured() {
        let best = |rows, cols, tokens| tiles(Shape { rows, cols, sparse: true }, H100, tokens)[0].name();
        assert_eq!(best(2560, 6912, 64), "128x64/4");
        assert_eq!(best(3840, 2560, 512), "128x128/1");
        assert_eq!(best(13824, 2560, 64), "128x64/1");
        assert_eq!(best(13824, 2560, 4096), "256x192/1");
        assert_eq!(best(8192, 8192, 1024), "128x256/1");
        assert_eq!(best(37888, 3584, 4096), "256x192/1");
    }

    #[test]
    fn every_tile_fits_the_shared_memory_of_hopper() {
        for tile in TILES {
            assert!(tile.shared_bytes() <= 227 << 10, "{}: {}", tile.name(), tile.shared_bytes());
        }
    }

    #[test]
    fn sums_that_are_no_floats_are_left_to_the_other_kernel() {
        assert!(sums_are_floats(Shape { rows: 1, cols: 32768 - 128, sparse: false }));
        assert!(!sums_are_floats(Shape { rows: 1, cols: 32768, sparse: false }));
        assert!(sums_are_floats(Shape { rows: 1, cols: 65536 - 128, sparse: true }));
    }
}
