//! Panels times activations with VNNI: four panels and six tokens at a time, 24 vectors of sums in registers.

use std::arch::x86_64::*;

use super::{load, load_floats, load_sums, store_floats, store_sums};
use crate::cpu::gemm::{Line, PANEL, Rows, Slab, SumLine};

/// Tokens of a tile at most.
const TOKENS: usize = 6;

/// Multiplies panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn multiply(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    tokens(lines, slab, 0, sums, add);
}

/// As [`multiply`], for the tokens from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn tokens(lines: &[Line], slab: &Slab<'_>, first: usize, sums: &mut [SumLine], add: bool) {
    let each = slab.cols.len() / 4;
    let (fours, rest) = lines.split_at(lines.len() / (4 * each) * (4 * each));
    let (sums, rest_sums) = sums.split_at_mut(fours.len() / each * slab.tokens());
    for (lines, sums) in fours.chunks_exact(4 * each).zip(sums.chunks_exact_mut(4 * slab.tokens())) {
        let mut panels = [[].as_slice(); 4];
        panels.iter_mut().zip(lines.chunks_exact(each)).for_each(|(panel, lines)| *panel = lines);
        panels_times_tokens(panels, slab, first, sums, add);
    }
    for (lines, sums) in rest.chunks_exact(each).zip(rest_sums.chunks_exact_mut(slab.tokens())) {
        panels_times_tokens([lines], slab, first, sums, add);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn panels_times_tokens<const P: usize>(
    panels: [&[Line]; P],
    slab: &Slab<'_>,
    first: usize,
    sums: &mut [SumLine],
    add: bool,
) {
    let mut token = first;
    while token < slab.tokens() {
        let left = slab.tokens() - token;
        // No tile is much smaller than the others.
        let now = left.div_ceil(left.div_ceil(TOKENS));
        match now {
            1 => tile::<P, 1>(panels, slab, token, sums, add),
            2 => tile::<P, 2>(panels, slab, token, sums, add),
            3 => tile::<P, 3>(panels, slab, token, sums, add),
            4 => tile::<P, 4>(panels, slab, token, sums, add),
            5 => tile::<P, 5>(panels, slab, token, sums, add),
            _ => tile::<P, 6>(panels, slab, token, sums, add),
        }
        token += now;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const P: usize, const T: usize>(
    panels: [&[Line]; P],
    slab: &Slab<'_>,
    token: usize,
    sums: &mut [SumLine],
    add: bool,
) {
    let lines = panels[0].len();
    let mut panels = panels;
    for panel in &mut panels {
        *panel = &panel[..lines];
    }
    let mut rows = [[].as_slice(); T];
    for (t, row) in rows.iter_mut().enumerate() {
        *row = &slab.row(token + t).as_chunks::<4>().0[..lines];
    }
    let mut products = [[_mm512_setzero_si512(); T]; P];
    for k in 0..lines {
        let mut weights = [_mm512_setzero_si512(); P];
        for p in 0..P {
            weights[p] = load(&panels[p][k].0);
        }
        for t in 0..T {
            let x = _mm512_set1_epi32(i32::from_ne_bytes(rows[t][k].map(i8::cast_unsigned)));
            for p in 0..P {
                products[p][t] = _mm512_dpbusd_epi32(products[p][t], weights[p], x);
            }
        }
    }
    let tokens = slab.tokens();
    for p in 0..P {
        // Of a known length, so that products stay in registers.
        let sums = &mut sums[p * tokens + token..][..T];
        for t in 0..T {
            let product = products[p][t];
            let sum = if add { _mm512_add_epi32(load_sums(&sums[t].0), product) } else { product };
            store_sums(&mut sums[t].0, sum);
        }
    }
}

/// The sum of whole blocks of activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn total(row: &[i8]) -> i32 {
    let mut sums = [_mm512_setzero_si512(); 2];
    for (i, block) in row.as_chunks::<64>().0.iter().enumerate() {
        let x = load(&block.map(i8::cast_unsigned));
        sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], _mm512_set1_epi8(1), x);
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

/// Outputs of one token. The plain form of this is `gemm::finish`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn finish(
    rows: &Rows<'_>,
    sums: &[SumLine],
    (token, tokens): (usize, usize),
    total: i32,
    scale: f32,
    out: &mut [f32],
) {
    for (panel, (out, sums)) in out.chunks_mut(PANEL).zip(sums[token..].iter().step_by(tokens)).enumerate() {
        let outputs = outputs(rows, panel * PANEL, out.len(), sums, total, scale);
        store_floats(out, outputs);
    }
}

/// Outputs of `count` rows from `first` on, for a token whose activations add up to `total`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn outputs(rows: &Rows<'_>, first: usize, count: usize, sums: &SumLine, total: i32, scale: f32) -> __m512 {
    let scale = f64::from(scale);
    let sums = _mm512_sub_epi32(load_sums(&sums.0), _mm512_set1_epi32(total));
    let (low, high) = (_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums));
    let (low, high) = (_mm512_cvtepi32_pd(low), _mm512_cvtepi32_pd(high));
    let factors = match rows.common {
        Some(common) => [_mm512_set1_pd(f64::from(common) / scale); 2],
        None => {
            let (scales, scale) = (load_floats(&rows.scales[first..][..count]), _mm512_set1_pd(scale));
            let halves = [_mm512_castps512_ps256(scales), _mm512_extractf32x8_ps::<1>(scales)];
            [_mm512_div_pd(_mm512_cvtps_pd(halves[0]), scale), _mm512_div_pd(_mm512_cvtps_pd(halves[1]), scale)]
        }
    };
    let low = _mm512_cvtpd_ps(_mm512_mul_pd(low, factors[0]));
    let high = _mm512_cvtpd_ps(_mm512_mul_pd(high, factors[1]));
    let outputs = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
    match rows.bias {
        Some(bias) => _mm512_add_ps(outputs, load_floats(&bias[first..][..count])),
        None => outputs,
    }
}
