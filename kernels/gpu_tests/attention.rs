//! Attention of both kinds, against one in f64 that remembers all keys and values.

use sbnc_format::Encoding;
use sbnc_kernels::cuda::attention::{self, Cache, Heads, Parts, Places, Projected, Queries, Run, Tiles, Where};
use sbnc_kernels::cuda::{Buffer, Columns, Device, Linear, Norm, Order, Quantised, Source, Stream, quantise};

use crate::Test;
use crate::linear::file;
use crate::numbers::{distance, from_f16, normals};
use crate::support::Random;

pub(crate) const TESTS: &[Test] = &[
    ("attention: decoding, window, heads, both pairings", check_decode),
    ("attention: prefill with prefixes, window, widths", check_prefill),
];

/// A session's worth of attention, kept in f64 beside the GPU's.
struct Reference {
    heads: Heads,
    turns: Vec<f32>,
    /// Rotated keys and values of each sequence, [position][kv head][dim].
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

impl Reference {
    fn new(heads: Heads, sequences: usize, positions: usize) -> Self {
        let pairs = heads.dim / 2;
        let angle = |p: usize, i: usize| p as f64 * 10_000f64.powf(-(i as f64) / pairs as f64);
        let turn = |p: usize| (0..pairs).flat_map(move |i| [angle(p, i).cos() as f32, angle(p, i).sin() as f32]);
        Self {
            heads,
            turns: (0..positions).flat_map(turn).collect(),
            keys: vec![Vec::new(); sequences],
            values: vec![Vec::new(); sequences],
        }
    }

    fn rotated(&self, head: &[f32], norm: Option<&[f32]>, position: usize) -> Vec<f64> {
        let dim = self.heads.dim;
        let mut x: Vec<f64> = head.iter().map(|&v| f64::from(v)).collect();
        if let Some(norm) = norm {
            let r = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / dim as f64 + f64::from(self.heads.eps)).sqrt();
            x.iter_mut().zip(norm).for_each(|(v, &w)| *v *= r * f64::from(w));
        }
        for pair in 0..dim / 2 {
            let (a, b) = if self.heads.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + dim / 2) };
            let turn = &self.turns[position * dim + 2 * pair..];
            let (cos, sin) = (f64::from(turn[0]), f64::from(turn[1]));
            (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
        }
        x
    }

    /// Attention of the next token of a sequence, whose q, k and v lie in `qkv`.
    fn attend(&mut self, sequence: usize, qkv: &[f32], norms: Option<(&[f32], &[f32])>) -> Vec<f64> {
        let Heads { heads, kv_heads, dim, window, .. } = self.heads;
        let (q, kv) = qkv.split_at(heads * dim);
        let (k, v) = kv.split_at(kv_heads * dim);
        let position = self.values[sequence].len() / (kv_heads * dim);
        for k in k.chunks_exact(dim) {
            let k = self.rotated(k, norms.map(|n| n.1), position);
            self.keys[sequence].extend(k);
        }
        self.values[sequence].extend(v.iter().map(|&v| f64::from(v)));
        let first = window.map_or(0, |w| (position + 1).saturating_sub(w));
        let mut out = Vec::new();
        for (head, q) in q.chunks_exact(dim).enumerate() {
            let q = self.rotated(q, norms.map(|n| n.0), position);
            let at = |p: usize| (p * kv_heads + head / (heads / kv_heads)) * dim;
            let scores: Vec<f64> = (first..=position)
                .map(|p| {
                    self.keys[sequence][at(p)..].iter().zip(&q).map(|(a, b)| a * b).sum::<f64>() / (dim as f64).sqrt()
                })
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let shares: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let total: f64 = shares.iter().sum();
            out.extend((0..dim).map(|e| {
                (first..=position).zip(&shares).map(|(p, s)| s / total * self.values[sequence][at(p) + e]).sum::<f64>()
            }));
        }
        out
    }
}

const SHAPES: [(usize, usize, usize, Option<usize>, bool, bool); 7] = [
    (20, 5, 128, None, false, false),
    (14, 2, 64, None, true, false),
    (8, 8, 128, Some(100), false, true),
    (8, 1, 64, Some(64), true, true),
    (4, 2, 128, Some(1), false, false),
    (12, 1, 64, None, false, false),
    (3, 3, 40, Some(50), true, true),
];

fn heads_of(shape: (usize, usize, usize, Option<usize>, bool, bool)) -> Heads {
    Heads { heads: shape.0, kv_heads: shape.1, dim: shape.2, window: shape.3, interleaved: shape.4, eps: 1e-6 }
}

/// Buffers of a step's rows.
struct Step {
    sequences: Buffer<u32>,
    positions: Buffer<u32>,
    qkv: Buffer<f32>,
}

impl Step {
    fn new(device: &Device, rows: &[(usize, usize)], qkv: &[f32]) -> Self {
        let sequences: Vec<u32> = rows.iter().map(|r| r.0 as u32).collect();
        let positions: Vec<u32> = rows.iter().map(|r| r.1 as u32).collect();
        Self {
            sequences: device.upload(&sequences).unwrap(),
            positions: device.upload(&positions).unwrap(),
            qkv: device.upload(qkv).unwrap(),
        }
    }

    fn at(&self, rows: usize) -> Where<'_> {
        Where { sequences: &self.sequences, positions: &self.positions, rows }
    }

    fn projected<'a>(&'a self, heads: &Heads, norms: Option<&'a (Buffer<f32>, Buffer<f32>)>) -> Projected<'a, f32> {
        let (q, kv) = (heads.heads * heads.dim, heads.kv_heads * heads.dim);
        let columns = |first| Columns { buffer: &self.qkv, first, stride: q + 2 * kv };
        Projected {
            q: columns(0),
            k: columns(q),
            v: columns(q + kv),
            q_norm: norms.map(|n| &n.0),
            k_norm: norms.map(|n| &n.1),
        }
    }
}

/// Runs rows as prefill does: every sequence's next tokens.
fn run_prefill(
    (device, stream): (&Device, &Stream),
    (heads, places): (&Heads, &Places),
    runs: &[Run],
    qkv: &[f32],
    norms: Option<&(Buffer<f32>, Buffer<f32>)>,
    cache: &mut Cache,
) -> Vec<f32> {
    let rows: Vec<(usize, usize)> =
        runs.iter().flat_map(|r| (0..r.rows).map(|i| (r.sequence, r.position + i))).collect();
    let step = Step::new(device, &rows, qkv);
    let mut queries = Queries::new(device, heads, rows.len()).unwrap();
    let mut tiles = Tiles::new(device, rows.len(), runs.len()).unwrap();
    tiles.set(runs, stream).unwrap();
    let mut out = device.upload(&vec![0x7E00u16; rows.len() * heads.heads * heads.dim]).unwrap();
    attention::store(stream, heads, places, step.at(rows.len()), &step.projected(heads, norms), cache, &mut queries)
        .unwrap();
    attention::prefill(stream, heads, places, step.at(rows.len()), (&queries, &tiles), cache, &mut out).unwrap();
    out.download(stream).unwrap().into_iter().map(from_f16).collect()
}

fn norms_of(random: &mut Random, dim: usize, wanted: bool) -> Option<[Vec<f32>; 2]> {
    wanted.then(|| [normals(random, dim), normals(random, dim)])
}

fn check_prefill(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(9);
    for shape in SHAPES {
        let heads = heads_of(shape);
        let width = (heads.heads + 2 * heads.kv_heads) * heads.dim;
        let mut reference = Reference::new(heads, 3, 300);
        let places = Places::new(device, &heads, 3, 300, &reference.turns).unwrap();
        let mut cache = Cache::new(device, &heads, places.pages(), &stream).unwrap();
        let norms = norms_of(&mut random, heads.dim, shape.5);
        let there = norms.as_ref().map(|[q, k]| (device.upload(q).unwrap(), device.upload(k).unwrap()));
        let mut lengths = [0usize; 3];
        for step in [[1, 130, 64], [65, 3, 1], [100, 128, 63]] {
            let mut runs = Vec::new();
            let mut row = 0;
            for sequence in [2, 0, 1] {
                runs.push(Run { row, rows: step[sequence], sequence, position: lengths[sequence] });
                row += step[sequence];
            }
            let qkv = normals(&mut random, row * width);
            let found = run_prefill((device, &stream), (&heads, &places), &runs, &qkv, there.as_ref(), &mut cache);
            let mut expected = Vec::new();
            for run in &runs {
                for i in 0..run.rows {
                    let qkv = &qkv[(run.row + i) * width..][..width];
                    expected.extend(reference.attend(
                        run.sequence,
                        qkv,
                        norms.as_ref().map(|n| (&n[0][..], &n[1][..])),
                    ));
                }
                lengths[run.sequence] += run.rows;
            }
            let off = distance(&found, &expected);
            assert!(off < 2e-3, "{shape:?}: {off:e}");
        }
    }
}

fn check_decode(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(10);
    for shape in SHAPES {
        let heads = heads_of(shape);
        if !attention::can_decode(&heads) {
            continue;
        }
        let (width, out_width) = ((heads.heads + 2 * heads.kv_heads) * heads.dim, heads.heads * heads.dim);
        let mut reference = Reference::new(heads, 5, 700);
        let places = Places::new(device, &heads, 5, 700, &reference.turns).unwrap();
        let mut cache = Cache::new(device, &heads, places.pages(), &stream).unwrap();
        let norms = norms_of(&mut random, heads.dim, shape.5);
        let norms_ref = || norms.as_ref().map(|n| (&n[0][..], &n[1][..]));
        let there = norms.as_ref().map(|[q, k]| (device.upload(q).unwrap(), device.upload(k).unwrap()));
        // Sequences of lengths around the edges of pages, in another order than rows; the last begins.
        let lengths = [63, 1, 600, 64, 0];
        let mut runs = Vec::new();
        let mut row = 0;
        for (sequence, rows) in lengths.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
            runs.push(Run { row, rows, sequence, position: 0 });
            row += rows;
        }
        let qkv = normals(&mut random, row * width);
        run_prefill((device, &stream), (&heads, &places), &runs, &qkv, there.as_ref(), &mut cache);
        for run in &runs {
            for i in 0..run.rows {
                reference.attend(run.sequence, &qkv[(run.row + i) * width..][..width], norms_ref());
            }
        }
        let mut parts = Parts::new(device, &heads, 5).unwrap();
        let ones = device.upload(&vec![1.0f32; out_width]).unwrap();
        let file = file(&mut random, (Encoding::T2, sbnc_format::Order::Rows, 0, 0), (16, out_width));
        let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
        for turn in 0..3 {
            let order = [3, 4, 0, 2, 1];
            let rows: Vec<(usize, usize)> = order.iter().map(|&s| (s, lengths[s] + turn)).collect();
            let qkv = normals(&mut random, 5 * width);
            let step = Step::new(device, &rows, &qkv);
            let qkv_there = step.projected(&heads, there.as_ref());
            attention::decode(&stream, &heads, &places, step.at(5), &qkv_there, &mut cache, &mut parts).unwrap();
            let mut out = Quantised::new(device, 5, layer.stored_cols()).unwrap();
            let norm = Norm { weight: &ones, eps: 0.0 };
            quantise(&stream, &Source::Parts(&parts), (5, out_width), Some(norm), 8, Order::of(&layer), &mut out)
                .unwrap();
            let (values, scales) =
                (out.view(5).values.download(&stream).unwrap(), out.view(5).scales.download(&stream).unwrap());
            let mut expected = Vec::new();
            for (row, &(sequence, _)) in rows.iter().enumerate() {
                let y = reference.attend(sequence, &qkv[row * width..][..width], norms_ref());
                let r = 1.0 / (y.iter().map(|v| v * v).sum::<f64>() / y.len() as f64).sqrt();
                expected.extend(y.into_iter().map(|v| v * r));
            }
            let found: Vec<f32> = (0..5 * out_width)
                .map(|i| {
                    let (row, k) = (i / out_width, i % out_width);
                    let place = k / 64 * 64 + k % 16 / 4 * 16 + k % 64 / 16 * 4 + k % 4;
                    f32::from(values[row * layer.stored_cols() + place]) * scales[row]
                })
                .collect();
            // Eight bits of a normal distribution, whose largest value is 3 or 4.
            let off = distance(&found, &expected);
            assert!(off < 1.2e-2, "{shape:?} turn {turn}: {off:e}");
        }
    }
}
