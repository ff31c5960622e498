//! From latents and a scale to masked trits. It computes no scale, and packs nothing.
//!
//! # The threshold
//!
//! The semantics are `q = clamp(round_half_even(w·s), −1, +1)` with `s = 1/scale`, the product rounded to f32. Write `p` for the rounded
//! product. If `|p| ≤ 0.5`, it rounds to 0 (the tie at 0.5 goes to the even 0). If `|p| > 0.5`, it rounds to at least 1 in magnitude and
//! the clamp makes it ±1. The sign of `p` is that of `w`, and `|p|` is the rounded product of `|w|` and `s`, since rounding to nearest is
//! symmetric. So `q = sign(w)` if `fl(|w|·s) > 0.5`, else 0.
//!
//! Rounding to nearest is also monotone: a larger `|w|` never has a smaller product. So for one `s` there is one smallest magnitude, as
//! bits, that becomes ±1, and every comparison of a float product becomes a comparison of integers. It is found by bisection, with the very
//! product of the definition; `near`, for the statistics, likewise.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::QuantizeError;
use super::element::{Element, Word};
use super::latent::{Dtype, Latent, with_element};
use super::mask;
use super::pattern::Nm;
use super::stats::{Bounds, NEAR, PIECE, Stats, Tally};

/// Weights per task of [`Ternariser::part`], roughly.
const TASK: usize = 1 << 18;

/// Turns latents of one format and scale into trits.
///
/// ```
/// use sbnc::quantize::{Dtype, Latent, Nm, Ternariser};
/// let bytes: Vec<u8> = [0.9f32, -0.8, 0.7, 0.1].iter().flat_map(|w| w.to_le_bytes()).collect();
/// let latent = Latent::new(&bytes, 1, 4, Dtype::F32)?;
/// let mut trits = [0; 4];
/// Ternariser::new(Dtype::F32, 0.625, Some(Nm::new(2, 4)?))?.rows(&latent, 0..1, &mut trits, None)?;
/// assert_eq!(trits, [1, -1, 0, 0]);
/// # Ok::<(), sbnc::quantize::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ternariser {
    dtype: Dtype,
    inverse: f32,
    pattern: Option<Nm>,
    threshold: u32,
    near: u32,
    beyond: u32,
}

impl Ternariser {
    /// For latents of `dtype` whose scale is `scale` (positive and finite), masked by `pattern` if there is one.
    pub fn new(dtype: Dtype, scale: f32, pattern: Option<Nm>) -> Result<Self, QuantizeError> {
        let inverse = 1.0 / scale;
        if !(scale > 0.0 && scale.is_finite() && inverse.is_finite()) {
            return Err(QuantizeError::Scale { scale });
        }
        let first = |test: &dyn Fn(f32) -> bool| with_element!(dtype, E => first_magnitude::<E>(inverse, test));
        Ok(Ternariser {
            dtype,
            inverse,
            pattern,
            threshold: first(&|product| product > 0.5),
            near: first(&|product| product - 0.5 >= -NEAR),
            beyond: first(&|product| product - 0.5 > NEAR),
        })
    }

    /// The masked trits of `rows`, row-major, on this thread; adds to `tally` if there is one. Every latent must be finite, which
    /// [`part_scale`](super::part_scale) has checked; the trit of a NaN or an infinity means nothing.
    pub fn rows(
        &self,
        latent: &Latent<'_>,
        rows: Range<usize>,
        trits: &mut [i8],
        tally: Option<&mut Tally>,
    ) -> Result<(), QuantizeError> {
        let bytes = self.check(latent, rows, trits)?;
        self.run(bytes, trits, tally);
        Ok(())
    }

    /// Like [`Ternariser::rows`], on the current rayon pool.
    pub fn part(&self, latent: &Latent<'_>, rows: Range<usize>, trits: &mut [i8]) -> Result<(), QuantizeError> {
        let bytes = self.check(latent, rows, trits)?;
        let task = self.task(latent);
        trits
            .par_chunks_mut(task)
            .zip(bytes.par_chunks(task * self.dtype.size()))
            .for_each(|(trits, bytes)| self.run(bytes, trits, None));
        Ok(())
    }

    /// Like [`Ternariser::part`], and counts.
    pub fn part_with_stats(
        &self,
        latent: &Latent<'_>,
        rows: Range<usize>,
        trits: &mut [i8],
    ) -> Result<Stats, QuantizeError> {
        let bytes = self.check(latent, rows, trits)?;
        let task = self.task(latent);
        let tallies = trits.par_chunks_mut(task).zip(bytes.par_chunks(task * self.dtype.size())).with_min_len(4).fold(
            Tally::default,
            |mut tally, (trits, bytes)| {
                self.run(bytes, trits, Some(&mut tally));
                tally
            },
        );
        Ok(tallies.map(Tally::finish).reduce(Stats::default, |mut sum, stats| {
            sum.merge(&stats);
            sum
        }))
    }

    /// Whole rows of about [`TASK`] weights.
    fn task(&self, latent: &Latent<'_>) -> usize {
        (TASK / latent.cols()).max(1) * latent.cols()
    }

    fn check<'a>(&self, latent: &Latent<'a>, rows: Range<usize>, trits: &[i8]) -> Result<&'a [u8], QuantizeError> {
        if latent.dtype() != self.dtype {
            return Err(QuantizeError::Dtype { expected: self.dtype, found: latent.dtype() });
        }
        if let Some(pattern) = self.pattern.filter(|nm| !latent.cols().is_multiple_of(nm.m())) {
            return Err(QuantizeError::Group { cols: latent.cols(), pattern });
        }
        let expected = rows.len() * latent.cols();
        let bytes = latent.row_bytes(rows)?;
        if trits.len() != expected {
            return Err(QuantizeError::Output { expected, found: trits.len() });
        }
        Ok(bytes)
    }

    fn run(&self, bytes: &[u8], trits: &mut [i8], tally: Option<&mut Tally>) {
        let arch = pulp::Arch::new();
        with_element!(self.dtype, E => match tally {
            None => arch.dispatch(Trits { plan: self, bytes, trits, element: PhantomData::<E> }),
            Some(tally) => arch.dispatch(TritsAndTally { plan: self, bytes, trits, tally, element: PhantomData::<E> }),
        });
    }
}

/// The smallest magnitude whose product with `inverse` passes `test`, or infinity's. `test` must be monotone.
fn first_magnitude<E: Element>(inverse: f32, test: &dyn Fn(f32) -> bool) -> u32 {
    let (mut low, mut high) = (0, E::INFINITY.into());
    while low < high {
        let middle = low + (high - low) / 2;
        if test(E::value(E::Word::truncate(middle)) * inverse) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

struct Trits<'a, E> {
    plan: &'a Ternariser,
    bytes: &'a [u8],
    trits: &'a mut [i8],
    element: PhantomData<E>,
}

impl<E: Element> WithSimd for Trits<'_, E> {
    type Output = ();

    // Rows follow one another and groups never straddle them, so a range of rows is simply a sequence of groups.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let threshold = E::Word::truncate(self.plan.threshold);
        mask::ternarise::<E::Word, false>(E::Word::slice(self.bytes), self.plan.pattern, threshold, self.trits);
    }
}

struct TritsAndTally<'a, E> {
    plan: &'a Ternariser,
    bytes: &'a [u8],
    trits: &'a mut [i8],
    tally: &'a mut Tally,
    element: PhantomData<E>,
}

impl<E: Element> WithSimd for TritsAndTally<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let plan = self.plan;
        let [threshold, near, beyond] = [plan.threshold, plan.near, plan.beyond].map(E::Word::truncate);
        // Pieces of whole blocks that stay in the first-level cache between the two passes.
        let m = plan.pattern.map_or(1, Nm::m);
        let block = m * mask::WIDTH;
        let piece = PIECE / block * block;
        for (raw, trits) in E::Word::slice(self.bytes).chunks(piece).zip(self.trits.chunks_mut(piece)) {
            let counts = mask::ternarise::<E::Word, true>(raw, plan.pattern, threshold, trits);
            if plan.pattern.is_some() {
                self.tally.add_groups(raw.len() / m, counts);
            }
            self.tally.count::<E>(raw, trits, plan.inverse, Bounds { threshold, near, beyond });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::{Bf16, F32};
    use super::*;

    /// Weights, trits and counts of every kernel on the machine's widest vectors and on none.
    fn widths_agree<E: Element>(dtype: Dtype, size: usize) {
        let cols = 5040; // a multiple of every M but 11 and 13
        let bytes: Vec<u8> = (0..(cols * size) as u32)
            .map(|i| {
                (i.wrapping_mul(0x9e37_79b9) >> 24) as u8 & if i as usize % size == size - 1 { 0xbf } else { 0xff }
            })
            .collect();
        for (n, m) in (1..=16usize).flat_map(|m| [(1, m), (m.div_ceil(2), m), (m, m)]).filter(|(_, m)| cols % m == 0) {
            let nm = Nm::new(n, m).ok();
            let Ok(plan) = Ternariser::new(dtype, 1e-3, nm) else { panic!("{n}:{m}") };
            let run = |wide: bool| {
                let (mut trits, mut tally) = (vec![9; cols], Tally::default());
                let op = TritsAndTally {
                    plan: &plan,
                    bytes: &bytes,
                    trits: &mut trits,
                    tally: &mut tally,
                    element: PhantomData::<E>,
                };
                if wide {
                    pulp::Arch::new().dispatch(op)
                } else {
                    pulp::Scalar::new().vectorize(op)
                }
                (trits, tally.finish())
            };
            assert!(run(true) == run(false), "{n}:{m} in {dtype:?}");
        }
    }

    #[test]
    fn the_width_of_the_vectors_does_not_show() {
        widths_agree::<Bf16>(Dtype::Bf16, 2);
        widths_agree::<F32>(Dtype::F32, 4);
    }
}
