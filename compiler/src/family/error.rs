//! Why a model was refused: what is wrong, where, and what the user can do about it.
//!
//! There are two kinds only, because a user can do two things: get a good checkpoint, or use another one.

use std::fmt;

/// What every function of [`family`](crate::family) returns.
pub type Result<T> = std::result::Result<T, FamilyError>;

/// A description of a model that cannot be compiled.
///
/// ```
/// use sbnc::family::{Facts, FamilyErrorKind, Options, plan};
///
/// let facts = Facts { config: Some("{\"model_type\": \"gpt2\"}"), ..Facts::default() };
/// let error = plan(&facts, &Options::default()).unwrap_err();
/// assert_eq!(error.kind(), FamilyErrorKind::Unsupported);
/// assert_eq!(error.subject(), "config.json: model_type");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FamilyError(Box<Refusal>);

/// The kinds of [`FamilyError`], and with them the exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyErrorKind {
    /// The description contradicts itself, its tensors or the options (exit code 3).
    Invalid,
    /// The description may be good, but is of a model that sbnc does not compile (exit code 5).
    Unsupported,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    kind: FamilyErrorKind,
    subject: String,
    expected: String,
    found: String,
    remedy: String,
}

impl FamilyError {
    pub(super) fn invalid(subject: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(FamilyErrorKind::Invalid, subject.into(), expected.into(), found.into())
    }

    pub(super) fn unsupported(
        subject: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(FamilyErrorKind::Unsupported, subject.into(), expected.into(), found.into())
    }

    fn new(kind: FamilyErrorKind, subject: String, expected: String, found: String) -> Self {
        Self(Box::new(Refusal { kind, subject, expected, found, remedy: String::new() }))
    }

    /// Says what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = remedy.into();
        self
    }

    /// Which of the two kinds this is.
    pub fn kind(&self) -> FamilyErrorKind {
        self.0.kind
    }

    /// The exit code that the command line gives for this error.
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            FamilyErrorKind::Invalid => 3,
            FamilyErrorKind::Unsupported => 5,
        }
    }

    /// The tensor, the key or the option concerned.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// What would have been accepted, and why.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What is there.
    pub fn found(&self) -> &str {
        &self.0.found
    }

    /// What the user can do; empty where only another checkpoint helps.
    pub fn remedy_text(&self) -> &str {
        &self.0.remedy
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: expected {}, found {}", self.subject, self.expected, self.found)?;
        if !self.remedy.is_empty() {
            write!(out, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// How the subject of an error names a tensor.
pub(super) fn tensor(name: &str) -> String {
    format!("tensor {}", clip(name))
}

/// Text from a stranger, fit for a line of a terminal: control characters escaped, and not longer than a line.
pub(super) fn clip(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
