//! Little-endian fields of zip structures, and the wider ones that zip64 puts beside them.

use super::super::error::{CheckpointError, Result};
use super::super::source::Source;

/// The content of the zip64 field, empty without one.
pub(super) fn zip64_extra<'a>(source: &'a Source, extra: &'a [u8]) -> Result<&'a [u8]> {
    let mut fields = Fields { source, bytes: extra, what: "a zip extra field" };
    let mut found: &[u8] = &[];
    while !fields.bytes.is_empty() {
        let (id, bytes) = (fields.u16()?, fields.u16()?);
        let content = fields.take(bytes.into())?;
        if id == 0x0001 {
            if !found.is_empty() {
                return Err(source.malformed("one zip64 field in a record's header", "two"));
            }
            found = content;
        }
    }
    Ok(found)
}

/// Wide values, in order, of the narrow fields that are all ones.
pub(super) struct Wide<'a> {
    pub(super) source: &'a Source,
    pub(super) extra: &'a [u8],
}

impl Wide<'_> {
    pub(super) fn or(&mut self, narrow: u32) -> Result<u64> {
        if narrow != u32::MAX {
            return Ok(narrow.into());
        }
        let mut fields = Fields { source: self.source, bytes: self.extra, what: "a zip64 field" };
        let value = fields.u64()?;
        self.extra = fields.bytes;
        Ok(value)
    }
}

/// Little-endian fields, taken from the front of a slice.
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source,
    pub(super) bytes: &'a [u8],
    pub(super) what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(|| self.short(len))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        let (taken, rest) = self.bytes.split_first_chunk::<LEN>().ok_or_else(|| self.short(LEN))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn short(&self, len: usize) -> CheckpointError {
        self.source.malformed(format!("{len} more bytes in {}", self.what), format!("{}", self.bytes.len()))
    }
}
