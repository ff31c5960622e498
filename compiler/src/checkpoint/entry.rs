//! Tensors of a checkpoint, and the list that every container fills.
//!
//! [`Catalog`] is where the rules that hold in every container are checked, once: names, ranks, counts, and that a tensor's bytes are exactly what
//! its shape and type need. Whether a range overlaps others is each container's own business.

use std::ops::Range;

use super::dtype::Dtype;
use super::error::{CheckpointError, Result};
use super::source::Source;

/// Tensors in one checkpoint, all files together.
pub const MAX_TENSORS: u64 = 1 << 18;
/// Bytes in a tensor's name.
pub const MAX_NAME_BYTES: u64 = 1024;
/// Dimensions of a tensor.
pub const MAX_RANK: u64 = 8;

/// A tensor: a contiguous, row-major, little-endian range of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the checkpoint.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first, whatever the container's own order.
    pub shape: Vec<u64>,
    /// Which of [`Checkpoint::sources`](super::Checkpoint::sources) holds it.
    pub file: usize,
    /// Where it begins in that file; not necessarily aligned to anything.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

impl Entry {
    /// Elements of a row: the last dimension, 1 for a scalar.
    pub fn cols(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the last, 1 for a vector, 0 where there is no element.
    pub fn rows(&self) -> u64 {
        if self.shape.contains(&0) {
            return 0;
        }
        // No overflow: `Catalog::push` computed the size in bytes from it.
        self.shape.iter().rev().skip(1).product()
    }

    /// Bytes of one row, where rows follow each other in the file.
    pub fn row_bytes(&self) -> u64 {
        let (elements, bytes) = self.dtype.block();
        self.cols() / elements * bytes
    }

    /// Splits the rows into runs of at most `budget` bytes, at least one row each, in order: the loop that keeps memory bounded.
    ///
    /// ```
    /// # use sbnc::checkpoint::{Dtype, Entry};
    /// let entry = Entry { name: "w".into(), dtype: Dtype::F32, shape: vec![5, 4], file: 0, offset: 0, bytes: 80 };
    /// assert_eq!(entry.row_runs(40).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
    /// ```
    pub fn row_runs(&self, budget: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let rows = self.rows();
        let step = (budget / self.row_bytes().max(1)).clamp(1, rows.max(1));
        (0..rows.div_ceil(step)).map(move |run| run * step..rows.min(run * step + step))
    }
}

/// Entries as they are found, before they are a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) entries: Vec<Entry>,
}

impl Catalog {
    /// Adds a tensor of `source`, which is file number `entry.file`.
    pub(crate) fn push(&mut self, source: &Source, entry: Entry) -> Result<()> {
        source.at_most("a number of tensors", self.entries.len() as u64 + 1, MAX_TENSORS)?;
        check_name(source, &entry.name)?;
        let named = |error: CheckpointError| error.tensor(&entry.name);
        source.at_most("a rank", entry.shape.len() as u64, MAX_RANK).map_err(named)?;
        let shape_and_type = format!("{} of shape {:?}", entry.dtype, entry.shape);
        match entry.dtype.bytes_of(&entry.shape) {
            Some(needed) if needed == entry.bytes => {}
            Some(needed) => {
                let expected = format!("{needed} bytes for {shape_and_type}");
                return Err(named(source.malformed(expected, format!("a range of {} bytes", entry.bytes))));
            }
            None => {
                let expected = "a shape of whole blocks whose size fits 64 bits";
                return Err(named(source.malformed(expected, shape_and_type)));
            }
        }
        if entry.offset.checked_add(entry.bytes).is_none_or(|end| end > source.len()) {
            let expected = format!("{} bytes at offset {}", entry.bytes, entry.offset);
            let found = format!("a file that ends at byte {} (truncated?)", source.len());
            return Err(named(source.malformed(expected, found)));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Sorts by name and refuses a name that occurs twice, in one file or in two.
    pub(crate) fn finish(mut self, sources: &[Source]) -> Result<Vec<Entry>> {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name).then(a.file.cmp(&b.file)));
        for pair in self.entries.windows(2) {
            let [first, second] = pair else { continue };
            if first.name == second.name {
                let found = format!(
                    "one in {} and another in {}",
                    sources[first.file].path().display(),
                    sources[second.file].path().display()
                );
                return Err(sources[second.file].malformed("one tensor of this name", found).tensor(&first.name));
            }
        }
        Ok(self.entries)
    }
}

/// Names end up in messages and reports, so they are text without control characters, of bounded length.
pub(crate) fn check_name(source: &Source, name: &str) -> Result<()> {
    source.at_most("a tensor name in bytes", name.len() as u64, MAX_NAME_BYTES)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(source.malformed("a tensor name without control characters", format!("{name:?}")));
    }
    Ok(())
}
