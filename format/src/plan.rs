//! Where everything in a file will be, worked out before the first byte is written: records, sections, header (SPEC §3 to §6).
//!
//! Pure arithmetic. The [writer](crate::writer) fills in digests and writes; the reader checks the same numbers in [`record`](crate::record) and
//! [`header`](crate::header), and shares nothing with this but the structs of the wire.

use bytemuck::Zeroable;

use crate::digest::Digest;
use crate::encoding::{Encoding, Order, Packing, Pattern};
use crate::error::{FormatError, Result, rule};
use crate::header::{REQUIRED, section};
use crate::limits::{
    MAGIC, MAJOR, MAX_NAME_BYTES, MAX_TENSORS, PREFIX_BYTES, SECTION_ALIGN, SECTION_ENTRY_BYTES, TENSOR_ALIGN, up,
};
use crate::record::{self, ORDER_VERSION, Role, stored_bytes};
use crate::wire::{Prefix, Record, SectionEntry, U16, U32, U64, bytes_of};

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the source.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// How values are stored.
    pub encoding: Encoding,
    /// In which order.
    pub order: Order,
    /// The declared sparsity.
    pub pattern: Pattern,
}

impl TensorSpec {
    /// How its values will lie in the file.
    pub fn packing(&self) -> Packing {
        Packing { encoding: self.encoding, order: self.order, pattern: self.pattern }
    }
}

/// A section: what and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The records, with digests of zero, and the names.
pub(crate) fn plan_records(specs: &[TensorSpec]) -> Result<(Vec<Record>, Vec<u8>)> {
    if specs.len() > MAX_TENSORS {
        let found = specs.len().to_string();
        return Err(FormatError::invalid(rule::RECORD_COUNT, "TENSORS", "at most 65536 tensors", found));
    }
    let (mut records, mut names, mut end) = (Vec::with_capacity(specs.len()), Vec::new(), 0u64);
    for spec in specs {
        let invalid = |rule, expected: &str| {
            FormatError::invalid(rule, &format!("tensor '{}'", spec.name), expected, format!("{:?}", spec.shape))
        };
        let (Some(elements), Some(&cols)) = (record::elements(&spec.shape), spec.shape.last()) else {
            return Err(invalid(rule::SHAPE, "1 to 4 dimensions of 1 to 2^31, 2^40 elements"));
        };
        let rows = elements / cols;
        // With this all names together fit the 32 bits of a name's offset.
        if spec.name.len() > MAX_NAME_BYTES {
            return Err(invalid(rule::NAME_TEXT, "a name of 1 to 256 bytes"));
        }
        let data = spec
            .packing()
            .data_bytes(rows, cols)
            .ok_or_else(|| invalid(rule::PATTERN_OF_ENCODING, "a shape and pattern that the encoding can hold"))?;
        let scales = if spec.encoding.is_ternary() || spec.encoding == Encoding::I8 { rows } else { 0 };
        let (n, m) = spec.pattern.ids();
        let mut shape = [U64::zeroed(); 4];
        for (to, &from) in shape.iter_mut().zip(&spec.shape) {
            *to = U64::from(from);
        }
        let offset = up(end, TENSOR_ALIGN);
        let stored = stored_bytes(data, scales);
        end = offset + stored;
        records.push(Record {
            name_offset: U32::from(names.len() as u32),
            name_bytes: U32::from(spec.name.len() as u32),
            role: U16::from(spec.role.id()),
            encoding: U16::from(spec.encoding.id()),
            order: U16::from(spec.order.id()),
            order_version: U16::from(ORDER_VERSION),
            n,
            m,
            group_axis: u8::from(m != 0),
            rank: spec.shape.len() as u8,
            reserved: U32::zeroed(),
            shape,
            offset: U64::from(offset),
            stored_bytes: U64::from(stored),
            data_bytes: U64::from(data),
            scale_count: U64::from(scales),
            non_zero: U64::zeroed(),
            stored_digest: [0; 32],
            content_digest: [0; 32],
        });
        names.extend_from_slice(spec.name.as_bytes());
    }
    Ok((records, names))
}

/// The sections of these kinds and lengths, the empty ones left out, and PAYLOAD.
pub(crate) fn plan_sections(lengths: &[(u32, usize)], payload_bytes: u64) -> Vec<Planned> {
    let present = lengths.iter().filter(|(_, bytes)| *bytes > 0).map(|&(kind, bytes)| (kind, bytes as u64));
    let all: Vec<_> = present.chain([(section::PAYLOAD, payload_bytes)]).collect();
    let mut end = (PREFIX_BYTES + all.len() * SECTION_ENTRY_BYTES) as u64;
    all.into_iter()
        .map(|(kind, bytes)| {
            let offset = up(end, SECTION_ALIGN);
            end = offset + bytes;
            Planned { kind, offset, bytes }
        })
        .collect()
}

/// The table entry of a section.
pub(crate) fn section_entry(planned: Planned, digest: Digest) -> SectionEntry {
    SectionEntry {
        kind: U32::from(planned.kind),
        flags: U32::from(if planned.kind == section::FILES { 0 } else { REQUIRED }),
        offset: U64::from(planned.offset),
        bytes: U64::from(planned.bytes),
        reserved: U64::zeroed(),
        digest: digest.0,
    }
}

/// The header with an empty slot for the root digest.
pub(crate) fn header_bytes(entries: &[SectionEntry], file_bytes: u64) -> Vec<u8> {
    let bytes = PREFIX_BYTES + entries.len() * SECTION_ENTRY_BYTES;
    let prefix = Prefix {
        magic: MAGIC,
        major: U16::from(MAJOR),
        minor: U16::zeroed(),
        header_bytes: U32::from(bytes as u32),
        file_bytes: U64::from(file_bytes),
        compatible: U64::zeroed(),
        inspect_only: U64::zeroed(),
        incompatible: U64::zeroed(),
        section_count: U32::from(entries.len() as u32),
        reserved_a: U32::zeroed(),
        reserved_b: U64::zeroed(),
        root: [0; 32],
    };
    [bytes_of(&prefix), bytemuck::cast_slice(entries)].concat()
}
