//! A model of the shape of BitNet b1.58 2B-4T: how long it takes to the first logits, and how much memory besides its weights.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::time::Instant;

use sbnc_format::encoding::Packing;
use sbnc_format::{Encoding, Order};
use sbnc_runtime::{Model, Phase, SessionOptions};
use sbnc_tests::{Recipe, folder};

const MIB: u64 = 1 << 20;

/// Memory of this process that is no file's, in bytes.
fn private() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "writes a file of 1.1 GB, and means something in a release build only"]
fn memory_and_time_to_the_first_logits() {
    let folder = folder();
    let path = folder.path().join("large.sbnc");
    let packing = Packing { encoding: Encoding::Nm6b, order: Order::Rows, pattern: "2:4".parse().unwrap() };
    Recipe::bitnet_2b4t(packing).write(&path);
    fs::read(&path).unwrap(); // into the page cache

    let before = private();
    let start = Instant::now();
    let model = Model::open(&path).unwrap();
    let opened = start.elapsed();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let ready = start.elapsed();
    session.forward(&[1]).unwrap();
    let first = start.elapsed();
    eprintln!("open {opened:?}, session {ready:?}, first logits {first:?}, {} MiB", private() / MIB);

    let tokens: Vec<u32> = (0..700).map(|i| i * 37 % 128_000).collect();
    for (what, tokens) in [("prefill", &tokens[..512]), ("decode", &tokens[512..522])] {
        let pieces: Vec<&[u32]> = if what == "prefill" { vec![tokens] } else { tokens.chunks(1).collect() };
        session.take_profile();
        let start = Instant::now();
        pieces.into_iter().for_each(|piece| {
            session.forward(piece).unwrap();
        });
        let rate = tokens.len() as f64 / start.elapsed().as_secs_f64();
        let profile = session.take_profile();
        let shares = Phase::ALL.map(|p| format!("{} {:.1?}", p.name(), profile.of(p) / tokens.len() as u32));
        eprintln!("{what} {rate:.1} tokens/s: {}", shares.join(", "));
    }
    let cache = model.config().cache_values_per_token() * 2 * session.context() as u64;
    let grown = private() - before;
    eprintln!("{} MiB besides the weights; keys and values may take {} MiB", grown / MIB, cache / MIB);
    assert!(grown < cache + 200 * MIB, "{} MiB besides the weights", grown / MIB);
    assert!(first.as_secs_f64() < 0.5, "{first:?} to the first logits");
}
