//! Weights as kernels take them: the checked bytes of a tensor, as they lie in the file.

use sbnc_format::encoding::Illegal;
use sbnc_format::{Packing, Validated};

/// A ternary matrix in its stored form, with a multiplier for each row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub(crate) packing: Packing,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) data: &'a [u8],
    pub(crate) scales: &'a [f32],
}

impl<'a> Matrix<'a> {
    /// The matrix of a ternary tensor, or `None` for other tensors. `scales` are the tensor's ([`Validated::scales`]), kept by the caller because in the
    /// file they are bytes.
    pub fn new(tensor: &Validated<'a>, scales: &'a [f32]) -> Option<Self> {
        let (rows, cols) = tensor.matrix();
        let fits = tensor.packing().encoding.is_ternary() && scales.len() == rows;
        fits.then(|| Self { packing: tensor.packing(), rows, cols, data: tensor.data(), scales })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How it is stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Bytes that one pass over the weights reads.
    pub fn bytes(&self) -> usize {
        self.data.len() + 4 * self.scales.len()
    }
}

/// A ternary matrix that was encoded in memory: random weights to measure with, or an application's own.
#[derive(Clone, Debug)]
pub struct Packed {
    packing: Packing,
    cols: usize,
    data: Vec<u8>,
    scales: Vec<f32>,
}

impl Packed {
    /// Encodes rows of `cols` trits, one row for each scale. Panics where the sizes do not fit each other or the encoding cannot hold them.
    pub fn new(packing: Packing, trits: &[i8], cols: usize, scales: Vec<f32>) -> Result<Self, Illegal> {
        let rows = scales.len();
        assert_eq!(trits.len(), rows * cols, "a row of trits for each scale");
        let bytes = packing.data_bytes(rows as u64, cols as u64);
        let bytes = bytes.unwrap_or_else(|| panic!("{packing:?} cannot hold {rows}x{cols}"));
        let mut data = vec![0; bytes as usize];
        packing.encode(trits, cols, &mut data)?;
        Ok(Self { packing, cols, data, scales })
    }

    /// The matrix, as kernels take it: what an encoder wrote is valid.
    pub fn matrix(&self) -> Matrix<'_> {
        Matrix {
            packing: self.packing,
            rows: self.scales.len(),
            cols: self.cols,
            data: &self.data,
            scales: &self.scales,
        }
    }
}

/// A matrix of plain numbers, row-major: an embedding, or the output head.
#[derive(Clone, Copy, Debug)]
pub enum Dense<'a> {
    /// binary32.
    F32(&'a [f32]),
    /// binary16, as bits.
    F16(&'a [u16]),
    /// The upper halves of binary32.
    Bf16(&'a [u16]),
    /// int8 with a multiplier for each row.
    I8(&'a [i8], &'a [f32]),
}

impl Dense<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) | Self::Bf16(values) => values.len(),
            Self::I8(values, _) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes row `row` of a matrix with `out.len()` columns.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values[range]),
            Self::F16(values) => {
                out.iter_mut().zip(&values[range]).for_each(|(o, &v)| *o = half::f16::from_bits(v).to_f32());
            }
            Self::Bf16(values) => {
                out.iter_mut().zip(&values[range]).for_each(|(o, &v)| *o = f32::from_bits(u32::from(v) << 16));
            }
            Self::I8(values, scales) => {
                out.iter_mut().zip(&values[range]).for_each(|(o, &v)| *o = f32::from(v) * scales[row]);
            }
        }
    }
}
