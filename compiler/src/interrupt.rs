//! Ctrl-C: noticed between pieces of work, so that temporary files are removed and what was computed is shown on the way out.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use sbnc_runtime::Interrupt;

use crate::error::{Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether there is something to finish.
static DEFERRED: AtomicBool = AtomicBool::new(false);
/// The flag of the session that is running.
static RUNNING: OnceLock<Interrupt> = OnceLock::new();

/// Makes SIGINT and SIGTERM end the process: at the next [`check`] where the command writes files, at once where it only reads, and at once when the signal
/// comes a second time.
pub fn install(writes: bool) {
    DEFERRED.store(writes, Ordering::Relaxed);
    // Without the handler the signal still ends the process; only its temporary file stays behind.
    let _ = ctrlc::set_handler(|| {
        if !DEFERRED.load(Ordering::Relaxed) || INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if let Some(running) = RUNNING.get() {
            running.raise();
        }
    });
}

/// Makes a signal end the running call of a session too.
pub fn raise(interrupt: Interrupt) {
    let _ = RUNNING.set(interrupt);
}

/// Does some work that a signal must not cut off; it is to [`check`] now and then.
pub fn deferred<T>(work: impl FnOnce() -> T) -> T {
    let before = DEFERRED.swap(true, Ordering::Relaxed);
    let result = work();
    DEFERRED.store(before, Ordering::Relaxed);
    result
}

/// Whether the user asked to stop.
pub fn is_raised() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails if the user asked to stop, or if bytes that were read from a map were not its file's: nothing that was made of them may be kept.
pub fn check() -> Result<()> {
    if is_raised() {
        return Err(Error::interrupted());
    }
    if sbnc_runtime::map::lost_pages() { Err(Error::lost_pages()) } else { Ok(()) }
}
