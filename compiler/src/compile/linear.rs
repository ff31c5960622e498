//! One ternary tensor: from whatever the source holds to encoded trits and a scale per row.
//!
//! Rows are made, masked or checked, and encoded a run at a time, each run by one thread while it is in its cache. The digest of the content is taken of the
//! trits before they are encoded, so that the check of the finished file compares two things.

use std::ops::Range;

use rayon::prelude::*;
use sbnc_format::Packing;
use sbnc_format::encoding::{self, ContentHasher, Strip};
use sbnc_format::writer::{ContentDigest, TensorWriter};

use super::layout::Chosen;
use super::{Conduct, Prepared};
use crate::checkpoint::gguf::decode::I2sLayout;
use crate::checkpoint::{Bytes, Checkpoint, Dtype, Entry};
use crate::error::{Error, Exit, Result};
use crate::family::{Planned, ScaleRule, Source};
use crate::quantize::{self, Latent, Nm, PartScale, Stats, Ternariser, part_scale};
use crate::report::{PartReport, TensorReport};

/// Trits of a batch; two are held at a time.
const BATCH_TRITS: usize = 2 << 20;
/// Trits of a run: with its source, its codes and its bytes it fits a second-level cache.
const RUN_TRITS: usize = 64 << 10;

/// Compiles one ternary tensor.
pub(super) fn write(
    prepared: &Prepared<'_>,
    planned: &Planned,
    entry: &Entry,
    chosen: &Chosen,
    mut tensor: TensorWriter<'_>,
    conduct: &Conduct<'_>,
) -> Result<TensorReport> {
    let (rows, cols) = (planned.shape[0] as usize, planned.shape[1] as usize);
    let bytes = prepared.input.checkpoint().bytes(entry)?;
    let trits_of = Trits::new(prepared, planned, entry, &bytes, chosen)?;
    let strip = chosen.packing.strip(cols);
    let batch_rows = whole_strips(BATCH_TRITS, strip, cols).min(rows.next_multiple_of(strip.rows));
    let run_rows = whole_strips(RUN_TRITS, strip, cols);

    let mut content = ContentHasher::default();
    let mut scales = vec![0f32; rows];
    let make = |batch: &mut Batch, scales: &mut [f32]| {
        batch
            .trits
            .par_chunks_mut(run_rows * cols)
            .zip(batch.stored.par_chunks_mut(run_rows / strip.rows * strip.bytes))
            .zip(scales.par_chunks_mut(run_rows))
            .enumerate()
            .try_for_each(|(i, ((trits, stored), scales))| {
                let first = batch.first + i * run_rows;
                trits_of.rows(first..first + scales.len(), cols, trits, scales)?;
                if trits_of.are_claimed() {
                    check_claim(chosen, first, cols, trits)?;
                }
                encode(chosen, first, cols, trits, stored)
            })
    };
    let mut emit = |batch: &Batch| {
        content.update(&batch.trits);
        tensor.write(&batch.stored)
    };
    // While one batch is hashed and written, which one thread does most of, the next is made.
    let (mut done, mut next) = (Batch::default(), Batch::default());
    for (i, scales) in scales.chunks_mut(batch_rows).enumerate() {
        crate::interrupt::check()?;
        next.resize(i * batch_rows, scales.len() * cols, scales.len().div_ceil(strip.rows) * strip.bytes);
        let (emitted, made) = rayon::join(|| emit(&done), || make(&mut next, scales));
        emitted?;
        made?;
        std::mem::swap(&mut done, &mut next);
    }
    emit(&done)?;

    let scale_bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    let content = content.finish(&scale_bytes);
    if content.non_zero == 0 {
        return Err(invalid("expected some non-zero weight, found only zeros; the checkpoint is damaged or untrained"));
    }
    tensor.finish(&scales, ContentDigest::Trits { digest: content.digest, non_zero: content.non_zero })?;
    let parts = if conduct.statistics { trits_of.statistics(&scales, chosen)? } else { Vec::new() };
    let elements = (rows * cols) as f64;
    Ok(TensorReport {
        zeros: Some(1.0 - content.non_zero as f64 / elements),
        parts,
        ..super::summary::tensor(planned, entry, chosen)
    })
}

/// Some rows on their way to the file.
#[derive(Default)]
struct Batch {
    first: usize,
    trits: Vec<i8>,
    stored: Vec<u8>,
}

impl Batch {
    fn resize(&mut self, first: usize, trits: usize, stored: usize) {
        self.first = first;
        self.trits.resize(trits, 0);
        self.stored.resize(stored, 0);
    }
}

/// The number of rows with about `trits` trits, in whole strips, at least one.
fn whole_strips(trits: usize, strip: Strip, cols: usize) -> usize {
    (trits / (strip.rows * cols)).max(1) * strip.rows
}

/// Checks the pattern that trits are said to keep.
fn check_claim(chosen: &Chosen, first: usize, cols: usize, trits: &[i8]) -> Result<()> {
    encoding::check_pattern(trits, cols, chosen.packing.pattern).map_err(|e| {
        invalid(format!(
            "row {}, columns from {}: expected {}, found {}; the weights do not keep the pattern {}: compile with --nm none",
            first + e.row,
            e.col,
            e.expected,
            e.found,
            chosen.packing.pattern
        ))
    })
}

fn encode(chosen: &Chosen, first: usize, cols: usize, trits: &[i8], stored: &mut [u8]) -> Result<()> {
    let Packing { pattern, .. } = chosen.packing;
    chosen.packing.encode(trits, cols, stored).map_err(|e| {
        let row = first + e.row;
        invalid(format!("row {row}, column {}: more non-zeros than {pattern} allows; compile with --nm none", e.col))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Exit::Invalid, message)
}

/// Where trits and scales come from.
enum Trits<'a> {
    /// Latent weights, quantised part by part.
    Latent { latent: Latent<'a>, parts: Vec<Part> },
    /// Four trits a byte, each from another quarter of the rows.
    Packed { bytes: &'a [u8], rows: usize, scale: f32 },
    /// Dense values −1, 0 and +1, and one scale.
    Unit { latent: Latent<'a>, scale: f32 },
    /// Dense values of one magnitude in each row.
    Scaled { latent: Latent<'a> },
    /// Blocks of a GGUF file.
    Blocks { checkpoint: &'a Checkpoint, entry: &'a Entry, layout: Option<I2sLayout> },
}

struct Part {
    rows: Range<usize>,
    scale: f32,
    ternariser: Ternariser,
}

impl<'a> Trits<'a> {
    fn new(
        prepared: &Prepared<'a>,
        planned: &Planned,
        entry: &'a Entry,
        bytes: &'a Bytes,
        chosen: &Chosen,
    ) -> Result<Self> {
        let (rows, cols) = (planned.shape[0] as usize, planned.shape[1] as usize);
        let scale_of = |scale: &crate::family::Scale| {
            let stored = prepared.input.scalar(&scale.tensor)?;
            Ok::<_, Error>(match scale.rule {
                ScaleRule::Divide => 1.0 / stored,
                ScaleRule::Multiply => stored,
            })
        };
        Ok(match &planned.source {
            Source::Latent { parts } => {
                let latent = latent(bytes, rows, cols, entry)?;
                let nm = match chosen.packing.pattern.ids() {
                    (0, _) => None,
                    (n, m) => Some(Nm::new(usize::from(n), usize::from(m)).map_err(quantize_error)?),
                };
                let parts = parts.iter().map(|part| quantised_part(&latent, part, nm)).collect::<Result<_>>()?;
                Self::Latent { latent, parts }
            }
            Source::PackedRows { scale } => Self::Packed { bytes, rows, scale: scale_of(scale)? },
            Source::Ternary { scale: Some(scale) } => {
                Self::Unit { latent: latent(bytes, rows, cols, entry)?, scale: scale_of(scale)? }
            }
            Source::Ternary { scale: None } => Self::Scaled { latent: latent(bytes, rows, cols, entry)? },
            Source::Blocks => {
                let layout = prepared.options.i2s_layout;
                Self::Blocks { checkpoint: prepared.input.checkpoint(), entry, layout }
            }
            Source::Keep => return Err(invalid("is not ternary")),
        })
    }

    /// Whether the trits come from the source, so that a pattern is a claim; the quantiser's own keep it.
    fn are_claimed(&self) -> bool {
        !matches!(self, Self::Latent { .. })
    }

    /// Makes some rows of trits and their scales.
    fn rows(&self, rows: Range<usize>, cols: usize, trits: &mut [i8], scales: &mut [f32]) -> Result<()> {
        match self {
            Self::Latent { latent, parts } => {
                for part in parts {
                    let start = rows.start.max(part.rows.start);
                    let end = rows.end.min(part.rows.end);
                    if start < end {
                        let (from, to) = (start - rows.start, end - rows.start);
                        let trits = &mut trits[from * cols..to * cols];
                        part.ternariser.rows(latent, start..end, trits, None).map_err(quantize_error)?;
                        scales[from..to].fill(part.scale);
                    }
                }
                Ok(())
            }
            Self::Packed { bytes, rows: all, scale } => {
                scales.fill(*scale);
                rows.zip(trits.chunks_exact_mut(cols)).try_for_each(|(row, trits)| unpack_row(bytes, row, *all, trits))
            }
            Self::Unit { latent, scale } => {
                scales.fill(*scale);
                each_row(latent, rows, trits, unit_row)
            }
            Self::Scaled { latent } => {
                let first = rows.start;
                each_row(latent, rows, trits, |row, values, trits| {
                    scales[row - first] = scaled_row(row, values, trits)?;
                    Ok(())
                })
            }
            Self::Blocks { checkpoint, entry, layout } => {
                let decoded = checkpoint.ternary_rows(entry, rows.start as u64..rows.end as u64, *layout)?;
                trits.copy_from_slice(&decoded.trits);
                for (to, &from) in scales.iter_mut().zip(&decoded.scales) {
                    *to = if from > 0.0 { from } else { 1.0 }; // a row of zeros, whose blocks may say anything
                }
                Ok(())
            }
        }
    }

    /// Statistics for the report: of latent weights what the quantiser did, of others the counts of trits.
    fn statistics(&self, scales: &[f32], chosen: &Chosen) -> Result<Vec<PartReport>> {
        let Self::Latent { latent, parts } = self else { return Ok(Vec::new()) };
        debug_assert_eq!(scales.len(), latent.rows());
        parts
            .iter()
            .map(|part| {
                let stats = statistics(latent, part.rows.clone(), &part.ternariser)?;
                let mut report = PartReport::new(part.rows.start as u64, part.rows.len() as u64, part.scale, &stats);
                if chosen.packing.pattern.is_dense() {
                    report.costs = would_cut(latent, part)?;
                }
                Ok(report)
            })
            .collect()
    }
}

/// The statistics of some rows, a few megabytes at a time.
fn statistics(latent: &Latent<'_>, rows: Range<usize>, ternariser: &Ternariser) -> Result<Stats> {
    let cols = latent.cols();
    let step = (BATCH_TRITS / cols).max(1);
    let mut scratch = vec![0i8; step.min(rows.len()) * cols];
    let mut total: Option<Stats> = None;
    for first in rows.clone().step_by(step) {
        crate::interrupt::check()?;
        let run = first..rows.end.min(first + step);
        let out = &mut scratch[..run.len() * cols];
        let stats = ternariser.part_with_stats(latent, run, out).map_err(quantize_error)?;
        match &mut total {
            Some(total) => total.merge(&stats),
            None => total = Some(stats),
        }
    }
    total.ok_or_else(|| invalid("has a part without rows"))
}

/// What masks to 2:4 and 6:8 would do to a part that has none.
fn would_cut(latent: &Latent<'_>, part: &Part) -> Result<Vec<crate::report::Cut>> {
    let mut cuts = Vec::new();
    for (n, m) in [(2, 4), (6, 8)] {
        if latent.cols().is_multiple_of(m) {
            let nm = Nm::new(n, m).map_err(quantize_error)?;
            let ternariser = Ternariser::new(latent.dtype(), part.scale, Some(nm)).map_err(quantize_error)?;
            let stats = statistics(latent, part.rows.clone(), &ternariser)?;
            cuts.push(crate::report::Cut {
                pattern: format!("{n}:{m}"),
                removed: stats.removed(),
                groups: stats.groups,
                violated_groups: stats.violated_groups,
            });
        }
    }
    Ok(cuts)
}

fn quantised_part(latent: &Latent<'_>, rows: &Range<u64>, nm: Option<Nm>) -> Result<Part> {
    let rows = rows.start as usize..rows.end as usize;
    match part_scale(latent, rows.clone()).map_err(quantize_error)? {
        PartScale::Scale(scale) => {
            let ternariser = Ternariser::new(latent.dtype(), scale, nm).map_err(quantize_error)?;
            Ok(Part { rows, scale, ternariser })
        }
        PartScale::AllZero => Err(invalid(format!(
            "rows {} to {}: expected some non-zero weight, found all zero; the checkpoint is damaged or untrained",
            rows.start,
            rows.end - 1
        ))),
    }
}

/// The bytes of a tensor as latent weights.
pub(super) fn latent<'a>(bytes: &'a [u8], rows: usize, cols: usize, entry: &Entry) -> Result<Latent<'a>> {
    let dtype = match entry.dtype {
        Dtype::F32 => quantize::Dtype::F32,
        Dtype::F16 => quantize::Dtype::F16,
        Dtype::BF16 => quantize::Dtype::Bf16,
        other => {
            let message = format!("expected F32, F16 or BF16 weights, found {other}; convert the checkpoint");
            return Err(Error::new(Exit::Unsupported, message));
        }
    };
    Latent::new(bytes, rows, cols, dtype).map_err(quantize_error)
}

pub(super) fn quantize_error(error: quantize::QuantizeError) -> Error {
    invalid(error.to_string())
}

/// Row `row` of `rows`: two bits of every byte of the row's quarter, trit + 1.
fn unpack_row(bytes: &[u8], row: usize, rows: usize, trits: &mut [i8]) -> Result<()> {
    let (quarter, shift) = (row % (rows / 4), 2 * (row / (rows / 4)));
    let packed = &bytes[quarter * trits.len()..][..trits.len()];
    let mut largest = 0;
    for (trit, &byte) in trits.iter_mut().zip(packed) {
        let code = byte >> shift & 3;
        largest = largest.max(code);
        *trit = code as i8 - 1;
    }
    if largest < 3 {
        return Ok(());
    }
    let col = trits.iter().position(|&t| t > 1).unwrap_or(0);
    Err(invalid(format!(
        "row {row}, column {col}: expected a packed code of 0 to 2, found code 3; the checkpoint is damaged"
    )))
}

fn each_row(
    latent: &Latent<'_>,
    rows: Range<usize>,
    trits: &mut [i8],
    mut each: impl FnMut(usize, &[f32], &mut [i8]) -> Result<()>,
) -> Result<()> {
    let mut values = vec![0.0; latent.cols()];
    for (row, trits) in rows.zip(trits.chunks_exact_mut(latent.cols())) {
        latent.read_f32(row..row + 1, &mut values).map_err(quantize_error)?;
        each(row, &values, trits)?;
    }
    Ok(())
}

fn unit_row(row: usize, values: &[f32], trits: &mut [i8]) -> Result<()> {
    for (col, (trit, &value)) in trits.iter_mut().zip(values).enumerate() {
        *trit = match value {
            1.0 => 1,
            -1.0 => -1,
            0.0 => 0,
            other => return Err(invalid(format!("row {row}, column {col}: expected -1, 0 or 1, found {other}"))),
        };
    }
    Ok(())
}

/// Trits of a row whose non-zero values have one magnitude, which is its scale; 1 for a row of zeros.
fn scaled_row(row: usize, values: &[f32], trits: &mut [i8]) -> Result<f32> {
    let scale = values.iter().map(|v| v.abs()).find(|&v| v != 0.0).unwrap_or(1.0);
    for (col, (trit, &value)) in trits.iter_mut().zip(values).enumerate() {
        *trit = match value {
            0.0 => 0,
            v if v == scale => 1,
            v if v == -scale => -1,
            other if !other.is_finite() => {
                return Err(invalid(format!("weight [{row}, {col}] is {other}: every weight must be finite")));
            }
            other => {
                let message = format!(
                    "row {row}, column {col}: expected 0 or ±{scale}, found {other}: rows with several scales (group scales) are not \
                     supported; quantise the latent weights instead"
                );
                return Err(Error::new(Exit::Unsupported, message));
            }
        };
    }
    Ok(scale)
}
