//! Compute on packed ternary tensors.
//!
//! ```text
//! x (f32) ── quantise ──▶ int8, one scale a token ──┐
//!                                                   ├─ linear ──▶ i32 sums, y (f32)
//! Matrix (trits, a scale a row) ────────────────────┘
//! ```
//!
//! A linear layer is exact integer arithmetic with one rounding at the end, so every kernel gives the same sums, bit for bit. [`cpu`] holds the kernels
//! for processors; its [`cpu::portable`] is plain code, written to be read, against which all others are tested. [`cuda`] holds those for NVIDIA GPUs.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
