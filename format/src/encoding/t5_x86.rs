//! Decoding `t5` with AVX-512, through pulp's token: whoever holds one has seen that the machine has the feature.
//!
//! A byte b is a fraction b/243. Scaled to 16 bits, rounded up, and multiplied by 3^k, its bits above the 16th are digits that went before and its
//! 16 bits the fraction that is left, of which the next digit is the whole part of three times. So every digit costs two products, the first of them
//! by one constant for scale and power together.

use pulp::x86::V4;

use super::t5::GROUP;

/// Bytes that are read, bytes that are decoded, and trits that are written at a time; the last four of these are written again by the next step.
const READ: usize = 16;
const STEP: usize = 12;
const WRITE: usize = 64;

/// 2^16 / 243, rounded up: too large by less than 1/243 for every byte.
const SCALE: u16 = 270;
/// Decodes to zeros.
const ZEROS: u8 = 121;

/// Which byte a trit comes from.
const SOURCE: [u8; WRITE] = {
    let mut source = [0; WRITE];
    let mut i = 0;
    while i < WRITE {
        source[i] = (i / GROUP) as u8;
        i += 1;
    }
    source
};

/// The factors that bring forth the digits of trits at even and at odd places. The last trit of a byte is its first digit.
const FACTORS: [[u16; WRITE / 2]; 2] = {
    let mut factors = [[0; WRITE / 2]; 2];
    let mut i = 0;
    while i < WRITE {
        factors[i % 2][i / 2] = SCALE.wrapping_mul(3u16.pow((GROUP - 1 - i % GROUP) as u32));
        i += 1;
    }
    factors
};

/// Decodes the first bytes of a row, as many as whole steps allow; how many.
pub(super) fn decode(bytes: &[u8], out: &mut [i8]) -> usize {
    let pulp::Arch::V4(simd) = pulp::Arch::new() else { return 0 };
    pulp::Simd::vectorize(
        simd,
        #[inline(always)]
        || steps(simd, bytes, bytemuck::cast_slice_mut(out)),
    )
}

#[inline(always)]
fn steps(simd: V4, bytes: &[u8], out: &mut [u8]) -> usize {
    let (f, bw) = (simd.avx512f, simd.avx512bw);
    let mut done = 0;
    while let Some(read) = bytes[done..].first_chunk::<READ>()
        && let Some(out) = out[done * GROUP..].first_chunk_mut::<WRITE>()
    {
        let each = bw._mm512_shuffle_epi8(pulp::cast([*read; 4]), pulp::cast(SOURCE));
        let illegal = bw._mm512_cmpgt_epu8_mask(each, pulp::cast([242u8; WRITE]));
        let each = bw._mm512_mask_blend_epi8(illegal, each, pulp::cast([ZEROS; WRITE]));
        let even = f._mm512_and_si512(each, pulp::cast([0x00FFu16; WRITE / 2]));
        let odd = bw._mm512_srli_epi16::<8>(each);
        let three = pulp::cast([3u16; WRITE / 2]);
        let even = bw._mm512_mulhi_epu16(bw._mm512_mullo_epi16(even, pulp::cast(FACTORS[0])), three);
        let odd = bw._mm512_mulhi_epu16(bw._mm512_mullo_epi16(odd, pulp::cast(FACTORS[1])), three);
        let digits = f._mm512_or_si512(even, bw._mm512_slli_epi16::<8>(odd));
        *out = pulp::cast(bw._mm512_sub_epi8(digits, pulp::cast([1u8; WRITE])));
        done += STEP;
    }
    done
}
