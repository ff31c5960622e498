//! The packed form: a whole file compressed for download, in chunks that are checked before they are decoded (SPEC §11).
//!
//! Unpacking gives back the identical file. A packed file can be neither mapped nor executed.

use crate::Sbnc;
use crate::digest::Digest;
use crate::error::{FormatError, Result, rule};
use crate::frame;
use crate::limits::{CHUNK_BYTES, MAJOR, MAX_BYTES, MAX_PACKED_RATIO, PACKED_MAGIC, PREFIX_BYTES};
use crate::wire::{self, Chunk, PackedPrefix};

const PREFIX: usize = size_of::<PackedPrefix>();
const ENTRY: usize = size_of::<Chunk>();
const RAW: u32 = 0;
const ZSTD: u32 = 1;

/// A packed file whose header and chunk table are sound.
#[derive(Debug)]
pub struct Packed<'a> {
    bytes: &'a [u8],
    raw_bytes: u64,
    root: Digest,
    chunks: Vec<ChunkPlace>,
}

#[derive(Clone, Copy, Debug)]
struct ChunkPlace {
    offset: usize,
    stored: usize,
    raw: usize,
    codec: u32,
    digest: Digest,
}

impl<'a> Packed<'a> {
    /// Checks the header and the chunk table. No chunk is read.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let prefix = check_prefix(bytes)?;
        let count = prefix.chunk_count.get() as usize;
        let table_end = PREFIX + count * ENTRY;
        let Some(table) = bytes.get(PREFIX..table_end) else {
            let expected = format!("a chunk table of {count} entries");
            return Err(FormatError::invalid(rule::PACKED_TABLE, "packed file", &expected, "the end of the file"));
        };
        let found = digest_of(&bytes[..PREFIX], table);
        if found.0 != prefix.digest {
            let expected = Digest(prefix.digest).to_string();
            return Err(FormatError::integrity(rule::PACKED_TABLE, "packed header", &expected, found.to_string()));
        }
        let raw_bytes = prefix.raw_bytes.get();
        let chunks = place_chunks(wire::slice(table), table_end, raw_bytes, bytes.len())?;
        Ok(Self { bytes, raw_bytes, root: Digest(prefix.root), chunks })
    }

    /// Length of the unpacked file.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Root digest of the unpacked file.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Number of chunks. Every chunk but the last decodes to [`CHUNK_BYTES`].
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Checks and decodes one chunk.
    pub fn chunk(&self, index: usize) -> Result<Vec<u8>> {
        let chunk = &self.chunks[index];
        let subject = format!("chunk {index}");
        let stored = &self.bytes[chunk.offset..chunk.offset + chunk.stored];
        let found = Digest::of(stored);
        if found != chunk.digest {
            let expected = chunk.digest.to_string();
            return Err(FormatError::integrity(rule::PACKED_DIGEST, &subject, &expected, found.to_string()));
        }
        if chunk.codec == RAW {
            return Ok(stored.to_vec());
        }
        let expected = format!("a frame of {} bytes", chunk.raw);
        frame::decode(stored, chunk.raw)
            .map_err(|found| FormatError::invalid(rule::PACKED_FRAME, &subject, &expected, found))
    }

    /// Checks the unpacked file: its structure, and that it has the root digest that the packed one promised.
    pub fn check_unpacked(&self, unpacked: &[u8]) -> Result<()> {
        let inner = |e| FormatError::inside(rule::PACKED_ROOT, "unpacked file", "a valid file", &e);
        let file = Sbnc::open(unpacked).map_err(inner)?;
        // Opening leaves the carried files and unknown sections alone.
        let mut problems = Vec::new();
        file.check_cold_sections(&mut problems);
        if let Some(first) = problems.into_iter().next() {
            return Err(inner(first));
        }
        let root = file.root();
        if root == self.root {
            return Ok(());
        }
        Err(FormatError::integrity(rule::PACKED_ROOT, "unpacked file", &self.root.to_string(), root.to_string()))
    }
}

fn check_prefix(bytes: &[u8]) -> Result<PackedPrefix> {
    let prefix = wire::read::<PackedPrefix>(bytes);
    let Some(prefix) = prefix.filter(|p| p.magic == PACKED_MAGIC) else {
        return Err(FormatError::invalid(rule::PACKED_PREFIX, "packed file", "a packed sbnc file", "something else"));
    };
    if prefix.major.get() != MAJOR {
        let found = format!("{}; use a newer reader", prefix.major.get());
        return Err(FormatError::unsupported(rule::PACKED_PREFIX, "packed file", "major version 1", found));
    }
    let (file, raw) = (prefix.file_bytes.get(), prefix.raw_bytes.get());
    let sizes_fit = prefix.chunk_bytes.get() as usize == CHUNK_BYTES
        && file == bytes.len() as u64
        && (PREFIX_BYTES as u64..=MAX_BYTES).contains(&raw)
        && raw <= file.saturating_mul(MAX_PACKED_RATIO)
        && u64::from(prefix.chunk_count.get()) == raw.div_ceil(CHUNK_BYTES as u64);
    let reserved_zero = prefix.reserved_a.get() == 0 && prefix.reserved_b == [0; 24];
    if sizes_fit && reserved_zero {
        return Ok(prefix);
    }
    let found = format!("{file} bytes for {raw}, {} in the file", bytes.len());
    Err(FormatError::invalid(rule::PACKED_FIELDS, "packed file", "the sizes of SPEC §11", found))
}

fn place_chunks(table: &[Chunk], start: usize, raw_bytes: u64, file: usize) -> Result<Vec<ChunkPlace>> {
    let mut offset = start;
    let mut left = raw_bytes;
    let mut places = Vec::with_capacity(table.len());
    for (i, entry) in table.iter().enumerate() {
        let raw = left.min(CHUNK_BYTES as u64) as usize;
        let (stored, codec) = (entry.stored_bytes.get() as usize, entry.codec.get());
        let size_fits = match codec {
            RAW => stored == raw,
            ZSTD => (1..=raw).contains(&stored),
            _ => false,
        };
        if !size_fits || stored > file - offset {
            let found = format!("codec {codec}, {stored} bytes for {raw}");
            return Err(FormatError::invalid(
                rule::PACKED_CHUNK,
                &format!("chunk {i}"),
                "the sizes of SPEC §11",
                found,
            ));
        }
        places.push(ChunkPlace { offset, stored, raw, codec, digest: Digest(entry.digest) });
        offset += stored;
        left -= raw as u64;
    }
    if offset != file {
        let expected = format!("an end at {file}");
        return Err(FormatError::invalid(rule::PACKED_CHUNK, "last chunk", &expected, offset.to_string()));
    }
    Ok(places)
}

fn digest_of(prefix: &[u8], table: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&prefix[..PREFIX - 32]).update(&[0; 32]).update(table);
    hasher.finalize().into()
}

/// Writing and unpacking on disk.
#[cfg(feature = "writer")]
mod disk {
    use std::io::{Seek, SeekFrom, Write};
    use std::path::Path;

    use rayon::prelude::*;

    use super::*;
    use crate::atomic::AtomicFile;
    use crate::wire::{U16, U32, U64, bytes_of};
    use crate::writer::WriteError;

    /// Chunks in flight: bounds the memory of packing and unpacking, and keeps all threads busy.
    fn batch() -> usize {
        2 * rayon::current_num_threads()
    }

    /// Packs the file whose bytes are `raw` into `target`. `go_on` is told of bytes done, and stops the work by returning false: then nothing is
    /// left, and the result is an [interrupted](std::io::ErrorKind::Interrupted) error.
    pub fn pack(
        raw: &[u8],
        target: &Path,
        level: i32,
        go_on: &dyn Fn(u64) -> bool,
    ) -> std::result::Result<u64, WriteError> {
        let root = Sbnc::open(raw)?.root();
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| WriteError::Io { doing, path: target.to_owned(), source }
        };
        let mut output = AtomicFile::create(target).map_err(io("create the output"))?;
        let count = raw.len().div_ceil(CHUNK_BYTES);
        let table_end = (PREFIX + count * ENTRY) as u64;
        output.file().seek(SeekFrom::Start(table_end)).map_err(io("seek"))?;
        let (mut table, mut end) = (Vec::with_capacity(count), table_end);
        for batch in raw.chunks(CHUNK_BYTES * batch()) {
            let chunks = batch.par_chunks(CHUNK_BYTES).map(|chunk| compress(chunk, level)).collect::<Vec<_>>();
            for chunk in chunks {
                let (codec, stored) = chunk.map_err(io("compress"))?;
                output.file().write_all(&stored).map_err(io("write"))?;
                end += stored.len() as u64;
                let digest = Digest::of(&stored).0;
                table.push(Chunk { stored_bytes: U32::from(stored.len() as u32), codec: U32::from(codec), digest });
            }
            if !go_on(batch.len() as u64) {
                return Err(io("finish")(std::io::ErrorKind::Interrupted.into()));
            }
        }
        if raw.len() as u64 > end.saturating_mul(MAX_PACKED_RATIO) {
            let found = format!("{end} bytes for {}", raw.len());
            return Err(
                FormatError::invalid(rule::PACKED_FIELDS, "packed file", "a ratio of at most 1024", found).into()
            );
        }
        let mut prefix = PackedPrefix {
            magic: PACKED_MAGIC,
            major: U16::from(MAJOR),
            minor: U16::from(0),
            chunk_bytes: U32::from(CHUNK_BYTES as u32),
            file_bytes: U64::from(end),
            raw_bytes: U64::from(raw.len() as u64),
            chunk_count: U32::from(count as u32),
            reserved_a: U32::from(0),
            reserved_b: [0; 24],
            root: root.0,
            digest: [0; 32],
        };
        let table: &[u8] = bytemuck::cast_slice(&table);
        prefix.digest = digest_of(bytes_of(&prefix), table).0;
        output.file().seek(SeekFrom::Start(0)).map_err(io("seek"))?;
        output.file().write_all(bytes_of(&prefix)).map_err(io("write"))?;
        output.file().write_all(table).map_err(io("write"))?;
        output.commit().map_err(io("put the output in place"))?;
        Ok(end)
    }

    /// Unpacks into `target`. Before the result gets its name, `check` is given the path of the complete temporary file, to map it and to
    /// [check](Packed::check_unpacked) it.
    pub fn unpack<E: From<WriteError>>(
        packed: &Packed<'_>,
        target: &Path,
        go_on: &dyn Fn(u64) -> bool,
        check: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| E::from(WriteError::Io { doing, path: target.to_owned(), source })
        };
        let mut output = AtomicFile::create(target).map_err(io("create the output"))?;
        let reserving = format!("reserve {} bytes for the output", packed.raw_bytes());
        output.reserve(packed.raw_bytes()).map_err(io(&reserving))?;
        let indices: Vec<usize> = (0..packed.chunks()).collect();
        for batch in indices.chunks(batch()) {
            let chunks = batch.par_iter().map(|&i| packed.chunk(i)).collect::<Vec<_>>();
            for chunk in chunks {
                let chunk = chunk.map_err(|e| E::from(e.into()))?;
                output.file().write_all(&chunk).map_err(io("write"))?;
                if !go_on(chunk.len() as u64) {
                    return Err(io("finish")(std::io::ErrorKind::Interrupted.into()));
                }
            }
        }
        check(output.path())?;
        output.commit().map_err(io("put the output in place"))
    }

    fn compress(chunk: &[u8], level: i32) -> std::io::Result<(u32, Vec<u8>)> {
        let stored = frame::encode(chunk, level)?;
        Ok(if stored.len() < chunk.len() { (ZSTD, stored) } else { (RAW, chunk.to_vec()) })
    }
}

#[cfg(feature = "writer")]
pub use disk::{pack, unpack};
