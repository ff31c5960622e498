//! Causal attention over a cache of keys and values, without ever holding the scores of a whole context.
//!
//! ```text
//! segment ─▶ blocks of query rows × kv heads = units ─▶ ranges of keys = tasks (plan.rs)
//!   few queries:  lanes along a head's dimensions, keys and values widened in registers   decode.rs
//!   many queries: lanes along queries, keys and values widened once for all of them       prefill.rs
//!                 16-bit caches with AMX                                                  x86_64/amx/attention.rs
//! ```
//!
//! A task goes over its keys in blocks, with a running maximum and sum; the query heads that share a kv head share its loads. Where there are fewer units than
//! keep all threads busy, their keys are cut into ranges, whose parts are put together at the end.

mod decode;
mod many;
mod plan;
mod prefill;

use std::ops::Range;

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use self::decode::Decode;
use self::many::Many;
use self::plan::Plan;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) use self::plan::Task;
pub(in crate::cpu) use self::prefill::Prefill;
use super::{Half, scratch};
use crate::cpu::Cpu;
use crate::cpu::pool::Shares;
use crate::cpu::simd::Stored;

/// The shape of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// How far a token looks back, itself included; everything if there is none.
    pub window: Option<usize>,
}

impl Heads {
    /// Values of a token's q, k and v.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// Query heads that share a kv head.
    pub(in crate::cpu) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The first position that a token at `position` sees.
    pub(in crate::cpu) fn first(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Rows of a batch that are consecutive tokens of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The rows.
    pub rows: Range<usize>,
    /// Position of the first of them in the sequence.
    pub position: usize,
    /// The sequence's place in the cache.
    pub slot: usize,
}

/// Keys and values of one layer: `[slot][kv head][position][dim]`.
#[derive(Debug)]
pub struct Cache<'a> {
    /// How they are stored.
    pub half: Half,
    /// Positions of a slot.
    pub capacity: usize,
    /// Turned keys.
    pub keys: &'a mut [u16],
    /// Values.
    pub values: &'a mut [u16],
}

/// What the queries of a task found: for each a row of totals (`stride` apart, `dim` long), the sum of its weights and the largest of its scores.
pub(in crate::cpu) struct State<'a> {
    pub(in crate::cpu) stride: usize,
    pub(in crate::cpu) totals: &'a [f32],
    pub(in crate::cpu) sums: &'a [f32],
    pub(in crate::cpu) largest: &'a [f32],
}

/// The largest score before there is one: finite, so that the difference of two of them is a number.
pub(in crate::cpu) const NOTHING: f32 = -1e30;

impl Cpu {
    /// Attention of the rows' queries (`heads.row()` apart, turned) over everything stored up to their own position, which is stored already.
    /// `out` has `heads.heads · heads.dim` values a row; rows that belong to no segment are left alone. A warm call allocates nothing.
    ///
    /// # Panics
    ///
    /// Where the shapes do not fit, rows or positions are out of range, or the segments are not in the order of their rows.
    pub fn attend(&self, qkv: &[f32], heads: &Heads, segments: &[Segment], cache: &Cache<'_>, out: &mut [f32]) {
        match cache.half {
            Half::F16 => {
                let stored: (&[f16], &[f16]) = (cache.keys.reinterpret_cast(), cache.values.reinterpret_cast());
                self.attend_stored(qkv, heads, segments, cache.capacity, stored, out);
            }
            Half::Bf16 => {
                let stored: (&[bf16], &[bf16]) = (cache.keys.reinterpret_cast(), cache.values.reinterpret_cast());
                self.attend_stored(qkv, heads, segments, cache.capacity, stored, out);
            }
        }
    }

    pub(super) fn attend_stored<T: Stored>(
        &self,
        qkv: &[f32],
        heads: &Heads,
        segments: &[Segment],
        capacity: usize,
        (keys, values): (&[T], &[T]),
        out: &mut [f32],
    ) {
        check(heads, segments, capacity, (keys.len(), values.len()), qkv.len());
        let rows = qkv.len() / heads.row();
        assert_eq!(out.len(), rows * heads.heads * heads.dim, "a row of outputs for each of qkv");
        let many = Many::new::<T>(self.platform, heads);
        let plan = Plan::new(heads, segments, many.queries(), self.pool.threads());
        let (dim, group) = (heads.dim, heads.group());
        let width = heads.heads * dim;
        scratch::for_call(plan.parts_len(), |parts| {
            let (shared, shared_parts) = (Shares::new(out), Shares::new(parts));
            let work = |number: usize| {
                let task = plan.task(number);
                let start = (task.slot * heads.kv_heads + task.kv_head) * capacity;
                let stored = (start + task.keys.start) * dim..(start + task.keys.end) * dim;
                let (keys, values) = (&keys[stored.clone()], &values[stored]);
                let memory_len = if task.is_few { decode::memory(heads) } else { many.memory(heads, &task) };
                scratch::for_task(memory_len, |memory| {
                    let state = if task.is_few {
                        let queries = &qkv[task.row * heads.row() + task.kv_head * group * dim..][..group * dim];
                        self.platform.dispatch(Decode { queries, dim, keys, values, memory })
                    } else {
                        many.attend(Prefill { qkv, heads, task: &task, keys, values, memory })
                    };
                    if let Some(part) = task.part.clone() {
                        // SAFETY: the plan gives every task another part.
                        return plan::keep(&state, dim, unsafe { shared_parts.range(part.start, part.len()) });
                    }
                    for query in 0..task.queries(group) {
                        let place = (task.row + query / group) * width + (task.kv_head * group + query % group) * dim;
                        // SAFETY: a row and head belong to one task that has no parts: segments' rows do not overlap (`check`), nor do the blocks of a segment.
                        let out = unsafe { shared.range(place, dim) };
                        plan::finish(&state, query, out);
                    }
                });
            };
            if plan.is_small() {
                (0..plan.tasks()).for_each(work)
            } else {
                self.pool.run(plan.tasks(), &work)
            }
            plan.put_together(parts, out);
        });
    }
}

/// What the safety of [`Cpu::attend`] and [`Cpu::rotate_and_store`] rests on; panics where it does not hold.
pub(super) fn check(heads: &Heads, segments: &[Segment], capacity: usize, (keys, values): (usize, usize), qkv: usize) {
    assert!(heads.dim > 0 && heads.kv_heads > 0 && heads.heads > 0, "heads that are not empty: {heads:?}");
    assert!(heads.heads.is_multiple_of(heads.kv_heads), "as many query heads for each kv head: {heads:?}");
    assert!(heads.window != Some(0), "a window that holds the token itself");
    assert!(qkv.is_multiple_of(heads.row()), "rows of {} values", heads.row());
    assert_eq!(keys, values, "as many values as keys");
    let slot = heads.kv_heads.checked_mul(capacity).and_then(|n| n.checked_mul(heads.dim));
    let slots = keys / slot.expect("the size of a slot").max(1);
    let mut rows = 0;
    for segment in segments {
        let Segment { rows: Range { start, end }, position, slot } = *segment;
        assert!(rows <= start && start <= end, "segments in the order of their rows: {segment:?} after row {rows}");
        assert!(end <= qkv / heads.row(), "rows of the batch: {segment:?}");
        assert!(slot < slots, "a slot of {slots}: {segment:?}");
        let room = capacity.checked_sub(position);
        assert!(room.is_some_and(|room| end - start <= room), "within {capacity} positions: {segment:?}");
        rows = end;
    }
}
