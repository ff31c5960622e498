//! The tests on 64-bit Arm: emulated, and on such a machine itself.
//!
//! `docs/arm.md` says how to set a machine up. What is taken from the environment is what Cargo takes: `RUSTC`, and the linker and the runner of the target.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, installed, root, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
const RUNNER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";
/// What compiles the C code of dependencies.
const COMPILER: &str = "CC_aarch64_unknown_linux_gnu";

/// The cross compiler that Debian, Fedora and others have.
const GCC: &str = "aarch64-linux-gnu-gcc";
/// Where the C library of the target is, if nothing else is said.
const LIBRARY: &str = "/usr/aarch64-linux-gnu";

/// Emulated processors: with everything, with dot products only, and with plain NEON. Kernels differ by it.
const PROCESSORS: [&str; 3] = ["max", "neoverse-n1", "cortex-a72"];

const MODEL: &str = "tests/models/sparse-bitnet-tiny";

/// Tests of the kernels on every kind of processor, of the format and the runtime on one, and a model that must become the same file and give the same
/// tokens as on this machine.
pub(crate) fn tests() -> Result {
    let arm = Arm::find()?;
    for runner in &arm.runners {
        arm.cargo(runner, &["test", "-p", "sbnc-kernels", "--lib", "--tests"])?;
    }
    let runner = &arm.runners[0];
    arm.cargo(runner, &["test", "-p", "sbnc-format", "--features", "writer", "--lib", "--tests"])?;
    arm.cargo(runner, &["test", "-p", "sbnc-runtime", "--lib", "--tests"])?;
    arm.same_model(runner)
}

/// The same where a machine is set up for it; elsewhere what is missing is told.
pub(crate) fn tests_if_possible() -> Result {
    if let Err(missing) = Arm::find() {
        eprintln!("── 64-bit Arm is not tested here. Missing: {missing}");
        return Ok(());
    }
    tests()
}

/// How to build and run programs of the target.
struct Arm {
    /// The linker, and the compiler of C, where Cargo must be told.
    gcc: Option<String>,
    /// What runs a program: one for every processor. An empty one where this machine is one.
    runners: Vec<String>,
}

impl Arm {
    /// What there is, or everything that is missing.
    fn find() -> Result<Self> {
        if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
            return Ok(Self { gcc: None, runners: vec![String::new()] });
        }
        let mut missing = Vec::new();
        if !has_library() {
            missing.push(format!("Rust's library for {TARGET}: rustup target add {TARGET}"));
        }
        let gcc = std::env::var_os(LINKER).is_none().then(|| GCC.to_owned());
        if gcc.is_some() && !installed(GCC) {
            missing.push(format!(
                "a linker: {GCC} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross), or set {LINKER}"
            ));
        }
        let emulator = ["qemu-aarch64", "qemu-aarch64-static"].into_iter().find(|name| installed(name));
        let runners = match (std::env::var(RUNNER), emulator) {
            (Ok(runner), _) => vec![runner],
            (_, Some(emulator)) => {
                let library = std::env::var("QEMU_LD_PREFIX").unwrap_or_else(|_| LIBRARY.to_owned());
                PROCESSORS.map(|cpu| format!("{emulator} -L {library} -cpu {cpu}")).to_vec()
            }
            _ => {
                missing.push(format!("an emulator: qemu-aarch64 (Debian: qemu-user), or set {RUNNER}"));
                Vec::new()
            }
        };
        if missing.is_empty() { Ok(Self { gcc, runners }) } else { Err(missing.join("; ")) }
    }

    /// A command of Cargo for the target.
    fn command(&self, runner: &str) -> Command {
        let mut command = cargo();
        if let Some(gcc) = &self.gcc {
            command.env(LINKER, gcc);
            if std::env::var_os(COMPILER).is_none() {
                command.env(COMPILER, gcc);
            }
        }
        if !runner.is_empty() {
            command.env(RUNNER, runner);
        }
        command
    }

    fn cargo(&self, runner: &str, arguments: &[&str]) -> Result {
        eprintln!("── {}", if runner.is_empty() { "here" } else { runner });
        run(self.command(runner).args(arguments).args(["--target", TARGET]))
    }

    /// Compiles and runs a model on the target and on this machine.
    fn same_model(&self, runner: &str) -> Result {
        let here = compile_and_run(&cargo, "here", &[])?;
        let there = compile_and_run(&|| self.command(runner), "arm", &["--target", TARGET])?;
        match (here.0 == there.0, here.1 == there.1) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("{MODEL} becomes another file on {TARGET}")),
            (_, false) => Err(format!("{MODEL} gives {} here and {} on {TARGET}", here.1, there.1)),
        }
    }
}

/// The bytes of the compiled model, and what it says.
fn compile_and_run(cargo: &dyn Fn() -> Command, name: &str, target: &[&str]) -> Result<(Vec<u8>, String)> {
    let file = root().join(format!("target/{name}.sbnc"));
    let _ = std::fs::remove_file(&file);
    let path = file.to_string_lossy().into_owned();
    let sbnc = |arguments: &[&str]| {
        let mut command = cargo();
        command.current_dir(root()).args(["run", "--quiet", "-p", "sbnc"]).args(target).arg("--").args(arguments);
        let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        let problem = || format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text).ok_or_else(problem)
    };
    sbnc(&["compile", MODEL, "-o", &path, "--target", "cpu"])?;
    let text = sbnc(&["run", &path, "--token-ids", "1,2,3", "--max-tokens", "8", "--device", "cpu"])?;
    let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok((bytes, text))
}

/// The Cargo that runs this task.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
}

/// Whether the compiler has its library for the target.
fn has_library() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && Path::new(&folder).is_dir()
    })
}
