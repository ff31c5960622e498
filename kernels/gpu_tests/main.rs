//! Tests and times the GPU kernels: one program without dependencies, for machines that have a GPU and no Rust.
//!
//! ```text
//! gpu_tests [test] [PART…]    run the tests whose names contain any PART; fails where there is no GPU
//! gpu_tests time [PART…]      print tables of times
//! ```
//!
//! A module here holds the tests of a part of `sbnc_kernels::cuda` and gives them to [`TESTS`].
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod attention;
mod head;
mod linear;
mod numbers;
mod rows;
mod times;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use sbnc_kernels::cuda::Device;

#[path = "../../format/tests/support/mod.rs"]
mod support;

/// A test: it panics where something is wrong.
pub(crate) type Test = (&'static str, fn(&Device));

/// The tests of each module.
const TESTS: &[&[Test]] = &[linear::TESTS, rows::TESTS, attention::TESTS, head::TESTS];
/// The tables of each module.
const TIMES: &[&[Test]] = &[times::TABLES];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (all, parts) = match arguments.split_first() {
        Some((first, parts)) if first == "time" => (TIMES, parts),
        Some((first, parts)) if first == "test" => (TESTS, parts),
        _ => (TESTS, &arguments[..]),
    };
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("these tests need a GPU: {error}");
            return ExitCode::FAILURE;
        }
    };
    let images = if device.is_hopper() { "machine code for Hopper" } else { "PTX" };
    println!("{}, {} multiprocessors, {images}", device.name(), device.multiprocessors());
    let chosen = all
        .iter()
        .copied()
        .flatten()
        .filter(|(name, _)| parts.is_empty() || parts.iter().any(|p| name.contains(p.as_str())));
    let (mut run, mut failed) = (0, Vec::new());
    for (name, test) in chosen {
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| test(&device))).is_ok();
        println!("{} {name} ({:.2} s)", if passed { "ok    " } else { "FAILED" }, start.elapsed().as_secs_f64());
        run += 1;
        if !passed {
            failed.push(*name);
        }
    }
    println!("{run} run, {} failed {}", failed.len(), failed.join(", "));
    if run > 0 && failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
