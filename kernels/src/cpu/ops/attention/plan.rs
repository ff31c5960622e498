//! Which thread attends to what: blocks of rows, kv heads, and ranges of keys where those do not keep all threads busy.

use std::ops::Range;

use super::{Heads, NOTHING, Segment, State};

/// A segment with no more queries than this goes row by row, with lanes along the dimensions of a head.
const FEW: usize = 12;

/// Tasks for each thread that balance the load.
const TASKS: usize = 4;

/// Keys that are not worth cutting up.
const MIN_KEYS: usize = 128;

/// Products that take about as long as handing them out to threads that wait for them, as threads do within a step.
const SMALL: usize = 1 << 16;

/// How a call is cut into tasks.
pub(super) struct Plan<'a> {
    heads: &'a Heads,
    segments: &'a [Segment],
    /// Queries of a task (rows times heads of a group), about.
    queries: usize,
    /// Keys of a task at most.
    keys: usize,
    tasks: usize,
    parts_len: usize,
    products: usize,
}

/// Rows of a segment that a task handles together, for one kv head.
struct Block {
    row: usize,
    rows: usize,
    position: usize,
    slot: usize,
    /// What its rows see.
    keys: Range<usize>,
    is_few: bool,
}

/// A block of rows, a kv head, and keys.
pub(in crate::cpu) struct Task {
    pub(in crate::cpu) row: usize,
    pub(in crate::cpu) rows: usize,
    /// Position of the first row.
    pub(in crate::cpu) position: usize,
    pub(in crate::cpu) slot: usize,
    pub(in crate::cpu) kv_head: usize,
    pub(in crate::cpu) keys: Range<usize>,
    /// Where its part goes, if it has only some of the keys that its rows see.
    pub(in crate::cpu) part: Option<Range<usize>>,
    pub(in crate::cpu) is_few: bool,
}

impl Task {
    pub(in crate::cpu) fn queries(&self, group: usize) -> usize {
        self.rows * group
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(heads: &'a Heads, segments: &'a [Segment], queries: usize, threads: usize) -> Self {
        let mut plan = Self { heads, segments, queries, keys: usize::MAX, tasks: 0, parts_len: 0, products: 0 };
        let (mut keys, mut products) = (0, 0);
        for block in plan.blocks() {
            keys += block.keys.len() * heads.kv_heads;
            products += block.keys.len() * block.rows * heads.heads * heads.dim * 2;
        }
        plan.products = products;
        if threads > 1 && !plan.is_small() {
            plan.keys = keys.div_ceil(threads * TASKS).max(MIN_KEYS);
        }
        let (mut tasks, mut parts_len) = (0, 0);
        for block in plan.blocks() {
            tasks += plan.ranges(&block) * heads.kv_heads;
            parts_len += plan.parts_of(&block);
        }
        Self { tasks, parts_len, ..plan }
    }

    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Floats that all parts take.
    pub(super) fn parts_len(&self) -> usize {
        self.parts_len
    }

    /// Whether other threads would not be worth their waking.
    pub(super) fn is_small(&self) -> bool {
        self.products < SMALL
    }

    /// The blocks of all segments; those that see most come first within a segment, so that threads end together.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        let group = self.heads.group();
        self.segments.iter().flat_map(move |segment| {
            let is_few = segment.rows.len() * group <= FEW;
            let rows = if is_few { 1 } else { (self.queries / group).max(1) };
            (0..segment.rows.len().div_ceil(rows)).rev().map(move |i| {
                let (first, end) = (i * rows, segment.rows.len().min((i + 1) * rows));
                let position = segment.position + first;
                Block {
                    row: segment.rows.start + first,
                    rows: end - first,
                    position,
                    slot: segment.slot,
                    keys: self.heads.first(position)..segment.position + end,
                    is_few,
                }
            })
        })
    }

    /// Ranges that the keys of a block are cut into.
    fn ranges(&self, block: &Block) -> usize {
        block.keys.len().div_ceil(self.keys)
    }

    /// Floats of a part: totals, sum and largest score of each query.
    fn part(&self, block: &Block) -> usize {
        block.rows * self.heads.group() * (self.heads.dim + 2)
    }

    fn parts_of(&self, block: &Block) -> usize {
        let ranges = self.ranges(block);
        if ranges > 1 { ranges * self.heads.kv_heads * self.part(block) } else { 0 }
    }

    pub(super) fn task(&self, number: usize) -> Task {
        let (mut left, mut parts) = (number, 0);
        for block in self.blocks() {
            let ranges = self.ranges(&block);
            if left >= ranges * self.heads.kv_heads {
                left -= ranges * self.heads.kv_heads;
                parts += self.parts_of(&block);
                continue;
            }
            let len = block.keys.len().div_ceil(ranges);
            let start = block.keys.start + left % ranges * len;
            let part = parts + left * self.part(&block);
            return Task {
                row: block.row,
                rows: block.rows,
                position: block.position,
                slot: block.slot,
                kv_head: left / ranges,
                keys: start.min(block.keys.end)..(start + len).min(block.keys.end),
                part: (ranges > 1).then(|| part..part + self.part(&block)),
                is_few: block.is_few,
            };
        }
        unreachable!("task {number} of {}", self.tasks)
    }

    /// Puts the parts of blocks together whose keys were cut into ranges.
    pub(super) fn put_together(&self, parts: &[f32], out: &mut [f32]) {
        let (dim, group, mut start) = (self.heads.dim, self.heads.group(), 0);
        for block in self.blocks().filter(|block| self.ranges(block) > 1) {
            let part = self.part(&block);
            for kv_head in 0..self.heads.kv_heads {
                let len = self.ranges(&block) * part;
                for query in 0..block.rows * group {
                    let head = kv_head * group + query % group;
                    let place = ((block.row + query / group) * self.heads.heads + head) * dim;
                    merge(&parts[start..start + len], part, query, &mut out[place..place + dim]);
                }
                start += len;
            }
        }
    }
}

/// Keeps what a task found as a part: for each query the totals, the sum and the largest score.
pub(super) fn keep(state: &State<'_>, dim: usize, part: &mut [f32]) {
    for (query, part) in part.chunks_exact_mut(dim + 2).enumerate() {
        part[..dim].copy_from_slice(&state.totals[query * state.stride..][..dim]);
        part[dim] = state.sums[query];
        part[dim + 1] = state.largest[query];
    }
}

/// The output of a query whose task had all of its keys.
pub(super) fn finish(state: &State<'_>, query: usize, out: &mut [f32]) {
    let factor = 1.0 / state.sums[query];
    out.iter_mut().zip(&state.totals[query * state.stride..]).for_each(|(out, total)| *out = total * factor);
}

/// The output of a query from parts that are `part` apart.
fn merge(parts: &[f32], part: usize, query: usize, out: &mut [f32]) {
    let dim = out.len();
    let each = || parts.chunks_exact(part).map(|part| &part[query * (dim + 2)..][..dim + 2]);
    let largest = each().map(|part| part[dim + 1]).fold(NOTHING, f32::max);
    let sum: f32 = each().map(|part| part[dim] * (part[dim + 1] - largest).exp()).sum();
    out.fill(0.0);
    for part in each() {
        let factor = (part[dim + 1] - largest).exp() / sum;
        out.iter_mut().zip(part).for_each(|(out, total)| *out += total * factor);
    }
}
