//! Kernels of 512-bit vectors with VNNI and VBMI.

mod fragments;
mod gemv;
mod sums;
mod tables;

pub(crate) use gemv::{deal, kernel};
