//! Kernels for AVX2.

mod fragments;
pub(crate) mod gemm;
mod gemv;
pub(crate) mod panel;
pub(crate) mod rows;
mod sums;
mod unpack;
pub(crate) mod vnni;

use std::arch::x86_64::*;

pub(crate) use gemv::{deal, kernel};

/// A whole vector.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable behind the reference; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Half a vector.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are readable behind the reference; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Stores half a vector.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_16(bytes: &mut [u8; 16], vector: __m128i) {
    // SAFETY: 16 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}

/// Stores a whole vector.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// Stores eight sums, or adds them to what is there.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_sums(sums: &mut [i32; 8], vector: __m256i, add: bool) {
    let pointer = sums.as_mut_ptr().cast();
    let vector = if add {
        // SAFETY: 32 bytes are readable behind the reference; the load needs no alignment.
        _mm256_add_epi32(unsafe { _mm256_loadu_si256(pointer) }, vector)
    } else {
        vector
    };
    // SAFETY: 32 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm256_storeu_si256(pointer, vector) }
}
