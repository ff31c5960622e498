//! Kernels for x86-64: the only place of the kernels for processors, beside the pool, where code is unsafe.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
