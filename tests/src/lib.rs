//! What the tests that cross crates share: the built command, folders that vanish, golden models, and files as other people's code reads them.
//!
//! | item | what it is |
//! |---|---|
//! | [`sbnc`], [`run`] | the `sbnc` binary of this build, and one call of it |
//! | [`example`], [`library`] | an example of the runtime, and its library for C programs |
//! | [`folder`], [`Place`] | a temporary folder, and one to run commands in |
//! | [`golden_text`] | a recorded text |
//! | [`golden`] | a golden model, where the machine has them |
//! | [`Tensors`] | a safetensors file, read by the crate of the format's inventors |
//! | [`Recipe`] | a model of any shape with random weights, as a compiled file |
//! | [`synthetic`] | a large checkpoint with random weights |
//! | [`talker`] | a tiny model with a tokenizer and a chat template |
//! | [`python`] | an interpreter that has numpy |
#![forbid(unsafe_code)]

mod place;
mod python;
mod recipe;
mod synthetic;
pub mod talker;
mod tensors;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

pub use place::{Place, golden_text};
pub use python::python;
pub use recipe::Recipe;
pub use synthetic::synthetic;
pub use tensors::{Tensors, f32s};

/// The `sbnc` binary, built once in each test process.
pub fn sbnc() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    // With an example, cargo gives crates the features that they have in tests: `cargo test` has built all of this already.
    BINARY.get_or_init(|| built(&["--bin", "sbnc", "--example", "talker"], &executable("sbnc")))
}

/// An example of the runtime, as applications would copy it.
pub fn example(name: &str) -> PathBuf {
    built(&["--example", name], &format!("examples/{}", executable(name)))
}

/// The runtime as a shared library for C programs.
pub fn library() -> PathBuf {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    built(&["--example", "sbnc_runtime"], &format!("examples/{prefix}sbnc_runtime{suffix}"))
}

fn executable(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

/// What cargo builds into `file` with the profile and in the folder of the running test.
fn built(what: &[&str], file: &str) -> PathBuf {
    let profile = profile_folder();
    let name = profile.file_name().and_then(OsStr::to_str).expect("a profile's folder has a name");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Tests of the profile `test` lie in the folder `debug`; building with another one would build every crate again.
    let profile_name = if name == "debug" { "test" } else { name };
    let mut target = profile.parent().expect("a profile's folder lies in the build folder");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", profile_name]).args(what);
    // Where tests are built with --target, this is the folder of the target, and the build folder is around it.
    if let (Some(outer), Some(name)) = (target.parent(), target.file_name())
        && outer.join("CACHEDIR.TAG").is_file()
    {
        command.arg("--target").arg(name);
        target = outer;
    }
    command.arg("--target-dir").arg(target);
    let status = command.current_dir(workspace()).status().expect("cargo runs");
    assert!(status.success(), "{file} must build: {command:?}");
    let path = profile.join(file);
    assert!(path.is_file(), "{}: the build left no such file", path.display());
    path
}

/// What one call of `sbnc` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the call ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|e| panic!("stdout must be one JSON document: {e}\n{}", self.stdout))
    }
}

/// A call of `sbnc` to be run, with nothing on its standard input.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(sbnc());
    // Help is wrapped to the terminal's width.
    command.args(arguments).stdin(Stdio::null()).env_remove("COLUMNS");
    command
}

/// Runs `sbnc` to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    finish(&mut command(arguments))
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// An empty folder in the build folder, removed at the end of the test.
pub fn folder() -> TempDir {
    let parent = scratch();
    tempfile::Builder::new().prefix("sbnc-").tempdir_in(parent).expect("the build folder can be written")
}

/// Names of the files of a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("the folder can be read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A golden model, or `None`, said on stderr, where the golden models are not beside the workspace.
pub fn golden(name: &str) -> Option<PathBuf> {
    let folder = workspace().join("../shared/golden").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no golden model in {}", folder.display());
    None
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Where large files may go: the disk of the build folder, not a temporary folder in memory.
fn scratch() -> PathBuf {
    let folder = profile_folder().parent().expect("a profile's folder lies in the build folder").join("tmp");
    std::fs::create_dir_all(&folder).expect("the build folder can be written");
    folder
}

/// The folder of the running profile, such as `target/debug`.
fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a process knows its executable");
    executable.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned()
}
