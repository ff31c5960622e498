//! Panels times activations with AVX-VNNI, which processors without AVX-512 have: a panel and six tokens at a time.

use std::arch::x86_64::*;

use super::gemm::by_tiles;
use super::{load, store_sums};
use crate::cpu::gemm::{Line, Slab, SumLine};

/// Multiplies panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn multiply(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    by_tiles!(tile, lines, slab, sums, add);
}

#[target_feature(enable = "avx2,avxvnni")]
fn tile<const T: usize>(panel: &[Line], slab: &Slab<'_>, token: usize, sums: &mut [SumLine], add: bool) {
    let mut rows = [[].as_slice(); T];
    for (t, row) in rows.iter_mut().enumerate() {
        *row = &slab.row(token + t).as_chunks::<4>().0[..panel.len()];
    }
    let mut products = [[_mm256_setzero_si256(); 2]; T];
    for k in 0..panel.len() {
        let halves = panel[k].0.as_chunks().0;
        let weights = [load(&halves[0]), load(&halves[1])];
        for t in 0..T {
            let x = _mm256_set1_epi32(i32::from_ne_bytes(rows[t][k].map(i8::cast_unsigned)));
            for half in 0..2 {
                products[t][half] = _mm256_dpbusd_avx_epi32(products[t][half], weights[half], x);
            }
        }
    }
    for (products, sums) in products.iter().zip(&mut sums[token..]) {
        for (&products, sums) in products.iter().zip(sums.0.as_chunks_mut().0) {
            store_sums(sums, products, add);
        }
    }
}
