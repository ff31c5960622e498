//! Panels from rows with two bits a trit: 16 bytes of 16 rows become 16 lines.
//!
//! ```text
//! 16 rows × 4 dwords ── loads and a 4 × 4 transposition in each lane ──▶ dword k of all rows, one to a lane of 32 bits
//! byte b of each     ── multishift by 8b + {0, 2, 4, 6}, and 3       ──▶ line 4k + b
//! ```

use std::arch::x86_64::*;

use super::{load_16, store};
use crate::cpu::gemm::Line;

/// Fills the lines of a panel from 16 rows, `stride` bytes apart, from byte `first` of each on. The number of lines is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn panel(rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
    for (i, lines) in lines.as_chunks_mut().0.iter_mut().enumerate() {
        tile(rows, stride, first + 16 * i, lines);
    }
}

/// Fills 16 lines from 16 rows, `stride` bytes apart: 64 columns from byte `first` of each on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn tile(rows: &[u8], stride: usize, first: usize, lines: &mut [Line; 16]) {
    // One check for all rows.
    let rows = &rows[first..][..15 * stride + 16];
    let row = |i: usize| match rows[i * stride..].first_chunk() {
        Some(bytes) => load_16(bytes),
        None => _mm_setzero_si128(),
    };
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
    let (shifts, three) = ([shifts(0), shifts(1), shifts(2), shifts(3)], _mm512_set1_epi8(3));
    for k in 0..4 {
        for b in 0..4 {
            let codes = _mm512_multishift_epi64_epi8(shifts[b], dwords[k]);
            store(&mut lines[4 * k + b].0, _mm512_and_si512(codes, three));
        }
    }
}

/// Where the four codes of byte `byte` of both halves of 64 bits begin.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifts(byte: i64) -> __m512i {
    _mm512_set1_epi64(0x2624_2220_0604_0200 + 0x0808_0808_0808_0808 * byte)
}
