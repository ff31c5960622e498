//! Ctrl-C: noticed between pieces of work, so that temporary files are removed on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT and SIGTERM end the process: at the next [`check`] where the command writes files, at once where it only reads, and at once when the signal
/// comes a second time.
pub fn install(writes: bool) {
    // Without the handler the signal still ends the process; only its temporary file stays behind.
    let _ = ctrlc::set_handler(move || {
        if !writes || INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
}

/// Fails if the user asked to stop.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::interrupted()) } else { Ok(()) }
}
