//! Kernels for AMX tiles; everything but the multiplication itself is that of AVX-512.

pub(crate) mod gemm;
mod permission;
mod tile;

pub(crate) use permission::is_available;
