//! Attention on the GPU, and the keys and values that it looks at.
//!
//! ```text
//! few rows, one a sequence:  q k v ── decode ──▶ Parts ── quantise (puts parts together)
//! many rows:                 q k v ── store ──▶ q, cache ── prefill ──▶ f16 rows ── quantise
//! ```
//!
//! A layer's [`Cache`] is a pool of pages of 64 tokens; a table says which pages a sequence has. Heads of 64 or 128 values with at most 8 query heads a key head
//! have fast kernels; all others that are a multiple of 8 and at most 256 wide take a plain one.

use bytemuck::Pod;

use super::abi::{AttentionTile, DecodeAttentionArgs, PrefillAttentionArgs, QuantiseArgs, RopeArgs};
use super::buffer::Buffer;
use super::dense::fits;
use super::device::Device;
use super::error::{DeviceError, Result};
use super::images;
use super::launch::{Grid, Stream};
use super::quantise::Columns;
use super::tensor_map::{Elements, Matrix, TensorMap};

/// Tokens of a page.
pub const PAGE: usize = 64;
/// Rows of a tile of prefill attention.
const TILE_ROWS: usize = 128;

/// The shape of attention, the same in all layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub dim: usize,
    /// How far attention looks back, if not over everything.
    pub window: Option<usize>,
    /// Whether element pairs that turn together are (2i, 2i + 1), not (i, i + half).
    pub interleaved: bool,
    /// Of the norms of heads.
    pub eps: f32,
}

impl Heads {
    /// Whether the GPU has kernels for this shape.
    pub fn check(&self) -> Result<()> {
        let Self { heads, kv_heads, dim, .. } = *self;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || dim == 0 || !dim.is_multiple_of(8) || dim > 256 {
            let what = format!(
                "{heads} heads, {kv_heads} of keys, {dim} wide: the GPU's kernels take whole groups and widths that are multiples of 8 up to 256; run on the CPU (--device cpu)"
            );
            return Err(DeviceError::Misuse(what));
        }
        Ok(())
    }

    fn is_fast(&self) -> bool {
        matches!(self.dim, 64 | 128) && self.heads / self.kv_heads <= 8
    }

    fn window(&self) -> u32 {
        self.window.map_or(0, |w| u32::try_from(w).unwrap_or(u32::MAX))
    }

    fn score(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.dim as f32).sqrt()
    }

    /// 16-bit values of a page of a layer.
    pub fn page_len(&self) -> usize {
        2 * self.kv_heads * PAGE * self.dim
    }
}

/// What all layers of a session share: which pages sequences have, and the angles of positions.
#[derive(Debug)]
pub struct Places {
    /// Page numbers, `max_pages` for each sequence.
    pages: Buffer<u32>,
    max_pages: usize,
    /// (cosine, sine) of every pair of a head at every position.
    turns: Buffer<f32>,
    positions: usize,
}

impl Places {
    /// Sequences of `positions` tokens, each with pages of its own. `turns` has `dim` numbers for each position.
    pub fn new(device: &Device, heads: &Heads, sequences: usize, positions: usize, turns: &[f32]) -> Result<Self> {
        heads.check()?;
        fits("angles", turns.len(), positions * heads.dim)?;
        let max_pages = positions.div_ceil(PAGE);
        let numbers: Vec<u32> = (0..(sequences * max_pages) as u32).collect();
        Ok(Self { pages: device.upload(&numbers)?, max_pages, turns: device.upload(turns)?, positions })
    }

    /// Pages that sequences have together.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Positions of a sequence.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Pages of a sequence.
    pub fn max_pages(&self) -> usize {
        self.max_pages
    }
}

/// The rows of a step: the sequence and the position of each. Both must be within the [`Places`]; who sends them checks that.
#[derive(Clone, Copy, Debug)]
pub struct Where<'a> {
    /// Of each row.
    pub sequences: &'a Buffer<u32>,
    /// Of each row.
    pub positions: &'a Buffer<u32>,
    /// How many rows.
    pub rows: usize,
}

impl Where<'_> {
    fn check(&self) -> Result<()> {
        fits("sequences of rows", self.sequences.len(), self.rows)?;
        fits("positions of rows", self.positions.len(), self.rows)
    }
}

/// Queries, keys and values of some rows.
#[derive(Debug)]
pub struct Projected<'a, T> {
    /// Queries.
    pub q: Columns<'a, T>,
    /// Keys.
    pub k: Columns<'a, T>,
    /// Values.
    pub v: Columns<'a, T>,
    /// Norm of a query's head.
    pub q_norm: Option<&'a Buffer<f32>>,
    /// Norm of a key's head.
    pub k_norm: Option<&'a Buffer<f32>>,
}

impl<T: Pod> Projected<'_, T> {
    fn addresses(&self, heads: &Heads, rows: usize) -> Result<([u64; 3], [u64; 2])> {
        let (q, kv) = (heads.heads * heads.dim, heads.kv_heads * heads.dim);
        let norm = |norm: Option<&Buffer<f32>>| {
            norm.map_or(Ok(0), |n| fits("a head's norm", n.len(), heads.dim).map(|()| n.address()))
        };
        let rows = [
            self.q.address("queries", rows, q)?,
            self.k.address("keys", rows, kv)?,
            self.v.address("values", rows, kv)?,
        ];
        Ok((rows, [norm(self.q_norm)?, norm(self.k_norm)?]))
    }
}

/// The keys and values of one layer, in f16.
#[derive(Debug)]
pub struct Cache {
    pool: Buffer<u16>,
}

impl Cache {
    /// A pool of `pages` pages, zeroed: kernels may read values behind the last token, and multiply them by zero.
    pub fn new(device: &Device, heads: &Heads, pages: usize, stream: &Stream) -> Result<Self> {
        let mut pool = device.alloc(pages * heads.page_len())?;
        pool.set_bytes(0, stream)?;
        Ok(Self { pool })
    }

    /// Copies the first `len` positions of a sequence to another, in the order of the stream. Pages are copied whole.
    pub fn copy(
        &mut self,
        heads: &Heads,
        places: &Places,
        (from, to): (usize, usize),
        len: usize,
        stream: &Stream,
    ) -> Result<()> {
        let page = heads.page_len();
        let start = |sequence: usize| sequence * places.max_pages * page;
        self.pool.copy_within(start(from), start(to), len.div_ceil(PAGE) * page, stream)
    }

    fn check(&self, heads: &Heads, places: &Places) -> Result<()> {
        fits("a cache", self.pool.len(), places.pages.len() * heads.page_len())
    }
}

/// What attention over parts of the keys leaves for [`quantise`](super::quantise()): sums of values, with the scores' largest and total.
#[derive(Debug)]
pub struct Parts {
    sums: Buffer<f32>,
    shares: Buffer<f32>,
    /// Copies of the addresses of the rows' positions, which say how many parts there are.
    positions: u64,
    heads: Heads,
    splits: usize,
    rows: usize,
}

impl Parts {
    /// Room for `rows` rows in parts that keep the GPU busy: the fewer rows, the more parts.
    pub fn new(device: &Device, heads: &Heads, rows: usize) -> Result<Self> {
        heads.check()?;
        let splits = (2 * device.multiprocessors() as usize).div_ceil(heads.kv_heads * rows).clamp(1, 16);
        let sums = device.alloc(rows * splits * heads.heads * heads.dim)?;
        let shares = device.alloc(2 * rows * splits * heads.heads)?;
        Ok(Self { sums, shares, positions: 0, heads: *heads, splits, rows: 0 })
    }

    pub(crate) fn describe(&self, args: &mut QuantiseArgs, tokens: usize, cols: usize) -> Result<()> {
        if tokens != self.rows || cols != self.heads.heads * self.heads.dim {
            return Err(DeviceError::Misuse(format!("parts of {} rows, not of {tokens} rows of {cols}", self.rows)));
        }
        args.x = self.sums.address();
        args.shares = self.shares.address();
        args.positions = self.positions;
        args.head_dim = self.heads.dim as u32;
        args.heads = self.heads.heads as u32;
        args.splits = self.splits as u32;
        args.window = self.heads.window();
        Ok(())
    }
}

/// Whether [`decode`] takes this shape.
pub fn can_decode(heads: &Heads) -> bool {
    heads.is_fast()
}

/// Attention of one new token of each of some sequences: rotates queries and keys, stores keys and values, attends. The parts refer to the rows' positions, which must live as long.
pub fn decode(
    stream: &Stream,
    heads: &Heads,
    places: &Places,
    at: Where<'_>,
    qkv: &Projected<'_, f32>,
    cache: &mut Cache,
    out: &mut Parts,
) -> Result<()> {
    at.check()?;
    cache.check(heads, places)?;
    let ([q, k, v], [q_norm, k_norm]) = qkv.addresses(heads, at.rows)?;
    if !heads.is_fast() || out.heads != *heads {
        return Err(DeviceError::Misuse(format!(
            "{} heads of {} values do not decode in parts",
            heads.heads, heads.dim
        )));
    }
    fits("room for parts", out.sums.len(), at.rows * out.splits * heads.heads * heads.dim)?;
    (out.positions, out.rows) = (at.positions.address(), at.rows);
    let args = DecodeAttentionArgs {
        q,
        k,
        v,
        q_norm,
        k_norm,
        turns: places.turns.address(),
        positions: at.positions.address(),
        sequences: at.sequences.address(),
        pages: places.pages.address(),
        cache: cache.pool.address(),
        sums: out.sums.address(),
        shares: out.shares.address(),
        q_stride: qkv.q.stride as u32,
        k_stride: qkv.k.stride as u32,
        v_stride: qkv.v.stride as u32,
        max_pages: places.max_pages as u32,
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        splits: out.splits as u32,
        window: heads.window(),
        interleaved: u32::from(heads.interleaved),
        eps: heads.eps,
        score: heads.score(),
        reserved: 0,
    };
    let device = stream.device();
    let kernel = device.kernel(&images::ATTENTION_DECODE, &format!("attention_decode_{}", heads.dim), 0)?;
    let blocks = [out.splits as u32, heads.kv_heads as u32, at.rows as u32];
    let grid = Grid { blocks, threads: 256, overlap: device.can_overlap(), cluster: 1 };
    // SAFETY: the kernel takes this struct; inputs, tables and parts are as long as heads, rows and splits say, the pool has every page of the table, and positions and
    // sequences are within the places, as `Where` asks of its maker.
    unsafe { stream.launch(kernel, grid, &[&args]) }
}

/// Rows of `q` as attention reads them, rotated, in f16.
#[derive(Debug)]
pub struct Queries {
    values: Buffer<u16>,
}

impl Queries {
    /// Room for `rows` rows.
    pub fn new(device: &Device, heads: &Heads, rows: usize) -> Result<Self> {
        Ok(Self { values: device.alloc(rows * heads.heads * heads.dim)? })
    }
}

/// A type that projections come in.
pub trait Element: Pod {
    /// Part of kernels' names.
    const NAME: &str;
}

impl Element for f32 {
    const NAME: &str = "f32";
}

/// bf16.
impl Element for u16 {
    const NAME: &str = "bf16";
}

/// Rotates queries and keys of many rows, and stores keys and values.
pub fn store<T: Element>(
    stream: &Stream,
    heads: &Heads,
    places: &Places,
    at: Where<'_>,
    qkv: &Projected<'_, T>,
    cache: &mut Cache,
    out: &mut Queries,
) -> Result<()> {
    at.check()?;
    heads.check()?;
    cache.check(heads, places)?;
    fits("rotated queries", out.values.len(), at.rows * heads.heads * heads.dim)?;
    let ([q, k, v], [q_norm, k_norm]) = qkv.addresses(heads, at.rows)?;
    let args = RopeArgs {
        q,
        k,
        v,
        q_norm,
        k_norm,
        turns: places.turns.address(),
        sequences: at.sequences.address(),
        positions: at.positions.address(),
        pages: places.pages.address(),
        out: out.values.address(),
        cache: cache.pool.address(),
        q_stride: qkv.q.stride as u32,
        k_stride: qkv.k.stride as u32,
        v_stride: qkv.v.stride as u32,
        max_pages: places.max_pages as u32,
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        head_dim: heads.dim as u32,
        interleaved: u32::from(heads.interleaved),
        eps: heads.eps,
        reserved: 0,
    };
    let device = stream.device();
    let kernel = device.kernel(&images::ROPE, &format!("rope_{}", T::NAME), 0)?;
    let grid = Grid { blocks: [at.rows as u32, 1, 1], threads: 256, overlap: device.can_overlap(), cluster: 1 };
    // SAFETY: as for `decode`.
    unsafe { stream.launch(kernel, grid, &[&args]) }
}

/// The work of prefill attention, cut into tiles.
#[derive(Debug)]
pub struct Tiles {
    tiles: Buffer<AttentionTile>,
    count: usize,
}

/// Consecutive rows that continue a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first row.
    pub row: usize,
    /// How many.
    pub rows: usize,
    /// The sequence.
    pub sequence: usize,
    /// The first row's position.
    pub position: usize,
}

impl Tiles {
    /// Room for the tiles of up to `rows` rows in up to `runs` runs.
    pub fn new(device: &Device, rows: usize, runs: usize) -> Result<Self> {
        Ok(Self { tiles: device.alloc(rows.div_ceil(TILE_ROWS) + runs)?, count: 0 })
    }

    /// Cuts runs into tiles, in the order of the stream.
    pub fn set(&mut self, runs: &[Run], stream: &Stream) -> Result<()> {
        let mut tiles: Vec<AttentionTile> = runs
            .iter()
            .flat_map(|run| {
                (0..run.rows).step_by(TILE_ROWS).map(|row| AttentionTile {
                    token: (run.row + row) as u32,
                    rows: (run.rows - row).min(TILE_ROWS) as u32,
                    sequence: run.sequence as u32,
                    position: (run.position + row) as u32,
                })
            })
            .collect();
        // The later a tile's tokens, the more keys they see.
        tiles.sort_by_key(|tile| std::cmp::Reverse(tile.position));
        self.count = tiles.len();
        self.tiles.write(&tiles, stream)
    }
}

/// Attention of many rows over the cache, which holds their own keys already.
pub fn prefill(
    stream: &Stream,
    heads: &Heads,
    places: &Places,
    at: Where<'_>,
    (queries, tiles): (&Queries, &Tiles),
    cache: &Cache,
    out: &mut Buffer<u16>,
) -> Result<()> {
    at.check()?;
    heads.check()?;
    cache.check(heads, places)?;
    let width = heads.heads * heads.dim;
    fits("rotated queries", queries.values.len(), at.rows * width)?;
    fits("attention's output", out.len(), at.rows * width)?;
    let args = PrefillAttentionArgs {
        q: queries.values.address(),
        cache: cache.pool.address(),
        tiles: tiles.tiles.address(),
        pages: places.pages.address(),
        out: out.address(),
        sequences: at.sequences.address(),
        positions: at.positions.address(),
        max_pages: places.max_pages as u32,
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        head_dim: heads.dim as u32,
        window: heads.window(),
        score: heads.score(),
    };
    let device = stream.device();
    let overlap = device.can_overlap();
    let blocks = [heads.heads as u32, tiles.count as u32, 1];
    let wide = matches!(heads.dim, 64 | 128);
    // Queries, and two stages of 128 keys and values, with room for barriers: as the kernel's `Layout`.
    let shared = (TILE_ROWS * heads.dim * 2 * 5 + 128 + 1024) as u32;
    if wide && device.is_hopper() && shared <= device.shared_bytes() {
        let rows = |address, cols: usize, rows: usize, tile| {
            let matrix = Matrix { address, cols: cols as u64, rows: rows as u64, tile, elements: Elements::Halves };
            TensorMap::new(&matrix)
        };
        let q = rows(args.q, width, at.rows, (64, TILE_ROWS as u32))?;
        let pages = rows(args.cache, heads.dim, cache.pool.len() / heads.dim, (64, PAGE as u32))?;
        let kernel = device.kernel(&images::ATTENTION_HOPPER, &format!("attention_hopper_{}", heads.dim), shared)?;
        let grid = Grid { blocks, threads: 384, overlap, cluster: 1 };
        // SAFETY: as below; the maps end where the buffers do.
        return unsafe { stream.launch(kernel, grid, &[&q, &pages, &args]) };
    }
    let shared = ((TILE_ROWS + 4 * PAGE) * heads.dim * 2) as u32;
    let (kernel, grid) = if wide && shared <= device.shared_bytes() {
        let name = format!("attention_prefill_{}", heads.dim);
        (device.kernel(&images::ATTENTION_PREFILL, &name, shared)?, Grid { blocks, threads: 128, overlap, cluster: 1 })
    } else {
        let blocks = [at.rows as u32, heads.heads as u32, 1];
        (
            device.kernel(&images::ATTENTION_PLAIN, "attention_plain", 0)?,
            Grid { blocks, threads: 32, overlap, cluster: 1 },
        )
    };
    // SAFETY: as for `decode`; tiles name rows that `Tiles::set` was given, which the caller numbered below the rows of `at`.
    unsafe { stream.launch(kernel, grid, &[&args]) }
}
