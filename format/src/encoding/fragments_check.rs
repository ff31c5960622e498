//! The fast check of fragments: whether all codes, nibbles and their combination are legal, without decoding.
//!
//! It works on bit planes. A nibble of a V word is a pair code b3 b2 b1 b0; the value of row g is zero if `b3 | b1 & !b0`, that of row g + 8 if
//! `b3 | b0 & !b1`. These flags of a quad's four V words are moved to where the M words have the same groups, and there compared with the indices. A tile is
//! transposed first, so that one vector holds the same word of all sixteen quad halves. What is wrong, and where, is left to the slow check.

use super::fragments::TILE;
use super::simd;

/// Whether all tiles obey R086 to R088; `one` for the pattern 1:4.
pub(super) fn legal(bytes: &[u8], one: bool) -> bool {
    let tiles = bytes.as_chunks::<TILE>().0;
    if one { simd::run(Legal::<true>(tiles)) } else { simd::run(Legal::<false>(tiles)) }
}

struct Legal<'a, const ONE: bool>(&'a [[u8; TILE]]);

impl<const ONE: bool> simd::Kernel for Legal<'_, ONE> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut offences = [0u32; 16];
        for tile in self.0 {
            check_tile::<ONE>(tile, &mut offences);
        }
        offences.iter().all(|&o| o == 0)
    }
}

/// One word of all sixteen quad halves.
type Plane = [u32; 16];

#[inline(always)]
fn map(f: impl Fn(usize) -> u32) -> Plane {
    let mut out = [0; 16];
    for (i, o) in out.iter_mut().enumerate() {
        *o = f(i);
    }
    out
}

/// The words of lane c of all quads, `which` = 0 for V, 1 for M: element 2g + h.
#[inline(always)]
fn plane(words: &[[u8; 4]; 128], c: usize, which: usize) -> Plane {
    map(|i| u32::from_le_bytes(words[16 * (i / 2) + 4 * c + 2 * (i % 2) + which]))
}

#[inline(always)]
fn check_tile<const ONE: bool>(tile: &[u8; TILE], offences: &mut Plane) {
    const ONES: u32 = 0x1111_1111;
    let mut words = [[0; 4]; 128];
    words.copy_from_slice(tile.as_chunks().0);
    let words = &words;

    // For each lane of the quad: illegal pair codes, and per group a nibble of zero flags: slot 0 of row g, of row g + 8, slot 1 of both.
    let (mut bad, mut flags) = ([0; 16], [[0; 16]; 4]);
    for (c, flags) in flags.iter_mut().enumerate() {
        let v = plane(words, c, 0);
        *flags = map(|i| {
            let (b0, b1, b3) = (v[i], v[i] >> 1, v[i] >> 3);
            let zero_u = (b3 | b1 & !b0) & ONES;
            let zero_w = (b3 | b0 & !b1) & ONES;
            let both = zero_u | zero_w << 1;
            let of_group = (both | both >> 2) & 0x0F0F_0F0F;
            (of_group | of_group >> 4) & 0x00FF_00FF
        });
        bad = map(|i| bad[i] | (v[i] >> 3 & (v[i] | v[i] >> 1 | v[i] >> 2)) & ONES);
    }
    let low = map(|i| flags[0][i] | flags[1][i] << 8);
    let high = map(|i| flags[2][i] | flags[3][i] << 8);
    let zeros = [map(|i| low[i] & 0xFFFF | high[i] << 16), map(|i| low[i] >> 16 | high[i] & 0xFFFF_0000)];

    for c in 0..4 {
        let m = plane(words, c, 1);
        let zeros = &zeros[c / 2];
        bad = map(|i| {
            let (m0, m1, m2, m3) = (m[i], m[i] >> 1, m[i] >> 2, m[i] >> 3);
            let ascending = m3 & !m1 | !(m3 ^ m1) & m2 & !m0;
            let zero_0 = zeros[i] >> (c % 2);
            let zero_1 = zeros[i] >> (2 + c % 2);
            let not_smallest = zero_0 & (m0 | m1) | zero_1 & (m0 | m1 | m3 | !m2);
            let two = if ONE { !(zero_0 | zero_1) } else { 0 };
            bad[i] | (!ascending | not_smallest | two) & ONES
        });
    }
    *offences = map(|i| offences[i] | bad[i]);
}
