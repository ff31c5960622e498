//! Element types of checkpoint tensors: how many bytes a shape takes, and how float bytes become `f32`.
//!
//! Everything here works on little-endian *bytes*. Checkpoints in the wild place tensors at odd offsets, so a slice of a file is
//! never reinterpreted as a slice of a wider type.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer; packed trits of published checkpoints come as this.
    U8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// One byte per truth value.
    Bool,
    /// GGUF: blocks of 256 trits, five to a byte, with an f16 scale; 54 bytes a block.
    Tq1_0,
    /// GGUF: blocks of 256 trits, four to a byte, with an f16 scale; 66 bytes a block.
    Tq2_0,
    /// GGUF: trits, four to a byte in an order the file does not state, then 32 bytes that begin with the tensor's f32 scale.
    I2S,
}

impl Dtype {
    /// The name that reports and error messages use: the one of the container format.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::I16 => "I16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::Bool => "BOOL",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::I2S => "I2_S",
        }
    }

    /// Elements and bytes of the smallest unit stored contiguously: `(1, size)` for plain types, the block for quantised ones.
    pub fn block(self) -> (u64, u64) {
        match self {
            Self::I8 | Self::U8 | Self::Bool => (1, 1),
            Self::F16 | Self::BF16 | Self::I16 => (1, 2),
            Self::F32 | Self::I32 => (1, 4),
            Self::F64 | Self::I64 => (1, 8),
            Self::Tq1_0 => (256, 54),
            Self::Tq2_0 => (256, 66),
            Self::I2S => (4, 1),
        }
    }

    /// Bytes after the last block: only I2_S has any.
    pub fn tail(self) -> u64 {
        if self == Self::I2S { 32 } else { 0 }
    }

    /// Whether elements stand alone, so that [`to_f32`](Self::to_f32) or an integer read makes sense.
    pub fn is_plain(self) -> bool {
        self.block().0 == 1
    }

    /// The bytes of a row-major tensor of this shape; `None` where the product overflows or a row is not whole blocks.
    pub fn bytes_of(self, shape: &[u64]) -> Option<u64> {
        let (elements, bytes) = self.block();
        let cols = shape.last().copied().unwrap_or(1);
        if !cols.is_multiple_of(elements) {
            return None;
        }
        let rows = shape.iter().rev().skip(1).try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
        (cols / elements).checked_mul(bytes)?.checked_mul(rows)?.checked_add(self.tail())
    }

    /// Converts little-endian float bytes, at any alignment, to `f32`. F64 is rounded to nearest; the others are exact.
    ///
    /// `None` when this is not a float type, or when `bytes` is not exactly the size of `out`.
    ///
    /// ```
    /// use sbnc::checkpoint::Dtype;
    /// let mut out = [0.0; 2];
    /// assert!(Dtype::BF16.to_f32(&[0x80, 0x3f, 0x00, 0xc0], &mut out).is_some());
    /// assert_eq!(out, [1.0, -2.0]);
    /// ```
    #[must_use]
    pub fn to_f32(self, bytes: &[u8], out: &mut [f32]) -> Option<()> {
        match self {
            Self::F64 => convert(bytes, out, |element| f64::from_le_bytes(element) as f32),
            Self::F32 => convert(bytes, out, f32::from_le_bytes),
            Self::BF16 => convert(bytes, out, |element| bf16::from_le_bytes(element).to_f32()),
            Self::F16 => f16_to_f32(bytes, out),
            _ => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

fn convert<const SIZE: usize>(bytes: &[u8], out: &mut [f32], element: impl Fn([u8; SIZE]) -> f32) -> Option<()> {
    let (elements, []) = bytes.as_chunks::<SIZE>() else {
        return None;
    };
    if elements.len() != out.len() {
        return None;
    }
    for (to, from) in out.iter_mut().zip(elements) {
        *to = element(*from);
    }
    Some(())
}

/// In runs through an aligned buffer, so that the CPU's own conversion is used once per run and not per element.
fn f16_to_f32(bytes: &[u8], out: &mut [f32]) -> Option<()> {
    let (elements, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    if elements.len() != out.len() {
        return None;
    }
    let mut aligned = [f16::ZERO; 1024];
    for (to, from) in out.chunks_mut(aligned.len()).zip(elements.chunks(aligned.len())) {
        let run = &mut aligned[..from.len()];
        for (half, element) in run.iter_mut().zip(from) {
            *half = f16::from_le_bytes(*element);
        }
        run.convert_to_f32_slice(to);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_blocks_and_refuse_overflow() {
        assert_eq!(Dtype::BF16.bytes_of(&[3, 5]), Some(30));
        assert_eq!(Dtype::F32.bytes_of(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes_of(&[0, 7]), Some(0));
        assert_eq!(Dtype::Tq1_0.bytes_of(&[2, 512]), Some(2 * 2 * 54));
        assert_eq!(Dtype::Tq2_0.bytes_of(&[2, 300]), None);
        assert_eq!(Dtype::I2S.bytes_of(&[4, 128]), Some(128 + 32));
        assert_eq!(Dtype::F64.bytes_of(&[1 << 32, 1 << 32]), None);
        assert_eq!(Dtype::F64.bytes_of(&[1 << 61]), None);
        assert_eq!(Dtype::U8.bytes_of(&[u64::MAX]), Some(u64::MAX));
    }

    #[test]
    fn every_f16_and_bf16_converts_exactly_at_an_odd_address() {
        let all: Vec<u8> = std::iter::once(0).chain((0..=u16::MAX).flat_map(u16::to_le_bytes)).collect();
        let mut out = vec![0.0f32; 1 << 16];
        assert!(Dtype::F16.to_f32(&all[1..], &mut out).is_some());
        for (bits, value) in (0..=u16::MAX).zip(&out) {
            let expected = f16::from_bits(bits).to_f32();
            assert!(value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()), "f16 {bits:#06x}");
        }
        assert!(Dtype::BF16.to_f32(&all[1..], &mut out).is_some());
        for (bits, value) in (0..=u16::MAX).zip(&out) {
            assert!(value.to_bits() == u32::from(bits) << 16 || value.is_nan(), "bf16 {bits:#06x}");
        }
    }

    #[test]
    fn a_wrong_length_or_type_converts_nothing() {
        assert!(Dtype::F32.to_f32(&[0; 7], &mut [0.0; 2]).is_none());
        assert!(Dtype::F16.to_f32(&[0; 2], &mut [0.0; 2]).is_none());
        assert!(Dtype::I8.to_f32(&[0; 2], &mut [0.0; 2]).is_none());
    }
}
