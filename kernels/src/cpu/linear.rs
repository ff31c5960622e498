//! Ternary linear layers: which kernel computes what.

use super::activations::Activations;
use super::matrix::Matrix;
use super::{Cpu, gemm, portable};

/// A linear layer of a call: `out[token · stride + offset + row] = weight · x + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// The weights.
    pub weight: Matrix<'a>,
    /// One value for each row, added after scaling.
    pub bias: Option<&'a [f32]>,
    /// Where its first row goes within a token's outputs.
    pub offset: usize,
}

/// Outputs of some linear layers that share their inputs, such as q, k and v: rows of `stride` values, one for each token.
#[derive(Debug)]
pub struct Output<'a> {
    /// The rows.
    pub values: &'a mut [f32],
    /// Distance between the rows of two tokens.
    pub stride: usize,
}

impl Cpu {
    /// Computes some linear layers of the same inputs. Panics where shapes do not fit.
    pub fn linear(&self, layers: &[Linear<'_>], x: &Activations, out: &mut Output<'_>) {
        if x.tokens() >= gemm::MIN_TOKENS
            && let Some(kernel) = gemm::Kernel::of(self.platform)
        {
            return gemm::linear(&self.pool, kernel, layers, x, out);
        }
        for layer in layers {
            let rows = layer.weight.rows;
            assert!(
                layer.offset + rows <= out.stride && out.values.len() >= x.tokens() * out.stride,
                "room for outputs"
            );
            let sums = portable::sums(&layer.weight, x);
            for (token, sums) in sums.chunks_exact(rows).enumerate() {
                let out = &mut out.values[token * out.stride + layer.offset..][..rows];
                for (row, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
                    let bias = layer.bias.map_or(0.0, |bias| bias[row]);
                    *out = portable::output(sum, layer.weight.scales[row], x.scale(token)) + bias;
                }
            }
        }
    }
}
