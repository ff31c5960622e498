//! Symmetric int8 with one scale per row, for the embedding and the output head. The ternary linears do not come here.
//!
//! `scale = max|w| / 127` in f32 and `q = round_half_even(w / scale)`, clamped to ±127. A row of zeros has scale 1, and so has one so
//! small that its scale would underflow to 0: it becomes zeros, and the reported error says so.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::QuantizeError;
use super::element::{Element, Word};
use super::latent::{Latent, first_non_finite, with_element};

const LANES: usize = 16;
/// Rows per task.
const TASK_ROWS: usize = 16;

/// How far the int8 rows are from the original, `q × scale` taken exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Int8Error {
    /// Σ(w − q·scale)².
    squared_error: f64,
    /// Σw².
    squared_weight: f64,
    max_abs: f64,
}

impl Int8Error {
    /// `sqrt(Σ(w − q·scale)² / Σw²)`; 0 where all weights are.
    pub fn relative_rms(&self) -> f64 {
        if self.squared_weight > 0.0 { (self.squared_error / self.squared_weight).sqrt() } else { 0.0 }
    }

    /// The largest `|w − q·scale|`.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// Adds the error of more rows.
    #[inline(always)]
    pub fn add(&mut self, other: Self) {
        self.squared_error += other.squared_error;
        self.squared_weight += other.squared_weight;
        self.max_abs = if other.max_abs > self.max_abs { other.max_abs } else { self.max_abs };
    }
}

/// Quantises `rows` of `latent` on the current rayon pool, into `out` (row-major) and `scales` (one per row). The measured error does not
/// depend on the number of threads, nor does the element that an error for a NaN or an infinity names: the first in row-major order.
///
/// ```
/// use sbnc::quantize::{Dtype, Latent, int8_rows};
/// let bytes: Vec<u8> = [1.0f32, -0.5].iter().flat_map(|w| w.to_le_bytes()).collect();
/// let latent = Latent::new(&bytes, 1, 2, Dtype::F32)?;
/// let (mut q, mut scales) = ([0; 2], [0.0]);
/// int8_rows(&latent, 0..1, &mut q, &mut scales)?;
/// assert_eq!((q, scales), ([127, -64], [1.0 / 127.0]));
/// # Ok::<(), sbnc::quantize::QuantizeError>(())
/// ```
pub fn int8_rows(
    latent: &Latent<'_>,
    rows: Range<usize>,
    out: &mut [i8],
    scales: &mut [f32],
) -> Result<Int8Error, QuantizeError> {
    let (first, count, cols) = (rows.start, rows.len(), latent.cols());
    let bytes = latent.row_bytes(rows)?;
    for (expected, found) in [(count * cols, out.len()), (count, scales.len())] {
        if expected != found {
            return Err(QuantizeError::Output { expected, found });
        }
    }
    let stride = cols * latent.dtype().size();
    let tasks = out
        .par_chunks_mut(TASK_ROWS * cols)
        .zip(scales.par_chunks_mut(TASK_ROWS))
        .zip(bytes.par_chunks(TASK_ROWS * stride));
    let squares: Vec<Option<Int8Error>> = tasks
        .map(|((out, scales), bytes)| {
            with_element!(latent.dtype(), E => pulp::Arch::new().dispatch(Rows { bytes, stride, out, scales, element: PhantomData::<E> }))
        })
        .collect();
    let mut total = Int8Error::default();
    for (task, squares) in squares.into_iter().enumerate() {
        let Some(squares) = squares else {
            let from = task * TASK_ROWS * cols;
            let found = with_element!(latent.dtype(), E => first_non_finite::<E>(&bytes[task * TASK_ROWS * stride..]));
            let (at, value) = found.map_or((from, f32::NAN), |(at, value)| (from + at, value));
            return Err(QuantizeError::NonFinite { row: first + at / cols, col: at % cols, value });
        };
        total.add(squares);
    }
    Ok(total)
}

struct Rows<'a, E> {
    bytes: &'a [u8],
    stride: usize,
    out: &'a mut [i8],
    scales: &'a mut [f32],
    element: PhantomData<E>,
}

impl<E: Element> WithSimd for Rows<'_, E> {
    /// Nothing if a row is not finite.
    type Output = Option<Int8Error>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<Int8Error> {
        let mut total = Int8Error::default();
        let cols = self.out.len() / self.scales.len();
        for ((row, out), scale) in
            self.bytes.chunks_exact(self.stride).zip(self.out.chunks_exact_mut(cols)).zip(self.scales)
        {
            let row = E::Word::slice(row);
            let largest = largest_magnitude::<E>(row);
            if largest >= E::INFINITY {
                return None;
            }
            *scale = E::value(largest) / 127.0;
            if *scale == 0.0 {
                *scale = 1.0;
            }
            total.add(quantise::<E>(row, *scale, out));
        }
        Some(total)
    }
}

#[inline(always)]
fn largest_magnitude<E: Element>(row: &[<E::Word as Word>::Raw]) -> E::Word {
    let mut largest = E::Word::ZERO;
    for &raw in row {
        let magnitude = E::Word::load(raw).magnitude();
        largest = if magnitude > largest { magnitude } else { largest };
    }
    largest
}

#[inline(always)]
fn quantise<E: Element>(row: &[<E::Word as Word>::Raw], scale: f32, out: &mut [i8]) -> Int8Error {
    let mut lanes = [Int8Error::default(); LANES];
    let (rows, row_tail) = row.as_chunks::<LANES>();
    let (outs, out_tail) = out.as_chunks_mut::<LANES>();
    let (mut error, mut weight, mut max_abs) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (row, out) in rows.iter().zip(outs) {
        for lane in 0..LANES {
            let one = quantise_one::<E>(row[lane], scale, &mut out[lane]);
            error[lane] += one.squared_error;
            weight[lane] += one.squared_weight;
            max_abs[lane] = if one.max_abs > max_abs[lane] { one.max_abs } else { max_abs[lane] };
        }
    }
    for lane in 0..LANES {
        lanes[lane] = Int8Error { squared_error: error[lane], squared_weight: weight[lane], max_abs: max_abs[lane] };
    }
    for ((&raw, out), lane) in row_tail.iter().zip(out_tail).zip(&mut lanes) {
        lane.add(quantise_one::<E>(raw, scale, out));
    }
    let mut total = Int8Error::default();
    for lane in lanes {
        total.add(lane);
    }
    total
}

#[inline(always)]
fn quantise_one<E: Element>(raw: <E::Word as Word>::Raw, scale: f32, out: &mut i8) -> Int8Error {
    // From 2^23 to 2^24 an f32 is an integer: adding this rounds to it, half to even, and leaves it in the low bits. Clamping before
    // rounding is the same as after, for the limits are integers.
    const INTEGER: f32 = 12_582_912.0;
    let value = E::value(E::Word::load(raw));
    let ratio = value / scale;
    let ratio = if ratio > 127.0 { 127.0 } else { ratio };
    let ratio = if ratio < -127.0 { -127.0 } else { ratio };
    let rounded = ratio + INTEGER;
    *out = rounded.to_bits() as i8;
    let weight = f64::from(value);
    let error = (weight - f64::from(rounded - INTEGER) * f64::from(scale)).abs();
    Int8Error { squared_error: error * error, squared_weight: weight * weight, max_abs: error }
}
