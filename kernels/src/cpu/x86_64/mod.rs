//! Kernels for x86-64: the only place of the kernels for processors, beside the pool and what it shares out, where code is unsafe.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod peak;
mod simd_avx2;
mod simd_avx512;

pub(crate) use simd_avx2::Avx2;
pub(crate) use simd_avx512::Avx512;

use super::methods::methods;

/// Positions of the two non-zeros of a group, in the order of the codes of nm-6b (SPEC §10.3).
const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// Values of the two rows of a pair code of nm-vi (SPEC §10.4).
const PAIR_VALUES: [[i8; 2]; 9] = [[1, 1], [1, 0], [0, 1], [1, -1], [-1, 1], [-1, 0], [0, -1], [-1, -1], [0, 0]];

/// Four weights in the form of t2.
const fn byte_of(trits: [i8; 4]) -> i8 {
    let codes = [(trits[0] + 1) as u8, (trits[1] + 1) as u8, (trits[2] + 1) as u8, (trits[3] + 1) as u8];
    (codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6) as i8
}

/// The trit of a sign bit of nm-6b.
const fn sign(bit: usize) -> i8 {
    if bit == 0 { 1 } else { -1 }
}

/// Begins to fetch the line of memory at `start`, whatever is there.
#[inline]
pub(crate) fn fetch(start: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of whatever address changes nothing but caches.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
}
