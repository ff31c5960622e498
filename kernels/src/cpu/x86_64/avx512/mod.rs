//! Kernels for AVX-512 with VNNI and VBMI.

mod fragments;
pub(crate) mod gemm;
mod gemv;
pub(crate) mod int8;
pub(crate) mod panel;
pub(crate) mod rows;
mod sums;
mod tables;

use std::arch::x86_64::*;

pub(crate) use gemv::{deal, kernel};

/// A whole vector.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Up to 64 bytes, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn load_part(bytes: &[u8]) -> __m512i {
    let mask = if bytes.len() >= 64 { u64::MAX } else { (1 << bytes.len()) - 1 };
    // SAFETY: the mask lets only bytes of the slice be read; the load needs no alignment.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// Stores a whole vector.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// A vector of 16 sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_sums(sums: &[i32; 16]) -> __m512i {
    // SAFETY: 64 bytes are readable behind the reference; the load needs no alignment.
    unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
}

/// Stores a vector of 16 sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_sums(sums: &mut [i32; 16], vector: __m512i) {
    // SAFETY: 64 bytes are writable behind the reference; the store needs no alignment.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), vector) }
}

/// Up to 16 numbers, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_floats(values: &[f32]) -> __m512 {
    // SAFETY: the mask lets only values of the slice be read; the load needs no alignment.
    unsafe { _mm512_maskz_loadu_ps(first_of_16(values.len()), values.as_ptr()) }
}

/// Stores as many of 16 numbers as there is room for.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_floats(values: &mut [f32], vector: __m512) {
    if let Some(values) = values.as_mut_array::<16>() {
        // SAFETY: 64 bytes are writable behind the reference; the store needs no alignment. (Stores with a mask take longer.)
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) };
        return;
    }
    // SAFETY: the mask lets only values of the slice be written; the store needs no alignment.
    unsafe { _mm512_mask_storeu_ps(values.as_mut_ptr(), first_of_16(values.len()), vector) }
}

#[inline]
fn first_of_16(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}
