//! Kernels for AMX tiles; everything but the multiplication itself is that of AVX-512.

pub(crate) mod attention;
pub(crate) mod gemm;
mod permission;
mod tile;

pub(crate) use permission::{has_bf16, is_available};
