//! Every matrix has one byte string: a changed byte is refused, or is the encoding of other trits.

use sbnc_format::{Encoding, Order};

use super::layout::{Layout, Numbers};

/// Changes every byte to every other value. Returns how many changes gave the encoding of other trits.
fn mutate(layout: Layout, rows: usize, cols: usize) -> usize {
    let trits = Numbers(5).trits(rows, cols, layout.pattern);
    let mut bytes = layout.encode(&trits, cols).unwrap();
    let mut accepted = 0;
    for at in 0..bytes.len() {
        for change in 1..=255 {
            bytes[at] ^= change;
            let changed = layout.decode(&bytes, rows, cols);
            assert!(changed.iter().all(|t| (-1..=1).contains(t)), "{layout:?}, byte {at} ^ {change:#x}");
            // For 1:4 an encoder relies on its caller for the pattern; valid bytes keep it.
            let again = layout.encode(&changed, cols).is_ok_and(|again| again == bytes);
            let valid = layout.validate(&bytes, rows, cols).is_ok();
            let one_in_four =
                layout.pattern.ids() == (1, 4) && layout.encoding.allows_pattern(layout.order, layout.pattern);
            let too_many = one_in_four && changed.chunks(4).any(|g| g.iter().filter(|&&t| t != 0).count() > 1);
            if matches!(layout.encoding, Encoding::T2 | Encoding::T5) || !too_many {
                assert_eq!(valid, again, "{layout:?}, byte {at} ^ {change:#x}");
            } else {
                assert!(!valid, "{layout:?}, byte {at} ^ {change:#x}");
            }
            assert!(!valid || changed != trits, "{layout:?}, byte {at} ^ {change:#x}");
            accepted += usize::from(valid);
            bytes[at] ^= change;
        }
    }
    accepted
}

#[test]
fn changed_bytes_are_refused_or_other_trits() {
    for layout in Layout::all() {
        // Shapes with padding in columns and rows, and shapes without.
        let shapes: &[(usize, usize)] = match layout.order {
            Order::Rows => &[(3, 20), (2, 64), (2, 59), (3, 4), (2, 8), (2, 12)],
            _ => &[(16, 128), (13, 40)],
        };
        for &(rows, cols) in shapes {
            let accepted = mutate(layout, rows, layout.cols_from(cols));
            assert!(accepted > 0, "{layout:?}: every change was refused");
        }
    }
}
