//! `nm-6b`: one 6-bit code for each group of four columns with at most two non-zeros (SPEC §10.3).
//!
//! ```text
//! three bytes hold four groups:  23‥18  17‥12  11‥6   5‥0
//!                                 4i+3   4i+2  4i+1    4i     groups of a row
//! ```

use super::{Illegal, Offence, simd, t2};
use crate::error::rule;

/// Codes in use: 1 with no non-zero, 8 with one, 24 with two.
pub(super) const CODES: u8 = 33;

/// Positions of the two non-zeros, in the order of the codes.
pub(super) const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// Trits of every code; the illegal ones read as zero.
static TRITS: [[i8; 4]; 64] = trits_of_codes();

/// Codes of every four trits in the form of `t2`; 255 where there is none.
static CODES_OF: [u8; 256] = codes_of_trits();

const fn trits_of_codes() -> [[i8; 4]; 64] {
    let mut table = [[0; 4]; 64];
    let mut code = 1;
    while code < CODES as usize {
        if code < 9 {
            table[code][(code - 1) / 2] = sign((code - 1) % 2);
        } else {
            let (i, j) = PAIRS[(code - 9) / 4];
            table[code][i] = sign((code - 9) % 2);
            table[code][j] = sign((code - 9) / 2 % 2);
        }
        code += 1;
    }
    table
}

const fn sign(bit: usize) -> i8 {
    if bit == 0 { 1 } else { -1 }
}

const fn codes_of_trits() -> [u8; 256] {
    let mut table = [255; 256];
    let mut code = 0;
    while code < CODES {
        table[t2::byte_of(TRITS_CONST[code as usize]) as usize] = code;
        code += 1;
    }
    table
}

const TRITS_CONST: [[i8; 4]; 64] = trits_of_codes();

/// Bytes of a row.
pub(super) fn row_bytes(cols: usize) -> usize {
    (cols / 4 * 3).div_ceil(4)
}

/// Encodes one row. `scratch` holds a byte for each group.
pub(super) fn encode_row(trits: &[i8], out: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), Illegal> {
    let groups = trits.as_chunks().0;
    scratch.resize(groups.len(), 0);
    t2::pack(groups, scratch);
    let mut illegal = 0;
    for byte in scratch.iter_mut() {
        *byte = CODES_OF[usize::from(*byte)];
        illegal |= *byte;
    }
    if illegal & 0x80 != 0 {
        let group = scratch.iter().position(|&code| code == 255).unwrap_or(0);
        return Err(Illegal { row: 0, col: 4 * group });
    }
    let (fours, rest) = scratch.as_chunks::<4>();
    for (codes, bytes) in fours.iter().zip(out.as_chunks_mut::<3>().0) {
        *bytes = three_of(*codes);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let tail = &mut out[3 * fours.len()..];
        let length = tail.len();
        tail.copy_from_slice(&three_of(last)[..length]);
    }
    Ok(())
}

#[inline(always)]
fn three_of(codes: [u8; 4]) -> [u8; 3] {
    let word = u32::from_le_bytes(codes);
    let word = word & 0x3F | (word & 0x3F00) >> 2 | (word & 0x003F_0000) >> 4 | (word & 0x3F00_0000) >> 6;
    let [a, b, c, _] = word.to_le_bytes();
    [a, b, c]
}

#[inline(always)]
fn four_of(bytes: [u8; 3]) -> [u8; 4] {
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    [word as u8 & 63, (word >> 6) as u8 & 63, (word >> 12) as u8 & 63, (word >> 18) as u8 & 63]
}

/// Decodes one row.
pub(super) fn decode_row(bytes: &[u8], out: &mut [i8]) {
    let (sixteens, rest) = out.as_chunks_mut::<16>();
    for (three, sixteen) in bytes.as_chunks::<3>().0.iter().zip(sixteens.iter_mut()) {
        for (code, group) in four_of(*three).into_iter().zip(sixteen.as_chunks_mut::<4>().0) {
            *group = TRITS[usize::from(code)];
        }
    }
    let mut tail = [0; 3];
    let left = &bytes[3 * sixteens.len()..];
    tail[..left.len()].copy_from_slice(left);
    for (code, group) in four_of(tail).into_iter().zip(rest.as_chunks_mut::<4>().0) {
        *group = TRITS[usize::from(code)];
    }
}

/// Whether all codes of some bytes, four codes in every three of them, are at most `MOST`, 32 or 8.
struct AtMost<'a, const MOST: u64>(&'a [u8]);

/// Words that are checked at a time. Three words hold 32 codes, so what is where in a word repeats.
const WORDS: usize = 24;

/// Where codes begin that lie in one word.
const WHOLE: [u64; WORDS] = begins(0);
/// Where codes begin that straddle words, counted from the middle of the first.
const STRADDLING: [u64; WORDS] = begins(32);

const fn begins(from: usize) -> [u64; WORDS] {
    let mut masks = [0; WORDS];
    let mut bit = 0;
    while bit < 64 * WORDS {
        let (word, at) = (bit / 64, bit % 64);
        let straddles = at > 64 - 6;
        if straddles == (from == 32) {
            masks[word] |= 1 << (at - from);
        }
        bit += 6;
    }
    masks
}

impl<const MOST: u64> simd::Kernel for AtMost<'_, MOST> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        // Every word is loaded twice, the second time four bytes further on for the codes that straddle it and the next.
        const STEP: usize = 8 * WORDS;
        let steps = self.0.len().saturating_sub(4) / STEP;
        let (here, rest) = self.0.split_at(steps * STEP);
        let further = self.0.get(4..4 + here.len()).unwrap_or_default();
        let mut illegal = [0; WORDS];
        for (here, further) in here.as_chunks::<STEP>().0.iter().zip(further.as_chunks::<STEP>().0) {
            let (here, further) = (here.as_chunks().0, further.as_chunks().0);
            for i in 0..WORDS {
                let whole = above::<MOST>(u64::from_le_bytes(here[i])) & WHOLE[i];
                let straddling = above::<MOST>(u64::from_le_bytes(further[i])) & STRADDLING[i];
                illegal[i] |= whole | straddling;
            }
        }
        let mut any = 0;
        for of_word in illegal {
            any |= of_word;
        }
        for three in rest.chunks(3) {
            let mut word = [0; 8];
            word[..three.len()].copy_from_slice(three);
            any |= above::<MOST>(u64::from_le_bytes(word)) & 0o1_01_01_01;
        }
        any == 0
    }
}

/// In the place of every code's lowest bit, whether it is above `MOST`: whether it has a higher bit than this power of two, or that bit and a lower one.
#[inline(always)]
fn above<const MOST: u64>(x: u64) -> u64 {
    if MOST == 32 {
        x >> 5 & (x | x >> 1 | x >> 2 | x >> 3 | x >> 4)
    } else {
        x >> 5 | x >> 4 | x >> 3 & (x | x >> 1 | x >> 2)
    }
}

/// Checks whole rows; the first offence by row and column.
pub(super) fn validate(bytes: &[u8], cols: usize, n: usize) -> Result<(), Offence> {
    let (width, groups) = (row_bytes(cols), cols / 4);
    let most = if n == 1 { 8 } else { CODES - 1 };
    let legal = |bytes| if n == 1 { simd::run(AtMost::<8>(bytes)) } else { simd::run(AtMost::<32>(bytes)) };
    // Where rows end on a multiple of three bytes, codes never straddle rows and all rows are one run.
    if (width.is_multiple_of(3) && groups.is_multiple_of(4)) && legal(bytes) {
        return Ok(());
    }
    for (row, bytes) in bytes.chunks_exact(width).enumerate() {
        let padding = padding_of(bytes, groups);
        if legal(bytes) && padding == 0 {
            continue;
        }
        for q in 0..groups {
            let code = code_at(bytes, q);
            if code > most {
                let expected = format!("a code of at most {most}");
                return Err(Offence::new(rule::SIX_BIT_CODE, row, 4 * q, &expected, code));
            }
        }
        if padding != 0 {
            return Err(Offence::new(rule::SIX_BIT_PADDING, row, cols, "zero bits after the last group", padding));
        }
    }
    Ok(())
}

fn code_at(row: &[u8], q: usize) -> u8 {
    let (byte, shift) = (6 * q / 8, 6 * q % 8);
    let high = row.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([row[byte], high]) >> shift) as u8 & 63
}

/// The bits after the last group of a row.
fn padding_of(row: &[u8], groups: usize) -> u8 {
    let used = 6 * groups % 8;
    if used == 0 { 0 } else { row[row.len() - 1] >> used }
}
