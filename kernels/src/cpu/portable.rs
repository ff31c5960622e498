//! The reference: what every other kernel must compute, in the plainest way.

use sbnc_format::{Encoding, Validated};

/// Smallest magnitude that activations are scaled by.
const MIN_MAGNITUDE: f32 = 1e-5;

/// One token's activations as int8: `x ≈ values / scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// The quantised values.
    pub values: Vec<i8>,
    /// 127 over the largest magnitude.
    pub scale: f32,
}

impl Activations {
    /// Quantises a token: `a = 127 / max(max|x|, 1e-5)`, `clamp(round_half_even(x·a), −128, 127)`.
    ///
    /// ```
    /// let x = sbnc_kernels::cpu::portable::Activations::quantise(&[1.0, -0.5, 0.0]);
    /// assert_eq!((x.values, x.scale), (vec![127, -64, 0], 127.0));
    /// ```
    pub fn quantise(x: &[f32]) -> Self {
        let largest = x.iter().fold(MIN_MAGNITUDE, |largest, v| largest.max(v.abs()));
        let scale = 127.0 / largest;
        let values = x.iter().map(|v| (v * scale).round_ties_even().clamp(-128.0, 127.0) as i8).collect();
        Self { values, scale }
    }
}

/// The exact sums `Σ trit · x` of every row of a ternary tensor, or `None` if the tensor is not ternary or has another number of columns.
pub fn sums(weight: &Validated<'_>, x: &Activations) -> Option<Vec<i32>> {
    let (rows, cols) = weight.matrix();
    if !weight.encoding().is_ternary() || weight.encoding() == Encoding::I8 || x.values.len() != cols {
        return None;
    }
    let mut sums = Vec::with_capacity(rows);
    let decoded = weight.packing().decode_batches(weight.data(), (rows, cols), |_, trits| {
        for row in trits.chunks_exact(cols) {
            sums.push(row.iter().zip(&x.values).map(|(&t, &v)| i32::from(t) * i32::from(v)).sum());
        }
        Ok::<_, std::convert::Infallible>(())
    });
    decoded.ok().map(|()| sums)
}

/// A linear layer: `y = sum × (row scale / activation scale)`, one rounding at the end. `None` as for [`sums`].
pub fn linear(weight: &Validated<'_>, x: &Activations) -> Option<Vec<f32>> {
    let scales = weight.scales();
    let scaled = sums(weight, x)?.into_iter().zip(scales);
    Some(scaled.map(|(sum, scale)| (f64::from(sum) * (f64::from(scale) / f64::from(x.scale))) as f32).collect())
}
