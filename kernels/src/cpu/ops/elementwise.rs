//! Gates and sums.

use super::rows::{Add, GateRow};
use super::rows_of_task;
use crate::cpu::Cpu;

/// The activation function of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)²`.
    Relu2,
    /// `x · Φ(x)`, of the normal distribution Φ itself (not its approximation by tanh).
    Gelu,
}

impl Cpu {
    /// Rows of `2 · width` values, gate and up: `out = activation(gate) · up`. Panics where `gate_up` and `out` are not as many rows.
    ///
    /// The bits are the same on all platforms; the relative error is below 1e-6 ([`Activation::Relu2`] is exactly rounded, [`Activation::Gelu`] is within 1e-5 of its
    /// small values for x < −5), apart from results below 1e-30.
    pub fn gate(&self, activation: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
        assert!(width > 0 && out.len().is_multiple_of(width), "rows of {width} values");
        assert_eq!(gate_up.len(), 2 * out.len(), "a gate and an up for each output");
        let size = rows_of_task(width) * width;
        self.pool.chunks(out, size, &|i, out| {
            for (gate_up, out) in gate_up[2 * i * size..].chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                self.platform.dispatch(GateRow { activation, gate_up, out });
            }
        });
    }

    /// `x += y`. Panics where they differ in length.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "as many values to add");
        let size = rows_of_task(1);
        self.pool.chunks(x, size, &|i, x| {
            let y = &y[i * size..][..x.len()];
            self.platform.dispatch(Add(x, y));
        });
    }
}
