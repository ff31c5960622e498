//! Products and sums out of registers, as fast as the processor has them. See [`peak`](crate::cpu::peak).

use std::arch::aarch64::*;
use std::hint::black_box;

use super::{Matrices, Products};

/// Registers of sums of a turn.
const SUMS: usize = 16;

/// Products of a turn of [`turns`].
pub(crate) fn products() -> u64 {
    let of_register = match (Matrices::found(), Products::dots()) {
        (Some(_), _) => 32,
        (None, Some(_)) => 16,
        (None, None) => 8,
    };
    SUMS as u64 * of_register
}

/// Sixteen registers of sums a turn, in the way that multiplies most.
#[target_feature(enable = "neon")]
pub(crate) fn turns(turns: u32) {
    let (x, y) = (black_box(vdupq_n_s8(1)), black_box(vdupq_n_s8(2)));
    match (Matrices::found(), Products::dots()) {
        (Some(matrices), _) => {
            let mut sums = [vdupq_n_s32(0); SUMS];
            (0..turns).for_each(|_| sums.iter_mut().for_each(|sum| *sum = matrices.multiply(*sum, x, y)));
            black_box(sums);
        }
        (None, Some(dots)) => {
            let mut sums = [vdupq_n_s32(0); SUMS];
            (0..turns).for_each(|_| sums.iter_mut().for_each(|sum| *sum = dots.dot(*sum, x, y)));
            black_box(sums);
        }
        (None, None) => {
            let mut sums = [vdupq_n_s16(0); SUMS];
            for _ in 0..turns {
                // What the compiler cannot see through is multiplied anew each time.
                let x = black_box(x);
                sums.iter_mut().for_each(|sum| *sum = vmlal_high_s8(*sum, x, y));
            }
            black_box(sums);
        }
    }
}
