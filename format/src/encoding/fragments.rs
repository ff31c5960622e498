//! `nm-vi` in order fragments: values and indices of 2:4 groups as sparse tensor cores read them (SPEC §10.4).
//!
//! ```text
//! strip = 16 rows ──▶ tile = 128 columns, 512 bytes ──▶ lane = 16 bytes: V0 M0 V1 M1
//!
//! lane 4g + c, half h (64 columns, groups q = 0..15):
//!   Vh, byte j = 0..3   group 2c + j, or 2c + j + 6 from j = 2 on; low nibble slot 0, high nibble slot 1
//!                       nibble = pair code of (row g, row g + 8)
//!   Mh, nibble e        group 8·(c div 2) + e of row 8·(c mod 2) + g; index pair i0 + 4·i1
//! ```
//!
//! Four lanes with the same g (a *quad*) hold rows g and g + 8 completely, so everything here works quad by quad.

use super::{Illegal, Offence, fragments_check, nm6b, t2};
use crate::error::rule;

/// Rows of a strip.
pub(super) const ROWS: usize = 16;
/// Columns of a tile.
pub(super) const COLS: usize = 128;
/// Bytes of a tile.
pub(super) const TILE: usize = 512;
/// Groups of a row within a tile.
const GROUPS: usize = COLS / 4;

/// Values of the two rows of a pair code.
pub(super) const PAIR_VALUES: [(i8, i8); 9] =
    [(1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0)];
/// The pair code of two zeros.
const PAIR_ZERO: u8 = 8;
/// The index nibble of a group without non-zeros.
const NIBBLE_ZERO: u8 = 4;

/// A group of a row on its way in or out: index nibble in the low half, the states of slot 0 and slot 1 (0, 1 for +1, 2 for −1) above.
type Slots = u8;
const SLOTS_ZERO: Slots = NIBBLE_ZERO;
const SLOTS_ILLEGAL: Slots = 0xFF;

/// Slots of every four trits in the form of `t2`.
static SLOTS_OF: [Slots; 256] = slots_of_trits();
/// Trits of all slots; the illegal ones read as zero.
static TRITS_OF: [[i8; 4]; 256] = trits_of_slots();
/// Byte of a V word from the slot states of row g (low) and row g + 8 (high).
static PAIR_OF: [u8; 256] = pair_of_states();
/// The states again; illegal pair codes read as zero.
static STATES_OF: [u8; 256] = states_of_pair();

const fn state(value: i8) -> u8 {
    match value {
        1 => 1,
        -1 => 2,
        _ => 0,
    }
}

const fn value(state: u8) -> i8 {
    match state {
        1 => 1,
        2 => -1,
        _ => 0,
    }
}

const fn slots_of_trits() -> [Slots; 256] {
    let mut table = [SLOTS_ILLEGAL; 256];
    // Every pair with every two values, in falling order of the pairs: the smallest covering pair of some trits is written last.
    let mut p = nm6b::PAIRS.len();
    while p > 0 {
        p -= 1;
        let (i, j) = nm6b::PAIRS[p];
        let mut s = 0;
        while s < 9 {
            let (v0, v1) = PAIR_VALUES[s];
            let mut trits = [0; 4];
            trits[i] = v0;
            trits[j] = v1;
            table[t2::byte_of(trits) as usize] = (i | j << 2) as u8 | state(v0) << 4 | state(v1) << 6;
            s += 1;
        }
    }
    table
}

const fn trits_of_slots() -> [[i8; 4]; 256] {
    let mut table = [[0; 4]; 256];
    let mut slots = 0;
    while slots < 256 {
        let (i, j) = (slots & 3, slots >> 2 & 3);
        if i < j {
            table[slots][i] = value((slots >> 4 & 3) as u8);
            table[slots][j] = value((slots >> 6) as u8);
        }
        slots += 1;
    }
    table
}

const fn pair_code(u: u8, w: u8) -> u8 {
    let mut code = 0;
    while code < 9 {
        if state(PAIR_VALUES[code as usize].0) == u && state(PAIR_VALUES[code as usize].1) == w {
            return code;
        }
        code += 1;
    }
    PAIR_ZERO
}

const fn pair_of_states() -> [u8; 256] {
    let mut table = [0; 256];
    let mut states = 0;
    while states < 256 {
        let (u, w) = ((states & 15) as u8, (states >> 4) as u8);
        table[states] = pair_code(u & 3, w & 3) | pair_code(u >> 2, w >> 2) << 4;
        states += 1;
    }
    table
}

const fn states_of_pair() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (low, high) = (byte & 15, byte >> 4);
        let mut states = 0;
        if low < 9 {
            states |= state(PAIR_VALUES[low].0) | state(PAIR_VALUES[low].1) << 4;
        }
        if high < 9 {
            states |= state(PAIR_VALUES[high].0) << 2 | state(PAIR_VALUES[high].1) << 6;
        }
        table[byte] = states;
        byte += 1;
    }
    table
}

/// Bytes of a strip.
pub(super) fn strip_bytes(cols: usize) -> usize {
    cols.div_ceil(COLS) * TILE
}

/// Encodes up to 16 rows into one strip. `scratch` is reused between calls.
pub(super) fn encode_strip(trits: &[i8], cols: usize, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), Illegal> {
    #[cfg(target_arch = "x86_64")]
    if super::fragments_x86::encode_strip(trits, cols, out) {
        return Ok(());
    }
    portable_encode(trits, cols, out, scratch)
}

/// For machines without a way of their own, and to find what is illegal.
fn portable_encode(trits: &[i8], cols: usize, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), Illegal> {
    let (row_groups, padded) = (cols / 4, cols.div_ceil(COLS) * GROUPS);
    scratch.clear();
    scratch.resize(ROWS * padded, SLOTS_ZERO);
    for (row, trits) in trits.chunks_exact(cols).enumerate() {
        let slots = &mut scratch[row * padded..][..row_groups];
        t2::pack(trits.as_chunks().0, slots);
        let mut illegal = false;
        for slot in slots.iter_mut() {
            *slot = SLOTS_OF[usize::from(*slot)];
            illegal |= *slot == SLOTS_ILLEGAL;
        }
        if illegal {
            let group = slots.iter().position(|&s| s == SLOTS_ILLEGAL).unwrap_or(0);
            return Err(Illegal { row, col: 4 * group });
        }
    }
    for (tile, out) in out.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        for (g, quad) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let groups = |row: usize| scratch[row * padded + tile * GROUPS..].as_chunks::<GROUPS>().0[0];
            encode_quad(&groups(g), &groups(g + 8), quad);
        }
    }
    Ok(())
}

fn encode_quad(u: &[Slots; GROUPS], w: &[Slots; GROUPS], out: &mut [u8; 64]) {
    for (c, lane) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (h, words) in lane.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let (v, m) = words.split_at_mut(4);
            for (j, byte) in v.iter_mut().enumerate() {
                let q = 16 * h + group_of_byte(c, j);
                *byte = PAIR_OF[usize::from(u[q] >> 4 | w[q] & 0xF0)];
            }
            let row = if c % 2 == 0 { u } else { w };
            for (j, byte) in m.iter_mut().enumerate() {
                let q = 16 * h + 8 * (c / 2) + 2 * j;
                *byte = row[q] & 15 | row[q + 1] << 4;
            }
        }
    }
}

/// The group, within a half, of byte j of a V word of lane c of a quad.
fn group_of_byte(c: usize, j: usize) -> usize {
    2 * c + j + if j >= 2 { 6 } else { 0 }
}

/// The slots of rows g and g + 8 of a tile, from the quad g. Illegal codes read as zeros.
fn decode_quad(quad: &[u8; 64]) -> [[Slots; GROUPS]; 2] {
    let mut slots = [[0; GROUPS]; 2];
    for (c, lane) in quad.as_chunks::<16>().0.iter().enumerate() {
        for (h, words) in lane.as_chunks::<8>().0.iter().enumerate() {
            let (v, m) = words.split_at(4);
            for (j, &byte) in v.iter().enumerate() {
                let states = STATES_OF[usize::from(byte)];
                let q = 16 * h + group_of_byte(c, j);
                slots[0][q] |= states << 4;
                slots[1][q] |= states & 0xF0;
            }
            for (j, &byte) in m.iter().enumerate() {
                let q = 16 * h + 8 * (c / 2) + 2 * j;
                slots[c % 2][q] |= byte & 15;
                slots[c % 2][q + 1] |= byte >> 4;
            }
        }
    }
    slots
}

/// Decodes one strip into up to 16 rows.
pub(super) fn decode_strip(bytes: &[u8], cols: usize, out: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    if super::fragments_x86::decode_strip(bytes, cols, out) {
        return;
    }
    portable_decode(bytes, cols, out);
}

fn portable_decode(bytes: &[u8], cols: usize, out: &mut [i8]) {
    let rows = out.len() / cols;
    for (tile, bytes) in bytes.as_chunks::<TILE>().0.iter().enumerate() {
        let first = tile * COLS;
        let width = COLS.min(cols - first);
        for (g, quad) in bytes.as_chunks::<64>().0.iter().enumerate() {
            if g >= rows {
                break;
            }
            for (slots, row) in decode_quad(quad).iter().zip([g, g + 8]) {
                if row < rows {
                    let out = &mut out[row * cols + first..][..width];
                    for (group, &slots) in out.as_chunks_mut::<4>().0.iter_mut().zip(slots) {
                        *group = TRITS_OF[usize::from(slots)];
                    }
                }
            }
        }
    }
}

/// Checks whole strips that hold `rows` rows of `cols` columns (R086 to R089); the first offence by row and column.
pub(super) fn validate(bytes: &[u8], rows: usize, cols: usize, n: usize) -> Result<(), Offence> {
    let one = n == 1;
    let strip = strip_bytes(cols);
    if fragments_check::legal(bytes, one) && (!is_ragged(rows, cols) || padding_is_zero(bytes, rows, cols)) {
        return Ok(());
    }
    for (i, bytes) in bytes.chunks_exact(strip).enumerate() {
        let rows = ROWS.min(rows - i * ROWS);
        validate_strip(bytes, rows, cols, one).map_err(|e| e.below(i * ROWS))?;
    }
    Ok(())
}

fn validate_strip(bytes: &[u8], rows: usize, cols: usize, one: bool) -> Result<(), Offence> {
    for row in 0..ROWS {
        for q in 0..cols.div_ceil(COLS) * GROUPS {
            validate_group(&stored_group(bytes, row, q), row, 4 * q, rows, cols, one)?;
        }
    }
    Ok(())
}

/// What is stored of a group, undecoded.
struct Stored {
    pairs: [u8; 2],
    nibble: u8,
}

/// Where the byte of pair codes of group q of a tile's row is, and the byte with its index nibble.
fn places(row: usize, q: usize) -> (usize, usize) {
    let (h, q) = (q / 16, q % 16);
    let word = |c: usize, offset: usize| 16 * (4 * (row % 8) + c) + 8 * h + offset;
    (word(q % 8 / 2, q % 2 + 2 * (q / 8)), word(2 * (q / 8) + row / 8, 4 + q % 8 / 2))
}

fn stored_group(strip: &[u8], row: usize, q: usize) -> Stored {
    let tile = &strip[q / GROUPS * TILE..];
    let (pair, indices) = places(row, q % GROUPS);
    let (pair, indices) = (tile[pair], tile[indices]);
    Stored { pairs: [pair & 15, pair >> 4], nibble: indices >> (4 * (q % 2)) & 15 }
}

fn validate_group(g: &Stored, row: usize, col: usize, rows: usize, cols: usize, one: bool) -> Result<(), Offence> {
    if let Some(&code) = g.pairs.iter().find(|&&code| code > PAIR_ZERO) {
        return Err(Offence::new(rule::PAIR_CODE, row, col, "a pair code of at most 8", code));
    }
    let (i0, i1) = (g.nibble & 3, g.nibble >> 2);
    if i0 >= i1 {
        return Err(Offence::new(rule::INDEX_NIBBLE, row, col, "an index nibble of 4, 8, 9, 12, 13 or 14", g.nibble));
    }
    let is_zero = g.pairs.map(|code| {
        let (u, w) = PAIR_VALUES[usize::from(code)];
        (if row < 8 { u } else { w }) == 0
    });
    if (row >= rows || col >= cols) && (is_zero != [true, true] || g.nibble != NIBBLE_ZERO) {
        return Err(Offence::new(rule::FRAGMENT_PADDING, row, col, "zero groups beyond the matrix", g.nibble));
    }
    if (is_zero[0] && i0 != 0) || (is_zero[1] && g.nibble != NIBBLE_ZERO) {
        return Err(Offence::new(rule::SMALLEST_PAIR, row, col, "the smallest covering pair", g.nibble));
    }
    if one && is_zero == [false, false] {
        return Err(Offence::new(rule::SMALLEST_PAIR, row, col, "one non-zero in a group of 1:4", g.nibble));
    }
    Ok(())
}

/// Checks whole strips as [`validate`] does, and that their groups are windows in blocks of `windows` as an encoder fills them (R090). The latter
/// offence is only found, not named: `false` without an offence of the former kind.
pub(super) fn validate_windows(bytes: &[u8], rows: usize, cols: usize, windows: usize) -> Result<bool, Offence> {
    let placed = fragments_check::legal_windows(bytes, strip_bytes(cols), windows);
    if !placed || (is_ragged(rows, cols) && !padding_is_zero(bytes, rows, cols)) {
        validate(bytes, rows, cols, 2)?;
    }
    Ok(placed)
}

fn is_ragged(rows: usize, cols: usize) -> bool {
    !rows.is_multiple_of(ROWS) || !cols.is_multiple_of(COLS)
}

/// Whether groups beyond the matrix hold nothing. Only edges are looked at: the last tile of whole strips, and all of a strip that lacks rows.
fn padding_is_zero(bytes: &[u8], rows: usize, cols: usize) -> bool {
    let (whole, last) = bytes.split_at(rows / ROWS * strip_bytes(cols));
    let columns = padding_of_tile(cols);
    let is_zero = |tile: &[u8; TILE]| {
        // Byte 4 to 7 of every eight are an M word.
        let wrong = |i: usize| (tile[i] ^ if i & 4 == 0 { 0x88 } else { 0x44 }) & columns[i];
        (0..TILE).fold(0, |any, i| any | wrong(i)) == 0
    };
    let last_tiles = whole.chunks_exact(strip_bytes(cols)).filter_map(|strip| strip.last_chunk());
    (cols.is_multiple_of(COLS) || last_tiles.into_iter().all(is_zero))
        && (last.is_empty() || validate_strip(last, rows % ROWS, cols, false).is_ok())
}

/// The bits that belong to columns beyond the matrix in the last tile of a strip.
fn padding_of_tile(cols: usize) -> [u8; TILE] {
    let mut mask = [0; TILE];
    for row in 0..ROWS {
        for q in cols % COLS / 4..GROUPS {
            let (pair, indices) = places(row, q);
            mask[pair] = 0xFF;
            mask[indices] |= 15 << (4 * (q % 2));
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the machine's own way makes of trits and of bytes, legal or not, is what the portable one makes of them.
    #[test]
    fn every_way_gives_the_same() {
        let mut state = 7u64;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let mut refused = 0;
        for round in 0..600 {
            let (rows, cols) = (1 + below(ROWS), 4 * (1 + below(100)));
            let mut trits: Vec<i8> = (0..rows * cols).map(|_| [-1, 0, 1, -1, 1][below(5)]).collect();
            for group in trits.chunks_mut(4) {
                while group.iter().filter(|&&t| t != 0).count() > 2 {
                    group[below(4)] = 0;
                }
            }
            if round % 4 == 0 {
                let at = below(rows * cols / 4);
                trits[4 * at..4 * at + 3].fill(1);
            }
            let (mut ours, mut theirs) = (vec![0xA7; strip_bytes(cols)], vec![0x7A; strip_bytes(cols)]);
            let verdict = encode_strip(&trits, cols, &mut ours, &mut Vec::new());
            assert_eq!(verdict, portable_encode(&trits, cols, &mut theirs, &mut Vec::new()), "{rows} × {cols}");
            refused += usize::from(verdict.is_err());
            assert!(verdict.is_err() || ours == theirs, "{rows} × {cols}");

            if round % 3 == 0 {
                ours.fill_with(|| below(256) as u8);
            }
            let (mut decoded, mut expected) = (vec![9; rows * cols], vec![8; rows * cols]);
            decode_strip(&ours, cols, &mut decoded);
            portable_decode(&ours, cols, &mut expected);
            assert!(decoded == expected, "{rows} × {cols}");
        }
        assert!(refused == 150, "{refused}");
    }
}
