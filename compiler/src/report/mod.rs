//! The report of a compilation: what became of every tensor, and why.
//!
//! [`Report`] is plain data, filled by the compiler and written as JSON as it is; [`html`] draws it as one self-contained page, and
//! [`text`] sums it up for a terminal.
//!
//! ```text
//! Report ── tally (per kind, per layer) ─┬─ html ── plots, table ──▶ page
//!                                        └─ text ──────────────────▶ ten lines
//! ```

use serde::Serialize;

use crate::quantize::{BINS, Stats};

pub mod html;
mod plots;
mod table;
mod tally;
#[cfg(test)]
mod tests;
pub mod text;

/// Adds formatted text to a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($text)*);
    }};
}
use put;

/// Everything worth knowing about a compilation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the input.
    pub input: String,
    /// Name of the output.
    pub output: String,
    /// Name and version of the compiler.
    pub compiler: String,
    /// Kind of the source, such as `hf-latent`.
    pub kind: String,
    /// One line about the model, or `None` for weights without one.
    pub model: Option<String>,
    /// The pattern that was applied or checked, such as `2:4`, or `dense`.
    pub pattern: String,
    /// Digest that names the file.
    pub root: String,
    /// Digest of the content.
    pub content: String,
    /// Length of the input's tensors.
    pub input_bytes: u64,
    /// Length of the output.
    pub output_bytes: u64,
    /// The same model elsewhere, and here.
    pub sizes: Vec<Size>,
    /// What N:M patterns would cost a model without one.
    pub costs: Vec<PatternCost>,
    /// What the reader of the report should know.
    pub notes: Vec<String>,
    /// All tensors, in the order of the file.
    pub tensors: Vec<TensorReport>,
}

/// The size of the model in some form.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// The form, such as `GGUF TQ2_0`, or [`Size::HERE`].
    pub form: String,
    /// Bytes of all tensors.
    pub bytes: u64,
}

impl Size {
    /// The form of the file that was written.
    pub const HERE: &str = "this file";
}

/// What masking to a pattern would remove.
#[derive(Clone, Debug, Serialize)]
pub struct PatternCost {
    /// The pattern.
    pub pattern: String,
    /// Non-zero trits that the mask would cut, of all trits.
    pub removed: f64,
    /// Groups that keep the pattern without a mask.
    pub natural_groups: f64,
}

/// What became of a tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name in the source.
    pub name: String,
    /// What it is for.
    pub role: String,
    /// The layer that it belongs to, if its name says so.
    pub layer: Option<u64>,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Type in the source, such as `BF16`.
    pub source_dtype: String,
    /// How it is stored, such as `nm-vi/fragments`.
    pub encoding: String,
    /// The declared pattern, for ternary tensors.
    pub pattern: Option<String>,
    /// Bits per weight in the source.
    pub source_bits: f64,
    /// Bits per weight in the file, scales included.
    pub stored_bits: f64,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// For a tensor that is not ternary, why.
    pub left: Option<String>,
    /// For int8: relative RMS and largest absolute error.
    pub int8_error: Option<[f64; 2]>,
    /// For ternary tensors: share of zeros in the file.
    pub zeros: Option<f64>,
    /// For tensors quantised here: the statistics of every part.
    pub parts: Vec<PartReport>,
}

impl TensorReport {
    /// Number of its weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().fold(1, |product, &extent| product.saturating_mul(extent))
    }

    /// Whether its weights are trits.
    pub fn is_ternary(&self) -> bool {
        self.zeros.is_some() || !self.parts.is_empty()
    }
}

/// Statistics of a part: a run of rows with one scale.
#[derive(Clone, Debug, Serialize)]
pub struct PartReport {
    /// First row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// The scale.
    pub scale: f32,
    /// −1, 0 and +1 before the mask.
    pub before: [u64; 3],
    /// −1, 0 and +1 after it.
    pub after: [u64; 3],
    /// Groups of the pattern.
    pub groups: u64,
    /// Groups with too many non-zeros before the mask.
    pub violated_groups: u64,
    /// Groups where a tie decided which non-zero was kept.
    pub tied_groups: u64,
    /// Weights within 0.001 of the threshold.
    pub near_threshold: u64,
    /// Subnormal weights.
    pub subnormal: u64,
    /// Distribution of weight ÷ scale over −4 to 4.
    pub histogram: Vec<u64>,
    /// The same of the non-zeros that the mask removed.
    pub removed_histogram: Vec<u64>,
    /// What masks would do to a part that has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cut>,
}

/// What a mask would do to a part.
#[derive(Clone, Debug, Serialize)]
pub struct Cut {
    /// The pattern.
    pub pattern: String,
    /// Non-zero trits that it would remove.
    pub removed: u64,
    /// Groups of the pattern.
    pub groups: u64,
    /// Groups with too many non-zeros.
    pub violated_groups: u64,
}

/// Range of the histograms: bins are equal shares of −`HISTOGRAM_END` to `HISTOGRAM_END`.
pub const HISTOGRAM_END: f64 = 4.0;

impl PartReport {
    /// The report of a part with these statistics.
    pub fn new(first_row: u64, rows: u64, scale: f32, stats: &Stats) -> Self {
        debug_assert_eq!(stats.histogram.len(), BINS);
        let counts = |c: &crate::quantize::TritCounts| [c.negative, c.zero, c.positive];
        Self {
            first_row,
            rows,
            scale,
            before: counts(&stats.before),
            after: counts(&stats.after),
            groups: stats.groups,
            violated_groups: stats.violated_groups,
            tied_groups: stats.tied_groups,
            near_threshold: stats.near_threshold,
            subnormal: stats.subnormal,
            histogram: stats.histogram.to_vec(),
            removed_histogram: stats.removed_histogram.to_vec(),
            costs: Vec::new(),
        }
    }

    /// Non-zeros that the mask removed.
    pub fn removed(&self) -> u64 {
        self.after[1] - self.before[1]
    }
}
