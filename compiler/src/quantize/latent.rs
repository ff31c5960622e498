//! A view of a latent weight matrix as it lies in a checkpoint: bytes, a shape and a format. It is not a tensor type: no strides, no
//! ownership, no arithmetic.
//!
//! The bytes may start at any address (a safetensors payload promises no alignment) and are little-endian on every machine.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::QuantizeError;
use super::element::{Element, Word};

/// The floating-point formats a latent may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F32 => 4,
        }
    }
}

/// A row-major matrix of latent weights: rows are outputs, columns are inputs.
///
/// ```
/// use sbnc::quantize::{Dtype, Latent};
/// let bytes = [0x80, 0x3f, 0x00, 0xbf]; // 1.0 and -0.5 in bf16
/// let latent = Latent::new(&bytes, 1, 2, Dtype::Bf16)?;
/// assert_eq!(latent.value(0, 1), -0.5);
/// # Ok::<(), sbnc::quantize::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Latent<'a> {
    bytes: &'a [u8],
    rows: usize,
    cols: usize,
    dtype: Dtype,
}

/// Evaluates `$body` with the type `$element` standing for the format of `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            $crate::quantize::Dtype::Bf16 => {
                type $element = $crate::quantize::element::Bf16;
                $body
            }
            $crate::quantize::Dtype::F16 => {
                type $element = $crate::quantize::element::F16;
                $body
            }
            $crate::quantize::Dtype::F32 => {
                type $element = $crate::quantize::element::F32;
                $body
            }
        }
    };
}
pub(super) use with_element;

impl<'a> Latent<'a> {
    /// A view of `bytes`, which must be exactly `rows × cols` elements; neither may be zero.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize, dtype: Dtype) -> Result<Self, QuantizeError> {
        let expected = rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.size()));
        if rows == 0 || cols == 0 || expected != Some(bytes.len()) {
            return Err(QuantizeError::Shape { rows, cols, dtype, found: bytes.len() });
        }
        Ok(Latent { bytes, rows, cols, dtype })
    }

    /// Number of rows (outputs).
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The format of the elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The bytes of a range of rows.
    pub fn row_bytes(&self, rows: Range<usize>) -> Result<&'a [u8], QuantizeError> {
        let stride = self.cols * self.dtype.size();
        if rows.start > rows.end || rows.end > self.rows {
            return Err(QuantizeError::Rows { start: rows.start, end: rows.end, rows: self.rows });
        }
        Ok(&self.bytes[rows.start * stride..rows.end * stride])
    }

    /// One element as f32, exactly. For messages and tests; it panics outside the matrix.
    #[must_use]
    pub fn value(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols, "({row}, {col}) lies outside {}×{}", self.rows, self.cols);
        with_element!(self.dtype, E => {
            E::value(Word::load(<E as Element>::Word::slice(self.bytes)[row * self.cols + col]))
        })
    }

    /// Converts a range of rows to f32, exactly. (For f32 → bf16, rounding to nearest even, use `half::slice`.)
    pub fn read_f32(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), QuantizeError> {
        let expected = rows.len() * self.cols;
        let bytes = self.row_bytes(rows)?;
        if out.len() != expected {
            return Err(QuantizeError::Output { expected, found: out.len() });
        }
        with_element!(self.dtype, E => pulp::Arch::new().dispatch(Convert::<E>(bytes, out, PhantomData)));
        Ok(())
    }
}

struct Convert<'a, E>(&'a [u8], &'a mut [f32], PhantomData<E>);

impl<E: Element> WithSimd for Convert<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, &raw) in self.1.iter_mut().zip(E::Word::slice(self.0)) {
            *out = E::value(E::Word::load(raw));
        }
    }
}

/// The first NaN or infinity of `bytes`, in order, as an index and its value.
pub(super) fn first_non_finite<E: Element>(bytes: &[u8]) -> Option<(usize, f32)> {
    E::Word::slice(bytes).iter().enumerate().find_map(|(index, &raw)| {
        let word = E::Word::load(raw);
        (word.magnitude() >= E::INFINITY).then(|| (index, E::value(word)))
    })
}
