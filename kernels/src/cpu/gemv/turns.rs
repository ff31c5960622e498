//! In which order the rows of a call are read.
//!
//! ```text
//! all rows   thread 0: stream 0 │ stream 1 │ stream 2 │ stream 3 │ thread 1: stream 4 │ …
//! a task     some turns: a few rows of stream 0, of stream 1, of stream 2, of stream 3, the next few of stream 0, …
//! ```
//!
//! With one stream a core waits at the end of every page of 4 KB until fetching ahead has begun anew; with four it has been measured to read a third
//! faster from such pages, and a tenth faster from huge ones.

use std::ops::Range;

use sbnc_format::Order;

use super::TASK_BYTES;
use crate::cpu::linear::Linear;
use crate::cpu::matrix::Matrix;
use crate::cpu::pool::PLACES;

/// Streams of a thread.
const STREAMS: usize = PLACES;
/// Weight bytes of a turn, about: less than what is fetched ahead in a stream.
const TURN_BYTES: usize = 2560;
/// Rows of a turn, unless they are a strip: kernels add up the sums of four rows together.
const TURN_ROWS: usize = 4;
/// The most rows of a turn: those of a strip.
pub(super) const MOST_ROWS: usize = 16;

/// The turns of a call and the tasks that they make.
pub(super) struct Turns<'a, 'b> {
    layers: &'b [Linear<'a>],
    /// Rows of a turn, as a power of two: finding the place of a turn takes no division.
    shift: u32,
    /// Of a thread.
    streams: usize,
    /// Turns of a stream; the last streams may have fewer.
    length: usize,
    /// Turns of each stream in a task.
    depth: usize,
    /// Tasks of a thread's streams.
    of_thread: usize,
    threads: usize,
}

impl<'a, 'b> Turns<'a, 'b> {
    pub(super) fn new(layers: &'b [Linear<'a>], threads: usize) -> Self {
        let shift = layers.iter().map(|layer| rows_of(&layer.weight)).max().unwrap_or(1).ilog2();
        let turns: usize = layers.iter().map(|layer| turns_of(&layer.weight, shift)).sum();
        let bytes: usize = layers.iter().map(|layer| layer.weight.data.len()).sum();
        // Kernels of strips fetch the next strip while they walk through one, so that strips are best read in order.
        let streams = if layers.iter().any(|layer| layer.weight.packing.order != Order::Rows) { 1 } else { STREAMS };
        let length = turns.div_ceil(threads * streams).max(1);
        let depth = (TASK_BYTES * turns / (streams * bytes).max(1)).clamp(1, length);
        Self { layers, shift, streams, length, depth, of_thread: length.div_ceil(depth), threads }
    }

    /// As many for each thread, one thread after another.
    pub(super) fn tasks(&self) -> usize {
        self.of_thread * self.threads
    }

    /// The layers and rows of a task's turns.
    pub(super) fn of(&self, task: usize) -> impl Iterator<Item = (&'b Linear<'a>, Range<usize>)> {
        let first = task / self.of_thread * self.streams;
        let begin = task % self.of_thread * self.depth;
        let turns = begin..self.length.min(begin + self.depth);
        turns
            .flat_map(move |turn| (first..first + self.streams).map(move |stream| stream * self.length + turn))
            .filter_map(|turn| self.find(turn))
    }

    /// Where the streams of a thread begin (where there are fewer, the first stands for the others), and how many bytes each has at least.
    pub(super) fn begins(&self, thread: usize) -> ([*const u8; STREAMS], usize) {
        let begin = |stream: usize| {
            let (layer, rows) = self.find((thread * self.streams + stream) * self.length)?;
            let data = layer.weight.data;
            let start = data.len() / layer.weight.rows.max(1) * rows.start;
            Some((data.as_ptr().wrapping_add(start), data.len() - start))
        };
        let Some((first, mut bytes)) = begin(0) else { return ([std::ptr::null(); STREAMS], 0) };
        let mut begins = [first; STREAMS];
        for (stream, place) in begins.iter_mut().enumerate().take(self.streams) {
            if let Some((start, left)) = begin(stream) {
                (*place, bytes) = (start, bytes.min(left));
            }
        }
        (begins, bytes)
    }

    /// The layer and the rows of a turn, unless it is beyond the last.
    #[inline(always)]
    fn find(&self, mut turn: usize) -> Option<(&'b Linear<'a>, Range<usize>)> {
        for layer in self.layers {
            let turns = turns_of(&layer.weight, self.shift);
            if turn < turns {
                let end = layer.weight.rows.min((turn + 1) << self.shift);
                return Some((layer, turn << self.shift..end));
            }
            turn -= turns;
        }
        None
    }
}

#[inline(always)]
fn turns_of(weight: &Matrix<'_>, shift: u32) -> usize {
    (weight.rows + (1 << shift) - 1) >> shift
}

/// Rows that a turn is best made of: a power of two.
fn rows_of(weight: &Matrix<'_>) -> usize {
    if weight.packing.order != Order::Rows {
        return MOST_ROWS;
    }
    let of_row = (weight.data.len() / weight.rows.max(1)).max(1);
    1 << (TURN_BYTES / of_row).clamp(1, TURN_ROWS).ilog2()
}

#[cfg(test)]
mod tests {
    use sbnc_format::{Encoding, Packing, Pattern};

    use super::*;

    #[test]
    fn every_row_has_one_turn_whatever_the_number_of_threads() {
        let fragments = Packing { encoding: Encoding::NmVi, order: Order::Fragments, pattern: two_of_four() };
        let rows = Packing { encoding: Encoding::T2, order: Order::Rows, pattern: Pattern::DENSE };
        for (packing, cols) in [(rows, 256), (rows, 6912), (rows, 20_000), (fragments, 256)] {
            let counts = [1, 16, 77, 640];
            let packed: Vec<_> = counts
                .iter()
                .map(|&count| crate::cpu::Packed::new(packing, &vec![0; count * cols], cols, vec![1.0; count]))
                .map(|packed| packed.expect("zeros"))
                .collect();
            let layers: Vec<_> =
                packed.iter().map(|packed| Linear { weight: packed.matrix(), bias: None, offset: 0 }).collect();
            for threads in [1, 2, 3, 64] {
                let turns = Turns::new(&layers, threads);
                let mut seen = counts.map(|count| vec![0; count]);
                for (layer, rows) in (0..turns.tasks()).flat_map(|task| turns.of(task)) {
                    let strip = layer.weight.packing.strip(cols).rows;
                    assert!(rows.start % strip == 0 && rows.len() <= MOST_ROWS);
                    let i = counts.iter().position(|&count| count == layer.weight.rows).expect("a layer");
                    seen[i][rows].iter_mut().for_each(|seen| *seen += 1);
                }
                assert!(seen.iter().flatten().all(|&seen| seen == 1), "{packing:?}, {threads} threads");
            }
        }
    }

    fn two_of_four() -> Pattern {
        Pattern::new(2, 4).expect("a pattern")
    }
}
