//! The drawings of the page: distributions, zeros per layer, bars. Inline SVG stretches to any width and holds no text; numbers stand
//! around it as HTML, so they keep their size.

use std::ops::Range;

use super::tally::{Kind, PAPER_ZEROS, Tally};
use super::{HISTOGRAM_END, put};
use crate::numbers::{Html, percent};

/// Distance of the rounding threshold from zero, in scales.
const THRESHOLD: f64 = 0.5;

/// How finely a distribution is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    /// Bins of the statistics per step of the drawing.
    pub(super) merge: usize,
    /// Steps of height.
    pub(super) height: u64,
    /// The drawing reaches from −`end` to `end` scales.
    pub(super) end: i32,
}

/// The share of weights too far out for the histogram's range: its end bins hold them, and would look like peaks.
pub(super) fn beyond(tally: &Tally) -> f64 {
    let ends = tally.histogram.first().into_iter().chain(tally.histogram.last()).sum::<u64>();
    ends as f64 / tally.weights.max(1) as f64
}

/// The distribution of weight ÷ scale: what became −1, 0 and +1, and on top what the mask cut.
pub(super) fn distribution(out: &mut String, tally: &Tally, detail: Detail) {
    let per_unit = tally.histogram.len() as f64 / (2.0 * HISTOGRAM_END);
    let outside = ((HISTOGRAM_END - f64::from(detail.end)) * per_unit) as usize;
    let merged = |bins: &[u64]| -> Vec<u64> {
        let mut bins = bins.to_vec();
        bins.first_mut().into_iter().for_each(|end| *end = 0);
        bins.last_mut().into_iter().for_each(|end| *end = 0);
        let drawn = bins.get(outside..bins.len() - outside).unwrap_or_default();
        drawn.chunks(detail.merge).map(|bins| bins.iter().sum()).collect()
    };
    let (all, removed) = (merged(&tally.histogram), merged(&tally.removed));
    let kept: Vec<u64> = all.iter().zip(&removed).map(|(all, removed)| all.saturating_sub(*removed)).collect();
    let (bins, height) = (all.len(), detail.height);
    let edge = |at: f64| (at * per_unit / detail.merge as f64 + bins as f64 / 2.0) as usize;
    let (low, high) = (edge(-THRESHOLD), edge(THRESHOLD));
    let top = all.iter().copied().max().unwrap_or(0).max(1);

    put!(out, r#"<svg viewBox="0 0 {bins} {height}" preserveAspectRatio="none" aria-hidden="true">"#);
    if tally.cut > 0 {
        put!(out, r#"<path class="c" d=""#);
        steps(out, &all, 0..low, top, height);
        steps(out, &all, high..bins, top, height);
        put!(out, r#""/>"#);
    }
    for (class, range) in [("n", 0..low), ("z", low..high), ("p", high..bins)] {
        put!(out, r#"<path class="{class}" d=""#);
        steps(out, &kept, range, top, height);
        put!(out, r#""/>"#);
    }
    put!(out, r#"<path class="at" d="M{low} 0V{height}M{high} 0V{height}"/></svg>"#);
}

/// The outline of some bins, closed along the base.
fn steps(out: &mut String, bins: &[u64], range: Range<usize>, top: u64, height: u64) {
    let Some(filled) = bins.get(range.clone()).and_then(|run| {
        let first = run.iter().position(|&count| count > 0)?;
        let last = run.iter().rposition(|&count| count > 0)?;
        Some(range.start + first..range.start + last + 1)
    }) else {
        return;
    };
    put!(out, "M{} {height}", filled.start);
    let mut run = (0, None);
    for &count in &bins[filled] {
        let y = height - (count as f64 / top as f64 * height as f64).round() as u64;
        if run.1.is_some_and(|last| last != y) {
            put!(out, "h{}", run.0);
            run.0 = 0;
        }
        if run.1 != Some(y) {
            put!(out, "V{y}");
        }
        run = (run.0 + 1, Some(y));
    }
    put!(out, "h{}V{height}z", run.0);
}

/// The axis below a distribution, with a number at every scale.
pub(super) fn scale_axis(out: &mut String, detail: Detail) {
    put!(out, r#"<div class="x">"#);
    for tick in -detail.end..=detail.end {
        let left = f64::from(tick + detail.end) / f64::from(2 * detail.end) * 100.0;
        let sign = if tick < 0 { "−" } else { "" };
        put!(out, r#"<span style="left:{left:.2}%">{sign}{}</span>"#, tick.abs());
    }
    put!(out, "</div>");
}

/// The marks of the two thresholds above a distribution.
pub(super) fn thresholds(out: &mut String, detail: Detail) {
    let end = f64::from(detail.end);
    let left = |at: f64| (at + end) / (2.0 * end) * 100.0;
    let (low, high) = (left(-THRESHOLD), left(THRESHOLD));
    put!(out, r#"<div class="x top"><span style="left:{low}%">−{THRESHOLD}</span>"#);
    put!(out, r#"<span style="left:{high}%">+{THRESHOLD}</span></div>"#);
}

/// Zeros per layer of a kind: natural ones, and above them those of the mask. `end` is the share at the top of the plot.
pub(super) fn zeros(out: &mut String, kind: &Kind, end: f64) {
    const BAR: usize = 8;
    const STEP: usize = 10;
    const HEIGHT: f64 = 200.0;
    let y = |share: f64| (HEIGHT * (1.0 - share / end)).round();
    let width = STEP * kind.layers.len() - (STEP - BAR);
    put!(out, r#"<div class="framed"><div class="y">"#);
    for quarter in 0..=(end * 4.0) as u32 {
        let tick = f64::from(quarter) / 4.0;
        put!(out, r#"<span style="top:{:.1}%">{:.0} %</span>"#, 100.0 * (1.0 - tick / end), 100.0 * tick);
    }
    put!(out, r#"</div><svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">"#);
    put!(out, r#"<path class="grid" d=""#);
    for quarter in 0..=(end * 4.0) as u32 {
        put!(out, "M0 {}h{width}", y(f64::from(quarter) / 4.0));
    }
    for class in ["z", "c"] {
        put!(out, r#""/><path class="{class}" d=""#);
        for (i, tally) in kind.layers.values().enumerate() {
            let (natural, zeros) = (tally.natural_share(), tally.natural_share() + tally.cut_share());
            let (base, top) = if class == "z" { (y(0.0), y(natural)) } else { (y(natural), y(zeros)) };
            if base > top {
                put!(out, "M{} {base}V{top}h{BAR}V{base}z", i * STEP);
            }
        }
    }
    put!(out, r#""/><path class="paper" d="M0 {0}h{width}"/></svg></div>"#, y(PAPER_ZEROS));
    layer_axis(out, kind);
}

/// The first, the middle and the last layer, below their bars.
fn layer_axis(out: &mut String, kind: &Kind) {
    let layers: Vec<_> = kind.layers.keys().collect();
    let mut shown = vec![0, layers.len() / 2, layers.len() - 1];
    shown.dedup();
    put!(out, r#"<div class="x inset">"#);
    for i in shown {
        let left = (i as f64 + 0.5) / layers.len() as f64 * 100.0;
        put!(out, r#"<span style="left:{left:.1}%">"#);
        match layers[i] {
            Some(layer) => put!(out, "{layer}</span>"),
            None => put!(out, "all</span>"),
        }
    }
    put!(out, "</div>");
}

/// The share at the top of all plots of zeros: the next quarter, and room for the paper's line.
pub(super) fn zeros_end(kinds: &[Kind]) -> f64 {
    let shares = kinds.iter().flat_map(|kind| kind.layers.values()).map(|t| t.natural_share() + t.cut_share());
    (shares.fold(PAPER_ZEROS, f64::max) * 4.0).ceil().clamp(1.0, 4.0) / 4.0
}

/// A bar of shares of one, left to right.
pub(super) fn shares(out: &mut String, shares: &[(&str, f64)]) {
    const LENGTH: f64 = 500.0;
    put!(out, r#"<svg class="bar" viewBox="0 0 {LENGTH} 8" preserveAspectRatio="none" aria-hidden="true">"#);
    let mut sum = 0.0;
    for &(class, share) in shares {
        let (from, to) = ((sum * LENGTH).round(), ((sum + share) * LENGTH).round());
        if to > from {
            put!(out, r#"<path class="{class}" d="M{from} 0h{}v8h-{0}z"/>"#, to - from);
        }
        sum += share;
    }
    put!(out, "</svg>");
}

/// The trits of a tally, as shares of one in the order −1, natural zeros, zeros of the mask, +1.
pub(super) fn trits(tally: &Tally) -> Vec<(&'static str, f64)> {
    let whole = tally.weights.max(1) as f64;
    let (natural, cut) = (tally.natural_share(), tally.cut_share());
    match tally.signs {
        Some([negative, positive]) => {
            vec![("n", negative as f64 / whole), ("z", natural), ("c", cut), ("p", positive as f64 / whole)]
        }
        None => vec![("z", natural), ("nz", 1.0 - natural)],
    }
}

/// What the colours mean, each with its share.
pub(super) fn legend(out: &mut String, tally: &Tally) {
    put!(out, r#"<p class="legend">"#);
    for (class, share) in trits(tally) {
        let what = match class {
            "n" => "−1",
            "z" if tally.is_quantised() => "natural zeros",
            "z" => "zeros",
            "c" if tally.cut == 0 => continue,
            "c" => "cut by the mask",
            "p" => "+1",
            _ => "±1",
        };
        key(out, class, &format!("{what} {}", percent(share, 1.0)));
    }
    put!(out, "</p>");
}

/// One entry of a legend.
pub(super) fn key(out: &mut String, class: &str, text: &str) {
    put!(out, r#"<span><svg class="key" viewBox="0 0 12 12" aria-hidden="true"><path class="{class}" d="#);
    let shape = if class == "paper" { "M0 6h12" } else { "M0 0h12v12H0z" };
    put!(out, r#""{shape}"/></svg>{}</span> "#, Html(text));
}
