//! The safetensors container: eight bytes of header length, a JSON header, the tensors.
//!
//! Stricter than the format's own reader where two readers could disagree: keys that occur twice, unknown keys, a header that
//! does not begin with `{`, and any byte of the data that belongs to no tensor or to two are refused. Data at any alignment is
//! legal. Only the header is read here; no byte of a tensor is touched.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::dtype::Dtype;
use super::entry::{Catalog, Entry};
use super::error::Result;
use super::source::Source;
use crate::json;

/// Bytes in the header: the format's own limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

const METADATA_KEY: &str = "__metadata__";

/// Adds the tensors of `source`, file number `file`, to the catalog.
pub(crate) fn read(source: &Source, file: usize, catalog: &mut Catalog) -> Result<()> {
    let prefix = source.copy(0, 8, "the header's length")?;
    let header_bytes = u64::from_le_bytes(prefix.try_into().unwrap_or_default());
    source.at_most("a safetensors header in bytes", header_bytes, MAX_HEADER_BYTES)?;
    let header = source.copy(8, header_bytes, "the header")?;
    let data = 8 + header_bytes;

    let mut tensors: Vec<_> = parse_header(source, &header)?.into_iter().collect();
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut covered = 0;
    for (name, Tensor { dtype, shape, data_offsets: [begin, end] }) in tensors {
        let Some(bytes) = end.checked_sub(begin) else {
            return Err(source.malformed("data_offsets in order", format!("[{begin}, {end}]")).tensor(&name));
        };
        if begin != covered {
            let expected = format!("data that begins at {covered}, where the tensor before ends");
            return Err(source
                .malformed(expected, format!("data_offsets [{begin}, {end}] (an overlap or a hole)"))
                .tensor(&name));
        }
        covered = end;
        let dtype = dtype_of(source, &name, &dtype)?;
        let Some(offset) = data.checked_add(begin) else {
            return Err(source.malformed("offsets within the file", format!("[{begin}, {end}]")).tensor(&name));
        };
        catalog.push(source, Entry { name, dtype, shape, file, offset, bytes })?;
    }
    // No overflow: the last entry was checked to end within the file, and without one `covered` is zero.
    if data + covered != source.len() {
        let expected = format!("a file of {} bytes, as the header says", data + covered);
        return Err(source.malformed(expected, format!("{} bytes", source.len())));
    }
    Ok(())
}

fn parse_header(source: &Source, header: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let padding = header.iter().rev().take_while(|&&byte| byte == b' ').count();
    let object = &header[..header.len() - padding];
    if !(object.starts_with(b"{") && object.ends_with(b"}")) {
        return Err(source.malformed(
            "a JSON object, padded with nothing but spaces at its end",
            "other bytes (is this a safetensors file?)",
        ));
    }
    let header: Header = json::parse(object).map_err(|error| {
        source.malformed("a header of tensors with dtype, shape and data_offsets", format!("JSON where {error}"))
    })?;
    Ok(header.0)
}

fn dtype_of(source: &Source, name: &str, dtype: &str) -> Result<Dtype> {
    use Dtype::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8};
    let known = [F64, F32, F16, BF16, I8, U8, I16, I32, I64, Bool];
    known.into_iter().find(|known| known.name() == dtype).ok_or_else(|| {
        let names: Vec<_> = known.map(Dtype::name).into();
        source
            .unsupported(format!("a dtype of {}", names.join(", ")), format!("unsupported dtype {dtype:?}"))
            .tensor(name)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

struct Header(BTreeMap<String, Tensor>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// By hand, because `__metadata__` has another type than its siblings.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Header, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if key == METADATA_KEY {
                access.next_value::<BTreeMap<String, String>>()?;
            } else {
                tensors.insert(key, access.next_value()?);
            }
        }
        Ok(Header(tensors))
    }
}
