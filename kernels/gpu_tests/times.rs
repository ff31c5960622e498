//! Times of layers, with weights rotated out of the caches, beside their floors.

use sbnc_format::{Encoding, Order};
use sbnc_kernels::cuda::{Choice, Device, Epilogue, Linear, Output, Stream};

use crate::Test;
use crate::linear::{Input, Layout, activations, file};
use crate::support::Random;

pub(crate) const TABLES: &[Test] = &[
    ("decode 2:4, every kernel", |d| decode(d, (Encoding::NmVi, Order::Fragments, 2, 4), ROTATED, &[1, 4, 8, 16])),
    ("decode 2:4, weights in the cache", |d| decode(d, (Encoding::NmVi, Order::Fragments, 2, 4), 10 << 20, &[1])),
    ("chain: 30 times the four layers of a 2B model, batch 1", chain),
    ("layers 2:4, as chosen, in windows of 30 ms", |d| chosen(d, (Encoding::NmVi, Order::Fragments, 2, 4), 30.0)),
    ("layers dense, as chosen, in windows of 30 ms", |d| chosen(d, (Encoding::T2, Order::Rows, 0, 0), 30.0)),
    ("large layers 2:4, as chosen, for a second", sustained),
    ("prefill 2:4, every kernel", |d| prefill(d, (Encoding::NmVi, Order::Fragments, 2, 4))),
    ("prefill dense, every kernel", |d| prefill(d, (Encoding::T2, Order::Rows, 0, 0))),
    ("decode dense, every kernel", |d| decode(d, (Encoding::T2, Order::Rows, 0, 0), ROTATED, &[1, 16])),
];

/// BitNet-2B's four layers, Qwen-7B's widest and a square.
const SHAPES: [(usize, usize); 6] =
    [(3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912), (37888, 3584), (8192, 8192)];
/// Weights that are rotated through, in bytes: several times the largest second-level cache.
const ROTATED: usize = 300 << 20;

/// A layer often enough that no copy is still in a cache when its turn comes again.
struct Rotation {
    layers: Vec<Linear>,
}

impl Rotation {
    fn new(device: &Device, layout: Layout, shape: (usize, usize), rotated: usize) -> Self {
        let file = file(&mut Random(1), layout, shape);
        let tensor = file.tensor("w").unwrap().validate().unwrap();
        let bytes = shape.0 * shape.1 / 4;
        let copies = (rotated / bytes).clamp(2, 60);
        Self { layers: (0..copies).map(|_| Linear::upload(device, &tensor).unwrap()).collect() }
    }

    /// Launches of a graph: enough that its own launch does not count.
    fn nodes(&self) -> usize {
        self.layers.len() * 60usize.div_ceil(self.layers.len())
    }

    /// Median microseconds of a layer, over graphs that run all copies, for about `window` milliseconds.
    fn microseconds(&self, stream: &Stream, input: &Input, choice: Option<Choice>, window: f32) -> f64 {
        let mut out = stream.device().alloc::<u16>(input.tokens * self.layers[0].rows()).unwrap();
        let graph = stream
            .capture(|stream| {
                for layer in self.layers.iter().cycle().take(self.nodes()) {
                    let choice = choice.unwrap_or_else(|| layer.choices(input.tokens)[0]);
                    layer.forward_with(choice, stream, input.view(), Output::Bf16(&mut out), Epilogue::default())?;
                }
                Ok(())
            })
            .unwrap();
        let time = |rounds: usize| {
            let start = stream.event().unwrap();
            for _ in 0..rounds {
                graph.launch(stream).unwrap();
            }
            start.milliseconds_to(&stream.event().unwrap()).unwrap()
        };
        time(1);
        let rounds = ((window / time(2) * 2.0) as usize).clamp(1, 1000);
        let mut times: Vec<f32> = (0..3).map(|_| time(rounds)).collect();
        times.sort_by(f32::total_cmp);
        f64::from(times[1]) * 1e3 / (rounds * self.nodes()) as f64
    }
}

fn decode(device: &Device, layout: Layout, rotated: usize, tokens: &[usize]) {
    let stream = device.stream().unwrap();
    for shape in SHAPES {
        let rotation = Rotation::new(device, layout, shape, rotated);
        let megabytes = (shape.0 * shape.1 / 4) as f64 / 1e6;
        for &tokens in tokens {
            let x = activations(&mut Random(2), tokens, shape.1);
            let input = Input::new(device, &rotation.layers[0], &x, tokens);
            let mut times: Vec<(f64, String)> = rotation.layers[0]
                .choices(tokens)
                .into_iter()
                .map(|choice| (rotation.microseconds(&stream, &input, Some(choice), 4.0), choice.name()))
                .collect();
            let chosen = times[0].clone();
            times.sort_by(|a, b| a.0.total_cmp(&b.0));
            let listed: Vec<String> = times.iter().map(|(us, name)| format!("{name} {us:.2}")).collect();
            println!(
                "{}x{} {tokens} tokens: chosen {} {:.2} µs {:.2} TB/s | {}",
                shape.0,
                shape.1,
                chosen.1,
                chosen.0,
                megabytes / chosen.0,
                listed.join(", ")
            );
        }
    }
}

fn prefill(device: &Device, layout: Layout) {
    let stream = device.stream().unwrap();
    for shape in SHAPES {
        let rotation = Rotation::new(device, layout, shape, ROTATED);
        for tokens in [32, 64, 128, 256, 512, 1024, 4096, 16384] {
            let x = activations(&mut Random(2), tokens, shape.1);
            let input = Input::new(device, &rotation.layers[0], &x, tokens);
            let mut times: Vec<(f64, String)> = rotation.layers[0]
                .choices(tokens)
                .into_iter()
                .map(|choice| (rotation.microseconds(&stream, &input, Some(choice), 6.0), choice.name()))
                .collect();
            let chosen = times[0].clone();
            times.sort_by(|a, b| a.0.total_cmp(&b.0));
            let operations = 2.0 * (shape.0 * shape.1 * tokens) as f64;
            let listed: Vec<String> = times.iter().map(|(us, name)| format!("{name} {us:.1}")).collect();
            println!(
                "{}x{} {tokens} tokens: chosen {} {:.1} µs {:.2} PTOPS, best {:.2} | {}",
                shape.0,
                shape.1,
                chosen.1,
                chosen.0,
                operations / chosen.0 * 1e-9,
                operations / times[0].0 * 1e-9,
                listed.join(", ")
            );
        }
    }
}

/// The ternary layers of BitNet-2B-4T, 2:4 sparse, one after another as in a model: 0.52 GB, each read once.
fn chain(device: &Device) {
    let stream = device.stream().unwrap();
    let shapes = [(3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912)];
    let layout = (Encoding::NmVi, Order::Fragments, 2, 4);
    let files: Vec<_> = shapes.iter().map(|&shape| file(&mut Random(1), layout, shape)).collect();
    let upload = |_| -> Vec<Linear> {
        files.iter().map(|f| Linear::upload(device, &f.tensor("w").unwrap().validate().unwrap()).unwrap()).collect()
    };
    let layers: Vec<Vec<Linear>> = (0..30).map(upload).collect();
    for tokens in [1, 8, 16] {
        let inputs: Vec<Input> = layers[0]
            .iter()
            .zip(shapes)
            .map(|(layer, shape)| Input::new(device, layer, &activations(&mut Random(2), tokens, shape.1), tokens))
            .collect();
        let mut out = device.alloc::<u16>(tokens * 13824).unwrap();
        let graph = stream
            .capture(|stream| {
                for (layer, input) in layers.iter().flat_map(|layers| layers.iter().zip(&inputs)) {
                    layer.forward(stream, input.view(), Output::Bf16(&mut out), Epilogue::default())?;
                }
                Ok(())
            })
            .unwrap();
        let mut times: Vec<f32> = (0..20)
            .map(|_| {
                let start = stream.event().unwrap();
                for _ in 0..5 {
                    graph.launch(&stream).unwrap();
                }
                start.milliseconds_to(&stream.event().unwrap()).unwrap() / 5.0
            })
            .collect();
        times.sort_by(f32::total_cmp);
        let bytes: usize = layers.iter().flatten().map(Linear::bytes).sum();
        let rate = bytes as f32 / times[10] * 1e-9;
        println!("{tokens} tokens: {:.1} µs, {:.0} MB, {rate:.2} TB/s", times[10] * 1e3, bytes as f32 * 1e-6);
    }
}

/// What a user gets: the chosen kernel, in windows as long as those that rivals are timed in.
fn chosen(device: &Device, layout: Layout, window: f32) {
    let stream = device.stream().unwrap();
    for shape in SHAPES {
        let rotation = Rotation::new(device, layout, shape, ROTATED);
        for tokens in [1, 16, 64, 256, 1024, 4096, 16384] {
            report(&stream, &rotation, shape, tokens, window);
        }
    }
}

/// The power limit decides here: the median of three windows of a second.
fn sustained(device: &Device) {
    let stream = device.stream().unwrap();
    for shape in [(13824, 2560), (8192, 8192)] {
        let rotation = Rotation::new(device, (Encoding::NmVi, Order::Fragments, 2, 4), shape, ROTATED);
        report(&stream, &rotation, shape, 4096, 1000.0);
    }
}

fn report(stream: &Stream, rotation: &Rotation, shape: (usize, usize), tokens: usize, window: f32) {
    let x = activations(&mut Random(2), tokens, shape.1);
    let input = Input::new(stream.device(), &rotation.layers[0], &x, tokens);
    let us = rotation.microseconds(stream, &input, None, window);
    let rate = 2.0 * (shape.0 * shape.1 * tokens) as f64 / us * 1e-9;
    let name = rotation.layers[0].choices(tokens)[0].name();
    println!("{}x{} {tokens} tokens: {us:.2} µs {rate:.2} PTOPS {name}", shape.0, shape.1);
}
