//! Memory that operations need while they run, kept by each thread, so that a warm call allocates nothing.

use std::cell::Cell;

/// Floats of a cache line: what vector loads should not straddle.
const LINE: usize = 16;

thread_local! {
    static TASK: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static CALL: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with `len` floats for a task, whose contents are unspecified, aligned to a cache line.
pub(super) fn for_task<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = TASK.take();
    let result = f(aligned(&mut memory, len));
    TASK.set(memory);
    result
}

/// Calls `f` with `len` floats for a whole call, in which tasks may use [`for_task`].
pub(super) fn for_call<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = CALL.take();
    let result = f(aligned(&mut memory, len));
    CALL.set(memory);
    result
}

fn aligned(memory: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if memory.len() < len + LINE {
        memory.resize(len + LINE, 0.0);
    }
    let start = memory.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut memory[start..][..len]
}

/// Takes `len` floats off the front, keeping the rest aligned.
pub(in crate::cpu) fn take<'a>(memory: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let whole = std::mem::take(memory);
    let (taken, rest) = whole.split_at_mut(len.next_multiple_of(LINE).min(whole.len()));
    *memory = rest;
    &mut taken[..len]
}
