//! The zip archive around a torch checkpoint: where each stored record lies in the file.
//!
//! Only what `torch.save` writes is accepted: records stored without compression, one after another from the first byte, then the central directory, then the end
//! records, with nothing between, before or after. Everything that is written twice must agree. Checksums are not compared:
//! torch itself can be told to write placeholders for them.

use std::collections::BTreeMap;

use super::super::error::Result;
use super::super::source::Source;
use super::fields::{Fields, Wide, zip64_extra};

/// Records in the archive.
pub const MAX_RECORDS: u64 = 1 << 19;
/// Bytes in the central directory.
pub const MAX_DIRECTORY_BYTES: u64 = 128 << 20;
/// Bytes in a record's name.
pub const MAX_RECORD_NAME_BYTES: u64 = 1024;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const END: &[u8] = b"PK\x05\x06";

const FLAG_ENCRYPTED: u16 = 1 << 0;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;

/// A record's bytes within the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Lists the records by name.
pub(super) fn read(source: &Source) -> Result<BTreeMap<String, Record>> {
    let directory = find_directory(source)?;
    source.at_most("a number of zip records", directory.records, MAX_RECORDS)?;
    source.at_most("a zip directory in bytes", directory.bytes, MAX_DIRECTORY_BYTES)?;
    let bytes = source.copy(directory.offset, directory.bytes, "the zip directory")?;
    let mut fields = Fields { source, bytes: &bytes, what: "the zip directory" };
    let mut headers = Vec::new();
    for _ in 0..directory.records {
        headers.push(central_header(&mut fields)?);
    }
    if !fields.bytes.is_empty() {
        return Err(
            source.malformed("a zip directory of the stated length", format!("{} bytes more", fields.bytes.len()))
        );
    }

    headers.sort_by_key(|header| header.offset);
    let mut records = BTreeMap::new();
    let mut end = 0;
    for header in headers {
        if header.offset != end {
            let expected = format!("zip records one after another: the next at byte {end}");
            return Err(source
                .malformed(expected, format!("{:?} at byte {} (an overlap or a gap)", header.name, header.offset)));
        }
        let record = local_header(source, &header)?;
        end = after(source, &header, record, directory.offset)?;
        if let Some((name, _)) = records.get_key_value(&header.name) {
            return Err(source.malformed("one zip record of a name", format!("two named {name:?}")));
        }
        records.insert(header.name, record);
    }
    if end != directory.offset {
        return Err(source.malformed(
            format!("the zip directory at byte {end}, after the last record"),
            format!("it at byte {}", directory.offset),
        ));
    }
    Ok(records)
}

struct Directory {
    records: u64,
    offset: u64,
    bytes: u64,
}

/// The end record is the file's last 22 bytes; with zip64, a locator and a wider end record come before it.
fn find_directory(source: &Source) -> Result<Directory> {
    let Some(end_offset) = source.len().checked_sub(22) else {
        return Err(source.malformed("a torch zip archive", format!("a file of {} bytes (truncated?)", source.len())));
    };
    let end_record = source.copy(end_offset, 22, "the zip end record")?;
    let mut end = Fields { source, bytes: &end_record, what: "the zip end record" };
    if end.take(4)? != END {
        return Err(source
            .malformed(
                "a zip end record as the file's last 22 bytes",
                "other bytes (truncated, or something was appended?)",
            )
            .remedy("copy the file again, or save it again with torch.save"));
    }
    let disks = [end.u16()?, end.u16()?];
    let counts = [end.u16()?, end.u16()?];
    let (bytes, offset, comment) = (end.u32()?, end.u32()?, end.u16()?);
    if disks != [0, 0] || counts[0] != counts[1] || comment != 0 {
        return Err(source.malformed(
            "a zip end record of one disk, without a comment",
            format!("disks {disks:?}, counts {counts:?}, comment of {comment} bytes"),
        ));
    }
    let narrow = Directory { records: counts[0].into(), offset: offset.into(), bytes: bytes.into() };
    let (directory, directory_end) = match wide_directory(source, end_offset)? {
        None => (narrow, end_offset),
        Some((wide, wide_end)) => {
            let agree = |narrow: u64, wide: u64, unset: u64| narrow == wide || narrow == unset;
            let unset = u64::from(u32::MAX);
            if !(agree(narrow.records, wide.records, u16::MAX.into())
                && agree(narrow.offset, wide.offset, unset)
                && agree(narrow.bytes, wide.bytes, unset))
            {
                return Err(source.malformed("the two zip end records to agree", "different counts, offsets or sizes"));
            }
            (wide, wide_end)
        }
    };
    if directory.offset.checked_add(directory.bytes) != Some(directory_end) {
        let expected = format!("a zip directory that ends at byte {directory_end}, where the end records begin");
        return Err(source.malformed(expected, format!("{} bytes from byte {}", directory.bytes, directory.offset)));
    }
    Ok(directory)
}

/// The zip64 end record and its offset, if a locator precedes the end record.
fn wide_directory(source: &Source, end_offset: u64) -> Result<Option<(Directory, u64)>> {
    let Some(locator_offset) = end_offset.checked_sub(20) else {
        return Ok(None);
    };
    let locator_record = source.copy(locator_offset, 20, "the zip64 locator")?;
    let mut locator = Fields { source, bytes: &locator_record, what: "the zip64 locator" };
    if locator.take(4)? != LOCATOR64 {
        return Ok(None);
    }
    let (disk, wide_offset, disks) = (locator.u32()?, locator.u64()?, locator.u32()?);
    if disk != 0 || disks != 1 || wide_offset.checked_add(56) != Some(locator_offset) {
        return Err(source.malformed(
            "a zip64 end record right before its locator, on one disk",
            format!("one at byte {wide_offset}, {disks} disks"),
        ));
    }
    let wide_record = source.copy(wide_offset, 56, "the zip64 end record")?;
    let mut wide = Fields { source, bytes: &wide_record, what: "the zip64 end record" };
    let (magic, size) = (wide.take(4)?, wide.u64()?);
    let _versions = wide.take(4)?;
    let (disks, counts) = ([wide.u32()?, wide.u32()?], [wide.u64()?, wide.u64()?]);
    if magic != END64 || size != 44 || disks != [0, 0] || counts[0] != counts[1] {
        return Err(source.malformed(
            "a zip64 end record of 44 bytes on one disk",
            format!("{size} bytes, disks {disks:?}, counts {counts:?}"),
        ));
    }
    let (bytes, offset) = (wide.u64()?, wide.u64()?);
    Ok(Some((Directory { records: counts[0], offset, bytes }, wide_offset)))
}

/// What the directory says of a record, and its local header must repeat.
struct Header {
    name: String,
    flags: u16,
    crc: u32,
    bytes: u64,
    offset: u64,
}

fn central_header(fields: &mut Fields<'_>) -> Result<Header> {
    let source = fields.source;
    if fields.take(4)? != CENTRAL {
        return Err(source.malformed("a zip directory entry", "other bytes"));
    }
    let _versions = fields.take(4)?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _time = fields.take(4)?;
    let crc = fields.u32()?;
    let (stored, size) = (fields.u32()?, fields.u32()?);
    let (name_bytes, extra_bytes, comment_bytes, disk) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
    let _attributes = fields.take(6)?;
    let offset = fields.u32()?;
    source.at_most("a zip record name in bytes", name_bytes.into(), MAX_RECORD_NAME_BYTES)?;
    let name = record_name(source, fields.take(name_bytes.into())?)?;
    let mut wide = Wide { source, extra: zip64_extra(source, fields.take(extra_bytes.into())?)? };
    let _comment = fields.take(comment_bytes.into())?;

    let size = wide.or(size)?;
    let stored = wide.or(stored)?;
    let offset = wide.or(offset)?;
    let refuse = |found: &str| {
        Err(source
            .unsupported(
                "records as torch.save writes them: stored, not encrypted",
                format!("record {name:?}: {found}"),
            )
            .remedy("save the state dict again with torch.save(state_dict, path)"))
    };
    match (flags, method) {
        _ if flags & FLAG_ENCRYPTED != 0 => return refuse("encrypted"),
        _ if flags & !(FLAG_DESCRIPTOR | FLAG_UTF8) != 0 => {
            return refuse(&format!("general purpose flags {flags:#06x}"));
        }
        (_, 0) if stored == size && disk == 0 => {}
        (_, 0) => {
            return Err(source.malformed(
                "a stored record whose two sizes are equal, on disk 0",
                format!("{name:?} of {stored} and {size} bytes on disk {disk}"),
            ));
        }
        _ => return refuse(&format!("compressed (method {method})")),
    }
    Ok(Header { name, flags, crc, bytes: size, offset })
}

/// Compares a record's own header with the directory's and says where its bytes lie.
fn local_header(source: &Source, header: &Header) -> Result<Record> {
    let fixed = source.copy(header.offset, 30, "a zip record's header")?;
    let mut fields = Fields { source, bytes: &fixed, what: "a zip record's header" };
    let magic = fields.take(4)? == LOCAL;
    let _version = fields.take(2)?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _time = fields.take(4)?;
    let (crc, stored, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (name_bytes, extra_bytes) = (u64::from(fields.u16()?), u64::from(fields.u16()?));
    let variable = source.copy(header.offset + 30, name_bytes + extra_bytes, "a zip record's name")?;
    let mut fields = Fields { source, bytes: &variable, what: "a zip record's name" };
    let name = fields.take(name_bytes as usize)?;
    let mut wide = Wide { source, extra: zip64_extra(source, fields.bytes)? };

    // A record written as a stream has its sizes and checksum in a descriptor after it, and zeros here.
    let deferred = flags & FLAG_DESCRIPTOR != 0;
    let sizes_agree = if deferred && (stored, size) == (0, 0) {
        true
    } else {
        (wide.or(size)?, wide.or(stored)?) == (header.bytes, header.bytes)
    };
    let crc_agrees = crc == header.crc || (deferred && crc == 0);
    if !(magic && flags == header.flags && method == 0 && name == header.name.as_bytes() && sizes_agree && crc_agrees) {
        return Err(source.malformed(
            format!("record {:?} to have a header like the zip directory's", header.name),
            "a header that disagrees",
        ));
    }
    Ok(Record { offset: header.offset + 30 + name_bytes + extra_bytes, bytes: header.bytes })
}

/// Where the next record must begin: after this one's bytes and, for a streamed record, its descriptor.
fn after(source: &Source, header: &Header, record: Record, directory: u64) -> Result<u64> {
    let end = record.offset.checked_add(record.bytes).filter(|&end| end <= directory);
    let Some(end) = end else {
        return Err(source.malformed(
            "zip records before the zip directory",
            format!("{:?}: {} bytes at byte {}", header.name, record.bytes, record.offset),
        ));
    };
    if header.flags & FLAG_DESCRIPTOR == 0 {
        return Ok(end);
    }
    let wide = source.copy(end, 24.min(directory - end), "a zip data descriptor")?;
    let crc = header.crc.to_le_bytes();
    let size = header.bytes.to_le_bytes();
    if wide == [DESCRIPTOR, &crc, &size, &size].concat() {
        return Ok(end + 24);
    }
    let narrow = [DESCRIPTOR, &crc, &size[..4], &size[..4]].concat();
    if wide.starts_with(&narrow) && header.bytes <= u32::MAX.into() {
        return Ok(end + 16);
    }
    Err(source
        .malformed(format!("a data descriptor after record {:?} that repeats its size", header.name), "other bytes"))
}

fn record_name(source: &Source, name: &[u8]) -> Result<String> {
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => {
            Err(source
                .malformed("a zip record name in printable UTF-8", format!("{:?}", String::from_utf8_lossy(name))))
        }
    }
}
