//! Filling the report.

use std::path::Path;

use sbnc_format::writer::Sealed;
use sbnc_format::{Digest, Pattern};

use super::input::file_name;
use super::layout::Chosen;
use super::{Prepared, provenance};
use crate::checkpoint::Entry;
use crate::error::Result;
use crate::family::Planned;
use crate::report::{PatternCost, Report, Size, TensorReport};

/// The report of a tensor before its weights are known.
pub(super) fn tensor(planned: &Planned, entry: &Entry, chosen: &Chosen) -> TensorReport {
    let elements: u64 = planned.shape.iter().product();
    let ternary = chosen.packing.encoding.is_ternary();
    let (cols, rows) = (planned.shape[planned.shape.len() - 1], elements / planned.shape[planned.shape.len() - 1]);
    let has_scales = ternary || chosen.packing.encoding == sbnc_format::Encoding::I8;
    let data = chosen.packing.data_bytes(rows, cols).unwrap_or(0);
    let stored_bytes = data + if has_scales { 4 * rows } else { 0 };
    TensorReport {
        name: planned.name.clone(),
        role: planned.role.key().to_owned(),
        layer: layer_of(&planned.name),
        shape: planned.shape.clone(),
        source_dtype: entry.dtype.name().to_owned(),
        encoding: chosen.name(),
        pattern: ternary.then(|| chosen.packing.pattern.to_string()),
        source_bits: entry.bytes as f64 * 8.0 / elements as f64,
        stored_bits: stored_bytes as f64 * 8.0 / elements as f64,
        stored_bytes,
        left: (!ternary).then(|| why_left(planned)),
        int8_error: None,
        zeros: None,
        parts: Vec::new(),
    }
}

/// The first number between dots in a name.
fn layer_of(name: &str) -> Option<u64> {
    name.split('.').find_map(|part| part.parse().ok())
}

fn why_left(planned: &Planned) -> String {
    use crate::family::Role;
    let why = match planned.role {
        Role::Embed => "rows are looked up, not multiplied",
        Role::Head => "the trainer leaves the output head unquantised",
        Role::QBias | Role::KBias | Role::VBias | Role::OBias | Role::GateBias | Role::UpBias | Role::DownBias => {
            "a bias is added, not multiplied"
        }
        Role::Q | Role::K | Role::V | Role::Qkv | Role::O | Role::Gate | Role::Up | Role::GateUp | Role::Down => {
            "the configuration excludes it from quantisation"
        }
        Role::Linear | Role::Other => "not selected",
        _ => "a norm's weight is a vector",
    };
    why.to_owned()
}

/// The report of a compilation.
pub(super) fn report(
    prepared: &Prepared<'_>,
    output: &Path,
    sealed: &Sealed,
    content: Digest,
    bytes: u64,
    tensors: Vec<TensorReport>,
) -> Result<Report> {
    let plan = &prepared.plan;
    let sources: Vec<String> = prepared.input.checkpoint().sources().iter().map(|s| file_name(s.path())).collect();
    let model = plan.model.as_ref().map(|m| {
        let tied = if m.tied { ", tied head" } else { "" };
        format!(
            "{}: {} layers, hidden {}, feed-forward {}, heads {}/{}, vocabulary {}{tied}",
            m.family, m.layers, m.hidden, m.intermediate, m.heads, m.kv_heads, m.vocab
        )
    });
    let pattern = plan.pattern.and_then(|(n, m)| Pattern::new(n, m)).unwrap_or(Pattern::DENSE);
    Ok(Report {
        input: sources.join(", "),
        output: file_name(output),
        compiler: provenance::COMPILER.to_owned(),
        kind: plan.kind.name().to_owned(),
        model,
        pattern: pattern.to_string(),
        root: sealed.root().to_string(),
        content: content.to_string(),
        input_bytes: plan.tensors.iter().filter_map(|t| prepared.input.entry(&t.name).ok()).map(|e| e.bytes).sum(),
        output_bytes: bytes,
        sizes: sizes(&tensors, bytes),
        costs: costs(&tensors),
        notes: prepared.notes.clone(),
        tensors,
    })
}

/// The same tensors in other forms: their ternary encodings for the linears (whole blocks and scales included), and for the rest what it takes here.
fn sizes(tensors: &[TensorReport], bytes: u64) -> Vec<Size> {
    let sum = |ternary: fn(&TensorReport) -> u64| {
        tensors.iter().map(|t| if t.zeros.is_some() { ternary(t) } else { t.stored_bytes }).sum()
    };
    let elements = |t: &TensorReport| t.shape.iter().product::<u64>();
    fn blocks(t: &TensorReport, bytes: u64) -> u64 {
        let (rows, cols) = (t.shape[0], t.shape[1]);
        rows * cols.div_ceil(256) * bytes
    }
    let bf16 = tensors.iter().map(|t| 2 * elements(t)).sum();
    [
        (Size::HERE, bytes),
        ("GGUF TQ1_0", sum(|t| blocks(t, 54))),
        ("GGUF TQ2_0", sum(|t| blocks(t, 66))),
        ("I2_S", sum(|t| t.shape.iter().product::<u64>() / 4 + 32)),
        ("bf16", bf16),
    ]
    .into_iter()
    .map(|(form, bytes)| Size { form: form.to_owned(), bytes })
    .collect()
}

/// What the patterns of all parts would cut together.
fn costs(tensors: &[TensorReport]) -> Vec<PatternCost> {
    let parts = || tensors.iter().flat_map(|t| &t.parts);
    ["2:4", "6:8"]
        .into_iter()
        .filter_map(|pattern| {
            let cuts = || parts().flat_map(|p| &p.costs).filter(|c| c.pattern == pattern);
            let (removed, groups, violated) =
                cuts().fold((0, 0, 0), |(r, g, v), c| (r + c.removed, g + c.groups, v + c.violated_groups));
            let width = if pattern == "2:4" { 4 } else { 8 };
            (groups > 0).then(|| PatternCost {
                pattern: pattern.to_owned(),
                removed: removed as f64 / (groups * width) as f64,
                natural_groups: 1.0 - violated as f64 / groups as f64,
            })
        })
        .collect()
}
