//! Read-only views of file ranges: mapped, or copied into memory.
//!
//! This is the one place where a file becomes a slice. A [`Map`] costs no copy and is returned to the system when it is
//! dropped, so a caller that maps one tensor at a time keeps its resident size at that tensor. [`read_range`] gives the same bytes as
//! a private copy, for network filesystems, for files that others may write, and for whoever hashes first and uses afterwards.
//!
//! It is not a cache and not a validator: it says where bytes lie, never what they mean.
//!
//! # If the file changes under a map
//!
//! The mapping is private and read-only, so this process cannot write to the file, but the system may still show changes that
//! others make. Overwriting a mapped file changes the bytes that are read; truncating it makes the first touch of a lost page raise
//! SIGBUS, which ends the process unless it called [`survive_lost_pages`] (on Windows the system refuses to truncate a mapped file).
//! Replacing a file by renaming another over it is harmless: the map keeps the old one. Code that reads a map must therefore treat
//! every byte as untrusted at each read, and must copy first whatever it validates once and uses later.

#[cfg(unix)]
mod guard;

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// A read-only mapping of a file or of a range of one; derefs to its bytes.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("sbnc-map-{}", std::process::id()));
/// std::fs::write(&path, b"0123456789")?;
/// let file = std::fs::File::open(&path)?;
/// let middle = sbnc_runtime::map::Map::range(&file, 3, 4)?; // any offset: page alignment is handled
/// assert_eq!(&middle[..], b"3456");
/// # drop(middle);
/// # std::fs::remove_file(&path)
/// # }
/// ```
#[derive(Debug)]
pub struct Map {
    /// Before the map: no longer watched when it goes.
    #[cfg(unix)]
    watched: Option<guard::Watched>,
    /// `None`: an empty range, which no system can map.
    map: Option<Mmap>,
}

/// Keeps the process alive when a file becomes shorter under a [`Map`] or cannot be read: the pages that are lost read as zeros, and [`Map::is_whole`] says
/// so. Sessions and weights ask by themselves, and end in an error. This takes over SIGBUS for the whole process, handing on what is not about a map, so it is
/// for applications to decide; the `sbnc` command does. Without effect where there is no such signal.
pub fn survive_lost_pages() {
    #[cfg(unix)]
    guard::install();
}

/// Whether any map of this process has lost pages since [`survive_lost_pages`].
pub fn lost_pages() -> bool {
    #[cfg(unix)]
    return guard::any_lost();
    #[cfg(not(unix))]
    false
}

impl Map {
    /// Maps the whole of the file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Self::range(&file, 0, len)
    }

    /// Maps `len` bytes of `file` from `offset`. A range that ends after the file is an [`io::ErrorKind::UnexpectedEof`] error: a
    /// page that lies wholly past the end could be mapped, but not touched.
    pub fn range(file: &File, offset: u64, len: u64) -> io::Result<Self> {
        let len = checked_len(file, offset, len)?;
        if len == 0 {
            return Ok(Self {
                #[cfg(unix)]
                watched: None,
                map: None,
            });
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the map outlives the call only inside `Map`, which hands out `&[u8]` bound to its own lifetime and unmaps on drop.
        // The range was inside the file a moment ago (`checked_len`). The mapping is private and read-only, so nothing in this
        // process can write through it. What remains is another process changing or truncating the file: the module's page states
        // the outcome (other bytes, or SIGBUS), and every reader of a `Map` is required to take its bytes as untrusted input.
        let map = unsafe { options.map_copy_read_only(file) }?;
        Ok(Self {
            #[cfg(unix)]
            watched: guard::Watched::new(&map),
            map: Some(map),
        })
    }

    /// Whether all bytes that were read so far were the file's; see [`survive_lost_pages`].
    pub fn is_whole(&self) -> bool {
        #[cfg(unix)]
        return self.watched.as_ref().is_none_or(guard::Watched::is_whole);
        #[cfg(not(unix))]
        true
    }

    /// Asks for huge pages, with which a processor reads faster: it looks up fewer addresses, and what it fetches ahead does not stop every 4 KB. Linux
    /// has them for files that are not in memory yet, on file systems that can hold them so (ext4, xfs, btrfs), and some kernels make them of small ones in
    /// time. What is not to be had is not missed.
    pub fn prefer_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            let _ = map.advise(memmap2::Advice::HugePage);
        }
    }

    /// Gives the memory of a range back to the system: the next touch reads the file again. For walking through a file that is larger than the
    /// memory one wants to take. Whole pages within the range only; a system that cannot do this does nothing.
    pub fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let start = range.start.next_multiple_of(PAGE);
            let end = range.end.min(map.len()) / PAGE * PAGE;
            if start < end {
                // SAFETY: the mapping is private and read-only and was never written (`Map` offers no way to), so its pages hold nothing but the
                // file's bytes; dropping them can only make a later read fetch those bytes again. `start..end` lies within the map.
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// A multiple of every page size in use: the address of a map is aligned to its system's page, offsets within it to this.
#[cfg(unix)]
const PAGE: usize = 64 << 10;

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Memory of our own that begins at a page: zeroed, and in huge pages where the system has them; derefs to its bytes.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let mut memory = sbnc_runtime::map::Memory::zeroed(10_000)?;
/// memory[9_999] = 1;
/// assert_eq!((memory.len(), memory[0]), (10_000, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Memory(Option<MmapMut>); // None: no bytes, which no system can map

impl Memory {
    /// `len` zeros. The system gives them page by page as they are touched.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self(None));
        }
        let memory = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(Self(Some(memory)))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

/// Copies `len` bytes of `file` from `offset`, without moving the file's cursor on systems that can. The counterpart of
/// [`Map::range`], with the same answer for a range that ends after the file.
pub fn read_range(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = checked_len(file, offset, len)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    read_into(file, &mut bytes, offset)?;
    Ok(bytes)
}

fn checked_len(file: &File, offset: u64, len: u64) -> io::Result<usize> {
    let available = file.metadata()?.len();
    match offset.checked_add(len) {
        Some(end) if end <= available => usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory.into()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Fills `bytes` from `offset` of `file`, as [`read_range`] does.
#[cfg(unix)]
pub(crate) fn read_into(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` of `file`, as [`read_range`] does.
#[cfg(windows)]
pub(crate) fn read_into(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use super::*;

    fn sample(name: &str, len: usize) -> (std::path::PathBuf, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let path = std::env::temp_dir().join(format!("sbnc-map-{name}-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        (path, bytes)
    }

    #[test]
    fn ranges_need_no_alignment_and_equal_a_copy() {
        let (path, bytes) = sample("ranges", 20_000);
        let file = File::open(&path).unwrap();
        for (offset, len) in [(0, 20_000), (1, 1), (4095, 2), (4096, 4096), (8191, 11_809), (20_000, 0), (7, 0)] {
            let expected = &bytes[offset as usize..(offset + len) as usize];
            assert_eq!(&Map::range(&file, offset, len).unwrap()[..], expected);
            assert_eq!(read_range(&file, offset, len).unwrap(), expected);
        }
        assert_eq!(&Map::open(&path).unwrap()[..], &bytes[..]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_range_past_the_end_is_an_error_not_a_fault() {
        let (path, _) = sample("past", 100);
        let file = File::open(&path).unwrap();
        for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(Map::range(&file, offset, len).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(read_range(&file, offset, len).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        std::fs::remove_file(path).unwrap();
    }
}
