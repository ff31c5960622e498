//! Putting all digests of an edited file right again, so that what refuses it is a rule and not a digest.
//!
//! Offsets are those of the specification, written out here once more: this must not share the crate's own idea of them.

/// Where things are in a file (SPEC §3 to §5).
const SECTION_COUNT: usize = 48;
const ROOT: usize = 64;
const PREFIX: usize = 96;
const ENTRY: usize = 64;
const RECORD: usize = 160;
const TENSORS: u64 = 16;
const PAYLOAD: u64 = 128;

/// The unsigned number of `width` bytes at `at`, 0 beyond the end.
pub fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let slot = bytes.get(at..at + width).unwrap_or(&[]);
    slot.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Writes the low `width` bytes of `value` at `at`.
pub fn put(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// The fields of one section entry that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub at: usize,
    pub kind: u64,
    pub offset: u64,
    pub bytes: u64,
}

/// The section entries that lie within the file.
pub fn entries(file: &[u8]) -> Vec<Entry> {
    let count = number(file, SECTION_COUNT, 4).min(64) as usize;
    (0..count)
        .map(|i| PREFIX + i * ENTRY)
        .take_while(|at| at + ENTRY <= file.len())
        .map(|at| Entry {
            at,
            kind: number(file, at, 4),
            offset: number(file, at + 8, 8),
            bytes: number(file, at + 16, 8),
        })
        .collect()
}

/// The bytes `offset..offset + bytes`, if they lie within the file.
pub fn part(file: &[u8], offset: u64, bytes: u64) -> Option<&[u8]> {
    let end = offset.checked_add(bytes)?;
    file.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Recomputes the digests of extents, sections and header, from the inside out. What points outside of the file is left as it is. The content
/// digests of ternary tensors are left too: they need decoding.
pub fn reseal(file: &mut [u8]) {
    let table = entries(file);
    let find = |kind| table.iter().find(|e| e.kind == kind);
    if let (Some(tensors), Some(payload)) = (find(TENSORS), find(PAYLOAD)) {
        seal_extents(file, *tensors, *payload);
    }
    for entry in table.iter().filter(|e| e.kind != PAYLOAD) {
        if let Some(digest) = part(file, entry.offset, entry.bytes).map(hash) {
            file[entry.at + 32..entry.at + 64].copy_from_slice(&digest);
        }
    }
    seal_header(file);
}

fn seal_extents(file: &mut [u8], tensors: Entry, payload: Entry) {
    if part(file, tensors.offset, tensors.bytes).is_none() {
        return;
    }
    let first = tensors.offset as usize;
    for at in (0..tensors.bytes as usize / RECORD).map(|i| first + i * RECORD) {
        let (encoding, scales) = (number(file, at + 10, 2), number(file, at + 80, 8));
        let (offset, stored, data) = (number(file, at + 56, 8), number(file, at + 64, 8), number(file, at + 72, 8));
        let Some(extent) = payload.offset.checked_add(offset).and_then(|start| part(file, start, stored)) else {
            continue;
        };
        let digest = hash(extent);
        let content = match encoding {
            1..=3 => Some(digest),
            4 => part(extent, 0, data)
                .zip(scales.checked_mul(4).and_then(|bytes| part(extent, stored.checked_sub(bytes)?, bytes)))
                .map(|(data, scales)| *blake3::Hasher::new().update(data).update(scales).finalize().as_bytes()),
            _ => None,
        };
        file[at + 96..at + 128].copy_from_slice(&digest);
        if let Some(content) = content {
            file[at + 128..at + 160].copy_from_slice(&content);
        }
    }
}

/// Recomputes the root digest alone.
pub fn seal_header(file: &mut [u8]) {
    let header = PREFIX + ENTRY * number(file, SECTION_COUNT, 4).min(64) as usize;
    if file.len() < PREFIX {
        return;
    }
    let header = header.min(file.len());
    file[ROOT..PREFIX].fill(0);
    let root = hash(&file[..header]);
    file[ROOT..PREFIX].copy_from_slice(&root);
}
