//! Rows of int8 times few tokens in integers: activations become whole numbers of 24 bits, whose three bytes are multiplied one by one.
//!
//! ```text
//! x ── · s, rounded ──▶ X = b0 + 2^8·b1 + 2^16·b2      Σ w·X = Σ_p 2^8p · Σ (w + 128)·b_p − 128·ΣX      out = Σ w·X · (scale / s)
//! ```
//!
//! A whole number is off by no more than 2^-24 of the largest activation, as an f32 sum is, and adding up loses nothing. It takes a third of the
//! instructions that widening weights to f32 takes.

use std::cell::Cell;

use super::fours::Fours;
use crate::cpu::Cpu;
use crate::cpu::gemv::{LINE, Line};
use crate::cpu::pool::Shares;

/// Bytes of an activation.
pub(crate) const PLANES: usize = 3;

/// The largest number whose bytes are all 127.
const LARGEST: f64 = 0x7F_7F7F as f64;

/// Sums `Σ (w + 128)·b` of four rows with each plane of activations, which have as many lines each.
pub(crate) type Int8Kernel = fn(&[&[i8]; 4], &[Line]) -> [[i32; 4]; PLANES];

/// The most columns whose sums fit 32 bits.
const MOST_COLS: usize = 1 << 16;

thread_local! {
    static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A token's activations, apart from their bytes.
struct Token {
    /// What a whole number stands for.
    unit: f64,
    /// The sum of all whole numbers.
    total: i64,
}

impl Cpu {
    /// [`Cpu::dense`] of int8, unless the platform or the activations are not made for it.
    pub(super) fn dense_int8(&self, weight: (&[i8], &[f32]), cols: usize, x: &[f32], out: &mut [f32]) -> bool {
        let Some(kernel) = self.int8_kernel().filter(|_| cols <= MOST_COLS) else { return false };
        if !x.iter().all(|v| v.is_finite()) {
            return false;
        }
        let of_plane = cols.div_ceil(LINE);
        let mut lines = LINES.take();
        if lines.len() < PLANES * of_plane {
            lines.resize(PLANES * of_plane, Line([0; LINE]));
        }
        let rows = weight.1.len();
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(rows.max(1))) {
            let lines = &mut lines[..PLANES * of_plane];
            let token = split(x, lines);
            self.multiply_int8(kernel, weight, (lines, token), out);
        }
        LINES.set(lines);
        true
    }

    fn multiply_int8(
        &self,
        kernel: Int8Kernel,
        (weight, scales): (&[i8], &[f32]),
        (lines, token): (&[Line], Token),
        out: &mut [f32],
    ) {
        let (rows, cols) = (out.len(), weight.len() / out.len().max(1));
        let out = Shares::new(out);
        let fours = Fours::new(rows, self.pool.threads(), cols);
        self.pool.run(fours.tasks(), &|task| {
            for four in fours.of(task) {
                let of_rows = four.map(|row| &weight[row.unwrap_or(0) * cols..][..cols]);
                let sums = kernel(&of_rows, lines);
                for (i, row) in four.into_iter().enumerate() {
                    let Some(row) = row else { continue };
                    let planes = sums.iter().rev().fold(0, |sum, plane| (sum << 8) + i64::from(plane[i]));
                    let sum = planes - 128 * token.total;
                    // SAFETY: every row belongs to one four of one task, which holds one output at a time.
                    let out = unsafe { out.range(row, 1) };
                    out[0] = (sum as f64 * (f64::from(scales[row]) * token.unit)) as f32;
                }
            }
        });
    }

    fn int8_kernel(&self) -> Option<Int8Kernel> {
        #[cfg(target_arch = "x86_64")]
        {
            crate::cpu::x86_64::avx512::int8::kernel(self.platform)
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Makes whole numbers of finite activations and deals out their bytes, the lowest first.
fn split(x: &[f32], lines: &mut [Line]) -> Token {
    let largest = x.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    let unit = f64::from(largest.max(f32::MIN_POSITIVE)) / LARGEST;
    let (factor, of_plane, mut total) = (1.0 / unit, lines.len() / PLANES, 0);
    let (low, rest) = lines.split_at_mut(of_plane);
    let (middle, high) = rest.split_at_mut(of_plane);
    for (i, x) in x.chunks(LINE).enumerate() {
        let mut numbers = [0i32; LINE];
        for (number, &v) in numbers.iter_mut().zip(x) {
            *number = (f64::from(v) * factor).round_ties_even() as i32;
        }
        total += numbers.iter().map(|&number| i64::from(number)).sum::<i64>();
        // Bytes have signs, so what is above one is a little more where it is negative.
        low[i].0 = numbers.map(|number| number as i8);
        let above = numbers.map(|number| (number - i32::from(number as i8)) >> 8);
        middle[i].0 = above.map(|number| number as i8);
        high[i].0 = above.map(|number| ((number - i32::from(number as i8)) >> 8) as i8);
    }
    Token { unit, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_make_the_whole_numbers_again() {
        let x: Vec<f32> = (0..150).map(|i| (i as f32 - 70.0) * 0.37).chain([1e-30, -29.6, 29.6]).collect();
        let mut lines = vec![Line([0; LINE]); PLANES * 3];
        let token = split(&x, &mut lines);
        let mut total = 0;
        for (i, &v) in x.iter().enumerate() {
            let number = (0..PLANES).rev().fold(0, |n, p| (n << 8) + i64::from(lines[3 * p + i / LINE].0[i % LINE]));
            assert!((number as f64 * token.unit - f64::from(v)).abs() <= 0.5001 * token.unit, "{v}");
            total += number;
        }
        assert_eq!(total, token.total);
        assert!(lines.chunks(3).all(|plane| plane[2].0[x.len() % LINE..].iter().all(|&byte| byte == 0)));
    }
}
