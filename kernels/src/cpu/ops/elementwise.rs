//! Gates and sums.

use crate::cpu::Cpu;

/// The activation function of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)²`.
    Relu2,
    /// `x · Φ(x)`, by the tanh approximation.
    Gelu,
}

impl Activation {
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Relu2 => x.max(0.0) * x.max(0.0),
            Self::Gelu => {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
        }
    }
}

impl Cpu {
    /// Rows of `2 · width` values, gate and up: `out = activation(gate) · up`.
    pub fn gate(&self, activation: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
        self.pool.chunks(out, width, &|token, out| {
            let (gate, up) = gate_up[token * 2 * width..][..2 * width].split_at(width);
            for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = activation.apply(gate) * up;
            }
        });
    }

    /// `x += y`.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }
}
