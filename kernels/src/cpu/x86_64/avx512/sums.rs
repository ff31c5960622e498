//! Sums of products under way, for some rows and tokens.
//!
//! Bytes in the form of t2 hold four weights w + 1 each; *plane* i is the i-th weight of every byte. With one token the planes stay where they are in
//! their bytes, so a sum of plane i is 4^i times too large and is shifted back once, at the end of a row. With more tokens a plane is shifted down first
//! and used for all of them.

use std::arch::x86_64::*;

use crate::cpu::gemv::Line;
use crate::cpu::x86_64::fetch;

/// How far ahead of its use a weight is fetched, in each of the streams that a thread reads: together more than memory delivers in the time that it
/// takes to answer, and less than the nearest cache holds.
const AHEAD: usize = 2560;

/// Sums of R rows and T tokens. With one token there is a vector for each plane, otherwise only the first is used.
pub(super) struct Sums<const R: usize, const T: usize>([[[__m512i; 4]; T]; R]);

impl<const R: usize, const T: usize> Sums<R, T> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new() -> Self {
        Self([[[_mm512_setzero_si512(); 4]; T]; R])
    }

    /// Adds the products of bytes that hold one weight each.
    ///
    /// # Safety
    ///
    /// `line` points to a line, and so do the T − 1 pointers that are multiples of `stride` lines further on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) unsafe fn add_ones(&mut self, weights: &[__m512i; R], line: *const Line, stride: usize) {
        for t in 0..T {
            // SAFETY: the caller's promise.
            let line = unsafe { load_line(line.wrapping_add(t * stride)) };
            for (sums, &weights) in self.0.iter_mut().zip(weights) {
                sums[t][0] = _mm512_dpbusd_epi32(sums[t][0], weights, line);
            }
        }
    }

    /// Adds the products of the weights in the highest two bits of bytes.
    ///
    /// # Safety
    ///
    /// As for [`Sums::add_ones`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) unsafe fn add_last(&mut self, bytes: &[__m512i; R], line: *const Line, stride: usize) {
        if T == 1 {
            // SAFETY: the caller's promise.
            let line = unsafe { load_line(line) };
            for (sums, &bytes) in self.0.iter_mut().zip(bytes) {
                let plane = _mm512_and_si512(bytes, _mm512_set1_epi8(0xC0u8 as i8));
                sums[0][3] = _mm512_dpbusd_epi32(sums[0][3], plane, line);
            }
            return;
        }
        let mut weights = *bytes;
        for weights in &mut weights {
            *weights = _mm512_and_si512(_mm512_srli_epi16::<6>(*weights), _mm512_set1_epi8(3));
        }
        // SAFETY: the caller's promise.
        unsafe { self.add_ones(&weights, line, stride) };
    }

    /// Adds the products of bytes in the form of t2.
    ///
    /// # Safety
    ///
    /// As for [`Sums::add_ones`], with four lines at each place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) unsafe fn add_fours(&mut self, bytes: &[__m512i; R], lines: *const Line, stride: usize) {
        if T == 1 {
            let masks = [3, 0x0C, 0x30, 0xC0u8 as i8];
            for (p, mask) in masks.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                let line = unsafe { load_line(lines.wrapping_add(p)) };
                for (sums, &bytes) in self.0.iter_mut().zip(bytes) {
                    let plane = _mm512_and_si512(bytes, _mm512_set1_epi8(mask));
                    sums[0][p] = _mm512_dpbusd_epi32(sums[0][p], plane, line);
                }
            }
            return;
        }
        let mask = _mm512_set1_epi8(3);
        let planes = |bytes: __m512i, p: usize| {
            let shifted = match p {
                0 => bytes,
                1 => _mm512_srli_epi16::<2>(bytes),
                2 => _mm512_srli_epi16::<4>(bytes),
                _ => _mm512_srli_epi16::<6>(bytes),
            };
            _mm512_and_si512(shifted, mask)
        };
        for p in 0..4 {
            let mut weights = *bytes;
            for weights in &mut weights {
                *weights = planes(*weights, p);
            }
            // SAFETY: the caller's promise.
            unsafe { self.add_ones(&weights, lines.wrapping_add(p), stride) };
        }
    }

    /// The sums, spread over vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn finish(self) -> [[__m512i; T]; R] {
        let mut out = [[_mm512_setzero_si512(); T]; R];
        for (out, sums) in out.iter_mut().zip(&self.0) {
            for (out, sums) in out.iter_mut().zip(sums) {
                *out = if T == 1 { unscale(sums) } else { sums[0] };
            }
        }
        out
    }
}

/// Adds the planes' sums up, each without its power of four: they are multiples of them, so nothing is lost.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn unscale(sums: &[__m512i; 4]) -> __m512i {
    let low = _mm512_add_epi32(sums[0], _mm512_srai_epi32::<2>(sums[1]));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(sums[2]), _mm512_srai_epi32::<6>(sums[3]));
    _mm512_add_epi32(low, high)
}

/// Adds four vectors up, each across its elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn across([a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
    // Two vectors become one of half sums, in turns; then the quarters hold sums of a, b, c and d each.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let halves = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    let quarters = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let mut sums = [0; 4];
    // SAFETY: 16 bytes are there.
    unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), quarters) };
    sums
}

/// Loads the bytes that the mask lets through, and zeros.
///
/// # Safety
///
/// The bytes that the mask lets through can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn load(start: *const u8, mask: u64) -> __m512i {
    // SAFETY: the caller's promise; bytes that are masked out are not touched.
    unsafe { _mm512_maskz_loadu_epi8(mask, start.cast()) }
}

/// # Safety
///
/// `line` points to a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn load_line(line: *const Line) -> __m512i {
    // SAFETY: the caller's promise; lines are aligned to their 64 bytes.
    unsafe { _mm512_load_si512(line.cast()) }
}

/// Begins to fetch what is needed a while after the bytes at `start`.
#[inline]
pub(super) fn prefetch(start: *const u8) {
    fetch(start.wrapping_add(AHEAD));
}
