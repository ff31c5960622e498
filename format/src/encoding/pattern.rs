//! N:M sparsity: at most N non-zeros in every M consecutive inputs of a row.

use std::fmt;
use std::str::FromStr;

/// A declared sparsity, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pattern {
    n: u8,
    m: u8,
}

impl Pattern {
    /// No declared sparsity.
    pub const DENSE: Self = Self { n: 0, m: 0 };

    /// The pattern `n:m`, if 1 ≤ n < m ≤ 16.
    pub fn new(n: u8, m: u8) -> Option<Self> {
        (1 <= n && n < m && m <= 16).then_some(Self { n, m })
    }

    /// From the two numbers of a record: 0:0 is dense.
    pub fn from_ids(n: u8, m: u8) -> Option<Self> {
        if (n, m) == (0, 0) { Some(Self::DENSE) } else { Self::new(n, m) }
    }

    /// The two numbers of a record.
    pub fn ids(self) -> (u8, u8) {
        (self.n, self.m)
    }

    /// Whether nothing is declared.
    pub fn is_dense(self) -> bool {
        self.m == 0
    }

    /// Most non-zeros in a group.
    pub fn n(self) -> usize {
        usize::from(self.n)
    }

    /// Length of a group, 0 if dense.
    pub fn m(self) -> usize {
        usize::from(self.m)
    }

    /// Number of windows that carry one group on 2:4 hardware, for the patterns (M−2):M with an even M from 6 on.
    pub fn windows(self) -> Option<usize> {
        (self.m >= 6 && self.m.is_multiple_of(2) && self.n == self.m - 2).then(|| usize::from(self.m / 2) - 1)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dense() { f.write_str("dense") } else { write!(f, "{}:{}", self.n, self.m) }
    }
}

/// Text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no pattern: expected N:M with 1 ≤ N < M ≤ 16, such as 2:4, or none")]
pub struct ParsePatternError(String);

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text, "none" | "dense") {
            return Ok(Self::DENSE);
        }
        let parse = || {
            let (n, m) = text.split_once(':')?;
            let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok()).flatten();
            Self::new(digits(n)?, digits(m)?)
        };
        parse().ok_or_else(|| ParsePatternError(text.to_owned()))
    }
}
