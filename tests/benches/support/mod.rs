//! What the benchmarks share: arguments, medians, a scratch folder, and the rival.
#![allow(dead_code, reason = "every benchmark uses a part of it")]

pub(crate) mod checkpoint;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

pub(crate) struct Arguments {
    pub(crate) layers: u64,
    pub(crate) repeats: usize,
    pub(crate) keep: bool,
    pub(crate) gigabytes: f64,
}

impl Arguments {
    pub(crate) fn parse() -> Self {
        let mut parsed = Self { layers: 30, repeats: 3, keep: false, gigabytes: 2.0 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number =
                || -> f64 { arguments.next().and_then(|n| n.parse().ok()).expect("a number follows the flag") };
            match argument.as_str() {
                "--layers" => parsed.layers = number() as u64,
                "--repeats" => parsed.repeats = number() as usize,
                "--gigabytes" => parsed.gigabytes = number(),
                "--keep" => parsed.keep = true,
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        parsed
    }
}

/// One thread, and as many as the machine has.
pub(crate) fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all == 1 { vec![1] } else { vec![1, all] }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// GB/s of a task over `bytes`, the median of `repeats`.
pub(crate) fn rate(bytes: usize, repeats: usize, mut task: impl FnMut()) -> f64 {
    let seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let started = Instant::now();
            task();
            started.elapsed().as_secs_f64()
        })
        .collect();
    bytes as f64 / median(&seconds) / 1e9
}

/// A folder for large files, inside the build folder.
pub(crate) fn scratch() -> PathBuf {
    let target = std::env::current_exe().expect("a process knows its executable");
    let folder = target.ancestors().nth(3).expect("it lies in the build folder").join("bench");
    std::fs::create_dir_all(&folder).expect("the build folder can be written");
    folder
}

/// The largest resident size of this process so far.
pub(crate) fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// The numpy implementation of the same steps, on a random matrix of the feed-forward layer.
pub(crate) fn numpy_rival() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/quantise.py");
    let python = std::env::var("SBNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for nm in ["none", "2:4", "6:8"] {
        let output = Command::new(&python).args([script, "--time", "--synthetic", "6912x2560", "--nm", nm]).output();
        match output {
            Ok(output) if output.status.success() => {
                println!("numpy {nm}: {}", String::from_utf8_lossy(&output.stdout).trim_end());
            }
            Ok(output) => {
                let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
                println!("numpy {nm}: not run: {last}");
            }
            Err(error) => println!("numpy {nm}: not run: {error}"),
        }
    }
}
