//! `sbnc pack` and `sbnc unpack`: a smaller form for download, and back.

use std::path::Path;

use sbnc_format::Sbnc;
use sbnc_format::packed::{self, Packed};
use sbnc_format::writer::WriteError;

use super::paths::check_outputs;
use super::terminal::{emit, progress};
use crate::error::{Error, Result};
use crate::numbers::bytes;

pub(crate) fn pack(path: &Path, output: &Path, level: i32) -> Result<()> {
    check_outputs(&[output], &[path.to_owned()])?;
    let raw = super::map(path)?;
    Sbnc::open(&raw[..]).map_err(|e| Error::format(path, &e))?;
    let bar = progress(raw.len() as u64, "packing");
    let stored = packed::pack(&raw, output, level, &|n| {
        bar.inc(n);
        crate::interrupt::check().is_ok()
    });
    bar.finish_and_clear();
    let stored = stored.map_err(interrupted_or)?;
    let share = 100.0 * stored as f64 / raw.len() as f64;
    emit(&format!("{}: {} in {} ({share:.1} %)\n", output.display(), bytes(raw.len() as u64), bytes(stored)))
}

pub(crate) fn unpack(path: &Path, output: &Path) -> Result<()> {
    check_outputs(&[output], &[path.to_owned()])?;
    let stored = super::map(path)?;
    let packed = Packed::open(&stored).map_err(|e| Error::format(path, &e))?;
    let bar = progress(packed.raw_bytes(), "unpacking");
    let unpacked = packed::unpack(
        &packed,
        output,
        &|n| {
            bar.inc(n);
            crate::interrupt::check().is_ok()
        },
        |temporary| {
            let check = |map: &[u8]| packed.check_unpacked(map).map_err(|e| Error::format(path, &e));
            super::map(temporary)
                .and_then(|map| check(&map))
                .and_then(|()| crate::interrupt::check())
                .map_err(Failure::Check)
        },
    );
    bar.finish_and_clear();
    unpacked.map_err(|failure| match failure {
        Failure::Write(WriteError::Format(e)) => Error::format(path, &e),
        Failure::Write(e) => interrupted_or(e),
        Failure::Check(e) => e,
    })?;
    emit(&format!("{}: {}, root {}\n", output.display(), bytes(packed.raw_bytes()), packed.root()))
}

/// The interruption, if there was one: the writer was told to stop and only knows that. Work that was done before it stays done.
fn interrupted_or(error: WriteError) -> Error {
    crate::interrupt::check().err().unwrap_or_else(|| error.into())
}

/// What ended an unpacking. A broken rule is one of the packed file, which the writer does not know the name of.
enum Failure {
    Write(WriteError),
    Check(Error),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
