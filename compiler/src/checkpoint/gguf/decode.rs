//! Ternary GGUF blocks to trits and scales.
//!
//! | type | trits in a byte | order |
//! |---|---|---|
//! | TQ1_0 | five, as the leading base-3 digits of a fraction | per 256: 160 strided by 32, 80 strided by 16, 16 strided by 4 |
//! | TQ2_0 | four, lowest bits first, value + 1 | per 256: two runs of 128, strided by 32 |
//! | I2_S | four, highest bits first, value + 1 | one of [`I2sLayout`], which the file does not state |
//!
//! TQ blocks have a scale each, while sbnc keeps one per row: a row decodes only if its blocks agree. A block without a
//! non-zero trit may have any scale, since it scales nothing. All scales multiply.

use std::str::FromStr;

use half::f16;

use super::super::dtype::Dtype;

/// Trits in a TQ1_0 or TQ2_0 block.
pub const BLOCK: usize = 256;

/// How I2_S arranges its trits. The type id says nothing of it: it depends on the machine and the build that wrote the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum I2sLayout {
    /// Runs of 128 along a row, strided by 32: written on x86.
    X86,
    /// Runs of 64 along a row, strided by 16: written on ARM.
    Arm,
    /// A byte holds one column of four consecutive rows.
    Rows4,
}

impl I2sLayout {
    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Arm => "arm",
            Self::Rows4 => "rows4",
        }
    }
}

/// The error of parsing an [`I2sLayout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an I2_S layout of x86, arm or rows4, found {0:?}")]
pub struct UnknownI2sLayout(String);

impl FromStr for I2sLayout {
    type Err = UnknownI2sLayout;

    fn from_str(text: &str) -> Result<Self, UnknownI2sLayout> {
        let layouts = [Self::X86, Self::Arm, Self::Rows4];
        let known = layouts.into_iter().find(|layout| layout.name() == text);
        known.ok_or_else(|| UnknownI2sLayout(text.to_owned()))
    }
}

/// Why blocks are not a row of trits with one scale.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Two blocks of a row have different scales.
    #[error("block scales {first} and {other} (block {block}) in one row")]
    GroupScales {
        /// The scale of the row's first block that has a non-zero trit.
        first: f32,
        /// The one that differs.
        other: f32,
        /// Its block within the row.
        block: usize,
    },
    /// A scale that no ternary weight has.
    #[error("scale {0}, where a finite one above zero is needed")]
    Scale(f32),
    /// A two-bit code for +2.
    #[error("code 3 at column {column}, which is no trit")]
    Code {
        /// Where in the row.
        column: usize,
    },
    /// Byte and trit counts that do not belong together.
    #[error("a row that is not whole blocks of this layout")]
    Size,
}

/// Decodes one row of a TQ1_0 or TQ2_0 tensor and returns the row's scale, zero if the row has no non-zero trit.
///
/// ```
/// use sbnc::checkpoint::{Dtype, gguf::decode::tq_row};
/// let mut block = [0b01_01_01_01u8; 66]; // TQ2_0: all zeros …
/// block[3] = 0b01_01_10_00; // … but a −1 at column 3 and a +1 at column 3 + 32
/// block[64..].copy_from_slice(&[0x00, 0x38]); // 0.5 in binary16
/// let mut trits = [0; 256];
/// assert_eq!(tq_row(Dtype::Tq2_0, &block, &mut trits), Ok(0.5));
/// assert_eq!((trits[3], trits[35], trits[4]), (-1, 1, 0));
/// ```
pub fn tq_row(dtype: Dtype, row: &[u8], trits: &mut [i8]) -> Result<f32, DecodeError> {
    let unpack = match dtype {
        Dtype::Tq1_0 => unpack_tq1_0,
        Dtype::Tq2_0 => unpack_tq2_0,
        _ => return Err(DecodeError::Size),
    };
    let size = dtype.block().1 as usize;
    let (blocks, rest) = trits.as_chunks_mut::<BLOCK>();
    if !rest.is_empty() || Some(row.len()) != blocks.len().checked_mul(size) {
        return Err(DecodeError::Size);
    }
    let mut scale = None;
    for (index, (bytes, block)) in row.chunks_exact(size).zip(blocks).enumerate() {
        let Some((packed, &half)) = bytes.split_last_chunk::<2>() else {
            return Err(DecodeError::Size);
        };
        unpack(packed, block).map_err(|column| DecodeError::Code { column: index * BLOCK + column })?;
        if block.iter().all(|&trit| trit == 0) {
            continue;
        }
        let other = check_scale(f16::from_le_bytes(half).to_f32())?;
        let first = *scale.get_or_insert(other);
        if first != other {
            return Err(DecodeError::GroupScales { first, other, block: index });
        }
    }
    Ok(scale.unwrap_or(0.0))
}

/// A scale that a ternary weight can have.
pub(in super::super) fn check_scale(scale: f32) -> Result<f32, DecodeError> {
    if scale.is_finite() && scale > 0.0 { Ok(scale) } else { Err(DecodeError::Scale(scale)) }
}

/// A byte is `ceil(256 · n / 243)` of a five-digit number `n`: multiplying by three brings the next digit above bit 8. Every byte
/// decodes to something ternary.
fn unpack_tq1_0(packed: &[u8], trits: &mut [i8; BLOCK]) -> Result<(), usize> {
    let mut out = trits.iter_mut();
    for (bytes, digits) in [(&packed[..32], 5), (&packed[32..48], 5), (&packed[48..52], 4)] {
        for digit in 0..digits {
            for (byte, trit) in bytes.iter().zip(&mut out) {
                let shifted = byte.wrapping_mul(3u8.pow(digit));
                *trit = ((u16::from(shifted) * 3) >> 8) as i8 - 1;
            }
        }
    }
    Ok(())
}

fn unpack_tq2_0(packed: &[u8], trits: &mut [i8; BLOCK]) -> Result<(), usize> {
    for (run, (bytes, trits)) in packed.chunks_exact(32).zip(trits.chunks_exact_mut(128)).enumerate() {
        unpack_strided(bytes, trits, |part| 2 * part).map_err(|column| run * 128 + column)?;
    }
    Ok(())
}

/// Trit `part · bytes.len() + i` is in byte `i`, at the bits that `shift` gives for the part.
fn unpack_strided(bytes: &[u8], trits: &mut [i8], shift: impl Fn(usize) -> usize) -> Result<(), usize> {
    for (part, trits) in trits.chunks_exact_mut(bytes.len()).enumerate() {
        for (position, (byte, trit)) in bytes.iter().zip(trits).enumerate() {
            *trit = trit_of(byte >> shift(part)).ok_or(part * bytes.len() + position)?;
        }
    }
    Ok(())
}

fn trit_of(code: u8) -> Option<i8> {
    match code & 3 {
        3 => None,
        code => Some(code as i8 - 1),
    }
}

/// Decodes whole rows of an I2_S tensor, without its tail; the scale there is the whole tensor's. `packed` is the rows' bytes, and for
/// [`I2sLayout::Rows4`] the rows are a multiple of four that starts at one.
pub fn i2s_rows(layout: I2sLayout, cols: usize, packed: &[u8], trits: &mut [i8]) -> Result<(), DecodeError> {
    let (run, rows) = match layout {
        I2sLayout::X86 => (128, 1),
        I2sLayout::Arm => (64, 1),
        I2sLayout::Rows4 => (1, 4),
    };
    let whole = cols > 0 && cols.is_multiple_of(run) && trits.len().is_multiple_of(cols * rows);
    if !whole || packed.len().checked_mul(4) != Some(trits.len()) {
        return Err(DecodeError::Size);
    }
    let stride = match layout {
        I2sLayout::Rows4 => cols, // four rows, one column to a byte: the same pattern, with a run of four rows
        _ => run / 4,
    };
    for (index, (bytes, trits)) in packed.chunks_exact(stride).zip(trits.chunks_exact_mut(4 * stride)).enumerate() {
        unpack_strided(bytes, trits, |part| 6 - 2 * part)
            .map_err(|at| DecodeError::Code { column: (index * 4 * stride + at) % cols })?;
    }
    Ok(())
}
