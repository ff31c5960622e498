//! Vectors of f32, so that a floating-point kernel is written once and compiled for every platform.
//!
//! ```text
//! Platform::dispatch(kernel) ── Avx512 ──▶ kernel.run::<_, 16>(token)
//!                            ├─ Avx2 ────▶ kernel.run::<_, 8>(token)
//!                            ├─ Neon ────▶ kernel.run::<_, 8>(token)
//!                            └─ Plain ───▶ kernel.run::<_, 8>(token)
//! ```
//!
//! A kernel is a struct of its arguments, not a closure: a closure handed to run-time dispatch is compiled without the features. `run` and all that it
//! calls are `#[inline(always)]`, so that they are compiled with them. Loads and stores take arrays of N elements, which `as_chunks` makes of
//! slices: kernels stay safe code. Integer kernels (ternary linears) are not written with this: there every platform has its own way.

mod math;
mod plain;

pub(crate) use math::{exp, normal, quantised};
pub(crate) use plain::Plain;

use half::{bf16, f16};

use super::Platform;

/// Operations on vectors of `N` lanes. A value of an implementing type proves that the processor has what they need.
///
/// All but [`Simd::mul_add`], [`Simd::sums`] and [`Simd::total`] give the same bits on all platforms.
pub(crate) trait Simd<const N: usize>: Copy {
    /// `N` lanes.
    type F: Copy;
    /// As many lanes of f64.
    type D: Copy;
    /// Whether there are 32 registers rather than 16: kernels choose their tiles by it.
    const MANY_REGISTERS: bool;

    /// Whether elements widen in an instruction or two. Where they do not, kernels widen them into memory first, in loops of their own.
    const WIDENS_FAST: bool;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; N]) -> Self::F;
    fn store(self, v: Self::F, to: &mut [f32; N]);
    fn widen_f16(self, from: &[f16; N]) -> Self::F;
    fn widen_bf16(self, from: &[bf16; N]) -> Self::F;
    fn widen_i8(self, from: &[i8; N]) -> Self::F;
    /// Rounds to the nearest, half to even.
    fn narrow_f16(self, v: Self::F, to: &mut [f16; N]);
    /// Rounds to the nearest, half to even.
    fn narrow_bf16(self, v: Self::F, to: &mut [bf16; N]);
    /// Lanes that are whole numbers of −128 to 127.
    fn narrow_i8(self, v: Self::F, to: &mut [i8; N]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of each pair of lanes, `b` where one of them is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger of each pair of lanes, `b` where one of them is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, v: Self::F) -> Self::F;
    /// `a · b + c`, rounded once where the platform can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The nearest whole number, half to even, of lanes below 2²² in magnitude.
    fn round(self, v: Self::F) -> Self::F;
    /// 2 to the power of lanes that are whole numbers of −126 to 127.
    fn power(self, n: Self::F) -> Self::F;
    /// `yes` where `a ≤ b`, else `no` (also where one is not a number).
    fn where_le(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// Rows of a square to its columns.
    fn transpose(self, rows: [Self::F; N]) -> [Self::F; N];
    /// The totals of four vectors.
    fn sums(self, v: [Self::F; 4]) -> [f32; 4];
    /// `sum + v`, in f64.
    fn add_wide(self, sum: Self::D, v: Self::F) -> Self::D;
    /// `sum + v²`, in f64, where the square is exact.
    fn add_squares(self, sum: Self::D, v: Self::F) -> Self::D;
    fn load_wide(self, from: &[f64; N]) -> Self::D;
    fn store_wide(self, v: Self::D, to: &mut [f64; N]);
    /// The largest lane.
    fn largest(self, v: Self::F) -> f32;
    /// Asks for the cache line of an address, which need not be valid.
    fn prefetch<T>(self, at: *const T);

    /// The total of a vector.
    #[inline(always)]
    fn total(self, v: Self::F) -> f32 {
        let zero = self.splat(0.0);
        self.sums([v, zero, zero, zero])[0]
    }

    /// Fewer than `N` elements of any kind, as the first lanes; the others are zero.
    #[inline(always)]
    fn widen_tail<T: Stored>(self, from: &[T]) -> Self::F {
        let mut lanes = [T::ZERO; N];
        lanes[..from.len()].copy_from_slice(from);
        T::widen(self, &lanes)
    }

    /// The first lanes.
    #[inline(always)]
    fn store_tail(self, v: Self::F, to: &mut [f32]) {
        let mut lanes = [0.0; N];
        self.store(v, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// A kernel, to be compiled for every platform. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd<N>, const N: usize>(self, s: S) -> Self::Output;
}

impl Platform {
    /// Runs a kernel with the vectors of this platform.
    #[inline]
    pub(crate) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        {
            use super::x86_64::{Avx2, Avx512};
            if let Some(token) = Avx512::new(self) {
                return token.call(kernel);
            }
            if let Some(token) = Avx2::new(self) {
                return token.call(kernel);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(token) = super::aarch64::Neon::new(self) {
            return token.call(kernel);
        }
        kernel.run(Plain)
    }
}

/// Elements that matrices and caches are stored as.
pub(crate) trait Stored: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// Numbers of bf16 that every value is the sum of.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AMX multiplies such numbers"))]
    const PARTS: usize;
    fn widen<S: Simd<N>, const N: usize>(s: S, from: &[Self; N]) -> S::F;
}

/// Widens a slice into the front of another.
#[inline(always)]
pub(crate) fn widen<T: Stored, S: Simd<N>, const N: usize>(s: S, from: &[T], to: &mut [f32]) {
    let (from, from_tail) = from.as_chunks::<N>();
    let (chunks, rest) = to.split_at_mut(from.len() * N);
    for (from, to) in from.iter().zip(chunks.as_chunks_mut::<N>().0) {
        s.store(T::widen(s, from), to);
    }
    if !from_tail.is_empty() {
        s.store_tail(s.widen_tail(from_tail), &mut rest[..from_tail.len()]);
    }
}

/// Elements that keys and values are stored as.
pub(crate) trait Narrow: Stored {
    fn narrow<S: Simd<N>, const N: usize>(s: S, v: S::F, to: &mut [Self; N]);
}

macro_rules! stored {
    ($($type:ty, $zero:expr, $parts:expr, $widen:ident $(, $narrow:ident)?;)*) => {$(
        impl Stored for $type {
            const ZERO: Self = $zero;
            const PARTS: usize = $parts;
            #[inline(always)]
            fn widen<S: Simd<N>, const N: usize>(s: S, from: &[Self; N]) -> S::F {
                s.$widen(from)
            }
        }
        $(impl Narrow for $type {
            #[inline(always)]
            fn narrow<S: Simd<N>, const N: usize>(s: S, v: S::F, to: &mut [Self; N]) {
                s.$narrow(v, to);
            }
        })?
    )*};
}

stored! {
    f32, 0.0, 3, load, store;
    f16, f16::ZERO, 2, widen_f16, narrow_f16;
    bf16, bf16::ZERO, 1, widen_bf16, narrow_bf16;
    i8, 0, 1, widen_i8;
}
