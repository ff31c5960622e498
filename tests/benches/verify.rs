//! How fast a file is verified, beside BLAKE3 alone over the same mapped bytes, and how fast it opens.
//!
//! `cargo bench -p sbnc-tests --bench verify -- [--gigabytes N] [--repeats N]`
//!
//! One file for each layout, a third of it bf16 embedding, as in a real model. The two are timed in turn, so that a noisy machine disturbs both.

mod support;

use std::path::Path;
use std::time::Instant;

use sbnc_format::encoding::ContentHasher;
use sbnc_format::manifest::{Manifest, Provenance};
use sbnc_format::writer::{ContentDigest, TensorSpec, Writer};
use sbnc_format::{Depth, Encoding, Order, Packing, Pattern, Role, Sbnc};
use sbnc_runtime::map::Map;
use support::{Arguments, median, thread_counts};

const ROWS: u64 = 6912;
const COLS: u64 = 2560;

fn main() {
    let arguments = Arguments::parse();
    let path = support::scratch().join("verify.sbnc");
    let pattern = |n, m| Pattern::new(n, m).expect("a pattern");
    for (encoding, order, pattern) in [
        (Encoding::NmVi, Order::Fragments, pattern(2, 4)),
        (Encoding::Nm6b, Order::Rows, pattern(2, 4)),
        (Encoding::T5, Order::Rows, pattern(6, 8)),
        (Encoding::T2, Order::Rows, Pattern::DENSE),
        (Encoding::NmVi, Order::Windows, pattern(6, 8)),
    ] {
        let bytes = make(&path, encoding, order, pattern, arguments.gigabytes);
        for threads in thread_counts() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
            pool.install(|| {
                measure(
                    &path,
                    &format!("{} {} {pattern}", encoding.name(), order.name()),
                    bytes,
                    threads,
                    arguments.repeats,
                )
            });
        }
    }
    let _ = std::fs::remove_file(path);
}

fn measure(path: &Path, name: &str, bytes: u64, threads: usize, repeats: usize) {
    let started = Instant::now();
    let file = Sbnc::open(Map::open(path).expect("the file maps")).expect("the file opens");
    let opening = started.elapsed().as_secs_f64();
    let (mut hash, mut verify, mut deep) = (Vec::new(), Vec::new(), Vec::new());
    let timed = |task: &mut dyn FnMut()| {
        let started = Instant::now();
        task();
        started.elapsed().as_secs_f64()
    };
    // Once without timing: pages and clocks settle.
    for round in 0..=repeats {
        let map = Map::open(path).expect("the file maps");
        let a = timed(&mut || {
            std::hint::black_box(blake3::Hasher::new().update_rayon(&map).finalize());
        });
        drop(map);
        let fresh = Sbnc::open(Map::open(path).expect("the file maps")).expect("the file opens");
        let b = timed(&mut || fresh.verify(Depth::Stored, &|_| {}).result().expect("the file is good"));
        let c = timed(&mut || file.verify(Depth::Decoded, &|_| {}).result().expect("the file is good"));
        if round > 0 {
            hash.push(a);
            verify.push(b);
            deep.push(c);
        }
    }
    let rate = |seconds: &[f64]| bytes as f64 / median(seconds) / 1e9;
    println!(
        "{name:22} {threads} threads  verify {:5.2} GB/s, BLAKE3 alone {:5.2} GB/s, ratio {:3.0} %; deep {:5.2} GB/s; opens in {:.2} ms",
        rate(&verify),
        rate(&hash),
        100.0 * median(&hash) / median(&verify),
        rate(&deep),
        1e3 * opening,
    );
}

/// Writes a file of about `gigabytes`; its length.
fn make(path: &Path, encoding: Encoding, order: Order, pattern: Pattern, gigabytes: f64) -> u64 {
    let packing = Packing { encoding, order, pattern };
    let strip = packing.strip(COLS as usize);
    let trits = random_trits(pattern);
    let mut stored = vec![0u8; (ROWS as usize).div_ceil(strip.rows) * strip.bytes];
    packing.encode(&trits, COLS as usize, &mut stored).expect("the trits keep the pattern");
    let scales = vec![0.5f32; ROWS as usize];
    let mut hasher = ContentHasher::default();
    hasher.update(&trits);
    let scale_bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    let content = hasher.finish(&scale_bytes);

    let total = gigabytes * 1e9;
    let linears = (total * 0.667 / stored.len() as f64) as usize;
    let embedding_rows = (total * 0.333 / (2 * COLS) as f64) as u64;
    let spec = |name: String, role, rows, encoding, order, pattern| TensorSpec {
        name,
        role,
        shape: vec![rows, COLS],
        encoding,
        order,
        pattern,
    };
    let mut specs =
        vec![spec("embed".into(), Role::Embedding, embedding_rows, Encoding::Bf16, Order::Rows, Pattern::DENSE)];
    specs.extend((0..linears).map(|i| spec(format!("linear.{i}"), Role::Linear, ROWS, encoding, order, pattern)));
    let provenance = Provenance {
        compiler: "bench".into(),
        kind: "random".into(),
        options: Default::default(),
        rules: Default::default(),
        sources: Vec::new(),
    };
    let manifest = Manifest { files: Vec::new(), model: None, provenance };
    let mut writer = Writer::create(path, specs, &manifest, &[]).expect("the plan is good");
    let mut tensor = writer.tensor().expect("a tensor is planned");
    let row: Vec<u8> = (0..COLS).flat_map(|i| (0x3C00u16 + (i % 512) as u16).to_le_bytes()).collect();
    (0..embedding_rows).for_each(|_| tensor.write(&row).expect("the row is written"));
    tensor.finish(&[], ContentDigest::AsStored).expect("the tensor is complete");
    for _ in 0..linears {
        let mut tensor = writer.tensor().expect("a tensor is planned");
        tensor.write(&stored).expect("the tensor is written");
        let content = ContentDigest::Trits { digest: content.digest, non_zero: content.non_zero };
        tensor.finish(&scales, content).expect("the tensor is complete");
    }
    let bytes = writer.file_bytes();
    writer.seal(&manifest).and_then(|sealed| sealed.commit()).expect("the file is written");
    bytes
}

/// Random trits that keep the pattern: a third zeros, then zeros from the left where a group has too many others.
fn random_trits(pattern: Pattern) -> Vec<i8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut trits: Vec<i8> = (0..ROWS * COLS)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 3) as i8 - 1
        })
        .collect();
    if !pattern.is_dense() {
        for group in trits.chunks_exact_mut(pattern.m()) {
            let mut excess = group.iter().filter(|&&t| t != 0).count().saturating_sub(pattern.n());
            for trit in group.iter_mut().filter(|t| **t != 0) {
                if excess > 0 {
                    *trit = 0;
                    excess -= 1;
                }
            }
        }
    }
    trits
}
