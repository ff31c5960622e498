//! The oracle itself against products written out by hand, for every encoding and order.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sbnc_format::{Encoding, Order, Packing, Pattern};
use sbnc_kernels::cpu::{Activations, Packed, Rule, portable};

const LAYOUTS: [(Encoding, Order, &str); 6] = [
    (Encoding::T2, Order::Rows, "none"),
    (Encoding::T5, Order::Rows, "none"),
    (Encoding::T5, Order::Rows, "6:8"),
    (Encoding::Nm6b, Order::Rows, "2:4"),
    (Encoding::NmVi, Order::Fragments, "2:4"),
    (Encoding::NmVi, Order::Windows, "6:8"),
];

/// Trits that keep every pattern above: two non-zeros in each four.
fn trits(rows: usize, cols: usize) -> Vec<i8> {
    (0..rows * cols).map(|i| if (i / cols + i) % 4 < 2 { [1, -1, 1][i * 7 % 3] } else { 0 }).collect()
}

#[test]
fn sums_equal_products_written_out() {
    let (rows, cols) = (19, 72);
    let x: Vec<f32> = (0..2 * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
    let x = Activations::quantise(&x, cols, Rule::A8);
    let trits = trits(rows, cols);
    for (encoding, order, pattern) in LAYOUTS {
        let pattern: Pattern = if pattern == "none" { Pattern::DENSE } else { pattern.parse().unwrap() };
        let packed = Packed::new(Packing { encoding, order, pattern }, &trits, cols, vec![0.5; rows]).unwrap();
        let sums = portable::sums(&packed.matrix(), &x);
        for token in 0..2 {
            for row in 0..rows {
                let by_hand: i32 =
                    (0..cols).map(|k| i32::from(trits[row * cols + k]) * i32::from(x.values(token)[k])).sum();
                assert_eq!(sums[token * rows + row], by_hand, "{encoding:?} {order:?}, row {row}");
            }
        }
    }
}
