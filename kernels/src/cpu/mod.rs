//! Kernels for processors.

pub mod portable;
