//! How fast one thread encodes, decodes and checks every layout, beside BLAKE3 and a copy of memory.
//!
//! ```sh
//! cargo run --release --example encoding_speed -p sbnc-format [name of a layout]
//! ```
//!
//! Every figure is a median of repeated runs over a matrix of 2560 columns: one that stays in the cache, and one that comes from memory.
#![allow(clippy::unwrap_used, reason = "an example may stop at the first surprise")]

use std::hint::black_box;
use std::time::Instant;

use sbnc_format::encoding::check_pattern;
use sbnc_format::{Encoding, Order, Packing, Pattern};

const COLS: usize = 2560;
const REPEATS: usize = 15;

const LAYOUTS: [(&str, Encoding, Order, u8, u8); 9] = [
    ("t2", Encoding::T2, Order::Rows, 0, 0),
    ("t5", Encoding::T5, Order::Rows, 0, 0),
    ("t5 6:8", Encoding::T5, Order::Rows, 6, 8),
    ("nm-6b 2:4", Encoding::Nm6b, Order::Rows, 2, 4),
    ("nm-6b 1:4", Encoding::Nm6b, Order::Rows, 1, 4),
    ("fragments 2:4", Encoding::NmVi, Order::Fragments, 2, 4),
    ("fragments 1:4", Encoding::NmVi, Order::Fragments, 1, 4),
    ("windows 6:8", Encoding::NmVi, Order::Windows, 6, 8),
    ("windows 8:10", Encoding::NmVi, Order::Windows, 8, 10),
];

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    for (place, size) in [("1 MiB, cache", 1 << 20), ("64 MiB, memory", 64 << 20)] {
        println!("{place}: stored bytes and weights in 10^9 a second, one thread");
        yardsticks(size);
        println!("{:16} {:>17} {:>17} {:>17} {:>9}", "", "encode", "decode", "validate", "pattern");
        println!("{:16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}", "", "GB", "Gw", "GB", "Gw", "GB", "Gw", "Gw");
        for (name, encoding, order, n, m) in LAYOUTS {
            if name.starts_with(&only) {
                measure(name, encoding, order, Pattern::from_ids(n, m).unwrap(), size);
            }
        }
        println!();
    }
}

fn yardsticks(size: usize) {
    let bytes = vec![0x5A; size];
    let mut copy = vec![0; size];
    let gb = size as f64 / 1e9;
    let blake3 = median(size, || {
        black_box(blake3::Hasher::new().update(black_box(&bytes)).finalize());
    });
    let memcpy = median(size, || black_box(&mut copy).copy_from_slice(black_box(&bytes)));
    println!("BLAKE3 {:.1} GB/s, memcpy {:.1} GB/s", gb / blake3, gb / memcpy);
}

fn measure(name: &str, encoding: Encoding, order: Order, pattern: Pattern, size: usize) {
    let packing = Packing { encoding, order, pattern };
    let strip = packing.strip(COLS);
    let strips = size.div_ceil(strip.bytes);
    let rows = strips * strip.rows;
    let trits = trits(rows * COLS, pattern);
    let mut bytes = vec![0; strips * strip.bytes];
    let mut decoded = vec![0; trits.len()];

    let encode = median(size, || {
        packing.encode(black_box(&trits), COLS, black_box(&mut bytes)).unwrap();
    });
    let decode = median(size, || {
        packing.decode(black_box(&bytes), COLS, black_box(&mut decoded));
    });
    assert!(decoded == trits);
    let validate = median(size, || {
        packing.validate(black_box(&bytes), rows, COLS).unwrap();
    });
    let check = median(size, || check_pattern(black_box(&decoded), COLS, pattern).unwrap());

    let (gb, gw) = (bytes.len() as f64 / 1e9, trits.len() as f64 / 1e9);
    print!("{name:16}");
    for seconds in [encode, decode, validate] {
        print!(" {:8.2} {:8.2}", gb / seconds, gw / seconds);
    }
    // A dense tensor has no pattern to check.
    println!(" {:>9}", if pattern.is_dense() { "-".to_owned() } else { format!("{:.2}", gw / check) });
}

/// Random trits that fill groups as full as the pattern allows, as pruned models do.
fn trits(count: usize, pattern: Pattern) -> Vec<i8> {
    let mut state = 1u64;
    let mut below = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let (n, m) = if pattern.is_dense() { (2, 3) } else { (pattern.n(), pattern.m()) };
    let mut trits = vec![0; count];
    for group in trits.chunks_mut(m) {
        for _ in 0..n {
            let at = below(group.len() as u64) as usize;
            group[at] = if below(2) == 0 { 1 } else { -1 };
        }
    }
    trits
}

/// The median time of one run, in seconds. Runs over little data are timed several at a time.
fn median(size: usize, mut run: impl FnMut()) -> f64 {
    let times = (8 << 20) / size;
    let mut seconds: Vec<f64> = (0..=REPEATS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..times.max(1) {
                run();
            }
            start.elapsed().as_secs_f64() / times.max(1) as f64
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[REPEATS / 2]
}
