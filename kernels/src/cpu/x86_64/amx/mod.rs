//! Kernels for AMX tiles: of int8 for linear layers, of bf16 for attention; everything but the multiplication itself is AVX-512.

pub(crate) mod attention;
pub(crate) mod gemm;
pub(crate) mod inputs;
mod outputs;
mod permission;
mod tile;

pub(crate) use permission::is_available;
