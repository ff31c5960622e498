//! The `sbnc` command: arguments in, results on stdout, messages on stderr, an exit code that scripts can rely on.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | `diff`: the files differ |
//! | 2 | the command line is wrong |
//! | 3 | the input breaks a rule |
//! | 4 | bytes are not what they were: a digest differs |
//! | 5 | not supported by this version |
//! | 6 | the system refused: no such file, no room, no permission |
//! | 7 | the work does not fit the memory it was given |
//! | 8 | no such device, or it cannot be used |
//! | 130 | interrupted |

mod arguments;
mod bench;
mod compile;
mod demo;
mod diff;
mod doctor;
mod execution;
mod export;
mod inspect;
mod pack;
mod paths;
mod ppl;
mod run;
mod terminal;
mod verify;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use sbnc_format::Sbnc;
use sbnc_format::atomic::AtomicFile;
use sbnc_runtime::map::Map;

use self::arguments::{Arguments, Command};
use crate::error::{Error, Exit, Result};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    crate::interrupt::install(arguments.command.writes());
    sbnc_runtime::map::survive_lost_pages();
    let mut result = run(arguments.command);
    let told = |error: &Error| matches!(error.exit(), Exit::Integrity | Exit::Interrupted);
    if sbnc_runtime::map::lost_pages() && !result.as_ref().is_err_and(told) {
        // Whatever came out, it came of bytes that were not the file's.
        result = Err(Error::lost_pages());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                eprintln!("error: {text}");
            }
            ExitCode::from(error.exit() as u8)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Inspect { file, tensor, json } => inspect::run(&file, tensor.as_deref(), json),
        Command::Verify { file, deep, against, json } => match against {
            None => verify::run(&file, deep, json),
            Some(input) => compile::verify_against(&file, &input, json),
        },
        Command::Diff { a, b, json } => diff::run(&a, &b, json),
        Command::Export { file, output, trits, dtype } => {
            let form = if trits { export::Form::Trits } else { dtype.into() };
            export::run(&file, &output, form)
        }
        Command::Bench(bench) => bench.run(),
        Command::Run(run) => run.run(),
        Command::Demo(demo) => demo.run(),
        Command::Doctor { files, json } => doctor::run(&files, json),
        Command::Ppl(ppl) => ppl.run(),
        Command::Pack { file, output, level } => {
            pack::pack(&file, &output.unwrap_or_else(|| file.with_extension("sbncz")), level)
        }
        Command::Unpack { file, output } => pack::unpack(&file, &output.unwrap_or_else(|| file.with_extension("sbnc"))),
    }
}

/// Maps a file.
fn map(path: &Path) -> Result<Map> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, "open", &e))?;
    if !kind.is_file() {
        return Err(Error::new(Exit::Io, format!("{}: not a regular file", path.display())));
    }
    Map::open(path).map_err(|e| Error::io(path, "map", &e))
}

/// Writes a small file, whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(path, "write", &e);
    let mut file = AtomicFile::create(path).map_err(failed)?;
    file.file().write_all(bytes).map_err(failed)?;
    file.commit().map_err(failed)
}

/// Maps and opens an sbnc file.
fn open(path: &Path) -> Result<Sbnc<Map>> {
    Sbnc::open(map(path)?).map_err(|e| Error::format(path, &e))
}
