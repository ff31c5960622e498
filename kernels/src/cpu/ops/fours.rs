//! In which order the rows of a matrix are read where tokens are few: every thread in two places by turns, for the reasons told in `gemv::turns`; rows here
//! are longer than there, and of more streams less would stay in the nearest cache.

/// Streams of a thread.
const STREAMS: usize = 2;
/// Bytes of a task, about.
const TASK_BYTES: usize = 80 << 10;

/// Rows by fours: two of one stream and two of another.
pub(super) struct Fours {
    rows: usize,
    /// Pairs of rows of a stream; the last streams may have fewer.
    length: usize,
    /// Pairs of each stream in a task.
    depth: usize,
    /// Tasks of a thread's streams.
    of_thread: usize,
    threads: usize,
}

impl Fours {
    pub(super) fn new(rows: usize, threads: usize, bytes: usize) -> Self {
        let length = rows.div_ceil(2).div_ceil(threads * STREAMS).max(1);
        let depth = (TASK_BYTES / (2 * STREAMS * bytes).max(1)).clamp(1, length);
        Self { rows, length, depth, of_thread: length.div_ceil(depth), threads }
    }

    /// As many for each thread, one thread after another.
    pub(super) fn tasks(&self) -> usize {
        self.of_thread * self.threads
    }

    /// The rows of a task; `None` stands for those beyond the last.
    #[inline(always)]
    pub(super) fn of(&self, task: usize) -> impl Iterator<Item = [Option<usize>; 4]> {
        let stream = task / self.of_thread * STREAMS;
        let begin = task % self.of_thread * self.depth;
        (begin..self.length.min(begin + self.depth)).map(move |pair| {
            let [one, other] = [0, 1].map(|i| 2 * ((stream + i) * self.length + pair));
            [one, other, one + 1, other + 1].map(|row| (row < self.rows).then_some(row))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_once_whatever_the_number_of_threads() {
        for rows in [0, 1, 2, 5, 64, 1001] {
            for (threads, bytes) in [(1, 300), (2, 5120), (3, 1 << 20), (64, 64)] {
                let fours = Fours::new(rows, threads, bytes);
                let mut seen = vec![0; rows];
                (0..fours.tasks()).flat_map(|task| fours.of(task)).flatten().flatten().for_each(|row| seen[row] += 1);
                assert!(seen.iter().all(|&seen| seen == 1), "{rows} rows, {threads} threads");
            }
        }
    }
}
