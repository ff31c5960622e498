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

/// How a device chooses tokens, where it can: filters at temperature 1, in the order top-k, top-p, min-p, then a draw at the temperature. The draws are those of
/// the sampler for processors, up to the last bit of what is added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnDevice {
    /// 0 for the likeliest token.
    pub temperature: f32,
    /// How many of the likeliest tokens are kept; 0 for all.
    pub top_k: usize,
    /// What share of the probability they have; 1 for all.
    pub top_p: f32,
    /// The least probability, relative to the likeliest; 0 for all.
    pub min_p: f32,
    /// What draws depend on.
    pub seed: u64,
    /// Draws that were made before.
    pub draws: usize,
}

impl OnDevice {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0, draws: 0 };
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

    /// Runs a step of one token a sequence, and then `count − 1` more steps of tokens that the device chooses by itself, and gives all `count` tokens chosen,
    /// one sequence after another. `None` where the device leaves choosing to the host. An interruption is noticed before it begins.
    fn decode(
        &mut self,
        _step: Step<'_>,
        _sampling: &[OnDevice],
        _count: usize,
        _interrupt: &Interrupt,
    ) -> Result<Option<Vec<u32>>> {
        Ok(None)
    }

    /// The most tokens that a call of [`Engine::decode`] can give.
    fn most_decoded(&self) -> usize {
        0
    }

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
