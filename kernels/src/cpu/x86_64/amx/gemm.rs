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

use super::outputs::{Block, Outputs, rows_of_pair};
use super::tile::{PAIR, Tiles};
use crate::cpu::activations::{Activations, BLOCK};
use crate::cpu::gemm::{Inputs, Line, PANEL, Scratch, TILE, Task, grow, rows};
use crate::cpu::linear::Linear;
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
    let mut outputs = Outputs::new(simd, task, x, sums, (out, stride));
    let first = task.tokens.start / TILE * TILE;
    let tokens = &inputs.tiles[first * steps..][..task.tokens.len().next_multiple_of(TILE) * steps];
    let begins = &inputs.begins[first..];
    let step = rows_of_pair(task);
    unpacking.begin(task.rows.start);
    (0..unpacking.pieces(steps)).for_each(|_| unpacking.next(now));
    // SAFETY: the caller's; this function does not call itself.
    let mut tiles = unsafe { Tiles::new() };
    for row in task.rows.clone().step_by(step) {
        let is_last = row + step >= task.rows.end;
        unpacking.begin(row + step);
        let pieces = if is_last { 0 } else { unpacking.pieces(steps) };
        let mut pace = Pace::new(pieces, unpacking.lines_ahead(), tokens.len().div_ceil(each) * steps);
        for ((pair, tokens), begins) in tokens.chunks(each).enumerate().zip(begins.chunks(PAIR)) {
            let first = task.tokens.start + pair * PAIR;
            outputs.under_way = Block { row, first, count: PAIR.min(task.tokens.end - first) };
            let panels = now.as_chunks().0;
            if let Some(begins) = begins.first_chunk()
                && tokens.len() == each
            {
                tiles.begin(begins);
                for (x, panels) in tokens.as_chunks().0.iter().zip(panels) {
                    tiles.add_int8(x, panels);
                    pace.turn(&mut unpacking, next);
                    outputs.turn();
                }
            } else if let Some(begins) = begins.first_chunk() {
                tiles.begin_half(begins);
                for (x, panels) in tokens.as_chunks().0.iter().zip(panels) {
                    tiles.add_int8_half(x, panels);
                    pace.turn(&mut unpacking, next);
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
    // What went past the caches is seen by other threads.
    _mm_sfence();
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

    /// Lines of memory of the rows that are unpacked after these.
    fn lines_ahead(&self) -> usize {
        self.ahead[0].len().div_ceil(64)
    }

    /// Begins to fetch the next of these lines: nothing else asks memory for them in time.
    #[inline]
    fn fetch(&mut self) {
        self.ahead.iter().filter_map(|bytes| bytes.get(64 * self.fetched)).for_each(|byte| fetch(byte));
        self.fetched += 1;
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn next(&mut self, lines: &mut [Line]) {
        let count = self.rows_of_piece;
        if let Some(tile) = self.piece.checked_sub(PAIR / count) {
            let rows = &self.rows[tile % 2 * PANEL * self.row_bytes..];
            avx512::panel::tile::<true>(
                rows,
                self.row_bytes,
                tile / 2 * (BLOCK / 4),
                &mut lines.as_chunks_mut().0[tile],
            );
            self.piece += 1;
            return;
        }
        let first = self.piece * count;
        self.piece += 1;
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

/// How pieces and lines are spread over turns, without divisions: what is due grows by so many for each turn, and what is done takes away the number of turns.
struct Pace {
    turns: usize,
    pieces: usize,
    pieces_due: usize,
    lines: usize,
    lines_due: usize,
}

impl Pace {
    fn new(pieces: usize, lines: usize, turns: usize) -> Self {
        Self { turns, pieces, pieces_due: 0, lines, lines_due: 0 }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn turn(&mut self, unpacking: &mut Unpacking<'_, '_>, lines: &mut [Line]) {
        self.pieces_due += self.pieces;
        while self.pieces_due >= self.turns {
            self.pieces_due -= self.turns;
            unpacking.next(lines);
        }
        self.lines_due += self.lines;
        while self.lines_due >= self.turns {
            self.lines_due -= self.turns;
            unpacking.fetch();
        }
    }
}
