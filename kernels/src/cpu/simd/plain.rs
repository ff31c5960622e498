//! Vectors as plain code: eight lanes that the compiler puts into what registers there are.

use half::{bf16, f16};

use super::Simd;

const N: usize = 8;

/// Vectors that need nothing of the processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; N] {
    std::array::from_fn(f)
}

/// binary16 without branches: the exponent moves to its place, a product with 2¹¹² corrects its bias (and makes subnormals right), and what was infinite or
/// not a number gets the largest exponent.
#[inline(always)]
fn widen(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

impl Simd<N> for Plain {
    type F = [f32; N];
    type D = [f64; N];
    const MANY_REGISTERS: bool = false;
    const WIDENS_FAST: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; N] {
        [value; N]
    }

    #[inline(always)]
    fn load(self, from: &[f32; N]) -> [f32; N] {
        *from
    }

    #[inline(always)]
    fn store(self, v: [f32; N], to: &mut [f32; N]) {
        *to = v;
    }

    #[inline(always)]
    fn widen_f16(self, from: &[f16; N]) -> [f32; N] {
        each(|i| widen(from[i]))
    }

    #[inline(always)]
    fn widen_bf16(self, from: &[bf16; N]) -> [f32; N] {
        each(|i| f32::from_bits(u32::from(from[i].to_bits()) << 16))
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8; N]) -> [f32; N] {
        each(|i| f32::from(from[i]))
    }

    #[inline(always)]
    fn narrow_f16(self, v: [f32; N], to: &mut [f16; N]) {
        *to = v.map(f16::from_f32);
    }

    #[inline(always)]
    fn narrow_bf16(self, v: [f32; N], to: &mut [bf16; N]) {
        *to = v.map(bf16::from_f32);
    }

    #[inline(always)]
    fn narrow_i8(self, v: [f32; N], to: &mut [i8; N]) {
        *to = v.map(|v| v as i8);
    }

    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn min(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn abs(self, v: [f32; N]) -> [f32; N] {
        each(|i| v[i].abs())
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        // A fused one would be a call where the baseline of the target has no such instruction.
        if cfg!(target_arch = "aarch64") { each(|i| a[i].mul_add(b[i], c[i])) } else { each(|i| a[i] * b[i] + c[i]) }
    }

    #[inline(always)]
    fn round(self, v: [f32; N]) -> [f32; N] {
        // Above 2²³ the units are whole, so the sum rounds to one.
        const MAGIC: f32 = 1.5 * (1 << 23) as f32;
        each(|i| (v[i] + MAGIC) - MAGIC)
    }

    #[inline(always)]
    fn power(self, n: [f32; N]) -> [f32; N] {
        each(|i| f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }

    #[inline(always)]
    fn where_le(self, a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        each(|i| if a[i] <= b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn transpose(self, rows: [[f32; N]; N]) -> [[f32; N]; N] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }

    #[inline(always)]
    fn sums(self, v: [[f32; N]; 4]) -> [f32; 4] {
        v.map(|v| {
            let [a, b, c, d]: [f32; 4] = std::array::from_fn(|i| v[i] + v[i + 4]);
            (a + c) + (b + d)
        })
    }

    #[inline(always)]
    fn add_wide(self, sum: [f64; N], v: [f32; N]) -> [f64; N] {
        std::array::from_fn(|i| sum[i] + f64::from(v[i]))
    }

    #[inline(always)]
    fn add_squares(self, sum: [f64; N], v: [f32; N]) -> [f64; N] {
        std::array::from_fn(|i| sum[i] + f64::from(v[i]) * f64::from(v[i]))
    }

    #[inline(always)]
    fn load_wide(self, from: &[f64; N]) -> [f64; N] {
        *from
    }

    #[inline(always)]
    fn store_wide(self, v: [f64; N], to: &mut [f64; N]) {
        *to = v;
    }

    #[inline(always)]
    fn largest(self, v: [f32; N]) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn prefetch<T>(self, _at: *const T) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (ours, theirs) = (widen(half), half.to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#06x}: {ours} {theirs}"
            );
        }
    }
}
