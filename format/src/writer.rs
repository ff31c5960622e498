//! Writing a file in one pass: tensors stream through, the header comes last, and the name comes after that.
//!
//! ```text
//! Writer::create ── tensor() or tensors() ──▶ seal ──▶ Sealed ── commit ──▶ the file
//!   plan is known     bytes stream to a       header     check the
//!   and checked       temporary file          written    temporary file
//! ```
//!
//! The plan (names, shapes, layouts) fixes every offset before the first byte, so nothing is held but the pieces being written, and tensors may be written
//! at the same time. Digests are taken as the bytes pass. The reader of this format is in [`file`](crate::Sbnc); it shares the records with this module and nothing else.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::AtomicFile;
use crate::digest::Digest;
use crate::error::{FormatError, rule};
use crate::frame;
use crate::header::{root_of, section};
use crate::limits::{MAX_BYTES, PREFIX_BYTES, RECORD_BYTES, TENSOR_ALIGN, up};
use crate::manifest::{Codec, FileEntry, Manifest};
pub use crate::plan::TensorSpec;
use crate::plan::{Planned, header_bytes, plan_records, plan_sections, section_entry};
use crate::record;
use crate::wire::{Record, U64};

/// Compression of carried files: they are small, read once and downloaded often.
const FILE_LEVEL: i32 = 19;

/// Pieces from this size on are hashed by all threads.
const PARALLEL_BYTES: usize = 256 << 10;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: String,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The plan or the manifest breaks a rule of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The calls do not fit the plan.
    #[error("tensor '{tensor}': {what}")]
    Misuse {
        /// Which tensor.
        tensor: String,
        /// What does not fit.
        what: String,
    },
}

/// A file to be carried, ready to be stored.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Its entry in the manifest.
    pub entry: FileEntry,
    stored: Vec<u8>,
}

impl Carried {
    /// Compresses a file, unless that makes it larger.
    pub fn new(name: &str, raw: &[u8]) -> io::Result<Self> {
        let packed = frame::encode(raw, FILE_LEVEL)?;
        let (codec, stored) = if packed.len() < raw.len() { (Codec::Zstd, packed) } else { (Codec::Raw, raw.to_vec()) };
        let entry = FileEntry {
            blake3: Digest::of(raw).to_string(),
            codec,
            name: name.to_owned(),
            raw: raw.len() as u64,
            stored: stored.len() as u64,
        };
        Ok(Self { entry, stored })
    }
}

/// What the decoded content of a tensor is, for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentDigest {
    /// Floats and int8: the writer takes the digest as the bytes pass.
    AsStored,
    /// Trits: the caller decoded them, or had them before encoding.
    Trits {
        /// Digest of the trits and the scales (SPEC §9.3).
        digest: Digest,
        /// How many are not zero.
        non_zero: u64,
    },
}

/// A file being written under a temporary name.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    sections: Vec<Planned>,
    slots: Vec<Slot>,
    names: Vec<u8>,
    manifest_bytes: usize,
    files: Vec<FileEntry>,
    files_digest: Digest,
}

/// The place of a tensor in the plan.
#[derive(Debug)]
struct Slot {
    spec: TensorSpec,
    record: Record,
    /// The record has its digests.
    finished: bool,
}

/// A complete file that does not have its name yet.
#[derive(Debug)]
pub struct Sealed {
    output: Output,
    root: Digest,
    tensors: Vec<(String, Digest)>,
}

/// Where the bytes go; nowhere, if only the digests are wanted.
#[derive(Debug)]
struct Output {
    file: Option<AtomicFile>,
    target: PathBuf,
}

impl Writer {
    /// Plans the whole file and creates its temporary form beside `target`, with room reserved on the disk. `manifest` may still change
    /// its values until [`seal`](Self::seal), but not its length.
    pub fn create(
        target: &Path,
        specs: Vec<TensorSpec>,
        manifest: &Manifest,
        carried: &[Carried],
    ) -> Result<Self, WriteError> {
        let file = AtomicFile::create(target).map_err(io_error("create the output", target))?;
        let output = Output { file: Some(file), target: target.to_owned() };
        let writer = Self::plan(output, specs, manifest, carried)?;
        if let Some(file) = &writer.output.file {
            let bytes = writer.file_bytes();
            file.reserve(bytes).map_err(io_error(&format!("reserve {bytes} bytes for the output"), target))?;
        }
        if let Some(files) = writer.planned(section::FILES) {
            let mut offset = files.offset;
            for file in carried {
                writer.output.write(&file.stored, offset)?;
                offset += file.stored.len() as u64;
            }
        }
        Ok(writer)
    }

    /// Plans a file that is not written: sealing it gives the root digest that it would have.
    pub fn dry(specs: Vec<TensorSpec>, manifest: &Manifest, carried: &[Carried]) -> Result<Self, WriteError> {
        Self::plan(Output { file: None, target: PathBuf::new() }, specs, manifest, carried)
    }

    fn plan(
        output: Output,
        specs: Vec<TensorSpec>,
        manifest: &Manifest,
        carried: &[Carried],
    ) -> Result<Self, WriteError> {
        let (records, names) = plan_records(&specs)?;
        let payload_bytes = records.last().map_or(0, |r| r.offset.get() + r.stored_bytes.get());
        // The reader's own checks, on records whose digests are still zero.
        record::parse(bytemuck::cast_slice(&records), &names, payload_bytes, false)?;
        let manifest_bytes = manifest.to_bytes()?.len();
        if !carried.iter().map(|c| &c.entry).eq(&manifest.files) {
            let what = "the manifest lists other files than those given".to_owned();
            return Err(WriteError::Misuse { tensor: "(files)".to_owned(), what });
        }
        let mut files = blake3::Hasher::new();
        carried.iter().for_each(|c| {
            files.update(&c.stored);
        });
        let lengths = [
            (section::TENSORS, records.len() * RECORD_BYTES),
            (section::NAMES, names.len()),
            (section::MANIFEST, manifest_bytes),
            (section::FILES, files.count() as usize),
        ];
        let sections = plan_sections(&lengths, payload_bytes);
        let files_digest = files.finalize().into();
        let files = manifest.files.clone();
        let slots =
            specs.into_iter().zip(records).map(|(spec, record)| Slot { spec, record, finished: false }).collect();
        let writer = Self { output, sections, slots, names, manifest_bytes, files, files_digest };
        if writer.file_bytes() > MAX_BYTES {
            let found = writer.file_bytes().to_string();
            return Err(FormatError::invalid(rule::FILE_BYTES, "file", "at most 2^42 bytes", found).into());
        }
        Ok(writer)
    }

    /// Length of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.sections.last().map_or(0, |s| s.offset + s.bytes)
    }

    fn planned(&self, kind: u32) -> Option<Planned> {
        self.sections.iter().find(|s| s.kind == kind).copied()
    }

    /// Begins the next tensor of the plan: the first that was not finished.
    pub fn tensor(&mut self) -> Result<TensorWriter<'_>, WriteError> {
        // Tensors that are begun so are finished in order, and there may be many.
        let next = self.slots.partition_point(|slot| slot.finished);
        let payload = self.payload();
        match self.slots.get_mut(next) {
            Some(slot) => Ok(TensorWriter::new(&self.output, payload, slot)),
            None => {
                Err(WriteError::Misuse { tensor: "(none)".to_owned(), what: "the plan has no more tensors".to_owned() })
            }
        }
    }

    /// Begins all tensors of the plan, in its order. They may be written at the same time.
    pub fn tensors(&mut self) -> Vec<TensorWriter<'_>> {
        let payload = self.payload();
        self.slots.iter_mut().map(|slot| TensorWriter::new(&self.output, payload, slot)).collect()
    }

    /// Where the payload begins.
    fn payload(&self) -> u64 {
        self.planned(section::PAYLOAD).map_or(0, |s| s.offset)
    }

    /// Writes tables and header. The file is complete, but still under its temporary name, so that it can be checked first.
    pub fn seal(self, manifest: &Manifest) -> Result<Sealed, WriteError> {
        if let Some(missing) = self.slots.iter().find(|slot| !slot.finished) {
            let what = "was planned and never written".to_owned();
            return Err(WriteError::Misuse { tensor: missing.spec.name.clone(), what });
        }
        if manifest.files != self.files {
            let what = "the manifest lists other files than were planned".to_owned();
            return Err(WriteError::Misuse { tensor: "(files)".to_owned(), what });
        }
        let manifest = manifest.to_bytes()?;
        if manifest.len() != self.manifest_bytes {
            let what = format!("the manifest grew from {} to {} bytes", self.manifest_bytes, manifest.len());
            return Err(WriteError::Misuse { tensor: "(manifest)".to_owned(), what });
        }
        let records: Vec<Record> = self.slots.iter().map(|slot| slot.record).collect();
        let mut entries = Vec::with_capacity(self.sections.len());
        for &planned in &self.sections {
            let digest = match planned.kind {
                section::TENSORS => self.output.put(planned, bytemuck::cast_slice(&records))?,
                section::NAMES => self.output.put(planned, &self.names)?,
                section::MANIFEST => self.output.put(planned, &manifest)?,
                section::FILES => self.files_digest,
                _ => Digest([0; 32]),
            };
            entries.push(section_entry(planned, digest));
        }
        let header = header_bytes(&entries, self.file_bytes());
        let root = root_of(&header);
        self.output.write(&[&header[..PREFIX_BYTES - 32], &root.0, &header[PREFIX_BYTES..]].concat(), 0)?;
        let tensors = self.slots.into_iter().map(|slot| (slot.spec.name, Digest(slot.record.content_digest))).collect();
        Ok(Sealed { output: self.output, root, tensors })
    }
}

impl Sealed {
    /// Where the complete file is now; `None` if it was not written.
    pub fn path(&self) -> Option<&Path> {
        self.output.file.as_ref().map(AtomicFile::path)
    }

    /// The digest that names the file.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Names and content digests of all tensors.
    pub fn tensors(&self) -> &[(String, Digest)] {
        &self.tensors
    }

    /// Begins to make the bytes durable and waits for it. [`commit`](Self::commit) does so too; calling this on another thread while the file is
    /// checked saves the wait.
    pub fn sync(&self) -> Result<(), WriteError> {
        let Some(file) = &self.output.file else { return Ok(()) };
        file.sync().map_err(io_error("make the output durable", &self.output.target))
    }

    /// Makes the file durable and gives it its name.
    pub fn commit(self) -> Result<Digest, WriteError> {
        if let Some(file) = self.output.file {
            file.commit().map_err(io_error("put the output in place", &self.output.target))?;
        }
        Ok(self.root)
    }
}

/// One tensor being written. Its bytes come in any number of pieces.
#[derive(Debug)]
pub struct TensorWriter<'a> {
    output: &'a Output,
    slot: &'a mut Slot,
    /// Where the next piece goes.
    position: u64,
    written: u64,
    stored: blake3::Hasher,
}

impl<'a> TensorWriter<'a> {
    fn new(output: &'a Output, payload: u64, slot: &'a mut Slot) -> Self {
        let position = payload + slot.record.offset.get();
        Self { output, slot, position, written: 0, stored: blake3::Hasher::new() }
    }

    /// Writes the next piece of the data.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), WriteError> {
        self.written += piece.len() as u64;
        if self.written > self.record().data_bytes.get() {
            return Err(self.misuse(format!("{} bytes were planned, more came", self.record().data_bytes.get())));
        }
        self.pass(piece)
    }

    /// Writes the scales and completes the record.
    pub fn finish(mut self, scales: &[f32], content: ContentDigest) -> Result<(), WriteError> {
        let (data_bytes, scale_count) = (self.record().data_bytes.get(), self.record().scale_count.get());
        if self.written != data_bytes || scales.len() as u64 != scale_count {
            let what = format!(
                "{data_bytes} bytes and {scale_count} scales were planned, {} and {} came",
                self.written,
                scales.len()
            );
            return Err(self.misuse(what));
        }
        let scales: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        // The digest of int8 content is that of data and scales without the padding between.
        let unpadded = (scale_count > 0).then(|| {
            let mut hasher = self.stored.clone();
            Digest::from(hasher.update(&scales).finalize())
        });
        if scale_count > 0 {
            let padding = up(data_bytes, TENSOR_ALIGN) - data_bytes;
            self.pass(&[0; TENSOR_ALIGN as usize][..padding as usize])?;
            self.pass(&scales)?;
        }
        let stored = Digest::from(self.stored.finalize());
        let (digest, non_zero) = match content {
            ContentDigest::AsStored => (unpadded.unwrap_or(stored), 0),
            ContentDigest::Trits { digest, non_zero } => (digest, non_zero),
        };
        self.slot.record.stored_digest = stored.0;
        self.slot.record.content_digest = digest.0;
        self.slot.record.non_zero = U64::from(non_zero);
        self.slot.finished = true;
        Ok(())
    }

    fn pass(&mut self, piece: &[u8]) -> Result<(), WriteError> {
        if piece.len() >= PARALLEL_BYTES {
            self.stored.update_rayon(piece);
        } else {
            self.stored.update(piece);
        }
        self.output.write(piece, self.position)?;
        self.position += piece.len() as u64;
        Ok(())
    }

    fn record(&self) -> &Record {
        &self.slot.record
    }

    fn misuse(&self, what: String) -> WriteError {
        WriteError::Misuse { tensor: self.slot.spec.name.clone(), what }
    }
}

impl Output {
    /// The file was created at its full length, so what is never written reads as zero.
    fn write(&self, bytes: &[u8], position: u64) -> Result<(), WriteError> {
        match &self.file {
            Some(file) => file.write_at(bytes, position).map_err(io_error("write", &self.target)),
            None => Ok(()),
        }
    }

    fn put(&self, planned: Planned, bytes: &[u8]) -> Result<Digest, WriteError> {
        self.write(bytes, planned.offset)?;
        Ok(Digest::of(bytes))
    }
}

fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> WriteError + use<> {
    let (doing, path) = (doing.to_owned(), path.to_owned());
    move |source| WriteError::Io { doing, path, source }
}
