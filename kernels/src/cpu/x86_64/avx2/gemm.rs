//! Panels times activations with AVX2: a panel and six tokens at a time, pairs of products added up in 16 bits.
//!
//! A pair of products is at least 2 · 2 · −128 = −512 and at most 508, so 64 of them fit into 16 bits, exactly; then they are widened.

use std::arch::x86_64::*;

use super::{load, store_sums};
use crate::cpu::gemm::{Line, Rows, Slab, SumLine, finish as finish_plain};

/// Tokens of a tile at most.
pub(super) const TOKENS: usize = 6;

/// Lines whose products fit into 16 bits.
const LINES: usize = 64;

/// Calls `$tile` for all tokens of all panels, up to [`TOKENS`] at a time. A macro, because a function would not have its caller's instructions.
macro_rules! by_tiles {
    ($tile:ident, $lines:ident, $slab:ident, $sums:ident, $add:ident) => {
        let each = $slab.cols.len() / 4;
        for (panel, sums) in $lines.chunks_exact(each).zip($sums.chunks_exact_mut($slab.tokens())) {
            let mut token = 0;
            while token < $slab.tokens() {
                let left = $slab.tokens() - token;
                // No tile is much smaller than the others.
                let now = left.div_ceil(left.div_ceil($crate::cpu::x86_64::avx2::gemm::TOKENS));
                match now {
                    1 => $tile::<1>(panel, $slab, token, sums, $add),
                    2 => $tile::<2>(panel, $slab, token, sums, $add),
                    3 => $tile::<3>(panel, $slab, token, sums, $add),
                    4 => $tile::<4>(panel, $slab, token, sums, $add),
                    5 => $tile::<5>(panel, $slab, token, sums, $add),
                    _ => $tile::<6>(panel, $slab, token, sums, $add),
                }
                token += now;
            }
        }
    };
}
pub(super) use by_tiles;

/// Multiplies panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
#[target_feature(enable = "avx2")]
pub(crate) fn multiply(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    by_tiles!(tile, lines, slab, sums, add);
}

#[target_feature(enable = "avx2")]
fn tile<const T: usize>(panel: &[Line], slab: &Slab<'_>, token: usize, sums: &mut [SumLine], add: bool) {
    for (i, panel) in panel.chunks(LINES).enumerate() {
        let mut rows = [[].as_slice(); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = &slab.row(token + t).as_chunks::<4>().0[i * LINES..][..panel.len()];
        }
        let mut pairs = [[_mm256_setzero_si256(); 2]; T];
        for k in 0..panel.len() {
            let halves = panel[k].0.as_chunks().0;
            let weights = [load(&halves[0]), load(&halves[1])];
            for t in 0..T {
                let x = _mm256_set1_epi32(i32::from_ne_bytes(rows[t][k].map(i8::cast_unsigned)));
                for half in 0..2 {
                    let products = _mm256_maddubs_epi16(weights[half], x);
                    pairs[t][half] = _mm256_add_epi16(pairs[t][half], products);
                }
            }
        }
        let one = _mm256_set1_epi16(1);
        for (pairs, sums) in pairs.iter().zip(&mut sums[token..]) {
            for (&pairs, sums) in pairs.iter().zip(sums.0.as_chunks_mut().0) {
                store_sums(sums, _mm256_madd_epi16(pairs, one), add || i > 0);
            }
        }
    }
}

/// The sum of whole blocks of activations.
#[target_feature(enable = "avx2")]
pub(crate) fn total(row: &[i8]) -> i32 {
    let (ones, one) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    for block in row.as_chunks::<32>().0 {
        let pairs = _mm256_maddubs_epi16(ones, load(&block.map(i8::cast_unsigned)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, one));
    }
    let mut sums = [0; 8];
    store_sums(&mut sums, sum, false);
    sums.iter().sum()
}

/// Outputs of one token.
#[target_feature(enable = "avx2")]
pub(crate) fn finish(
    rows: &Rows<'_>,
    sums: &[SumLine],
    token: (usize, usize),
    total: i32,
    scale: f32,
    out: &mut [f32],
) {
    finish_plain(rows, sums, token, total, scale, out);
}
