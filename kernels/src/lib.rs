//! Compute on packed ternary tensors.
//!
//! ```text
//! x (f32) ── Activations::quantise ──▶ int8, one scale ──┐
//!                                                        ├─ linear ──▶ i32 sums, y (f32)
//! Validated (trits, a scale per row) ────────────────────┘
//! ```
//!
//! A linear layer is exact integer arithmetic with one rounding at the end, so every kernel gives the same sums, bit for bit. What is here is
//! [`cpu::portable`]: plain code for any machine, written to be read, against which faster kernels are tested, and [`cuda`], for NVIDIA GPUs.
#![deny(unsafe_code)]

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
