//! The three floating-point formats of a latent, as bit patterns: what the kernels need of each, and nothing that allocates or loops.
//!
//! Everything that compares latents (the mask, the ternary threshold, the report's counts) works on *magnitudes*: the bits without the
//! sign, as unsigned integers. For finite IEEE values that order is the order of `|w|`, ±0 are equal, and no conversion is needed. Only
//! the scale, the histogram and int8 leave the integers.

use std::fmt::Debug;

/// The integer as wide as a format. bf16 and f16 share one: the kernels that only compare magnitudes are compiled per width.
pub(super) trait Word: Copy + Ord + Debug + Send + Sync + Into<u32> + 'static {
    /// A value as it lies in the file: little-endian bytes, at any address.
    type Raw: Copy + Default + Send + Sync;
    /// The pattern of +0.
    const ZERO: Self;
    /// Above every magnitude.
    const MAX: Self;

    /// `bytes` as values; the caller's length is a whole number of them.
    fn slice(bytes: &[u8]) -> &[Self::Raw];
    /// The bit pattern of a value.
    fn load(raw: Self::Raw) -> Self;
    /// The pattern without its sign.
    fn magnitude(self) -> Self;
    /// −1 where the sign bit is set, else +1, as the low byte of a word.
    fn sign(self) -> Self;
    /// The low bits of a `u32`.
    fn truncate(bits: u32) -> Self;
    /// `self - other`, modulo the width.
    fn minus(self, other: Self) -> Self;
    /// Four consecutive values; one load where the width allows it.
    fn quad(raw: &[Self::Raw; 4]) -> [Self; 4];
    /// The low bytes of four words as the little-endian bytes of one `u32`.
    fn low_bytes(words: [Self; 4]) -> u32;

    /// All ones for true, zero for false.
    #[inline(always)]
    fn ones(condition: bool) -> Self {
        if condition { Self::MAX } else { Self::ZERO }
    }
}

impl Word for u16 {
    type Raw = [u8; 2];
    const ZERO: Self = 0;
    const MAX: Self = u16::MAX;

    #[inline(always)]
    fn slice(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load(raw: [u8; 2]) -> Self {
        u16::from_le_bytes(raw)
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        self & 0x7fff
    }
    #[inline(always)]
    fn sign(self) -> Self {
        (self as i16 >> 15) as u16 | 1
    }
    #[inline(always)]
    fn truncate(bits: u32) -> Self {
        bits as u16
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    #[inline(always)]
    fn quad(raw: &[[u8; 2]; 4]) -> [Self; 4] {
        let [[a, b], [c, d], [e, f], [g, h]] = *raw;
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        [word as u16, (word >> 16) as u16, (word >> 32) as u16, (word >> 48) as u16]
    }
    #[inline(always)]
    fn low_bytes([a, b, c, d]: [Self; 4]) -> u32 {
        // Merging in 16 bits first halves the lanes that widen.
        let (low, high) = ((a & 0xff) | (b << 8), (c & 0xff) | (d << 8));
        u32::from(low) | u32::from(high) << 16
    }
}

impl Word for u32 {
    type Raw = [u8; 4];
    const ZERO: Self = 0;
    const MAX: Self = u32::MAX;

    #[inline(always)]
    fn slice(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load(raw: [u8; 4]) -> Self {
        u32::from_le_bytes(raw)
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        self & 0x7fff_ffff
    }
    #[inline(always)]
    fn sign(self) -> Self {
        (self as i32 >> 31) as u32 | 1
    }
    #[inline(always)]
    fn truncate(bits: u32) -> Self {
        bits
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    #[inline(always)]
    fn quad(raw: &[[u8; 4]; 4]) -> [Self; 4] {
        raw.map(u32::from_le_bytes)
    }
    #[inline(always)]
    fn low_bytes([a, b, c, d]: [Self; 4]) -> u32 {
        (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24
    }
}

/// One floating-point format.
pub(super) trait Element: Copy + Send + Sync + 'static {
    /// The integer as wide as the format.
    type Word: Word;
    /// The magnitude of the smallest normal number; everything in `1..MIN_NORMAL` is subnormal.
    const MIN_NORMAL: Self::Word;
    /// The magnitude of infinity; everything above it is NaN.
    const INFINITY: Self::Word;

    /// The value, exactly.
    fn value(bits: Self::Word) -> f32;
}

/// bfloat16: the upper half of an f32.
#[derive(Clone, Copy)]
pub(super) struct Bf16;
/// IEEE binary16.
#[derive(Clone, Copy)]
pub(super) struct F16;
/// IEEE binary32.
#[derive(Clone, Copy)]
pub(super) struct F32;

impl Element for Bf16 {
    type Word = u16;
    const MIN_NORMAL: u16 = 0x0080;
    const INFINITY: u16 = 0x7f80;

    #[inline(always)]
    fn value(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }
}

impl Element for F16 {
    type Word = u16;
    const MIN_NORMAL: u16 = 0x0400;
    const INFINITY: u16 = 0x7c00;

    #[inline(always)]
    fn value(bits: u16) -> f32 {
        let magnitude = u32::from(bits & 0x7fff);
        // A normal number moves its fraction up by 13 and its exponent's bias from 15 to 127; infinity and NaN move to the exponent of
        // all ones. A subnormal is its integer times 2^-24: an integer's conversion never meets a subnormal f32, which some machines
        // multiply slowly.
        let bias = if magnitude >= u32::from(Self::INFINITY) { 224 << 23 } else { 112 << 23 };
        let normal = f32::from_bits((magnitude << 13) + bias);
        let subnormal = magnitude as i32 as f32 * f32::from_bits(103 << 23);
        let value = if magnitude < u32::from(Self::MIN_NORMAL) { subnormal } else { normal };
        f32::from_bits(value.to_bits() | (u32::from(bits & 0x8000) << 16))
    }
}

impl Element for F32 {
    type Word = u32;
    const MIN_NORMAL: u32 = 0x0080_0000;
    const INFINITY: u32 = 0x7f80_0000;

    #[inline(always)]
    fn value(bits: u32) -> f32 {
        f32::from_bits(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bf16, Element, F16};
    use half::{bf16, f16};

    #[test]
    fn every_half_value_converts_as_the_reference_crate_does() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16::value(bits), f16::from_bits(bits).to_f32());
            assert!(
                ours == theirs && ours.is_sign_negative() == theirs.is_sign_negative()
                    || ours.is_nan() && theirs.is_nan(),
                "{bits:#06x}"
            );
            let (ours, theirs) = (Bf16::value(bits), bf16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn magnitudes_order_like_absolute_values() {
        for bits in 0..0x7c00u16 {
            assert!(F16::value(bits) < F16::value(bits + 1) || bits + 1 == 0x7c00);
        }
        for bits in 0..0x7f80u16 {
            assert!(Bf16::value(bits) < Bf16::value(bits + 1));
        }
    }
}
