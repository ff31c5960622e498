//! A model of the shape of BitNet b1.58 2B-4T: how long it takes to the first logits, and how much memory besides its weights.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::time::Instant;

use sbnc_format::encoding::Packing;
use sbnc_format::{Encoding, Order};
use sbnc_runtime::{Model, Phase, Session, SessionOptions};
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
    rates("prefill", &mut session, &mut tokens[..512].chunks(512));
    rates("decode", &mut session, &mut tokens[512..532].chunks(1));
    let cache = model.config().cache_values_per_token() * 2 * session.context() as u64;
    let grown = private() - before;
    eprintln!("{} MiB besides the weights; keys and values may take {} MiB", grown / MIB, cache / MIB);
    assert!(grown < cache + 200 * MIB, "{} MiB besides the weights", grown / MIB);
    for chunk in [128, 256] {
        let mut session = model.session(&SessionOptions { chunk, ..SessionOptions::default() }).unwrap();
        rates(&format!("prefill in chunks of {chunk}"), &mut session, &mut tokens[..512].chunks(512));
    }
    assert!(first.as_secs_f64() < 0.5, "{first:?} to the first logits");
}

/// Says how fast a session runs pieces of a text, and where the time goes.
fn rates<'a>(what: &str, session: &mut Session, pieces: &mut dyn Iterator<Item = &'a [u32]>) {
    session.take_profile();
    let (start, before) = (Instant::now(), session.tokens(0).len());
    pieces.for_each(|piece| {
        session.forward(piece).unwrap();
    });
    let (spent, tokens) = (start.elapsed(), session.tokens(0).len() - before);
    let profile = session.take_profile();
    let phases = Phase::ALL.map(|p| format!("{} {:.1?}", p.name(), profile.of(p) / tokens as u32));
    eprintln!("{what}, {:.1} tokens/s: {}", tokens as f64 / spent.as_secs_f64(), phases.join(", "));
}
