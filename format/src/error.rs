//! What can be wrong with a file, and which numbered rule of the specification says so.

use std::fmt;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Numbers of the rules in `spec/SPEC.md`, named for readers of the code.
pub mod rule {
    #![allow(missing_docs, reason = "the specification documents each rule; the names only make calls readable")]
    pub const LENGTH: u16 = 1;
    pub const MAGIC: u16 = 2;
    pub const MAJOR: u16 = 3;
    pub const SECTION_COUNT: u16 = 4;
    pub const HEADER_BYTES: u16 = 5;
    pub const FILE_BYTES: u16 = 6;
    pub const ROOT: u16 = 7;
    pub const PREFIX_RESERVED: u16 = 8;
    pub const INCOMPATIBLE: u16 = 9;
    pub const INSPECT_ONLY: u16 = 10;
    pub const SECTION_KINDS: u16 = 20;
    pub const SECTION_FLAGS: u16 = 21;
    pub const SECTION_UNKNOWN: u16 = 22;
    pub const SECTION_MISSING: u16 = 23;
    pub const SECTION_EMPTY: u16 = 24;
    pub const SECTION_OFFSET: u16 = 25;
    pub const SECTION_END: u16 = 26;
    pub const SECTION_RESERVED: u16 = 27;
    pub const SECTION_PADDING: u16 = 28;
    pub const SECTION_DIGEST: u16 = 29;
    pub const RECORD_COUNT: u16 = 40;
    pub const ROLE: u16 = 41;
    pub const ENCODING: u16 = 42;
    pub const ORDER: u16 = 43;
    pub const SHAPE: u16 = 44;
    pub const RANK_OF_ENCODING: u16 = 45;
    pub const PATTERN: u16 = 46;
    pub const GROUP_AXIS: u16 = 47;
    pub const GROUPS_IN_ROW: u16 = 48;
    pub const PATTERN_OF_ENCODING: u16 = 49;
    pub const SCALE_COUNT: u16 = 50;
    pub const DATA_BYTES: u16 = 51;
    pub const STORED_BYTES: u16 = 52;
    pub const TENSOR_OFFSET: u16 = 53;
    pub const TENSOR_END: u16 = 54;
    pub const RECORD_RESERVED: u16 = 55;
    pub const COUNTS_AND_DIGESTS: u16 = 56;
    pub const NAME_RANGE: u16 = 60;
    pub const NAME_TEXT: u16 = 61;
    pub const NAME_UNIQUE: u16 = 62;
    pub const MANIFEST_JSON: u16 = 63;
    pub const MANIFEST_CANONICAL: u16 = 64;
    pub const MANIFEST_NUMBER: u16 = 65;
    pub const MANIFEST_MEMBERS: u16 = 66;
    pub const FILE_ENTRY: u16 = 67;
    pub const FILE_SIZES: u16 = 68;
    pub const FILES_LENGTH: u16 = 69;
    pub const FILE_CONTENT: u16 = 70;
    pub const TENSOR_PADDING: u16 = 71;
    pub const STORED_DIGEST: u16 = 72;
    pub const SCALE_VALUE: u16 = 73;
    pub const FLOAT_VALUE: u16 = 74;
    pub const INT8_VALUE: u16 = 75;
    pub const CONTENT: u16 = 76;
    pub const TOO_MANY_NON_ZERO: u16 = 77;
    pub const T2_CODE: u16 = 80;
    pub const T2_PADDING: u16 = 81;
    pub const T5_BYTE: u16 = 82;
    pub const T5_PADDING: u16 = 83;
    pub const SIX_BIT_CODE: u16 = 84;
    pub const SIX_BIT_PADDING: u16 = 85;
    pub const PAIR_CODE: u16 = 86;
    pub const INDEX_NIBBLE: u16 = 87;
    pub const SMALLEST_PAIR: u16 = 88;
    pub const FRAGMENT_PADDING: u16 = 89;
    pub const WINDOW_PLACEMENT: u16 = 90;
    pub const PACKED_PREFIX: u16 = 100;
    pub const PACKED_FIELDS: u16 = 101;
    pub const PACKED_TABLE: u16 = 102;
    pub const PACKED_CHUNK: u16 = 103;
    pub const PACKED_DIGEST: u16 = 104;
    pub const PACKED_FRAME: u16 = 105;
    pub const PACKED_ROOT: u16 = 106;
}

/// How a rule was broken, which decides what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes are no file of this format, or break a rule of it.
    Invalid,
    /// The file may be good, but needs something that this reader does not have.
    Unsupported,
    /// The bytes are not those that were written: a digest differs.
    Integrity,
}

/// A broken rule: which, where, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    detail: Box<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    kind: Kind,
    rule: u16,
    subject: String,
    expected: String,
    found: String,
}

impl FormatError {
    /// Bytes that break a rule.
    pub fn invalid(rule: u16, subject: &str, expected: &str, found: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, rule, subject, expected, found.into())
    }

    /// Something this reader does not know.
    pub fn unsupported(rule: u16, subject: &str, expected: &str, found: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, rule, subject, expected, found.into())
    }

    /// A digest that differs.
    pub fn integrity(rule: u16, subject: &str, expected: &str, found: impl Into<String>) -> Self {
        Self::new(Kind::Integrity, rule, subject, expected, found.into())
    }

    /// A broken rule of what lies inside `subject`, as a broken rule of the outside.
    pub fn inside(rule: u16, subject: &str, expected: &str, inner: &Self) -> Self {
        Self::new(inner.kind(), rule, subject, expected, inner.to_string())
    }

    fn new(kind: Kind, rule: u16, subject: &str, expected: &str, found: String) -> Self {
        let detail = Detail { kind, rule, subject: subject.to_owned(), expected: expected.to_owned(), found };
        Self { detail: Box::new(detail) }
    }

    /// How the rule was broken.
    pub fn kind(&self) -> Kind {
        self.detail.kind
    }

    /// The rule's number: 72 for `SBNC-R072`.
    pub fn rule(&self) -> u16 {
        self.detail.rule
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { kind: _, rule, subject, expected, found } = &*self.detail;
        write!(f, "SBNC-R{rule:03}: {subject}: expected {expected}, found {found}")
    }
}

impl std::error::Error for FormatError {}
