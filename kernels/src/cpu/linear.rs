//! Ternary linear layers: which kernel computes what.

use super::activations::Activations;
use super::gemv::{self, Deal, Kernel};
use super::matrix::Matrix;
use super::ops::Activation;
use super::platform::Platform;
use super::{Cpu, gemm, strips};

/// Most columns that the fast kernels take: their sums of scaled products stay within 32 bits.
const MOST_COLS: usize = 1 << 20;

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

/// What becomes of the outputs of linear layers on their way to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fused {
    /// They are written, as [`Cpu::linear`] does.
    Nothing,
    /// They are added to what is there.
    Add,
    /// Of two layers with as many rows: `activation(first) · second` is written where the first one's outputs go.
    Gate(Activation),
}

impl Cpu {
    /// Tells which layers a call of few tokens computes next: threads that have nothing to do until then fetch the first weights that they will read.
    pub fn expect(&self, layers: &[Linear<'_>]) {
        if few_tokens(self.platform).is_some() {
            gemv::expect(&self.pool, layers);
        }
    }

    /// Whether [`Cpu::linear_fused`] computes so many tokens of `cols` inputs and is faster than both apart: where tokens are few, the weights take the
    /// time and other kernels compute them, and where multiplying takes much longer than passing outputs through memory, nothing is gained.
    pub fn fuses(&self, tokens: usize, cols: usize) -> bool {
        self.many_tokens(tokens, cols).is_some_and(gemm::Kernel::gains_from_fusing)
    }

    /// [`Cpu::linear`] together with what reads its outputs next, so that they pass through memory less often. The bits are those of both apart.
    ///
    /// # Panics
    ///
    /// As [`Cpu::linear`], where tokens are too few or no kernel is for many, and where the layers of a gate are not two of the same number of rows.
    pub fn linear_fused(&self, layers: &[Linear<'_>], fused: Fused, x: &Activations, out: &mut Output<'_>) {
        let Some(kernel) = self.many_tokens(x.tokens(), x.cols()) else {
            panic!("{} tokens are too few, or no kernel fuses them", x.tokens())
        };
        gemm::fused(&self.pool, kernel, (layers, fused), x, out);
    }

    /// The kernel for many tokens, if there is one and so many are many.
    fn many_tokens(&self, tokens: usize, cols: usize) -> Option<gemm::Kernel> {
        let few = few_tokens(self.platform).filter(|_| cols <= MOST_COLS);
        gemm::Kernel::of(self.platform).filter(|kernel| few.is_none() || tokens >= kernel.pays_from())
    }

    /// Computes some linear layers of the same inputs. Panics where shapes do not fit or outputs overlap.
    pub fn linear(&self, layers: &[Linear<'_>], x: &Activations, out: &mut Output<'_>) {
        if let Some(kernel) = self.many_tokens(x.tokens(), x.cols()) {
            return gemm::linear(&self.pool, kernel, layers, x, out);
        }
        check(layers, x, out);
        match few_tokens(self.platform).filter(|_| x.cols() <= MOST_COLS) {
            Some(kernel) => gemv::linear((&self.pool, &self.scratch), kernel, layers, x, out),
            None => strips::linear(&self.pool, layers, x, out),
        }
    }
}

/// What safety rests on: every layer has its own place in `out`.
pub(crate) fn check(layers: &[Linear<'_>], x: &Activations, out: &Output<'_>) {
    for (i, layer) in layers.iter().enumerate() {
        let (rows, end) = (layer.weight.rows, layer.offset + layer.weight.rows);
        assert_eq!(layer.weight.cols, x.cols(), "as many inputs as the matrix has columns");
        assert!(layer.bias.is_none_or(|bias| bias.len() == rows), "one bias for each row");
        assert!(end <= out.stride && x.tokens() * out.stride <= out.values.len(), "room for outputs");
        let is_apart = |other: &Linear<'_>| other.offset >= end || other.offset + other.weight.rows <= layer.offset;
        assert!(layers[..i].iter().all(is_apart), "outputs that do not overlap");
    }
}

/// The kernel for a few tokens, if the platform has one.
fn few_tokens(platform: Platform) -> Option<(Kernel, Deal)> {
    #[cfg(target_arch = "x86_64")]
    {
        use super::x86_64::{avx2, avx512};
        let of_avx512 = avx512::kernel(platform).zip(avx512::deal(platform));
        of_avx512.or_else(|| avx2::kernel(platform).zip(avx2::deal(platform)))
    }
    #[cfg(target_arch = "aarch64")]
    {
        use super::aarch64::{deal, kernel};
        kernel(platform).zip(deal(platform))
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    {
        let _ = platform;
        None
    }
}
