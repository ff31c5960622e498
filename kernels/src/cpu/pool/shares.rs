//! A slice whose parts are written by different threads.

/// A slice that tasks write to in parts that do not overlap.
pub(crate) struct Shares<'a, T> {
    start: *mut T,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a `Shares` is a `&mut [T]` whose parts are handed out by `range`, whose callers promise that no two overlap; so sharing it between threads
// sends parts of a `&mut [T]` to them, which is sound where T is Send.
unsafe impl<T: Send> Sync for Shares<'_, T> {}

impl<'a, T> Shares<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: std::marker::PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part of `len` elements from `start` on; panics where the slice has no such part.
    ///
    /// # Safety
    ///
    /// No two parts that are alive at a time overlap.
    #[allow(clippy::mut_from_ref, reason = "the parts do not overlap, which is what the caller promises")]
    pub(crate) unsafe fn range(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part of the slice");
        // SAFETY: `start` is within the slice, as checked above.
        let first = unsafe { self.start.add(start) };
        // SAFETY: the part lies within the slice, which is borrowed exclusively for as long as `self`; the caller keeps parts apart.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}
