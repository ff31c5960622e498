//! Speed of everything but the ternary linears, for the shapes of BitNet b1.58 2B-4T, beside what the machine can do: bytes read from memory, or fused
//! multiply-adds. `cargo bench -p sbnc-kernels --bench ops -- [NAME…] [--threads N]`; `SBNC_CPU` forces a platform.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sbnc_kernels::cpu::ops::{Activation, Cache, Half, Heads, Pairing, Rotation, Segment};
use sbnc_kernels::cpu::{Activations, Cpu, Dense, Platform, Rule, available_threads};

const HIDDEN: usize = 2560;
const FFN: usize = 6912;
const VOCABULARY: usize = 128_256;
const HEADS: Heads = Heads { heads: 20, kv_heads: 5, dim: 128, window: None };

/// Each measurement takes about this long, and reports its fastest turn.
const BUDGET: Duration = Duration::from_millis(600);

struct Bench {
    cpu: Cpu,
    names: Vec<String>,
    bytes_per_s: f64,
    flops: f64,
}

impl Bench {
    /// Times `work`, and prints its rates beside the ceilings.
    fn time(&self, name: &str, bytes: usize, flops: usize, mut work: impl FnMut(&Cpu)) {
        if !self.wants(name) {
            return;
        }
        work(&self.cpu);
        let (start, mut best) = (Instant::now(), Duration::MAX);
        while start.elapsed() < BUDGET {
            let turn = Instant::now();
            work(&self.cpu);
            best = best.min(turn.elapsed());
        }
        let seconds = best.as_secs_f64();
        let rate = |amount: usize, ceiling: f64| {
            let rate = amount as f64 / seconds;
            if amount == 0 { String::new() } else { format!("{:8.1} G/s {:3.0} %", rate / 1e9, 100.0 * rate / ceiling) }
        };
        let (bytes, flops) = (rate(bytes, self.bytes_per_s), rate(flops, self.flops));
        println!("{name:34} {:>11.3} ms   bytes {bytes:18}   flops {flops:18}", seconds * 1e3);
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let mut threads = available_threads();
    if let Some(i) = names.iter().position(|a| a == "--threads") {
        threads = names[i + 1].parse().unwrap();
        names.drain(i..i + 2);
    }
    let cpu = Cpu::new(Platform::from_env().unwrap(), threads).unwrap();
    let (bytes_per_s, flops) = (ceilings::bytes_per_s(&cpu), ceilings::flops(&cpu));
    println!(
        "{} on {threads} threads; ceilings measured: {:.1} GB/s read, {:.0} GFLOPS f32",
        cpu.platform().isa(),
        bytes_per_s / 1e9,
        flops / 1e9
    );
    let bench = Bench { cpu, names, bytes_per_s, flops };
    rows(&bench);
    attention(&bench);
    heads(&bench);
}

fn floats(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Norms, gates and quantisation: one token in the cache, and 512 tokens.
fn rows(bench: &Bench) {
    let (weight, weight_ffn) = (floats(HIDDEN), floats(FFN));
    for tokens in [1, 512] {
        let (mut x, y, gate_up) = (floats(tokens * HIDDEN), floats(tokens * HIDDEN), floats(tokens * 2 * FFN));
        let (mut out, mut gated) = (vec![0.0; tokens * HIDDEN], vec![0.0; tokens * FFN]);
        let mut integers = Activations::with_capacity(tokens, FFN);
        let norm = Some((&weight[..], 1e-5));
        let (small, large) = (4 * tokens * HIDDEN, 4 * tokens * FFN);
        bench.time(&format!("norm {tokens}"), 2 * small, 0, |cpu| cpu.norm(&x, &weight, 1e-5, &mut out));
        bench.time(&format!("quantise {tokens}"), small * 5 / 4, 0, |cpu| {
            cpu.quantise(&x, HIDDEN, None, Rule::A8, &mut integers)
        });
        bench.time(&format!("norm+quantise {tokens}"), small * 5 / 4, 0, |cpu| {
            cpu.quantise(&x, HIDDEN, norm, Rule::A8, &mut integers)
        });
        bench.time(&format!("norm+quantise A4 {tokens}"), small * 5 / 4, 0, |cpu| {
            cpu.quantise(&x, HIDDEN, norm, Rule::A4, &mut integers)
        });
        bench.time(&format!("add {tokens}"), 3 * small, 0, |cpu| cpu.add(&mut x, &y));
        bench.time(&format!("add+norm+quantise {tokens}"), small * 13 / 4, 0, |cpu| {
            cpu.add_quantise(&mut x, &y, HIDDEN, norm, Rule::A8, &mut integers)
        });
        for activation in [Activation::Relu2, Activation::Silu, Activation::Gelu] {
            bench.time(&format!("gate {activation:?} {tokens}"), 3 * large, 0, |cpu| {
                cpu.gate(activation, &gate_up, FFN, &mut gated)
            });
            let norm = Some((&weight_ffn[..], 1e-5));
            bench.time(&format!("gate+norm+quantise {activation:?} {tokens}"), large * 9 / 4, 0, |cpu| {
                cpu.gate_quantise(activation, &gate_up, FFN, norm, Rule::A8, &mut integers);
            });
        }
    }
}

/// One layer's attention, and the turning and storing before it.
fn attention(bench: &Bench) {
    let capacity = 16_384 + 512;
    let layer = HEADS.kv_heads * capacity * HEADS.dim;
    // Several layers' caches, so that a long context comes from memory as it does in a model.
    let layers = 6;
    let halves: Vec<u16> = floats(layers * layer).into_iter().map(|v| half::f16::from_f32(v).to_bits()).collect();
    let (mut keys, mut values) = (halves.clone(), halves);
    let rotation = |pairing| Rotation { pairing, pairs: 64, cos: floats(64 * capacity), sin: floats(64 * capacity) };
    let mut qkv = floats(512 * HEADS.row());
    for (pairing, tokens) in [(Pairing::Half, 1), (Pairing::Half, 512), (Pairing::Interleaved, 512)] {
        let rotation = rotation(pairing);
        let segments = [Segment { rows: 0..tokens, position: 0, slot: 0 }];
        let mut cache = Cache { half: Half::F16, capacity, keys: &mut keys[..layer], values: &mut values[..layer] };
        let qkv = &mut qkv[..tokens * HEADS.row()];
        bench.time(&format!("rotate {pairing:?} {tokens}"), 8 * qkv.len(), 0, |cpu| {
            cpu.rotate_and_store(qkv, &HEADS, &rotation, &segments, &mut cache);
        });
    }
    for half in [Half::F16, Half::Bf16] {
        for (tokens, context) in [(1, 128), (1, 1024), (1, 4096), (1, 16_384), (512, 0), (512, 4096), (16, 4096)] {
            let mut out = vec![0.0; tokens * HEADS.heads * HEADS.dim];
            let segments = [Segment { rows: 0..tokens, position: context, slot: 0 }];
            let seen: usize = (context + 1..=context + tokens).sum();
            let bytes = if tokens == 1 { 2 * 2 * context * HEADS.kv_heads * HEADS.dim } else { 0 };
            let mut turn = 0;
            bench.time(
                &format!("attend {half:?} {tokens} after {context}"),
                bytes,
                4 * seen * HEADS.heads * HEADS.dim,
                |cpu| {
                    let place = turn % layers * layer;
                    let (keys, values) = (&mut keys[place..place + layer], &mut values[place..place + layer]);
                    let cache = Cache { half, capacity, keys, values };
                    cpu.attend(&qkv[..tokens * HEADS.row()], &HEADS, &segments, &cache, &mut out);
                    turn += 1;
                },
            );
        }
    }
}

/// The output head.
fn heads(bench: &Bench) {
    let count = VOCABULARY * HIDDEN;
    let halves: Vec<u16> = (0..count).map(|i| 0x3c00 + (i % 997) as u16).collect();
    let bytes: Vec<i8> = (0..count).map(|i| (i % 251) as i8).collect();
    let scales = floats(VOCABULARY);
    let small = 16 * 1024;
    for (name, weight, size) in
        [("bf16", Dense::Bf16(&halves), 2), ("f16", Dense::F16(&halves), 2), ("int8", Dense::I8(&bytes, &scales), 1)]
    {
        for tokens in [1, 2, 4, 8] {
            let (x, mut out) = (floats(tokens * HIDDEN), vec![0.0; tokens * VOCABULARY]);
            bench.time(&format!("head {name} {tokens}"), size * count, 2 * tokens * count, |cpu| {
                cpu.dense(&weight, HIDDEN, &x, &mut out)
            });
        }
        // An eighth of the rows: the rate is that of the whole.
        let part = match weight {
            Dense::Bf16(v) => Dense::Bf16(&v[..small * HIDDEN]),
            Dense::F16(v) => Dense::F16(&v[..small * HIDDEN]),
            Dense::I8(v, scales) => Dense::I8(&v[..small * HIDDEN], &scales[..small]),
            Dense::F32(v) => Dense::F32(v),
        };
        for tokens in [16, 128, 512] {
            let (x, mut out) = (floats(tokens * HIDDEN), vec![0.0; tokens * small]);
            bench.time(&format!("head/8 {name} {tokens}"), 0, 2 * tokens * small * HIDDEN, |cpu| {
                cpu.dense(&part, HIDDEN, &x, &mut out)
            });
        }
    }
}

/// What the machine can do.
mod ceilings {
    use super::*;

    fn best(mut work: impl FnMut()) -> f64 {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            work();
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    }

    /// Reading 512 MiB, each thread its own pieces.
    pub(super) fn bytes_per_s(cpu: &Cpu) -> f64 {
        let memory = vec![1u64; 1 << 26];
        let piece = 1 << 16;
        let read = best(|| {
            cpu.pool().run(memory.len() / piece, &|i| {
                black_box(sum(&memory[i * piece..(i + 1) * piece]));
            });
        });
        (memory.len() * 8) as f64 / read
    }

    fn sum(piece: &[u64]) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            #[target_feature(enable = "avx512f")]
            fn wide(piece: &[u64]) -> u64 {
                sum_lanes(piece)
            }
            // SAFETY: the feature was just detected.
            return unsafe { wide(piece) };
        }
        sum_lanes(piece)
    }

    #[inline(always)]
    fn sum_lanes(piece: &[u64]) -> u64 {
        let mut lanes = [0u64; 64];
        for block in piece.as_chunks::<64>().0 {
            #[cfg(target_arch = "x86_64")]
            for line in 0..8 {
                let ahead = block.as_ptr().wrapping_add(256 + line * 8);
                // SAFETY: a prefetch reads nothing that the program can see, and does not fault.
                unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(ahead.cast()) };
            }
            for j in 0..64 {
                lanes[j] = lanes[j].wrapping_add(block[j]);
            }
        }
        lanes.iter().fold(0, |a, &b| a.wrapping_add(b))
    }

    /// Fused multiply-adds in registers, as wide as the platform in use.
    pub(super) fn flops(cpu: &Cpu) -> f64 {
        const TURNS: usize = 1_000_000;
        let threads = cpu.pool().threads();
        let name = cpu.platform().isa().name();
        let width = match name {
            "avx512" | "amx" => 16,
            "avx2" => 8,
            _ => 4,
        };
        let work = best(|| {
            cpu.pool().run(threads, &|_| {
                black_box(match width {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the platform in use is the proof of the feature.
                    16 => unsafe { fused_512(TURNS) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    8 => unsafe { fused_256(TURNS) },
                    _ => plain(TURNS),
                });
            });
        });
        (threads * TURNS * 12 * width * 2) as f64 / work
    }

    /// Twelve chains of `a · b + c`.
    macro_rules! chains {
        ($turns:expr, $splat:ident, $fused:ident, $sum:expr) => {{
            let (a, b) = ($splat(black_box(0.999)), $splat(black_box(0.001)));
            let mut chains = [$splat(1.0); 12];
            for _ in 0..$turns {
                for chain in &mut chains {
                    *chain = $fused(*chain, a, b);
                }
            }
            chains.into_iter().map($sum).sum::<f32>()
        }};
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn fused_512(turns: usize) -> f32 {
        use std::arch::x86_64::*;
        chains!(turns, _mm512_set1_ps, _mm512_fmadd_ps, |v| _mm512_reduce_add_ps(v))
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fused_256(turns: usize) -> f32 {
        use std::arch::x86_64::*;
        chains!(turns, _mm256_set1_ps, _mm256_fmadd_ps, |v| _mm256_cvtss_f32(v))
    }

    /// Products and sums of the baseline, which has no fused ones.
    fn plain(turns: usize) -> f32 {
        let splat = |v: f32| [v; 4];
        let fused = |c: [f32; 4], a: [f32; 4], b: [f32; 4]| std::array::from_fn(|i| c[i] * a[i] + b[i]);
        chains!(turns, splat, fused, |v: [f32; 4]| v[0])
    }
}
