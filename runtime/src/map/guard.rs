//! Files that become shorter under a map: zeros instead of the end of the process.
//!
//! The first touch of a page that its file no longer has, or that cannot be read, raises SIGBUS. [`install`] has a handler answer it: what is left of the map
//! becomes zeros and the touch goes on. Whoever reads a map must expect wrong bytes anyhow; afterwards it asks whether there were any. A SIGBUS at any other
//! address is left to whoever handled it before.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maps that are watched at the same time. One beyond them is not: losing a page of it ends the process.
const MOST: usize = 1024;
/// The start of a slot that is being filled or emptied: no address reaches it.
const IN_TRANSIT: usize = usize::MAX;

/// Where a watched map lies. A signal handler may take no lock, so these are a fixed table of atomics.
struct Slot {
    /// The first address; 0 in a slot that is free.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

static SLOTS: [Slot; MOST] =
    [const { Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), lost: AtomicBool::new(false) } }; MOST];
/// Whether any map lost a page.
static LOST: AtomicBool = AtomicBool::new(false);
/// What handled SIGBUS before, and the size of a page.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// A map in the table, until it is dropped.
#[derive(Debug)]
pub(super) struct Watched(usize);

impl Watched {
    /// Watches these bytes, which are to be a map; `None` if the table is full.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let (relaxed, acquire) = (Ordering::Relaxed, Ordering::Acquire);
        let free = |slot: &Slot| slot.start.compare_exchange(0, IN_TRANSIT, acquire, relaxed).is_ok();
        let index = SLOTS.iter().position(free)?;
        let slot = &SLOTS[index];
        slot.lost.store(false, relaxed);
        slot.end.store(bytes.as_ptr().addr() + bytes.len(), relaxed);
        slot.start.store(bytes.as_ptr().addr(), Ordering::Release);
        Some(Self(index))
    }

    /// Whether all pages that were touched were there.
    pub(super) fn is_whole(&self) -> bool {
        !SLOTS[self.0].lost.load(Ordering::Acquire)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let slot = &SLOTS[self.0];
        slot.start.store(IN_TRANSIT, Ordering::Relaxed);
        slot.start.store(0, Ordering::Release);
    }
}

/// Whether any map of this process lost a page since [`install`].
pub(super) fn any_lost() -> bool {
    LOST.load(Ordering::Acquire)
}

/// Answers SIGBUS from now on. Without effect where the system refuses, and the second time.
pub(super) fn install() {
    // SAFETY: all fields of the structure are numbers or an optional function, for which zeros are a value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed; the old one is written to a structure of ours.
    let asked = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) };
    // SAFETY: a question without arguments in memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else { return };
    if asked != 0 || BEFORE.set((before, page)).is_err() {
        return;
    }
    let mut action = before;
    action.sa_sigaction = on_lost_page as *const () as usize;
    // On the other stack, if the thread has one: this may be another handler's signal, such as that of a full stack.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_lost_page` has the signature that SA_SIGINFO asks for and does only what a handler may: it reads atomics and makes system calls.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn on_lost_page(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // `install` sets it before anything can come here.
    let Some((before, page)) = BEFORE.get() else { return };
    // SAFETY: with SA_SIGINFO the system gives a pointer to what it tells of the signal, valid during the call.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address. Where a process sent it, this is other bytes of the same structure, and at worst a page of a map is taken for lost.
    let address = unsafe { info.si_addr() }.addr();
    if !SLOTS.iter().any(|slot| slot.answer(address, *page)) {
        // The touch is repeated after this, and meets the handler that was there before.
        // SAFETY: an action that the system gave, put back.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
}

impl Slot {
    /// Puts zeros from the page of this address to the end, if the map is the one of this slot.
    fn answer(&self, address: usize, page: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Relaxed);
        if start == 0 || address < start || address >= end {
            return false;
        }
        self.lost.store(true, Ordering::Release);
        LOST.store(true, Ordering::Release);
        let first = std::ptr::with_exposed_provenance_mut(address / page * page);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let len = end - address / page * page;
        // SAFETY: from the page of `address` to `end` all pages are of the map of this slot: it begins at or before `address`, on the same page or an earlier
        // one, and it is still mapped, because a thread has just read from it and a map leaves the table before it is unmapped. Maps are only read, through
        // `&[u8]`, and their bytes may be anything at any time, so zeros in their place are sound.
        let zeros = unsafe { libc::mmap(first, len, libc::PROT_READ, flags, -1, 0) };
        zeros != libc::MAP_FAILED
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use std::fs::File;

    use super::super::{Map, lost_pages, survive_lost_pages};

    #[test]
    fn lost_pages_become_zeros_and_are_told() {
        survive_lost_pages();
        survive_lost_pages();
        let path = std::env::temp_dir().join(format!("sbnc-guard-{}", std::process::id()));
        std::fs::write(&path, [7; 300_000]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let (cut, other) = (Map::range(&file, 100_000, 200_000).unwrap(), Map::range(&file, 0, 1000).unwrap());
        assert!(cut.is_whole() && cut.iter().all(|&byte| byte == 7));
        file.set_len(150_000).unwrap();
        // From several threads, as a kernel reads.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(cut[120_000..].iter().all(|&byte| byte == 0)));
            }
        });
        assert!(cut[..50_000].iter().all(|&byte| byte == 7), "what the file still has is still read");
        assert!(!cut.is_whole() && lost_pages());
        assert!(other.is_whole());
        drop(cut);
        // The slot of a map that is gone says nothing of the next one.
        assert!(Map::range(&file, 0, 150_000).unwrap().is_whole());
        std::fs::remove_file(path).unwrap();
    }
}
