//! Which way many queries go: tiles of bf16 where the processor has them, and heads, keys and values fit, else vectors of f32.

use super::plan::Task;
use super::prefill::{self, Prefill};
use super::{Heads, State};
use crate::cpu::Platform;
use crate::cpu::simd::Stored;
#[cfg(target_arch = "x86_64")]
use crate::cpu::x86_64::amx::attention::{self as tiles, Tiled};

/// Queries of a task in vectors, about: enough that widening keys and values costs little.
const QUERIES: usize = 64;

/// How the many queries of a call are attended to.
#[derive(Clone, Copy)]
pub(super) struct Many {
    platform: Platform,
    #[cfg(target_arch = "x86_64")]
    tiled: Option<Tiled>,
}

impl Many {
    pub(super) fn new<T: Stored>(platform: Platform, heads: &Heads) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = heads;
        Self {
            platform,
            #[cfg(target_arch = "x86_64")]
            tiled: Tiled::new::<T>(platform, heads),
        }
    }

    /// Queries of a task, about.
    pub(super) fn queries(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.tiled.is_some() {
            return tiles::QUERIES;
        }
        QUERIES
    }

    /// Floats that a task needs.
    pub(super) fn memory(self, heads: &Heads, task: &Task) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.tiled.is_some() {
            return tiles::memory(heads, task);
        }
        prefill::memory(heads, task)
    }

    /// What the queries of a task find.
    pub(super) fn attend<'a, T: Stored>(self, task: Prefill<'a, '_, T>) -> State<'a> {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiled) = self.tiled {
            return tiled.attend(task);
        }
        self.platform.dispatch(task)
    }
}
