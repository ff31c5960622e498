//! Turns stored bytes into bytes in the form of t2: weight w + 1 of columns 4j to 4j + 3 in bits 0, 2, 4 and 6. Look-ups take tables of up to 64 bytes
//! here, which is all that an encoding needs.

use std::arch::aarch64::*;

use super::load;
use crate::cpu::gemm::tables;

/// The 6-bit codes of nm-6b.
#[derive(Clone, Copy)]
pub(super) struct Codes(uint8x16x3_t);

impl Codes {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new() -> Self {
        let table = tables::NM6B.as_chunks::<16>().0;
        Self(uint8x16x3_t(load(&table[0]), load(&table[1]), load(&table[2])))
    }

    /// Weights of 48 bytes of codes; vector j has those of codes 4i + j, because the load parts the bytes of three that hold four codes.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn unpack(&self, bytes: &[u8; 48]) -> [uint8x16_t; 4] {
        // SAFETY: 48 bytes are readable behind the reference; the load needs no alignment.
        let uint8x16x3_t(a, b, c) = unsafe { vld3q_u8(bytes.as_ptr()) };
        let six = vdupq_n_u8(0x3F);
        let second = vsliq_n_u8::<2>(vshrq_n_u8::<6>(a), b);
        let third = vsliq_n_u8::<4>(vshrq_n_u8::<4>(b), c);
        [
            vqtbl3q_u8(self.0, vandq_u8(a, six)),
            vqtbl3q_u8(self.0, vandq_u8(second, six)),
            vqtbl3q_u8(self.0, vandq_u8(third, six)),
            vqtbl3q_u8(self.0, vshrq_n_u8::<2>(c)),
        ]
    }
}

/// The bytes of t5: Σ digit(i) · 3^i = low + 27 · high, with three digits in the low part and two in the high one.
#[derive(Clone, Copy)]
pub(super) struct Fives {
    low: uint8x16x2_t,
    fourth: uint8x16_t,
    fifth: uint8x16_t,
}

impl Fives {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new() -> Self {
        let low = uint8x16x2_t(load(&FIVES.0[0]), load(&FIVES.0[1]));
        Self { low, fourth: load(&FIVES.1), fifth: load(&FIVES.2) }
    }

    /// The first three digits of every byte in their places, the fourth, and the fifth.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn unpack(&self, bytes: uint8x16_t) -> [uint8x16_t; 3] {
        // Below 243, x · 19 / 2^9 rounded down is x / 27 rounded down.
        let low = vreinterpretq_u8_u16(vmull_u8(vget_low_u8(bytes), vdup_n_u8(19)));
        let upper = vreinterpretq_u8_u16(vmull_high_u8(bytes, vdupq_n_u8(19)));
        let high = vshrq_n_u8::<1>(vuzp2q_u8(low, upper));
        let low = vmlsq_u8(bytes, high, vdupq_n_u8(27));
        [vqtbl2q_u8(self.low, low), vqtbl1q_u8(self.fourth, high), vqtbl1q_u8(self.fifth, high)]
    }
}

/// The first three digits of numbers below 27, in their places; of numbers below 9 the first digit; and the second.
static FIVES: ([[u8; 16]; 2], [u8; 16], [u8; 16]) = {
    let mut tables = ([[0; 16]; 2], [0; 16], [0; 16]);
    let mut i = 0;
    while i < 27 {
        tables.0[i / 16][i % 16] = ((i % 3) | ((i / 3 % 3) << 2) | ((i / 9) << 4)) as u8;
        i += 1;
    }
    i = 0;
    while i < 9 {
        tables.1[i] = (i % 3) as u8;
        tables.2[i] = (i / 3) as u8;
        i += 1;
    }
    tables
};

/// The quads of nm-vi: 64 bytes, four lanes of V0 M0 V1 M1, hold 128 columns of rows g and g + 8.
#[derive(Clone, Copy)]
pub(super) struct Quads {
    /// Where the pair code of each of 16 groups is.
    pairs: uint8x16_t,
    /// Where the index nibbles of each of 16 groups of both rows are: even groups have the low one, odd groups the high one of the same byte.
    indices: [uint8x16_t; 2],
    /// The weight of both rows by pair code, four times.
    codes: [uint8x16_t; 2],
    /// The bits of the first and the second weight by index nibble.
    places: [uint8x16_t; 2],
    /// Four zeros.
    zeros: uint8x16_t,
}

impl Quads {
    /// Tables that make of a weight of zero the code 1, joined with `flip` by "xor" as all codes are.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(flip: u8) -> Self {
        let flip = vdupq_n_u8(flip);
        let code = |row: usize| veorq_u8(load(&QUADS.codes[row]), flip);
        Self {
            pairs: load(&QUADS.pairs),
            indices: [load(&QUADS.indices[0]), load(&QUADS.indices[1])],
            codes: [code(0), code(1)],
            places: [load(&QUADS.places[0]), load(&QUADS.places[1])],
            zeros: veorq_u8(vdupq_n_u8(ZEROS), flip),
        }
    }

    /// The first and the second 16 groups, each of both rows.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn unpack(&self, quad: &[u8; 64]) -> [[uint8x16_t; 2]; 2] {
        // SAFETY: 64 bytes are readable behind the reference; the load needs no alignment.
        let uint32x4x4_t(v0, m0, v1, m1) = unsafe { vld4q_u32(quad.as_ptr().cast()) };
        [
            self.groups(vreinterpretq_u8_u32(v0), vreinterpretq_u8_u32(m0)),
            self.groups(vreinterpretq_u8_u32(v1), vreinterpretq_u8_u32(m1)),
        ]
    }

    /// 16 groups of both rows.
    #[inline]
    #[target_feature(enable = "neon")]
    fn groups(&self, values: uint8x16_t, indices: uint8x16_t) -> [uint8x16_t; 2] {
        let fifteen = vdupq_n_u8(15);
        let pairs = vqtbl1q_u8(values, self.pairs);
        let (first, second) = (vandq_u8(pairs, fifteen), vshrq_n_u8::<4>(pairs));
        let halves = vreinterpretq_s8_u16(vdupq_n_u16(0xFC00));
        let mut rows = [self.zeros; 2];
        for (r, row) in rows.iter_mut().enumerate() {
            let twice = vqtbl1q_u8(indices, self.indices[r]);
            let nibbles = vandq_u8(vshlq_u8(twice, halves), fifteen);
            let first = vbslq_u8(vqtbl1q_u8(self.places[0], nibbles), vqtbl1q_u8(self.codes[r], first), *row);
            *row = vbslq_u8(vqtbl1q_u8(self.places[1], nibbles), vqtbl1q_u8(self.codes[r], second), first);
        }
        rows
    }
}

/// Four zeros.
const ZEROS: u8 = 0x55;

/// The tables of [`Quads`].
struct Bytes {
    pairs: [u8; 16],
    indices: [[u8; 16]; 2],
    codes: [[u8; 16]; 2],
    places: [[u8; 16]; 2],
}

static QUADS: Bytes = {
    // Of the 64 bytes of a quad, every fourth word is taken together.
    const fn place(at: u8) -> u8 {
        at / 16 * 4 + at % 4
    }
    let mut bytes = Bytes { pairs: [0; 16], indices: [[0; 16]; 2], codes: [[0; 16]; 2], places: [[0; 16]; 2] };
    let mut i = 0;
    while i < 16 {
        bytes.pairs[i] = place(tables::PLACES[0][i].0);
        let mut row = 0;
        while row < 2 {
            bytes.indices[row][i] = place(tables::PLACES[row][i].1);
            bytes.codes[row][i] = ZEROS ^ [0, 0xFF, 0x55][tables::PAIRS[row][i] as usize];
            row += 1;
        }
        bytes.places[0][i] = 3 << (2 * (i % 4));
        bytes.places[1][i] = 3 << (2 * (i / 4));
        i += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_reciprocal_divides_every_byte_by_27() {
        assert!((0..243u32).all(|x| (x * 19) >> 9 == x / 27));
    }
}
