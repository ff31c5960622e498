//! A folder to run commands in, and golden texts to compare with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::{Output, command, finish, folder, names, workspace};

/// A folder to run commands in, which then speak of files by their names alone.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: folder() }
    }

    /// A folder with the tiny random model of `tests/models` in `model` and compiled as `a.sbnc`.
    pub fn with_model() -> Self {
        let place = Self::new();
        fs::create_dir(place.path("model")).expect("the folder can be used");
        let source = workspace().join("tests/models/sparse-bitnet-tiny");
        for name in names(&source) {
            fs::copy(source.join(&name), place.path("model").join(&name)).expect("the folder can be used");
        }
        place.ok("compile model -o a.sbnc");
        place
    }

    /// A folder with the tiny model that can talk in `talker` and compiled as `t.sbnc`.
    pub fn with_talker() -> Self {
        let place = Self::new();
        fs::create_dir(place.path("talker")).expect("the folder can be written");
        crate::talker::talker(&place.path("talker"));
        place.ok("compile talker -o t.sbnc --nm 2:4");
        place
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("the folder can be used")
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the folder can be used");
    }

    /// Names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// A call whose arguments are the words of `line`.
    pub fn command(&self, line: &str) -> Command {
        let mut command = command(line.split_whitespace());
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a line to its end.
    pub fn run(&self, line: &str) -> Output {
        finish(&mut self.command(line))
    }

    /// Runs what must succeed, in silence on stderr; its stdout.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "sbnc {line}");
        output.stdout
    }

    /// Runs what must fail, in silence on stdout, with these words, and leaving no file; its stderr.
    #[track_caller]
    pub fn fails(&self, line: &str, code: i32, words: &[&str]) -> String {
        let before = self.names();
        let output = self.run(line);
        assert_eq!(output.code, Some(code), "sbnc {line}\n{}", output.stderr);
        assert_eq!(output.stdout, "", "sbnc {line}");
        for word in words {
            assert!(output.stderr.contains(word), "sbnc {line}: {word:?} is missing in: {}", output.stderr);
        }
        assert_eq!(self.names(), before, "sbnc {line} must leave nothing");
        output.stderr
    }
}

/// Compares a text with the golden file of this name, or writes the file where `SBNC_BLESS` is set.
#[track_caller]
pub fn golden_text(name: &str, found: &str) {
    let path = workspace().join("tests/golden").join(name);
    if std::env::var_os("SBNC_BLESS").is_some() {
        fs::write(&path, found).expect("the folder can be used");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    assert!(
        expected == found,
        "{name}, line {}:\nexpected {}\nfound    {}\nif the change is meant, run the test with SBNC_BLESS=1 and read the diff",
        line + 1,
        shown(&expected),
        shown(found)
    );
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}
