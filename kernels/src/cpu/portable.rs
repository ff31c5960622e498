//! The oracle: what every other kernel must compute, in the plainest way.

use super::activations::Activations;
use super::matrix::Matrix;

/// The exact sums `Σ trit · x`: `sums[token · rows + row]`. Panics where the matrix has another number of columns than the activations.
pub fn sums(weight: &Matrix<'_>, x: &Activations) -> Vec<i32> {
    assert_eq!(weight.cols, x.cols(), "as many inputs as the matrix has columns");
    let mut sums = vec![0; x.tokens() * weight.rows];
    let shape = (weight.rows, weight.cols);
    let each = |first: usize, trits: &[i8]| {
        for (row, trits) in trits.chunks_exact(weight.cols).enumerate() {
            for token in 0..x.tokens() {
                let products = trits.iter().zip(x.values(token)).map(|(&t, &v)| i32::from(t) * i32::from(v));
                sums[token * weight.rows + first + row] = products.sum();
            }
        }
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(()) = weight.packing.decode_batches(weight.data, shape, each);
    sums
}

/// One output: `sum × (row scale / activation scale)`, rounded once.
pub(crate) fn output(sum: i32, row_scale: f32, activation_scale: f32) -> f32 {
    (f64::from(sum) * (f64::from(row_scale) / f64::from(activation_scale))) as f32
}

/// A linear layer: `y[token · rows + row]`.
pub fn linear(weight: &Matrix<'_>, x: &Activations) -> Vec<f32> {
    let outputs = sums(weight, x).into_iter().enumerate();
    outputs.map(|(i, sum)| output(sum, weight.scales[i % weight.rows], x.scale(i / weight.rows))).collect()
}
