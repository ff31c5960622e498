//! The fast check of fragments with AVX2 and AVX-512, through pulp's tokens: whoever holds one has seen that the machine has the feature.
//!
//! A register holds the groups of one quad (AVX2) or two (AVX-512), each half quad in a lane of 128 bits with group q in byte q. Two words and four
//! shuffles bring V and M there. What has to be known of a pair code or an index nibble then comes out of a table of 16 bytes, by one more shuffle.
//!
//! ```text
//! byte q of v     slot 1 | slot 0              pair codes of rows g and g + 8
//! byte q of u, w  flags of an index nibble     of row g, of row g + 8
//! ```

use std::arch::x86_64::{__m256i, __m512i};

use pulp::x86::{V3, V4};

use super::fragments::{PAIR_VALUES, TILE};

/// Bytes of a quad.
const QUAD: usize = 64;

/// What the check needs to know beside the bytes.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Tiles side by side; any number for fragments.
    pub(super) tiles: usize,
    /// Pattern 1:4: one slot of each group is zero.
    pub(super) one: bool,
    /// Windows of a block, or 0 for fragments.
    pub(super) windows: usize,
}

/// The verdict, or nothing on a machine without these features.
pub(super) fn legal(bytes: &[u8], rules: Rules) -> Option<bool> {
    match pulp::Arch::new() {
        pulp::Arch::V4(simd) => Some(tiles_hold(Avx512(simd), bytes, rules)),
        pulp::Arch::V3(simd) => Some(tiles_hold(Avx2(simd), bytes, rules)),
        _ => None,
    }
}

/// V of a half quad, its bytes in the order of the groups.
const GROUP_ORDER: [u8; 16] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// By pair code of slot 0: bits 0 (u) and 2 (w) set where the value is zero, bits 4, 5 (u) and 6, 7 (w) where it is not.
/// Slot 1: bits 1 and 3, and the same upper ones.
const SLOTS: [[u8; 16]; 2] = {
    let mut tables = [[0; 16]; 2];
    let mut code = 0;
    while code < 9 {
        let (u, w) = PAIR_VALUES[code];
        let upper = if u != 0 { 0x30 } else { 0 } | if w != 0 { 0xC0 } else { 0 };
        let lower = if u == 0 { 1 } else { 0 } | if w == 0 { 4 } else { 0 };
        tables[0][code] = upper | lower;
        tables[1][code] = upper | lower << 1;
        code += 1;
    }
    tables
};

/// By index nibble: bit 0: i0 ≠ 0; bit 1: not 4; bits 2, 3: a full group is full below its columns 2, 3 (i1 < 2, i1 < 3);
/// bits 4, 5: slot 0 is column 0, 1; bit 7: not an index nibble.
const NIBBLES: [u8; 16] = {
    let mut table = [0x80; 16];
    let mut i1 = 1;
    while i1 < 4 {
        let mut i0 = 0;
        while i0 < i1 {
            let mut flags = 0;
            flags |= (i0 != 0) as u8;
            flags |= ((i1 != 1) as u8) << 1;
            flags |= ((i1 < 2) as u8) << 2 | ((i1 < 3) as u8) << 3;
            flags |= ((i0 == 0) as u8) << 4 | ((i0 == 1) as u8) << 5;
            table[i0 + 4 * i1] = flags;
            i0 += 1;
        }
        i1 += 1;
    }
    table
};

/// A register of groups and what the check does with it.
trait Lanes: Copy {
    /// The register.
    type R: Copy;
    /// Quads in a register.
    const QUADS: usize;
    /// Runs `check` with the processor's features enabled.
    fn run(self, check: impl FnOnce() -> bool) -> bool;
    /// The words V and M of consecutive quads, each half quad in a lane.
    fn load(self, quads: &[u8]) -> (Self::R, Self::R);
    /// 16 bytes in every lane.
    fn each(self, lane: [u8; 16]) -> Self::R;
    /// 32 bytes in every pair of lanes.
    fn each_pair(self, lanes: &[u8; 32]) -> Self::R;
    fn and(self, a: Self::R, b: Self::R) -> Self::R;
    fn or(self, a: Self::R, b: Self::R) -> Self::R;
    /// `!a & b`
    fn and_not(self, a: Self::R, b: Self::R) -> Self::R;
    fn max(self, a: Self::R, b: Self::R) -> Self::R;
    /// 16-bit shifts: the caller masks what crosses bytes.
    fn shl<const N: i32>(self, a: Self::R) -> Self::R;
    fn shr<const N: i32>(self, a: Self::R) -> Self::R;
    /// In each lane, byte i of the result is byte `at[i]` of `table`.
    fn shuffle(self, table: Self::R, at: Self::R) -> Self::R;
    fn interleave_low_bytes(self, a: Self::R, b: Self::R) -> Self::R;
    fn interleave_high_bytes(self, a: Self::R, b: Self::R) -> Self::R;
    fn low_halves(self, a: Self::R, b: Self::R) -> Self::R;
    fn high_halves(self, a: Self::R, b: Self::R) -> Self::R;
    /// Each quad's 32 groups moved on by one; the first becomes the last of the tile before.
    fn next(self, groups: Self::R, before: Self::R) -> Self::R;
    /// Whether any byte exceeds `limit`.
    fn any_above(self, a: Self::R, limit: u8) -> bool;
}

/// Whether R086 to R088, and for windows R090, hold for rows of whole tiles.
fn tiles_hold<L: Lanes>(lanes: L, bytes: &[u8], rules: Rules) -> bool {
    lanes.run(
        #[inline(always)]
        || {
            if rules.windows > 0 { hold::<L, true>(lanes, bytes, rules) } else { hold::<L, false>(lanes, bytes, rules) }
        },
    )
}

#[inline(always)]
fn hold<L: Lanes, const WINDOWS: bool>(lanes: L, bytes: &[u8], rules: Rules) -> bool {
    let l = lanes;
    let splat = |byte| l.each([byte; 16]);
    let (nibble, order) = (splat(15), l.each(GROUP_ORDER));
    let (slot0, slot1, index) = (l.each(SLOTS[0]), l.each(SLOTS[1]), l.each(NIBBLES));
    let one = splat(if rules.one { 0b0101 } else { 0 });
    let inner = inner_windows(rules.windows);
    let phases = rules.windows.max(1);

    let (mut bad, mut codes) = (splat(0), splat(0));
    for tile_row in bytes.chunks_exact(TILE * rules.tiles) {
        let mut full_before = [splat(0); 8];
        let mut phase = 0;
        for tile in tile_row.chunks_exact(TILE) {
            for (quads, full_before) in tile.chunks_exact(QUAD * L::QUADS).zip(&mut full_before) {
                let (v, m) = l.load(quads);
                let v = l.shuffle(v, order);
                let (v0, v1) = (l.and(v, nibble), l.and(l.shr::<4>(v), nibble));
                codes = l.max(codes, l.max(v0, v1));
                let (v0, v1) = (l.shuffle(slot0, v0), l.shuffle(slot1, v1));
                let (low, high) = (l.and(m, nibble), l.and(l.shr::<4>(m), nibble));
                let (low, high) = (l.shuffle(index, low), l.shuffle(index, high));
                bad = l.or(bad, l.and(l.or(low, high), splat(0x80)));
                let (first, second) = (l.interleave_low_bytes(low, high), l.interleave_high_bytes(low, high));
                let (u, w) = (l.low_halves(first, second), l.high_halves(first, second));

                // R088: a zero value and an index that only a non-zero one may have.
                let zero = l.or(v0, v1);
                let needs = l.or(l.and(u, splat(0b0011)), l.and(l.shl::<2>(w), splat(0b1100)));
                bad = l.or(bad, l.and(zero, needs));
                bad = l.or(bad, l.and_not(l.or(zero, l.shr::<1>(zero)), one));

                if WINDOWS {
                    // R090, in the upper half of each byte: columns 0 and 1 of a window against the one before.
                    let slot0_column = l.or(l.and(u, splat(0x30)), l.and(l.shl::<2>(w), splat(0xC0)));
                    let below = l.or(l.and(l.shl::<2>(u), splat(0x30)), l.and(l.shl::<4>(w), splat(0xC0)));
                    let slot1_is_1 = l.and(l.shl::<1>(below), splat(0xA0));
                    let head = l.or(l.and(v0, slot0_column), l.and(v1, slot1_is_1));
                    let full = l.and(l.and(v0, v1), below);
                    let late = l.and_not(l.next(full, *full_before), l.and(head, l.each_pair(&inner[phase])));
                    bad = l.or(bad, l.and(late, splat(0xF0)));
                    *full_before = full;
                }
            }
            phase = (phase + 32) % phases;
        }
    }
    !l.any_above(bad, 0) && !l.any_above(codes, 8)
}

/// For each phase, 32 groups: 0xF0 for those that are not the first window of a block.
fn inner_windows(windows: usize) -> [[u8; 32]; 8] {
    let mut inner = [[0; 32]; 8];
    for (phase, groups) in inner.iter_mut().enumerate().take(windows) {
        for (q, byte) in groups.iter_mut().enumerate() {
            *byte = if (phase + q).is_multiple_of(windows) { 0 } else { 0xF0 };
        }
    }
    inner
}

/// AVX2: a register holds one quad.
#[derive(Clone, Copy)]
struct Avx2(V3);

impl Lanes for Avx2 {
    type R = __m256i;
    const QUADS: usize = 1;

    #[inline(always)]
    fn run(self, check: impl FnOnce() -> bool) -> bool {
        pulp::Simd::vectorize(self.0, check)
    }
    #[inline(always)]
    fn load(self, quads: &[u8]) -> (Self::R, Self::R) {
        // a: V0 M0 V1 M1 of lanes 0 and 1; b: of lanes 2 and 3.
        let [a, b] = [0, 32].map(
            #[inline(always)]
            |at| pulp::cast::<[u8; 32], __m256i>(quads[at..].first_chunk().copied().unwrap_or([0; 32])),
        );
        let order = pulp::cast([0u32, 4, 1, 5, 2, 6, 3, 7]);
        let avx2 = self.0.avx2;
        let (first, second) = (avx2._mm256_unpacklo_epi32(a, b), avx2._mm256_unpackhi_epi32(a, b));
        let v = avx2._mm256_permutevar8x32_epi32(avx2._mm256_unpacklo_epi64(first, second), order);
        let m = avx2._mm256_permutevar8x32_epi32(avx2._mm256_unpackhi_epi64(first, second), order);
        (v, m)
    }
    #[inline(always)]
    fn each(self, lane: [u8; 16]) -> Self::R {
        pulp::cast([lane; 2])
    }
    #[inline(always)]
    fn each_pair(self, lanes: &[u8; 32]) -> Self::R {
        pulp::cast(*lanes)
    }
    #[inline(always)]
    fn and(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_and_si256(a, b)
    }
    #[inline(always)]
    fn or(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_or_si256(a, b)
    }
    #[inline(always)]
    fn and_not(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_andnot_si256(a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_max_epu8(a, b)
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::R) -> Self::R {
        self.0.avx2._mm256_slli_epi16::<N>(a)
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::R) -> Self::R {
        self.0.avx2._mm256_srli_epi16::<N>(a)
    }
    #[inline(always)]
    fn shuffle(self, table: Self::R, at: Self::R) -> Self::R {
        self.0.avx2._mm256_shuffle_epi8(table, at)
    }
    #[inline(always)]
    fn interleave_low_bytes(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_unpacklo_epi8(a, b)
    }
    #[inline(always)]
    fn interleave_high_bytes(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_unpackhi_epi8(a, b)
    }
    #[inline(always)]
    fn low_halves(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_unpacklo_epi64(a, b)
    }
    #[inline(always)]
    fn high_halves(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx2._mm256_unpackhi_epi64(a, b)
    }
    #[inline(always)]
    fn next(self, groups: Self::R, before: Self::R) -> Self::R {
        // The lane before each lane: the upper one of the tile before, the lower one.
        let lanes = self.0.avx2._mm256_permute2x128_si256::<0x21>(before, groups);
        self.0.avx2._mm256_alignr_epi8::<15>(groups, lanes)
    }
    #[inline(always)]
    fn any_above(self, a: Self::R, limit: u8) -> bool {
        pulp::cast::<__m256i, [u8; 32]>(a).iter().any(|&byte| byte > limit)
    }
}

/// AVX-512: a register holds two quads.
#[derive(Clone, Copy)]
struct Avx512(V4);

impl Lanes for Avx512 {
    type R = __m512i;
    const QUADS: usize = 2;

    #[inline(always)]
    fn run(self, check: impl FnOnce() -> bool) -> bool {
        pulp::Simd::vectorize(self.0, check)
    }
    #[inline(always)]
    fn load(self, quads: &[u8]) -> (Self::R, Self::R) {
        let [a, b] = [0, 64].map(
            #[inline(always)]
            |at| pulp::cast::<[u8; 64], __m512i>(quads[at..].first_chunk().copied().unwrap_or([0; 64])),
        );
        const V: [u32; 16] = [0, 4, 8, 12, 2, 6, 10, 14, 16, 20, 24, 28, 18, 22, 26, 30];
        const M: [u32; 16] = [1, 5, 9, 13, 3, 7, 11, 15, 17, 21, 25, 29, 19, 23, 27, 31];
        let (v, m) = (pulp::cast(V), pulp::cast(M));
        (self.0.avx512f._mm512_permutex2var_epi32(a, v, b), self.0.avx512f._mm512_permutex2var_epi32(a, m, b))
    }
    #[inline(always)]
    fn each(self, lane: [u8; 16]) -> Self::R {
        pulp::cast([lane; 4])
    }
    #[inline(always)]
    fn each_pair(self, lanes: &[u8; 32]) -> Self::R {
        pulp::cast([*lanes; 2])
    }
    #[inline(always)]
    fn and(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512f._mm512_and_si512(a, b)
    }
    #[inline(always)]
    fn or(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512f._mm512_or_si512(a, b)
    }
    #[inline(always)]
    fn and_not(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512f._mm512_andnot_si512(a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512bw._mm512_max_epu8(a, b)
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::R) -> Self::R {
        // The immediate form takes its amount as another type than AVX2's; of a constant the compiler makes that form.
        self.0.avx512bw._mm512_sll_epi16(a, pulp::cast([N as u64, 0]))
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::R) -> Self::R {
        self.0.avx512bw._mm512_srl_epi16(a, pulp::cast([N as u64, 0]))
    }
    #[inline(always)]
    fn shuffle(self, table: Self::R, at: Self::R) -> Self::R {
        self.0.avx512bw._mm512_shuffle_epi8(table, at)
    }
    #[inline(always)]
    fn interleave_low_bytes(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512bw._mm512_unpacklo_epi8(a, b)
    }
    #[inline(always)]
    fn interleave_high_bytes(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512bw._mm512_unpackhi_epi8(a, b)
    }
    #[inline(always)]
    fn low_halves(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512f._mm512_unpacklo_epi64(a, b)
    }
    #[inline(always)]
    fn high_halves(self, a: Self::R, b: Self::R) -> Self::R {
        self.0.avx512f._mm512_unpackhi_epi64(a, b)
    }
    #[inline(always)]
    fn next(self, groups: Self::R, before: Self::R) -> Self::R {
        // The lane before each lane: of a quad's two, the upper one of the tile before, the lower one.
        let lanes =
            self.0.avx512f._mm512_permutex2var_epi64(groups, pulp::cast([10u64, 11, 0, 1, 14, 15, 4, 5]), before);
        self.0.avx512bw._mm512_alignr_epi8::<15>(groups, lanes)
    }
    #[inline(always)]
    fn any_above(self, a: Self::R, limit: u8) -> bool {
        pulp::cast::<__m512i, [u8; 64]>(a).iter().any(|&byte| byte > limit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::{Encoding, Order, Packing, Pattern, fragments_check::portable};
    use super::*;

    /// Tiles that are legal but for a few bytes get the same verdict from every vector width as from the portable check.
    #[test]
    fn vector_widths_agree() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut below = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize % n
        };
        let arches = (V4::try_new(), V3::try_new());
        let patterns = [(1, 4), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)];
        let mut verdicts = [0, 0];
        for round in 0..4000 {
            let (n, m) = patterns[round % patterns.len()];
            let pattern = Pattern::new(n, m).unwrap();
            let (n, m) = (pattern.n(), pattern.m());
            let cols = (1 + below(700)).next_multiple_of(m);
            let mut trits: Vec<i8> = (0..32 * cols).map(|_| [-1, 0, 1, -1, 1][below(5)]).collect();
            for group in trits.chunks_mut(m) {
                while group.iter().filter(|&&t| t != 0).count() > n {
                    group[below(m)] = 0;
                }
            }
            let order = if m == 4 { Order::Fragments } else { Order::Windows };
            let packing = Packing { encoding: Encoding::NmVi, order, pattern };
            let strip = packing.strip(cols).bytes;
            let mut bytes = vec![0; 2 * strip];
            packing.encode(&trits, cols, &mut bytes).unwrap();
            // Half of the changes swap a nibble for a legal one, so that rules about several nibbles are reached.
            for _ in 0..round / patterns.len() % 3 {
                let at = below(bytes.len());
                let legal = if at & 4 == 0 { below(9) } else { [4, 8, 9, 12, 13, 14][below(6)] } as u8;
                bytes[at] = if below(2) == 0 { bytes[at] & 0xF0 | legal } else { below(256) as u8 };
            }
            let rules = Rules { tiles: strip / TILE, one: n == 1, windows: pattern.windows().unwrap_or(0) };
            let verdict = portable(&bytes, rules.tiles * TILE, rules.one, rules.windows);
            verdicts[usize::from(verdict)] += 1;
            if let Some(simd) = arches.0 {
                assert_eq!(tiles_hold(Avx512(simd), &bytes, rules), verdict, "AVX-512, {pattern}, {cols} columns");
            }
            if let Some(simd) = arches.1 {
                assert_eq!(tiles_hold(Avx2(simd), &bytes, rules), verdict, "AVX2, {pattern}, {cols} columns");
            }
        }
        assert!(verdicts.iter().all(|&n| n > 1000), "{verdicts:?}");
    }
}
