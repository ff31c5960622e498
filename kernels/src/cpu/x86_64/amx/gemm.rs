//! Panels times activations with AMX: two panels and two times 16 tokens, four tiles of sums in registers, over all columns.
//!
//! ```text
//!              B0 = 16 lines of panel 0    B1 = panel 1            64 columns a step
//! A0 = 16 tokens     C00                      C01
//! A1 = 16 tokens     C10                      C11
//! ```
//!
//! Tiles of two panels, and those of 32 tokens, lie in the order in which they are multiplied: both are streams out of the second cache, whose lines begin
//! where those of the cache do. Tiles work beside the vector units, so a thread does with each step a little of what is to be done with vectors: it makes
//! outputs of the sums before, and panels of the rows that come next. Sums leave the registers once, into 4 KiB that stay in the first cache.
//!
//! All tiles are whole: tokens and panels that only fill them up are multiplied and ignored.

use std::arch::x86_64::*;
use std::ops::Range;

use super::tile::{PAIR, Tiles};
use crate::cpu::activations::{Activations, BLOCK};
use crate::cpu::gemm::{Inputs, Line, PANEL, Rows, Scratch, SumLine, TILE, Task, grow, rows};
use crate::cpu::linear::{Fused, Linear};
use crate::cpu::ops::rows::activate;
use crate::cpu::pool::Shares;
use crate::cpu::x86_64::{Avx512, avx512, fetch};

/// Rows that are unpacked at a time, where the encoding does not ask for more.
const ROWS: usize = 8;

/// Computes a task.
///
/// # Safety
///
/// The processor has AMX and the process may use it. No other task of the call has the same outputs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
pub(crate) unsafe fn run(
    simd: Avx512,
    task: &Task<'_>,
    (x, inputs): (&Activations, &Inputs),
    scratch: &mut Scratch,
    (out, stride): (&Shares<'_, f32>, usize),
) {
    let steps = x.cols.div_ceil(BLOCK);
    let row_bytes = rows::stride(steps * BLOCK);
    let each = PAIR * steps;
    grow(&mut scratch.rows, PAIR * row_bytes);
    grow(&mut scratch.lines, 2 * each);
    grow(&mut scratch.sums, 2 * PAIR);
    let Some((sums, _)) = scratch.sums.split_first_chunk_mut() else { return };
    let (mut now, mut next) = scratch.lines[..2 * each].split_at_mut(each);
    let mut unpacking = Unpacking::new(task, row_bytes, &mut scratch.rows, &mut scratch.windows);
    let mut outputs = Outputs {
        task,
        simd,
        rows: task.of_rows(&task.layer),
        of_partner: task.partner.map(|partner| task.of_rows(&partner)),
        x,
        totals: &inputs.totals,
        out,
        stride,
        sums,
        ready: Block::default(),
        under_way: Block::default(),
        turn: 0,
    };
    let tokens = &inputs.tiles[task.tokens.start / TILE * TILE * steps..];
    let tokens = &tokens[..task.tokens.len().div_ceil(TILE) * TILE * steps];
    let step = rows_of_pair(task);
    unpacking.begin(task.rows.start);
    unpacking.catch_up(unpacking.pieces(steps), now);
    // SAFETY: the caller's; this function does not call itself.
    let mut tiles = unsafe { Tiles::new() };
    for row in task.rows.clone().step_by(step) {
        let is_last = row + step >= task.rows.end;
        unpacking.begin(row + step);
        let pieces = if is_last { 0 } else { unpacking.pieces(steps) };
        let (mut turn, turns) = (0, tokens.len().div_ceil(each) * steps);
        for (pair, tokens) in tokens.chunks(each).enumerate() {
            let first = task.tokens.start + pair * PAIR;
            outputs.under_way = Block { row, first, count: PAIR.min(task.tokens.end - first) };
            let panels = now.as_chunks().0;
            tiles.clear();
            if tokens.len() == each {
                for (x, panels) in tokens.as_chunks().0.iter().zip(panels) {
                    tiles.add_int8(x, panels);
                    turn += 1;
                    unpacking.catch_up(pieces * turn / turns, next);
                    unpacking.fetch(turn, turns);
                    outputs.turn();
                }
            } else {
                for (x, panels) in tokens.as_chunks().0.iter().zip(panels) {
                    tiles.add_int8_half(x, panels);
                    turn += 1;
                    unpacking.catch_up(pieces * turn / turns, next);
                    unpacking.fetch(turn, turns);
                    outputs.turn();
                }
            }
            outputs.finish();
            tiles.store(outputs.sums);
            outputs.ready = outputs.under_way;
        }
        std::mem::swap(&mut now, &mut next);
    }
    outputs.under_way = Block::default();
    outputs.finish();
}

/// Two panels on their way from stored rows to lines, piece by piece.
struct Unpacking<'a, 'b> {
    task: &'b Task<'a>,
    row_bytes: usize,
    /// Rows of both panels with two bits a trit.
    rows: &'b mut [u8],
    windows: &'b mut Vec<u8>,
    /// The first row.
    row: usize,
    /// What comes next: pieces of rows, then tiles.
    piece: usize,
    /// Rows that are unpacked at a time.
    rows_of_piece: usize,
    /// The rows after these as they are stored, of both layers if there are two, and the lines of them that were asked for.
    ahead: [&'b [u8]; 2],
    fetched: usize,
}

impl<'a, 'b> Unpacking<'a, 'b> {
    fn new(task: &'b Task<'a>, row_bytes: usize, rows: &'b mut [u8], windows: &'b mut Vec<u8>) -> Self {
        let layers = [Some(task.layer), task.partner].into_iter().flatten();
        let strips = layers.map(|layer| layer.weight.packing.strip(layer.weight.cols).rows);
        let rows_of_piece = strips.fold(ROWS, usize::max);
        Self { task, row_bytes, rows_of_piece, rows, windows, row: 0, piece: 0, ahead: [&[]; 2], fetched: 0 }
    }

    fn begin(&mut self, row: usize) {
        let step = rows_of_pair(self.task);
        self.ahead = [Some(self.task.layer), self.task.partner].map(|layer| {
            let Some(Linear { weight, .. }) = layer else { return &[][..] };
            let strip = weight.packing.strip(weight.cols);
            let (first, end) = ((row + step) / strip.rows, (row + 2 * step) / strip.rows);
            weight.data.get(first * strip.bytes..end * strip.bytes).unwrap_or(&[])
        });
        (self.row, self.piece, self.fetched) = (row, 0, 0);
    }

    /// Pieces of both panels.
    fn pieces(&self, steps: usize) -> usize {
        PAIR / self.rows_of_piece + 2 * steps
    }

    /// Begins to fetch turn `turn` of `turns` of the rows that are unpacked after these: nothing else asks memory for them in time.
    #[inline]
    fn fetch(&mut self, turn: usize, turns: usize) {
        let lines = self.ahead[0].len().div_ceil(64) * turn / turns;
        for line in self.fetched..lines {
            self.ahead.iter().filter_map(|bytes| bytes.get(64 * line)).for_each(|byte| fetch(byte));
        }
        self.fetched = lines;
    }

    /// Unpacks until `piece` pieces are done.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn catch_up(&mut self, piece: usize, lines: &mut [Line]) {
        while self.piece < piece {
            self.next(lines);
            self.piece += 1;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn next(&mut self, lines: &mut [Line]) {
        let count = self.rows_of_piece;
        if let Some(tile) = self.piece.checked_sub(PAIR / count) {
            let rows = &self.rows[tile % 2 * PANEL * self.row_bytes..];
            avx512::panel::tile(rows, self.row_bytes, tile / 2 * (BLOCK / 4), &mut lines.as_chunks_mut().0[tile]);
            return;
        }
        let first = self.piece * count;
        let (layer, start) = match self.task.partner {
            Some(partner) if first >= PANEL => (partner, self.row + first - PANEL),
            _ => (self.task.layer, self.row + first),
        };
        let range = start..self.task.rows.end.min(start + count);
        if !range.is_empty() {
            let out = &mut self.rows[first * self.row_bytes..];
            avx512::rows::unpack(&layer.weight, range, out, self.row_bytes, self.windows);
        }
    }
}

/// Rows of two panels and up to 32 tokens.
#[derive(Clone, Copy, Default)]
struct Block {
    row: usize,
    first: usize,
    count: usize,
}

/// Sums on their way to outputs, token by token.
struct Outputs<'a, 'b> {
    task: &'b Task<'a>,
    simd: Avx512,
    rows: Rows<'a>,
    of_partner: Option<Rows<'a>>,
    x: &'b Activations,
    totals: &'b [i32],
    out: &'b Shares<'b, f32>,
    stride: usize,
    sums: &'b mut [SumLine; 2 * PAIR],
    /// Whose sums they are.
    ready: Block,
    /// Whose sums the tiles hold.
    under_way: Block,
    /// The token that is next.
    turn: usize,
}

impl Outputs<'_, '_> {
    /// Makes outputs of the sums of a token, and asks for the memory of another one's.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn turn(&mut self) {
        if self.turn < self.ready.count {
            self.token();
        }
        if self.turn < self.under_way.count {
            let Block { row, first, .. } = self.under_way;
            // SAFETY: outputs of this task, of which this is the only part that is in use; no other task has them, as `run` demands.
            expect(unsafe { self.task.outputs(self.out, self.stride, first + self.turn, self.rows_from(row)) });
        }
        self.turn += 1;
    }

    /// Makes outputs of what is left, and begins anew.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn finish(&mut self) {
        while self.turn < self.ready.count {
            self.turn();
        }
        self.turn = 0;
    }

    /// The rows of both panels from `row` on.
    fn rows_from(&self, row: usize) -> Range<usize> {
        row..self.task.rows.end.min(row + rows_of_pair(self.task))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn token(&mut self) {
        let Block { row, first, .. } = self.ready;
        let (token, at) = (first + self.turn, self.turn / TILE * PAIR + self.turn % TILE);
        let (total, scale) = (self.totals[token], self.x.scales[token]);
        let first_row = row - self.task.rows.start;
        // SAFETY: as for `turn`.
        let out = unsafe { self.task.outputs(self.out, self.stride, token, self.rows_from(row)) };
        let low = avx512::gemm::outputs(&self.rows, first_row, out.len().min(PANEL), &self.sums[at], total, scale);
        let sums = &self.sums[at + TILE];
        if let Fused::Gate(activation) = self.task.fused
            && let Some(partner) = &self.of_partner
        {
            let up = avx512::gemm::outputs(partner, first_row, out.len(), sums, total, scale);
            return avx512::store_floats(out, activate(self.simd, activation, low, up));
        }
        let (out, rest) = out.split_at_mut(out.len().min(PANEL));
        self.write(out, low);
        if !rest.is_empty() {
            let high = avx512::gemm::outputs(&self.rows, first_row + PANEL, rest.len(), sums, total, scale);
            self.write(rest, high);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn write(&self, out: &mut [f32], outputs: __m512) {
        let outputs =
            if self.task.fused == Fused::Add { _mm512_add_ps(avx512::load_floats(out), outputs) } else { outputs };
        avx512::store_floats(out, outputs);
    }
}

/// Rows of two panels: of one layer, or the same rows of two.
fn rows_of_pair(task: &Task<'_>) -> usize {
    if task.partner.is_some() { PANEL } else { 2 * PANEL }
}

/// Brings memory that will be written into a cache.
#[inline]
fn expect(out: &[f32]) {
    for line in out.chunks(PANEL) {
        // SAFETY: the instruction changes nothing that a program can see, and the address is that of a value.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
    }
}

/// Brings up to 32 tokens from `first` on together: for every 64 columns a line of each of 16 tokens, then of the others, if `lines` has room for them. Adds
/// up what each token has.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn bring_together(x: &Activations, first: usize, lines: &mut [Line], totals: &mut [i32]) {
    let steps = x.cols.div_ceil(BLOCK);
    let tiles = lines.len() / (TILE * steps);
    for tile in 0..tiles {
        let mut rows = [[].as_slice(); TILE];
        let count = totals.len().saturating_sub(tile * TILE).min(TILE);
        for (i, row) in rows[..count].iter_mut().enumerate() {
            *row = &x.values[(first + tile * TILE + i) * x.stride..][..steps * BLOCK].as_chunks::<BLOCK>().0[..steps];
        }
        let mut sums = [_mm512_setzero_si512(); TILE];
        for (step, lines) in lines.as_chunks_mut::<TILE>().0.iter_mut().skip(tile).step_by(tiles).enumerate() {
            for ((row, line), sum) in rows.iter().zip(lines).zip(&mut sums) {
                let Some(block) = row.get(step) else {
                    *line = Line::default();
                    continue;
                };
                let block = avx512::load(&block.map(i8::cast_unsigned));
                avx512::store(&mut line.0, block);
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_set1_epi8(1), block);
            }
        }
        for (total, sum) in totals.iter_mut().skip(tile * TILE).zip(sums) {
            *total = _mm512_reduce_add_epi32(sum);
        }
    }
}
