//! Kernels of 256-bit vectors.

mod fragments;
mod gemv;
mod sums;
mod unpack;

pub(crate) use gemv::{deal, kernel};
