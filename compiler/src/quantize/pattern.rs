//! The N:M pattern that a mask enforces. Checking a declared pattern against finished trits is not done here.

use std::fmt;

use super::QuantizeError;

/// The largest M the kernels take.
pub const MAX_M: usize = 16;

/// At most `n` non-zeros in every `m` consecutive inputs of a row, `1 ≤ n ≤ m ≤ 16`. `n == m` removes nothing.
///
/// ```
/// use sbnc::quantize::Nm;
/// assert_eq!(Nm::new(6, 8)?.to_string(), "6:8");
/// assert!(Nm::new(0, 4).is_err());
/// # Ok::<(), sbnc::quantize::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nm {
    n: u8,
    m: u8,
}

impl Nm {
    /// The pattern `n:m`, if it is one.
    pub fn new(n: usize, m: usize) -> Result<Self, QuantizeError> {
        if n < 1 || n > m || m > MAX_M {
            return Err(QuantizeError::Pattern { n, m });
        }
        Ok(Nm { n: n as u8, m: m as u8 })
    }

    /// How many of a group may be non-zero.
    #[must_use]
    pub const fn n(self) -> usize {
        self.n as usize
    }

    /// Inputs per group.
    #[must_use]
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// Whether every weight is kept.
    #[must_use]
    pub const fn is_dense(self) -> bool {
        self.n == self.m
    }
}

impl fmt::Display for Nm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.m)
    }
}
