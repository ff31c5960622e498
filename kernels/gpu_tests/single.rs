//! Layers of one token that quantise what they read: the same outputs as quantising first and computing then.

use sbnc_format::{Encoding, Order as Stored};
use sbnc_kernels::cuda::{
    Activation, Columns, Device, Epilogue, Linear, Norm, Order, Output, Quantised, Reads, Source, quantise,
};

use crate::Test;
use crate::linear::{Layout, file};
use crate::numbers::{distance, normals};
use crate::support::Random;

pub(crate) const TESTS: &[Test] = &[
    ("single tokens: outputs are those of two launches, bit for bit", check_outputs),
    ("single tokens: norms, gates and residuals", check_norms),
    ("single tokens: refusals", check_refusals),
];

const LAYOUTS: [Layout; 5] = [
    (Encoding::NmVi, Stored::Fragments, 2, 4),
    (Encoding::NmVi, Stored::Windows, 6, 8),
    (Encoding::NmVi, Stored::Windows, 4, 6),
    (Encoding::T2, Stored::Rows, 0, 0),
    (Encoding::Nm6b, Stored::Rows, 2, 4),
];
/// Rows and inputs: one tile, ragged rows, every number of chunks, more columns than a block's warps take at once.
const SHAPES: [(usize, usize); 7] = [(16, 240), (1, 48), (333, 1200), (96, 2400), (64, 6960), (48, 14_400), (32, 9600)];

fn upload(device: &Device, random: &mut Random, layout: Layout, shape: (usize, usize)) -> Linear {
    Linear::upload(device, &file(random, layout, shape).tensor("w").unwrap().validate().unwrap()).unwrap()
}

fn check_outputs(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(17);
    for layout in LAYOUTS {
        for (rows, cols) in SHAPES {
            let layer = upload(device, &mut random, layout, (rows, cols));
            let x = device.upload(&normals(&mut random, cols)).unwrap();
            let bias = device.upload(&normals(&mut random, rows)).unwrap();
            let source = Source::F32(Columns::rows(&x, cols));
            for bits in [8, 4] {
                let mut quantised = Quantised::new(device, 1, layer.stored_cols()).unwrap();
                quantise(&stream, &source, (1, cols), None, bits, Order::of(&layer), &mut quantised).unwrap();
                let (mut two, mut one) = (device.alloc::<f32>(rows).unwrap(), device.alloc::<f32>(rows).unwrap());
                let epilogue = Epilogue { bias: Some(&bias), residual: None };
                layer.forward(&stream, quantised.view(1), Output::F32(&mut two), epilogue).unwrap();
                let reads = Reads { source: &source, inputs: cols, norm: None, bits };
                layer.forward_one(&stream, reads, None, Output::F32(&mut one), Some(&bias)).unwrap();
                let [one, two] = [one, two].map(|out| out.download(&stream).unwrap());
                // With 4 bits the factor is a mean, whose sum has another order in the other kernel.
                let same = if bits == 8 {
                    one == two
                } else {
                    let wide: Vec<f64> = two.iter().map(|&v| f64::from(v)).collect();
                    distance(&one, &wide) < 2e-2
                };
                assert!(same, "{layout:?} {rows} × {cols}, {bits} bits");
            }
        }
    }
}

fn check_norms(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(18);
    let (rows, cols) = (320, 2400);
    let weight = device.upload(&normals(&mut random, cols)).unwrap();
    let norm = Some(Norm { weight: &weight, eps: 1e-5 });
    for layout in [LAYOUTS[0], LAYOUTS[1], LAYOUTS[3]] {
        let layer = upload(device, &mut random, layout, (rows, cols));
        let x = device.upload(&normals(&mut random, cols)).unwrap();
        let source = Source::F32(Columns::rows(&x, cols));
        let mut quantised = Quantised::new(device, 1, layer.stored_cols()).unwrap();
        quantise(&stream, &source, (1, cols), norm, 8, Order::of(&layer), &mut quantised).unwrap();
        let mut two = device.alloc::<f32>(rows).unwrap();
        layer.forward(&stream, quantised.view(1), Output::F32(&mut two), Epilogue::default()).unwrap();
        let two: Vec<f64> = two.download(&stream).unwrap().iter().map(|&v| f64::from(v)).collect();
        let reads = Reads { source: &source, inputs: cols, norm, bits: 8 };

        let before = normals(&mut random, rows);
        let mut sum = device.upload(&before).unwrap();
        layer.forward_one(&stream, reads, None, Output::Add(&mut sum), None).unwrap();
        let expected: Vec<f64> = two.iter().zip(&before).map(|(a, &b)| a + f64::from(b)).collect();
        assert!(distance(&sum.download(&stream).unwrap(), &expected) < 2e-3, "{layout:?}: added");

        let (gates, ups) = two.split_at(rows / 2);
        for activation in [Activation::Silu, Activation::Relu2, Activation::Gelu] {
            let act = |g: f64| match activation {
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::Relu2 => g.max(0.0) * g.max(0.0),
                Activation::Gelu => g * sbnc_kernels::cpu::ops::plain::normal(g),
            };
            let mut gated = device.alloc::<f32>(rows / 2).unwrap();
            layer.forward_one(&stream, reads, Some(activation), Output::F32(&mut gated), None).unwrap();
            let expected: Vec<f64> = gates.iter().zip(ups).map(|(&g, u)| act(g) * u).collect();
            assert!(distance(&gated.download(&stream).unwrap(), &expected) < 5e-3, "{layout:?}: {activation:?}");
        }
    }
}

fn check_refusals(device: &Device) {
    let stream = device.stream().unwrap();
    let layer = upload(device, &mut Random(19), LAYOUTS[0], (48, 256));
    let x = device.upload(&[0.5f32; 256]).unwrap();
    let source = Source::F32(Columns::rows(&x, 256));
    let reads = Reads { source: &source, inputs: 256, norm: None, bits: 8 };
    let mut out = device.alloc::<f32>(48).unwrap();
    // 48 rows are no two halves of whole blocks of 16.
    assert!(layer.forward_one(&stream, reads, Some(Activation::Silu), Output::F32(&mut out), None).is_err());
    let mut short = device.alloc::<f32>(47).unwrap();
    assert!(layer.forward_one(&stream, reads, None, Output::F32(&mut short), None).is_err());
    let long = Reads { inputs: 264, ..reads };
    assert!(layer.forward_one(&stream, long, None, Output::F32(&mut out), None).is_err());
    assert!(layer.forward_one(&stream, reads, None, Output::F32(&mut out), None).is_ok());
}
