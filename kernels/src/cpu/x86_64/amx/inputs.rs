//! What tiles of activations are loaded from. Panels of weights have columns that are four apart side by side (`avx512::panel::tile`), so activations take
//! the same order, once for all panels.

use std::arch::x86_64::*;

use crate::cpu::activations::{Activations, BLOCK};
use crate::cpu::gemm::{Line, SumLine, TILE};
use crate::cpu::x86_64::avx512::{load, store, store_sums};

/// Brings up to 32 tokens from `first` on together: for every 64 columns a line of each of 16 tokens, then of the others, if `lines` has room for them;
/// and what their sums begin with.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn bring_together(x: &Activations, first: usize, lines: &mut [Line], begins: &mut [SumLine]) {
    let steps = x.cols.div_ceil(BLOCK);
    let order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let (begins, tiles) = (begins.as_chunks_mut::<TILE>().0, lines.len() / (TILE * steps));
    for (tile, begins) in begins.iter_mut().enumerate() {
        let mut rows = [[].as_slice(); TILE];
        let count = x.tokens.saturating_sub(first + tile * TILE).min(TILE);
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
                let block = load(&block.map(i8::cast_unsigned));
                store(&mut line.0, _mm512_shuffle_epi8(block, order));
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_set1_epi8(1), block);
            }
        }
        for (begin, sum) in begins.iter_mut().zip(sums) {
            store_sums(&mut begin.0, _mm512_set1_epi32(_mm512_reduce_add_epi32(sum).wrapping_neg()));
        }
    }
}
