//! What can go wrong, in a form that programs can act on and people can read.
//!
//! An [`Error`] has a [`Kind`], which decides what a caller can do and the exit code of the command, and says where it happened, what was expected, what was
//! found and what to do about it. It carries no weights and no text of the user's.

use std::fmt;
use std::path::{Path, PathBuf};

use sbnc_format::FormatError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The caller asked for something that cannot be: correct the call.
    Usage,
    /// The file breaks a rule of its format, or does not hold the model that it says: make it again.
    Invalid,
    /// Bytes are not those that were written, or changed while in use: fetch the file again.
    Integrity,
    /// The file may be good, but this version cannot run it.
    Unsupported,
    /// The system refused.
    Io,
    /// The work does not fit the memory that it was given.
    Budget,
    /// The device is absent or cannot be used.
    Device,
    /// The caller's flag was raised.
    Interrupted,
}

impl Kind {
    /// The exit code of the `sbnc` command for this kind; it never changes.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Integrity => 4,
            Self::Unsupported => 5,
            Self::Io => 6,
            Self::Budget => 7,
            Self::Device => 8,
            Self::Interrupted => 130,
        }
    }
}

/// What went wrong: kind, place, expectation, finding, remedy.
///
/// ```
/// use sbnc_runtime::{Kind, Model};
///
/// let error = Model::open("no/such/model.sbnc").unwrap_err();
/// assert_eq!(error.kind(), Kind::Io);
/// assert_eq!(error.kind().exit_code(), 6);
/// assert!(error.to_string().starts_with("no/such/model.sbnc: cannot open it"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Detail>);

#[derive(Clone, PartialEq, Eq)]
struct Detail {
    kind: Kind,
    file: Option<PathBuf>,
    subject: String,
    expected: String,
    found: String,
    remedy: String,
}

impl Error {
    /// An error of `subject`, such as a tensor or an option; empty parts are left out of the text.
    pub(crate) fn new(
        kind: Kind,
        subject: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self(Box::new(Detail {
            kind,
            file: None,
            subject: subject.into(),
            expected: expected.into(),
            found: found.into(),
            remedy: String::new(),
        }))
    }

    /// A refusal of the system while doing something with a file.
    pub(crate) fn io(file: &Path, doing: &str, error: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("cannot {doing}: {error}"), "", "").in_file(file)
    }

    /// A broken rule of the format.
    pub(crate) fn format(error: &FormatError) -> Self {
        let kind = match error.kind() {
            sbnc_format::Kind::Invalid => Kind::Invalid,
            sbnc_format::Kind::Unsupported => Kind::Unsupported,
            sbnc_format::Kind::Integrity => Kind::Integrity,
        };
        Self::new(kind, error.to_string(), "", "")
    }

    /// The caller's flag was raised.
    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted", "", "")
    }

    /// The same error, said of a file.
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.0.file = Some(file.to_owned());
        self
    }

    /// The same error, with what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = remedy.into();
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The file it happened in, if it was in one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The tensor, option or member it is about, or the whole message where there is no such thing.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// What should have been; may be empty.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What was; may be empty.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

/// The text: what a program that ends in an error prints of it is for people.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { kind: _, file, subject, expected, found, remedy } = &*self.0;
        if let Some(file) = file {
            write!(f, "{}: ", file.display())?;
        }
        f.write_str(subject)?;
        if !expected.is_empty() {
            write!(f, ": expected {expected}")?;
        }
        if !found.is_empty() {
            write!(f, ", found {found}")?;
        }
        if !remedy.is_empty() {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_all_parts_that_exist() {
        let error = Error::new(Kind::Usage, "token 3", "at most 383", "500").remedy("use the model's own tokenizer");
        assert_eq!(error.to_string(), "token 3: expected at most 383, found 500; use the model's own tokenizer");
        let error = error.in_file(Path::new("m.sbnc"));
        assert!(error.to_string().starts_with("m.sbnc: token 3: "));
        assert_eq!(Error::interrupted().to_string(), "interrupted");
    }

    #[test]
    fn exit_codes_are_those_of_the_command() {
        let codes =
            [Kind::Usage, Kind::Invalid, Kind::Integrity, Kind::Unsupported, Kind::Io, Kind::Budget, Kind::Device];
        assert_eq!(codes.map(Kind::exit_code), [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Kind::Interrupted.exit_code(), 130);
    }
}
