//! GGUF's typed keys and values, and the bounded reader under them.
//!
//! The reader copies the header in pieces as it goes, so a file of any length costs what its header costs, and a length that
//! the file states is believed only after it was compared with the bytes that are left.

use std::collections::BTreeMap;

use super::super::error::Result;
use super::super::source::Source;

/// Bytes before the tensor data, tokenizer included.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Keys of the metadata.
pub const MAX_KEYS: u64 = 1 << 16;
/// Bytes in a key.
pub const MAX_KEY_BYTES: u64 = 1024;
/// Items of all arrays together: vocabularies, scores, merges.
pub const MAX_ARRAY_ITEMS: u64 = 1 << 22;

const PIECE: u64 = 1 << 20;

/// A file's metadata.
pub type Metadata = BTreeMap<String, Value>;

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's own type names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// All of one type, none an array.
    Array(Vec<Value>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// An integer of any width that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(int) => Some(int.into()),
            Self::U16(int) => Some(int.into()),
            Self::U32(int) => Some(int.into()),
            Self::U64(int) => Some(int),
            Self::I8(int) => int.try_into().ok(),
            Self::I16(int) => int.try_into().ok(),
            Self::I32(int) => int.try_into().ok(),
            Self::I64(int) => int.try_into().ok(),
            _ => None,
        }
    }
}

/// Little-endian fields from the front of the file.
pub(super) struct Reader<'a> {
    source: &'a Source,
    /// Bytes `start..` of the file, as far as they are in memory; those before `used` are consumed.
    piece: Vec<u8>,
    start: u64,
    used: usize,
    array_items: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, piece: Vec::new(), start: 0, used: 0, array_items: 0 }
    }

    /// How many bytes are consumed.
    pub(super) fn position(&self) -> u64 {
        self.start + self.used as u64
    }

    pub(super) fn metadata(&mut self, keys: u64) -> Result<Metadata> {
        self.source.at_most("a number of metadata keys", keys, MAX_KEYS)?;
        let mut metadata = Metadata::new();
        for _ in 0..keys {
            let key = self.string("a metadata key in bytes", MAX_KEY_BYTES)?;
            let kind = self.u32()?;
            let value = self.value(&key, kind)?;
            if metadata.contains_key(&key) {
                return Err(self.source.malformed("one value of each metadata key", format!("two of {key:?}")));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => match self.array()? {
                [bool @ (0 | 1)] => Value::Bool(bool == 1),
                [other] => {
                    return Err(self
                        .source
                        .malformed(format!("a truth value of key {key:?}"), format!("byte {other}")));
                }
            },
            8 => Value::String(self.string("a metadata string in bytes", MAX_HEADER_BYTES)?),
            9 => self.array_value(key)?,
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            _ => {
                return Err(self.source.malformed(format!("a known type of key {key:?}"), format!("type {kind}")));
            }
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Value> {
        let (kind, items) = (self.u32()?, self.u64()?);
        if kind == 9 {
            return Err(self
                .source
                .unsupported("arrays of plain values", format!("an array of arrays in key {key:?}")));
        }
        self.source.at_most("a number of array items", items, MAX_ARRAY_ITEMS - self.array_items)?;
        self.array_items += items;
        let mut values = Vec::new();
        for _ in 0..items {
            values.push(self.value(key, kind)?);
        }
        Ok(Value::Array(values))
    }

    pub(super) fn string(&mut self, what: &str, limit: u64) -> Result<String> {
        let len = self.u64()?;
        self.source.at_most(what, len, limit)?;
        let bytes = self.take(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| {
            self.source.malformed("strings in UTF-8", format!("other bytes before byte {}", self.position()))
        })
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        let taken = self.take(LEN as u64)?;
        Ok(std::array::from_fn(|index| taken[index]))
    }

    /// The next `len` bytes. When they are not in memory, they are read with a piece of what follows.
    pub(super) fn take(&mut self, len: u64) -> Result<&[u8]> {
        let position = self.position();
        let left = self.source.len() - position;
        if len > left {
            let expected = format!("{len} more bytes of header at byte {position}");
            return Err(self.source.malformed(expected, format!("{left} (truncated?)")));
        }
        self.source.at_most("a GGUF header in bytes", position + len, MAX_HEADER_BYTES)?;
        let len = len as usize; // at most MAX_HEADER_BYTES
        if self.piece.len() - self.used < len {
            self.piece = self.source.copy(position, left.min(PIECE.max(len as u64)), "the header")?;
            (self.start, self.used) = (position, 0);
        }
        self.used += len;
        Ok(&self.piece[self.used - len..self.used])
    }
}
