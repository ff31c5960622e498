//! Checkpoints: every container that a ternary model comes in, as one thing.
//!
//! ```text
//! folder or file ── folder ──▶ which files ──▶ safetensors · sharded · torch · gguf ──▶ Checkpoint
//!                                                                                       entries + sources
//! ```
//!
//! A [`Checkpoint`] is a list of files and a list of tensors, each a contiguous, row-major, little-endian range of one file.
//! Opening reads headers only. Tensor bytes are mapped or copied on demand, a tensor or a run of its rows at a time, so memory
//! is bounded by what the caller holds and not by the model. Every byte is treated as hostile: malformed input is an error with a name
//! ([`CheckpointError`]), never a panic, never an allocation that the file chose, and nothing in a file is ever executed.
//!
//! What the tensors *mean* (model families, scales, patterns) is not decided here.
//!
//! ```no_run
//! use sbnc::checkpoint::{Checkpoint, Options};
//! # fn main() -> sbnc::checkpoint::Result<()> {
//! let checkpoint = Checkpoint::open("updates_1000".as_ref(), &Options::default())?;
//! for entry in checkpoint.entries() {
//!     for rows in entry.row_runs(64 << 20) {
//!         let bytes = checkpoint.rows(entry, rows)?; // given back when dropped
//!         println!("{} {} {:?}: {} bytes", entry.name, entry.dtype, entry.shape, bytes.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod dtype;
mod entry;
mod error;
mod folder;
pub mod gguf;
pub mod safetensors;
pub mod sharded;
mod source;
pub mod torch;

use std::ops::Range;
use std::path::Path;

pub use dtype::Dtype;
use entry::Catalog;
pub use entry::{Entry, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS};
pub use error::{CheckpointError, ErrorKind, Refusal, Result, Text};
use gguf::decode::{self, DecodeError, I2sLayout};
pub use source::{Access, Bytes, Source};

/// The container that a checkpoint was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// Several, with an index.
    Sharded,
    /// A zip archive by `torch.save`.
    Torch,
    /// One GGUF file.
    Gguf,
}

/// Which files to take where a folder has a torch checkpoint and safetensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// `model_state.pt`, which the trainer wrote itself; without it, safetensors.
    #[default]
    Auto,
    /// `model_state.pt` or nothing.
    Torch,
    /// Safetensors, or whatever else there is but `model_state.pt`.
    Safetensors,
}

/// How to open a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How tensor bytes reach memory.
    pub access: Access,
    /// Which of two forms of a model to read.
    pub prefer: Prefer,
}

/// An opened checkpoint: files, and the tensors in them.
#[derive(Debug)]
pub struct Checkpoint {
    format: Format,
    sources: Vec<Source>,
    entries: Vec<Entry>,
    notes: Vec<String>,
    gguf: gguf::Metadata,
}

/// Rows of a ternary tensor, as trits and the scales that multiply them.
#[derive(Debug, Clone, PartialEq)]
pub struct TernaryRows {
    /// −1, 0 or +1, row-major.
    pub trits: Vec<i8>,
    /// One per row; zero for a row without a non-zero trit.
    pub scales: Vec<f32>,
}

impl Checkpoint {
    /// Opens the checkpoint in a folder, or in one file, and validates all of its structure.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let mut notes = Vec::new();
        let mut catalog = Catalog::default();
        let mut metadata = gguf::Metadata::new();
        let found = folder::find(path, options, &mut notes)?;
        let open = || Source::open(&found.path, options.access);
        let sources = match found.format {
            Format::Sharded => sharded::read(&found.path, options.access, &mut catalog)?,
            Format::Safetensors => {
                let source = open()?;
                safetensors::read(&source, 0, &mut catalog)?;
                vec![source]
            }
            Format::Torch => {
                let source = open()?;
                torch::read(&source, 0, &mut catalog, &mut notes)?;
                vec![source]
            }
            Format::Gguf => {
                let source = open()?;
                metadata = gguf::read(&source, 0, &mut catalog)?;
                vec![source]
            }
        };
        let entries = catalog.finish(&sources)?;
        Ok(Self { format: found.format, sources, entries, notes, gguf: metadata })
    }

    /// The container it was read from.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files, in an order that [`Entry::file`] indexes.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The tensors, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        self.entries.get(index)
    }

    /// What a user should know of how the checkpoint was read: files passed over, keys ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// GGUF's metadata; empty for other formats.
    pub fn gguf_metadata(&self) -> &gguf::Metadata {
        &self.gguf
    }

    /// All bytes of a tensor.
    pub fn bytes(&self, entry: &Entry) -> Result<Bytes> {
        self.source(entry).bytes(entry.offset, entry.bytes, "a tensor")
    }

    /// The bytes of some rows of a tensor: see [`Entry::row_runs`].
    ///
    /// # Panics
    ///
    /// If the rows are not rows of the tensor.
    pub fn rows(&self, entry: &Entry, rows: Range<u64>) -> Result<Bytes> {
        assert!(
            rows.start <= rows.end && rows.end <= entry.rows(),
            "rows {rows:?} of {} in tensor {}",
            entry.rows(),
            entry.name
        );
        // No overflow: the range lies within the entry, whose end was checked when it was listed.
        let (start, len) = (rows.start * entry.row_bytes(), (rows.end - rows.start) * entry.row_bytes());
        self.source(entry).bytes(entry.offset + start, len, "rows of a tensor")
    }

    /// Decodes rows of a TQ1_0, TQ2_0 or I2_S tensor. I2_S needs `layout`, which its file does not state and nothing here guesses; for
    /// [`I2sLayout::Rows4`] the rows must begin and end at a multiple of four.
    ///
    /// # Panics
    ///
    /// If the rows are not rows of the tensor, or begin inside a group of four.
    pub fn ternary_rows(&self, entry: &Entry, rows: Range<u64>, layout: Option<I2sLayout>) -> Result<TernaryRows> {
        let first_row = rows.start;
        assert!(
            layout != Some(I2sLayout::Rows4) || entry.dtype != Dtype::I2S || first_row.is_multiple_of(4),
            "row {first_row} is not the first of a group of four"
        );
        let count = rows.end.saturating_sub(rows.start) as usize;
        let bytes = self.rows(entry, rows)?;
        let cols = entry.cols() as usize;
        let mut trits = vec![0; count * cols];
        let scales = match entry.dtype {
            Dtype::Tq1_0 | Dtype::Tq2_0 => {
                let mut scales = Vec::with_capacity(count);
                let packed = bytes.chunks_exact(entry.row_bytes().max(1) as usize);
                for (row, (packed, trits)) in (first_row..).zip(packed.zip(trits.chunks_exact_mut(cols.max(1)))) {
                    scales.push(
                        decode::tq_row(entry.dtype, packed, trits)
                            .map_err(|error| self.undecodable(entry, row, error))?,
                    );
                }
                scales
            }
            Dtype::I2S => {
                let Some(layout) = layout else {
                    let error = self
                        .source(entry)
                        .unsupported("to be told the I2_S layout", "none stated, and the file does not say it");
                    return Err(error
                        .tensor(&entry.name)
                        .remedy("state the layout of the machine that wrote the file: x86, arm or rows4"));
                };
                decode::i2s_rows(layout, cols, &bytes, &mut trits)
                    .map_err(|error| self.undecodable(entry, first_row, error))?;
                vec![self.i2s_scale(entry)?; count]
            }
            dtype => {
                let error = self.source(entry).unsupported("a ternary type (TQ1_0, TQ2_0, I2_S)", dtype.name());
                return Err(error.tensor(&entry.name));
            }
        };
        Ok(TernaryRows { trits, scales })
    }

    /// The scale at the beginning of the tail.
    fn i2s_scale(&self, entry: &Entry) -> Result<f32> {
        let tail = self.source(entry).copy(entry.offset + entry.bytes - entry.dtype.tail(), 4, "an I2_S scale")?;
        let scale = f32::from_le_bytes(tail.try_into().unwrap_or_default());
        decode::check_scale(scale).map_err(|error| self.undecodable(entry, 0, error))
    }

    fn undecodable(&self, entry: &Entry, row: u64, error: DecodeError) -> CheckpointError {
        let source = self.source(entry);
        let found = format!("{error}, at or after row {row}");
        match error {
            DecodeError::GroupScales { .. } => CheckpointError::group_scales(source.path(), found),
            DecodeError::Size => {
                source.unsupported(format!("{} rows in whole blocks", entry.dtype), format!("shape {:?}", entry.shape))
            }
            DecodeError::Scale(_) | DecodeError::Code { .. } => source.malformed("trits with a scale", found),
        }
        .tensor(&entry.name)
    }

    fn source(&self, entry: &Entry) -> &Source {
        &self.sources[entry.file]
    }
}
