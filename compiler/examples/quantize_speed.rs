//! How fast the passes of `sbnc::quantize` run, in GB/s of bf16 input, beside the rate at which this machine copies memory.
//!
//! `cargo run --release --example quantize_speed`. Medians of 31 runs; "cache" works on 64 rows over and over, "memory" on the whole
//! 6912×2560 matrix.

use std::hint::black_box;
use std::time::Instant;

use sbnc::quantize::{Dtype, Latent, Nm, QuantizeError, Tally, Ternariser, int8_rows, part_scale};

const ROWS: usize = 6912;
const COLS: usize = 2560;
const CACHED: usize = 64;
const RUNS: usize = 31;

/// A pass over some rows, writing trits where it makes any.
type Pass<'a> = Box<dyn Fn(&Latent<'_>, &mut [i8]) -> Result<(), QuantizeError> + Sync + 'a>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = weights();
    let scale = 0.02 * 0.7979;
    let plan = |nm: Option<(usize, usize)>| -> Result<Ternariser, QuantizeError> {
        Ternariser::new(Dtype::Bf16, scale, nm.map(|(n, m)| Nm::new(n, m)).transpose()?)
    };
    let mut passes: Vec<(String, Pass<'_>)> = vec![(
        "scale".into(),
        Box::new(|latent, _| {
            black_box(part_scale(latent, 0..latent.rows())?);
            Ok(())
        }),
    )];
    for (name, nm) in [
        ("dense", None),
        ("2:4", Some((2, 4))),
        ("6:8", Some((6, 8))),
        ("8:10", Some((8, 10))),
        ("8:16", Some((8, 16))),
    ] {
        let plan = plan(nm)?;
        passes.push((name.into(), Box::new(move |latent, trits| plan.part(latent, 0..latent.rows(), trits))));
        passes.push((
            format!("{name} + stats"),
            Box::new(move |latent, trits| {
                black_box(plan.part_with_stats(latent, 0..latent.rows(), trits)?);
                Ok(())
            }),
        ));
    }
    passes.push((
        "int8".into(),
        Box::new(|latent, out| {
            let mut scales = vec![0.0; latent.rows()];
            black_box(int8_rows(latent, 0..latent.rows(), out, &mut scales)?);
            Ok(())
        }),
    ));

    let mut trits = vec![0; ROWS * COLS];
    let (whole, cached) = (
        Latent::new(&bytes, ROWS, COLS, Dtype::Bf16)?,
        Latent::new(&bytes[..CACHED * COLS * 2], CACHED, COLS, Dtype::Bf16)?,
    );
    let mut copy = vec![0; bytes.len()];
    println!("copy, 1 thread: {:.1} GB/s", rate(bytes.len(), || copy.copy_from_slice(black_box(&bytes))));
    println!("{:<16}{:>10}{:>12}{:>12}", "GB/s of bf16", "1, cache", "1, memory", "2, memory");
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let [one, two] = pools;
    let (one, two) = (one?, two?);
    for (name, pass) in &passes {
        let mut go = |pool: &rayon::ThreadPool, latent: &Latent<'_>, repeat: usize| {
            let trits = &mut trits[..latent.rows() * COLS];
            let mut failed = None;
            let rate = pool.install(|| {
                rate(latent.rows() * COLS * 2 * repeat, || (0..repeat).for_each(|_| failed = pass(latent, trits).err()))
            });
            failed.map_or(Ok(rate), Err)
        };
        println!(
            "{name:<16}{:>10.2}{:>12.2}{:>12.2}",
            go(&one, &cached, ROWS / CACHED)?,
            go(&one, &whole, 1)?,
            go(&two, &whole, 1)?
        );
    }

    // The accumulator itself, without the allocation of a part's first tally: what a pipeline that keeps one per thread sees.
    let plan = plan(Some((2, 4)))?;
    let mut tally = Tally::default();
    let kept = rate(bytes.len(), || drop(plan.rows(&whole, 0..ROWS, &mut trits, Some(&mut tally))));
    println!(
        "2:4 + stats, one tally kept: {kept:.2} GB/s on one thread ({} weights counted)",
        tally.finish().weights()
    );
    Ok(())
}

/// Median rate of `run` over `bytes`, in GB/s.
fn rate(bytes: usize, mut run: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    bytes as f64 / seconds[RUNS / 2] / 1e9
}

/// A matrix of bell-shaped bf16 weights with a standard deviation near 0.02.
fn weights() -> Vec<u8> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut weight = || ((0..12).map(|_| uniform()).sum::<f32>() * 0.02).to_bits() >> 16;
    (0..ROWS * COLS).flat_map(|_| (weight() as u16).to_le_bytes()).collect()
}
