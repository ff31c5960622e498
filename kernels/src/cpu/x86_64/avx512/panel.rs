//! Panels from rows with two bits a trit: 16 bytes of 16 rows become 16 lines.
//!
//! ```text
//! 16 rows × 4 dwords ── loads and a 4 × 4 transposition in each lane ──▶ dword k of all rows, one to a lane of 32 bits
//! byte b of each     ── multishift by 8b + {0, 2, 4, 6}, and 3       ──▶ line 4k + b
//! ```

use std::arch::x86_64::*;

use super::store;
use crate::cpu::gemm::Line;

/// Fills the lines of a panel from 16 rows, `stride` bytes apart, from byte `first` of each on. The number of lines is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn panel(rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
    for (i, lines) in lines.as_chunks_mut().0.iter_mut().enumerate() {
        tile::<false>(rows, stride, first + 16 * i, lines);
    }
}

/// Fills 16 lines from 16 rows, `stride` bytes apart: 64 columns from byte `first` of each on. The four columns of a line are those of a byte, or (`APART`)
/// one of each byte of a dword, which takes a shift where the others take a permutation.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn tile<const APART: bool>(rows: &[u8], stride: usize, first: usize, lines: &mut [Line; 16]) {
    // One check for all rows.
    let rows = &rows[first..][..15 * stride + 16];
    // SAFETY: 16 bytes of each of 16 rows are in the slice.
    let row = |i: usize| unsafe { _mm_loadu_si128(rows.as_ptr().wrapping_add(i * stride).cast()) };
    let mut z = [_mm512_setzero_si512(); 4];
    for (j, z) in z.iter_mut().enumerate() {
        *z = _mm512_castsi128_si512(row(j));
        *z = _mm512_inserti32x4::<1>(*z, row(4 + j));
        *z = _mm512_inserti32x4::<2>(*z, row(8 + j));
        *z = _mm512_inserti32x4::<3>(*z, row(12 + j));
    }
    let (low, high) = (_mm512_unpacklo_epi32(z[0], z[1]), _mm512_unpackhi_epi32(z[0], z[1]));
    let (low2, high2) = (_mm512_unpacklo_epi32(z[2], z[3]), _mm512_unpackhi_epi32(z[2], z[3]));
    let dwords = [
        _mm512_unpacklo_epi64(low, low2),
        _mm512_unpackhi_epi64(low, low2),
        _mm512_unpacklo_epi64(high, high2),
        _mm512_unpackhi_epi64(high, high2),
    ];
    let three = _mm512_set1_epi8(3);
    for (dword, lines) in dwords.into_iter().zip(lines.as_chunks_mut::<4>().0) {
        let codes = if APART {
            [dword, _mm512_srli_epi32::<2>(dword), _mm512_srli_epi32::<4>(dword), _mm512_srli_epi32::<6>(dword)]
        } else {
            [0, 1, 2, 3].map(|byte| _mm512_multishift_epi64_epi8(shifts(byte), dword))
        };
        for (codes, line) in codes.into_iter().zip(lines) {
            store(&mut line.0, _mm512_and_si512(codes, three));
        }
    }
}

/// Where the four codes of byte `byte` of both halves of 64 bits begin.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifts(byte: i64) -> __m512i {
    _mm512_set1_epi64(0x2624_2220_0604_0200 + 0x0808_0808_0808_0808 * byte)
}
