//! Where a model runs, and what a device must do for a session.
//!
//! ```text
//! Model   (file, config, plan)   shared by all sessions, the same for all devices
//!   └─ Session (positions, chunks, errors)   the same for all devices
//!        └─ Engine (cache, scratch, kernels)   one for each device: cpu/, cuda/
//! ```
//!
//! An engine gets steps that were checked: tokens exist, positions are within the cache, rows fit the chunk. It keeps what it needs of the model itself, and
//! allocates everything when it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::profile::Profile;

pub(crate) use sbnc_kernels::cpu::ops::Segment;

/// Where to run a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The fastest that there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// Rows of a step, at most a chunk of them: tokens, and which of them follow each other in which sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) segments: &'a [Segment],
}

/// What a device does for one session.
pub(crate) trait Engine: Send {
    /// Runs all layers over the rows of a step, stores their keys and values, and keeps the rows' last states for the calls below. Gives up between
    /// layers when `interrupt` is raised.
    fn run(&mut self, step: Step<'_>, interrupt: &Interrupt) -> Result<()>;

    /// Writes the logits of some rows of the last step, one row after another.
    fn logits(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()>;

    /// Writes the normalised last states of some rows of the last step.
    fn hidden(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()>;

    /// Copies the keys and values of the first `len` positions of one sequence to another.
    fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<()>;

    /// Time spent so far.
    fn profile(&mut self) -> &mut Profile;
}

/// A flag that stops a session from another thread or a signal handler: raise it, and the running call ends with [`Kind::Interrupted`] within a layer's time.
/// It stays raised until its owner lowers it.
///
/// [`Kind::Interrupted`]: crate::Kind::Interrupted
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lowers the flag.
    pub fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_raised() { Err(Error::interrupted()) } else { Ok(()) }
    }
}
