//! Ternary layers: the sums of every kernel equal the portable CPU kernel's, bit for bit, and what is made of them equals a plain computation.

use std::convert::Infallible;

use sbnc_format::encoding::windows;
use sbnc_format::{Encoding, Order, Pattern, Sbnc, Validated};
use sbnc_kernels::cpu::ops::plain::normal;
use sbnc_kernels::cpu::{Activations as Activations8, Matrix, Rule, portable};
use sbnc_kernels::cuda::{
    Activation, Activations, Buffer, Choice, DECODE_TOKENS, Device, Epilogue, Linear, Output, Stream,
};

use crate::Test;
use crate::numbers::normals;
use crate::support::{self, Random, Sample};

pub(crate) const TESTS: &[Test] = &[
    ("linear sums: 2:4, few tokens", |d| check_sums(d, &SPARSE, &SHAPES, &[1, 2, 7, 8, 9, 16])),
    ("linear sums: dense, few tokens", |d| check_sums(d, &DENSE, &SHAPES, &[1, 5, 8, 16])),
    ("linear sums: windows, few tokens", |d| check_sums(d, &WINDOWS, &WINDOW_SHAPES, &[1, 3, 16])),
    ("linear sums: 2:4, many tokens", |d| check_sums(d, &SPARSE, &SHAPES, &[17, 33, 100, 257, 700])),
    ("linear sums: dense, many tokens", |d| check_sums(d, &DENSE, &SHAPES, &[17, 64, 257, 700])),
    ("linear sums: windows, many tokens", |d| check_sums(d, &WINDOWS, &WINDOW_SHAPES, &[17, 200])),
    ("linear sums: so many columns that sums are no floats", |d| check_sums(d, &[DENSE[0]], &[(64, 33024)], &[3, 40])),
    ("linear outputs: bf16, f32, bias, residual", check_outputs),
    ("linear refuses buffers that are too short", check_refusals),
    ("metadata in flight is never overwritten: every tile, again and again", check_metadata),
    ("joined layers, and outputs that are added to", check_joined),
    ("gates: outputs are those of two layers, gated", check_gated),
    ("a graph of overlapping launches gives what launches one by one give", check_graph),
];

/// Encoding, order and N:M, 0:0 for none.
pub(crate) type Layout = (Encoding, Order, u8, u8);
const SPARSE: [Layout; 3] = [
    (Encoding::NmVi, Order::Fragments, 2, 4),
    (Encoding::NmVi, Order::Fragments, 1, 4),
    (Encoding::Nm6b, Order::Rows, 2, 4),
];
const DENSE: [Layout; 2] = [(Encoding::T2, Order::Rows, 0, 0), (Encoding::T5, Order::Rows, 0, 0)];
const WINDOWS: [Layout; 3] = [
    (Encoding::NmVi, Order::Windows, 4, 6),
    (Encoding::NmVi, Order::Windows, 6, 8),
    (Encoding::NmVi, Order::Windows, 8, 10),
];
/// Rows and columns: whole tiles, ragged ones, one row, more columns than a block's warps take at once.
const SHAPES: [(usize, usize); 6] = [(64, 256), (100, 192), (1, 128), (333, 1284), (2560, 640), (48, 6912)];
const WINDOW_SHAPES: [(usize, usize); 3] = [(64, 240), (333, 1200), (48, 6960)];

/// A file that holds one random layer.
pub(crate) fn file(random: &mut Random, layout: Layout, shape: (usize, usize)) -> Sbnc<Vec<u8>> {
    let pattern = Pattern::new(layout.2, layout.3).unwrap_or(Pattern::DENSE);
    let mut sample = Sample::trits(random, "w", (layout.0, layout.1), shape, pattern);
    // Of the size that models have. The digest of the content no longer fits, which nothing here looks at.
    for scale in &mut sample.scales {
        *scale = 0.01 + *scale / (1 << 20) as f32;
    }
    Sbnc::open(support::one(sample)).unwrap()
}

/// Random int8 activations, rows of inputs: quantised ones, so that the largest magnitude of a token is 127.
pub(crate) fn activations(random: &mut Random, tokens: usize, cols: usize) -> Vec<i8> {
    let mut x: Vec<i8> = (0..tokens * cols).map(|_| ((random.number() >> 17) as i8).max(-127)).collect();
    x.chunks_exact_mut(cols).for_each(|row| row[cols / 2] = -127);
    x
}

/// Rows of inputs as a layer takes them: gathered into windows, padded, permuted for few tokens.
pub(crate) fn arranged(layer: &Linear, x: &[i8], tokens: usize) -> Vec<i8> {
    let (cols, stored) = (x.len() / tokens, layer.stored_cols());
    let mut out = vec![0; tokens * stored];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(stored)) {
        for k in 0..stored {
            let input = layer.windows().map_or(k, |pattern| windows::input_of(k, pattern));
            let place = if tokens <= DECODE_TOKENS { permuted(k) } else { k };
            // What lies beyond the matrix must not matter.
            out[place] = x.get(input).copied().unwrap_or(77);
        }
    }
    out
}

/// Where the decode kernels want column `k`: position 16c + 4i + e holds column 16i + 4c + e of every 64.
fn permuted(k: usize) -> usize {
    let (i, c, e) = (k % 64 / 16, k % 16 / 4, k % 4);
    k / 64 * 64 + 16 * c + 4 * i + e
}

/// What a layer is applied to, on the GPU.
pub(crate) struct Input {
    pub(crate) values: Buffer<i8>,
    pub(crate) scales: Buffer<f32>,
    pub(crate) tokens: usize,
}

impl Input {
    pub(crate) fn new(device: &Device, layer: &Linear, x: &[i8], tokens: usize) -> Self {
        let scales: Vec<f32> = (0..tokens).map(|t| 0.02 + t as f32 / 512.0).collect();
        let values = device.upload(&arranged(layer, x, tokens)).unwrap();
        Self { values, scales: device.upload(&scales).unwrap(), tokens }
    }

    pub(crate) fn view(&self) -> Activations<'_> {
        Activations { values: &self.values, scales: &self.scales, tokens: self.tokens }
    }
}

/// The portable kernel's sums, a row of them for each token: its own for the first and the last token, and for the others the same products on all threads.
pub(crate) fn expected(tensor: &Validated<'_>, x: &[i8], tokens: usize) -> Vec<i32> {
    let (rows, cols) = tensor.matrix();
    let mut trits = Vec::with_capacity(rows * cols);
    let Ok(()) = tensor.packing().decode_batches(tensor.data(), (rows, cols), |_, piece| {
        trits.extend_from_slice(piece);
        Ok::<_, Infallible>(())
    });
    let mut sums = vec![0i32; tokens * rows];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let each = tokens.div_ceil(threads);
    std::thread::scope(|scope| {
        for (x, sums) in x.chunks(each * cols).zip(sums.chunks_mut(each * rows)) {
            let trits = &trits;
            scope.spawn(move || {
                for (x, sums) in x.chunks_exact(cols).zip(sums.chunks_exact_mut(rows)) {
                    for (row, sum) in trits.chunks_exact(cols).zip(sums) {
                        *sum = row.iter().zip(x).map(|(&t, &v)| i32::from(t) * i32::from(v)).sum();
                    }
                }
            });
        }
    });
    for token in [0, tokens - 1] {
        let row: Vec<f32> = x[token * cols..][..cols].iter().map(|&v| f32::from(v)).collect();
        let one = Activations8::quantise(&row, cols, Rule::A8);
        assert_eq!(one.values(0), &x[token * cols..][..cols], "its largest magnitude is 127");
        let scales = tensor.scales();
        assert_eq!(portable::sums(&Matrix::new(tensor, &scales).unwrap(), &one), sums[token * rows..][..rows]);
    }
    sums
}

/// Layers of gates and what they gate, for all activations, ragged tokens, and rows that are no whole tiles, beside their plain outputs.
fn check_gated(device: &Device) {
    if !device.is_hopper() {
        return;
    }
    let stream = device.stream().unwrap();
    let mut random = Random(23);
    for (layout, shape) in
        [(SPARSE[0], (512, 256)), (SPARSE[0], (6912, 640)), (DENSE[0], (288, 384)), (WINDOWS[1], (544, 1200))]
    {
        let file = file(&mut random, layout, shape);
        let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
        assert!(layer.takes_gated());
        let (rows, inner) = (shape.0, shape.0 / 2);
        let bias = device.upload(&normals(&mut random, rows)).unwrap();
        for tokens in [17, 200, 1030] {
            let input = Input::new(device, &layer, &activations(&mut random, tokens, shape.1), tokens);
            let mut plain = device.alloc::<f32>(tokens * rows).unwrap();
            let epilogue = Epilogue { bias: Some(&bias), residual: None };
            layer.forward(&stream, input.view(), Output::F32(&mut plain), epilogue).unwrap();
            let plain = plain.download(&stream).unwrap();
            for activation in [Activation::Silu, Activation::Relu2, Activation::Gelu] {
                let mut gated = device.alloc::<u16>(tokens * inner).unwrap();
                layer.forward_gated(&stream, input.view(), activation, &mut gated, Some(&bias)).unwrap();
                for (token, found) in gated.download(&stream).unwrap().chunks_exact(inner).enumerate() {
                    let (gates, ups) = plain[token * rows..][..rows].split_at(inner);
                    for ((&g, &u), &found) in gates.iter().zip(ups).zip(found) {
                        let act = match activation {
                            Activation::Silu => g / (1.0 + (-g).exp()),
                            Activation::Relu2 => g.max(0.0) * g.max(0.0),
                            Activation::Gelu => (f64::from(g) * normal(f64::from(g))) as f32,
                        };
                        let (expected, found) = (act * u, f32::from_bits(u32::from(found) << 16));
                        assert!(
                            (found - expected).abs() <= expected.abs() / 200.0 + 1e-4,
                            "{layout:?} {shape:?}, {tokens} tokens, {activation:?}: {found} for {expected}"
                        );
                    }
                }
            }
        }
    }
}

fn check_sums(device: &Device, layouts: &[Layout], shapes: &[(usize, usize)], tokens: &[usize]) {
    let stream = device.stream().unwrap();
    let mut random = Random(shapes.len() as u64);
    for &layout in layouts {
        for &(rows, cols) in shapes {
            let cols = cols.next_multiple_of(usize::from(layout.3.max(1)));
            let file = file(&mut random, layout, (rows, cols));
            let tensor = file.tensor("w").unwrap().validate().unwrap();
            let layer = Linear::upload(device, &tensor).unwrap();
            let x = activations(&mut random, tokens.iter().copied().max().unwrap(), cols);
            let all = expected(&tensor, &x, x.len() / cols);
            for &tokens in tokens {
                let input = Input::new(device, &layer, &x[..tokens * cols], tokens);
                for choice in layer.choices(tokens) {
                    let sums = sums(&stream, &layer, choice, &input);
                    let at = sums.iter().zip(&all).position(|(a, b)| a != b);
                    let what = format!("{layout:?}, {rows} × {cols}, {tokens} tokens, {}", choice.name());
                    assert!(at.is_none(), "{what}: {:?}", at.map(|at| (at / rows, at % rows, sums[at], all[at])));
                }
            }
        }
    }
}

fn sums(stream: &Stream, layer: &Linear, choice: Choice, input: &Input) -> Vec<i32> {
    let mut out = stream.device().alloc::<i32>(input.tokens * layer.rows()).unwrap();
    out.set_bytes(0x5A, stream).unwrap();
    layer.forward_with(choice, stream, input.view(), Output::Sums(&mut out), Epilogue::default()).unwrap();
    out.download(stream).unwrap()
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn check_outputs(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(5);
    for (layout, (rows, cols)) in [(SPARSE[0], (333, 1284)), (DENSE[0], (200, 1284)), (SPARSE[0], (520, 1024))] {
        for tokens in [1, 8, 13, 40, 200] {
            let file = file(&mut random, layout, (rows, cols));
            let tensor = file.tensor("w").unwrap().validate().unwrap();
            let layer = Linear::upload(device, &tensor).unwrap();
            let x = activations(&mut random, tokens, cols);
            let input = Input::new(device, &layer, &x, tokens);
            let (row_scales, token_scales) = (tensor.scales(), input.scales.download(&stream).unwrap());
            let bias: Vec<f32> = (0..rows).map(|_| (random.number() >> 40) as f32 / (1 << 22) as f32 - 2.0).collect();
            let residual: Vec<u16> = (0..rows * tokens).map(|_| 0x4000 | (random.number() & 0x80FF) as u16).collect();
            let (bias_there, residual_there) = (device.upload(&bias).unwrap(), device.upload(&residual).unwrap());
            let sums = expected(&tensor, &x, tokens);
            for choice in layer.choices(tokens) {
                for with in 0..4 {
                    let epilogue = Epilogue {
                        bias: (with & 1 > 0).then_some(&bias_there),
                        residual: (with & 2 > 0).then_some(&residual_there),
                    };
                    let mut wide = device.alloc::<f32>(tokens * rows).unwrap();
                    let mut narrow = device.alloc::<u16>(tokens * rows).unwrap();
                    layer.forward_with(choice, &stream, input.view(), Output::F32(&mut wide), epilogue).unwrap();
                    layer.forward_with(choice, &stream, input.view(), Output::Bf16(&mut narrow), epilogue).unwrap();
                    let mut added = device.upload(&vec![3.0f32; tokens * rows]).unwrap();
                    layer.forward_with(choice, &stream, input.view(), Output::Add(&mut added), epilogue).unwrap();
                    let (wide, narrow) = (wide.download(&stream).unwrap(), narrow.download(&stream).unwrap());
                    let added = added.download(&stream).unwrap();
                    for (i, &sum) in sums.iter().enumerate() {
                        let (token, row) = (i / rows, i % rows);
                        let scaled = f64::from(sum) * f64::from(row_scales[row]) * f64::from(token_scales[token]);
                        let linear = scaled + if with & 1 > 0 { f64::from(bias[row]) } else { 0.0 };
                        let y = linear + if with & 2 > 0 { f64::from(from_bf16(residual[i])) } else { 0.0 };
                        // A few roundings of f32, relative to the largest part.
                        let bound = (scaled.abs() + y.abs() + 8.0) * 4e-7;
                        assert!(
                            (f64::from(wide[i]) - y).abs() <= bound,
                            "{} f32 {token},{row}: {} {y}",
                            choice.name(),
                            wide[i]
                        );
                        assert!(
                            (f64::from(added[i]) - y - 3.0).abs() <= bound,
                            "{} added {token},{row}: {} {y} + 3",
                            choice.name(),
                            added[i]
                        );
                        assert!(
                            (f64::from(from_bf16(narrow[i])) - y).abs() <= bound + y.abs() / 255.0,
                            "{} bf16 {token},{row}: {} {y}",
                            choice.name(),
                            from_bf16(narrow[i])
                        );
                    }
                }
            }
        }
    }
}

fn check_refusals(device: &Device) {
    let stream = device.stream().unwrap();
    let file = file(&mut Random(3), SPARSE[0], (64, 256));
    let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
    let (values, scales) = (device.alloc::<i8>(511).unwrap(), device.alloc::<f32>(2).unwrap());
    let mut out = device.alloc::<f32>(128).unwrap();
    let x = Activations { values: &values, scales: &scales, tokens: 2 };
    let refused = layer.forward(&stream, x, Output::F32(&mut out), Epilogue::default()).unwrap_err().to_string();
    assert!(refused.contains("511 values") && refused.contains("512"), "{refused}");
    let refused = layer.forward(&stream, Activations { tokens: 0, ..x }, Output::F32(&mut out), Epilogue::default());
    assert_eq!(refused.unwrap_err().to_string(), "no tokens");
}

/// A chain of layers, each reading what the one before wrote: with overlapping launches, in a graph, many times.
fn check_graph(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(11);
    let file = file(&mut random, SPARSE[0], (1024, 1024));
    let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
    let x = activations(&mut random, 1, 1024);
    let input = Input::new(device, &layer, &x, 1);
    let residual = device.upload(&vec![0u16; 1024]).unwrap();
    let run = |buffers: &mut [Buffer<u16>], stream: &Stream| {
        for i in 1..buffers.len() {
            // Every layer adds to what the one before wrote.
            let (before, after) = buffers.split_at_mut(i);
            let epilogue = Epilogue { bias: None, residual: Some(if i == 1 { &residual } else { &before[i - 1] }) };
            layer.forward(stream, input.view(), Output::Bf16(&mut after[0]), epilogue)?;
        }
        Ok(())
    };
    let fresh = || -> Vec<Buffer<u16>> { (0..50).map(|_| device.upload(&vec![0x7FC0u16; 1024]).unwrap()).collect() };
    let mut plain = fresh();
    for i in 1..plain.len() {
        let (before, after) = plain.split_at_mut(i);
        let epilogue = Epilogue { bias: None, residual: Some(if i == 1 { &residual } else { &before[i - 1] }) };
        layer.forward(&stream, input.view(), Output::Bf16(&mut after[0]), epilogue).unwrap();
        stream.synchronize().unwrap();
    }
    let plain = plain[49].download(&stream).unwrap();
    let mut captured = fresh();
    let graph = stream.capture(|stream| run(&mut captured, stream)).unwrap();
    for _ in 0..20 {
        graph.launch(&stream).unwrap();
        assert_eq!(captured[49].download(&stream).unwrap(), plain);
    }
}

/// Matrix instructions read their metadata register while later code prepares the next; where the compiler lets that code overwrite it, sums are wrong now and then. So
/// every tile runs many times on a layer whose metadata differs everywhere, against the few-token kernels, which use other instructions.
fn check_metadata(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(13);
    let (rows, cols, tokens) = (1536, 4096, 768);
    let file = file(&mut random, SPARSE[0], (rows, cols));
    let layer = Linear::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
    let x = activations(&mut random, tokens, cols);
    let mut reference = Vec::new();
    for x in x.chunks(DECODE_TOKENS * cols) {
        let input = Input::new(device, &layer, x, x.len() / cols);
        reference.extend(sums(&stream, &layer, layer.choices(input.tokens)[0], &input));
    }
    let input = Input::new(device, &layer, &x, tokens);
    for choice in layer.choices(tokens) {
        for round in 0..20 {
            let found = sums(&stream, &layer, choice, &input);
            let wrong = found.iter().zip(&reference).filter(|(a, b)| a != b).count();
            assert_eq!(wrong, 0, "{} in round {round}", choice.name());
        }
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
