//! Kernels of one row that fits the first-level cache: norms, gates and quantisation. A row is read from memory once; what follows finds it in the cache.
//!
//! All of them give the same bits on all platforms: products and sums are rounded one by one, and sums of a row keep the order of
//! [`super::plain`].

use super::elementwise::Activation;
use super::plain::{LANES, halve};
use crate::cpu::Rule;
use crate::cpu::activations::MIN_MAGNITUDE;
use crate::cpu::simd::{Kernel, Simd, exp, normal, quantised};

/// A norm's weight and epsilon.
pub(super) type Norm<'a> = (&'a [f32], f32);

/// `out = x / rms(x) · weight`.
pub(super) struct NormRow<'a> {
    pub(super) x: &'a [f32],
    pub(super) norm: Norm<'a>,
    pub(super) out: &'a mut [f32],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        let factor = rms_factor(s, self.x, self.norm.1);
        scaled(s, self.x, factor, self.norm.0, self.out);
    }
}

/// [`NormRow`] in place, of every run of as many values as the weight has.
pub(super) struct NormRuns<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) norm: Norm<'a>,
}

impl Kernel for NormRuns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        for run in self.x.chunks_exact_mut(self.norm.0.len()) {
            let factor = rms_factor(s, run, self.norm.1);
            scaled_in_place(s, run, factor, self.norm.0);
        }
    }
}

/// Integers of a row, perhaps after a norm; gives their scale.
pub(super) struct QuantiseRow<'a> {
    pub(super) x: &'a [f32],
    pub(super) norm: Option<Norm<'a>>,
    pub(super) rule: Rule,
    /// As long as the row.
    pub(super) scratch: &'a mut [f32],
    pub(super) out: &'a mut [i8],
}

impl Kernel for QuantiseRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> f32 {
        let Some((weight, eps)) = self.norm else { return quantise(s, self.x, self.rule, self.out) };
        let factor = rms_factor(s, self.x, eps);
        scaled(s, self.x, factor, weight, self.scratch);
        quantise(s, self.scratch, self.rule, self.out)
    }
}

/// `x += y`, then [`QuantiseRow`].
pub(super) struct AddQuantiseRow<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) y: &'a [f32],
    pub(super) norm: Option<Norm<'a>>,
    pub(super) rule: Rule,
    pub(super) scratch: &'a mut [f32],
    pub(super) out: &'a mut [i8],
}

impl Kernel for AddQuantiseRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> f32 {
        add(s, self.x, self.y);
        QuantiseRow { x: self.x, norm: self.norm, rule: self.rule, scratch: self.scratch, out: self.out }.run(s)
    }
}

/// `out = activation(gate) · up`.
pub(crate) struct GateRow<'a> {
    pub(crate) activation: Activation,
    /// Gate, then up.
    pub(crate) gate_up: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for GateRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        let (gate, up) = self.gate_up.split_at(self.out.len());
        match self.activation {
            Activation::Silu => gated::<Silu, S, N>(s, gate, up, self.out),
            Activation::Relu2 => gated::<Relu2, S, N>(s, gate, up, self.out),
            Activation::Gelu => gated::<Gelu, S, N>(s, gate, up, self.out),
        }
    }
}

/// [`GateRow`] into `scratch`, then [`QuantiseRow`] of that.
pub(super) struct GateQuantiseRow<'a> {
    pub(super) activation: Activation,
    pub(super) gate_up: &'a [f32],
    pub(super) norm: Option<Norm<'a>>,
    pub(super) rule: Rule,
    /// As long as `out`.
    pub(super) scratch: &'a mut [f32],
    pub(super) out: &'a mut [i8],
}

impl Kernel for GateQuantiseRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> f32 {
        let row = self.scratch;
        GateRow { activation: self.activation, gate_up: self.gate_up, out: row }.run(s);
        if let Some((weight, eps)) = self.norm {
            let factor = rms_factor(s, row, eps);
            scaled_in_place(s, row, factor, weight);
        }
        quantise(s, row, self.rule, self.out)
    }
}

/// `x += y`.
pub(crate) struct Add<'a>(pub(crate) &'a mut [f32], pub(crate) &'a [f32]);

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        add(s, self.0, self.1);
    }
}

#[inline(always)]
fn rms_factor<S: Simd<N>, const N: usize>(s: S, x: &[f32], eps: f32) -> f32 {
    let sum = ordered_sum::<Squares, S, N>(s, x);
    1.0 / ((sum / x.len() as f64) as f32 + eps).sqrt()
}

#[inline(always)]
fn mean_magnitude<S: Simd<N>, const N: usize>(s: S, x: &[f32]) -> f32 {
    (ordered_sum::<Magnitudes, S, N>(s, x) / x.len() as f64) as f32
}

/// What is summed in f64.
trait Term {
    fn add<S: Simd<N>, const N: usize>(s: S, sum: S::D, v: S::F) -> S::D;
}

struct Squares;
struct Magnitudes;

impl Term for Squares {
    #[inline(always)]
    fn add<S: Simd<N>, const N: usize>(s: S, sum: S::D, v: S::F) -> S::D {
        s.add_squares(sum, v)
    }
}

impl Term for Magnitudes {
    #[inline(always)]
    fn add<S: Simd<N>, const N: usize>(s: S, sum: S::D, v: S::F) -> S::D {
        s.add_wide(sum, s.abs(v))
    }
}

/// As [`super::plain::ordered_sum`], bit for bit.
#[inline(always)]
fn ordered_sum<T: Term, S: Simd<N>, const N: usize>(s: S, x: &[f32]) -> f64 {
    let (blocks, tail) = x.as_chunks::<LANES>();
    let zero = s.load_wide(&[0.0; N]);
    // LANES / N of them are in use.
    let mut sums = [zero; LANES / 4];
    for block in blocks {
        for (sum, part) in sums.iter_mut().zip(block.as_chunks::<N>().0) {
            *sum = T::add(s, *sum, s.load(part));
        }
    }
    // Past the end there are zeros, which add nothing.
    for (sum, part) in sums.iter_mut().zip(tail.chunks(N)) {
        *sum = T::add(s, *sum, s.widen_tail(part));
    }
    let mut lanes = [0.0; LANES];
    for (part, sum) in lanes.as_chunks_mut::<N>().0.iter_mut().zip(sums) {
        s.store_wide(sum, part);
    }
    halve(lanes)
}

#[inline(always)]
fn scaled<S: Simd<N>, const N: usize>(s: S, x: &[f32], factor: f32, weight: &[f32], out: &mut [f32]) {
    let (x, x_tail) = x.as_chunks::<N>();
    let (weight, weight_tail) = weight.as_chunks::<N>();
    let (out, out_tail) = out.as_chunks_mut::<N>();
    for ((x, weight), out) in x.iter().zip(weight).zip(out) {
        s.store(s.mul(s.mul(s.load(x), s.splat(factor)), s.load(weight)), out);
    }
    for ((x, weight), out) in x_tail.iter().zip(weight_tail).zip(out_tail) {
        *out = x * factor * weight;
    }
}

#[inline(always)]
fn scaled_in_place<S: Simd<N>, const N: usize>(s: S, x: &mut [f32], factor: f32, weight: &[f32]) {
    let (x, x_tail) = x.as_chunks_mut::<N>();
    let (weight, weight_tail) = weight.as_chunks::<N>();
    for (x, weight) in x.iter_mut().zip(weight) {
        s.store(s.mul(s.mul(s.load(x), s.splat(factor)), s.load(weight)), x);
    }
    for (x, weight) in x_tail.iter_mut().zip(weight_tail) {
        *x = *x * factor * weight;
    }
}

#[inline(always)]
fn add<S: Simd<N>, const N: usize>(s: S, x: &mut [f32], y: &[f32]) {
    let (x, x_tail) = x.as_chunks_mut::<N>();
    let (y, y_tail) = y.as_chunks::<N>();
    for (x, y) in x.iter_mut().zip(y) {
        s.store(s.add(s.load(x), s.load(y)), x);
    }
    x_tail.iter_mut().zip(y_tail).for_each(|(x, y)| *x += y);
}

/// As [`crate::cpu::activations::quantise_row`], bit for bit.
#[inline(always)]
fn quantise<S: Simd<N>, const N: usize>(s: S, x: &[f32], rule: Rule, out: &mut [i8]) -> f32 {
    let (scale, low, high) = match rule {
        Rule::A8 => (127.0 / largest_magnitude(s, x), -128.0, 127.0),
        Rule::A4 => (7f32.sqrt() / mean_magnitude(s, x).max(MIN_MAGNITUDE), -8.0, 7.0),
    };
    let (a, low, high) = (s.splat(scale), s.splat(low), s.splat(high));
    let (x, x_tail) = x.as_chunks::<N>();
    let (out, out_tail) = out.as_chunks_mut::<N>();
    for (x, out) in x.iter().zip(out) {
        s.narrow_i8(quantised(s, s.load(x), a, low, high), out);
    }
    let mut last = [0; N];
    s.narrow_i8(quantised(s, s.widen_tail(x_tail), a, low, high), &mut last);
    out_tail.copy_from_slice(&last[..x_tail.len()]);
    scale
}

#[inline(always)]
fn largest_magnitude<S: Simd<N>, const N: usize>(s: S, x: &[f32]) -> f32 {
    let (blocks, tail) = x.as_chunks::<LANES>();
    let mut largest = [s.splat(MIN_MAGNITUDE); LANES / 4];
    for block in blocks {
        for (largest, part) in largest.iter_mut().zip(block.as_chunks::<N>().0) {
            *largest = s.max(s.abs(s.load(part)), *largest);
        }
    }
    let mut all = largest[0];
    for &some in &largest[1..LANES / N] {
        all = s.max(some, all);
    }
    tail.iter().fold(s.largest(all), |largest, v| largest.max(v.abs()))
}

/// `activation(gate) · up`.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AMX gates before outputs are written"))]
#[inline(always)]
pub(crate) fn activate<S: Simd<N>, const N: usize>(s: S, activation: Activation, gate: S::F, up: S::F) -> S::F {
    let activated = match activation {
        Activation::Silu => Silu::apply(s, gate),
        Activation::Relu2 => Relu2::apply(s, gate),
        Activation::Gelu => Gelu::apply(s, gate),
    };
    s.mul(activated, up)
}

trait Function {
    fn apply<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F;
}

struct Silu;
struct Relu2;
struct Gelu;

impl Function for Silu {
    #[inline(always)]
    fn apply<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F {
        s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
    }
}

impl Function for Relu2 {
    #[inline(always)]
    fn apply<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F {
        let positive = s.max(x, s.splat(0.0));
        s.mul(positive, positive)
    }
}

impl Function for Gelu {
    /// x · Φ(x).
    #[inline(always)]
    fn apply<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F {
        s.mul(x, normal(s, x))
    }
}

#[inline(always)]
fn gated<A: Function, S: Simd<N>, const N: usize>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gate, gate_tail) = gate.as_chunks::<N>();
    let (up, up_tail) = up.as_chunks::<N>();
    let (out, out_tail) = out.as_chunks_mut::<N>();
    for ((gate, up), out) in gate.iter().zip(up).zip(out) {
        s.store(s.mul(A::apply(s, s.load(gate)), s.load(up)), out);
    }
    if !out_tail.is_empty() {
        s.store_tail(s.mul(A::apply(s, s.widen_tail(gate_tail)), s.widen_tail(up_tail)), out_tail);
    }
}
