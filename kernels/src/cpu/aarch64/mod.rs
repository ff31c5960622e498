//! Kernels for 64-bit Arm. Every such processor has NEON; dot products and matrix products of bytes are used where it has them.
//!
//! ```text
//!                  NEON                        dotprod             i8mm
//! few tokens       smlal, sadalp               sdot                (sdot)
//! many tokens      smlal, sadalp               sdot by element     smmla
//! ```
//!
//! Stable Rust has no intrinsics for the instructions of the last two columns yet, so each is a line of assembly, in `products.rs`. None of this was
//! timed on Arm: it was designed, and its speed is spoken of, by counting instructions.

mod fragments;
pub(crate) mod gemm;
mod gemv;
pub(crate) mod panel;
pub(crate) mod peak;
mod products;
pub(crate) mod rows;
mod simd_neon;
mod unpack;

use std::arch::aarch64::*;
use std::arch::asm;

pub(crate) use gemv::{deal, kernel};
pub(crate) use products::{Matrices, Products};
pub(crate) use simd_neon::Neon;

/// A vector.
#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are readable behind the reference; the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// A vector of activations.
#[inline]
#[target_feature(enable = "neon")]
fn load_signed(values: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 bytes are readable behind the reference; the load needs no alignment.
    unsafe { vld1q_s8(values.as_ptr()) }
}

/// Stores a vector.
#[inline]
#[target_feature(enable = "neon")]
fn store(bytes: &mut [u8; 16], vector: uint8x16_t) {
    // SAFETY: 16 bytes are writable behind the reference; the store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), vector) }
}

/// Begins to fetch the line of memory at `start`, whatever is there.
#[inline]
pub(crate) fn fetch(start: *const u8) {
    // SAFETY: a prefetch of whatever address changes nothing but caches.
    unsafe { asm!("prfm pldl1keep, [{}]", in(reg) start, options(readonly, nostack, preserves_flags)) };
}

/// Begins to fetch the line of memory at `start`, whatever is there, to be written.
#[inline]
pub(crate) fn fetch_to_write(start: *const u8) {
    // SAFETY: a prefetch of whatever address changes nothing but caches.
    unsafe { asm!("prfm pstl1keep, [{}]", in(reg) start, options(readonly, nostack, preserves_flags)) };
}
