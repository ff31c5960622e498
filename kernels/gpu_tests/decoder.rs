//! Everything of a decoder but its linear layers, each against a plain computation in f64 or the portable kernel.

use sbnc_format::encoding::windows;
use sbnc_format::{Encoding, Role};
use sbnc_kernels::cpu::{Activations, Rule};
use sbnc_kernels::cuda::attention::{self, Cache, Heads, Parts, Places, Projected, Queries, Run, Tiles, Where};
use sbnc_kernels::cuda::{
    Activation, Buffer, Chooser, Columns, DECODE_TOKENS, Dense, Device, Epilogue, Linear, Logits, Norm, Order, Output,
    Quantised, Sampling, Source, Stream, normalise_some, quantise,
};

use crate::Test;
use crate::linear::{Input, activations, arranged, file};
use crate::support::{self, Random, Sample};

pub(crate) const TESTS: &[Test] = &[
    ("quantised rows are the portable kernel's, in every order", check_quantise),
    ("norms and gates", check_norms),
    ("attention: decoding, window, heads, both pairings", check_decode),
    ("attention: prefill with prefixes, window, widths", check_prefill),
    ("embedding and output head, all types", check_dense),
    ("choosing: greedy, filters, seeds", check_choosing),
    ("joined layers, and outputs that are added to", check_joined),
];

fn normal(random: &mut Random) -> f32 {
    let unit = |r: &mut Random| (r.number() >> 11) as f64 / (1u64 << 53) as f64;
    let (a, b) = (unit(random).max(1e-12), unit(random));
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

fn normals(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| normal(random)).collect()
}

fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |v: f64| v * v;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - b)).sum();
    (difference / expected.iter().map(|&v| square(v)).sum::<f64>().max(1e-30)).sqrt()
}

fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, i32::from(bits >> 10 & 31), u32::from(bits & 1023));
    match exponent {
        0 => f32::from_bits(sign | 0x3F80_0000) * fraction as f32 / (1 << 24) as f32,
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | ((exponent + 112) as u32) << 23 | fraction << 13),
    }
}

/// Quantising for layers in windows and without, for few tokens and many: the bytes that a layer would be given by hand.
fn check_quantise(device: &Device) {
    use sbnc_format::Order as Stored;
    let stream = device.stream().unwrap();
    let mut random = Random(7);
    let layouts = [
        (Encoding::NmVi, Stored::Fragments, 2, 4),
        (Encoding::NmVi, Stored::Windows, 6, 8),
        (Encoding::NmVi, Stored::Windows, 4, 6),
        (Encoding::T2, Stored::Rows, 0, 0),
    ];
    for layout in layouts {
        for (cols, tokens) in [(240, 1), (240, 17), (6912, 3), (12_000, 2)] {
            let file = file(&mut random, layout, (16, cols));
            let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
            let x = normals(&mut random, tokens * cols);
            let mut expected = Vec::new();
            let mut scales = Vec::new();
            for x in x.chunks_exact(cols) {
                let token = Activations::quantise(x, cols, Rule::A8);
                expected.extend_from_slice(token.values(0));
                scales.push(1.0 / token.scale(0));
            }
            // Where inputs lie beyond the matrix, the kernel writes zeros.
            let mut expected = arranged(&layer, &expected, tokens);
            let inputs = |k: usize| layer.windows().map_or(k, |p| windows::input_of(k, p)) < cols;
            for row in expected.chunks_exact_mut(layer.stored_cols()) {
                for k in (0..row.len()).filter(|&k| !inputs(k)) {
                    let (i, c, e) = (k % 64 / 16, k % 16 / 4, k % 4);
                    row[if tokens <= DECODE_TOKENS { k / 64 * 64 + 16 * c + 4 * i + e } else { k }] = 0;
                }
            }
            let there = device.upload(&x).unwrap();
            let mut out = Quantised::new(device, tokens, layer.stored_cols()).unwrap();
            let source = Source::F32(Columns::rows(&there, cols));
            quantise(&stream, &source, (tokens, cols), None, 8, Order::of(&layer), &mut out).unwrap();
            let view = out.view(tokens);
            assert_eq!(view.values.download(&stream).unwrap(), expected, "{layout:?} {cols} {tokens}");
            assert_eq!(view.scales.download(&stream).unwrap(), scales);
        }
    }
}

fn check_norms(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(8);
    let (tokens, cols) = (5, 640);
    let weight: Vec<f32> = normals(&mut random, cols);
    let weight_there = device.upload(&weight).unwrap();
    let norm = Norm { weight: &weight_there, eps: 1e-5 };
    let x = normals(&mut random, tokens * cols);
    let there = device.upload(&x).unwrap();
    let plain = |x: &[f64]| -> Vec<f64> {
        let r = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / cols as f64 + 1e-5).sqrt();
        x.iter().zip(&weight).map(|(v, &w)| v * r * f64::from(w)).collect()
    };
    let rows = device.upload(&[4u32, 0, 2]).unwrap();
    let mut out = device.alloc(3 * cols).unwrap();
    let x_there = Columns::rows(&there, cols);
    normalise_some(&stream, x_there, (&rows, tokens), (3, cols), norm, &mut out).unwrap();
    let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let expected: Vec<f64> = [4, 0, 2].iter().flat_map(|&row| plain(&wide[row * cols..][..cols])).collect();
    assert!(distance(&out.download(&stream).unwrap(), &expected) < 1e-6);

    let gates = normals(&mut random, tokens * 2 * cols);
    let gates_there = device.upload(&gates).unwrap();
    let file = file(&mut random, (Encoding::NmVi, sbnc_format::Order::Fragments, 2, 4), (16, cols));
    let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
    for activation in [Activation::Silu, Activation::Relu2, Activation::Gelu] {
        for bits in [8, 4] {
            let columns = |first| Columns { buffer: &gates_there, first, stride: 2 * cols };
            let mut out = Quantised::new(device, tokens, layer.stored_cols()).unwrap();
            let source = Source::Gated(activation, columns(0), columns(cols));
            quantise(&stream, &source, (tokens, cols), Some(norm), bits, Order::of(&layer), &mut out).unwrap();
            let (values, scales) = (
                out.view(tokens).values.download(&stream).unwrap(),
                out.view(tokens).scales.download(&stream).unwrap(),
            );
            let gate = |row: usize, k: usize| f64::from(gates[row * 2 * cols + k]);
            let mut expected = Vec::new();
            for (row, &found) in scales.iter().enumerate() {
                let act = |g: f64| match activation {
                    Activation::Silu => g / (1.0 + (-g).exp()),
                    Activation::Relu2 => g.max(0.0) * g.max(0.0),
                    Activation::Gelu => {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g * g * g);
                        0.5 * g * (1.0 + inner.tanh())
                    }
                };
                let h: Vec<f64> = (0..cols).map(|k| act(gate(row, k)) * gate(row, cols + k)).collect();
                let y = plain(&h);
                let scale = match bits {
                    4 => 7f64.sqrt() / (y.iter().map(|v| v.abs()).sum::<f64>() / cols as f64),
                    _ => 127.0 / y.iter().fold(0.0, |m: f64, v| m.max(v.abs())),
                };
                assert!((f64::from(found) * scale - 1.0).abs() < 1e-5, "{activation:?} {bits}");
                let most = if bits == 4 { (-8.0, 7.0) } else { (-128.0, 127.0) };
                expected.extend(y.iter().map(|v| (v * scale).round_ties_even().clamp(most.0, most.1) as i8));
            }
            let expected = arranged(&layer, &expected, tokens);
            let off = values.iter().zip(&expected).filter(|(a, b)| a != b).count();
            let far = values.iter().zip(&expected).any(|(&a, &b)| (i32::from(a) - i32::from(b)).abs() > 1);
            assert!(off * 1000 < values.len() && !far, "{activation:?} {bits}: {off} of {} differ", values.len());
        }
    }
}

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

fn dense(
    random: &mut Random,
    encoding: Encoding,
    (rows, cols): (usize, usize),
) -> (sbnc_format::Sbnc<Vec<u8>>, Vec<f64>) {
    let values = normals(random, rows * cols);
    let (mut bytes, mut scales, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for row in values.chunks_exact(cols) {
        let scale = row.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
        for &v in row {
            match encoding {
                Encoding::F32 => bytes.extend(v.to_le_bytes()),
                Encoding::Bf16 => bytes.extend(((v.to_bits() >> 16) as u16).to_le_bytes()),
                // f16 of what a bf16 with a small exponent and three bits of fraction says.
                Encoding::F16 => bytes.extend(
                    ((v.to_bits() >> 16 & 0x8000) as u16 | 0x3C00 | (v.to_bits() >> 13 & 0x3FF) as u16).to_le_bytes(),
                ),
                _ => bytes.push((v / scale).round() as i8 as u8),
            }
            plain.push(match encoding {
                Encoding::F32 => f64::from(v),
                Encoding::Bf16 => f64::from(f32::from_bits(v.to_bits() & 0xFFFF_0000)),
                Encoding::F16 => {
                    f64::from(f32::from_bits(v.to_bits() & 0x8000_0000 | 0x3F80_0000 | v.to_bits() & 0x7F_E000))
                }
                _ => f64::from((v / scale).round()) * f64::from(scale),
            });
        }
        scales.push(scale);
    }
    let scales = if encoding == Encoding::I8 { scales } else { Vec::new() };
    let mut sample = Sample::values(random, "w", Role::Head, encoding, &[rows as u64, cols as u64]);
    (sample.data, sample.scales) = (bytes, scales);
    (sbnc_format::Sbnc::open(support::one(sample)).unwrap(), plain)
}

fn check_dense(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(12);
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Bf16, Encoding::I8] {
        for (rows, cols) in [(1003, 256), (5000, 1984), (77, 72)] {
            let (file, plain) = dense(&mut random, encoding, (rows, cols));
            let matrix = Dense::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
            let ids: Vec<u32> = (0..9).map(|_| (random.number() % rows as u64) as u32).collect();
            let mut out = device.alloc(9 * cols).unwrap();
            matrix.embed(&stream, &device.upload(&ids).unwrap(), 9, &mut out).unwrap();
            let expected: Vec<f64> = ids.iter().flat_map(|&id| &plain[id as usize * cols..][..cols]).copied().collect();
            assert!(distance(&out.download(&stream).unwrap(), &expected) < 1e-7, "{encoding:?} rows");

            for tokens in [1, 4, 5, 13, 16, 33, 100] {
                let x = normals(&mut random, tokens * cols);
                let mut logits = Logits::new(&matrix, tokens).unwrap();
                matrix.logits(&stream, &device.upload(&x).unwrap(), tokens, &mut logits).unwrap();
                let expected: Vec<f64> = x
                    .chunks_exact(cols)
                    .flat_map(|x| {
                        plain.chunks_exact(cols).map(move |w| w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum())
                    })
                    .collect();
                let found = logits.values.download(&stream).unwrap();
                let off = distance(&found, &expected);
                let bound = if encoding == Encoding::I8 && tokens > 16 { 5e-4 } else { 2e-5 };
                assert!(off < bound, "{encoding:?} {rows} × {cols}, {tokens} tokens: {off:e}");
                check_greedy(&stream, &logits, &found, rows, tokens);
            }
        }
    }
}

/// Temperature 0 finds the first of the largest logits, also through what the head has found.
fn check_greedy(stream: &Stream, logits: &Logits, found: &[f32], vocab: usize, rows: usize) {
    let device = stream.device();
    let mut chooser = Chooser::new(device, rows, 4).unwrap();
    let greedy = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1, first: 0 };
    chooser.set(&vec![greedy; rows], stream).unwrap();
    let mut tokens = device.upload(&vec![u32::MAX; rows]).unwrap();
    let mut positions = device.upload(&vec![6u32; rows]).unwrap();
    chooser.choose(stream, logits, vocab, rows, &mut tokens, &mut positions).unwrap();
    let expected: Vec<u32> = found
        .chunks_exact(vocab)
        .map(|l| (0..vocab).fold(0, |best, i| if l[i] > l[best] { i } else { best }) as u32)
        .collect();
    assert_eq!(tokens.download(stream).unwrap(), expected);
    assert_eq!(positions.download(stream).unwrap(), vec![7; rows]);
    assert_eq!(chooser.chosen(stream, rows - 1, 6, 1).unwrap(), expected[rows - 1..]);
}

/// Draws of the same logits at many positions: only what the filters keep, with the frequencies that they should have, and the same ones again.
fn check_choosing(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(13);
    const DRAWS: usize = 4000;
    for (vocab, temperature, top_k, top_p, min_p) in [
        (64, 1.0, 0, 1.0, 0.0),
        (64, 0.7, 5, 1.0, 0.0),
        (67, 1.3, 0, 0.8, 0.0),
        (1000, 1.0, 20, 0.9, 0.0),
        (1000, 0.8, 40, 0.95, 0.05),
        (1001, 2.0, 1, 1.0, 0.0),
        (40_000, 1.5, 0, 0.3, 0.0),
    ] {
        let row: Vec<f32> = normals(&mut random, vocab).iter().map(|v| 2.0 * v).collect();
        let (file, _) = dense(&mut random, Encoding::F32, (vocab, 8));
        let head = Dense::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
        let rows = DRAWS.min(40_000_000 / vocab);
        let mut logits = Logits::new(&head, rows).unwrap();
        logits.values.fill_at(0, &row.repeat(rows)).unwrap();
        let mut chooser = Chooser::new(device, rows, 1).unwrap();
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed: 99, first: 0 };
        chooser.set(&vec![sampling; rows], &stream).unwrap();
        let mut draw = || {
            let mut tokens = device.alloc::<u32>(rows).unwrap();
            let numbers: Vec<u32> = (0..rows as u32).collect();
            let mut positions = device.upload(&numbers).unwrap();
            chooser.choose(&stream, &logits, vocab, rows, &mut tokens, &mut positions).unwrap();
            tokens.download(&stream).unwrap()
        };
        let tokens = draw();
        assert_eq!(tokens, draw(), "the same seed");
        let mut order: Vec<usize> = (0..vocab).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let best = row[order[0]];
        let weight = |token: usize, heat: f32| f64::from((row[token] - best) / heat).exp();
        order.truncate(if top_k == 0 { vocab } else { top_k });
        let total: f64 = order.iter().map(|&t| weight(t, 1.0)).sum();
        let mut sum = 0.0;
        let enough = order.iter().position(|&t| {
            sum += weight(t, 1.0);
            sum >= total * f64::from(top_p)
        });
        order.truncate(enough.map_or(order.len(), |e| e + 1));
        order.retain(|&t| weight(t, 1.0) >= f64::from(min_p));
        let total: f64 = order.iter().map(|&t| weight(t, temperature)).sum();
        let mut seen = vec![0usize; vocab];
        tokens.iter().for_each(|&t| seen[t as usize] += 1);
        assert_eq!(order.iter().map(|&t| seen[t]).sum::<usize>(), rows, "a word that the filters drop");
        let chances = order.iter().map(|&t| weight(t, temperature) / total);
        let (mut off, mut expected) = (0.0, 0.0);
        for (p, &t) in chances.zip(&order) {
            off += (seen[t] as f64 / rows as f64 - p).abs();
            expected += (p * (1.0 - p) / rows as f64).sqrt() * 0.8;
        }
        assert!(off < 2.0 * expected + 1e-9 || order.len() > rows, "{vocab}: {off} where {expected} is expected");
        // The draw itself: number n of the generator, in the order of ids.
        order.sort_unstable();
        let mut generator = 99u64;
        let mut same = 0;
        for &token in &tokens {
            generator = generator.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = generator;
            z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            let target = ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64 * total;
            let mut sum = 0.0;
            let place = order.iter().find(|&&t| {
                sum += weight(t, temperature);
                sum > target
            });
            same += usize::from(place == Some(&(token as usize)));
        }
        assert!(same * 1000 >= rows * 998, "{vocab}: {same} of {rows} draws as on a processor");
    }
}

fn check_joined(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(14);
    for layout in
        [(Encoding::NmVi, sbnc_format::Order::Fragments, 2, 4), (Encoding::T2, sbnc_format::Order::Rows, 0, 0)]
    {
        for tokens in [1, 16, 20, 200] {
            let cols = 384;
            let parts: Vec<Linear> = [128, 48, 50]
                .into_iter()
                .map(|rows| {
                    let file = file(&mut random, layout, (rows, cols));
                    Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap()
                })
                .collect();
            let x = activations(&mut random, tokens, cols);
            let input = Input::new(device, &parts[0], &x, tokens);
            let mut expected = vec![0.0f32; tokens * 226];
            let mut first = 0;
            for part in &parts {
                let mut out = device.alloc::<f32>(tokens * part.rows()).unwrap();
                part.forward(&stream, input.view(), Output::F32(&mut out), Epilogue::default()).unwrap();
                for (token, row) in out.download(&stream).unwrap().chunks_exact(part.rows()).enumerate() {
                    expected[token * 226 + first..][..part.rows()].copy_from_slice(row);
                }
                first += part.rows();
            }
            assert!(Linear::can_join(&parts.iter().collect::<Vec<_>>()));
            let whole = Linear::join(&stream, parts).unwrap();
            let before = normals(&mut random, tokens * 226);
            let mut out = device.upload(&before).unwrap();
            whole.forward(&stream, input.view(), Output::Add(&mut out), Epilogue::default()).unwrap();
            for ((found, expected), before) in out.download(&stream).unwrap().iter().zip(&expected).zip(&before) {
                let sum = expected + before;
                assert!((found - sum).abs() <= 4e-7 * (expected.abs() + sum.abs() + 1.0), "{found} {sum}");
            }
        }
    }
}
