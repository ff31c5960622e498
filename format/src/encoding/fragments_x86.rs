//! Encoding and decoding whole strips of fragments with AVX-512, through pulp's token: whoever holds one has seen that the machine has the feature.
//!
//! A register holds 16 groups of one row, half a tile, in its 16 words. What a group needs to know comes out of a table of 16 words, which is one
//! register too: decoding looks up by index nibble from where each of the four columns takes its value, encoding by the set of non-zero columns which
//! two columns go to the slots. One shuffle of bytes then moves the values.
//!
//! ```text
//! word q, decoding   t0 t1 .. ..  ── shuffle by DECODE[nibble] ──▶  columns 4q to 4q + 3
//! word q, encoding   four trits   ── shuffle by ENCODE[set]    ──▶  t0 t1 0 0
//! ```

use std::arch::x86_64::__m512i;

use pulp::x86::V4;

use super::fragments::{COLS, PAIR_VALUES, ROWS, TILE};
use super::nm6b::PAIRS;

/// Bytes of a quad, and columns of half a tile.
const QUAD: usize = 64;
/// Reads as zero in a shuffle.
const NONE: u8 = 0x80;
/// Marks a set of more than two columns, in the last byte of its word.
const ILLEGAL: u8 = 0xC0;

/// By index nibble: the slot of each column. Illegal nibbles read as zeros.
const DECODE: [[u8; 4]; 16] = {
    let mut table = [[NONE; 4]; 16];
    let mut p = 0;
    while p < PAIRS.len() {
        let (i, j) = PAIRS[p];
        table[i | j << 2][i] = 0;
        table[i | j << 2][j] = 1;
        p += 1;
    }
    table
};

/// By the set of non-zero columns: the columns of slots 0 and 1, then the index nibble, then whether there are too many.
const ENCODE: [[u8; 4]; 16] = {
    let mut table = [[NONE, NONE, NONE, ILLEGAL]; 16];
    let mut set = 0;
    while set < 16 {
        // In falling order, so that the smallest covering pair is written last.
        let mut p = PAIRS.len();
        while p > 0 {
            p -= 1;
            let (i, j) = PAIRS[p];
            if set & !(1 << i | 1 << j) == 0 {
                table[set] = [i as u8, j as u8, NONE | (i | j << 2) as u8, NONE];
            }
        }
        set += 1;
    }
    table
};

/// By pair code: the values of row g, of row g + 8. Illegal codes read as zero.
const VALUES: [[u8; 16]; 2] = {
    let mut tables = [[0; 16]; 2];
    let mut code = 0;
    while code < 9 {
        tables[0][code] = PAIR_VALUES[code].0 as u8;
        tables[1][code] = PAIR_VALUES[code].1 as u8;
        code += 1;
    }
    tables
};

/// The pair code by the low two bits of both values.
const CODES: [u8; 16] = {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 9 {
        let (u, w) = PAIR_VALUES[code];
        table[(u & 3 | (w & 3) << 2) as usize] = code as u8;
        code += 1;
    }
    table
};

/// Where the word V of group q lies in a quad, for each half; and by how many bits its byte.
const V_WORD: [[u32; 16]; 2] = {
    let mut words = [[0; 16]; 2];
    let mut q = 0;
    while q < 16 {
        words[0][q] = 4 * (q as u32 % 8 / 2);
        words[1][q] = words[0][q] + 2;
        q += 1;
    }
    words
};
const V_SHIFT: [u32; 16] = [0, 8, 0, 8, 0, 8, 0, 8, 16, 24, 16, 24, 16, 24, 16, 24];

/// Where the word M of group q lies, for each half and for rows g and g + 8; and by how many bits its nibble.
const M_WORD: [[[u32; 16]; 2]; 2] = {
    let mut words = [[[0; 16]; 2]; 2];
    let mut at = 0;
    while at < 64 {
        let (h, r, q) = (at / 32, at / 16 % 2, at % 16);
        words[h][r][q] = (4 * (2 * (q / 8) + r) + 2 * h + 1) as u32;
        at += 1;
    }
    words
};
const M_SHIFT: [u32; 16] = [0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28];

/// The first byte of each word in its lane of 128 bits: in all bytes, and in the two of the slots.
const FIRST: [[u8; 4]; 4] = [[0; 4], [4; 4], [8; 4], [12; 4]];
const FIRST_OF_SLOTS: [[u8; 4]; 4] = [[0; 4], [4, 4, 0, 0], [8, 8, 0, 0], [12, 12, 0, 0]];

/// Of a lane with four groups: their bytes of V, then the two bytes of M of row g, then those of row g + 8.
const GATHER: [u8; 16] = [0, 4, 8, 12, 1, 9, 2, 10, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE];

/// From two halves gathered so: the quad, as words of 16 bits.
const QUAD_ORDER: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 8 {
        let (c, h) = (at / 2, at % 2);
        let to = 8 * c + 4 * h;
        let from = 32 * h;
        order[to] = (from + 8 * (c / 2) + c % 2) as u16;
        order[to + 1] = (from + 8 * (c / 2 + 2) + c % 2) as u16;
        order[to + 2] = (from + 8 * (2 * (c / 2)) + 2 + c % 2) as u16;
        order[to + 3] = (from + 8 * (2 * (c / 2) + 1) + 2 + c % 2) as u16;
        at += 1;
    }
    order
};

/// Decodes one strip into up to 16 rows; `false` on a machine without the feature.
pub(super) fn decode_strip(bytes: &[u8], cols: usize, out: &mut [i8]) -> bool {
    let pulp::Arch::V4(simd) = pulp::Arch::new() else { return false };
    pulp::Simd::vectorize(
        simd,
        #[inline(always)]
        || decode(simd, bytes, cols, bytemuck::cast_slice_mut(out)),
    );
    true
}

#[inline(always)]
fn decode(simd: V4, bytes: &[u8], cols: usize, out: &mut [u8]) {
    let rows = out.len() / cols;
    for (tile, bytes) in bytes.as_chunks::<TILE>().0.iter().enumerate() {
        let first = tile * COLS;
        let width = COLS.min(cols - first);
        for (g, quad) in bytes.as_chunks::<QUAD>().0.iter().enumerate().take(rows) {
            for (row, trits) in [g, g + 8].into_iter().zip(decode_quad(simd, quad)) {
                if row >= rows {
                    break;
                }
                let out = &mut out[row * cols + first..][..width];
                if let Some(out) = out.as_chunks_mut::<COLS>().0.first_mut() {
                    *out = pulp::cast(trits);
                } else {
                    out.copy_from_slice(&pulp::cast::<_, [u8; COLS]>(trits)[..width]);
                }
            }
        }
    }
}

/// Rows g and g + 8 of a tile, each as its two halves.
#[inline(always)]
fn decode_quad(simd: V4, quad: &[u8; QUAD]) -> [[__m512i; 2]; 2] {
    let (f, bw) = (simd.avx512f, simd.avx512bw);
    let quad: __m512i = pulp::cast(*quad);
    let first: __m512i = pulp::cast([FIRST; 4]);
    let mut rows = [[quad; 2]; 2];
    for h in 0..2 {
        let v = f._mm512_permutexvar_epi32(pulp::cast(V_WORD[h]), quad);
        let v = f._mm512_srlv_epi32(v, pulp::cast(V_SHIFT));
        // Of the byte in front: its low nibble stays, its high nibble becomes the next byte.
        let low = f._mm512_and_si512(v, f._mm512_set1_epi32(0x0F));
        let high = f._mm512_and_si512(f._mm512_slli_epi32::<4>(v), f._mm512_set1_epi32(0x0F00));
        let codes = f._mm512_or_si512(low, high);
        for r in 0..2 {
            let values = bw._mm512_shuffle_epi8(pulp::cast([VALUES[r]; 4]), codes);
            let m = f._mm512_permutexvar_epi32(pulp::cast(M_WORD[h][r]), quad);
            // Only the low four bits of a word choose from the table.
            let nibble = f._mm512_srlv_epi32(m, pulp::cast(M_SHIFT));
            let slots = f._mm512_permutexvar_epi32(nibble, pulp::cast(DECODE));
            rows[r][h] = bw._mm512_shuffle_epi8(values, f._mm512_or_si512(slots, first));
        }
    }
    rows
}

/// Encodes up to 16 rows into one strip; `false` if a group has too many non-zeros, or on a machine without the feature.
pub(super) fn encode_strip(trits: &[i8], cols: usize, out: &mut [u8]) -> bool {
    let pulp::Arch::V4(simd) = pulp::Arch::new() else { return false };
    pulp::Simd::vectorize(
        simd,
        #[inline(always)]
        || encode(simd, bytemuck::cast_slice(trits), cols, out),
    )
}

#[inline(always)]
fn encode(simd: V4, trits: &[u8], cols: usize, out: &mut [u8]) -> bool {
    let rows = trits.len() / cols;
    let mut seen: __m512i = pulp::cast([0u8; QUAD]);
    for (tile, out) in out.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        let first = tile * COLS;
        let width = COLS.min(cols - first);
        for (g, quad) in out.as_chunks_mut::<QUAD>().0.iter_mut().enumerate().take(ROWS / 2) {
            let mut pair: [[__m512i; 2]; 2] = pulp::cast([[0u8; COLS]; 2]);
            for (row, pair) in [g, g + 8].into_iter().zip(&mut pair) {
                if row < rows {
                    *pair = load(&trits[row * cols + first..][..width]);
                }
            }
            *quad = pulp::cast(encode_quad(simd, pair, &mut seen));
        }
    }
    simd.avx512bw._mm512_test_epi8_mask(seen, pulp::cast([[0, 0, 0, ILLEGAL & !NONE]; 16])) == 0
}

/// The two halves of a row, which may end within the tile.
#[inline(always)]
fn load(row: &[u8]) -> [__m512i; 2] {
    if let Some(row) = row.first_chunk::<COLS>() {
        return pulp::cast(*row);
    }
    let mut whole = [0; COLS];
    whole[..row.len()].copy_from_slice(row);
    pulp::cast(whole)
}

/// The quad of rows g and g + 8, each as its two halves. Gathers in `seen` which kinds of groups there were.
#[inline(always)]
fn encode_quad(simd: V4, rows: [[__m512i; 2]; 2], seen: &mut __m512i) -> __m512i {
    let (f, bw) = (simd.avx512f, simd.avx512bw);
    let mut halves = [rows[0][0]; 2];
    for h in 0..2 {
        let (u, u_slots) = fill_slots(simd, rows[0][h]);
        let (w, w_slots) = fill_slots(simd, rows[1][h]);
        *seen = f._mm512_or_si512(*seen, f._mm512_or_si512(u_slots, w_slots));
        let u = f._mm512_and_si512(u, pulp::cast([3u8; QUAD]));
        let w = f._mm512_and_si512(f._mm512_slli_epi32::<2>(w), pulp::cast([0x0Cu8; QUAD]));
        let codes = bw._mm512_shuffle_epi8(pulp::cast([CODES; 4]), f._mm512_or_si512(u, w));
        // A word: the byte of V, then the nibbles of both rows in a byte each.
        let v =
            f._mm512_and_si512(f._mm512_or_si512(codes, f._mm512_srli_epi32::<4>(codes)), f._mm512_set1_epi32(0xFF));
        let u_nibble = f._mm512_and_si512(f._mm512_srli_epi32::<8>(u_slots), f._mm512_set1_epi32(0x0F00));
        let w_nibble = f._mm512_and_si512(w_slots, f._mm512_set1_epi32(0x000F_0000));
        let words = f._mm512_or_si512(v, f._mm512_or_si512(u_nibble, w_nibble));
        // The nibbles of every other group go beside those of the group before.
        let odd = f._mm512_and_si512(f._mm512_srli_epi64::<28>(words), f._mm512_set1_epi64(0x00F0_F000));
        halves[h] = bw._mm512_shuffle_epi8(f._mm512_or_si512(words, odd), pulp::cast([GATHER; 4]));
    }
    bw._mm512_permutex2var_epi16(halves[0], pulp::cast(QUAD_ORDER), halves[1])
}

/// The values of the two slots of each group, and what [`ENCODE`] says of it.
#[inline(always)]
fn fill_slots(simd: V4, row: __m512i) -> (__m512i, __m512i) {
    let (f, bw) = (simd.avx512f, simd.avx512bw);
    // The lowest bit of a trit says whether it is zero; the four of a group become a number.
    let non_zero = f._mm512_and_si512(row, pulp::cast([1u8; QUAD]));
    let set = bw._mm512_maddubs_epi16(non_zero, pulp::cast([[1u8, 2, 4, 8]; 16]));
    let set = bw._mm512_madd_epi16(set, pulp::cast([1u16; 32]));
    let slots = f._mm512_permutexvar_epi32(set, pulp::cast(ENCODE));
    (bw._mm512_shuffle_epi8(row, f._mm512_or_si512(slots, pulp::cast([FIRST_OF_SLOTS; 4]))), slots)
}
