//! RMS norms, alone and together with the quantisation that follows them.

use crate::cpu::Cpu;
use crate::cpu::activations::{Activations, Rule, quantise_row};
use crate::cpu::pool::Shares;

impl Cpu {
    /// `out = x / rms(x) · weight`, row by row; a row has `weight.len()` values.
    pub fn norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let cols = weight.len();
        self.pool.chunks(out, cols, &|token, out| norm_row(&x[token * cols..][..cols], weight, eps, out));
    }

    /// [`Cpu::norm`] of `heads` runs of `weight.len()` values in every row of `stride` values, in place.
    pub fn norm_heads(&self, x: &mut [f32], stride: usize, offset: usize, heads: usize, weight: &[f32], eps: f32) {
        self.pool.chunks(x, stride, &|_, row| {
            for head in row[offset..][..heads * weight.len()].chunks_exact_mut(weight.len()) {
                let factor = rms_factor(head, eps);
                head.iter_mut().zip(weight).for_each(|(v, w)| *v = *v * factor * w);
            }
        });
    }

    /// Normalises (with a weight) and quantises rows of `cols` values.
    pub fn quantise(&self, x: &[f32], cols: usize, norm: Option<(&[f32], f32)>, rule: Rule, out: &mut Activations) {
        let tokens = x.len() / cols;
        out.resize(tokens, cols);
        let stride = out.stride;
        let scales = Shares::new(&mut out.scales[..tokens]);
        self.pool.chunks(&mut out.values[..tokens * stride], stride, &|token, values| {
            let row = &x[token * cols..][..cols];
            let scale = match norm {
                None => quantise_row(row, rule, &mut values[..cols]),
                Some((weight, eps)) => {
                    let mut normed = vec![0.0; cols];
                    norm_row(row, weight, eps, &mut normed);
                    quantise_row(&normed, rule, &mut values[..cols])
                }
            };
            // SAFETY: every token is handed out once, so this element is written by one thread.
            let place = unsafe { scales.range(token, 1) };
            place[0] = scale;
        });
    }
}

fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let factor = rms_factor(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

fn rms_factor(x: &[f32], eps: f32) -> f32 {
    let mean = (x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / x.len() as f64) as f32;
    1.0 / (mean + eps).sqrt()
}
