//! The report in about ten lines, for the end of `sbnc compile`.

use super::tally::{PAPER_ZEROS, Totals};
use super::{Report, Size, put};
use crate::numbers::{Plain, bits, bytes, count, factor, percent, rare, weights};

/// The lines, each ended.
pub fn summary(report: &Report) -> String {
    let totals = Totals::of(report);
    let total = &totals.total;
    let mut out = String::new();
    let mut line = |label: &str, text: &str| put!(out, "{label:<9}{}\n", Plain(text).to_string().trim_end());

    if let Some(model) = &report.model {
        line("model", model);
    }
    let (from, to) = (bytes(report.input_bytes), bytes(report.output_bytes));
    let each = bits(report.output_bytes as f64 * 8.0 / totals.all_weights.max(1) as f64);
    let smaller = factor(report.input_bytes, report.output_bytes);
    line("size", &format!("{from} → {to}, {smaller} smaller, {each} bits per weight"));
    let beside: Vec<_> = report.sizes.iter().filter(|size| size.form != Size::HERE).collect();
    if !beside.is_empty() {
        let each = beside.iter().map(|size| format!("{} {}", size.form, bytes(size.bytes))).collect::<Vec<_>>();
        line("beside", &each.join(" · "));
    }
    let stored = bits(totals.ternary_bits / total.weights.max(1) as f64);
    let (ternary, all) = (weights(total.weights), weights(totals.all_weights));
    let tensors = count(totals.tensors as u64);
    line("ternary", &format!("{ternary} of {all} weights, in {tensors} tensors, {stored} bits each with scales"));

    let (natural, cut) = (percent(total.natural_share(), 1.0), percent(total.cut_share(), 1.0));
    let zeros = percent(total.natural_share() + total.cut_share(), 1.0);
    let paper = percent(PAPER_ZEROS, 1.0);
    match (total.is_quantised(), total.groups) {
        (true, 0) => line("zeros", &format!("{zeros}, all natural (paper: about {paper})")),
        (true, _) => {
            line("zeros", &format!("{zeros} = {natural} natural (paper: about {paper}) + {cut} cut by the mask"))
        }
        (false, _) => line("zeros", &zeros),
    }
    if total.groups > 0 {
        let violated = percent(total.violated as f64, total.groups as f64);
        let tied = rare(total.tied, total.groups);
        line("mask", &format!("{}: cut into {violated} of the groups, a tie decided in {tied}", report.pattern));
    } else {
        line("pattern", &report.pattern);
    }
    for cost in &report.costs {
        let (removed, fit) = (percent(cost.removed, 1.0), percent(cost.natural_groups, 1.0));
        line("", &format!("{} would cut {removed} of the weights; {fit} of the groups fit already", cost.pattern));
    }
    line("root", &report.root);
    for note in &report.notes {
        line("note", note);
    }
    out
}
