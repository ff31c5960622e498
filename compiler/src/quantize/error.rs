//! What can be wrong with a matrix, or with a call. The caller adds the file and the tensor.

use super::latent::Dtype;
use super::pattern::{MAX_M, Nm};

/// Why a matrix was not quantised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The bytes are not a matrix of that shape.
    #[error("a {rows}×{cols} matrix of {dtype:?} is {rows}×{cols}×{} bytes and neither side is 0; found {found} bytes", dtype.size())]
    Shape {
        /// Declared rows.
        rows: usize,
        /// Declared columns.
        cols: usize,
        /// Declared format.
        dtype: Dtype,
        /// Length of the bytes.
        found: usize,
    },
    /// A range of rows is empty where it must not be, or leaves the matrix.
    #[error("rows {start}..{end} of a matrix with {rows} rows")]
    Rows {
        /// First row.
        start: usize,
        /// One past the last row.
        end: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// A buffer for results has the wrong length.
    #[error("the buffer for the result has {found} elements, expected {expected}")]
    Output {
        /// Elements needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A latent of another format than the ternariser was made for.
    #[error("expected {expected:?} weights, found {found:?}")]
    Dtype {
        /// Format of the ternariser.
        expected: Dtype,
        /// Format of the matrix.
        found: Dtype,
    },
    /// A NaN or an infinity: the first in row-major order.
    #[error("weight [{row}, {col}] is {value}: every weight must be finite")]
    NonFinite {
        /// Row of the matrix.
        row: usize,
        /// Column of the matrix.
        col: usize,
        /// What was found.
        value: f32,
    },
    /// Not an N:M pattern.
    #[error("{n}:{m} is not a pattern: expected 1 ≤ N ≤ M ≤ {MAX_M}")]
    Pattern {
        /// Declared N.
        n: usize,
        /// Declared M.
        m: usize,
    },
    /// Groups would straddle rows.
    #[error("{cols} inputs are not a multiple of the {} of pattern {pattern}: groups would straddle rows", pattern.m())]
    Group {
        /// Columns of the matrix.
        cols: usize,
        /// The pattern.
        pattern: Nm,
    },
    /// A scale that cannot be divided by.
    #[error("the scale is {scale}: expected a positive finite number with a finite inverse")]
    Scale {
        /// What was given.
        scale: f32,
    },
}
