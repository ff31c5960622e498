//! Tests under tools that watch memory, and instructions under one that counts them. Each finds what the others cannot: AddressSanitizer runs everything with every
//! instruction set, valgrind also sees memory that was never written (but knows no AVX-512), Miri knows the rules of the language itself, threads included (but no
//! vector code).

use std::path::Path;
use std::process::Command;

use crate::{Result, installed, root, run};

/// The target whose crates are instrumented; build scripts and macros are not.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Random shapes that the kernels' tests try under a tool, instead of 1200: every layout, pattern and kernel is still among them.
const SHAPES: (&str, &str) = ("SBNC_SHAPES", "100");

/// Tests with AddressSanitizer: format, kernels, runtime and C interface, and models of all kinds run on every instruction set of the machine.
pub(crate) fn asan() -> Result {
    nightly()?;
    let mut command = Command::new("cargo");
    command.args(["+nightly", "test", "--target", TARGET, "--target-dir", "target/asan"]);
    // One call, so that crates are built once.
    command.args(["-p", "sbnc-format", "-p", "sbnc-kernels", "-p", "sbnc-runtime", "-p", "sbnc-tests", "--lib"]);
    for test in ["encoding_suite", "structure", "regressions", "ops", "gemm", "oracle", "execution"] {
        command.args(["--test", test]);
    }
    command.env("RUSTFLAGS", "-Zsanitizer=address").env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
    run(command.env(SHAPES.0, SHAPES.1))
}

/// Tests that valgrind runs in minutes: those of the kernels, the pool, the map and the C interface that touch memory by hand.
const UNDER_VALGRIND: [&str; 12] = [
    "cpu::pool",
    "cpu::tests::random",
    "cpu::tests::layers",
    "cpu::gemv",
    "cpu::ops",
    "norms_",
    "gates_are",
    "turning_and_storing",
    "random_shapes_equal",
    "capi::",
    "map::",
    "storage::",
];

/// A sample of the tests under valgrind, which knows no AVX-512.
pub(crate) fn valgrind() -> Result {
    if !installed("valgrind") {
        return Err("valgrind is not installed: apt install valgrind".to_owned());
    }
    let mut command = Command::new(env!("CARGO"));
    // What `cargo test` builds, and nothing else.
    command
        .args(["test", "--lib", "--test", "ops", "--test", "gemm", "--"])
        .args(UNDER_VALGRIND)
        .arg("--test-threads=1");
    command.env("SBNC_CPU", "avx2").env(SHAPES.0, SHAPES.1);
    // What tests leak at their end, such as the threads of a pool, is no error.
    let runner = "valgrind --quiet --error-exitcode=1 --leak-check=no";
    run(command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner))
}

/// The same where there is valgrind, and otherwise a word.
pub(crate) fn valgrind_if_possible() -> Result {
    if installed("valgrind") {
        return valgrind();
    }
    eprintln!("   skipped: valgrind is not installed");
    Ok(())
}

/// Tests of what is plain code beneath the kernels and of the C interface under Miri. The format has no unsafe code for it to look at.
pub(crate) fn miri() -> Result {
    nightly()?;
    if !succeeds(Command::new("cargo").args(["+nightly", "miri", "--version"])) {
        return Err("the nightly toolchain has no Miri: rustup +nightly component add miri rust-src".to_owned());
    }
    for tests in [
        // Two tests of the pool wait thousands of times, and Miri's clock goes on while it interprets.
        &[
            "-p",
            "sbnc-kernels",
            "--no-default-features",
            "--lib",
            "--",
            "pool::",
            "activations::",
            "layout::",
            "--skip=a_call_does_not_wait",
            "--skip=a_panic_reaches",
        ][..],
        &["-p", "sbnc-runtime", "--no-default-features", "--features", "capi", "--lib", "--", "capi::"],
    ] {
        let mut command = Command::new("cargo");
        command.args(["+nightly", "miri", "test", "--target-dir", "target/miri"]).args(tests);
        // Tests read files and the clock.
        run(command.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("SBNC_CPU", "portable"))?;
    }
    Ok(())
}

/// Platforms whose instructions are counted, and whether valgrind knows them; the others are stepped through one by one, where the machine has them.
const COUNTED: [(&str, bool); 4] = [("portable", true), ("avx2", true), ("avx512", false), ("amx", false)];

/// Prints how many instructions the hot kernels take, as the table of docs/performance.md.
pub(crate) fn callgrind() -> Result {
    if !installed("valgrind") {
        return Err("valgrind is not installed: apt install valgrind".to_owned());
    }
    run(Command::new(env!("CARGO")).args(["build", "--release", "-p", "sbnc-kernels", "--example", "instructions"]))?;
    let program = root().join("target/release/examples/instructions");
    let calls = text_of(&mut Command::new(&program))?.0;
    let first = calls.lines().next().unwrap_or_default();
    let here = |platform: &str| succeeds(Command::new(&program).args([platform, first]));
    let platforms: Vec<_> = COUNTED.into_iter().filter(|(platform, valgrind)| *valgrind || here(platform)).collect();
    let names: Vec<_> = platforms.iter().map(|(platform, _)| *platform).collect();
    println!("| instructions a weight | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for call in calls.lines() {
        let counts: Vec<String> = platforms
            .iter()
            .map(|&(platform, valgrind)| count(&program, platform, valgrind, call).map(|count| format!("{count:.3}")))
            .collect::<Result<_>>()?;
        println!("| {call} | {} |", counts.join(" | "));
    }
    Ok(())
}

/// Instructions of one call, for each of the units that it says it has.
fn count(program: &Path, platform: &str, valgrind: bool, call: &str) -> Result<f64> {
    let mut command = if valgrind {
        let mut command = Command::new("valgrind");
        let function = "--toggle-collect=*instructions*counted*";
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", function]);
        command
    } else {
        let mut command = Command::new("python3");
        command.args(["tests/benches/step.py", "instructions7counted"]);
        command
    };
    let (out, told) = text_of(command.arg(program).args([platform, call]))?;
    let units = out.trim().parse::<f64>().map_err(|_| format!("{call}: expected a number, found {out:?}"))?;
    let collected = match valgrind {
        true => told.lines().find_map(|line| Some(line.split_once("Collected : ")?.1)),
        false => told.lines().last(),
    };
    match collected.and_then(|number| number.trim().parse::<f64>().ok()).filter(|&count| count > 0.0) {
        Some(collected) => Ok(collected / units),
        None => Err(format!("{call}: nothing was counted\n{told}")),
    }
}

/// Standard output and error of a command that must succeed.
fn text_of(command: &mut Command) -> Result<(String, String)> {
    let output = command.current_dir(root()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok((out, told)) } else { Err(format!("{command:?}: {}\n{told}", output.status)) }
}

fn nightly() -> Result {
    if succeeds(Command::new("cargo").args(["+nightly", "--version"])) {
        return Ok(());
    }
    Err("there is no nightly toolchain: rustup toolchain install nightly".to_owned())
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
