//! From sums of two panels and 32 tokens to outputs: while tiles multiply the next ones, a few tokens at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::tile::PAIR;
use crate::cpu::activations::Activations;
use crate::cpu::gemm::{PANEL, Rows, SumLine, TILE, Task};
use crate::cpu::linear::Fused;
use crate::cpu::ops::rows::activate;
use crate::cpu::pool::Shares;
use crate::cpu::x86_64::{Avx512, avx512};

/// Tokens whose outputs are made at a time: what is said and checked before takes as many instructions as a token does, and those that wait for tiles have
/// to fit the few hundred that a core looks ahead.
const SOME: usize = 4;

/// Rows of two panels and up to 32 tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Block {
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Sums on their way to outputs, some tokens at a time.
pub(super) struct Outputs<'a, 'b> {
    task: &'b Task<'a>,
    simd: Avx512,
    rows: Rows<'a>,
    of_partner: Option<Rows<'a>>,
    x: &'b Activations,
    out: &'b Shares<'b, f32>,
    stride: usize,
    pub(super) sums: &'b mut [SumLine; 2 * PAIR],
    /// Whose sums they are.
    pub(super) ready: Block,
    /// Whose sums the tiles hold.
    pub(super) under_way: Block,
    /// Turns of the loop since the sums are there.
    turn: usize,
    /// Tokens that are done.
    done: usize,
}

impl<'a, 'b> Outputs<'a, 'b> {
    pub(super) fn new(
        simd: Avx512,
        task: &'b Task<'a>,
        x: &'b Activations,
        sums: &'b mut [SumLine; 2 * PAIR],
        (out, stride): (&'b Shares<'b, f32>, usize),
    ) -> Self {
        Self {
            task,
            simd,
            rows: task.of_rows(&task.layer),
            of_partner: task.partner.map(|partner| task.of_rows(&partner)),
            x,
            out,
            stride,
            sums,
            ready: Block::default(),
            under_way: Block::default(),
            turn: 0,
            done: 0,
        }
    }

    /// After every few turns makes outputs of as many tokens.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(super) fn turn(&mut self) {
        self.turn += 1;
        if self.turn.is_multiple_of(SOME) && self.done < PAIR {
            self.some(self.done + SOME);
        }
    }

    /// Makes outputs of what is left, and begins anew.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(super) fn finish(&mut self) {
        self.some(PAIR);
        (self.turn, self.done) = (0, 0);
    }

    /// Makes outputs of the tokens before `end`, and asks for the memory of as many others' that are added to.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn some(&mut self, end: usize) {
        let tokens = self.done..end.min(self.ready.count);
        let common = |rows: &Rows<'_>| rows.common.filter(|_| rows.bias.is_none()).map(f64::from);
        let whole = self.rows_from(self.ready.row).len() == rows_of_pair(self.task);
        match (self.task.fused, common(&self.rows), self.of_partner.as_ref().map(common)) {
            (Fused::Gate(activation), Some(gate), Some(Some(up))) if whole => {
                for token in tokens {
                    let (sums, scale) = (self.sums_of(token), self.scale(token));
                    let (gate, up) = (scaled(sums[0], gate / scale), scaled(sums[1], up / scale));
                    stream(self.outputs(token), activate(self.simd, activation, gate, up));
                }
            }
            (Fused::Add, Some(common), None) if whole => {
                for token in tokens {
                    let (sums, factor) = (self.sums_of(token), common / self.scale(token));
                    for (out, sums) in self.outputs(token).as_chunks_mut::<PANEL>().0.iter_mut().zip(sums) {
                        let y = _mm512_add_ps(avx512::load_floats(out), scaled(sums, factor));
                        avx512::store_floats(out, y);
                    }
                }
            }
            (Fused::Nothing, Some(common), None) if whole => {
                for token in tokens {
                    let (sums, factor) = (self.sums_of(token), common / self.scale(token));
                    for (out, sums) in self.outputs(token).as_chunks_mut::<PANEL>().0.iter_mut().zip(sums) {
                        stream(out, scaled(sums, factor));
                    }
                }
            }
            _ => tokens.for_each(|token| self.token(token)),
        }
        let expected = if self.task.fused == Fused::Add { self.under_way.count } else { 0 };
        for token in self.done..end.min(expected) {
            let Block { row, first, .. } = self.under_way;
            // SAFETY: outputs of this task, of which this is the only part that is in use; no other task has them, as `run` demands.
            expect(unsafe { self.task.outputs(self.out, self.stride, first + token, self.rows_from(row)) });
        }
        self.done = end;
    }

    /// The rows of both panels from `row` on.
    fn rows_from(&self, row: usize) -> Range<usize> {
        row..self.task.rows.end.min(row + rows_of_pair(self.task))
    }

    /// Sums of a token: of the first panel, and of the second.
    #[inline]
    fn sums_of(&self, token: usize) -> [&SumLine; 2] {
        let at = token / TILE * PAIR + token % TILE;
        [&self.sums[at], &self.sums[at + TILE]]
    }

    #[inline]
    fn scale(&self, token: usize) -> f64 {
        f64::from(self.x.scales[self.ready.first + token])
    }

    /// Where the outputs of a token go.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "as for `Shares::range`: one part is in use at a time")]
    fn outputs(&self, token: usize) -> &mut [f32] {
        let Block { row, first, .. } = self.ready;
        // SAFETY: as for `some`.
        unsafe { self.task.outputs(self.out, self.stride, first + token, self.rows_from(row)) }
    }

    /// Outputs of a token, whatever the rows: with scales of their own, with a bias, or fewer than a panel has.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2")]
    fn token(&self, token: usize) {
        let ([sums, of_second], scale) = (self.sums_of(token), self.x.scales[self.ready.first + token]);
        let first_row = self.ready.row - self.task.rows.start;
        let out = self.outputs(token);
        // Sums are those of trits: nothing is to be taken away.
        let low = avx512::gemm::outputs(&self.rows, first_row, out.len().min(PANEL), sums, 0, scale);
        if let Fused::Gate(activation) = self.task.fused
            && let Some(partner) = &self.of_partner
        {
            let up = avx512::gemm::outputs(partner, first_row, out.len(), of_second, 0, scale);
            return avx512::store_floats(out, activate(self.simd, activation, low, up));
        }
        let (out, rest) = out.split_at_mut(out.len().min(PANEL));
        self.write(out, low);
        if !rest.is_empty() {
            let high = avx512::gemm::outputs(&self.rows, first_row + PANEL, rest.len(), of_second, 0, scale);
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

/// Outputs of sums whose rows have one scale and no bias.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn scaled(sums: &SumLine, factor: f64) -> __m512 {
    let factor = _mm512_set1_pd(factor);
    let halves = [0, 8].map(|half| {
        // SAFETY: 32 bytes of a line are read. (From memory, widening takes no shuffle.)
        let sums = unsafe { _mm256_load_si256(sums.0.as_ptr().wrapping_add(half).cast()) };
        _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtepi32_pd(sums), factor))
    });
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(halves[0]), halves[1])
}

/// Stores 16 outputs past the caches, if they are a line of memory. They are not read before all others are there; and a line that is fetched in order to be
/// written takes, for as long as memory takes, one of the few places through which tiles come from the second cache.
#[inline]
#[target_feature(enable = "avx512f")]
fn stream(out: &mut [f32], outputs: __m512) {
    if out.len() == PANEL && out.as_ptr().cast::<SumLine>().is_aligned() {
        // SAFETY: 64 bytes that begin with a line are written; `run` has them seen by others before it returns.
        return unsafe { _mm512_stream_ps(out.as_mut_ptr(), outputs) };
    }
    avx512::store_floats(out, outputs);
}

/// Rows of two panels: of one layer, or the same rows of two.
pub(super) fn rows_of_pair(task: &Task<'_>) -> usize {
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
