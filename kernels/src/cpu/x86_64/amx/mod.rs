//! Kernels for AMX int8 tiles; everything but the multiplication itself is that of AVX-512.
//!
//! Stable Rust has no intrinsics for tiles, so the few instructions are written in assembly. The compiler never uses tile registers itself.

pub(crate) mod gemm;
mod permission;

pub(crate) use permission::is_available;
