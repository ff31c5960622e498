//! The oracle: a decoder in the plainest form, in f64, from SPEC §7 and the papers. It keeps no cache, shares nothing with the runtime but the reader of the
//! format, and runs a whole text at once.

use std::collections::BTreeMap;

use sbnc_format::manifest::{Manifest, Model, RopeStyle, RopeValue};
use sbnc_format::{Encoding, Layout, Sbnc};

/// Rows of numbers.
type Rows = Vec<Vec<f64>>;

/// A matrix or a vector (one row), and whether it holds trits.
struct Tensor {
    rows: Rows,
    ternary: bool,
}

/// A model in memory.
pub(crate) struct Reference {
    model: Model,
    tensors: BTreeMap<String, Tensor>,
    /// Whether the session is longer than the context before scaling.
    pub(crate) long: bool,
}

impl Reference {
    /// Decodes a file.
    pub(crate) fn open(bytes: Vec<u8>) -> Self {
        let file = Sbnc::open(bytes).unwrap();
        let Manifest { model, .. } = file.manifest().clone();
        let tensors = file.views().map(|view| {
            let (_, cols) = view.tensor().matrix();
            let Layout::Known(packing) = view.tensor().layout else { panic!("a known layout") };
            let mut numbers = Vec::new();
            if packing.encoding.is_ternary() {
                let (rows, cols) = view.tensor().matrix();
                let each = |_, trits: &[i8]| {
                    numbers.extend(trits.iter().map(|&t| f64::from(t)));
                    Ok::<_, ()>(())
                };
                packing.decode_batches(view.data(), (rows as usize, cols as usize), each).unwrap();
            } else {
                numbers = plain(packing.encoding, view.data());
            }
            let scales = view.scales();
            let mut rows: Rows = numbers.chunks(cols as usize).map(<[f64]>::to_vec).collect();
            for (row, scale) in rows.iter_mut().zip(scales) {
                row.iter_mut().for_each(|v| *v *= f64::from(scale));
            }
            (view.tensor().name.clone(), Tensor { rows, ternary: packing.encoding.is_ternary() })
        });
        Self { model: model.unwrap(), tensors: tensors.collect(), long: false }
    }

    /// Logits after every token.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Rows {
        let m = &self.model;
        let embed = &self.get("embed", 0).unwrap().rows;
        let mut x: Rows = tokens.iter().map(|&token| embed[token as usize].clone()).collect();
        for layer in 0..m.layers as usize {
            let normed = self.norm(&x, "attn_norm", layer);
            let [q, k, v] = self.parts(&normed, layer, "qkv", ["q", "k", "v"]);
            let attended = self.attend(q, k, v, layer);
            let attended = self.norm_if_any(attended, "attn_sub_norm", layer);
            add(&mut x, &self.project(&attended, "o", layer));
            let normed = self.norm(&x, "ffn_norm", layer);
            let [gate, up] = self.parts(&normed, layer, "gate_up", ["gate", "up"]);
            let gated = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(|(g, u)| self.act(*g) * u).collect());
            let gated = self.norm_if_any(gated.collect(), "ffn_sub_norm", layer);
            add(&mut x, &self.project(&gated, "down", layer));
        }
        let head = self.get(if m.tied { "embed" } else { "head" }, 0).unwrap();
        times(&self.norm(&x, "norm", 0), &head.rows)
    }

    fn get(&self, role: &str, layer: usize) -> Option<&Tensor> {
        Some(&self.tensors[&self.model.tensor(role, layer)?])
    }

    /// The outputs of projections, fused in one matrix or not.
    fn parts<const N: usize>(&self, x: &Rows, layer: usize, fused: &str, parts: [&str; N]) -> [Rows; N] {
        if self.get(fused, layer).is_none() {
            return parts.map(|part| self.project(x, part, layer));
        }
        let all = self.project(x, fused, layer);
        let m = &self.model;
        let width = |part: &str| match part {
            "q" => m.heads * m.head_dim,
            "k" | "v" => m.kv_heads * m.head_dim,
            _ => m.intermediate,
        } as usize;
        let mut start = 0;
        parts.map(|part| {
            let columns = start..start + width(part);
            start = columns.end;
            let mut rows: Rows = all.iter().map(|row| row[columns.clone()].to_vec()).collect();
            self.add_bias(&mut rows, part, layer);
            rows
        })
    }

    /// One linear layer: its input's norm, quantisation, the product, the bias.
    fn project(&self, x: &Rows, role: &str, layer: usize) -> Rows {
        let weight = self.get(role, layer).unwrap();
        let x = self.norm_if_any(x.clone(), &format!("{role}_in_norm"), layer);
        let narrow = self.model.activation_bits == 4 && !matches!(role, "o" | "down");
        let x = if weight.ternary { x.iter().map(|row| quantised(row, narrow)).collect() } else { x };
        let mut y = times(&x, &weight.rows);
        self.add_bias(&mut y, role, layer);
        y
    }

    fn add_bias(&self, y: &mut Rows, role: &str, layer: usize) {
        if let Some(bias) = self.get(&format!("{role}_bias"), layer) {
            y.iter_mut().for_each(|row| row.iter_mut().zip(&bias.rows[0]).for_each(|(v, b)| *v += b));
        }
    }

    fn norm_if_any(&self, x: Rows, role: &str, layer: usize) -> Rows {
        if self.get(role, layer).is_some() { self.norm(&x, role, layer) } else { x }
    }

    fn norm(&self, x: &Rows, role: &str, layer: usize) -> Rows {
        let weight = &self.get(role, layer).unwrap().rows[0];
        x.iter().map(|row| self.normed(row, weight)).collect()
    }

    fn normed(&self, row: &[f64], weight: &[f64]) -> Vec<f64> {
        let eps = self.model.norm_eps.value().unwrap();
        let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        row.iter().zip(weight).map(|(v, w)| v / (mean + eps).sqrt() * w).collect()
    }

    fn act(&self, x: f64) -> f64 {
        match self.model.activation.as_str() {
            "silu" => x / (1.0 + (-x).exp()),
            "relu2" => x.max(0.0).powi(2),
            "gelu" => x * normal_distribution(x),
            other => panic!("{other}"),
        }
    }

    fn attend(&self, mut q: Rows, mut k: Rows, v: Rows, layer: usize) -> Rows {
        let m = &self.model;
        let (dim, group) = (m.head_dim as usize, (m.heads / m.kv_heads) as usize);
        for (rows, norm) in [(&mut q, "q_norm"), (&mut k, "k_norm")] {
            for (position, row) in rows.iter_mut().enumerate() {
                for head in row.chunks_mut(dim) {
                    if let Some(weight) = self.get(norm, layer) {
                        head.copy_from_slice(&self.normed(head, &weight.rows[0]));
                    }
                    self.turn(head, position);
                }
            }
        }
        let window = m.window.map_or(usize::MAX, |w| w as usize);
        let of_head = |position: usize, head: usize| {
            let query = &q[position][head * dim..][..dim];
            let kv = head / group * dim..(head / group + 1) * dim;
            let seen = (position + 1).saturating_sub(window)..position + 1;
            let dot = |key: &[f64]| query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (dim as f64).sqrt();
            let weights: Vec<f64> = seen.clone().map(|p| dot(&k[p][kv.clone()]).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut out = vec![0.0; dim];
            for (p, weight) in seen.zip(&weights) {
                out.iter_mut().zip(&v[p][kv.clone()]).for_each(|(out, v)| *out += weight / sum * v);
            }
            out
        };
        (0..q.len()).map(|p| (0..m.heads as usize).flat_map(|head| of_head(p, head)).collect()).collect()
    }

    /// Turns the pairs of a head as complex numbers.
    fn turn(&self, head: &mut [f64], position: usize) {
        let (dim, rope) = (head.len(), &self.model.rope);
        let scaling = |key: &str| match rope.scaling.as_ref().and_then(|s| s.get(key)) {
            Some(RopeValue::Integer(number)) => vec![*number as f64],
            Some(RopeValue::Text(text)) => text.split(',').map(|number| number.parse().unwrap()).collect(),
            None => Vec::new(),
        };
        // `factor` is of the kind `linear`, the lists of `longrope`.
        let divisors = [scaling(if self.long { "long_factor" } else { "short_factor" }), scaling("factor")].concat();
        let attention = scaling("attention_factor").first().copied().unwrap_or(1.0);
        for pair in 0..dim / 2 {
            let divisor = divisors.get(pair).or(divisors.first()).unwrap_or(&1.0);
            let frequency = rope.theta.value().unwrap().powf(-2.0 * pair as f64 / dim as f64) / divisor;
            let (i, j) = match rope.style {
                RopeStyle::Half => (pair, pair + dim / 2),
                RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
            };
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (sin, cos) = (sin * attention, cos * attention);
            (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
        }
    }
}

/// Φ(x), by its series: the odd powers of x over odd double factorials.
fn normal_distribution(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// Activations as integers divided by their scale: what a ternary layer sees.
fn quantised(row: &[f64], narrow: bool) -> Vec<f64> {
    let magnitudes = row.iter().map(|v| v.abs());
    let (scale, low, high) = if narrow {
        (7f64.sqrt() / (magnitudes.sum::<f64>() / row.len() as f64).max(1e-5), -8.0, 7.0)
    } else {
        (127.0 / magnitudes.fold(1e-5, f64::max), -128.0, 127.0)
    };
    row.iter().map(|v| (v * scale).round_ties_even().clamp(low, high) / scale).collect()
}

fn times(x: &Rows, weight: &Rows) -> Rows {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.iter().map(|x| weight.iter().map(|w| dot(x, w)).collect()).collect()
}

fn add(x: &mut Rows, y: &Rows) {
    x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

fn plain(encoding: Encoding, data: &[u8]) -> Vec<f64> {
    match encoding {
        Encoding::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Encoding::Bf16 => {
            data.as_chunks().0.iter().map(|[a, b]| f64::from(f32::from_le_bytes([0, 0, *a, *b]))).collect()
        }
        Encoding::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
        other => panic!("{}", other.name()),
    }
}
