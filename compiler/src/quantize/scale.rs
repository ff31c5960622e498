//! The scale of a part: `max(mean(|W|), 1e-5)` over every element, before any mask. It does not decide what a part is, and it refuses
//! nothing but NaN and infinity: an all-zero part is an outcome that the caller judges.
//!
//! # The order of the sum
//!
//! The scale is part of a model's digest, so its bits must not depend on threads or on the width of the machine's vectors:
//!
//! 1. every `|w|` is converted to f64, exactly;
//! 2. lane `j` of [`LANES`] sums elements `j, j + LANES, …` of one row, ascending, from 0;
//! 3. the lanes are combined pairwise: lane `j` takes lane `j + 16`, then `j + 8`, `+ 4`, `+ 2`, `+ 1`;
//! 4. rows are added ascending, from 0, within blocks of [`BLOCK_ROWS`] rows counted from the part's first row;
//! 5. blocks are added ascending, from 0;
//! 6. the sum is divided by the number of elements in f64, rounded once to f32, and then clamped from below.
//!
//! A sum of finite f32 cannot overflow an f64, so it is finite exactly when every element is: the search for NaN and infinity costs
//! nothing until there is one to report.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::QuantizeError;
use super::element::{Element, Word};
use super::latent::{Latent, first_non_finite, with_element};

/// Partial sums per row.
pub const LANES: usize = 32;
/// Rows per block of the sum.
pub const BLOCK_ROWS: usize = 64;
/// The smallest scale.
pub const MIN_SCALE: f32 = 1e-5;

/// What the scale pass found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PartScale {
    /// `max(mean(|W|), 1e-5)`.
    Scale(f32),
    /// Every element is ±0: there is no model in this part.
    AllZero,
}

/// The scale of the part of `latent` that is `rows`, computed on the current rayon pool.
///
/// The error for a NaN or an infinity names the first one in row-major order, on any number of threads.
///
/// ```
/// use sbnc::quantize::{Dtype, Latent, PartScale, part_scale};
/// let bytes = [0x80, 0x3f, 0x00, 0xbf]; // 1.0 and -0.5 in bf16
/// let latent = Latent::new(&bytes, 1, 2, Dtype::Bf16)?;
/// assert_eq!(part_scale(&latent, 0..1)?, PartScale::Scale(0.75));
/// # Ok::<(), sbnc::quantize::QuantizeError>(())
/// ```
pub fn part_scale(latent: &Latent<'_>, rows: Range<usize>) -> Result<PartScale, QuantizeError> {
    let bytes = latent.row_bytes(rows.clone())?;
    if bytes.is_empty() {
        return Err(QuantizeError::Rows { start: rows.start, end: rows.end, rows: latent.rows() });
    }
    let stride = latent.cols() * latent.dtype().size();
    let blocks: Vec<f64> = bytes
        .par_chunks(BLOCK_ROWS * stride)
        .map(|block| with_element!(latent.dtype(), E => sum_block::<E>(block, stride)))
        .collect();
    if let Some(index) = blocks.iter().position(|sum| !sum.is_finite()) {
        let from = index * BLOCK_ROWS * stride;
        if let Some((at, value)) = with_element!(latent.dtype(), E => first_non_finite::<E>(&bytes[from..])) {
            let (row, col) = (rows.start + index * BLOCK_ROWS + at / latent.cols(), at % latent.cols());
            return Err(QuantizeError::NonFinite { row, col, value });
        }
    }
    let sum: f64 = blocks.iter().fold(0.0, |sum, block| sum + block);
    if sum == 0.0 {
        return Ok(PartScale::AllZero);
    }
    let mean = (sum / (rows.len() * latent.cols()) as f64) as f32;
    Ok(PartScale::Scale(mean.max(MIN_SCALE)))
}

/// Steps 1 to 4 for one block.
fn sum_block<E: Element>(bytes: &[u8], stride: usize) -> f64 {
    pulp::Arch::new().dispatch(SumBlock::<E> { bytes, stride, element: PhantomData })
}

struct SumBlock<'a, E> {
    bytes: &'a [u8],
    stride: usize,
    element: PhantomData<E>,
}

impl<E: Element> WithSimd for SumBlock<'_, E> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut sum = 0.0;
        for row in self.bytes.chunks_exact(self.stride) {
            sum += sum_row::<E>(row);
        }
        sum
    }
}

#[inline(always)]
fn sum_row<E: Element>(row: &[u8]) -> f64 {
    let (chunks, tail) = E::Word::slice(row).as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, &raw) in lanes.iter_mut().zip(chunk) {
            *lane += magnitude::<E>(raw);
        }
    }
    for (lane, &raw) in lanes.iter_mut().zip(tail) {
        *lane += magnitude::<E>(raw);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn magnitude<E: Element>(raw: <E::Word as Word>::Raw) -> f64 {
    f64::from(E::value(E::Word::load(raw).magnitude()))
}
