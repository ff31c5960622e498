//! What ends a command, and the exit code that says so to scripts.

use std::path::Path;

use sbnc_format::writer::WriteError;
use sbnc_format::{FormatError, Kind};

use crate::checkpoint::CheckpointError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Exit codes. They are part of the command line's interface and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// `diff` found differences.
    Differs = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The input breaks a rule.
    Invalid = 3,
    /// Bytes are not what they were.
    Integrity = 4,
    /// The input may be good, but this version cannot use it.
    Unsupported = 5,
    /// The system refused.
    Io = 6,
    /// The work does not fit the memory it was given.
    Memory = 7,
    /// No such device, or it cannot be used.
    Device = 8,
    /// The user stopped it.
    Interrupted = 130,
}

/// What ended a command: a sentence for people and a code for scripts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    exit: Exit,
    message: String,
}

impl Error {
    /// An error with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The command was interrupted.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted; nothing was written")
    }

    /// A file became shorter, or could no longer be read, while it was in use.
    pub fn lost_pages() -> Self {
        let message = "a file changed while it was in use: it became shorter, or could no longer be read; replace files by renaming rather than by writing into them";
        Self::new(Exit::Integrity, message)
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// A system error at a file.
    pub fn io(path: &Path, doing: &str, error: &std::io::Error) -> Self {
        Self::new(Exit::Io, format!("{}: cannot {doing}: {error}", path.display()))
    }

    /// A broken rule in a file.
    pub fn format(path: &Path, error: &FormatError) -> Self {
        Self::new(exit_of(error), format!("{}: {error}", path.display()))
    }

    /// The same error, said of a tensor or a file.
    pub fn at(self, subject: impl std::fmt::Display) -> Self {
        match self.exit {
            Exit::Interrupted => self,
            _ => Self { message: format!("{subject}: {}", self.message), ..self },
        }
    }
}

/// The exit code of a broken rule.
pub fn exit_of(error: &FormatError) -> Exit {
    match error.kind() {
        Kind::Invalid => Exit::Invalid,
        Kind::Unsupported => Exit::Unsupported,
        Kind::Integrity => Exit::Integrity,
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        let exit = match &error {
            WriteError::Io { .. } => Exit::Io,
            WriteError::Format(e) => exit_of(e),
            WriteError::Misuse { .. } => Exit::Invalid,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<sbnc_runtime::Error> for Error {
    fn from(error: sbnc_runtime::Error) -> Self {
        use sbnc_runtime::Kind;
        let exit = match error.kind() {
            Kind::Usage => Exit::Usage,
            Kind::Invalid => Exit::Invalid,
            Kind::Integrity => Exit::Integrity,
            Kind::Io => Exit::Io,
            Kind::Budget => Exit::Memory,
            Kind::Device => Exit::Device,
            // What was computed before stays; there is nothing to say.
            Kind::Interrupted => return Self::new(Exit::Interrupted, ""),
            // Kinds that are newer than this command: the file may be good.
            _ => Exit::Unsupported,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<CheckpointError> for Error {
    fn from(error: CheckpointError) -> Self {
        let exit = match error.exit_code() {
            6 => Exit::Io,
            5 => Exit::Unsupported,
            _ => Exit::Invalid,
        };
        Self::new(exit, error.to_string())
    }
}
