//! SPEC §10, computed anew: whole byte strings from simple loops over the text's formulas, and its worked examples.

use proptest::prelude::*;
use sbnc_format::{Encoding, Order};
use serde_json::Value;

use super::layout::{Layout, Numbers};

/// Rows of a matrix, for formulas that read one trit at a time.
struct Matrix<'a> {
    trits: &'a [i8],
    rows: usize,
    cols: usize,
}

impl Matrix<'_> {
    /// The trit, zero beyond the matrix.
    fn at(&self, row: usize, col: usize) -> i8 {
        if row < self.rows && col < self.cols { self.trits[row * self.cols + col] } else { 0 }
    }

    fn rows_of(&self, row_bytes: usize, byte: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..self.rows).flat_map(|row| (0..row_bytes).map(|j| byte(row, j)).collect::<Vec<_>>()).collect()
    }

    /// §10.1
    fn t2(&self) -> Vec<u8> {
        let code = |row, col| (self.at(row, col) + 1) as u8;
        self.rows_of(self.cols.div_ceil(4), |row, j| (0..4).map(|i| code(row, 4 * j + i) << (2 * i)).sum())
    }

    /// §10.2
    fn t5(&self) -> Vec<u8> {
        let digit = |row, col| (self.at(row, col) + 1) as u8;
        self.rows_of(self.cols.div_ceil(5), |row, j| (0..5).map(|i| digit(row, 5 * j + i) * 3u8.pow(i as u32)).sum())
    }

    /// §10.3, the row as one string of bits.
    fn nm_6b(&self) -> Vec<u8> {
        const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        let code = |row: usize, q: usize| {
            let minus = |i: usize| usize::from(self.at(row, 4 * q + i) < 0);
            let positions: Vec<usize> = (0..4).filter(|&i| self.at(row, 4 * q + i) != 0).collect();
            match positions[..] {
                [] => 0,
                [p] => 1 + 2 * p + minus(p),
                [i, j] => 9 + 4 * PAIRS.iter().position(|&p| p == (i, j)).unwrap() + minus(i) + 2 * minus(j),
                _ => panic!("more than two non-zeros"),
            }
        };
        let groups = self.cols / 4;
        self.rows_of((6 * groups).div_ceil(8), |row, j| {
            let bit = |b: usize| if b / 6 < groups { (code(row, b / 6) >> (b % 6) & 1) as u8 } else { 0 };
            (0..8).map(|i| bit(8 * j + i) << i).sum()
        })
    }

    /// The index pair of group q and the values of its slots.
    fn slots(&self, row: usize, q: usize) -> ((usize, usize), [i8; 2]) {
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        let covers = |&(i, j): &(usize, usize)| (0..4).all(|p| p == i || p == j || self.at(row, 4 * q + p) == 0);
        let (i, j) = *pairs.iter().find(|&pair| covers(pair)).unwrap();
        ((i, j), [self.at(row, 4 * q + i), self.at(row, 4 * q + j)])
    }

    /// §10.4
    fn fragments(&self) -> Vec<u8> {
        const PAIR_CODES: [(i8, i8); 9] =
            [(1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0)];
        let mut bytes = Vec::new();
        for i in 0..self.rows.div_ceil(16) {
            for j in 0..self.cols.div_ceil(128) {
                for lane in 0..32 {
                    for h in 0..2 {
                        let group = |row: usize, q: usize| self.slots(row, (128 * j + 64 * h) / 4 + q);
                        let (g, c) = (lane / 4, lane % 4);
                        let (mut v, mut m) = (0u32, 0u32);
                        for e in 0..8 {
                            let kc = 4 * c + e % 4 + 16 * (e / 4);
                            let value = |row: usize| group(row, kc / 2).1[kc % 2];
                            let pair = (value(16 * i + g), value(16 * i + 8 + g));
                            v |= (PAIR_CODES.iter().position(|&p| p == pair).unwrap() as u32) << (4 * e);
                            let (i0, i1) = group(16 * i + 8 * (lane % 2) + lane / 4, 8 * (lane / 2 % 2) + e).0;
                            m |= ((i0 + 4 * i1) as u32) << (4 * e);
                        }
                        bytes.extend(v.to_le_bytes());
                        bytes.extend(m.to_le_bytes());
                    }
                }
            }
        }
        bytes
    }

    /// §10.5: for every window the non-zeros in its columns that no earlier window holds, two at most.
    fn expanded(&self, m: usize) -> Vec<i8> {
        let windows = m / 2 - 1;
        let mut expanded = Vec::new();
        for row in 0..self.rows {
            for b in 0..self.cols / m {
                let mut placed = vec![false; m];
                for w in 0..windows {
                    let mut held = 0;
                    for (col, placed) in placed.iter_mut().enumerate().skip(2 * w).take(4) {
                        let trit = self.at(row, b * m + col);
                        let take = trit != 0 && !*placed && held < 2;
                        if take {
                            *placed = true;
                            held += 1;
                        }
                        expanded.push(if take { trit } else { 0 });
                    }
                }
            }
        }
        expanded
    }

    fn bytes(&self, layout: Layout) -> Vec<u8> {
        match (layout.encoding, layout.order) {
            (Encoding::T2, _) => self.t2(),
            (Encoding::T5, _) => self.t5(),
            (Encoding::Nm6b, _) => self.nm_6b(),
            (_, Order::Windows) => {
                let expanded = self.expanded(layout.pattern.m());
                Matrix { trits: &expanded, rows: self.rows, cols: expanded.len() / self.rows }.fragments()
            }
            _ => self.fragments(),
        }
    }
}

proptest! {
    #[test]
    fn bytes_are_what_the_text_says(
        layout in prop::sample::select(Layout::all()),
        rows in 1usize..35,
        cols in 1usize..280,
        seed: u64,
    ) {
        let cols = layout.cols_from(cols);
        let trits = Numbers(seed).trits(rows, cols, layout.pattern);
        let expected = Matrix { trits: &trits, rows, cols }.bytes(layout);
        prop_assert!(layout.encode(&trits, cols).unwrap() == expected);
    }
}

/// One non-zero at a time, in every place: a misplaced bit shows alone.
#[test]
fn single_non_zeros_are_where_the_text_says() {
    for layout in Layout::all() {
        let (rows, cols) = (17, layout.cols_from(132));
        for at in (0..rows * cols).step_by(3) {
            let mut trits = vec![0; rows * cols];
            trits[at] = if at % 2 == 0 { 1 } else { -1 };
            let bytes = layout.encode(&trits, cols).unwrap();
            assert!(bytes == Matrix { trits: &trits, rows, cols }.bytes(layout), "{layout:?}, element {at}");
        }
    }
}

#[test]
fn examples_of_the_text_hold() {
    let text = include_str!("../../../spec/SPEC.md");
    let examples: Vec<Value> = text
        .split("```json example\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .filter(|example: &Value| example.get("encoding").is_some())
        .collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let number = |key: &str| example[key].as_u64().unwrap();
        let encoding = Encoding::from_name(example["encoding"].as_str().unwrap()).unwrap();
        let order = Order::from_name(example["order"].as_str().unwrap()).unwrap();
        let layout = Layout::new(encoding, order, number("n") as u8, number("m") as u8);
        let trits: Vec<i8> = example["trits"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap() as i8).collect();
        let (rows, cols) = (number("rows") as usize, number("cols") as usize);
        let hex: String = layout.encode(&trits, cols).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, example["bytes"].as_str().unwrap(), "{example}");
        assert_eq!(trits.len(), rows * cols, "{example}");
    }
}

/// The example in §10.4's running text.
#[test]
fn one_group_takes_a_whole_tile() {
    let layout = Layout::new(Encoding::NmVi, Order::Fragments, 2, 4);
    let bytes = layout.encode(&[0, 0, -1, 1], 4).unwrap();
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|&w| u32::from_le_bytes(w)).collect();
    assert_eq!(words[..2], [0x8888_8815, 0x4444_444E]);
    assert!(words[2..].as_chunks().0.iter().all(|w| *w == [0x8888_8888, 0x4444_4444]));
}
