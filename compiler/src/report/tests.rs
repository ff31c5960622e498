//! The page and the summary, of made-up models and of hostile ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its input should stop")]

use super::{PartReport, PatternCost, Report, Size, TensorReport, html, text};
use crate::quantize;

#[path = "sample.rs"]
mod sample;

use sample::Source;

const MASKED: Source = Source::Latent(Some((2, 4)));
const HOSTILE: &str = "<script>alert('1')</script>\"><img src=x onerror=y>&amp;\u{202e}\u{1b}[2J";

fn sample(source: Source, layers: u64) -> Report {
    sample::report(source, layers).unwrap()
}

fn hostile() -> Report {
    let mut report = sample(MASKED, 2);
    let Report { input, output, compiler, kind, model, pattern, root, content, .. } = &mut report;
    for text in [input, output, compiler, kind, model.as_mut().unwrap(), pattern, root, content] {
        *text = HOSTILE.into();
    }
    report.notes.push(HOSTILE.into());
    report.sizes[1].form = HOSTILE.into();
    report.costs.push(PatternCost { pattern: HOSTILE.into(), removed: f64::NAN, natural_groups: f64::INFINITY });
    for (i, tensor) in report.tensors.iter_mut().enumerate() {
        let TensorReport { name, role, source_dtype, encoding, pattern, left, .. } = tensor;
        *name = format!("{HOSTILE}{i}");
        for text in [role, source_dtype, encoding].into_iter().chain(pattern).chain(left) {
            *text = HOSTILE.into();
        }
        tensor.layer = tensor.layer.map(|layer| u64::MAX - layer);
        tensor.shape = vec![u64::MAX, u64::MAX];
    }
    report
}

/// Panics at a tag that is not closed, or closed by another.
fn check_tags(page: &str) {
    const VOID: [&str; 3] = ["meta", "input", "br"];
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.split([' ', '\n']).next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> before {rest:.60}");
        } else if !name.starts_with('!') && !tag.ends_with('/') && !VOID.contains(&name) {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
            open.push(name);
            if matches!(name, "script" | "style") {
                rest = &rest[rest.find("</").expect("raw text ends")..];
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn pages_are_whole_and_stand_alone() {
    for source in [MASKED, Source::Latent(Some((6, 8))), Source::Latent(None), Source::Packed] {
        let report = sample(source, 3);
        let page = html::page(&report);
        check_tags(&page);
        for absent in ["http://", "https://", "url(", "@import", "src=", "href=", "NaN", "inf"] {
            assert!(!page.contains(absent), "{source:?}: {absent}");
        }
        for tensor in &report.tensors {
            assert_eq!(page.matches(&format!(">{}<", tensor.name)).count(), 1, "{}", tensor.name);
        }
        assert!(report.notes.iter().all(|note| page.contains(note)));
        assert_eq!(page.contains("Distribution of"), source != Source::Packed);
        assert_eq!(page.contains("What a pattern would cost"), !report.costs.is_empty());
        assert_eq!(page.contains("cut by the mask"), matches!(source, Source::Latent(Some(_))));
    }
}

#[test]
fn the_input_cannot_add_markup() {
    let page = html::page(&hostile());
    check_tags(&page);
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img") && !page.contains(['\u{202e}', '\u{1b}']));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)"));
    let summary = text::summary(&hostile());
    assert!(!summary.contains(['\u{202e}', '\u{1b}']));
}

#[test]
fn thirty_layers_are_a_small_page() {
    let page = html::page(&sample(MASKED, 30));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert_eq!(page.matches(r#"<div class="strip">"#).count(), 7);
}

#[test]
fn fused_parts_count_as_their_projections() {
    let mut report = sample(MASKED, 1);
    let part = |report: &Report, role: &str| report.tensors.iter().find(|t| t.role == role).unwrap().parts[0].clone();
    let parts = ["q", "k", "v"].map(|role| part(&report, role));
    report.tensors.retain(|t| !["k", "v"].contains(&t.role.as_str()));
    let q = report.tensors.iter_mut().find(|t| t.role == "q").unwrap();
    q.role = "qkv".into();
    q.parts = parts.to_vec();
    let page = html::page(&report);
    for kind in ["q", "k", "v", "o", "gate", "up", "down"] {
        assert!(page.contains(&format!("<h4>{kind}</h4>")), "{kind}");
    }
    assert!(!page.contains("<h4>qkv</h4>"));
}

#[test]
fn nothing_to_report_is_no_panic() {
    let mut report = sample(MASKED, 0);
    report.tensors.clear();
    report.sizes.clear();
    report.input_bytes = 0;
    report.output_bytes = 0;
    check_tags(&html::page(&report));
    assert!(text::summary(&report).contains("0 B → 0 B"));
}

#[test]
fn the_summary_adds_up() {
    let report = sample(MASKED, 2);
    let summary = text::summary(&report);
    let labels: Vec<_> = summary.lines().map(|line| line[..9].trim_end()).collect();
    assert_eq!(labels, ["model", "size", "beside", "ternary", "zeros", "mask", "root", "note", "note"]);
    let percents = |line: &str| -> Vec<f64> {
        line.split(" %").filter_map(|text| text.rsplit([' ', '(']).next()?.parse().ok()).collect()
    };
    let zeros = percents(summary.lines().nth(4).unwrap());
    assert!((zeros[0] - zeros[1] - zeros[3]).abs() < 0.11, "{zeros:?}");
    assert!(text::summary(&sample(Source::Latent(None), 1)).contains("2:4 would cut"));
}
