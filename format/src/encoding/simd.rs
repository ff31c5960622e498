//! Loops compiled once for every vector width, the widest that the machine has being chosen when they run.
//!
//! The loops are plain safe code that the compiler vectorises; this module only sees to it that they are compiled with the right features. A closure
//! would not do: its call shim is compiled without them.

use pulp::{Arch, Simd, WithSimd};

/// A loop to be compiled for every vector width. `run` must be `#[inline(always)]`.
pub(super) trait Kernel {
    type Output;
    fn run(self) -> Self::Output;
}

struct Adapter<K>(K);

impl<K: Kernel> WithSimd for Adapter<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> K::Output {
        self.0.run()
    }
}

/// Runs a loop with the widest vectors of this machine.
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    Arch::new().dispatch(Adapter(kernel))
}
