//! Why a checkpoint was refused: one type, whose text names the file, the tensor, what was expected, what was found and what to do.
//!
//! The variants are what a program can act on; [`CheckpointError::kind`] folds them into what a person can act on: fix the
//! storage (I/O), get a good copy (invalid), or use another checkpoint (unsupported).

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What every function of [`checkpoint`](crate::checkpoint) returns.
pub type Result<T> = std::result::Result<T, CheckpointError>;

/// Words of a refusal.
pub type Text = Cow<'static, str>;

/// Why a checkpoint, or a tensor of one, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system could not give us the bytes.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or folder concerned.
        file: PathBuf,
        /// What was being done, as in "cannot *open*".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes contradict the format they claim to be: damaged, truncated or hostile.
    #[error("{0}")]
    Malformed(Box<Refusal>),
    /// Well-formed, but beyond a limit that keeps reading cheap and bounded.
    #[error("{0}")]
    Limit(Box<Refusal>),
    /// Well-formed, but something that sbnc does not read.
    #[error("{0}")]
    Unsupported(Box<Refusal>),
    /// A ternary tensor whose scale changes within a row: sbnc keeps one scale per row.
    #[error("{0}")]
    GroupScales(Box<Refusal>),
}

/// The kinds of [`CheckpointError`], and with them the exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Storage failed (exit code 6).
    Io,
    /// The input is not what it claims to be, or beyond a limit (exit code 3).
    Invalid,
    /// The input is fine, but sbnc does not support it (exit code 5).
    Unsupported,
}

/// The particulars of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The file that was refused.
    pub file: PathBuf,
    /// The tensor concerned, if one is.
    pub tensor: Option<String>,
    /// What a good file would have there.
    pub expected: Text,
    /// What this one has.
    pub found: Text,
    /// What the user can do about it; empty when there is nothing but a good copy.
    pub remedy: Text,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.file.display())?;
        if let Some(tensor) = &self.tensor {
            write!(out, "tensor `{}`: ", tensor.escape_debug())?;
        }
        write!(out, "expected {}, found {}", self.expected, self.found)?;
        if !self.remedy.is_empty() {
            write!(out, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl CheckpointError {
    /// Which of the three kinds this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Malformed(_) | Self::Limit(_) => ErrorKind::Invalid,
            Self::Unsupported(_) | Self::GroupScales(_) => ErrorKind::Unsupported,
        }
    }

    /// The exit code that the command line gives for this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind() {
            ErrorKind::Invalid => 3,
            ErrorKind::Unsupported => 5,
            ErrorKind::Io => 6,
        }
    }

    pub(crate) fn io(file: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), action, source }
    }

    pub(crate) fn malformed(file: &Path, expected: impl Into<Text>, found: impl Into<Text>) -> Self {
        Self::Malformed(Refusal::new(file, expected.into(), found.into()))
    }

    pub(crate) fn limit(file: &Path, what: &str, limit: u64, found: impl fmt::Display) -> Self {
        Self::Limit(Refusal::new(file, format!("{what} of at most {limit}").into(), found.to_string().into()))
    }

    pub(crate) fn unsupported(file: &Path, expected: impl Into<Text>, found: impl Into<Text>) -> Self {
        Self::Unsupported(Refusal::new(file, expected.into(), found.into()))
    }

    pub(crate) fn group_scales(file: &Path, found: String) -> Self {
        let expected = "one scale in all blocks of a row (group scales are unsupported)";
        Self::GroupScales(Refusal::new(file, expected.into(), found.into()))
            .remedy("compile the latent weights instead")
    }

    /// Names the tensor concerned.
    pub(crate) fn tensor(mut self, name: &str) -> Self {
        if let Some(refusal) = self.refusal_mut() {
            refusal.tensor = Some(name.to_owned());
        }
        self
    }

    /// Says what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<Text>) -> Self {
        if let Some(refusal) = self.refusal_mut() {
            refusal.remedy = remedy.into();
        }
        self
    }

    fn refusal_mut(&mut self) -> Option<&mut Refusal> {
        match self {
            Self::Io { .. } => None,
            Self::Malformed(refusal)
            | Self::Limit(refusal)
            | Self::Unsupported(refusal)
            | Self::GroupScales(refusal) => Some(refusal),
        }
    }
}

impl Refusal {
    fn new(file: &Path, expected: Text, found: Text) -> Box<Self> {
        Box::new(Self { file: file.to_owned(), tensor: None, expected, found, remedy: "".into() })
    }
}
