//! The logits of all positions, as a safetensors file.

use std::io::Write;
use std::path::Path;

use sbnc_format::atomic::AtomicFile;
use sbnc_runtime::Session;
use serde_json::json;

use crate::error::{Error, Result};

/// The file to be, under its temporary name.
pub(super) struct Output<'a> {
    path: &'a Path,
    file: AtomicFile,
}

impl<'a> Output<'a> {
    /// Creates it, so that a place that cannot be written to is known before the work.
    pub(super) fn create(path: &'a Path) -> Result<Self> {
        let file = AtomicFile::create(path).map_err(|e| Error::io(path, "create the output", &e))?;
        Ok(Self { path, file })
    }

    /// Runs the tokens again, all positions wanted, and writes one f32 tensor `logits` with a row for each.
    pub(super) fn write(self, session: &mut Session, tokens: &[u32]) -> Result<()> {
        let Self { path, mut file } = self;
        let vocab = session.model().config().vocab;
        let bytes = 4 * (tokens.len() * vocab) as u64;
        let tensor = json!({ "dtype": "F32", "shape": [tokens.len(), vocab], "data_offsets": [0, bytes] });
        let mut header = json!({ "logits": tensor }).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let failed = |e: std::io::Error| Error::io(path, "write", &e);
        let whole = 8 + header.len() as u64 + bytes;
        file.reserve(whole).map_err(|e| Error::io(path, "reserve room for the output", &e))?;
        file.file().write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.file().write_all(&header).map_err(failed)?;
        let mut written = Ok(());
        session.truncate(0, 0);
        session.forward_all(tokens, |rows| {
            if written.is_ok() {
                let little: Vec<u8> = rows.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                written = file.file().write_all(&little);
            }
        })?;
        written.map_err(failed)?;
        file.commit().map_err(|e| Error::io(path, "put the output in place", &e))
    }
}
