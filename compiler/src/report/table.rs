//! The tables of tensors: those that are ternary with what happened to their weights, and the others with the reason.

use super::plots;
use super::tally::Tally;
use super::{Report, TensorReport, put};
use crate::numbers::{Html, bits, bytes, count, percent, rare, scale};

/// More scales than this are shown as a range.
const SCALES_SHOWN: usize = 3;

/// A column of the table of ternary tensors: its head, what it means, and the cell of a tensor.
type Column = (&'static str, &'static str, fn(&Row<'_>) -> String);

/// A ternary tensor, or the sum of all.
struct Row<'a> {
    tensor: Option<&'a TensorReport>,
    tally: Tally,
    stored_bits: f64,
    source_bits: f64,
}

/// All ternary tensors and their sum. Columns that nothing is known for are left out.
pub(super) fn ternary(out: &mut String, report: &Report, total: &Tally) {
    let rows: Vec<Row<'_>> = report.tensors.iter().filter_map(Row::of).collect();
    let sum = Row::sum(&rows, total);
    let columns = columns(total);
    put!(out, r#"<div class="scroll"><table class="tensors"><thead><tr><th class="l">tensor</th>"#);
    for (head, _, _) in &columns {
        let class = if is_left(head) { r#" class="l""# } else { "" };
        put!(out, r#"<th{class}>{head}</th>"#);
    }
    put!(out, "</tr></thead>\n<tbody>");
    for row in &rows {
        let name = row.tensor.map_or("", |tensor| &tensor.name);
        cells(out, name, row, &columns);
    }
    put!(out, "</tbody><tfoot>");
    cells(out, &format!("all {}", count(rows.len() as u64)), &sum, &columns);
    put!(out, r#"</tfoot></table></div><p class="columns">"#);
    for (head, meaning, _) in &columns {
        put!(out, "<b>{head}</b> {meaning}. ");
    }
    put!(out, "</p>");
}

fn cells(out: &mut String, name: &str, row: &Row<'_>, columns: &[Column]) {
    put!(out, r#"<tr><th class="l">{}</th>"#, Html(name));
    for (head, _, cell) in columns {
        let class = if is_left(head) { r#" class="l""# } else { "" };
        put!(out, "<td{class}>{}</td>", cell(row));
    }
    put!(out, "</tr>\n");
}

fn is_left(head: &str) -> bool {
    matches!(head, "shape" | "encoding" | "N:M" | "trits")
}

fn columns(total: &Tally) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        ("shape", "outputs × inputs", |row| row.tensor.map_or(String::new(), shape)),
        ("encoding", "how the trits are stored", |row| {
            row.tensor.map_or(String::new(), |t| Html(&t.encoding).to_string())
        }),
        ("N:M", "at most N non-zeros in M consecutive inputs", |row| {
            row.tensor.and_then(|t| t.pattern.as_deref()).map_or(String::new(), |pattern| Html(pattern).to_string())
        }),
        ("trits", "shares of −1, zeros, zeros of the mask, +1", |row| {
            let mut bar = String::new();
            plots::shares(&mut bar, &plots::trits(&row.tally));
            bar
        }),
    ];
    let zeros = if total.is_quantised() { "natural zeros" } else { "zeros" };
    columns.push((zeros, "weights that round to zero by themselves, of all weights", |row| {
        percent(row.tally.natural as f64, row.tally.weights as f64)
    }));
    if total.groups > 0 {
        columns.push(("cut", "non-zeros that the mask removed, of all weights", |row| {
            percent(row.tally.cut as f64, row.tally.weights as f64)
        }));
        columns.push(("violated", "groups with too many non-zeros before the mask, of all groups", |row| {
            percent(row.tally.violated as f64, row.tally.groups as f64)
        }));
        columns.push((
            "ties",
            "groups where two equal weights competed and the lower index won, of all groups",
            |row| rare(row.tally.tied, row.tally.groups),
        ));
    }
    if total.is_quantised() {
        columns.push(("near", "weights within 0.001 of the threshold, of all weights", |row| {
            rare(row.tally.near, row.tally.weights)
        }));
        columns.push(("scale", "mean of |weight|; fused tensors have one for each part", |row| {
            row.tensor.map_or(String::new(), scales)
        }));
    }
    columns.push(("bits/weight", "in the source → in the file, scales included", |row| {
        format!("{} → {}", bits(row.source_bits), bits(row.stored_bits))
    }));
    columns
}

impl<'a> Row<'a> {
    fn of(tensor: &'a TensorReport) -> Option<Self> {
        let (stored_bits, source_bits) = (tensor.stored_bits, tensor.source_bits);
        Some(Self { tensor: Some(tensor), tally: Tally::of(tensor)?, stored_bits, source_bits })
    }

    fn sum(rows: &[Self], total: &Tally) -> Self {
        let mean = |of: fn(&Self) -> f64| {
            rows.iter().map(|row| of(row) * row.tally.weights as f64).sum::<f64>() / total.weights.max(1) as f64
        };
        let (stored_bits, source_bits) = (mean(|row| row.stored_bits), mean(|row| row.source_bits));
        Self { tensor: None, tally: total.clone(), stored_bits, source_bits }
    }
}

/// All tensors that are not ternary, and why.
pub(super) fn others(out: &mut String, report: &Report) {
    put!(
        out,
        r#"<div class="scroll"><table class="tensors"><thead><tr><th class="l">tensor</th><th class="l">shape</th>"#
    );
    put!(out, r#"<th class="l">source</th><th class="l">encoding</th><th>size</th><th>bits/weight</th>"#);
    put!(out, r#"<th class="l">why it is not ternary</th><th class="l">int8 error</th></tr></thead>"#);
    put!(out, "\n<tbody>");
    for tensor in report.tensors.iter().filter(|tensor| !tensor.is_ternary()) {
        put!(out, r#"<tr><th class="l">{}</th><td class="l">{}</td>"#, Html(&tensor.name), shape(tensor));
        let (source, encoding) = (Html(&tensor.source_dtype), Html(&tensor.encoding));
        put!(out, r#"<td class="l">{source}</td><td class="l">{encoding}</td>"#);
        put!(out, "<td>{}</td>", bytes(tensor.stored_bytes));
        put!(out, "<td>{} → {}</td>", bits(tensor.source_bits), bits(tensor.stored_bits));
        put!(out, r#"<td class="l">{}</td><td class="l">"#, Html(tensor.left.as_deref().unwrap_or("")));
        if let Some([rms, largest]) = tensor.int8_error {
            put!(out, "{} rms, {} at most", percent(rms, 1.0), scale(largest));
        }
        put!(out, "</td></tr>\n");
    }
    put!(out, "</tbody></table></div>");
}

fn shape(tensor: &TensorReport) -> String {
    tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

fn scales(tensor: &TensorReport) -> String {
    let all = || tensor.parts.iter().map(|part| f64::from(part.scale));
    if tensor.parts.len() <= SCALES_SHOWN {
        return all().map(scale).collect::<Vec<_>>().join(", ");
    }
    let (low, high) = all().fold((f64::INFINITY, 0.0), |(low, high), s| (s.min(low), s.max(high)));
    format!("{} – {} ({} parts)", scale(low), scale(high), count(tensor.parts.len() as u64))
}
