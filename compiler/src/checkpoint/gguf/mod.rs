//! The GGUF container, versions 2 and 3, little-endian: typed metadata, tensor descriptions, aligned tensors.
//!
//! Read for its ternary tensors (TQ1_0, TQ2_0, I2_S) and the plain ones beside them; every other quantisation is refused by name.
//! The format's history is one of unchecked sums, so here every count is bounded, every length is compared with the bytes that are left
//! before anything is allocated, and the tensors must cover the data without overlaps and without more between them than alignment needs.
//!
//! [`decode`] turns ternary blocks into trits.

pub mod decode;
mod metadata;

use super::dtype::Dtype;
use super::entry::{Catalog, Entry, MAX_NAME_BYTES, MAX_TENSORS};
use super::error::Result;
use super::source::Source;
use metadata::Reader;
pub use metadata::{MAX_ARRAY_ITEMS, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_KEYS, Metadata, Value};

/// Dimensions of a GGUF tensor.
pub const MAX_DIMENSIONS: u64 = 4;
/// The largest `general.alignment`.
pub const MAX_ALIGNMENT: u64 = 1 << 16;

const DEFAULT_ALIGNMENT: u64 = 32;

/// Adds the tensors of `source`, file number `file`, and returns the file's metadata.
pub(super) fn read(source: &Source, file: usize, catalog: &mut Catalog) -> Result<Metadata> {
    let mut reader = Reader::new(source);
    check_version(source, &mut reader)?;
    let (tensors, keys) = (reader.u64()?, reader.u64()?);
    source.at_most("a number of tensors", tensors, MAX_TENSORS)?;
    let metadata = reader.metadata(keys)?;
    refuse_split(source, &metadata)?;
    let alignment = alignment(source, &metadata)?;

    let mut described = Vec::new();
    for _ in 0..tensors {
        described.push(describe(source, &mut reader, alignment)?);
    }
    let Some(data) = reader
        .position()
        .checked_next_multiple_of(alignment)
        .filter(|&data| data <= source.len() || described.is_empty())
    else {
        return Err(source.malformed("tensor data after the header", "the end of the file (truncated?)"));
    };

    described.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    let mut end = 0u64;
    for Described { name, dtype, shape, offset, bytes } in described {
        if end.checked_next_multiple_of(alignment) != Some(offset) {
            let expected = format!("data at offset {end}, rounded up to the alignment of {alignment}");
            return Err(source.malformed(expected, format!("offset {offset} (an overlap or a hole)")).tensor(&name));
        }
        let (Some(begin), Some(next)) = (data.checked_add(offset), offset.checked_add(bytes)) else {
            return Err(source.malformed("offsets within the file", format!("{offset}")).tensor(&name));
        };
        catalog.push(source, Entry { name, dtype, shape, file, offset: begin, bytes })?;
        end = next;
    }
    // Every tensor was checked to end within the file; what may follow the last is padding.
    let last = data + end;
    if source.len() > last && source.len() - last >= alignment {
        return Err(source.malformed(
            format!("a file that ends with its last tensor, at byte {last}"),
            format!("{} bytes", source.len()),
        ));
    }
    Ok(metadata)
}

fn check_version(source: &Source, reader: &mut Reader<'_>) -> Result<()> {
    if reader.take(4)? != b"GGUF" {
        return Err(source.malformed("a file that begins with GGUF", "other bytes"));
    }
    let version = reader.u32()?;
    let remedy = "convert it again with a current converter";
    match version {
        2 | 3 => Ok(()),
        _ if (1..=0xffff).contains(&version.swap_bytes()) => {
            Err(source.unsupported("a little-endian GGUF file", "a big-endian one").remedy(remedy))
        }
        _ => Err(source.unsupported("GGUF version 2 or 3", format!("version {version}")).remedy(remedy)),
    }
}

fn refuse_split(source: &Source, metadata: &Metadata) -> Result<()> {
    match metadata.get("split.count").and_then(Value::as_u64) {
        Some(parts @ 2..) => Err(source
            .unsupported("a model in one GGUF file", format!("one of {parts} parts"))
            .remedy("merge the parts first (llama-gguf-split --merge)")),
        _ => Ok(()),
    }
}

fn alignment(source: &Source, metadata: &Metadata) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match *value {
        Value::U32(alignment) if alignment.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&alignment.into()) => {
            Ok(alignment.into())
        }
        _ => {
            let expected = format!("general.alignment: a power of two from 8 to {MAX_ALIGNMENT}, as u32");
            Err(source.malformed(expected, format!("{value:?}")))
        }
    }
}

struct Described {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    offset: u64,
    bytes: u64,
}

fn describe(source: &Source, reader: &mut Reader<'_>, alignment: u64) -> Result<Described> {
    let name = reader.string("a tensor name in bytes", MAX_NAME_BYTES)?;
    let rank = reader.u32()?.into();
    source.at_most("a number of dimensions", rank, MAX_DIMENSIONS).map_err(|error| error.tensor(&name))?;
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(reader.u64()?);
    }
    shape.reverse(); // the file has the innermost dimension first
    let dtype = dtype_of(source, &name, reader.u32()?)?;
    let offset = reader.u64()?;
    if !offset.is_multiple_of(alignment) {
        let expected = format!("an offset that is a multiple of the alignment, {alignment}");
        return Err(source.malformed(expected, format!("{offset}")).tensor(&name));
    }
    let Some(bytes) = dtype.bytes_of(&shape) else {
        let expected =
            format!("rows of whole {dtype} blocks ({} elements) and a size that fits 64 bits", dtype.block().0);
        return Err(source.malformed(expected, format!("shape {shape:?}")).tensor(&name));
    };
    Ok(Described { name, dtype, shape, offset, bytes })
}

/// Type 36 once meant an arrangement of IQ4_NL that no current tool writes; today's files with it hold I2_S.
fn dtype_of(source: &Source, tensor: &str, id: u32) -> Result<Dtype> {
    let name = match id {
        0 => return Ok(Dtype::F32),
        1 => return Ok(Dtype::F16),
        24 => return Ok(Dtype::I8),
        25 => return Ok(Dtype::I16),
        26 => return Ok(Dtype::I32),
        27 => return Ok(Dtype::I64),
        28 => return Ok(Dtype::F64),
        30 => return Ok(Dtype::BF16),
        34 => return Ok(Dtype::Tq1_0),
        35 => return Ok(Dtype::Tq2_0),
        36 => return Ok(Dtype::I2S),
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        38 => "TL1",
        39 => "MXFP4 or TL2",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => "unknown",
    };
    Err(source
        .unsupported("F32, F16, BF16, TQ1_0, TQ2_0 or I2_S", format!("unsupported dtype {name} (type {id})"))
        .tensor(tensor)
        .remedy("compile the latent weights, or a ternary GGUF file whose other tensors are F16, BF16 or F32"))
}
