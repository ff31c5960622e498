//! Linear layers of many tokens beside the rate of the multiplying instructions themselves, measured in the same run.
//!
//! `cargo bench -p sbnc-kernels --bench prefill -- [tokens=512] [threads=1,2] [kernels=avx512,amx] [encodings=t2,nm-6b] [layers=3]`
//!
//! The layers are those of BitNet-b1.58-2B-4T with random trits; `tok/s` is for all 30 of them, linear layers alone.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[cfg(target_arch = "x86_64")]
mod ceiling;

use std::time::{Duration, Instant};

use sbnc_format::{Encoding, Order, Packing, Pattern};
use sbnc_kernels::cpu::gemm::{self, Kernel};
use sbnc_kernels::cpu::{Activations, Linear, Output, Packed, Pool, Rule, available_threads, portable};

/// Hidden width, rows of q, k and v, feed-forward width, layers.
const HIDDEN: usize = 2560;
const QKV: [usize; 3] = [2560, 640, 640];
const FFN: usize = 6912;
const LAYERS: f64 = 30.0;
/// Weights of a layer.
const WEIGHTS: usize = HIDDEN * (2560 + 640 + 640) + HIDDEN * HIDDEN + 3 * HIDDEN * FFN;

/// Name, encoding, order, pattern.
const FORMS: [(&str, Encoding, Order, (u8, u8)); 5] = [
    ("t2", Encoding::T2, Order::Rows, (0, 0)),
    ("t5", Encoding::T5, Order::Rows, (0, 0)),
    ("nm-6b", Encoding::Nm6b, Order::Rows, (2, 4)),
    ("nm-vi", Encoding::NmVi, Order::Fragments, (2, 4)),
    ("windows", Encoding::NmVi, Order::Windows, (6, 8)),
];

/// Linear layers that share inputs, in the order of a decoder layer.
struct Layer {
    groups: Vec<(usize, Vec<Packed>)>,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn packed(&mut self, rows: usize, cols: usize, form: (Encoding, Order, (u8, u8))) -> Packed {
        let (n, m) = if form.2.1 == 0 { (1, 1) } else { (usize::from(form.2.0), usize::from(form.2.1)) };
        let mut trits = vec![0; rows * cols];
        for group in trits.chunks_mut(m) {
            for _ in 0..n {
                group[self.next() as usize % m] = (self.next() % 3) as i8 - 1;
            }
        }
        let pattern = Pattern::from_ids(form.2.0, form.2.1).unwrap();
        Packed::new(Packing { encoding: form.0, order: form.1, pattern }, &trits, cols, vec![0.02; rows]).unwrap()
    }

    fn layer(&mut self, form: (Encoding, Order, (u8, u8))) -> Layer {
        let groups: [(usize, &[usize]); 4] =
            [(HIDDEN, &QKV), (HIDDEN, &[HIDDEN]), (HIDDEN, &[FFN, FFN]), (FFN, &[HIDDEN])];
        let groups = groups
            .into_iter()
            .map(|(cols, rows)| (cols, rows.iter().map(|&rows| self.packed(rows, cols, form)).collect()));
        Layer { groups: groups.collect() }
    }
}

fn linears(packed: &[Packed]) -> (Vec<Linear<'_>>, usize) {
    let mut stride = 0;
    let linears = packed.iter().map(|packed| {
        let linear = Linear { weight: packed.matrix(), bias: None, offset: stride };
        stride += linear.weight.rows();
        linear
    });
    (linears.collect(), stride)
}

/// All layers once.
fn pass(pool: &Pool, kernel: Kernel, layers: &[Layer], x: &[Activations; 2], out: &mut [f32]) {
    for layer in layers {
        for (cols, packed) in &layer.groups {
            let (linears, stride) = linears(packed);
            let x = &x[usize::from(*cols == FFN)];
            gemm::linear(pool, kernel, &linears, x, &mut Output { values: out, stride });
        }
    }
}

/// The best of some passes: the machine is shared.
fn measure(pool: &Pool, kernel: Kernel, layers: &[Layer], x: &[Activations; 2], out: &mut [f32]) -> f64 {
    pass(pool, kernel, &layers[..1], x, out);
    let (mut best, begin, mut passes) = (f64::MAX, Instant::now(), 0);
    while passes < 3 || (begin.elapsed() < Duration::from_millis(500) && passes < 50) {
        let start = Instant::now();
        pass(pool, kernel, layers, x, out);
        best = best.min(start.elapsed().as_secs_f64() / layers.len() as f64);
        passes += 1;
    }
    best
}

fn activations(tokens: usize, cols: usize) -> Activations {
    let x: Vec<f32> = (0..tokens * cols).map(|i| (i * 7919 % 1009) as f32 - 504.0).collect();
    Activations::quantise(&x, cols, Rule::A8)
}

/// A smaller matrix of the form against the oracle, before anything is timed.
fn check(pool: &Pool, kernel: Kernel, form: (Encoding, Order, (u8, u8))) {
    let (rows, cols, tokens) = (200, 1920, 47);
    let (packed, x) = (Random(3).packed(rows, cols, form), activations(tokens, cols));
    let linear = Linear { weight: packed.matrix(), bias: None, offset: 0 };
    let mut out = vec![0.0; tokens * rows];
    gemm::linear(pool, kernel, &[linear], &x, &mut Output { values: &mut out, stride: rows });
    assert!(out == portable::linear(&packed.matrix(), &x), "{} {form:?} differs from the oracle", kernel.name());
}

fn argument(name: &str) -> Option<Vec<String>> {
    let prefix = format!("{name}=");
    let value = std::env::args().find_map(|a| a.strip_prefix(&prefix).map(str::to_owned))?;
    Some(value.split(',').map(str::to_owned).collect())
}

fn numbers(name: &str, or: &[usize]) -> Vec<usize> {
    argument(name).map_or(or.to_vec(), |values| values.iter().map(|v| v.parse().unwrap()).collect())
}

fn chosen(name: &str, value: &str) -> bool {
    argument(name).is_none_or(|values| values.iter().any(|v| v == value))
}

#[cfg(target_arch = "x86_64")]
fn ceiling(kernel: Kernel, pool: &Pool) -> f64 {
    ceiling::of(kernel, pool)
}

/// That of the platform, whatever the kernel.
#[cfg(not(target_arch = "x86_64"))]
fn ceiling(_: Kernel, pool: &Pool) -> f64 {
    let cpu = sbnc_kernels::cpu::Cpu::new(sbnc_kernels::cpu::Platform::detect(), pool.threads()).unwrap();
    let rate = |_| {
        let start = Instant::now();
        cpu.multiply(200) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(rate).fold(0.0, f64::max)
}

fn main() {
    let threads = numbers("threads", &[1, available_threads()]);
    let count = numbers("layers", &[3])[0];
    println!("threads  kernel    encoding  tokens   TOPS  of ceiling    tok/s");
    for (name, encoding, order, pattern) in FORMS {
        if !chosen("encodings", name) {
            continue;
        }
        let form = (encoding, order, pattern);
        let mut random = Random(1);
        let layers: Vec<_> = (0..count).map(|_| random.layer(form)).collect();
        for tokens in numbers("tokens", &[512]) {
            let x = [activations(tokens, HIDDEN), activations(tokens, FFN)];
            let mut out = vec![0.0; tokens * 2 * FFN];
            for &threads in &threads {
                let pool = Pool::new(threads).unwrap();
                for kernel in Kernel::available().filter(|kernel| chosen("kernels", kernel.name())) {
                    check(&pool, kernel, form);
                    let ceiling = ceiling(kernel, &pool);
                    let seconds = measure(&pool, kernel, &layers, &x, &mut out);
                    let ops = 2.0 * WEIGHTS as f64 * tokens as f64 / seconds;
                    println!(
                        "{threads:7}  {:8}  {name:8}  {tokens:6}  {:5.2}  {:9.0}%  {:7.0}",
                        kernel.name(),
                        ops / 1e12,
                        100.0 * ops / ceiling,
                        tokens as f64 / (seconds * LAYERS)
                    );
                }
            }
        }
    }
}
