//! Every rule of SPEC §10, and R077, is broken once by hand: the offence names the rule, the row and the column.

use sbnc_format::encoding::{Offence, check_pattern};
use sbnc_format::{Encoding, Order, Pattern};

use super::layout::Layout;

/// Bytes of zeros, with some changed.
fn changed(layout: Layout, (rows, cols): (usize, usize), change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = layout.encode(&vec![0; rows * cols], cols).unwrap();
    change(&mut bytes);
    bytes
}

#[track_caller]
fn breaks(layout: Layout, shape: (usize, usize), change: impl Fn(&mut Vec<u8>), wanted: (u16, usize, usize)) {
    let Offence { rule, row, col, .. } =
        layout.validate(&changed(layout, shape, change), shape.0, shape.1).unwrap_err();
    assert_eq!((rule, row, col), wanted, "{layout:?}");
}

const T2: (Encoding, Order) = (Encoding::T2, Order::Rows);
const T5: (Encoding, Order) = (Encoding::T5, Order::Rows);
const SIX_BIT: (Encoding, Order) = (Encoding::Nm6b, Order::Rows);
const FRAGMENTS: (Encoding, Order) = (Encoding::NmVi, Order::Fragments);

fn layout((encoding, order): (Encoding, Order), n: u8, m: u8) -> Layout {
    Layout::new(encoding, order, n, m)
}

#[test]
fn r080_code_three() {
    // Row 1 of three bytes; code 3 in column 4 + 2.
    breaks(layout(T2, 0, 0), (2, 12), |b| b[3 + 1] |= 0b11 << 4, (80, 1, 6));
}

#[test]
fn r081_codes_beyond_the_columns() {
    breaks(layout(T2, 0, 0), (3, 6), |b| b[2 * 2 + 1] ^= 0b11 << 6, (81, 2, 7));
}

#[test]
fn r082_byte_above_242() {
    breaks(layout(T5, 0, 0), (2, 15), |b| b[3 + 2] = 243, (82, 1, 10));
}

#[test]
fn r083_digits_beyond_the_columns() {
    breaks(layout(T5, 0, 0), (2, 13), |b| b[3 + 2] += 81, (83, 1, 14));
    breaks(layout(T5, 0, 0), (2, 13), |b| b[3 + 2] += 27, (83, 1, 13));
}

#[test]
fn r084_code_above_most() {
    // Group 2 of row 1 begins in bit 12.
    breaks(layout(SIX_BIT, 2, 4), (2, 16), |b| (b[3 + 1], b[3 + 2]) = (1 << 4, 33 >> 4), (84, 1, 8));
    breaks(layout(SIX_BIT, 1, 4), (2, 16), |b| b[3] = 9, (84, 1, 0));
    assert!(layout(SIX_BIT, 2, 4).validate(&changed(layout(SIX_BIT, 2, 4), (2, 16), |b| b[3] = 32), 2, 16).is_ok());
    assert!(layout(SIX_BIT, 1, 4).validate(&changed(layout(SIX_BIT, 1, 4), (2, 16), |b| b[3] = 8), 2, 16).is_ok());
}

/// Every code of a long row, in every place: words, words that straddle and the rest of the loop.
#[test]
fn r084_in_every_place() {
    for (n, illegal) in [(2, 33), (2, 63), (1, 9), (1, 16), (1, 32)] {
        for q in 0..320 {
            let put = |b: &mut Vec<u8>| {
                for bit in (0..6).filter(|bit| illegal >> bit & 1 == 1) {
                    b[240 + (6 * q + bit) / 8] |= 1 << ((6 * q + bit) % 8);
                }
            };
            breaks(layout(SIX_BIT, n, 4), (3, 1280), put, (84, 1, 4 * q));
        }
    }
}

#[test]
fn r085_bits_beyond_the_last_group() {
    breaks(layout(SIX_BIT, 2, 4), (2, 12), |b| b[3 + 2] = 1 << 7, (85, 1, 12));
}

#[test]
fn r086_pair_code() {
    // The second tile of the second strip: lane 4·3 + 1, V1, nibble 5 is compressed column 4 + 1 + 16 of row 3, in group 10 of half 1.
    let at = 2 * 512 + 512 + 16 * 13 + 8 + 2;
    for code in 9..=15 {
        let put = |b: &mut Vec<u8>| b[at] = code << 4 | 8;
        breaks(layout(FRAGMENTS, 2, 4), (32, 256), put, (86, 16 + 3, 128 + 64 + 40));
    }
}

#[test]
fn r087_index_nibble() {
    // Lane 4·2 + 3, M0, nibble 6: group 8 + 6 of row 8 + 2.
    let at = 16 * 11 + 4 + 3;
    for nibble in (0..16).filter(|n| ![4, 8, 9, 12, 13, 14].contains(n)) {
        breaks(layout(FRAGMENTS, 2, 4), (16, 128), |b| b[at] = 4 << 4 | nibble, (87, 10, 56));
    }
}

#[test]
fn r088_smallest_pair() {
    let at = 16 * 11 + 4 + 3;
    for nibble in [8, 9, 12, 13, 14] {
        breaks(layout(FRAGMENTS, 2, 4), (16, 128), |b| b[at] = 4 << 4 | nibble, (88, 10, 56));
    }
    // Lane 0, V0: slots 0 and 1 of group 0 are (1, 0), rows 0 and 8.
    breaks(layout(FRAGMENTS, 1, 4), (16, 128), |b| b[0] = 0x11, (88, 0, 0));
    breaks(layout(FRAGMENTS, 1, 4), (16, 128), |b| b[0] = 0x22, (88, 8, 0));
    assert!(
        layout(FRAGMENTS, 2, 4)
            .validate(&changed(layout(FRAGMENTS, 2, 4), (16, 128), |b| b[0] = 0x11), 16, 128)
            .is_ok()
    );
}

#[test]
fn r089_groups_beyond_the_matrix() {
    // A second strip of one row: row 8 of it; and column 132 of the first strip.
    breaks(layout(FRAGMENTS, 2, 4), (17, 128), |b| b[512] = 0x82, (89, 24, 0));
    breaks(layout(FRAGMENTS, 2, 4), (16, 132), |b| b[512 + 1] = 0x81, (89, 0, 132));
}

#[test]
fn r090_window_with_room() {
    // Blocks of 6 take two windows. Group 3 is the second window of block 1; its column 0 is column 6 + 2.
    let windows = layout((Encoding::NmVi, Order::Windows), 4, 6);
    // Lane 1 of row 0, V0: group 3, slot 0.
    breaks(windows, (16, 192), |b| b[16 + 1] = 0x81, (90, 0, 8));
    // Group 2 is the first window of the block: the same is what an encoder writes.
    assert!(windows.validate(&changed(windows, (16, 192), |b| b[16] = 0x81), 16, 192).is_ok());
}

#[test]
fn r077_too_many_non_zeros() {
    for (n, m) in [(1, 4), (2, 4), (4, 6), (3, 8), (6, 8), (14, 16)] {
        let pattern = Pattern::new(n, m).unwrap();
        let (n, m) = (usize::from(n), usize::from(m));
        let cols = 5 * m;
        let mut trits = vec![0; 3 * cols];
        let group = 2 * cols + 3 * m;
        trits[group..group + n].fill(-1);
        assert_eq!(check_pattern(&trits, cols, pattern), Ok(()));
        trits[group + n] = 1;
        let Offence { rule, row, col, .. } = check_pattern(&trits, cols, pattern).unwrap_err();
        assert_eq!((rule, row, col), (77, 2, 3 * m));
    }
}
