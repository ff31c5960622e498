//! Compares models on the GPU with the same on the processor: `gpu_models FILE.sbnc…`, on a machine that has a GPU and need not have Rust. Fails without a GPU.
//!
//! Logits may differ by what the order of sums and 16-bit attention make of them, so they are compared by norm, and tokens up to near ties.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::{CacheType, Device, Model, OnDevice, Session, SessionOptions};

/// The most that logits may differ, by norm. Quantised activations that round the other way make most of it: the golden models differ by as much, 1 to 3 %, from the code
/// that made them, on a processor and on a GPU alike. After one token, where attention has nothing to weigh, it is 3e-6.
const BOUND: f64 = 6e-2;
/// Logits this close to the best may win on another device.
const TIE: f32 = 0.2;

type Check = (&'static str, fn(&Model, &Model));

const CHECKS: [Check; 6] = [
    ("every position of a prompt, in chunks of any size", prompts),
    ("token by token", single_tokens),
    ("sequences side by side", batches),
    ("a copied prefix", prefixes),
    ("tokens that the GPU chooses", choosing),
    ("text with a seed, twice", seeds),
];

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = files.is_empty();
    for file in &files {
        let [cpu, gpu] = [Device::Cpu, Device::Cuda].map(|device| Model::options().device(device).open(file));
        let (cpu, gpu) = match (cpu, gpu) {
            (Ok(cpu), Ok(gpu)) => (cpu, gpu),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        println!("{file} on {}", gpu.gpu().unwrap_or_default());
        for (name, check) in CHECKS {
            let passed = catch_unwind(AssertUnwindSafe(|| check(&cpu, &gpu))).is_ok();
            println!("{} {name}", if passed { "ok    " } else { "FAILED" });
            failed |= !passed;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Tokens without a pattern.
fn tokens(model: &Model, len: usize, seed: u32) -> Vec<u32> {
    let vocab = model.config().vocab as u32;
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % vocab).collect()
}

fn session(model: &Model, sequences: usize, chunk: usize) -> Session {
    let options = SessionOptions {
        context: 400.min(model.config().context),
        sequences,
        chunk,
        cache: CacheType::F16,
        ..SessionOptions::default()
    };
    model.session(&options).unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: f32| f64::from(v) * f64::from(v);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (off / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

fn compare(what: &str, gpu: &[f32], cpu: &[f32]) {
    let off = distance(gpu, cpu);
    assert!(off < BOUND, "{what}: {off:e}");
}

fn every_row(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    session.forward_all(tokens, |rows| all.extend_from_slice(rows.values)).unwrap();
    all
}

fn prompts(cpu: &Model, gpu: &Model) {
    // Beyond 256 rows the GPU works with bf16 between layers.
    let [one_cpu, one_gpu] = [cpu, gpu].map(|model| every_row(&mut session(model, 1, 0), &[3]));
    let off = distance(&one_gpu, &one_cpu);
    assert!(off < 1e-4, "one token: {off:e}");
    for (len, chunk) in [(13, 0), (17, 0), (150, 64), (150, 0), (390, 0)] {
        let prompt = tokens(cpu, len.min(cpu.config().context), 3);
        let [cpu, gpu] = [cpu, gpu].map(|model| every_row(&mut session(model, 1, chunk), &prompt));
        compare(&format!("{len} tokens in chunks of {chunk}"), &gpu, &cpu);
    }
}

fn single_tokens(cpu: &Model, gpu: &Model) {
    let (mut on_cpu, mut on_gpu) = (session(cpu, 1, 0), session(gpu, 1, 0));
    for token in tokens(cpu, 140, 5) {
        compare(
            &format!("after {}", on_cpu.tokens(0).len()),
            on_gpu.forward(&[token]).unwrap(),
            on_cpu.forward(&[token]).unwrap(),
        );
    }
}

fn batches(cpu: &Model, gpu: &Model) {
    let (mut on_cpu, mut on_gpu) = (session(cpu, 20, 0), session(gpu, 20, 0));
    let texts: Vec<Vec<u32>> = (0..20).map(|i| tokens(cpu, 1 + 7 * i, i as u32)).collect();
    let prompts: Vec<(usize, &[u32])> = texts.iter().enumerate().map(|(i, t)| (19 - i, &t[..])).collect();
    compare("prompts", on_gpu.batch(&prompts).unwrap(), on_cpu.batch(&prompts).unwrap());
    for few in [20, 3, 17, 1] {
        let next: Vec<[u32; 1]> = tokens(cpu, few, few as u32).into_iter().map(|t| [t]).collect();
        let work: Vec<(usize, &[u32])> = next.iter().enumerate().map(|(i, t)| ((i * 7) % 20, &t[..])).collect();
        compare(&format!("{few} single tokens"), on_gpu.batch(&work).unwrap(), on_cpu.batch(&work).unwrap());
    }
}

fn prefixes(cpu: &Model, gpu: &Model) {
    let text = tokens(cpu, 100, 9);
    let [cpu, gpu] = [cpu, gpu].map(|model| {
        let mut session = session(model, 3, 0);
        session.batch(&[(1, &text)]).unwrap();
        session.copy_prefix(1, 2, 70).unwrap();
        session.batch(&[(2, &text[..20])]).unwrap().to_vec()
    });
    compare("after a copied prefix", &gpu, &cpu);
}

/// What the GPU chooses greedily is what its own logits say, and at first what the processor says, up to near ties.
fn choosing(cpu: &Model, gpu: &Model) {
    let prompt = tokens(cpu, 20, 11);
    let (mut on_cpu, mut on_gpu, mut by_itself) = (session(cpu, 1, 0), session(gpu, 1, 0), session(gpu, 1, 0));
    let best =
        |logits: &[f32]| (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32;
    let first = best(on_gpu.forward(&prompt).unwrap());
    by_itself.forward(&prompt).unwrap();
    on_cpu.forward(&prompt).unwrap();
    let chosen = by_itself.decode(&[(0, first)], &[OnDevice::GREEDY], 50).unwrap().unwrap();
    assert_eq!(by_itself.tokens(0).len(), 20 + 50);
    let mut token = first;
    for &next in &chosen {
        let on_gpu = on_gpu.forward(&[token]).unwrap();
        assert_eq!(best(on_gpu), next, "the GPU's own logits");
        let on_cpu = on_cpu.forward(&[token]).unwrap();
        let (most, its) = (on_cpu[best(on_cpu) as usize], on_cpu[next as usize]);
        assert!(its >= most - TIE, "the processor prefers another by {}", most - its);
        token = next;
    }
}

fn seeds(cpu: &Model, gpu: &Model) {
    let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 5, ..Sampling::greedy() };
    let prompt = tokens(cpu, 12, 1);
    let text = |model: &Model| {
        let mut session = session(model, 1, 0);
        let mut generation = session.generate(&prompt[..], &sampling).unwrap().max_tokens(40).ignore_eos(true);
        generation.by_ref().for_each(|piece| assert!(piece.is_ok()));
        generation.tokens().to_vec()
    };
    let (once, twice, host) = (text(gpu), text(gpu), text(cpu));
    assert_eq!(once, twice);
    let same = once.iter().zip(&host).take_while(|(a, b)| a == b).count();
    println!("       {same} of 40 tokens as on the processor");
}
