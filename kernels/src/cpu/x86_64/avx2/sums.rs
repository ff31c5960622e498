//! Sums of products under way, for a row and some tokens.

use std::arch::x86_64::*;

use crate::cpu::gemv::Line;
use crate::cpu::x86_64::fetch;

/// How far ahead of its use a weight is fetched, in each of the streams that a thread reads.
const AHEAD: usize = 2560;

/// Sums of T tokens.
pub(super) struct Sums<const T: usize>([__m256i; T]);

impl<const T: usize> Sums<T> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new() -> Self {
        Self([_mm256_setzero_si256(); T])
    }

    /// Adds the products of P planes of 64 weights 0 to 2, in halves, with P lines of every token.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn add<const P: usize>(&mut self, planes: [[__m256i; P]; 2], lines: &[Line], stride: usize) {
        for (t, sum) in self.0.iter_mut().enumerate() {
            let lines = &lines[t * stride..][..P];
            // A product is at most 2 · 128, so two of every plane and half stay below 2^13: 16 bits hold them.
            let mut pairs = _mm256_setzero_si256();
            for (p, line) in lines.iter().enumerate() {
                for (half, planes) in planes.iter().enumerate() {
                    let products = _mm256_maddubs_epi16(planes[p], load_line(line, half));
                    pairs = _mm256_add_epi16(pairs, products);
                }
            }
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }

    /// The sums.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn finish(self) -> [i32; T] {
        let mut out = [0; T];
        for (out, &sum) in out.iter_mut().zip(&self.0) {
            let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            *out = _mm_cvtsi128_si32(sum);
        }
        out
    }
}

/// The weights of bytes in the form of t2, one plane for each place in a byte.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn planes(bytes: __m256i) -> [__m256i; 4] {
    let three = _mm256_set1_epi8(3);
    [
        _mm256_and_si256(bytes, three),
        _mm256_and_si256(_mm256_srli_epi16::<2>(bytes), three),
        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), three),
        _mm256_and_si256(_mm256_srli_epi16::<6>(bytes), three),
    ]
}

/// 32 bytes: the first or the second of a step of 64.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_half(bytes: &[u8], half: usize) -> __m256i {
    let bytes = &bytes[32 * half..][..32];
    // SAFETY: 32 bytes are there.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..][..16];
    // SAFETY: 16 bytes are there.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Half a line.
#[inline]
#[target_feature(enable = "avx2")]
fn load_line(line: &Line, half: usize) -> __m256i {
    let values = &line.0[32 * half..][..32];
    // SAFETY: 32 values are there; lines are aligned to their 64 bytes, and so are their halves to their 32.
    unsafe { _mm256_load_si256(values.as_ptr().cast()) }
}

/// Begins to fetch what is needed a while after these bytes.
#[inline]
pub(super) fn prefetch(bytes: &[u8]) {
    fetch(bytes.as_ptr().wrapping_add(AHEAD));
}
