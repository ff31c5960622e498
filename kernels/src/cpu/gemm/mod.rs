//! Ternary linear layers for many tokens: weights are unpacked once and multiplied with all of them.
//!
//! ```text
//! task = some panels (16 rows each) × some tokens
//!
//!   stored rows ── rows ──▶ two bits a trit, row-major        whatever the encoding; 1/4 byte a weight
//!               ── panel ──▶ [columns / 4][16 rows][4] u8     trit + 1; a block of columns at a time, stays in the first cache
//!               ── multiply ──▶ [panel][token][16] i32        Σ (trit + 1) · x, added up over the blocks of columns
//!               ── finish ──▶ f32                             (sum − Σ x) × (row scale / activation scale) + bias
//! ```
//!
//! A panel is what both VNNI and AMX multiply with: unsigned weights, four columns of a row side by side. This module cuts the work up and knows no
//! instructions; a [`Kernel`] does. Few tokens are not its business: there reading the weights takes the time, not multiplying.

mod finish;
mod kernel;
pub(crate) mod rows;

use std::cell::RefCell;
use std::ops::Range;

pub(crate) use finish::{Rows, finish};
pub use kernel::Kernel;
pub(crate) use kernel::{Line, PANEL, Slab, SumLine, TILE};
pub(crate) use rows::tables;

use super::activations::{Activations, BLOCK};
use super::linear::{Linear, Output, check};
use super::pool::{Pool, Shares};

/// Tokens of a task at most: their sums and a block of their columns share the second cache.
const MAX_TOKENS: usize = 512;

/// Outputs of so many tokens are waited for while others are written: they are far apart, and not in a cache.
const AHEAD: usize = 8;

/// Tasks for each thread that even out the end of a call.
const TASKS: usize = 4;

thread_local! {
    /// What the calling thread keeps of the activations of a call. It grows to the largest call and stays.
    static INPUTS: RefCell<Inputs> = const { RefCell::new(Inputs::new()) };
    /// What a thread needs for a task. It grows to the largest task and stays.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// What all tasks of a call need of the activations, beside themselves.
struct Inputs {
    /// `Σ x` of every token.
    totals: Vec<i32>,
    /// Tiles, for kernels that want them.
    tiles: Vec<Line>,
}

/// Buffers of a task.
struct Scratch {
    /// Rows with two bits a trit.
    rows: Vec<u8>,
    /// An expanded strip of windows, on its way to `rows`.
    windows: Vec<u8>,
    /// A block of columns of all panels.
    lines: Vec<Line>,
    /// Sums of all panels and tokens.
    sums: Vec<SumLine>,
}

impl Scratch {
    const fn new() -> Self {
        Self { rows: Vec::new(), windows: Vec::new(), lines: Vec::new(), sums: Vec::new() }
    }
}

/// Part of a layer: what one thread computes at a time.
struct Task<'a> {
    layer: Linear<'a>,
    rows: Range<usize>,
    tokens: Range<usize>,
}

/// How the layers of a call are cut into tasks.
struct Plan<'a> {
    layers: &'a [Linear<'a>],
    tokens: usize,
    /// Rows and tokens of a task.
    task: (usize, usize),
}

/// Computes some layers of the same inputs. Panics where shapes do not fit or outputs overlap.
pub fn linear(pool: &Pool, kernel: Kernel, layers: &[Linear<'_>], x: &Activations, out: &mut Output<'_>) {
    check(layers, x, out);
    if x.tokens() == 0 {
        return;
    }
    let plan = Plan::new(layers, x.tokens(), kernel, pool.threads());
    INPUTS.with_borrow_mut(|inputs| {
        inputs.fill(pool, kernel, x);
        let (inputs, values, stride) = (&*inputs, Shares::new(out.values), out.stride);
        pool.run(plan.tasks(), &|task| {
            SCRATCH.with_borrow_mut(|scratch| plan.at(task).run(kernel, (x, inputs), scratch, &values, stride));
        });
    });
}

impl Inputs {
    const fn new() -> Self {
        Self { totals: Vec::new(), tiles: Vec::new() }
    }

    fn fill(&mut self, pool: &Pool, kernel: Kernel, x: &Activations) {
        grow(&mut self.totals, x.tokens());
        let share = x.tokens().div_ceil(pool.threads());
        pool.chunks(&mut self.totals[..x.tokens()], share, &|i, totals| kernel.totals(x, i * share, totals));
        if kernel.wants_tiles() {
            let lines = x.cols().div_ceil(BLOCK) * TILE;
            let all = x.tokens().div_ceil(TILE) * lines;
            grow(&mut self.tiles, all);
            pool.chunks(&mut self.tiles[..all], lines, &|i, lines| kernel.tile(x, i * TILE, lines));
        }
    }
}

impl<'a> Plan<'a> {
    fn new(layers: &'a [Linear<'a>], tokens: usize, kernel: Kernel, threads: usize) -> Self {
        let token_blocks = tokens.div_ceil(MAX_TOKENS);
        let per_block = tokens.div_ceil(token_blocks).next_multiple_of(kernel.token_step());
        let all: usize = layers.iter().map(|layer| layer.weight.rows).sum();
        // Large tasks read the activations less often; smaller ones keep all threads busy to the end.
        let wanted = all * token_blocks / (TASKS * threads);
        let (step, most) = kernel.row_steps();
        let rows = (wanted / step * step).clamp(step, most);
        Self { layers, tokens, task: (rows, per_block) }
    }

    fn tasks(&self) -> usize {
        self.row_tasks() * self.tokens.div_ceil(self.task.1)
    }

    fn row_tasks(&self) -> usize {
        self.layers.iter().map(|layer| layer.weight.rows.div_ceil(self.task.0)).sum()
    }

    fn at(&self, task: usize) -> Task<'a> {
        let (rows, tokens) = self.task;
        let (mut row_task, first) = (task % self.row_tasks(), task / self.row_tasks() * tokens);
        let tokens = first..self.tokens.min(first + tokens);
        for layer in self.layers {
            let tasks = layer.weight.rows.div_ceil(rows);
            if row_task < tasks {
                let rows = row_task * rows..layer.weight.rows.min((row_task + 1) * rows);
                return Task { layer: *layer, rows, tokens };
            }
            row_task -= tasks;
        }
        unreachable!("a task below the number of tasks");
    }
}

impl Task<'_> {
    fn run(
        &self,
        kernel: Kernel,
        (x, inputs): (&Activations, &Inputs),
        scratch: &mut Scratch,
        out: &Shares<'_, f32>,
        stride: usize,
    ) {
        let (panels, tokens) = kernel.filled_up(self.rows.len().div_ceil(PANEL), self.tokens.len());
        let cols = x.cols().next_multiple_of(BLOCK);
        let block = block_of(cols, kernel.block());
        let row_bytes = rows::stride(cols);
        grow(&mut scratch.rows, panels * PANEL * row_bytes);
        grow(&mut scratch.lines, panels * block / 4);
        grow(&mut scratch.sums, panels * tokens);
        kernel.rows(&self.layer.weight, self.rows.clone(), &mut scratch.rows, row_bytes, &mut scratch.windows);
        let sums = &mut scratch.sums[..panels * tokens];
        for first in (0..cols).step_by(block) {
            let width = block.min(cols - first);
            let lines = &mut scratch.lines[..panels * width / 4];
            for (lines, rows) in lines.chunks_exact_mut(width / 4).zip(scratch.rows.chunks_exact(PANEL * row_bytes)) {
                kernel.panel(rows, row_bytes, first / 4, lines);
            }
            let slab = Slab { x, tiles: &inputs.tiles, tokens: self.tokens.clone(), cols: first..first + width };
            kernel.multiply(lines, &slab, sums, first > 0);
        }
        self.finish(kernel, (x, inputs), (sums, tokens), out, stride);
    }

    fn finish(
        &self,
        kernel: Kernel,
        (x, inputs): (&Activations, &Inputs),
        (sums, tokens): (&[SumLine], usize),
        out: &Shares<'_, f32>,
        stride: usize,
    ) {
        let scales = &self.layer.weight.scales[self.rows.clone()];
        let rows = Rows::new(scales, self.layer.bias.map(|bias| &bias[self.rows.clone()]));
        for (i, token) in self.tokens.clone().enumerate() {
            let start = token * stride + self.layer.offset + self.rows.start;
            if i + AHEAD < self.tokens.len() {
                // SAFETY: a later part of the same task, of which this is the only one alive. That tasks do not overlap is said below.
                kernel.expect(unsafe { out.range(start + AHEAD * stride, scales.len()) });
            }
            // SAFETY: tasks are pairwise different in token or row, and `check` found that layers have places of their own.
            let out = unsafe { out.range(start, scales.len()) };
            kernel.finish(&rows, sums, (i, tokens), inputs.totals[token], x.scale(token), out);
        }
    }
}

/// The width of equal blocks of columns that are not wider than `most`.
fn block_of(cols: usize, most: usize) -> usize {
    cols.div_ceil(cols.div_ceil(most)).next_multiple_of(BLOCK)
}

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}
