//! The report as one HTML page that needs nothing but itself: no network, no fonts, and no script except to filter the tables.
//!
//! Names and notes come from the input. They reach the page only through `Html`, and the page forbids itself to load anything.

use super::plots::{self, Detail};
use super::tally::{Tally, Totals};
use super::{Report, Size, put, table};
use crate::numbers::{Html, bits, bytes, count, factor, percent, weights};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

const HERO: Detail = Detail { merge: 1, height: 480, end: 4 };
const PANEL: Detail = Detail { merge: 1, height: 192, end: 3 };
const THUMB: Detail = Detail { merge: 2, height: 80, end: 3 };

/// The page.
pub fn page(report: &Report) -> String {
    let totals = Totals::of(report);
    let mut out = String::with_capacity(1 << 20);
    put!(
        out,
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{} – sbnc report</title>
<style>
{STYLE}</style></head>
<body>
"#,
        Html(&report.output)
    );
    header(&mut out, report, &totals);
    notes(&mut out, report);
    sizes(&mut out, report, &totals);
    costs(&mut out, report, &totals);
    distributions(&mut out, &totals);
    zeros(&mut out, &totals);
    tensors(&mut out, report, &totals);
    put!(out, "<script>\n{SCRIPT}</script>\n</body></html>\n");
    out
}

fn header(out: &mut String, report: &Report, totals: &Totals) {
    let total = &totals.total;
    put!(out, "<header><h1>{} <span>→ {}</span></h1>", Html(&report.input), Html(&report.output));
    put!(
        out,
        r#"<p class="model">{}</p>"#,
        Html(report.model.as_deref().unwrap_or("Weights without a model description"))
    );
    put!(out, r#"<dl class="facts">"#);
    let mut fact = |name: &str, value: &str, detail: &str| {
        put!(out, "<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>", Html(value), Html(detail));
    };
    let sizes = format!("{} → {}", bytes(report.input_bytes), bytes(report.output_bytes));
    fact("Compression", &factor(report.input_bytes, report.output_bytes), &sizes);
    let of_all = format!("of {} in all", weights(totals.all_weights));
    fact("Ternary weights", &weights(total.weights), &of_all);
    let each = format!("scales included, {} tensors", count(totals.tensors as u64));
    let stored = totals.ternary_bits / total.weights.max(1) as f64;
    fact("Bits per ternary weight", &bits(stored), &each);
    let origin = match (total.groups > 0, report.pattern.as_str()) {
        (true, _) => "imposed by a mask",
        (false, "dense") => "no mask was applied",
        (false, _) => "checked, not imposed",
    };
    fact("Pattern", &report.pattern, origin);
    let (natural, cut) = (percent(total.natural_share(), 1.0), percent(total.cut_share(), 1.0));
    let whence = match (total.is_quantised(), total.cut) {
        (true, 0) => "all of them natural".to_owned(),
        (true, _) => format!("{natural} natural + {cut} cut"),
        (false, _) => "as they were in the source".to_owned(),
    };
    fact("Zeros", &percent(total.natural_share() + total.cut_share(), 1.0), &whence);
    put!(out, r#"</dl><dl class="ids"><dt>root digest</dt><dd><code>{}</code></dd>"#, Html(&report.root));
    put!(out, "<dt>content digest</dt><dd><code>{}</code></dd>", Html(&report.content));
    put!(out, "<dt>source</dt><dd>{}</dd>", Html(&report.kind));
    put!(out, "<dt>compiler</dt><dd>{}</dd></dl></header>\n", Html(&report.compiler));
}

fn notes(out: &mut String, report: &Report) {
    if report.notes.is_empty() {
        return;
    }
    put!(out, r#"<section><h2>Notes</h2><ul class="notes">"#);
    for note in &report.notes {
        put!(out, "<li>{}</li>", Html(note));
    }
    put!(out, "</ul></section>\n");
}

fn sizes(out: &mut String, report: &Report, totals: &Totals) {
    if report.sizes.is_empty() {
        return;
    }
    let mut sizes: Vec<&Size> = report.sizes.iter().collect();
    sizes.sort_by_key(|size| size.bytes);
    let largest = sizes.last().map_or(1, |size| size.bytes.max(1)) as f64;
    put!(
        out,
        r#"<section><h2>Size</h2><p class="lead">The same model in other forms. Tensors that are not ternary count as they are here, except in bf16.</p>"#
    );
    put!(
        out,
        r#"<table class="bars"><thead><tr><th></th><th></th><th>size</th><th>bits/weight</th><th>× this file</th></tr></thead><tbody>"#
    );
    for size in sizes {
        let here = size.form == Size::HERE;
        let (row, bar) = if here { (r#" class="strong""#, "here") } else { ("", "there") };
        put!(out, r#"<tr{row}><th class="l">{}</th><td class="w">"#, Html(&size.form));
        plots::shares(out, &[(bar, size.bytes as f64 / largest)]);
        let each = size.bytes as f64 * 8.0 / totals.all_weights.max(1) as f64;
        put!(out, "</td><td>{}</td><td>{}</td>", bytes(size.bytes), bits(each));
        put!(out, "<td>{}</td></tr>", factor(size.bytes, report.output_bytes));
    }
    put!(out, "</tbody></table></section>\n");
}

fn costs(out: &mut String, report: &Report, totals: &Totals) {
    if report.costs.is_empty() {
        return;
    }
    let natural = totals.total.natural_share();
    put!(
        out,
        r#"<section><h2>What a pattern would cost</h2><p class="lead">Nothing was cut: this model has no N:M pattern. Masking it now, without training it for the mask, would remove these non-zeros.</p>"#
    );
    put!(
        out,
        r#"<table class="bars"><thead><tr><th></th><th></th><th>would be cut</th><th>groups that fit already</th></tr></thead><tbody>"#
    );
    for cost in &report.costs {
        put!(out, r#"<tr><th class="l">{}</th><td class="w">"#, Html(&cost.pattern));
        plots::shares(out, &[("z", natural), ("c", cost.removed), ("nz", 1.0 - natural - cost.removed)]);
        let (removed, fit) = (percent(cost.removed, 1.0), percent(cost.natural_groups, 1.0));
        put!(out, "</td><td>{removed}</td><td>{fit}</td></tr>");
    }
    put!(out, r#"</tbody></table><p class="legend">"#);
    plots::key(out, "z", &format!("natural zeros {}", percent(natural, 1.0)));
    plots::key(out, "c", "non-zeros that the mask would cut");
    plots::key(out, "nz", "non-zeros that would stay");
    put!(out, "</p></section>\n");
}

fn distributions(out: &mut String, totals: &Totals) {
    if !totals.total.is_quantised() {
        return;
    }
    put!(
        out,
        r#"<section><h2>Distribution of weight ÷ scale</h2><p class="lead">Weights within ±0.5 scales round to zero, the others to −1 or +1. "#
    );
    let cut = totals.total.cut > 0;
    put!(out, "{}", if cut { "The mask then cuts the smallest non-zeros of a group that has too many. " } else { "" });
    put!(
        out,
        "The scale is the mean of |weight| before any mask. Not drawn: {} at and beyond ±4.</p>",
        percent(plots::beyond(&totals.total), 1.0)
    );
    plots::legend(out, &totals.total);
    put!(out, r#"<div class="hero">"#);
    plots::thresholds(out, HERO);
    plots::distribution(out, &totals.total, HERO);
    plots::scale_axis(out, HERO);
    put!(out, r#"</div><h3>By projection</h3><div class="panels">"#);
    for kind in totals.kinds.iter().filter(|kind| kind.total.is_quantised()) {
        put!(out, r#"<div class="panel"><h4>{}</h4><p>{}</p>"#, Html(&kind.name), zeros_line(&kind.total));
        plots::distribution(out, &kind.total, PANEL);
        plots::scale_axis(out, PANEL);
        put!(out, "</div>\n");
    }
    put!(
        out,
        r#"</div><h3>Layer by layer</h3><p class="lead">Each from −{0} to {0} scales, to its own height.</p>"#,
        THUMB.end
    );
    for kind in totals.kinds.iter().filter(|kind| kind.total.is_quantised() && kind.layers.len() > 1) {
        put!(out, r#"<div class="strip"><h4>{}</h4><div class="thumbs">"#, Html(&kind.name));
        for (layer, tally) in &kind.layers {
            put!(out, r#"<div title="{}">"#, zeros_line(tally));
            plots::distribution(out, tally, THUMB);
            match layer {
                Some(layer) => put!(out, "{layer}</div>"),
                None => put!(out, "–</div>"),
            }
        }
        put!(out, "</div></div>\n");
    }
    put!(out, "</section>\n");
}

fn zeros_line(tally: &Tally) -> String {
    let natural = percent(tally.natural_share(), 1.0);
    match (tally.is_quantised(), tally.cut) {
        (true, 0) => format!("{natural} natural zeros"),
        (true, _) => format!("{natural} natural zeros, {} cut", percent(tally.cut_share(), 1.0)),
        (false, _) => format!("{natural} zeros"),
    }
}

fn zeros(out: &mut String, totals: &Totals) {
    if totals.kinds.is_empty() {
        return;
    }
    put!(
        out,
        r#"<section><h2>Zeros per layer</h2><p class="lead">Share of all weights of a projection, from the first layer to the last.</p>"#
    );
    put!(out, r#"<p class="legend">"#);
    let quantised = totals.total.is_quantised();
    plots::key(out, "z", if quantised { "natural zeros" } else { "zeros" });
    if totals.total.cut > 0 {
        plots::key(out, "c", "cut by the mask");
    }
    plots::key(
        out,
        "paper",
        "42 %: natural zeros of ternary weights trained without a mask, as the Sparse-BitNet paper reports them",
    );
    put!(out, r#"</p><div class="panels">"#);
    let end = plots::zeros_end(&totals.kinds);
    for kind in &totals.kinds {
        put!(out, r#"<div class="panel"><h4>{}</h4><p>{}</p>"#, Html(&kind.name), zeros_line(&kind.total));
        plots::zeros(out, kind, end);
        put!(out, "</div>\n");
    }
    put!(out, "</div></section>\n");
}

fn tensors(out: &mut String, report: &Report, totals: &Totals) {
    let filter = r#"<input data-filter hidden type="search" placeholder="filter by name, such as 29 down" aria-label="filter tensors by name">"#;
    put!(out, "<section><h2>Ternary tensors</h2>{filter}");
    plots::legend(out, &totals.total);
    table::ternary(out, report, &totals.total);
    put!(out, "</section>\n");
    if report.tensors.len() > totals.tensors {
        put!(out, r#"<section><h2>Other tensors</h2>"#);
        table::others(out, report);
        put!(out, "</section>\n");
    }
}
