//! From sums to outputs: plain code, which the kernels compile for their instructions.

use super::kernel::{PANEL, SumLine};

/// What belongs to the rows of a task.
pub(crate) struct Rows<'a> {
    pub(crate) scales: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    /// The scale of all rows, if they have one: then a division for each token is enough.
    pub(crate) common: Option<f32>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(scales: &'a [f32], bias: Option<&'a [f32]>) -> Self {
        let common = scales.first().copied().filter(|first| scales.iter().all(|scale| scale == first));
        Self { scales, bias, common }
    }
}

/// Writes the outputs of token `token` of `tokens`; `sums` are those of panels with weights that are 1 too large, `total` is what that adds.
/// The same arithmetic as [`crate::cpu::portable::output`].
#[inline(always)]
pub(crate) fn finish(
    rows: &Rows<'_>,
    sums: &[SumLine],
    (token, tokens): (usize, usize),
    total: i32,
    scale: f32,
    out: &mut [f32],
) {
    let panels = sums[token..].iter().step_by(tokens);
    let scale = f64::from(scale);
    match rows.common {
        Some(common) => {
            let factor = f64::from(common) / scale;
            for (out, sums) in out.chunks_mut(PANEL).zip(panels) {
                scaled(out, &sums.0, total, |_| factor);
            }
        }
        None => {
            for ((out, sums), scales) in out.chunks_mut(PANEL).zip(panels).zip(rows.scales.chunks(PANEL)) {
                scaled(out, &sums.0, total, |row| f64::from(scales[row]) / scale);
            }
        }
    }
    if let Some(bias) = rows.bias {
        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
    }
}

#[inline(always)]
fn scaled(out: &mut [f32], sums: &[i32; PANEL], total: i32, factor: impl Fn(usize) -> f64) {
    let output = |row: usize| (f64::from(sums[row].wrapping_sub(total)) * factor(row)) as f32;
    match out.as_mut_array::<PANEL>() {
        Some(out) => (0..PANEL).for_each(|row| out[row] = output(row)),
        None => (0..out.len()).for_each(|row| out[row] = output(row)),
    }
}
