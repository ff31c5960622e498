//! What this machine can do at most: bytes read from memory, and products of 8-bit integers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sbnc_kernels::cpu::{AHEAD, Cpu, Platform};
use sbnc_runtime::map::Memory;

use crate::error::{Error, Exit, Result};

/// What is read again and again: more than caches hold.
const BUFFER: usize = 1 << 30;
/// How long each ceiling is measured.
const TIME: Duration = Duration::from_millis(600);

/// Ceilings of one platform and number of threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub(super) bytes_per_s: f64,
    pub(super) ops_per_s: f64,
}

impl Ceilings {
    /// Measures both; each is the best of some tries, because a ceiling is what nothing held up.
    pub(super) fn measure(platform: Platform, threads: usize) -> Result<Self> {
        let cpu =
            Cpu::new(platform, threads).map_err(|e| Error::new(Exit::Io, format!("cannot start threads: {e}")))?;
        let room = Memory::zeroed(BUFFER);
        let mut buffer = room.map_err(|e| Error::new(Exit::Memory, format!("memory to measure the ceiling: {e}")))?;
        buffer.fill(1);
        let rates = AHEAD.map(|ahead| {
            best(TIME / AHEAD.len() as u32, || {
                black_box(cpu.read(&buffer, ahead));
                BUFFER as u64
            })
        });
        let bytes_per_s = rates.into_iter().fold(0.0, f64::max);
        let ops_per_s = best(TIME, || cpu.multiply(64));
        Ok(Self { bytes_per_s, ops_per_s })
    }
}

/// The best rate of `work`, which says how much it did, over some time, after a call that is not counted.
fn best(time: Duration, mut work: impl FnMut() -> u64) -> f64 {
    work();
    let (begin, mut best) = (Instant::now(), 0f64);
    while begin.elapsed() < time {
        let start = Instant::now();
        let amount = work();
        best = best.max(amount as f64 / start.elapsed().as_secs_f64());
    }
    best
}
