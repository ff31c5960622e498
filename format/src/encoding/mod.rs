//! Encodings: how the values of a tensor become bytes, and back.
//!
//! ```text
//!            rows of trits (i8)  ── encode ──▶  bytes  ── validate ──▶  fit for kernels
//!                                ◀── decode ──
//! t2        four trits a byte        any pattern
//! t5        five trits a byte        any pattern
//! nm-6b     a code per group of 4    1:4, 2:4
//! nm-vi     values and indices       1:4, 2:4 (fragments), (M−2):M (windows)
//! ```
//!
//! Everything works on *strips*: the rows whose bytes lie together, so that a matrix can be streamed and shared out. Decoding is total, whatever the
//! bytes; whether they are what an encoder writes is the business of [`Packing::validate`]. Nothing here knows of files, names or digests of stored bytes.

mod content;
mod fragments;
mod fragments_check;
#[cfg(target_arch = "x86_64")]
mod fragments_check_x86;
#[cfg(target_arch = "x86_64")]
mod fragments_x86;
mod nm6b;
mod packing;
mod pattern;
mod simd;
mod t2;
mod t5;
#[cfg(target_arch = "x86_64")]
mod t5_x86;
mod values;
pub mod windows;

pub use content::{Content, ContentHasher, check_pattern};
pub use packing::{Packing, Strip};
pub use pattern::{ParsePatternError, Pattern};
pub(crate) use values::{check_scales, check_values};

/// How values are stored (SPEC §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// int8 with a scale per row.
    I8,
    /// Four trits a byte.
    T2,
    /// Five trits a byte.
    T5,
    /// Values and indices of 2:4 groups.
    NmVi,
    /// A 6-bit code per 2:4 group.
    Nm6b,
}

/// In which order the values of an encoding lie (SPEC §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Row after row.
    Rows,
    /// As sparse tensor cores read them.
    Fragments,
    /// Expanded to 2:4 windows, then as fragments.
    Windows,
}

/// A group that has more non-zeros than its encoding can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The row, counted from the first that was given.
    pub row: usize,
    /// The column where the group begins, or where it has one non-zero too many.
    pub col: usize,
}

/// Bytes that no encoder writes: which rule they break, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The rule's number.
    pub rule: u16,
    /// The row, counted from the first that was given.
    pub row: usize,
    /// The column.
    pub col: usize,
    /// What the rule wants.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Offence {
    fn new(rule: u16, row: usize, col: usize, expected: &str, found: impl ToString) -> Self {
        Self { rule, row, col, expected: expected.to_owned(), found: found.to_string() }
    }

    /// The same offence in a matrix whose first rows were left out.
    pub(crate) fn below(self, rows: usize) -> Self {
        Self { row: self.row + rows, ..self }
    }
}

impl Encoding {
    const ALL: [(Self, u16, &'static str); 8] = [
        (Self::F32, 1, "f32"),
        (Self::F16, 2, "f16"),
        (Self::Bf16, 3, "bf16"),
        (Self::I8, 4, "i8"),
        (Self::T2, 16, "t2"),
        (Self::T5, 17, "t5"),
        (Self::NmVi, 18, "nm-vi"),
        (Self::Nm6b, 19, "nm-6b"),
    ];

    /// The encoding with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|e| e.1 == id).map(|e| e.0)
    }

    /// The encoding with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|e| e.2 == name).map(|e| e.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u16 {
        Self::ALL[self as usize].1
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    /// Whether it holds trits.
    pub fn is_ternary(self) -> bool {
        matches!(self, Self::T2 | Self::T5 | Self::NmVi | Self::Nm6b)
    }

    /// Whether the encoding has this order.
    pub fn allows(self, order: Order) -> bool {
        match self {
            Self::NmVi => matches!(order, Order::Fragments | Order::Windows),
            _ => order == Order::Rows,
        }
    }

    /// Whether the encoding, in this order, can hold tensors of this pattern.
    pub fn allows_pattern(self, order: Order, pattern: Pattern) -> bool {
        match (self, order) {
            (Self::NmVi, Order::Windows) => pattern.windows().is_some(),
            (Self::NmVi | Self::Nm6b, _) => pattern.m() == 4 && pattern.n() <= 2,
            _ => pattern.is_dense() || self.is_ternary(),
        }
    }
}

impl Order {
    const ALL: [(Self, u16, &'static str); 3] =
        [(Self::Rows, 0, "rows"), (Self::Fragments, 1, "fragments"), (Self::Windows, 2, "windows")];

    /// The order with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|o| o.1 == id).map(|o| o.0)
    }

    /// The order with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|o| o.2 == name).map(|o| o.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u16 {
        Self::ALL[self as usize].1
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].2
    }
}
