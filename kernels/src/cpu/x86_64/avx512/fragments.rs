//! Sums of a few tokens over nm-vi, in the order of tensor cores, straight from the bytes of the file.
//!
//! ```text
//! quads of two tiles (128 bytes)       rows g and g + 8, 256 columns
//!   ── gather V ──▶ 64 bytes of pair codes ── look up ──▶ values of row g, and of row g + 8 ─┐
//!   ── gather M ──▶ 64 index nibbles of row g, and of row g + 8 ─────────────────────────────┴─ look up ──▶ the form of t2
//! ```
//!
//! Windows are the same with activations that were gathered to match. A strip is walked through eight times, a pair of rows each time: it fits the
//! cache, and meanwhile the next strip is fetched from beginning to end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::sums::{Sums, across, load};
use super::tables::table;
use crate::cpu::Matrix;
use crate::cpu::gemv::{Line, Lines};
use crate::cpu::x86_64::{PAIR_VALUES, byte_of, fetch};

/// Rows of a strip.
const ROWS: usize = 16;
/// Bytes of a tile.
const TILE: usize = 512;
/// Bytes of a tile that belong to a pair of rows.
const QUAD: usize = 64;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn sums_of(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    let bytes = weight.data.len() / weight.rows.div_ceil(ROWS);
    let strips = weight.data[rows.start / ROWS * bytes..].chunks_exact(bytes);
    for (strip, sums) in strips.zip(sums.chunks_mut(ROWS * x.tokens)) {
        // Few tokens at a time: all accumulators of a pair of rows stay in registers.
        for token in (0..x.tokens).step_by(4) {
            let lines = &x.lines[token * x.stride..];
            let sums = &mut sums[token..];
            match x.tokens - token {
                1 => of_strip::<1>(strip, lines, x, sums),
                2 => of_strip::<2>(strip, lines, x, sums),
                3 => of_strip::<3>(strip, lines, x, sums),
                _ => of_strip::<4>(strip, lines, x, sums),
            }
        }
    }
}

/// The sums of a strip and T tokens, two pairs of rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_strip<const T: usize>(strip: &[u8], lines: &[Line], x: &Lines<'_>, sums: &mut [i32]) {
    for g in (0..ROWS / 2).step_by(2) {
        let [a, c] = of_pair::<T>(strip, g, lines, x.stride);
        let [b, d] = of_pair::<T>(strip, g + 1, lines, x.stride);
        for t in 0..T {
            let totals = across([a[t], b[t], c[t], d[t]]);
            for (row, total) in [g, g + 1, g + ROWS / 2, g + 1 + ROWS / 2].into_iter().zip(totals) {
                // A last strip may lack rows.
                if let Some(sum) = sums.get_mut(row * x.tokens + t) {
                    *sum = total;
                }
            }
        }
    }
}

/// The sums of rows g and g + 8 of a strip, spread over vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn of_pair<const T: usize>(strip: &[u8], g: usize, lines: &[Line], stride: usize) -> [[__m512i; T]; 2] {
    let tiles = strip.len() / TILE;
    assert!((T - 1) * stride + tiles.div_ceil(2) * 4 <= lines.len(), "as many lines as the rows have columns");
    let tables = Tables::new();
    let mut sums = Sums::<2, T>::new();
    let mut add = |i: usize, mask: u64| {
        let start = strip.as_ptr().wrapping_add(2 * i * TILE + g * QUAD);
        let ahead = strip.as_ptr().wrapping_add(strip.len() + (g * tiles + 2 * i) * QUAD);
        fetch(ahead);
        fetch(ahead.wrapping_add(QUAD));
        // SAFETY: tile 2i is one of the strip's.
        let first = unsafe { load(start, u64::MAX) };
        // SAFETY: tile 2i + 1 is one of the strip's too, or the mask lets nothing through.
        let second = unsafe { load(start.wrapping_add(TILE), mask) };
        let rows = tables.unpack(first, second);
        // SAFETY: every token has the lines of step i, as checked above.
        unsafe { sums.add_fours(&rows, lines.as_ptr().wrapping_add(4 * i), stride) };
    };
    (0..tiles / 2).for_each(|i| add(i, u64::MAX));
    if !tiles.is_multiple_of(2) {
        add(tiles / 2, 0);
    }
    sums.finish()
}

/// Tables for the quads of two tiles.
struct Tables {
    /// Where the pair codes of each group are.
    pairs: __m512i,
    /// Where the index nibbles of each group are, in row g and in row g + 8.
    indices: [__m512i; 2],
    /// Where a nibble begins among eight bytes.
    begins: __m512i,
    /// Values of row g and of row g + 8 by pair codes: the last table is for those whose second code is 8, zero in both rows.
    values: [[__m512i; 3]; 2],
    /// Weights by values and nibble.
    trits: __m512i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    fn new() -> Self {
        let values = |row: &[Line; 3]| [table(&row[0]), table(&row[1]), table(&row[2])];
        Self {
            pairs: table(&PAIR_CODES),
            indices: [table(&INDICES[0]), table(&INDICES[1])],
            begins: table(&BEGINS),
            values: [values(&VALUES[0]), values(&VALUES[1])],
            trits: table(&TRITS),
        }
    }

    /// The 64 groups of both rows in the form of t2.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    fn unpack(&self, first: __m512i, second: __m512i) -> [__m512i; 2] {
        let pairs = _mm512_permutex2var_epi8(first, self.pairs, second);
        let without_second = _mm512_movepi8_mask(pairs);
        let mut rows = [pairs; 2];
        for (r, out) in rows.iter_mut().enumerate() {
            let of_row = &self.values[r];
            let values = _mm512_permutex2var_epi8(of_row[0], pairs, of_row[1]);
            let values = _mm512_mask_permutexvar_epi8(values, without_second, pairs, of_row[2]);
            let indices = _mm512_permutex2var_epi8(first, self.indices[r], second);
            let nibbles = _mm512_multishift_epi64_epi8(self.begins, indices);
            // values | nibbles & 15
            let code = _mm512_ternarylogic_epi32::<0xF8>(values, nibbles, _mm512_set1_epi8(15));
            *out = _mm512_permutexvar_epi8(code, self.trits);
        }
        rows
    }
}

/// Groups of a row in a tile.
const GROUPS: usize = 32;

static PAIR_CODES: Line = {
    let mut line = [0; 64];
    let mut i = 0;
    while i < 64 {
        let (half, q) = (i % GROUPS / 16, i % 16);
        line[i] = (i / GROUPS * QUAD + 16 * (q % 8 / 2) + 8 * half + q % 2 + 2 * (q / 8)) as i8;
        i += 1;
    }
    Line(line)
};

static INDICES: [Line; 2] = [indices(0), indices(1)];

const fn indices(row: usize) -> Line {
    let mut line = [0; 64];
    let mut i = 0;
    while i < 64 {
        let (half, q) = (i % GROUPS / 16, i % 16);
        line[i] = (i / GROUPS * QUAD + 16 * (2 * (q / 8) + row) + 8 * half + 4 + q % 8 / 2) as i8;
        i += 1;
    }
    Line(line)
}

static BEGINS: Line = {
    let mut line = [0; 64];
    let mut i = 0;
    while i < 64 {
        line[i] = (8 * (i % 8) + 4 * (i % 2)) as i8;
        i += 1;
    }
    Line(line)
};

/// The two values of a group as bits that make, together with its index nibble, a number below 64. The nibble of a group whose second value is zero is
/// always 4, and one whose first is zero has 4, 8 or 12; so their lowest bits are free, and 33 groups find room in 64 numbers.
const fn values_code(first: i8, second: i8) -> i8 {
    let (s, t) = ((first < 0) as i8, (second < 0) as i8);
    match (first != 0, second != 0) {
        (true, true) => s << 4 | t << 5,
        (false, true) => 3 | t << 4,
        (true, false) => 1 | s << 4,
        (false, false) => 1 | 2 << 4,
    }
}

static VALUES: [[Line; 3]; 2] = [values(0), values(1)];

const fn values(row: usize) -> [Line; 3] {
    let mut lines = [Line([0; 64]); 3];
    let mut pairs = 0;
    while pairs < 81 {
        let (first, second) = (pairs % 9, pairs / 9);
        let code = values_code(PAIR_VALUES[first][row], PAIR_VALUES[second][row]);
        let byte = first + 16 * second;
        lines[byte / 64].0[byte % 64] = code;
        pairs += 1;
    }
    lines
}

static TRITS: Line = {
    let mut line = [byte_of([0; 4]); 64];
    let nibbles = [4, 8, 9, 12, 13, 14];
    let mut i = 0;
    while i < 6 * 9 {
        let [first, second] = [[0, 1, -1][i % 9 / 3], [0, 1, -1][i % 3]];
        let nibble: i8 = nibbles[i / 9];
        let (i0, i1) = (nibble as usize & 3, nibble as usize >> 2);
        let is_smallest = (first != 0 || i0 == 0) && (second != 0 || nibble == 4);
        if is_smallest {
            let mut trits = [0; 4];
            trits[i0] = first;
            trits[i1] = second;
            line[(values_code(first, second) | nibble) as usize] = byte_of(trits);
        }
        i += 1;
    }
    Line(line)
};
