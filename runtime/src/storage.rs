//! Where the bytes of an open file are: mapped and shared with other processes, or read into memory of our own.
//!
//! A map is cheap and shared, but the system shows changes that others make. [`Storage::check`] notices a file that was shortened or written to since it was
//! opened, and sessions ask before every call and before every answer; what becomes of pages that are lost in between is told in [`map`](crate::map). Memory of
//! our own has none of this.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Kind, Result};
use crate::map::{Map, Memory, read_into};

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct Storage {
    bytes: Bytes,
    path: PathBuf,
}

#[derive(Debug)]
enum Bytes {
    /// The file stays open, so that it can be asked whether it changed.
    Mapped { map: Map, file: File, len: u64, modified: Option<SystemTime> },
    /// Memory that begins at a page, because kernels want tensors aligned as they are in the file.
    Read(Memory),
}

impl Storage {
    /// Maps or reads the file at `path`.
    pub(crate) fn open(path: &Path, mapped: bool) -> Result<Self> {
        let failed = |e| Error::io(path, "open it", &e);
        // Asked before, because opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::new(Kind::Io, "not a regular file", "", "").in_file(path));
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let len = metadata.len();
        let bytes = if mapped {
            let map = Map::range(&file, 0, len).map_err(|e| Error::io(path, "map it", &e))?;
            map.prefer_huge_pages();
            Bytes::Mapped { map, file, len, modified: metadata.modified().ok() }
        } else {
            read(&file, len).map_err(|e| e.in_file(path))?
        };
        Ok(Self { bytes, path: path.to_owned() })
    }

    /// The path that it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the file under a map is not what it was.
    pub(crate) fn check(&self) -> Result<()> {
        let Bytes::Mapped { map, file, len, modified } = &self.bytes else { return Ok(()) };
        let now: Metadata = file.metadata().map_err(|e| Error::io(&self.path, "look at it again", &e))?;
        let changed = |expected: String, found: String| {
            let remedy = "open the model again, and replace files by renaming rather than by writing into them";
            Err(Error::new(Kind::Integrity, "the file changed while it was in use", expected, found)
                .remedy(remedy)
                .in_file(&self.path))
        };
        if now.len() != *len {
            return changed(format!("{len} bytes, as when it was opened"), format!("{} bytes", now.len()));
        }
        if !map.is_whole() {
            return changed("all bytes of the file".to_owned(), "some that could not be read".to_owned());
        }
        if now.modified().ok() != *modified {
            return changed("no write since it was opened".to_owned(), "a later time of modification".to_owned());
        }
        Ok(())
    }
}

impl AsRef<[u8]> for Storage {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Read(memory) => memory,
        }
    }
}

fn read(file: &File, len: u64) -> Result<Bytes> {
    let none_left = || {
        Error::new(Kind::Budget, "memory for the file", format!("{len} bytes"), "none left")
            .remedy("map the file instead of reading it")
    };
    let mut memory = Memory::zeroed(usize::try_from(len).map_err(|_| none_left())?).map_err(|_| none_left())?;
    let failed = |e: std::io::Error| Error::new(Kind::Io, format!("cannot read it: {e}"), "", "");
    read_into(file, &mut memory, 0).map_err(failed)?;
    Ok(Bytes::Read(memory))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use super::*;

    fn sample(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sbnc-storage-{name}-{}", std::process::id()));
        std::fs::write(&path, [7; 10_000]).unwrap();
        path
    }

    #[test]
    fn read_bytes_are_those_of_the_map_and_aligned() {
        let path = sample("same");
        let (mapped, read) = (Storage::open(&path, true).unwrap(), Storage::open(&path, false).unwrap());
        assert_eq!(mapped.as_ref(), read.as_ref());
        assert_eq!(read.as_ref().as_ptr().align_offset(4096), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_shortened_file_is_noticed_where_it_is_mapped() {
        let path = sample("short");
        let (mapped, read) = (Storage::open(&path, true).unwrap(), Storage::open(&path, false).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(5_000).unwrap();
        let error = mapped.check().unwrap_err();
        assert_eq!((error.kind(), error.found()), (Kind::Integrity, "5000 bytes"));
        assert!(read.check().is_ok() && read.as_ref()[9_999] == 7);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_write_into_a_mapped_file_is_noticed() {
        let path = sample("written");
        let mapped = Storage::open(&path, true).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(mapped.check().unwrap_err().kind(), Kind::Integrity);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_folder_and_a_file_that_is_not_there_are_errors() {
        assert_eq!(Storage::open(&std::env::temp_dir(), true).unwrap_err().kind(), Kind::Io);
        assert_eq!(Storage::open(Path::new("no/such/file"), false).unwrap_err().kind(), Kind::Io);
    }
}
