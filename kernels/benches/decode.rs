//! How fast the linears of a decode step are: layers of the shape of BitNet b1.58 2B-4T, one after another from memory, in every stored form.
//!
//! `cargo bench -p sbnc-kernels --bench decode -- [--threads N] [--layers N] [--repeats N] [--tokens 1,2,4,8] [--platforms avx512,avx2]
//! [--forms t2,nm-6b]`
//!
//! Prints bytes and weights per second, and the share of what a plain read of as many bytes takes; a round measures everything once, so that all
//! medians are of the same minutes. Results are compared with the oracle's before anything is measured.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::time::Instant;

use sbnc_format::{Encoding, Order, Packing, Pattern};
use sbnc_kernels::cpu::{
    AHEAD, Activations, Cpu, Isa, Linear, Output, Packed, Platform, Rule, available_threads, portable,
};

const HIDDEN: usize = 2560;
const KV: usize = 640;
const FFN: usize = 6912;

/// The calls of a layer: inputs, and the outputs of the matrices that share them.
const CALLS: [(usize, &[usize]); 4] =
    [(HIDDEN, &[HIDDEN, KV, KV]), (HIDDEN, &[HIDDEN]), (HIDDEN, &[FFN, FFN]), (FFN, &[HIDDEN])];

const FORMS: [(&str, Encoding, Order, (u8, u8)); 5] = [
    ("t2", Encoding::T2, Order::Rows, (0, 0)),
    ("t5", Encoding::T5, Order::Rows, (0, 0)),
    ("nm-6b 2:4", Encoding::Nm6b, Order::Rows, (2, 4)),
    ("nm-vi 2:4", Encoding::NmVi, Order::Fragments, (2, 4)),
    ("nm-vi 6:8", Encoding::NmVi, Order::Windows, (6, 8)),
];

fn main() {
    let options = Options::parse();
    let forms =
        FORMS.iter().filter(|form| options.forms.is_empty() || options.forms.iter().any(|f| form.0.starts_with(f)));
    let sets: Vec<Set> = forms.map(|form| Set::new(form, options.layers)).collect();
    // Much larger than any cache.
    let largest = 1 << 29;
    let plain = vec![1u8; largest];
    let mut rows: Vec<Row> = Vec::new();
    for &threads in &options.threads {
        for &isa in &options.platforms {
            let cpu = Cpu::new(Platform::new(isa).unwrap(), threads).unwrap();
            rows.push(Row::new(format!("{isa:8} {threads} threads  plain read"), largest, 0));
            for set in &sets {
                set.check(&cpu);
                for tokens in &options.tokens {
                    let name = format!("{isa:8} {threads} threads  {:9} {tokens} tokens", set.name);
                    rows.push(Row::new(name, set.bytes, set.weights * tokens));
                }
            }
        }
    }
    for _ in 0..options.repeats {
        let mut row = rows.iter_mut();
        for &threads in &options.threads {
            for &isa in &options.platforms {
                let cpu = Cpu::new(Platform::new(isa).unwrap(), threads).unwrap();
                row.next().unwrap().time(|| assert!(cpu.read(&plain, AHEAD[0]) > 0));
                for set in &sets {
                    for &tokens in &options.tokens {
                        row.next().unwrap().time(|| set.step(&cpu, tokens));
                    }
                }
            }
        }
    }
    for &threads in &options.threads {
        print_latency(threads);
    }
    let mut ceiling = 0.0;
    for row in &rows {
        let seconds = median(&row.seconds);
        let rate = row.bytes as f64 / seconds;
        if row.weights == 0 {
            ceiling = rate;
        }
        println!(
            "{:45} {:6.2} GB/s  {:4.0} %  {:6.0} Gweights/s  30 layers in {:6.2} ms",
            row.name,
            rate / 1e9,
            100.0 * rate / ceiling,
            row.weights as f64 / seconds / 1e9,
            seconds * 1e3 / options.layers as f64 * 30.0,
        );
    }
}

/// What a call costs that has nothing to do but to reach all threads and come back.
fn print_latency(threads: usize) {
    const CALLS: usize = 1000;
    let cpu = Cpu::new(Platform::detect(), threads).unwrap();
    let seconds: Vec<f64> = (0..50)
        .map(|_| {
            let started = Instant::now();
            (0..CALLS).for_each(|_| {
                cpu.pool().run(threads, &|task| {
                    std::hint::black_box(task);
                })
            });
            started.elapsed().as_secs_f64() / CALLS as f64
        })
        .collect();
    println!("{threads} threads: an empty call takes {:.2} us", median(&seconds) * 1e6);
}

/// Something to measure, and what it took.
struct Row {
    name: String,
    bytes: usize,
    weights: usize,
    seconds: Vec<f64>,
}

impl Row {
    fn new(name: String, bytes: usize, weights: usize) -> Self {
        Self { name, bytes, weights, seconds: Vec::new() }
    }

    fn time(&mut self, mut work: impl FnMut()) {
        let started = Instant::now();
        work();
        self.seconds.push(started.elapsed().as_secs_f64());
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The linears of some layers in one stored form.
struct Set {
    name: &'static str,
    layers: Vec<Vec<Vec<Packed>>>,
    bytes: usize,
    weights: usize,
}

impl Set {
    fn new(&(name, encoding, order, (n, m)): &(&'static str, Encoding, Order, (u8, u8)), count: usize) -> Self {
        let pattern = Pattern::from_ids(n, m).unwrap();
        let mut seed = 1;
        let mut matrix = |rows: usize, cols: usize| {
            let trits = random_trits(rows * cols, pattern, &mut seed);
            Packed::new(Packing { encoding, order, pattern }, &trits, cols, vec![0.01; rows]).unwrap()
        };
        let layer: Vec<Vec<Packed>> =
            CALLS.iter().map(|(cols, rows)| rows.iter().map(|&rows| matrix(rows, *cols)).collect()).collect();
        // Copies are as good as other weights: what counts is that they lie elsewhere.
        let layers = vec![layer; count];
        let all = || layers.iter().flatten().flatten().map(Packed::matrix);
        let bytes = all().map(|matrix| matrix.bytes()).sum();
        let weights = all().map(|matrix| matrix.rows() * matrix.cols()).sum();
        Self { name, layers, bytes, weights }
    }

    /// All linears of all layers.
    fn step(&self, cpu: &Cpu, tokens: usize) {
        let x: Vec<f32> = (0..tokens * FFN).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let narrow = Activations::quantise(&x[..tokens * HIDDEN], HIDDEN, Rule::A8);
        let wide = Activations::quantise(&x, FFN, Rule::A8);
        let mut out = vec![0.0; tokens * 2 * FFN];
        for call in self.layers.iter().flatten() {
            let x = if call[0].matrix().cols() == FFN { &wide } else { &narrow };
            call_linear(cpu, call, x, &mut out);
        }
    }

    fn check(&self, cpu: &Cpu) {
        for call in &self.layers[0] {
            let cols = call[0].matrix().cols();
            let x: Vec<f32> = (0..cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
            let x = Activations::quantise(&x, cols, Rule::A8);
            let mut out = vec![0.0; 2 * FFN];
            let rows = call_linear(cpu, call, &x, &mut out);
            let expected: Vec<f32> = call.iter().flat_map(|packed| portable::linear(&packed.matrix(), &x)).collect();
            assert!(out[..rows] == expected, "{} on {}: not what the oracle gives", self.name, cpu.platform().isa());
        }
    }
}

/// One call; gives the number of outputs of a token.
fn call_linear(cpu: &Cpu, call: &[Packed], x: &Activations, out: &mut [f32]) -> usize {
    let mut layers = [const { None }; 3];
    let mut stride = 0;
    for (layer, packed) in layers.iter_mut().zip(call) {
        *layer = Some(Linear { weight: packed.matrix(), bias: None, offset: stride });
        stride += packed.matrix().rows();
    }
    let layers: Vec<Linear<'_>> = layers.into_iter().flatten().collect();
    cpu.linear(&layers, x, &mut Output { values: &mut out[..x.tokens() * stride], stride });
    stride
}

/// Trits of which a third is zero, or as many as the pattern wants.
fn random_trits(count: usize, pattern: Pattern, seed: &mut u64) -> Vec<i8> {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed >> 20
    };
    let mut trits: Vec<i8> = (0..count).map(|_| (next() % 3) as i8 - 1).collect();
    if !pattern.is_dense() {
        for group in trits.chunks_exact_mut(pattern.m()) {
            while group.iter().filter(|&&t| t != 0).count() > pattern.n() {
                group[(next() % pattern.m() as u64) as usize] = 0;
            }
        }
    }
    trits
}

struct Options {
    threads: Vec<usize>,
    layers: usize,
    repeats: usize,
    tokens: Vec<usize>,
    platforms: Vec<Isa>,
    forms: Vec<String>,
}

impl Options {
    fn parse() -> Self {
        let best = Platform::detect().isa();
        let mut options = Self {
            threads: vec![1, available_threads()],
            layers: 8,
            repeats: 9,
            tokens: vec![1],
            platforms: vec![best],
            forms: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let numbers = |text: String| text.split(',').map(|n| n.parse().unwrap()).collect::<Vec<usize>>();
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap();
            match name.as_str() {
                "--threads" => options.threads = numbers(value),
                "--layers" => options.layers = value.parse().unwrap(),
                "--repeats" => options.repeats = value.parse().unwrap(),
                "--tokens" => options.tokens = numbers(value),
                "--platforms" => {
                    let isa = |name| Isa::ALL.into_iter().find(|isa| isa.name() == name).unwrap();
                    options.platforms = value.split(',').map(isa).collect();
                }
                "--forms" => options.forms = value.split(',').map(str::to_owned).collect(),
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }
}
