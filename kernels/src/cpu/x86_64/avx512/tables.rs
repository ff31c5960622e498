//! Tables, kept in registers, that turn stored bytes into bytes in the form of t2: weight w + 1 of columns 4j to 4j + 3 in bits 0, 2, 4 and 6.

use std::arch::x86_64::*;

use crate::cpu::gemv::Line;
use crate::cpu::x86_64::{PAIRS, byte_of, sign};

/// Loads a table.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn table(line: &Line) -> __m512i {
    // SAFETY: a reference to 64 bytes, aligned to them.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

/// The 6-bit codes of nm-6b.
pub(super) struct Codes {
    /// Where the six bytes of every eight codes are.
    spread: __m512i,
    /// Where each of the eight codes begins among them.
    begins: __m512i,
    /// The weights of every code.
    trits: __m512i,
}

impl Codes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new() -> Self {
        Self { spread: table(&SPREAD), begins: table(&BEGINS), trits: table(&TRITS) }
    }

    /// From 48 bytes of codes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn unpack(&self, bytes: __m512i) -> __m512i {
        let eights = _mm512_permutexvar_epi8(self.spread, bytes);
        // Above every code are bits of the next, which the look-up does not look at.
        let codes = _mm512_multishift_epi64_epi8(self.begins, eights);
        _mm512_permutexvar_epi8(codes, self.trits)
    }
}

static SPREAD: Line = {
    let mut line = [0; 64];
    let mut i = 0;
    while i < 64 {
        let byte = i / 8 * 6 + i % 8;
        line[i] = if byte < 48 { byte as i8 } else { 0 };
        i += 1;
    }
    Line(line)
};

static BEGINS: Line = {
    let mut line = [0; 64];
    let mut i = 0;
    while i < 64 {
        line[i] = (i % 8 * 6) as i8;
        i += 1;
    }
    Line(line)
};

static TRITS: Line = {
    let mut line = [byte_of([0; 4]); 64];
    let mut code = 1;
    while code <= 32 {
        let mut trits = [0; 4];
        if code < 9 {
            trits[(code - 1) / 2] = sign((code - 1) % 2);
        } else {
            let (i, j) = PAIRS[(code - 9) / 4];
            trits[i] = sign((code - 9) % 2);
            trits[j] = sign((code - 9) / 2 % 2);
        }
        line[code] = byte_of(trits);
        code += 1;
    }
    Line(line)
};

/// The bytes of t5: Σ digit(i) · 3^i.
pub(super) struct Fives {
    /// The first four digits in the form of t2, of every byte without its last digit.
    four: [__m512i; 2],
}

impl Fives {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new() -> Self {
        Self { four: [table(&FOURS[0]), table(&FOURS[1])] }
    }

    /// The first four digits in the form of t2, and the last one in the highest two bits, above whatever.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn unpack(&self, bytes: __m512i) -> [__m512i; 2] {
        // 81 less, unless that is below zero: it would be a larger number then.
        let less = |bytes: __m512i| _mm512_min_epu8(bytes, _mm512_sub_epi8(bytes, _mm512_set1_epi8(81)));
        let rest = less(less(bytes));
        // What was taken away is 0, 81 or 162, whose highest two bits are 0, 1 and 2.
        [_mm512_permutex2var_epi8(self.four[0], rest, self.four[1]), _mm512_sub_epi8(bytes, rest)]
    }
}

static FOURS: [Line; 2] = {
    let mut lines = [Line([0; 64]); 2];
    let mut byte = 0;
    while byte < 81 {
        let digits = [byte % 3, byte / 3 % 3, byte / 9 % 3, byte / 27 % 3];
        lines[byte / 64].0[byte % 64] = (digits[0] | digits[1] << 2 | digits[2] << 4 | digits[3] << 6) as u8 as i8;
        byte += 1;
    }
    lines
};
