//! The C interface: models, sessions, text and generation for programs in other languages.
//!
//! ```text
//! cargo rustc -p sbnc-runtime --release --features capi --crate-type cdylib,staticlib
//! ```
//!
//! builds `libsbnc_runtime`; `include/sbnc.h` is made from this module and says what each function does. Every function returns a status, 0 or the exit code of
//! the `sbnc` command for the same problem, and leaves a text for [`sbnc_last_error`]. No panic crosses the border: one becomes [`SBNC_INTERNAL`].
//!
//! Structs begin with their size, which the caller fills in: members that a newer header has are then left at their defaults by older callers, and older libraries
//! ignore members that they do not know.
//!
//! Nothing is computed here; this module checks pointers, and calls what Rust programs call.
#![allow(non_camel_case_types, reason = "these are the names that C programs see")]

mod handles;
mod text;

pub use handles::*;
pub use text::*;

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Kind, Result};

/// Version of this interface: the upper 16 bits change when a program has to, the lower when something is added.
pub const SBNC_ABI_VERSION: u32 = 0x0001_0000;

/// Done.
pub const SBNC_OK: i32 = 0;
/// The call is wrong.
pub const SBNC_USAGE: i32 = 2;
/// The file breaks a rule.
pub const SBNC_INVALID: i32 = 3;
/// Bytes are not those that were written.
pub const SBNC_INTEGRITY: i32 = 4;
/// This version cannot use the file.
pub const SBNC_UNSUPPORTED: i32 = 5;
/// The system refused.
pub const SBNC_IO: i32 = 6;
/// Not enough memory, or not enough room in the caller's buffer.
pub const SBNC_MEMORY: i32 = 7;
/// The device is absent or cannot be used.
pub const SBNC_DEVICE: i32 = 8;
/// A fault of the library itself; free what the call was about.
pub const SBNC_INTERNAL: i32 = 70;
/// The call was interrupted.
pub const SBNC_INTERRUPTED: i32 = 130;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The version of this interface that the library has; compare it with the header's `SBNC_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn sbnc_abi_version() -> u32 {
    SBNC_ABI_VERSION
}

/// What the last call of this thread that failed said. It is never null, and valid until the next call of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn sbnc_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.try_borrow().map_or(c"".as_ptr(), |text| text.as_ptr()))
}

/// Runs `work`, and turns what it says, or its panic, into a status.
fn status(work: impl FnOnce() -> Result<()>) -> i32 {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => SBNC_OK,
        Ok(Err(error)) => {
            remember(&error.to_string());
            i32::from(error.kind().exit_code())
        }
        Err(_) => {
            remember("an internal error; please report it");
            SBNC_INTERNAL
        }
    }
}

fn remember(text: &str) {
    let text = CString::new(text.replace('\0', "�")).unwrap_or_default();
    LAST_ERROR.with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = text;
        }
    });
}

fn usage(subject: &str, expected: &str, found: impl Into<String>) -> Error {
    Error::new(Kind::Usage, subject, expected, found)
}

/// A struct of the interface: plain numbers and pointers, of which every value is one, beginning with its size.
///
/// # Safety
///
/// The type is `repr(C)`, its first member is `size: usize`, and any bytes are a value of it.
unsafe trait Versioned: Copy {
    /// What members have that the caller does not know.
    fn defaults() -> Self;
}

/// Copies a caller's struct, as much of it as both know; the defaults for null.
///
/// # Safety
///
/// `from` is null or points to as many readable bytes as its first member says.
unsafe fn read<T: Versioned>(from: *const T, name: &str) -> Result<T> {
    let mut value = T::defaults();
    if from.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller's: a struct of the interface is there, whose first member is its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() {
        return Err(usage(name, "its size in the first member", size.to_string()));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are readable, as the caller promises, and writable, being no more than the value has; any bytes are a value.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(value)
}

/// Copies a struct to the caller, as much of it as both know, and leaves the caller's size.
///
/// # Safety
///
/// `to` is null or points to as many writable bytes as its first member says.
unsafe fn write<T: Versioned>(to: *mut T, value: &T, name: &str) -> Result<()> {
    if to.is_null() {
        return Err(usage(name, "a pointer", "null"));
    }
    // SAFETY: the caller's: a struct of the interface is there, whose first member is its size.
    let size = unsafe { to.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() {
        return Err(usage(name, "its size in the first member", size.to_string()));
    }
    let (skip, known) = (size_of::<usize>(), size.min(size_of::<T>()));
    // SAFETY: `known` is at least `skip`, which is within the value.
    let from = unsafe { std::ptr::from_ref(value).cast::<u8>().add(skip) };
    // SAFETY: as above, within the caller's struct.
    let to = unsafe { to.cast::<u8>().add(skip) };
    // SAFETY: the rest of the known bytes, readable in the value and writable in the caller's struct; they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(from, to, known - skip) };
    Ok(())
}

/// What a pointer points to.
///
/// # Safety
///
/// `pointer` is null or points to a value that lives and is not written to until the call ends.
unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: the caller's.
    unsafe { pointer.as_ref() }.ok_or_else(|| usage(name, "a pointer", "null"))
}

/// Elements that a pointer points to; none may be null.
///
/// # Safety
///
/// `pointer` is null or points to `count` elements that live and are not written to until the call ends.
unsafe fn elements<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(usage(name, "a pointer to elements", "null, or one that is not aligned"));
    }
    // SAFETY: the caller's, and the pointer is neither null nor misaligned.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Text of a length.
///
/// # Safety
///
/// As for [`elements`].
unsafe fn utf8<'a>(pointer: *const c_char, length: usize, name: &str) -> Result<&'a str> {
    // SAFETY: the caller's; bytes are bytes, whatever their sign.
    let bytes = unsafe { elements(pointer.cast::<u8>(), length, name) }?;
    std::str::from_utf8(bytes).map_err(|e| usage(name, "UTF-8", e.to_string()))
}

/// Text that ends with a zero.
///
/// # Safety
///
/// `pointer` is null or points to bytes up to a zero, which live and are not written to until the call ends.
unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(usage(name, "a pointer", "null"));
    }
    // SAFETY: the caller's, and the pointer is not null.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|e| usage(name, "UTF-8", e.to_string()))
}

/// Gives a list to the caller: its length always, its elements if they fit.
///
/// # Safety
///
/// `to` is null or has room for `capacity` elements, `count` is null or has room for a number, and nobody else uses either until the call ends.
unsafe fn give<T: Copy>(from: &[T], to: *mut T, capacity: usize, count: *mut usize, name: &str) -> Result<()> {
    // SAFETY: the caller's.
    if let Some(count) = unsafe { count.as_mut() } {
        *count = from.len();
    }
    if from.len() > capacity {
        let expected = format!("room for {} elements", from.len());
        return Err(Error::new(Kind::Budget, name, expected, capacity.to_string()));
    }
    if !from.is_empty() {
        if to.is_null() || !to.is_aligned() {
            return Err(usage(name, "a pointer to room", "null, or one that is not aligned"));
        }
        // SAFETY: the caller's room is at least as large, as was checked, and is nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: the text is valid until the next call of this thread.
        unsafe { CStr::from_ptr(sbnc_last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn panics_become_a_status() {
        assert_eq!(status(|| panic!("of the test")), SBNC_INTERNAL);
        assert!(last().contains("internal error"));
        assert_eq!(status(|| Err(usage("a\0b", "c", "d"))), SBNC_USAGE);
        assert_eq!(last(), "a�b: expected c, found d");
    }

    #[test]
    fn statuses_are_exit_codes() {
        let kinds = [
            (Kind::Usage, SBNC_USAGE),
            (Kind::Invalid, SBNC_INVALID),
            (Kind::Integrity, SBNC_INTEGRITY),
            (Kind::Unsupported, SBNC_UNSUPPORTED),
            (Kind::Io, SBNC_IO),
            (Kind::Budget, SBNC_MEMORY),
            (Kind::Device, SBNC_DEVICE),
            (Kind::Interrupted, SBNC_INTERRUPTED),
        ];
        for (kind, status) in kinds {
            assert_eq!(i32::from(kind.exit_code()), status, "{kind:?}");
        }
    }

    #[test]
    fn structs_of_older_callers_get_defaults() {
        let mut old = sbnc_sampling { temperature: 0.5, top_p: 0.25, ..sbnc_sampling::defaults() };
        // A header that ends after the temperature.
        old.size = std::mem::offset_of!(sbnc_sampling, temperature) + 4;
        // SAFETY: the struct has more readable bytes than it says.
        let read_old = unsafe { read(&raw const old, "sampling") };
        assert!(read_old.is_ok_and(|s| s.temperature == 0.5 && s.top_p == 1.0));
        old.size = 3;
        // SAFETY: as above.
        assert!(unsafe { read(&raw const old, "sampling") }.is_err());
        // A newer caller's members are ignored.
        #[repr(C)]
        struct Newer {
            known: sbnc_sampling,
            more: [u64; 4],
        }
        let mut newer = Newer { known: old, more: [7; 4] };
        newer.known.size = size_of::<Newer>();
        // SAFETY: as many bytes are readable as the struct says.
        let read_newer = unsafe { read((&raw const newer).cast::<sbnc_sampling>(), "sampling") };
        assert!(read_newer.is_ok_and(|s| s.top_p == 0.25) && newer.more == [7; 4]);
    }
}
