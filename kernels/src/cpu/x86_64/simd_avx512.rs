//! Sixteen lanes of f32 for AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::methods;
use crate::cpu::simd::{Kernel, Simd};
use crate::cpu::{Isa, Platform};

const N: usize = 16;

/// Proof that the processor has AVX-512 as [`Isa::Avx512`] means it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, from the one that `platform` is.
    #[inline(always)]
    pub(crate) fn new(platform: Platform) -> Option<Self> {
        matches!(platform.isa(), Isa::Avx512 | Isa::Amx).then_some(Self(()))
    }

    /// Runs a kernel that is compiled with these features.
    pub(crate) fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
        fn with_features<K: Kernel>(token: Avx512, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: `self` exists only where `Platform` found these features.
        unsafe { with_features(self, kernel) }
    }
}

impl Simd<N> for Avx512 {
    type F = __m512;
    type D = [__m512d; 2];
    const MANY_REGISTERS: bool = true;
    const WIDENS_FAST: bool = true;

    methods! {"avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2":
        fn splat(value: f32) -> __m512 {
            _mm512_set1_ps(value)
        }
        fn load(from: &[f32; N]) -> __m512 {
            // SAFETY: the array has the 64 bytes that are read.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }
        fn store(v: __m512, to: &mut [f32; N]) {
            // SAFETY: the array has the 64 bytes that are written.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        }
        fn widen_f16(from: &[f16; N]) -> __m512 {
            // SAFETY: the array has the 32 bytes that are read.
            _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
        }
        fn widen_bf16(from: &[bf16; N]) -> __m512 {
            // SAFETY: the array has the 32 bytes that are read.
            let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
        fn widen_i8(from: &[i8; N]) -> __m512 {
            // SAFETY: the array has the 16 bytes that are read.
            let bytes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
        fn narrow_f16(v: __m512, to: &mut [f16; N]) {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            // SAFETY: the array has the 32 bytes that are written.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_bf16(v: __m512, to: &mut [bf16; N]) {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // What is not a number keeps its upper bits and becomes quiet.
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let bits = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), quiet);
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits));
            // SAFETY: the array has the 32 bytes that are written.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_i8(v: __m512, to: &mut [i8; N]) {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
        }
        fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        fn sub(a: __m512, b: __m512) -> __m512 {
            _mm512_sub_ps(a, b)
        }
        fn mul(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        fn div(a: __m512, b: __m512) -> __m512 {
            _mm512_div_ps(a, b)
        }
        fn min(a: __m512, b: __m512) -> __m512 {
            _mm512_min_ps(a, b)
        }
        fn max(a: __m512, b: __m512) -> __m512 {
            _mm512_max_ps(a, b)
        }
        fn abs(v: __m512) -> __m512 {
            _mm512_abs_ps(v)
        }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        fn round(v: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        }
        fn power(n: __m512) -> __m512 {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
        fn where_le(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b), no, yes)
        }
        fn transpose(rows: [__m512; N]) -> [__m512; N] {
            let mut quads = [_mm512_setzero_ps(); N];
            for (rows, quads) in rows.as_chunks::<4>().0.iter().zip(quads.as_chunks_mut::<4>().0) {
                let [a, b, c, d] = *rows;
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                quads[0] = _mm512_shuffle_ps::<0x44>(ab, cd);
                quads[1] = _mm512_shuffle_ps::<0xee>(ab, cd);
                quads[2] = _mm512_shuffle_ps::<0x44>(ab_high, cd_high);
                quads[3] = _mm512_shuffle_ps::<0xee>(ab_high, cd_high);
            }
            // Vector 4g + c holds column 4p + c of rows 4g to 4g + 3 in its part p of 128 bits.
            let mut columns = [_mm512_setzero_ps(); N];
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(quads[c], quads[4 + c]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(quads[c], quads[4 + c]);
                let even_high = _mm512_shuffle_f32x4::<0x88>(quads[8 + c], quads[12 + c]);
                let odd_high = _mm512_shuffle_f32x4::<0xdd>(quads[8 + c], quads[12 + c]);
                columns[c] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
                columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
                columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
                columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
            }
            columns
        }
        fn sums(v: [__m512; 4]) -> [f32; 4] {
            // Within every 128 bits: a0+a2 b0+b2 a1+a3 b1+b3, then a b c d; then the four parts together.
            let [a, b, c, d] = v;
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let quads = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            let pair = _mm256_add_ps(_mm512_castps512_ps256(quads), _mm512_extractf32x8_ps::<1>(quads));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pair), _mm256_extractf128_ps::<1>(pair));
            let mut totals = [0.0; 4];
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_ps(totals.as_mut_ptr(), sums) }
            totals
        }
        fn add_wide(sum: [__m512d; 2], v: __m512) -> [__m512d; 2] {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v));
            [_mm512_add_pd(sum[0], low), _mm512_add_pd(sum[1], high)]
        }
        fn add_squares(sum: [__m512d; 2], v: __m512) -> [__m512d; 2] {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v));
            // Fused or not is the same: the squares have at most 48 bits.
            [_mm512_fmadd_pd(low, low, sum[0]), _mm512_fmadd_pd(high, high, sum[1])]
        }
        fn load_wide(from: &[f64; N]) -> [__m512d; 2] {
            let [low, high] = [from[..N / 2].as_ptr(), from[N / 2..].as_ptr()];
            // SAFETY: the first half of the array has the 64 bytes that are read.
            let low = unsafe { _mm512_loadu_pd(low) };
            // SAFETY: the second half has as many.
            [low, unsafe { _mm512_loadu_pd(high) }]
        }
        fn store_wide(v: [__m512d; 2], to: &mut [f64; N]) {
            let (low, high) = to.split_at_mut(N / 2);
            // SAFETY: the first half of the array has the 64 bytes that are written.
            unsafe { _mm512_storeu_pd(low.as_mut_ptr(), v[0]) };
            // SAFETY: the second half has as many.
            unsafe { _mm512_storeu_pd(high.as_mut_ptr(), v[1]) }
        }
        fn largest(v: __m512) -> f32 {
            _mm512_reduce_max_ps(v)
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a prefetch reads nothing that the program can see, and does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
