//! The statistics of many parts as one: per tensor, per kind of projection and layer, and of the whole model.

use std::collections::BTreeMap;

use super::{PartReport, Report, TensorReport};

/// The paper's share of zeros in ternary weights that no mask has touched.
pub(super) const PAPER_ZEROS: f64 = 0.42;

/// More kinds than any model has: what a file without a model names differently is one kind, `other`.
const MAX_KINDS: usize = 12;

/// Sums over ternary weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) weights: u64,
    /// Zeros before the mask; of tensors that were ternary already, all zeros.
    pub(super) natural: u64,
    /// Non-zeros that the mask removed.
    pub(super) cut: u64,
    /// −1 and +1 in the file, where they were counted.
    pub(super) signs: Option<[u64; 2]>,
    pub(super) groups: u64,
    pub(super) violated: u64,
    pub(super) tied: u64,
    pub(super) near: u64,
    pub(super) subnormal: u64,
    /// Weight ÷ scale, before the mask; empty where nothing was quantised.
    pub(super) histogram: Vec<u64>,
    /// The same of the non-zeros that the mask removed.
    pub(super) removed: Vec<u64>,
}

impl Tally {
    /// The sums of a tensor; `None` if it is not ternary.
    pub(super) fn of(tensor: &TensorReport) -> Option<Self> {
        let mut tally = Self::default();
        if tensor.parts.is_empty() {
            tally.weights = tensor.weights();
            tally.natural = (tensor.zeros? * tally.weights as f64).round() as u64;
        }
        tensor.parts.iter().for_each(|part| tally.add(&Self::of_part(part)));
        Some(tally)
    }

    fn of_part(part: &PartReport) -> Self {
        Self {
            weights: part.before.iter().sum(),
            natural: part.before[1],
            cut: part.removed(),
            signs: Some([part.after[0], part.after[2]]),
            groups: part.groups,
            violated: part.violated_groups,
            tied: part.tied_groups,
            near: part.near_threshold,
            subnormal: part.subnormal,
            histogram: part.histogram.clone(),
            removed: part.removed_histogram.clone(),
        }
    }

    fn add(&mut self, other: &Self) {
        // Exhaustive, so that a new field must be summed.
        let Self { weights, natural, cut, signs, groups, violated, tied, near, subnormal, histogram, removed } = other;
        self.signs = match (self.signs, signs) {
            (Some(mine), Some(theirs)) => Some([mine[0] + theirs[0], mine[1] + theirs[1]]),
            (None, Some(theirs)) if self.weights == 0 => Some(*theirs),
            _ => None,
        };
        self.weights += weights;
        self.natural += natural;
        self.cut += cut;
        self.groups += groups;
        self.violated += violated;
        self.tied += tied;
        self.near += near;
        self.subnormal += subnormal;
        for (mine, theirs) in [(&mut self.histogram, histogram), (&mut self.removed, removed)] {
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Whether these weights were quantised here, from values that have a distribution.
    pub(super) fn is_quantised(&self) -> bool {
        !self.histogram.is_empty()
    }

    /// Share of zeros that no mask made.
    pub(super) fn natural_share(&self) -> f64 {
        share(self.natural, self.weights)
    }

    /// Share of weights that the mask removed.
    pub(super) fn cut_share(&self) -> f64 {
        share(self.cut, self.weights)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// All projections of a kind, such as `down`.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) total: Tally,
    pub(super) layers: BTreeMap<Option<u64>, Tally>,
}

/// The ternary tensors of a report, summed.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Number of ternary tensors.
    pub(super) tensors: usize,
    /// Weights of all tensors, ternary or not.
    pub(super) all_weights: u64,
    /// Bits of the ternary tensors in the file.
    pub(super) ternary_bits: f64,
    pub(super) total: Tally,
    /// In the order in which the file has them.
    pub(super) kinds: Vec<Kind>,
}

impl Totals {
    pub(super) fn of(report: &Report) -> Self {
        let mut totals = Self::default();
        for tensor in &report.tensors {
            totals.all_weights = totals.all_weights.saturating_add(tensor.weights());
            let Some(tally) = Tally::of(tensor) else { continue };
            totals.tensors += 1;
            totals.ternary_bits += tensor.stored_bits * tally.weights as f64;
            totals.total.add(&tally);
            let fused: &[&str] = match (tensor.role.as_str(), tensor.parts.len()) {
                ("qkv", 3) => &["q", "k", "v"],
                ("gate_up", 2) => &["gate", "up"],
                _ => &[],
            };
            if fused.is_empty() {
                totals.kind(kind_of(tensor)).add(tensor.layer, &tally);
            }
            for (name, part) in fused.iter().zip(&tensor.parts) {
                totals.kind(name).add(tensor.layer, &Tally::of_part(part));
            }
        }
        totals
    }

    fn kind(&mut self, name: &str) -> &mut Kind {
        let find = |name: &str| self.kinds.iter().position(|kind| kind.name == name);
        let known = if self.kinds.len() < MAX_KINDS - 1 { name } else { "other" };
        let at = find(name).or_else(|| find(known)).unwrap_or(self.kinds.len());
        if at == self.kinds.len() {
            self.kinds.push(Kind { name: known.into(), ..Kind::default() });
        }
        &mut self.kinds[at]
    }
}

impl Kind {
    fn add(&mut self, layer: Option<u64>, tally: &Tally) {
        self.total.add(tally);
        self.layers.entry(layer).or_default().add(tally);
    }
}

/// The role, or without a model the last word of the name.
fn kind_of(tensor: &TensorReport) -> &str {
    if tensor.role != "linear" {
        return &tensor.role;
    }
    let name = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
    name.rsplit('.').next().unwrap_or(name)
}
