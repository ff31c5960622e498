//! What lies between the layers: norms, gates and quantising, against plain computations in f64 and the portable kernel.

use sbnc_format::Encoding;
use sbnc_format::encoding::windows;
use sbnc_kernels::cpu::ops::plain;
use sbnc_kernels::cpu::{Activations, Rule};
use sbnc_kernels::cuda::{
    Activation, Columns, DECODE_TOKENS, Device, Linear, Norm, Order, Quantised, Source, normalise_some, quantise,
};

use crate::Test;
use crate::linear::{arranged, file};
use crate::numbers::{distance, normals};
use crate::support::Random;

pub(crate) const TESTS: &[Test] =
    &[("quantised rows are the portable kernel's, in every order", check_quantise), ("norms and gates", check_norms)];

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
                    Activation::Gelu => g * plain::normal(g),
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
