//! One open file of a checkpoint, and ranges of its bytes.
//!
//! A [`Source`] is opened once and keeps its descriptor, so every later read concerns the file that was validated, whatever
//! happens to its name. Each read first checks that its length and modification time are still those of the opening: a file rewritten while it is
//! compiled is an error rather than a mixture of two models.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sbnc_runtime::map::{Map, read_range};

use super::error::{CheckpointError, Result, Text};

/// How tensor bytes reach memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Mapped, and unmapped with the [`Bytes`]: no copy.
    #[default]
    Map,
    /// Copied: for network filesystems, or files that others may write meanwhile.
    Read,
}

/// A file of the checkpoint.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    len: u64,
    modified: Option<SystemTime>,
    access: Access,
}

/// The bytes of a tensor or of some of its rows; release them before asking for the next, and memory stays bounded.
#[derive(Debug)]
pub struct Bytes(Holding);

#[derive(Debug)]
enum Holding {
    Mapped(Map),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Holding::Mapped(map) => map,
            Holding::Owned(bytes) => bytes,
        }
    }
}

impl Source {
    /// Opens a regular file. Its type is asked first: opening a pipe would block, and a device has no end.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self> {
        let refuse = |source| CheckpointError::io(path, "open", source);
        if !fs::metadata(path).map_err(refuse)?.is_file() {
            return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(refuse)?;
        let metadata = file.metadata().map_err(refuse)?;
        Ok(Self { path: path.to_owned(), file, len: metadata.len(), modified: metadata.modified().ok(), access })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A private copy of a range: what is validated once and used later is read this way, never twice from a map.
    pub(crate) fn copy(&self, offset: u64, len: u64, what: &str) -> Result<Vec<u8>> {
        self.check(offset, len, what)?;
        read_range(&self.file, offset, len).map_err(|source| CheckpointError::io(&self.path, "read", source))
    }

    /// A range in the way that the caller of the checkpoint chose.
    pub(crate) fn bytes(&self, offset: u64, len: u64, what: &str) -> Result<Bytes> {
        if self.access == Access::Read {
            return Ok(Bytes(Holding::Owned(self.copy(offset, len, what)?)));
        }
        self.check(offset, len, what)?;
        let map =
            Map::range(&self.file, offset, len).map_err(|source| CheckpointError::io(&self.path, "map", source))?;
        Ok(Bytes(Holding::Mapped(map)))
    }

    fn check(&self, offset: u64, len: u64, what: &str) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let expected = format!("{what}: {len} bytes at offset {offset}");
            let found = format!("a file that ends at byte {} (truncated?)", self.len);
            return Err(CheckpointError::malformed(&self.path, expected, found));
        }
        let now = self.file.metadata().map_err(|source| CheckpointError::io(&self.path, "stat", source))?;
        if now.len() != self.len || now.modified().ok() != self.modified {
            let changed = io::Error::other("the file was changed by someone else while it was being read");
            return Err(CheckpointError::io(&self.path, "read", changed));
        }
        Ok(())
    }

    pub(crate) fn malformed(&self, expected: impl Into<Text>, found: impl Into<Text>) -> CheckpointError {
        CheckpointError::malformed(&self.path, expected, found)
    }

    pub(crate) fn unsupported(&self, expected: impl Into<Text>, found: impl Into<Text>) -> CheckpointError {
        CheckpointError::unsupported(&self.path, expected, found)
    }

    /// Refuses a count or size above its limit.
    pub(crate) fn at_most(&self, what: &str, found: u64, limit: u64) -> Result<()> {
        if found > limit { Err(CheckpointError::limit(&self.path, what, limit, found)) } else { Ok(()) }
    }
}
