//! What CI runs, as one command: `cargo xtask ci`, or any single task.
//!
//! Every task is a row of [`TASKS`]; CI calls nothing else, so what passes here passes there. Slow suites have tasks of their own.

mod arm;
mod gpu;
mod memory;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T = ()> = std::result::Result<T, String>;

struct Task {
    name: &'static str,
    what: &'static str,
    /// Part of `ci`.
    ci: bool,
    run: fn() -> Result,
}

const TASKS: &[Task] = &[
    Task { name: "fmt", what: "formatting is rustfmt's", ci: true, run: fmt },
    Task { name: "clippy", what: "no lint fires, in any target and with or without features", ci: true, run: clippy },
    Task { name: "doc", what: "documentation builds without a warning, its picture is up to date", ci: true, run: doc },
    Task { name: "deny", what: "licences, sources and banned crates", ci: true, run: deny },
    Task { name: "test", what: "all tests, as the README runs them", ci: true, run: test },
    Task { name: "spec", what: "the second reader, and vectors that are up to date", ci: true, run: spec },
    Task { name: "unsafe", what: "unsafe code only where ARCHITECTURE.md says", ci: true, run: unsafe_code },
    Task {
        name: "train",
        what: "the trainer, and its models compiled (only where PyTorch is: SBNC_PYTHON names the interpreter)",
        ci: true,
        run: train,
    },
    Task { name: "faults", what: "200 kills of the writer at random points", ci: false, run: faults },
    Task { name: "flips", what: "a million random payload flips", ci: false, run: flips },
    Task { name: "memory", what: "peak memory of compiling large tensors", ci: false, run: peak_memory },
    Task {
        name: "fuzz",
        what: "every fuzz target for ten minutes (needs cargo-fuzz and nightly)",
        ci: false,
        run: fuzz,
    },
    Task {
        name: "asan",
        what: "tests of format, kernels and runtime with AddressSanitizer (needs nightly)",
        ci: false,
        run: memory::asan,
    },
    Task {
        name: "valgrind",
        what: "a sample of the kernels' and the runtime's tests under valgrind",
        ci: false,
        run: memory::valgrind,
    },
    Task {
        name: "valgrind-ci",
        what: "the same where valgrind is installed",
        ci: true,
        run: memory::valgrind_if_possible,
    },
    Task {
        name: "miri",
        what: "the pool and the C interface under Miri (needs nightly and its miri)",
        ci: false,
        run: memory::miri,
    },
    Task {
        name: "callgrind",
        what: "count the instructions of the hot kernels (needs valgrind; Linux on x86-64)",
        ci: false,
        run: memory::callgrind,
    },
    Task { name: "kernels", what: "compile the CUDA sources into the embedded images", ci: false, run: gpu::kernels },
    Task {
        name: "gpu-tests",
        what: "build the runner that tests and times the GPU kernels",
        ci: false,
        run: gpu::tests,
    },
    Task {
        name: "arm",
        what: "tests on 64-bit Arm, emulated elsewhere (needs the target, a cross compiler and qemu)",
        ci: false,
        run: arm::tests,
    },
    Task { name: "arm-ci", what: "the same, or what is missing for it", ci: true, run: arm::tests_if_possible },
    Task { name: "bench", what: "speed of compiling and verifying, beside their floors", ci: false, run: bench },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&Task> = match wanted.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ci"] => TASKS.iter().filter(|t| t.ci).collect(),
        names if !names.is_empty() && names.iter().all(|n| TASKS.iter().any(|t| t.name == *n)) => {
            TASKS.iter().filter(|t| names.contains(&t.name)).collect()
        }
        _ => return usage(),
    };
    for task in chosen {
        eprintln!("── {}: {}", task.name, task.what);
        if let Err(problem) = (task.run)() {
            eprintln!("── {} failed: {problem}", task.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("cargo xtask ci | TASK…\n");
    for task in TASKS {
        eprintln!("  {:9} {}{}", task.name, task.what, if task.ci { "" } else { " (not in ci)" });
    }
    ExitCode::from(2)
}

fn fmt() -> Result {
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Result {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Applications that only read build the format without its writer.
    cargo(&["clippy", "-p", "sbnc-format", "--no-default-features", "--", "-D", "warnings"])?;
    // And the runtime without GPUs.
    cargo(&["check", "-p", "sbnc-runtime", "--no-default-features"])
}

fn doc() -> Result {
    run(Command::new(env!("CARGO")).args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    run(Command::new("python3").args(["tests/benches/cpu_speed.py", "--check"]))
}

fn deny() -> Result {
    if !installed("cargo-deny") {
        return Err("cargo-deny is not installed: cargo install --locked cargo-deny".to_owned());
    }
    // Advisories need a database from the network; they are checked where there is one.
    cargo(&["deny", "check", "licenses", "bans", "sources"])
}

fn test() -> Result {
    // With the tests of the format that need its writer, because other crates switch it on.
    cargo(&["test"])
}

fn spec() -> Result {
    let python = |arguments: &[&str]| run(Command::new("python3").args(arguments));
    python(&["spec/vectors/generate.py", "--check"])?;
    python(&["spec/test_reader.py"])?;
    python(&["spec/test_refusals.py"])
}

/// PyTorch is several gigabytes: where it is not installed, the trainer is not tested, and that is said.
fn train() -> Result {
    let python = std::env::var("SBNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import torch, tokenizers, safetensors, matplotlib"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("   skipped: {python} has no PyTorch; `pip install ./train` brings it");
        return Ok(());
    }
    cargo(&["build", "--bin", "sbnc", "--profile", "test"])?;
    let sbnc = root().join("target/debug").join(format!("sbnc{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(python);
    command.args(["-m", "unittest", "discover", "-s", "train/tests", "-t", "train/tests"]);
    run(command.env("PYTHONPATH", root().join("train")).env("SBNC", sbnc))
}

/// `unsafe` stays where ARCHITECTURE.md says: the map, the kernels of one architecture or device, and the C interface.
fn unsafe_code() -> Result {
    const ALLOWED: [&str; 4] = ["runtime/src/map", "runtime/src/capi", "kernels/src/cpu/", "kernels/src/cuda/"];
    let mut found = Vec::new();
    for folder in ["format/src", "kernels/src", "runtime/src", "compiler/src", "xtask/src"] {
        rust_files(Path::new(folder), &mut |path, text| {
            let place = path.to_string_lossy().replace('\\', "/");
            let uses =
                text.lines().any(|l| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"));
            if uses && !place.starts_with("xtask/") && !ALLOWED.iter().any(|a| place.starts_with(a)) {
                found.push(place);
            }
        })?;
    }
    if found.is_empty() { Ok(()) } else { Err(format!("unsafe code in {}", found.join(", "))) }
}

fn faults() -> Result {
    let mut command = Command::new(env!("CARGO"));
    run(command.args(["test", "--release", "-p", "sbnc-tests", "--test", "faults"]).env("SBNC_FAULT_ROUNDS", "200"))
}

fn flips() -> Result {
    let mut command = Command::new(env!("CARGO"));
    let arguments = ["test", "--release", "-p", "sbnc-format", "--features", "writer", "--test", "structure"];
    run(command.args(arguments).env("SBNC_FLIPS", "1000000"))
}

fn peak_memory() -> Result {
    cargo(&["test", "--release", "-p", "sbnc-tests", "--", "--ignored", "memory"])
}

fn fuzz() -> Result {
    let targets = Path::new("tests/fuzz/fuzz_targets");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(targets).map_err(|e| e.to_string())?.flatten().map(|f| f.path()).collect();
    names.sort();
    for name in names.iter().filter_map(|n| n.file_stem()).filter_map(|n| n.to_str()) {
        let seeds = format!("tests/fuzz/seeds/{name}");
        let corpus = format!("tests/fuzz/corpus/{name}");
        std::fs::create_dir_all(&corpus).map_err(|e| e.to_string())?;
        let limits = ["-max_total_time=600", "-rss_limit_mb=1024"];
        let arguments = ["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", name, &corpus, &seeds, "--"];
        run(Command::new("cargo").args(arguments).args(limits))?;
    }
    Ok(())
}

fn bench() -> Result {
    cargo(&["bench", "-p", "sbnc-tests"])
}

fn cargo(arguments: &[&str]) -> Result {
    run(Command::new(env!("CARGO")).args(arguments))
}

fn run(command: &mut Command) -> Result {
    let status = command.current_dir(root()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn rust_files(folder: &Path, each: &mut dyn FnMut(&Path, &str)) -> Result {
    for entry in std::fs::read_dir(root().join(folder)).map_err(|e| format!("{}: {e}", folder.display()))?.flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            rust_files(&path, each)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(entry.path()).map_err(|e| format!("{}: {e}", path.display()))?;
            each(&path, &text);
        }
    }
    Ok(())
}
