//! How much memory compiling takes: a bounded amount besides the tensor at hand, however large the checkpoint.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sbnc_tests::{command, folder, sbnc, synthetic};

const MIB: u64 = 1 << 20;

/// The largest resident size of a call of `sbnc`, mapped files included, in bytes. The system keeps the maximum, so looking often only has to
/// catch a process before it ends.
fn peak(folder: &Path, line: &str) -> u64 {
    let mut child = command(line.split_whitespace()).current_dir(folder).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let expected = if line.starts_with("diff") { 1 } else { 0 };
    assert_eq!(code.code(), Some(expected), "sbnc {line}");
    assert!(peak > MIB, "sbnc {line}: ended before its memory could be seen");
    peak
}

/// Every command that reads tensors stays below `limit`.
fn assert_bounded(folder: &Path, limit: u64) {
    for line in [
        "compile in.safetensors -o a.sbnc --nm 2:4",
        "compile in.safetensors -o b.sbnc --nm 6:8 --report b.html",
        "verify a.sbnc",
        "verify a.sbnc --deep",
        "verify a.sbnc --against in.safetensors",
        "export a.sbnc -o a.safetensors",
        "pack b.sbnc -o b.sbncz --level 1",
        "unpack b.sbncz -o d.sbnc",
        "diff a.sbnc b.sbnc",
    ] {
        let used = peak(folder, line);
        eprintln!("{:5} MiB of {:5}: sbnc {line}", used / MIB, limit / MIB);
        assert!(used <= limit, "sbnc {line} took {} MiB, more than {} MiB", used / MIB, limit / MIB);
    }
}

#[test]
fn memory_does_not_grow_with_the_checkpoint() {
    sbnc();
    let place = folder();
    // 384 MB in 24 tensors of 16 MiB: who keeps them all does not pass.
    synthetic(&place.path().join("in.safetensors"), 24, 2048, 4096);
    assert_bounded(place.path(), 192 * MIB + 2 * 16 * MIB);
}

#[test]
#[ignore = "writes 2 GB: cargo xtask memory"]
fn memory_of_large_tensors_is_bounded() {
    sbnc();
    let place = folder();
    synthetic(&place.path().join("in.safetensors"), 12, 5120, 10_240);
    assert_bounded(place.path(), 512 * MIB + 2 * 100 * MIB);
}
