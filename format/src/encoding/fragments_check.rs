//! The fast check of fragments: whether all codes, nibbles and their combination are legal, without decoding.
//!
//! It works on bit planes. A nibble of a V word is a pair code b3 b2 b1 b0; the value of row g is zero if `b3 | b1 & !b0`, that of row g + 8 if
//! `b3 | b0 & !b1`. These flags of a quad's four V words are moved to where the M words have the same groups, and there compared with the indices.
//! A few tiles are transposed first: then the same words of many quads lie side by side, and the check of one quad vectorises over all of them. What
//! is wrong, and where, is left to the slow check. On x86-64 the shuffles of `fragments_check_x86` are faster and take its place.

use super::fragments::TILE;
use super::simd;

/// Whether all tiles obey R086 to R088; `one` for the pattern 1:4.
pub(super) fn legal(bytes: &[u8], one: bool) -> bool {
    check(bytes, TILE, one, 0)
}

/// Whether all strips, of `strip` bytes each, obey R086 to R088 for 2:4 and R090 for blocks of `windows` groups.
pub(super) fn legal_windows(bytes: &[u8], strip: usize, windows: usize) -> bool {
    check(bytes, strip, false, windows)
}

fn check(bytes: &[u8], strip: usize, one: bool, windows: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use super::fragments_check_x86 as x86;
        if let Some(legal) = x86::legal(bytes, x86::Rules { tiles: strip / TILE, one, windows }) {
            return legal;
        }
    }
    portable(bytes, strip, one, windows)
}

/// The check for machines without one of their own; `windows` is 0 for fragments.
pub(super) fn portable(bytes: &[u8], strip: usize, one: bool, windows: usize) -> bool {
    let tiles = bytes.as_chunks().0;
    if windows == 0 {
        return if one { simd::run(Legal::<true>(tiles)) } else { simd::run(Legal::<false>(tiles)) };
    }
    let batches = (strip / TILE).div_ceil(TILES);
    let later = (0..batches).map(|batch| later_windows(batch * TILES, windows)).collect();
    simd::run(LegalWindows { tiles, strip_tiles: strip / TILE, later })
}

/// Tiles that are checked at a time.
const TILES: usize = 4;
/// Their quads.
const QUADS: usize = 8 * TILES;
/// A word of every quad: element 8t + g for quad g of tile t.
type Plane = [u64; QUADS];

/// One bit for each nibble.
const ONES: u64 = 0x1111_1111_1111_1111;
const LOW: u64 = 0xFFFF_FFFF;
/// V0 and M0, or V1 and M1, of groups that hold nothing.
const NOTHING: u64 = 0x4444_4444_8888_8888;

struct Legal<'a, const ONE: bool>(&'a [[u8; TILE]]);

impl<const ONE: bool> simd::Kernel for Legal<'_, ONE> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut batch = Batch::new();
        // Loops, not iterator methods with closures: those would be compiled without the vector features.
        for tiles in self.0.chunks(TILES) {
            batch.load(tiles);
            if batch.check::<ONE, false>() != 0 {
                return false;
            }
        }
        true
    }
}

struct LegalWindows<'a> {
    tiles: &'a [[u8; TILE]],
    strip_tiles: usize,
    /// For every batch of a strip the groups that have a window of the same block to their left: in the first and the second half of a tile's row.
    later: Vec<[Plane; 2]>,
}

impl simd::Kernel for LegalWindows<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut batch = Batch::new();
        for strip in self.tiles.chunks_exact(self.strip_tiles) {
            batch.begin_strip();
            for (tiles, later) in strip.chunks(TILES).zip(&self.later) {
                batch.load(tiles);
                if batch.check::<false, true>() | batch.misplaced(later) != 0 {
                    return false;
                }
            }
        }
        true
    }
}

/// A few tiles under check.
struct Batch {
    /// Of lane c and half h, in plane 2c + h: V in the low, M in the high half of every u64.
    words: [Plane; 8],
    /// For rows g and g + 8: which columns of every group hold a non-zero, for the first and the second half of the tile. The second half is preceded by
    /// that of the tile before.
    taken: [(Plane, [u64; QUADS + 8]); 2],
}

impl Batch {
    #[inline(always)]
    fn new() -> Self {
        Self { words: [[NOTHING; QUADS]; 8], taken: [([0; QUADS], [0; QUADS + 8]); 2] }
    }

    /// Transposes tiles; where there are fewer than a batch, the rest hold nothing. Not inlined, and so compiled without the vector features: copies of
    /// words are faster than the gathers that these features tempt the compiler to use.
    #[inline(never)]
    fn load(&mut self, tiles: &[[u8; TILE]]) {
        if tiles.len() < TILES {
            self.words = [[NOTHING; QUADS]; 8];
        }
        let quads = tiles.as_flattened().as_chunks::<64>().0;
        for (i, quad) in quads.iter().enumerate().take(QUADS) {
            for (plane, word) in self.words.iter_mut().zip(quad.as_chunks().0) {
                plane[i] = u64::from_le_bytes(*word);
            }
        }
    }

    /// Not zero if R086 to R088 are broken. Keeps the columns taken if `TAKEN`.
    #[inline(always)]
    fn check<const ONE: bool, const TAKEN: bool>(&mut self) -> u64 {
        let mut offences = 0;
        for i in 0..QUADS {
            // Both halves of the tile together: half 0 in the low half of every u64, half 1 in the high half.
            let word = |c: usize, h: usize| self.words[2 * c + h][i];
            let mut flags = [0; 4];
            for (c, flags) in flags.iter_mut().enumerate() {
                let v = word(c, 0) & LOW | word(c, 1) << 32;
                offences |= v >> 3 & (v | v >> 1 | v >> 2);
                *flags = zeros_of_groups(v);
            }
            let mut taken = [0; 4];
            for (c, taken) in taken.iter_mut().enumerate() {
                let m = word(c, 0) >> 32 | word(c, 1) & !LOW;
                // Lanes 0 and 1 have the indices of the groups in byte 0 of all lanes' flags, lanes 2 and 3 of those in byte 2.
                let byte = |lane: usize| flags[lane] >> (16 * (c / 2)) & 0xFF_0000_00FF;
                let zeros = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
                // Even lanes have the indices of row g, odd lanes of row g + 8.
                let (zero_0, zero_1) = (zeros >> (c % 2), zeros >> (2 + c % 2));
                offences |= bad_indices::<ONE>(m, zero_0, zero_1);
                *taken = taken_columns(m, !zero_0, !zero_1);
            }
            if TAKEN {
                for (row, (first, second)) in self.taken.iter_mut().enumerate() {
                    first[i] = taken[row] & LOW | taken[row + 2] << 32;
                    second[i + 8] = taken[row] >> 32 | taken[row + 2] & !LOW;
                }
            }
        }
        offences & ONES
    }

    /// Forgets the tile before.
    #[inline(always)]
    fn begin_strip(&mut self) {
        for (_, second) in &mut self.taken {
            second[..8].fill(0);
        }
    }

    /// Not zero if a non-zero of a `later` window would have had room in the window to the left (R090).
    #[inline(always)]
    fn misplaced(&mut self, later: &[Plane; 2]) -> u64 {
        let mut offences = 0;
        for (first, second) in &mut self.taken {
            for i in 0..QUADS {
                let (before, first, second) = (second[i], first[i], second[i + 8]);
                offences |= had_room(first, first << 4 | before >> 60) & later[0][i];
                offences |= had_room(second, second << 4 | first >> 60) & later[1][i];
            }
            second.copy_within(QUADS.., 0);
        }
        offences
    }
}

/// A nibble of flags for each group of a V word: whether slot 0 of row g, of row g + 8, and slot 1 of both are zero. Two groups are in byte 0, two in
/// byte 2.
#[inline(always)]
fn zeros_of_groups(v: u64) -> u64 {
    let (b0, b1, b3) = (v, v >> 1, v >> 3);
    let zero_u = (b3 | b1 & !b0) & ONES;
    let zero_w = (b3 | b0 & !b1) & ONES;
    let both = zero_u | zero_w << 1;
    let of_group = (both | both >> 2) & 0x0F0F_0F0F_0F0F_0F0F;
    (of_group | of_group >> 4) & 0x00FF_00FF_00FF_00FF
}

/// In bit 0 of every nibble, whether it is no index pair or not the smallest for values that are zero where bit 0 of `zero_0` and `zero_1` says so.
#[inline(always)]
fn bad_indices<const ONE: bool>(m: u64, zero_0: u64, zero_1: u64) -> u64 {
    let (m0, m1, m2, m3) = (m, m >> 1, m >> 2, m >> 3);
    let ascending = m3 & !m1 | !(m3 ^ m1) & m2 & !m0;
    let not_smallest = zero_0 & (m0 | m1) | zero_1 & (m0 | m1 | m3 | !m2);
    let two = if ONE { !(zero_0 | zero_1) } else { 0 };
    !ascending | not_smallest | two
}

/// In bit k of every nibble, whether a value of the group is in column k and not zero.
#[inline(always)]
fn taken_columns(m: u64, some_0: u64, some_1: u64) -> u64 {
    let (m0, m1, m2, m3) = (m, m >> 1, m >> 2, m >> 3);
    let column_0 = some_0 & !(m0 | m1) & ONES;
    let column_1 = (some_0 & m0 & !m1 | some_1 & m2 & !m3) & ONES;
    let column_2 = (some_0 & m1 & !m0 | some_1 & m3 & !m2) & ONES;
    let column_3 = some_1 & m2 & m3 & ONES;
    column_0 | column_1 << 1 | column_2 << 2 | column_3 << 3
}

/// In bit 0 of every nibble, whether a non-zero in column 0 or 1 would have had room in the group to the left. Column 0 is the left group's column 2,
/// column 1 its column 3: there both lower ones, or two of the lower three, must be taken.
#[inline(always)]
fn had_room(taken: u64, left: u64) -> u64 {
    let (l0, l1, l2) = (left, left >> 1, left >> 2);
    taken & !(l0 & l1) | taken >> 1 & !(l0 & l1 | l2 & (l0 | l1))
}

/// Bit 0 of the nibbles of all groups, in a batch that begins with this tile, that have a window of the same block to their left.
fn later_windows(tile: usize, windows: usize) -> [Plane; 2] {
    std::array::from_fn(|half| {
        std::array::from_fn(|i| {
            let first = 32 * (tile + i / 8) + 16 * half;
            (0..16).filter(|q| !(first + q).is_multiple_of(windows)).map(|q| 1 << (4 * q)).sum()
        })
    })
}
