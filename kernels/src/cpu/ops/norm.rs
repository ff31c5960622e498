//! RMS norms, and the quantisation of activations, alone or together with what comes before it.

use super::elementwise::Activation;
use super::rows::{AddQuantiseRow, GateQuantiseRow, Norm, NormRow, NormRuns, QuantiseRow};
use super::{rows_of_task, scratch};
use crate::cpu::Cpu;
use crate::cpu::activations::{Activations, Rule};
use crate::cpu::pool::Shares;
use crate::cpu::simd::{Kernel, Simd};

impl Cpu {
    /// `out = x / rms(x) · weight`, row by row; a row has `weight.len()` values. Panics where `x` and `out` are not as many rows.
    pub fn norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let cols = weight.len();
        assert!(cols > 0 && x.len() == out.len() && x.len().is_multiple_of(cols), "rows of {cols} values");
        let size = rows_of_task(cols) * cols;
        self.pool.chunks(out, size, &|i, out| {
            for (x, out) in x[i * size..].chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
                self.platform.dispatch(NormRow { x, norm: (weight, eps), out });
            }
        });
    }

    /// [`Cpu::norm`] of `heads` runs of `weight.len()` values in every row of `stride` values, from `offset` on, in place. Panics where a row has no room for
    /// them.
    pub fn norm_heads(&self, x: &mut [f32], stride: usize, offset: usize, heads: usize, weight: &[f32], eps: f32) {
        let cols = heads * weight.len();
        assert!(cols > 0 && offset <= stride && cols <= stride - offset, "{cols} values from {offset} on in {stride}");
        assert!(x.len().is_multiple_of(stride), "rows of {stride} values");
        self.pool.chunks(x, rows_of_task(cols) * stride, &|_, rows| {
            for row in rows.chunks_exact_mut(stride) {
                self.platform.dispatch(NormRuns { x: &mut row[offset..][..cols], norm: (weight, eps) });
            }
        });
    }

    /// Normalises (with a weight and an epsilon) and quantises rows of `cols` values. Panics where `x` is not whole rows or the weight not one.
    pub fn quantise(&self, x: &[f32], cols: usize, norm: Option<(&[f32], f32)>, rule: Rule, out: &mut Activations) {
        check(x.len(), cols, cols, norm);
        self.each_row(x.len() / cols, cols, out, &|token, scratch, out| {
            let row = &x[token * cols..][..cols];
            self.fetch(x.len() / cols, [row, norm.map_or(&[][..], |norm| norm.0)]);
            let x = row;
            self.platform.dispatch(QuantiseRow { x, norm, rule, scratch, out })
        });
    }

    /// `x += y`, then [`Cpu::quantise`] of `x`: one pass over memory less than both apart. Panics as that does, and where `y` is not as long as `x`.
    pub fn add_quantise(
        &self,
        x: &mut [f32],
        y: &[f32],
        cols: usize,
        norm: Option<(&[f32], f32)>,
        rule: Rule,
        out: &mut Activations,
    ) {
        check(x.len(), cols, cols, norm);
        assert_eq!(x.len(), y.len(), "as many values to add");
        let tokens = x.len() / cols;
        let x = Shares::new(x);
        self.each_row(tokens, cols, out, &|token, scratch, out| {
            // SAFETY: every token is handed out once, so these rows do not overlap.
            let x = unsafe { x.range(token * cols, cols) };
            let y = &y[token * cols..][..cols];
            self.fetch(tokens, [y, norm.map_or(&[][..], |norm| norm.0)]);
            self.platform.dispatch(AddQuantiseRow { x, y, norm, rule, scratch, out })
        });
    }

    /// [`Cpu::gate`], then [`Cpu::quantise`] of its rows of `width` values, which are not written out. Panics where `gate_up` is not whole rows of
    /// `2 · width` or the weight not one row.
    pub fn gate_quantise(
        &self,
        activation: Activation,
        gate_up: &[f32],
        width: usize,
        norm: Option<(&[f32], f32)>,
        rule: Rule,
        out: &mut Activations,
    ) {
        check(gate_up.len(), 2 * width, width, norm);
        self.each_row(gate_up.len() / (2 * width), width, out, &|token, scratch, out| {
            let row = &gate_up[token * 2 * width..][..2 * width];
            self.fetch(gate_up.len() / row.len(), [row, norm.map_or(&[][..], |norm| norm.0)]);
            let gate_up = row;
            self.platform.dispatch(GateQuantiseRow { activation, gate_up, norm, rule, scratch, out })
        });
    }

    /// Asks for all of what a single token's row is made of, if it is one: other threads have just written half of it, and weights come from memory.
    fn fetch(&self, tokens: usize, parts: [&[f32]; 2]) {
        if tokens == 1 {
            parts.into_iter().for_each(|part| self.platform.dispatch(Fetch(part)));
        }
    }

    /// Shapes `out` and calls `row` for every token with as many scratch floats and integers as a token has; it gives the token's scale.
    fn each_row(&self, tokens: usize, cols: usize, out: &mut Activations, row: &Row<'_>) {
        out.resize(tokens, cols);
        let (stride, rows) = (out.stride, rows_of_task(cols));
        let scales = Shares::new(&mut out.scales[..tokens]);
        self.pool.chunks(&mut out.values[..tokens * stride], rows * stride, &|i, values| {
            scratch::for_task(cols, |scratch| {
                // SAFETY: every group of rows is handed out once, so these scales are written by one thread.
                let scales = unsafe { scales.range(i * rows, values.len() / stride) };
                for (j, (scale, values)) in scales.iter_mut().zip(values.chunks_exact_mut(stride)).enumerate() {
                    *scale = row(i * rows + j, scratch, &mut values[..cols]);
                }
            });
        });
    }
}

/// Asks for values.
struct Fetch<'a>(&'a [f32]);

impl Kernel for Fetch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        for value in self.0.iter().step_by(64 / size_of::<f32>()) {
            s.prefetch(value);
        }
    }
}

/// What [`Cpu::each_row`] does with a token, as many scratch floats, and its integers.
type Row<'a> = dyn Fn(usize, &mut [f32], &mut [i8]) -> f32 + Sync + 'a;

fn check(values: usize, row: usize, cols: usize, norm: Option<Norm<'_>>) {
    assert!(cols > 0 && values.is_multiple_of(row), "rows of {row} values");
    assert!(norm.is_none_or(|(weight, _)| weight.len() == cols), "a norm's weight of {cols} values");
}
