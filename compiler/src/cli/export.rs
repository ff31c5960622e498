//! `sbnc export`: back to safetensors, as trits and scales or as the weights that they stand for.

use std::io::Write;
use std::path::Path;

use half::bf16;
use sbnc_format::atomic::AtomicFile;
use sbnc_format::{Encoding, Layout, Packing, TensorView};
use serde_json::{Map, json};

use super::paths::check_outputs;
use super::terminal::{emit, progress};
use crate::error::{Error, Exit, Result};
use crate::numbers::bytes;

/// What to write for a ternary or int8 tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// int8 trits under the tensor's name and f32 scales under `NAME.scale`; nothing else.
    Trits,
    /// Scale times trit as bf16; other tensors as they are.
    Bf16,
    /// Scale times trit as f32; other tensors as they are.
    F32,
}

/// One tensor of the output.
struct Item<'a> {
    name: String,
    view: TensorView<'a>,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    AsStored,
    Trits,
    Scales,
    Product,
}

pub(crate) fn run(path: &Path, output: &Path, form: Form) -> Result<()> {
    check_outputs(&[output], &[path.to_owned()])?;
    let file = super::open(path)?;
    file.require_decodable().map_err(|e| Error::format(path, &e))?;
    // Views are checked before they are decoded: what is exported is what was compiled, or nothing.
    let bar = progress(file.tensors().iter().map(|t| t.stored_bytes).sum(), "verifying");
    file.verify(sbnc_format::Depth::Stored, &|n| bar.inc(n)).result().map_err(|e| Error::format(path, &e))?;
    bar.finish_and_clear();

    let items: Vec<Item<'_>> = file.views().flat_map(|view| items(view, form)).collect();
    if items.is_empty() {
        return Err(Error::new(Exit::Invalid, format!("{}: no ternary tensor to export", path.display())));
    }
    let header = header(&items);
    let total: u64 = items.iter().map(|i| i.bytes).sum();
    let io = |e: std::io::Error| Error::io(output, "write", &e);
    let mut out = AtomicFile::create(output).map_err(|e| Error::io(output, "create the output", &e))?;
    out.reserve(header.len() as u64 + total).map_err(|e| Error::io(output, "reserve room for the output", &e))?;
    out.file().write_all(&header).map_err(io)?;
    let bar = progress(total, "exporting");
    for item in &items {
        write_item(item, &mut |piece| {
            crate::interrupt::check()?;
            bar.inc(piece.len() as u64);
            out.file().write_all(piece).map_err(io)
        })?;
    }
    bar.finish_and_clear();
    crate::interrupt::check()?;
    out.commit().map_err(|e| Error::io(output, "put the output in place", &e))?;
    emit(&format!("{}: {} tensors, {}\n", output.display(), items.len(), bytes(total)))
}

fn items(view: TensorView<'_>, form: Form) -> Vec<Item<'_>> {
    let t = view.tensor();
    let Layout::Known(Packing { encoding, .. }) = t.layout else { return Vec::new() };
    let item = |name: String, dtype, shape: Vec<u64>, width: u64, what| {
        let bytes = shape.iter().product::<u64>() * width;
        Item { name, view, dtype, shape, bytes, what }
    };
    let product = |dtype, width| vec![item(t.name.clone(), dtype, t.shape.clone(), width, What::Product)];
    match (encoding, form) {
        (Encoding::F32, Form::Bf16 | Form::F32) => {
            vec![item(t.name.clone(), "F32", t.shape.clone(), 4, What::AsStored)]
        }
        (Encoding::F16, Form::Bf16 | Form::F32) => {
            vec![item(t.name.clone(), "F16", t.shape.clone(), 2, What::AsStored)]
        }
        (Encoding::Bf16, Form::Bf16 | Form::F32) => {
            vec![item(t.name.clone(), "BF16", t.shape.clone(), 2, What::AsStored)]
        }
        (Encoding::F32 | Encoding::F16 | Encoding::Bf16 | Encoding::I8, Form::Trits) => Vec::new(),
        (_, Form::Trits) => vec![
            item(t.name.clone(), "I8", t.shape.clone(), 1, What::Trits),
            item(format!("{}.scale", t.name), "F32", vec![t.scale_count], 4, What::Scales),
        ],
        (_, Form::Bf16) => product("BF16", 2),
        (_, Form::F32) => product("F32", 4),
    }
}

/// The safetensors header: length, then JSON, padded so that the data is aligned.
fn header(items: &[Item<'_>]) -> Vec<u8> {
    let mut members = Map::new();
    let mut end = 0;
    for item in items {
        let offsets = [end, end + item.bytes];
        end = offsets[1];
        members.insert(item.name.clone(), json!({ "dtype": item.dtype, "shape": item.shape, "data_offsets": offsets }));
    }
    members.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut text = serde_json::Value::Object(members).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

fn write_item(item: &Item<'_>, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    match item.what {
        What::AsStored => item.view.data().chunks(8 << 20).try_for_each(write),
        What::Scales => write(item.view.scale_bytes()),
        What::Trits => each_batch(&item.view, &mut |_, trits| write(bytemuck::cast_slice(trits))),
        What::Product => {
            let scales = item.view.scales();
            let cols = item.view.tensor().matrix().1 as usize;
            let wide = item.dtype == "F32";
            each_batch(&item.view, &mut |first_row, values| {
                let mut out = Vec::with_capacity(values.len() * if wide { 4 } else { 2 });
                for (row, values) in values.chunks_exact(cols).enumerate() {
                    let scale = scales[first_row + row];
                    for &value in values {
                        let product = scale * f32::from(value);
                        if wide {
                            out.extend(product.to_le_bytes());
                        } else {
                            out.extend(bf16::from_f32(product).to_le_bytes());
                        }
                    }
                }
                write(&out)
            })
        }
    }
}

/// Hands out whole rows of trits or int8 values, in order.
fn each_batch(view: &TensorView<'_>, each: &mut dyn FnMut(usize, &[i8]) -> Result<()>) -> Result<()> {
    let Layout::Known(packing) = view.tensor().layout else { return Ok(()) };
    let (rows, cols) = view.tensor().matrix();
    let (rows, cols) = (rows as usize, cols as usize);
    if packing.encoding.is_ternary() {
        return packing.decode_batches(view.data(), (rows, cols), each);
    }
    let rows_each = ((4 << 20) / cols).max(1);
    let batches = view.data().chunks(rows_each * cols).enumerate();
    batches.into_iter().try_for_each(|(i, values)| each(i * rows_each, bytemuck::cast_slice(values)))
}
