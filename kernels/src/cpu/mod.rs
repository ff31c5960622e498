//! Kernels for processors.
//!
//! ```text
//! Cpu = Platform (which instructions) + Pool (which threads)
//!   x (f32) ── norm, quantise ──▶ Activations (int8) ── linear(Matrix) ──▶ y (f32)
//!   rotate and store, attend, gate, add: the rest of a decoder        ops/
//!   dense(Dense): embeddings and heads that are not ternary
//! ```
//!
//! Every operation exists for every platform and gives equal integer sums on all of them; [`portable`] is what they are compared with. Nothing here
//! knows of models: the runtime decides what is computed, and allocates everything before it begins.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
mod ceiling;
pub mod gemm;
mod gemv;
mod linear;
mod matrix;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod methods;
pub mod ops;
mod peak;
mod platform;
mod pool;
pub mod portable;
mod simd;
mod strips;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::{Activations, Rule};
pub use ceiling::AHEAD;
pub use linear::{Fused, Linear, Output};
pub use matrix::{Dense, Matrix, Packed};
pub use platform::{Isa, Platform, PlatformError, VARIABLE};
pub use pool::Pool;

/// Where kernels run: a set of instructions and a pool of threads.
pub struct Cpu {
    platform: Platform,
    pool: Pool,
    scratch: gemv::Scratch,
}

impl Cpu {
    /// Kernels for `platform` on `threads` threads.
    pub fn new(platform: Platform, threads: usize) -> std::io::Result<Self> {
        Ok(Self { platform, pool: Pool::new(threads)?, scratch: gemv::Scratch::default() })
    }

    /// The instructions in use.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// The threads in use.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// The number of threads that this process may run at a time.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
