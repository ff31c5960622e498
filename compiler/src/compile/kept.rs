//! One tensor that is not ternary: kept in its type, or made bf16 or int8 on request.

use half::bf16;
use rayon::prelude::*;
use sbnc_format::Encoding;
use sbnc_format::writer::{ContentDigest, TensorWriter};

use super::Input;
use super::layout::Chosen;
use super::linear::{latent, quantize_error};
use crate::checkpoint::{Dtype, Entry};
use crate::error::Result;
use crate::family::Planned;
use crate::quantize::{Int8Error, QuantizeError, int8_rows, part_scale};
use crate::report::TensorReport;

/// Source bytes that are held at a time.
const RUN_BYTES: u64 = 32 << 20;

/// Compiles one tensor that is not ternary.
pub(super) fn write(
    input: &Input,
    planned: &Planned,
    entry: &Entry,
    chosen: &Chosen,
    mut tensor: TensorWriter<'_>,
) -> Result<TensorReport> {
    let cols = entry.cols() as usize;
    let (mut scales, mut error) = (Vec::new(), Int8Error::default());
    for run in entry.row_runs(RUN_BYTES) {
        crate::interrupt::check()?;
        let first = run.start as usize;
        let rows = (run.end - run.start) as usize;
        let bytes = input.checkpoint().rows(entry, run)?;
        let values = latent(&bytes, rows, cols, entry)?;
        let below = |e| quantize_error(below(e, first));
        if chosen.packing.encoding == Encoding::I8 {
            let mut quantised = vec![0i8; rows * cols];
            let start = scales.len();
            scales.resize(start + rows, 0.0);
            error.add(int8_rows(&values, 0..rows, &mut quantised, &mut scales[start..]).map_err(below)?);
            tensor.write(bytemuck::cast_slice(&quantised))?;
            continue;
        }
        // Not for the scale: it is the fastest way to find a NaN or an infinity.
        part_scale(&values, 0..rows).map_err(below)?;
        if chosen.packing.encoding == Encoding::Bf16 && entry.dtype != Dtype::BF16 {
            let mut wide = vec![0f32; rows * cols];
            values.read_f32(0..rows, &mut wide).map_err(below)?;
            let narrow: Vec<u8> = wide.par_iter().flat_map_iter(|&v| bf16::from_f32(v).to_le_bytes()).collect();
            tensor.write(&narrow)?;
        } else {
            tensor.write(&bytes)?;
        }
    }
    tensor.finish(&scales, ContentDigest::AsStored)?;
    let int8_error = (chosen.packing.encoding == Encoding::I8).then(|| [error.relative_rms(), error.max_abs()]);
    Ok(TensorReport { int8_error, ..super::summary::tensor(planned, entry, chosen) })
}

/// The same error, in a tensor whose first rows came in an earlier run.
fn below(error: QuantizeError, rows: usize) -> QuantizeError {
    match error {
        QuantizeError::NonFinite { row, col, value } => QuantizeError::NonFinite { row: row + rows, col, value },
        other => other,
    }
}
