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
//! With AMX the same steps overlap: two panels hold all columns, and while tiles multiply them, vectors finish the sums before and unpack the panels after;
//! see `x86_64/amx/gemm.rs`. Outputs may be added to what is there, or become a gated product, before they are written ([`Fused`]): they are many bytes,
//! which would otherwise be written, read and written again.
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
use kernel::PAIR;
pub(crate) use kernel::{Line, PANEL, Slab, SumLine, TILE};
pub(crate) use rows::tables;

use super::activations::{Activations, BLOCK};
use super::linear::{Fused, Linear, Output, check};
use super::ops::rows::{Add, GateRow};
use super::pool::{Pool, Shares};

/// Outputs of so many tokens are waited for while others are written: they are far apart, and not in a cache.
const AHEAD: usize = 8;

/// Rows of a task at most, where sums are kept in memory.
const MOST_ROWS: usize = 64;

/// Tasks for each thread that even out the end of a call.
const TASKS: usize = 4;

thread_local! {
    /// What the calling thread keeps of the activations of a call. It grows to the largest call and stays.
    static INPUTS: RefCell<Inputs> = const { RefCell::new(Inputs::new()) };
    /// What a thread needs for a task. It grows to the largest task and stays.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// What all tasks of a call need of the activations, beside themselves.
pub(crate) struct Inputs {
    /// `Σ x` of every token, where tiles are not wanted.
    pub(crate) totals: Vec<i32>,
    /// Where they are: `−Σ x` of every token of a tile, 16 times. Sums that begin with it are those of trits.
    pub(crate) begins: Vec<SumLine>,
    /// For kernels that multiply tiles, with the columns in the order of [`Kernel::tiles`]: for every 32 tokens and every 64 columns a line of each token, so
    /// that they lie in the order of their use. Where no more than 16 tokens are left, there are 16 lines.
    pub(crate) tiles: Vec<Line>,
}

/// Buffers of a task.
pub(crate) struct Scratch {
    /// Rows with two bits a trit.
    pub(crate) rows: Vec<u8>,
    /// An expanded strip of windows, on its way to `rows`.
    pub(crate) windows: Vec<u8>,
    /// Panels: some columns of all rows of a task, or all columns of some rows.
    pub(crate) lines: Vec<Line>,
    /// Sums of panels and tokens.
    pub(crate) sums: Vec<SumLine>,
}

impl Scratch {
    const fn new() -> Self {
        Self { rows: Vec::new(), windows: Vec::new(), lines: Vec::new(), sums: Vec::new() }
    }
}

/// Part of a layer: what one thread computes at a time.
pub(crate) struct Task<'a> {
    /// One layer, or two whose outputs become one.
    pub(crate) layer: Linear<'a>,
    pub(crate) partner: Option<Linear<'a>>,
    pub(crate) fused: Fused,
    pub(crate) rows: Range<usize>,
    pub(crate) tokens: Range<usize>,
}

/// How the layers of a call are cut into tasks.
struct Plan<'a> {
    layers: &'a [Linear<'a>],
    /// Of the only layer.
    partner: Option<Linear<'a>>,
    fused: Fused,
    tokens: usize,
    /// Rows and tokens of a task.
    task: (usize, usize),
}

/// Computes some layers of the same inputs. Panics where shapes do not fit or outputs overlap.
pub fn linear(pool: &Pool, kernel: Kernel, layers: &[Linear<'_>], x: &Activations, out: &mut Output<'_>) {
    fused(pool, kernel, (layers, Fused::Nothing), x, out);
}

/// As [`linear`], together with what becomes of the outputs. Panics where the layers of a gate are not two of the same number of rows, too.
pub fn fused(
    pool: &Pool,
    kernel: Kernel,
    (layers, fused): (&[Linear<'_>], Fused),
    x: &Activations,
    out: &mut Output<'_>,
) {
    let (layers, partner) = match (fused, layers) {
        (Fused::Gate(_), &[gate, up]) => {
            assert_eq!(gate.weight.rows, up.weight.rows, "as many gates as values");
            check(&[Linear { offset: gate.offset, ..up }], x, out);
            (&layers[..1], Some(up))
        }
        (Fused::Gate(_), _) => panic!("a gate has two layers, found {}", layers.len()),
        _ => (layers, None),
    };
    check(layers, x, out);
    if x.tokens() == 0 {
        return;
    }
    let plan = Plan::new((layers, partner, fused), x.tokens(), kernel, pool.threads());
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
        Self { totals: Vec::new(), begins: Vec::new(), tiles: Vec::new() }
    }

    fn fill(&mut self, pool: &Pool, kernel: Kernel, x: &Activations) {
        let tokens = x.tokens();
        if !kernel.wants_tiles() {
            grow(&mut self.totals, tokens);
            let totals = Shares::new(&mut self.totals[..tokens]);
            let share = tokens.div_ceil(pool.threads());
            return pool.run(tokens.div_ceil(share), &|i| {
                // SAFETY: every share is another one's.
                kernel.totals(x, i * share, unsafe { totals.range(i * share, share.min(tokens - i * share)) });
            });
        }
        let steps = x.cols().div_ceil(BLOCK);
        let whole = tokens.next_multiple_of(TILE);
        grow(&mut self.tiles, whole * steps);
        grow(&mut self.begins, whole);
        let begins = Shares::new(&mut self.begins[..whole]);
        pool.chunks(&mut self.tiles[..whole * steps], PAIR * steps, &|i, lines| {
            // SAFETY: every pair of tiles has other tokens.
            kernel.tiles(x, i * PAIR, lines, unsafe { begins.range(i * PAIR, PAIR.min(whole - i * PAIR)) });
        });
    }
}

impl<'a> Plan<'a> {
    fn new(
        (layers, partner, fused): (&'a [Linear<'a>], Option<Linear<'a>>, Fused),
        tokens: usize,
        kernel: Kernel,
        threads: usize,
    ) -> Self {
        let cols = layers.iter().map(|layer| layer.weight.cols).max().unwrap_or(0);
        let token_blocks = tokens.div_ceil(kernel.most_tokens(cols));
        let per_block = tokens.div_ceil(token_blocks).next_multiple_of(kernel.token_step());
        let all: usize = layers.iter().map(|layer| layer.weight.rows).sum();
        // Large tasks read the activations less often; smaller ones keep all threads busy to the end.
        let wanted = all * token_blocks / (TASKS * threads);
        let (step, most) = kernel.row_steps(partner.is_some());
        let rows = (wanted / step * step).clamp(step, most);
        Self { layers, partner, fused, tokens, task: (rows, per_block) }
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
                return Task { layer: *layer, partner: self.partner, fused: self.fused, rows, tokens };
            }
            row_task -= tasks;
        }
        unreachable!("a task below the number of tasks");
    }
}

impl<'a> Task<'a> {
    fn run(
        &self,
        kernel: Kernel,
        (x, inputs): (&Activations, &Inputs),
        scratch: &mut Scratch,
        out: &Shares<'_, f32>,
        stride: usize,
    ) {
        if kernel.streams(self, (x, inputs), scratch, (out, stride)) {
            return;
        }
        let (side, tokens) = (self.rows.len().div_ceil(PANEL), self.tokens.len());
        let panels = if self.partner.is_some() { 2 * side } else { side };
        let cols = x.cols().next_multiple_of(BLOCK);
        let block = block_of(cols, kernel.block());
        let row_bytes = rows::stride(cols);
        grow(&mut scratch.rows, panels * PANEL * row_bytes);
        grow(&mut scratch.lines, panels * block / 4);
        grow(&mut scratch.sums, panels * tokens);
        let sides = scratch.rows.chunks_exact_mut(side * PANEL * row_bytes);
        for (layer, rows) in [Some(self.layer), self.partner].into_iter().flatten().zip(sides) {
            kernel.rows(&layer.weight, self.rows.clone(), rows, row_bytes, &mut scratch.windows);
        }
        let sums = &mut scratch.sums[..panels * tokens];
        for first in (0..cols).step_by(block) {
            let width = block.min(cols - first);
            let lines = &mut scratch.lines[..panels * width / 4];
            for (lines, rows) in lines.chunks_exact_mut(width / 4).zip(scratch.rows.chunks_exact(PANEL * row_bytes)) {
                kernel.panel(rows, row_bytes, first / 4, lines);
            }
            let slab = Slab { x, tokens: self.tokens.clone(), cols: first..first + width };
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
        let rows = [Some(self.layer), self.partner].map(|layer| layer.map(|layer| self.of_rows(&layer)));
        let [Some(rows), partner] = rows else { unreachable!("a task has a layer") };
        let (count, side) = (self.rows.len(), self.rows.len().div_ceil(PANEL) * tokens);
        let mut both = [0.0; 2 * MOST_ROWS];
        let both = &mut both[..2 * count];
        for (i, token) in self.tokens.clone().enumerate() {
            if i + AHEAD < self.tokens.len() {
                // SAFETY: a later part of the same task, of which this is the only one alive. That tasks do not overlap is said below.
                kernel.expect(unsafe { self.outputs(out, stride, token + AHEAD, self.rows.clone()) });
            }
            // SAFETY: tasks are pairwise different in token or row, and `check` found that layers have places of their own.
            let out = unsafe { self.outputs(out, stride, token, self.rows.clone()) };
            let (total, scale) = (inputs.totals[token], x.scale(token));
            match (self.fused, &partner) {
                (Fused::Gate(activation), Some(partner)) => {
                    let (gate, up) = both.split_at_mut(count);
                    kernel.finish(&rows, &sums[..side], (i, tokens), total, scale, gate);
                    kernel.finish(partner, &sums[side..], (i, tokens), total, scale, up);
                    kernel.platform().dispatch(GateRow { activation, gate_up: both, out });
                }
                (Fused::Add, _) => {
                    let y = &mut both[..count];
                    kernel.finish(&rows, sums, (i, tokens), total, scale, y);
                    kernel.platform().dispatch(Add(out, y));
                }
                _ => kernel.finish(&rows, sums, (i, tokens), total, scale, out),
            }
        }
    }

    /// What belongs to the rows of the task in one of its layers.
    pub(crate) fn of_rows(&self, layer: &Linear<'a>) -> Rows<'a> {
        Rows::new(&layer.weight.scales[self.rows.clone()], layer.bias.map(|bias| &bias[self.rows.clone()]))
    }

    /// The outputs of a token and some rows of the task.
    ///
    /// # Safety
    ///
    /// They are not in use elsewhere.
    #[allow(clippy::mut_from_ref, reason = "as for `Shares::range`")]
    pub(crate) unsafe fn outputs<'o>(
        &self,
        out: &'o Shares<'_, f32>,
        stride: usize,
        token: usize,
        rows: Range<usize>,
    ) -> &'o mut [f32] {
        // SAFETY: the caller's.
        unsafe { out.range(token * stride + self.layer.offset + rows.start, rows.len()) }
    }
}

/// The width of equal blocks of columns that are not wider than `most`.
fn block_of(cols: usize, most: usize) -> usize {
    cols.div_ceil(cols.div_ceil(most)).next_multiple_of(BLOCK)
}

pub(crate) fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}
