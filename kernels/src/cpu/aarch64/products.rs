//! Sums of products under way, for a row and a token: with dot products where the processor has them.
//!
//! ```text
//! dotprod   b & 3, b & 3·4, b & 3·16, b >> 6   four instructions for 64 weights; those of planes 1 and 2 are 4 and 16 times too large, and summed apart
//! NEON      b & 3, b >> 2 & 3, …               products in 16 bits, which larger weights would overflow
//! ```

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

/// A way to add up products of weights 0 to 2 with activations, and the proof that the processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Products<const DOT: bool>(());

/// Proof that the processor multiplies matrices of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Matrices(());

/// Sums of a row and a token: of weights as they are, of 4 times as large ones, and of 16 times as large ones.
pub(super) type Sum = [int32x4_t; 3];

impl Products<false> {
    /// Products that are widened.
    pub(super) const WIDENED: Self = Self(());
}

impl Products<true> {
    /// Dot products, if the processor has them.
    pub(crate) fn dots() -> Option<Self> {
        is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    /// Four products are added to each of four sums.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn dot(self, mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` exists only where the instruction does, which changes nothing but `sums`.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }

    /// As [`Products::dot`], with the same four bytes of `b` for all sums: those of lane `LANE` of 32 bits.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn dot_with<const LANE: usize>(self, mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` exists only where the instruction does, which changes nothing but `sums`.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

impl Matrices {
    /// The proof, if the processor has them.
    pub(crate) fn found() -> Option<Self> {
        is_aarch64_feature_detected!("i8mm").then_some(Self(()))
    }

    /// Both rows of eight bytes of `a` times both of `b`: sums of `a0·b0, a0·b1, a1·b0, a1·b1`.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn multiply(self, mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` exists only where the instruction does, which changes nothing but `sums`.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

impl<const DOT: bool> Products<DOT> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn zero(self) -> Sum {
        [vdupq_n_s32(0); 3]
    }

    /// The weights of bytes in the form of t2, one plane for each place in a byte, as [`Products::add`] wants them.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn planes(self, bytes: uint8x16_t) -> [int8x16_t; 4] {
        let three = vdupq_n_u8(3);
        let (second, third) = if DOT {
            (vandq_u8(bytes, vdupq_n_u8(3 << 2)), vandq_u8(bytes, vdupq_n_u8(3 << 4)))
        } else {
            (vandq_u8(vshrq_n_u8::<2>(bytes), three), vandq_u8(vshrq_n_u8::<4>(bytes), three))
        };
        // Written out here and elsewhere: closures with the features of a processor are not inlined into `map`.
        [
            vreinterpretq_s8_u8(vandq_u8(bytes, three)),
            vreinterpretq_s8_u8(second),
            vreinterpretq_s8_u8(third),
            vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes)),
        ]
    }

    /// Adds the products of some planes; of a fifth plane the weights are as they are.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn add(self, mut sum: Sum, planes: &[int8x16_t], x: &[int8x16_t]) -> Sum {
        if DOT {
            for (i, (&plane, &x)) in planes.iter().zip(x).enumerate() {
                let class = if i == 1 || i == 2 { i } else { 0 };
                sum[class] = Products::<true>(()).dot(sum[class], plane, x);
            }
        } else {
            // A product is at most 2 · 128, so the ten of five planes fit into 16 bits.
            let mut pairs = vmull_s8(vget_low_s8(planes[0]), vget_low_s8(x[0]));
            pairs = vmlal_high_s8(pairs, planes[0], x[0]);
            for (&plane, &x) in planes.iter().zip(x).skip(1) {
                pairs = vmlal_s8(pairs, vget_low_s8(plane), vget_low_s8(x));
                pairs = vmlal_high_s8(pairs, plane, x);
            }
            sum[0] = vpadalq_s16(sum[0], pairs);
        }
        sum
    }

    /// The sum, exactly: with at most 2²⁰ columns no part of it leaves 32 bits, and shifts drop only zeros.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn finish(self, sum: Sum) -> i32 {
        let [ones, fours, sixteens] = sum;
        if DOT { vaddvq_s32(ones) + (vaddvq_s32(fours) >> 2) + (vaddvq_s32(sixteens) >> 4) } else { vaddvq_s32(ones) }
    }
}
