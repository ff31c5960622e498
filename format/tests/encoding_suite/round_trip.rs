//! Trits come back from every layout, whatever the shape, and what was written is valid.

use proptest::prelude::*;

use super::layout::{Layout, Numbers};

fn goes_round(layout: Layout, rows: usize, cols: usize, seed: u64) {
    let trits = Numbers(seed).trits(rows, cols, layout.pattern);
    let bytes = layout.encode(&trits, cols).unwrap();
    assert!(layout.decode(&bytes, rows, cols) == trits, "{layout:?} {rows} × {cols}, seed {seed}");
    assert_eq!(layout.validate(&bytes, rows, cols), Ok(()), "{layout:?} {rows} × {cols}, seed {seed}");
}

#[test]
fn awkward_shapes_go_round() {
    for layout in Layout::all() {
        let m = layout.pattern.m().max(1);
        for rows in [1, 7, 8, 9, 15, 16, 17, 33] {
            for cols in [m, 2 * m, 3 * m, 4, 5, 20, 60, 63, 64, 124, 128, 132, 257, 640] {
                goes_round(layout, rows, layout.cols_from(cols), rows as u64);
            }
        }
    }
}

#[test]
fn tall_matrices_go_round() {
    for layout in Layout::all() {
        goes_round(layout, 100_000, layout.cols_from(4), 1);
    }
}

/// Whole strips may be given in any number: pieces give what the whole gives.
#[test]
fn strips_are_independent() {
    for layout in Layout::all() {
        let (rows, cols) = (45, layout.cols_from(150));
        let trits = Numbers(3).trits(rows, cols, layout.pattern);
        let bytes = layout.encode(&trits, cols).unwrap();
        let strip = layout.packing().strip(cols);
        for (trits, bytes) in trits.chunks(strip.rows * cols).zip(bytes.chunks(strip.bytes)) {
            assert_eq!(layout.encode(trits, cols).unwrap(), bytes, "{layout:?}");
            assert_eq!(layout.decode(bytes, trits.len() / cols, cols), trits, "{layout:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_shape_goes_round(layout in prop::sample::select(Layout::all()), rows in 1usize..50, cols in 1usize..700, seed: u64) {
        goes_round(layout, rows, layout.cols_from(cols), seed);
    }

    #[test]
    fn any_bytes_decode_to_trits(
        layout in prop::sample::select(Layout::all()),
        rows in 1usize..40,
        cols in 1usize..300,
        bytes in prop::collection::vec(any::<u8>(), 1..500),
    ) {
        let cols = layout.cols_from(cols);
        let stored: Vec<u8> = bytes.iter().copied().cycle().take(layout.bytes(rows, cols)).collect();
        let trits = layout.decode(&stored, rows, cols);
        prop_assert!(trits.iter().all(|t| (-1..=1).contains(t)));
        // Bytes are valid exactly if encoding what they decode to gives them back, the pattern permitting.
        let again = layout.encode(&trits, cols).is_ok_and(|again| again == stored);
        prop_assert!(again || layout.validate(&stored, rows, cols).is_err());
    }
}
