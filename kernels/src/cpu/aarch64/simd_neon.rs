//! Eight lanes of f32 for NEON: pairs of registers of four. There are 32 registers, so kernels choose tiles as for 16 of eight lanes.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::fetch;
use crate::cpu::methods::methods;
use crate::cpu::simd::{Kernel, Simd};
use crate::cpu::{Isa, Platform};

const N: usize = 8;

/// Eight lanes, the lower four first.
type F = float32x4x2_t;
/// Eight lanes of f64.
type D = [float64x2_t; 4];

/// Proof that the processor has what [`Isa::Neon`] means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// The proof, from the one that `platform` is.
    #[inline(always)]
    pub(crate) fn new(platform: Platform) -> Option<Self> {
        matches!(platform.isa(), Isa::Neon).then_some(Self(()))
    }

    /// Runs a kernel that is compiled with these features.
    pub(crate) fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn with_features<K: Kernel>(token: Neon, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: `self` exists only where `Platform` found these features.
        unsafe { with_features(self, kernel) }
    }
}

impl Simd<N> for Neon {
    type F = F;
    type D = D;
    const MANY_REGISTERS: bool = false;
    const WIDENS_FAST: bool = true;

    methods! {"neon":
        fn splat(value: f32) -> F {
            float32x4x2_t(vdupq_n_f32(value), vdupq_n_f32(value))
        }
        fn load(from: &[f32; N]) -> F {
            // SAFETY: the array has the 32 bytes that are read.
            unsafe { vld1q_f32_x2(from.as_ptr()) }
        }
        fn store(v: F, to: &mut [f32; N]) {
            // SAFETY: the array has the 32 bytes that are written.
            unsafe { vst1q_f32_x2(to.as_mut_ptr(), v) }
        }
        fn widen_f16(from: &[f16; N]) -> F {
            // SAFETY: the array has the 16 bytes that are read.
            let halves = vreinterpretq_f16_u16(unsafe { vld1q_u16(from.as_ptr().cast()) });
            float32x4x2_t(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves))
        }
        fn widen_bf16(from: &[bf16; N]) -> F {
            // SAFETY: the array has the 16 bytes that are read.
            let halves = unsafe { vld1q_u16(from.as_ptr().cast()) };
            let low = vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves)));
            float32x4x2_t(low, vreinterpretq_f32_u32(vshll_high_n_u16::<16>(halves)))
        }
        fn widen_i8(from: &[i8; N]) -> F {
            // SAFETY: the array has the 8 bytes that are read.
            let words = vmovl_s8(unsafe { vld1_s8(from.as_ptr()) });
            let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
            float32x4x2_t(low, vcvtq_f32_s32(vmovl_high_s16(words)))
        }
        fn narrow_f16(v: F, to: &mut [f16; N]) {
            let halves = vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.0), v.1));
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { vst1q_u16(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_bf16(v: F, to: &mut [bf16; N]) {
            let halves = vuzp2q_u16(rounded(v.0), rounded(v.1));
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { vst1q_u16(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_i8(v: F, to: &mut [i8; N]) {
            let words = vmovn_high_s32(vmovn_s32(vcvtq_s32_f32(v.0)), vcvtq_s32_f32(v.1));
            let bytes = vmovn_s16(words);
            // SAFETY: the array has the 8 bytes that are written.
            unsafe { vst1_s8(to.as_mut_ptr(), bytes) }
        }
        fn add(a: F, b: F) -> F {
            float32x4x2_t(vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1))
        }
        fn sub(a: F, b: F) -> F {
            float32x4x2_t(vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1))
        }
        fn mul(a: F, b: F) -> F {
            float32x4x2_t(vmulq_f32(a.0, b.0), vmulq_f32(a.1, b.1))
        }
        fn div(a: F, b: F) -> F {
            float32x4x2_t(vdivq_f32(a.0, b.0), vdivq_f32(a.1, b.1))
        }
        // The minimum and maximum of this processor are not a number where one of both is not, so these choose.
        fn min(a: F, b: F) -> F {
            let of = |a, b| vbslq_f32(vcltq_f32(a, b), a, b);
            float32x4x2_t(of(a.0, b.0), of(a.1, b.1))
        }
        fn max(a: F, b: F) -> F {
            let of = |a, b| vbslq_f32(vcgtq_f32(a, b), a, b);
            float32x4x2_t(of(a.0, b.0), of(a.1, b.1))
        }
        fn abs(v: F) -> F {
            float32x4x2_t(vabsq_f32(v.0), vabsq_f32(v.1))
        }
        fn mul_add(a: F, b: F, c: F) -> F {
            float32x4x2_t(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1))
        }
        fn round(v: F) -> F {
            float32x4x2_t(vrndnq_f32(v.0), vrndnq_f32(v.1))
        }
        fn power(n: F) -> F {
            let of = |n| {
                let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            };
            float32x4x2_t(of(n.0), of(n.1))
        }
        fn where_le(a: F, b: F, yes: F, no: F) -> F {
            let low = vbslq_f32(vcleq_f32(a.0, b.0), yes.0, no.0);
            float32x4x2_t(low, vbslq_f32(vcleq_f32(a.1, b.1), yes.1, no.1))
        }
        fn transpose(rows: [F; N]) -> [F; N] {
            let [a, b, c, d, e, f, g, h] = rows;
            let upper = [square(a.0, b.0, c.0, d.0), square(e.0, f.0, g.0, h.0)];
            let lower = [square(a.1, b.1, c.1, d.1), square(e.1, f.1, g.1, h.1)];
            let column = |i: usize| {
                let [left, right] = if i < 4 { upper } else { lower };
                float32x4x2_t(left[i % 4], right[i % 4])
            };
            [column(0), column(1), column(2), column(3), column(4), column(5), column(6), column(7)]
        }
        fn sums(v: [F; 4]) -> [f32; 4] {
            let [a, b, c, d] = v;
            let ab = vpaddq_f32(vaddq_f32(a.0, a.1), vaddq_f32(b.0, b.1));
            let cd = vpaddq_f32(vaddq_f32(c.0, c.1), vaddq_f32(d.0, d.1));
            let (sums, mut totals) = (vpaddq_f32(ab, cd), [0.0; 4]);
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { vst1q_f32(totals.as_mut_ptr(), sums) }
            totals
        }
        fn add_wide(sum: D, v: F) -> D {
            let [a, b, c, d] = wide(v);
            [vaddq_f64(sum[0], a), vaddq_f64(sum[1], b), vaddq_f64(sum[2], c), vaddq_f64(sum[3], d)]
        }
        fn add_squares(sum: D, v: F) -> D {
            let [a, b, c, d] = wide(v);
            // Fused or not is the same: the squares have at most 48 bits.
            let add = |sum, v| vfmaq_f64(sum, v, v);
            [add(sum[0], a), add(sum[1], b), add(sum[2], c), add(sum[3], d)]
        }
        fn load_wide(from: &[f64; N]) -> D {
            // SAFETY: the array has the 64 bytes that are read.
            let float64x2x4_t(a, b, c, d) = unsafe { vld1q_f64_x4(from.as_ptr()) };
            [a, b, c, d]
        }
        fn store_wide(v: D, to: &mut [f64; N]) {
            let [a, b, c, d] = v;
            // SAFETY: the array has the 64 bytes that are written.
            unsafe { vst1q_f64_x4(to.as_mut_ptr(), float64x2x4_t(a, b, c, d)) }
        }
        fn largest(v: F) -> f32 {
            vmaxnmvq_f32(vmaxnmq_f32(v.0, v.1))
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        fetch(at.cast());
    }
}

/// As bits, rounded to the upper half; what is not a number keeps its upper bits and becomes quiet.
#[inline]
#[target_feature(enable = "neon")]
fn rounded(v: float32x4_t) -> uint16x8_t {
    let bits = vreinterpretq_u32_f32(v);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
    vreinterpretq_u16_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet))
}

/// Rows of four to columns of four.
#[inline]
#[target_feature(enable = "neon")]
fn square(a: float32x4_t, b: float32x4_t, c: float32x4_t, d: float32x4_t) -> [float32x4_t; 4] {
    let wide = |v| vreinterpretq_f64_f32(v);
    let (even, odd) = (wide(vtrn1q_f32(a, b)), wide(vtrn2q_f32(a, b)));
    let (even2, odd2) = (wide(vtrn1q_f32(c, d)), wide(vtrn2q_f32(c, d)));
    let narrow = |v| vreinterpretq_f32_f64(v);
    [
        narrow(vtrn1q_f64(even, even2)),
        narrow(vtrn1q_f64(odd, odd2)),
        narrow(vtrn2q_f64(even, even2)),
        narrow(vtrn2q_f64(odd, odd2)),
    ]
}

/// Lanes as f64.
#[inline]
#[target_feature(enable = "neon")]
fn wide(v: F) -> D {
    [vcvt_f64_f32(vget_low_f32(v.0)), vcvt_high_f64_f32(v.0), vcvt_f64_f32(vget_low_f32(v.1)), vcvt_high_f64_f32(v.1)]
}
