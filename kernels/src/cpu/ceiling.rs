//! What this machine's memory gives: the ceiling beside which the speed of a decode step is measured.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Cpu;

/// Bytes of a task.
const TASK: usize = 256 << 10;
/// Bytes that are fetched at a time.
const LINE: usize = 64;
/// Bytes that are added up at a time: some vectors, so that no sum waits for the one before.
const STEP: usize = 4 * LINE;
/// How far ahead of its use a line may be fetched. Which distance is best differs between processors, and a ceiling is the best of all.
pub const AHEAD: [usize; 3] = [1 << 10, 2560, 8 << 10];

impl Cpu {
    /// Reads all bytes as fast as all threads of the pool can, doing nothing but adding them up as words, and fetches so many bytes ahead of use, one of
    /// [`AHEAD`]; a rest below 8 bytes is left out.
    ///
    /// ```
    /// use sbnc_kernels::cpu::{AHEAD, Cpu, Platform};
    ///
    /// let cpu = Cpu::new(Platform::detect(), 2)?;
    /// let bytes = vec![1u8; 1 << 20];
    /// assert_eq!(cpu.read(&bytes, AHEAD[0]), 0x0101_0101_0101_0101u64.wrapping_mul(1 << 17));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(&self, bytes: &[u8], ahead: usize) -> u64 {
        let sum = AtomicU64::new(0);
        self.pool.run(bytes.len().div_ceil(TASK), &|task| {
            let bytes = &bytes[task * TASK..bytes.len().min((task + 1) * TASK)];
            sum.fetch_add(self.read_task(bytes, ahead), Ordering::Relaxed);
        });
        sum.into_inner()
    }

    fn read_task(&self, bytes: &[u8], ahead: usize) -> u64 {
        #[cfg(target_arch = "x86_64")]
        match self.platform.isa() {
            super::Isa::Avx512 | super::Isa::Amx => {
                #[target_feature(enable = "avx512f")]
                fn wide(bytes: &[u8], ahead: usize) -> u64 {
                    add_up(bytes, ahead)
                }
                // SAFETY: the platform is the proof that the processor has these instructions.
                return unsafe { wide(bytes, ahead) };
            }
            super::Isa::Avx2 => {
                #[target_feature(enable = "avx2")]
                fn wide(bytes: &[u8], ahead: usize) -> u64 {
                    add_up(bytes, ahead)
                }
                // SAFETY: the platform is the proof that the processor has these instructions.
                return unsafe { wide(bytes, ahead) };
            }
            _ => {}
        }
        add_up(bytes, ahead)
    }
}

#[inline(always)]
fn add_up(bytes: &[u8], ahead: usize) -> u64 {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let mut lanes = [0u64; STEP / 8];
    for step in steps {
        for line in step.as_chunks::<LINE>().0 {
            fetch(line.as_ptr().wrapping_add(ahead));
        }
        for (lane, word) in lanes.iter_mut().zip(step.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    let words_of_rest = rest.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    lanes.into_iter().chain(words_of_rest).fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "aarch64")]
pub(crate) use super::aarch64::fetch;
#[cfg(target_arch = "x86_64")]
pub(crate) use super::x86_64::fetch;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
pub(crate) fn fetch(_start: *const u8) {}
