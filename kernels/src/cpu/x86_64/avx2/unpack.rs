//! Turns stored bytes into bytes in the form of t2: weight w + 1 of columns 4j to 4j + 3 in bits 0, 2, 4 and 6. Look-ups take four bits here, so larger
//! tables are made of several.

use std::arch::x86_64::*;

use crate::cpu::x86_64::{PAIRS, byte_of, sign};

/// A table of 16 bytes, twice.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn table(table: &[i8; 16]) -> __m256i {
    // SAFETY: 16 bytes are there.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_broadcastsi128_si256(table)
}

/// Looks numbers below 32 up: a look-up gives zero where the highest bit of its index is set, which is why each half of the table is asked with
/// indices that have it set for the numbers of the other half.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(tables: &[__m256i; 2], index: __m256i) -> __m256i {
    let below = _mm256_shuffle_epi8(tables[0], _mm256_adds_epu8(index, _mm256_set1_epi8(0x70)));
    let above = _mm256_shuffle_epi8(tables[1], _mm256_sub_epi8(index, _mm256_set1_epi8(16)));
    _mm256_or_si256(below, above)
}

/// The 6-bit codes of nm-6b.
pub(super) struct Codes {
    /// Makes of twelve bytes four words of the three bytes that hold four codes.
    words: [__m256i; 2],
    /// The weights of codes 0 to 31.
    trits: [__m256i; 2],
}

impl Codes {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new() -> Self {
        let words = [0, 4].map(|offset| {
            let words: [i8; 16] = std::array::from_fn(|i| if i % 4 == 3 { -1 } else { (i / 4 * 3 + i % 4) as i8 });
            (words, words.map(|byte| if byte < 0 { byte } else { byte + offset }))
        });
        let (first, shifted) = (table(&words[0].0), table(&words[1].1));
        Self { words: [first, _mm256_blend_epi32::<0xF0>(first, shifted)], trits: [table(&TRITS[0]), table(&TRITS[1])] }
    }

    /// From 48 bytes of codes, of which are given those from 0, 12, 24 and 32 on.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(&self, a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> [__m256i; 2] {
        let first = _mm256_shuffle_epi8(_mm256_set_m128i(b, a), self.words[0]);
        let second = _mm256_shuffle_epi8(_mm256_set_m128i(d, c), self.words[1]);
        [self.trits(first), self.trits(second)]
    }

    /// From words of four codes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn trits(&self, words: __m256i) -> __m256i {
        let first = _mm256_and_si256(words, _mm256_set1_epi32(0x3F));
        let second = _mm256_and_si256(_mm256_slli_epi32::<2>(words), _mm256_set1_epi32(0x3F00));
        let third = _mm256_and_si256(_mm256_slli_epi32::<4>(words), _mm256_set1_epi32(0x3F_0000));
        let fourth = _mm256_and_si256(_mm256_slli_epi32::<6>(words), _mm256_set1_epi32(0x3F00_0000));
        let codes = _mm256_or_si256(_mm256_or_si256(first, second), _mm256_or_si256(third, fourth));
        // Code 32 is taken for code 16, and then put right.
        let trits = look_up(&self.trits, codes);
        let is_last = _mm256_cmpeq_epi8(codes, _mm256_set1_epi8(32));
        let wrong = TRITS[1][0] ^ byte_of([0, 0, -1, -1]);
        _mm256_xor_si256(trits, _mm256_and_si256(is_last, _mm256_set1_epi8(wrong)))
    }
}

static TRITS: [[i8; 16]; 2] = {
    let mut tables = [[byte_of([0; 4]); 16]; 2];
    let mut code = 1;
    while code < 32 {
        let mut trits = [0; 4];
        if code < 9 {
            trits[(code - 1) / 2] = sign((code - 1) % 2);
        } else {
            let (i, j) = PAIRS[(code - 9) / 4];
            trits[i] = sign((code - 9) % 2);
            trits[j] = sign((code - 9) / 2 % 2);
        }
        tables[code / 16][code % 16] = byte_of(trits);
        code += 1;
    }
    tables
};

/// The bytes of t5: Σ digit(i) · 3^i = low + 27 · high, with three digits in the low part and two in the high one.
pub(super) struct Fives {
    /// 27 · high.
    products: __m256i,
    /// The digits of the low part.
    low: [__m256i; 2],
    /// The first digit of the high part, in its place.
    fourth: __m256i,
    fifth: __m256i,
}

impl Fives {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new() -> Self {
        Self {
            products: table(&std::array::from_fn(|high| if high < 9 { (27 * high) as u8 as i8 } else { 0 })),
            low: [table(&LOW[0]), table(&LOW[1])],
            fourth: table(&std::array::from_fn(|high| ((high % 3) << 6) as u8 as i8)),
            fifth: table(&std::array::from_fn(|high| (high / 3) as i8)),
        }
    }

    /// The first four digits of every byte, and the fifth.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(&self, bytes: __m256i) -> (__m256i, __m256i) {
        // Below 243, x · 2428 / 2^16 rounded down is x / 27 rounded down.
        let reciprocal = _mm256_set1_epi16(2428);
        let even = _mm256_mulhi_epu16(_mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), reciprocal);
        let odd = _mm256_mulhi_epu16(_mm256_srli_epi16::<8>(bytes), reciprocal);
        let high = _mm256_or_si256(even, _mm256_slli_epi16::<8>(odd));
        let low = _mm256_sub_epi8(bytes, _mm256_shuffle_epi8(self.products, high));
        let four = _mm256_or_si256(look_up(&self.low, low), _mm256_shuffle_epi8(self.fourth, high));
        (four, _mm256_shuffle_epi8(self.fifth, high))
    }
}

static LOW: [[i8; 16]; 2] = {
    let mut tables = [[0; 16]; 2];
    let mut low = 0;
    while low < 27 {
        tables[low / 16][low % 16] = ((low % 3) | ((low / 3 % 3) << 2) | ((low / 9) << 4)) as i8;
        low += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_reciprocal_divides_every_byte_by_27() {
        assert!((0..243u32).all(|x| (x * 2428) >> 16 == x / 27));
    }
}
