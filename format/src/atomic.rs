//! A file that appears under its name whole or not at all.
//!
//! Bytes go to a temporary file beside the target; committing syncs it, renames it over the target and syncs the folder. Until then the target is
//! what it was. A process that is killed leaves at most the temporary file, whose name begins with a dot and says what it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A temporary file that becomes its target when committed, and is removed when dropped before.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Creates the temporary file in the target's folder, readable and writable. The target itself is not touched.
    pub fn create(target: &Path) -> io::Result<Self> {
        if target.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "the output path is a folder"));
        }
        let target = resolve_link(target)?;
        if fs::metadata(&target).is_ok_and(|old| !old.is_file()) {
            // Renaming over a device or a pipe would put a file in its place.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the output path is not a regular file"));
        }
        let mut attempts = 0;
        loop {
            let temporary = temporary_name(&target)?;
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(Self { file, temporary, target, committed: false }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts < 16 => attempts += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Reserves `bytes` on the disk, so that a full disk is found before the work, not after it. A file system that cannot reserve is not an error.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
                Err(e)
                    if e == rustix::io::Errno::NOSPC
                        || e == rustix::io::Errno::FBIG
                        || e == rustix::io::Errno::DQUOT =>
                {
                    return Err(e.into());
                }
                _ => {}
            }
        }
        self.file.set_len(bytes)
    }

    /// The temporary file, to be written from its start.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes all of `bytes` from `offset` on; any number of threads may.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(&self.file, bytes, offset)
    }

    /// Where the temporary file is, for a check of what was written.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Makes the bytes durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Makes the file durable and gives it its name.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Ok(old) = fs::metadata(&self.target) {
            fs::set_permissions(&self.temporary, old.permissions())?;
        }
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        sync_folder(folder_of(&self.target))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here, and the name says what the file is.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Renaming over a symbolic link would replace the link: write through it instead, as a plain write would.
fn resolve_link(target: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.file_type().is_symlink() => fs::canonicalize(target),
        _ => Ok(target.to_owned()),
    }
}

fn temporary_name(target: &Path) -> io::Result<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name =
        target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let unique = nanos ^ COUNTER.fetch_add(1, Ordering::Relaxed).rotate_right(8);
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".sbnc-tmp-{}-{unique:08x}", std::process::id()));
    Ok(folder_of(target).join(hidden))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(()) // Other systems make a rename durable by themselves, or not at all.
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::io::Write;

    #[test]
    fn target_is_whole_or_untouched() {
        let folder = std::env::temp_dir().join(format!("sbnc-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let target = folder.join("model.sbnc");
        fs::write(&target, b"old").unwrap();

        let mut dropped = AtomicFile::create(&target).unwrap();
        dropped.file().write_all(b"half of").unwrap();
        drop(dropped);
        assert_eq!(fs::read(&target).unwrap(), b"old");

        let mut kept = AtomicFile::create(&target).unwrap();
        kept.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        kept.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file may be left");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_folders_are_no_targets() {
        for target in ["/dev/null", "/"] {
            AtomicFile::create(Path::new(target)).unwrap_err();
        }
    }
}
