//! Windows, exhaustively: every mask of a block is placed whole, or refused if it has a non-zero too many.

use sbnc_format::encoding::windows::input_of;
use sbnc_format::{Encoding, Order, Pattern};

use super::layout::{Layout, Numbers};

/// A row for every mask of one block with the wanted number of non-zeros; signs are random.
fn blocks(m: usize, wanted: impl Fn(u32) -> bool) -> Vec<Vec<i8>> {
    let mut numbers = Numbers(9);
    let sign = |some: bool, numbers: &mut Numbers| if some { 1 - 2 * numbers.below(2) as i8 } else { 0 };
    (0u32..1 << m)
        .filter(|mask| wanted(mask.count_ones()))
        .map(|mask| (0..m).map(|col| sign(mask >> col & 1 == 1, &mut numbers)).collect())
        .collect()
}

#[test]
fn every_legal_block_is_placed_whole() {
    for m in [6, 8, 10, 14, 16] {
        let layout = Layout::new(Encoding::NmVi, Order::Windows, m - 2, m);
        let m = usize::from(m);
        let rows = blocks(m, |ones| ones <= m as u32 - 2);
        let trits = rows.concat();
        let bytes = layout.encode(&trits, m).unwrap();
        assert_eq!(layout.validate(&bytes, rows.len(), m), Ok(()));
        assert!(layout.decode(&bytes, rows.len(), m) == trits);

        // Read as plain fragments, every non-zero is in one column, and that column reads its input.
        let width = (m / 2 - 1) * 4;
        let fragments = Layout::new(Encoding::NmVi, Order::Fragments, 2, 4);
        assert_eq!(fragments.validate(&bytes, rows.len(), width), Ok(()));
        let expanded = fragments.decode(&bytes, rows.len(), width);
        for (row, wide) in rows.iter().zip(expanded.chunks(width)) {
            let mut sum = vec![0; m];
            for (col, &trit) in wide.iter().enumerate().filter(|(_, t)| **t != 0) {
                let input = &mut sum[input_of(col, layout.pattern)];
                assert_eq!(*input, 0, "{row:?} is placed twice");
                *input = trit;
            }
            assert_eq!(&sum, row);
        }
    }
}

#[test]
fn every_block_with_too_many_is_refused() {
    for m in [6, 8, 10, 14] {
        let layout = Layout::new(Encoding::NmVi, Order::Windows, m - 2, m);
        let m = usize::from(m);
        for block in blocks(m, |ones| ones > m as u32 - 2) {
            // The second row's third block is the illegal one; the non-zero without room is one of its last two.
            let mut trits = vec![0; 2 * 4 * m];
            trits[6 * m..7 * m].copy_from_slice(&block);
            let illegal = layout.encode(&trits, 4 * m).unwrap_err();
            assert_eq!(illegal.row, 1, "{block:?}");
            assert!(
                (3 * m - 2..3 * m).contains(&illegal.col) && block[illegal.col - 2 * m] != 0,
                "{block:?}: {illegal:?}"
            );
        }
    }
}

#[test]
fn inputs_are_gathered_as_the_text_says() {
    for m in [6, 8, 10, 16] {
        let pattern = Pattern::new(m - 2, m).unwrap();
        let (m, windows) = (usize::from(m), pattern.windows().unwrap());
        for (b, w, i) in (0..5).flat_map(|b| (0..windows).flat_map(move |w| (0..4).map(move |i| (b, w, i)))) {
            assert_eq!(input_of(4 * (b * windows + w) + i, pattern), b * m + 2 * w + i);
        }
    }
}
