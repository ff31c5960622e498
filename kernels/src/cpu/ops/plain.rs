//! Every operation in the plainest way: what the fast ones are compared with. One thread, scalar code, double precision wherever the result is not defined to
//! the bit.

use super::attention::{Cache, Heads, Segment};
use super::elementwise::Activation;
use super::rotary::{Pairing, Rotation};
use crate::cpu::activations::quantise_row;
use crate::cpu::{Activations, Dense, Rule};

/// Lanes of [`ordered_sum`].
pub(crate) const LANES: usize = 32;

/// A sum in f64, in the order that vectors of every width can keep: lane j of 32 adds the terms of the elements i ≡ j (mod 32), from the first on; then the upper half
/// of the lanes is added to the lower, until one is left.
pub(crate) fn ordered_sum(x: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    for (i, &v) in x.iter().enumerate() {
        lanes[i % LANES] += term(f64::from(v));
    }
    halve(lanes)
}

/// The second step of [`ordered_sum`].
#[inline(always)]
pub(crate) fn halve(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `1 / rms(x)`, defined to the bit: the mean of the squares is taken in f64, in the order of [`ordered_sum`], the rest in f32.
fn rms_factor(x: &[f32], eps: f32) -> f32 {
    let mean = (ordered_sum(x, |v| v * v) / x.len() as f64) as f32;
    1.0 / (mean + eps).sqrt()
}

/// [`Cpu::norm`](crate::cpu::Cpu::norm), defined to the bit.
pub fn norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        let factor = rms_factor(x, eps);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * factor * weight;
        }
    }
}

/// [`Cpu::quantise`](crate::cpu::Cpu::quantise), defined to the bit.
pub fn quantise(x: &[f32], cols: usize, norm: Option<(&[f32], f32)>, rule: Rule) -> Activations {
    let mut normed = x.to_vec();
    if let Some((weight, eps)) = norm {
        self::norm(x, weight, eps, &mut normed);
    }
    let mut out = Activations::with_capacity(x.len() / cols, cols);
    out.resize(x.len() / cols, cols);
    for (token, row) in normed.chunks_exact(cols).enumerate() {
        let values = &mut out.values[token * out.stride..][..cols];
        out.scales[token] = quantise_row(row, rule, values);
    }
    out
}

/// [`Cpu::gate`](crate::cpu::Cpu::gate).
pub fn gate(activation: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        for i in 0..width {
            let x = f64::from(row[i]);
            let activated = match activation {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Relu2 => x.max(0.0) * x.max(0.0),
                Activation::Gelu => x * normal(x),
            };
            out[i] = (activated * f64::from(row[width + i])) as f32;
        }
    }
}

/// The normal distribution Φ: near 0 by its series, below by the continued fraction of its tail.
pub fn normal(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if x.abs() < 3.0 {
        // x + x³/3 + x⁵/(3·5) + …
        let (mut term, mut sum) = (x, x);
        for odd in (3..100).step_by(2) {
            term *= x * x / f64::from(odd);
            sum += term;
        }
        return 0.5 + density * sum;
    }
    // 1 / (a + 1 / (a + 2 / (a + 3 / …)))
    let a = x.abs();
    let tail = density / (1..100).rev().fold(a, |below, n| a + f64::from(n) / below);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// [`Cpu::dense`](crate::cpu::Cpu::dense).
pub fn dense(weight: &Dense<'_>, cols: usize, x: &[f32], out: &mut [f32]) {
    let rows = weight.len() / cols;
    let mut values = vec![0.0; cols];
    for row in 0..rows {
        weight.read_row(row, &mut values);
        for (token, x) in x.chunks_exact(cols).enumerate() {
            let products = values.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
            out[token * rows + row] = products.sum::<f64>() as f32;
        }
    }
}

/// [`Cpu::rotate_and_store`](crate::cpu::Cpu::rotate_and_store), defined to the bit.
pub fn rotate_and_store(
    qkv: &mut [f32],
    heads: &Heads,
    rotation: &Rotation,
    segments: &[Segment],
    cache: &mut Cache<'_>,
) {
    let dim = heads.dim;
    for segment in segments {
        for row in segment.rows.clone() {
            let position = segment.position + row - segment.rows.start;
            let (q, kv) = qkv[row * heads.row()..][..heads.row()].split_at_mut(heads.heads * dim);
            q.chunks_exact_mut(dim).for_each(|head| turn(rotation, head, position));
            let (k, v) = kv.split_at_mut(heads.kv_heads * dim);
            for (head, (k, v)) in k.chunks_exact_mut(dim).zip(v.chunks_exact(dim)).enumerate() {
                turn(rotation, k, position);
                let place = ((segment.slot * heads.kv_heads + head) * cache.capacity + position) * dim;
                for i in 0..dim {
                    cache.keys[place + i] = cache.half.pack(k[i]);
                    cache.values[place + i] = cache.half.pack(v[i]);
                }
            }
        }
    }
}

fn turn(rotation: &Rotation, head: &mut [f32], position: usize) {
    for pair in 0..rotation.pairs {
        let (i, j) = match rotation.pairing {
            Pairing::Half => (pair, pair + rotation.pairs),
            Pairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let at = position * rotation.pairs + pair;
        let (a, b, cos, sin) = (head[i], head[j], rotation.cos[at], rotation.sin[at]);
        head[i] = a * cos - b * sin;
        head[j] = a * sin + b * cos;
    }
}

/// [`Cpu::attend`](crate::cpu::Cpu::attend).
pub fn attend(qkv: &[f32], heads: &Heads, segments: &[Segment], cache: &Cache<'_>, out: &mut [f32]) {
    let (dim, group) = (heads.dim, heads.heads / heads.kv_heads);
    for segment in segments {
        for (row, head) in segment.rows.clone().flat_map(|row| (0..heads.heads).map(move |head| (row, head))) {
            let position = segment.position + row - segment.rows.start;
            let first = heads.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let query = &qkv[row * heads.row() + head * dim..][..dim];
            let start = (segment.slot * heads.kv_heads + head / group) * cache.capacity;
            let stored = (start + first) * dim..(start + position + 1) * dim;
            let unpack = |bits: u16| f64::from(cache.half.unpack(bits));
            let scores: Vec<f64> = (cache.keys[stored.clone()].chunks_exact(dim))
                .map(|key| key.iter().zip(query).map(|(&k, &q)| unpack(k) * f64::from(q)).sum::<f64>())
                .map(|dot| dot / (dim as f64).sqrt())
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let mut total = vec![0.0; dim];
            for (score, value) in scores.iter().zip(cache.values[stored].chunks_exact(dim)) {
                let weight = (score - largest).exp() / sum;
                total.iter_mut().zip(value).for_each(|(total, &v)| *total += weight * unpack(v));
            }
            let out = &mut out[row * heads.heads * dim + head * dim..][..dim];
            out.iter_mut().zip(total).for_each(|(out, total)| *out = total as f32);
        }
    }
}
