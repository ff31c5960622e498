//! Eight lanes of f32 for AVX2 with FMA and F16C.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::methods;
use crate::cpu::simd::{Kernel, Simd};
use crate::cpu::{Isa, Platform};

const N: usize = 8;

/// Proof that the processor has what [`Isa::Avx2`] means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, from the one that `platform` is.
    #[inline(always)]
    pub(crate) fn new(platform: Platform) -> Option<Self> {
        matches!(platform.isa(), Isa::Avx2 | Isa::Avx512 | Isa::Amx).then_some(Self(()))
    }

    /// Runs a kernel that is compiled with these features.
    pub(crate) fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,bmi2")]
        fn with_features<K: Kernel>(token: Avx2, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: `self` exists only where `Platform` found these features.
        unsafe { with_features(self, kernel) }
    }
}

impl Simd<N> for Avx2 {
    type F = __m256;
    type D = [__m256d; 2];
    const MANY_REGISTERS: bool = false;
    const WIDENS_FAST: bool = true;

    methods! {"avx2,fma,f16c,bmi2":
        fn splat(value: f32) -> __m256 {
            _mm256_set1_ps(value)
        }
        fn load(from: &[f32; N]) -> __m256 {
            // SAFETY: the array has the 32 bytes that are read.
            unsafe { _mm256_loadu_ps(from.as_ptr()) }
        }
        fn store(v: __m256, to: &mut [f32; N]) {
            // SAFETY: the array has the 32 bytes that are written.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
        }
        fn widen_f16(from: &[f16; N]) -> __m256 {
            // SAFETY: the array has the 16 bytes that are read.
            _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
        }
        fn widen_bf16(from: &[bf16; N]) -> __m256 {
            // SAFETY: the array has the 16 bytes that are read.
            let halves = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
        fn widen_i8(from: &[i8; N]) -> __m256 {
            // SAFETY: the array has the 8 bytes that are read.
            let bytes = unsafe { _mm_loadl_epi64(from.as_ptr().cast()) };
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        }
        fn narrow_f16(v: __m256, to: &mut [f16; N]) {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_bf16(v: __m256, to: &mut [bf16; N]) {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // What is not a number keeps its upper bits and becomes quiet.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let strange = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let bits = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, strange));
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), halves) }
        }
        fn narrow_i8(v: __m256, to: &mut [i8; N]) {
            let whole = _mm256_cvtps_epi32(v);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let bytes = _mm_packs_epi16(words, words);
            // SAFETY: the array has the 8 bytes that are written.
            unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), bytes) }
        }
        fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        fn sub(a: __m256, b: __m256) -> __m256 {
            _mm256_sub_ps(a, b)
        }
        fn mul(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        fn div(a: __m256, b: __m256) -> __m256 {
            _mm256_div_ps(a, b)
        }
        fn min(a: __m256, b: __m256) -> __m256 {
            _mm256_min_ps(a, b)
        }
        fn max(a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(a, b)
        }
        fn abs(v: __m256) -> __m256 {
            _mm256_andnot_ps(_mm256_set1_ps(-0.0), v)
        }
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        fn round(v: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        }
        fn power(n: __m256) -> __m256 {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
        fn where_le(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LE_OQ>(a, b))
        }
        fn transpose(rows: [__m256; N]) -> [__m256; N] {
            let mut quads = [_mm256_setzero_ps(); N];
            for (rows, quads) in rows.as_chunks::<4>().0.iter().zip(quads.as_chunks_mut::<4>().0) {
                let [a, b, c, d] = *rows;
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                quads[0] = _mm256_shuffle_ps::<0x44>(ab, cd);
                quads[1] = _mm256_shuffle_ps::<0xee>(ab, cd);
                quads[2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
                quads[3] = _mm256_shuffle_ps::<0xee>(ab_high, cd_high);
            }
            // Vector 4g + c holds column 4p + c of rows 4g to 4g + 3 in its part p of 128 bits.
            let mut columns = [_mm256_setzero_ps(); N];
            for c in 0..4 {
                columns[c] = _mm256_permute2f128_ps::<0x20>(quads[c], quads[4 + c]);
                columns[4 + c] = _mm256_permute2f128_ps::<0x31>(quads[c], quads[4 + c]);
            }
            columns
        }
        fn sums(v: [__m256; 4]) -> [f32; 4] {
            // Within every 128 bits: a0+a2 b0+b2 a1+a3 b1+b3, then a b c d; then both parts together.
            let [a, b, c, d] = v;
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let quads = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd));
            let sums = _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps::<1>(quads));
            let mut totals = [0.0; 4];
            // SAFETY: the array has the 16 bytes that are written.
            unsafe { _mm_storeu_ps(totals.as_mut_ptr(), sums) }
            totals
        }
        fn add_wide(sum: [__m256d; 2], v: __m256) -> [__m256d; 2] {
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            [_mm256_add_pd(sum[0], low), _mm256_add_pd(sum[1], high)]
        }
        fn add_squares(sum: [__m256d; 2], v: __m256) -> [__m256d; 2] {
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            // Fused or not is the same: the squares have at most 48 bits.
            [_mm256_fmadd_pd(low, low, sum[0]), _mm256_fmadd_pd(high, high, sum[1])]
        }
        fn load_wide(from: &[f64; N]) -> [__m256d; 2] {
            let [low, high] = [from[..N / 2].as_ptr(), from[N / 2..].as_ptr()];
            // SAFETY: the first half of the array has the 32 bytes that are read.
            let low = unsafe { _mm256_loadu_pd(low) };
            // SAFETY: the second half has as many.
            [low, unsafe { _mm256_loadu_pd(high) }]
        }
        fn store_wide(v: [__m256d; 2], to: &mut [f64; N]) {
            let (low, high) = to.split_at_mut(N / 2);
            // SAFETY: the first half of the array has the 32 bytes that are written.
            unsafe { _mm256_storeu_pd(low.as_mut_ptr(), v[0]) };
            // SAFETY: the second half has as many.
            unsafe { _mm256_storeu_pd(high.as_mut_ptr(), v[1]) }
        }
        fn largest(v: __m256) -> f32 {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a prefetch reads nothing that the program can see, and does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
