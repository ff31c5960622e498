//! Where the time of a session goes.

use std::time::{Duration, Instant};

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Looking up tokens.
    Embed,
    /// Norms and quantisation of activations, and what is done on the way: adding to the residual stream, the activation function.
    Quantise,
    /// The projections q, k and v.
    Qkv,
    /// Rotation, the cache, and attention itself.
    Attention,
    /// The projection behind attention.
    Out,
    /// The projections gate and up.
    GateUp,
    /// The projection down.
    Down,
    /// Adding to the residual stream for the last time.
    Add,
    /// The last norm and the output head.
    Head,
}

impl Phase {
    /// All phases, in the order of execution.
    pub const ALL: [Self; 9] = [
        Self::Embed,
        Self::Quantise,
        Self::Qkv,
        Self::Attention,
        Self::Out,
        Self::GateUp,
        Self::Down,
        Self::Add,
        Self::Head,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Quantise => "quantise",
            Self::Qkv => "qkv",
            Self::Attention => "attention",
            Self::Out => "out",
            Self::GateUp => "gate-up",
            Self::Down => "down",
            Self::Add => "add",
            Self::Head => "head",
        }
    }
}

/// Time spent in each phase since the session was opened or the profile was reset.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    spent: [Duration; Phase::ALL.len()],
}

impl Profile {
    /// Time spent in a phase.
    pub fn of(&self, phase: Phase) -> Duration {
        self.spent[phase as usize]
    }

    /// Time spent in all of them.
    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// Runs `work` and counts its time.
    pub(crate) fn time<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(phase, start.elapsed());
        result
    }

    pub(crate) fn add(&mut self, phase: Phase, time: Duration) {
        self.spent[phase as usize] += time;
    }
}
