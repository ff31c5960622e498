//! `sbnc inspect`: what is in a file, as a table or as JSON.

use std::fmt::Write as _;
use std::path::Path;

use sbnc_format::{Layout, Sbnc, Tensor, section};
use sbnc_runtime::map::Map;
use serde_json::{Value, json};

use super::terminal::{emit, emit_json, table};
use crate::error::{Error, Exit, Result};
use crate::numbers::{bytes, count};

pub(crate) fn run(path: &Path, tensor: Option<&str>, as_json: bool) -> Result<()> {
    let file = super::open(path)?;
    match (tensor, as_json) {
        (None, true) => emit_json(&file_json(&file)),
        (None, false) => emit(&file_text(path, &file)),
        (Some(name), _) => {
            let tensor = file.tensor(name).ok_or_else(|| no_such_tensor(path, &file, name))?.tensor();
            if as_json { emit_json(&tensor_json(tensor)) } else { emit(&tensor_text(tensor)) }
        }
    }
}

fn no_such_tensor(path: &Path, file: &Sbnc<Map>, name: &str) -> Error {
    let similar: Vec<&str> =
        file.tensors().iter().map(|t| t.name.as_str()).filter(|t| t.contains(name)).take(5).collect();
    let hint = if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(", ")) };
    Error::new(Exit::Usage, format!("{}: no tensor '{name}'{hint}", path.display()))
}

/// Everything about a file as JSON.
fn file_json(file: &Sbnc<Map>) -> Value {
    let sections: Vec<Value> = file
        .header()
        .sections
        .iter()
        .map(|s| json!({ "name": section::name(s.kind), "kind": s.kind, "offset": s.offset, "bytes": s.bytes, "digest": s.digest.to_string() }))
        .collect();
    json!({
        "root": file.root().to_string(),
        "content": file.content().to_string(),
        "file_bytes": file.file_bytes(),
        "sections": sections,
        "manifest": serde_json::to_value(file.manifest()).unwrap_or(Value::Null),
        "tensors": file.tensors().iter().map(tensor_json).collect::<Vec<_>>(),
    })
}

fn tensor_json(t: &Tensor) -> Value {
    let (encoding, order) = layout_names(t);
    json!({
        "name": t.name,
        "role": t.role.name(),
        "shape": t.shape,
        "encoding": encoding,
        "order": order,
        "nm": t.pattern().filter(|p| !p.is_dense()).map(|p| p.to_string()),
        "bits_per_weight": t.bits_per_weight(),
        "zero_fraction": t.zero_fraction(),
        "non_zero": t.is_ternary().then_some(t.non_zero),
        "offset": t.offset,
        "stored_bytes": t.stored_bytes,
        "data_bytes": t.data_bytes,
        "scale_count": t.scale_count,
        "digest": t.stored_digest.to_string(),
        "content_digest": t.content_digest.to_string(),
    })
}

fn layout_names(t: &Tensor) -> (String, String) {
    match t.layout {
        Layout::Known(packing) => (packing.encoding.name().to_owned(), packing.order.name().to_owned()),
        Layout::Opaque { encoding, order } => (format!("unknown-{encoding}"), format!("unknown-{order}")),
    }
}

fn file_text(path: &Path, file: &Sbnc<Map>) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key:<10} {value}");
    };
    line("file", format!("{}, {}", path.file_name().unwrap_or_default().to_string_lossy(), bytes(file.file_bytes())));
    line("root", file.root().to_string());
    line("content", file.content().to_string());
    let manifest = file.manifest();
    match &manifest.model {
        Some(m) => line(
            "model",
            format!(
                "{}: {} layers, hidden {}, feed-forward {}, heads {}/{}, vocabulary {}, context {}, {}{}",
                m.family,
                m.layers,
                m.hidden,
                m.intermediate,
                m.heads,
                m.kv_heads,
                count(m.vocab),
                count(m.context),
                m.activation,
                if m.tied { ", tied" } else { "" }
            ),
        ),
        None => line("model", "none: weights only".to_owned()),
    }
    let sources: Vec<&str> = manifest.provenance.sources.iter().map(|s| s.name.as_str()).collect();
    line(
        "source",
        format!("{}: {}, by {}", manifest.provenance.kind, sources.join(", "), manifest.provenance.compiler),
    );
    let files: Vec<String> = manifest.files.iter().map(|f| format!("{} ({})", f.name, bytes(f.raw))).collect();
    if !files.is_empty() {
        line("carries", files.join(", "));
    }
    text.push('\n');
    let sections: Vec<Vec<String>> = file
        .header()
        .sections
        .iter()
        .map(|s| vec![section::name(s.kind).to_owned(), count(s.offset), count(s.bytes)])
        .collect();
    text.push_str(&table(&["section", "offset", "bytes"], &[0], &sections));
    text.push('\n');
    text.push_str(&tensor_table(file.tensors()));
    text.push_str(&totals(file.tensors()));
    text
}

fn tensor_table(tensors: &[Tensor]) -> String {
    let rows: Vec<Vec<String>> = tensors
        .iter()
        .map(|t| {
            let (encoding, order) = layout_names(t);
            let pattern = t.pattern().map_or("-".to_owned(), |p| p.to_string());
            vec![
                t.name.clone(),
                t.role.name().to_owned(),
                t.shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×"),
                if order == "rows" { encoding } else { format!("{encoding}/{order}") },
                pattern,
                format!("{:.3}", t.bits_per_weight()),
                t.zero_fraction().map_or("-".to_owned(), |z| format!("{:.1}%", 100.0 * z)),
                bytes(t.stored_bytes),
                t.stored_digest.to_string()[..12].to_owned(),
            ]
        })
        .collect();
    let head = ["tensor", "role", "shape", "encoding", "N:M", "bits/weight", "zeros", "size", "digest"];
    table(&head, &[0, 1, 3, 4], &rows)
}

fn totals(tensors: &[Tensor]) -> String {
    let sum = |ternary: bool| {
        let chosen = tensors.iter().filter(|t| t.is_ternary() == ternary);
        chosen.fold((0, 0, 0), |(n, e, b), t| (n + 1, e + t.elements(), b + t.stored_bytes))
    };
    let mut text = "\n".to_owned();
    for (what, (tensors, elements, stored)) in [("ternary", sum(true)), ("other", sum(false))] {
        if tensors > 0 {
            let bits = stored as f64 * 8.0 / elements as f64;
            let _ = writeln!(
                text,
                "{tensors} {what} tensors: {} weights in {}, {bits:.3} bits per weight",
                count(elements),
                bytes(stored)
            );
        }
    }
    text
}

fn tensor_text(t: &Tensor) -> String {
    let (encoding, order) = layout_names(t);
    let mut rows = vec![
        ("tensor", t.name.clone()),
        ("role", t.role.name().to_owned()),
        ("shape", t.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")),
        ("encoding", format!("{encoding}, order {order}")),
    ];
    if let Some(pattern) = t.pattern() {
        rows.push(("pattern", pattern.to_string()));
        rows.push(("non-zeros", format!("{} of {}", count(t.non_zero), count(t.elements()))));
    }
    rows.push((
        "size",
        format!(
            "{} bytes at {} of the payload, {:.4} bits per weight",
            count(t.stored_bytes),
            count(t.offset),
            t.bits_per_weight()
        ),
    ));
    rows.push(("scales", count(t.scale_count)));
    rows.push(("digest", t.stored_digest.to_string()));
    rows.push(("content", t.content_digest.to_string()));
    rows.iter().fold(String::new(), |text, (key, value)| format!("{text}{key:<10} {value}\n"))
}
