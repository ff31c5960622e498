//! Panels from rows with two bits a trit: 16 bytes of 8 rows become halves of 16 lines.
//!
//! ```text
//! 8 rows × 4 dwords ── 4 × 4 transpositions in each lane ──▶ dword k of 8 rows, one to a lane of 32 bits
//! byte b of each    ── to the lowest, spread by shifts of 6 and 12, and 3 ──▶ half of line 4k + b
//! ```

use std::arch::x86_64::*;

use super::{load_16, store};
use crate::cpu::gemm::Line;

/// Fills the lines of a panel from 16 rows, `stride` bytes apart, from byte `first` of each on. The number of lines is a multiple of 16.
#[target_feature(enable = "avx2")]
pub(crate) fn panel(rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
    for half in 0..2 {
        let mut bytes = [[].as_slice(); 8];
        for (row, bytes) in bytes.iter_mut().enumerate() {
            *bytes = rows[(8 * half + row) * stride + first..][..lines.len()].as_chunks::<16>().0;
        }
        for (i, lines) in lines.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let mut y = [_mm256_setzero_si256(); 4];
            for (j, y) in y.iter_mut().enumerate() {
                *y = _mm256_castsi128_si256(load_16(&bytes[j][i]));
                *y = _mm256_inserti128_si256::<1>(*y, load_16(&bytes[4 + j][i]));
            }
            let (low, high) = (_mm256_unpacklo_epi32(y[0], y[1]), _mm256_unpackhi_epi32(y[0], y[1]));
            let (low2, high2) = (_mm256_unpacklo_epi32(y[2], y[3]), _mm256_unpackhi_epi32(y[2], y[3]));
            let dwords = [
                _mm256_unpacklo_epi64(low, low2),
                _mm256_unpackhi_epi64(low, low2),
                _mm256_unpacklo_epi64(high, high2),
                _mm256_unpackhi_epi64(high, high2),
            ];
            for k in 0..4 {
                let dword = dwords[k];
                let byte = _mm256_set1_epi32(255);
                let bytes = [
                    _mm256_and_si256(dword, byte),
                    _mm256_and_si256(_mm256_srli_epi32::<8>(dword), byte),
                    _mm256_and_si256(_mm256_srli_epi32::<16>(dword), byte),
                    _mm256_srli_epi32::<24>(dword),
                ];
                for b in 0..4 {
                    store(&mut lines[4 * k + b].0.as_chunks_mut().0[half], spread(bytes[b]));
                }
            }
        }
    }
}

/// Four codes in the lowest byte of 32 bits, one to a byte.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(byte: __m256i) -> __m256i {
    let pairs = _mm256_or_si256(byte, _mm256_slli_epi32::<6>(byte));
    let all = _mm256_or_si256(pairs, _mm256_slli_epi32::<12>(pairs));
    _mm256_and_si256(all, _mm256_set1_epi8(3))
}
