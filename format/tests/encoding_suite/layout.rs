//! What every test needs: all layouts of trits, and trits to put in them.

use sbnc_format::encoding::{Illegal, Offence};
use sbnc_format::{Encoding, Order, Packing, Pattern};

/// An encoding with an order and a pattern that it allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) encoding: Encoding,
    pub(crate) order: Order,
    pub(crate) pattern: Pattern,
}

impl Layout {
    pub(crate) fn new(encoding: Encoding, order: Order, n: u8, m: u8) -> Self {
        Self { encoding, order, pattern: Pattern::from_ids(n, m).unwrap() }
    }

    /// Every layout of the patterns that models use, and of some that they do not.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (n, m) in [(0, 0), (1, 4), (2, 4), (4, 6), (6, 8), (8, 10), (14, 16), (3, 8)] {
            for encoding in [Encoding::T2, Encoding::T5, Encoding::Nm6b, Encoding::NmVi] {
                for order in [Order::Rows, Order::Fragments, Order::Windows] {
                    let layout = Self::new(encoding, order, n, m);
                    if encoding.allows(order) && encoding.allows_pattern(order, layout.pattern) {
                        all.push(layout);
                    }
                }
            }
        }
        all
    }

    /// The smallest number of columns from `cols` on that the pattern allows.
    pub(crate) fn cols_from(&self, cols: usize) -> usize {
        cols.next_multiple_of(self.pattern.m().max(1))
    }

    pub(crate) fn packing(&self) -> Packing {
        Packing { encoding: self.encoding, order: self.order, pattern: self.pattern }
    }

    pub(crate) fn bytes(&self, rows: usize, cols: usize) -> usize {
        let bytes = self.packing().data_bytes(rows as u64, cols as u64);
        usize::try_from(bytes.unwrap()).unwrap()
    }

    pub(crate) fn encode(&self, trits: &[i8], cols: usize) -> Result<Vec<u8>, Illegal> {
        // Bytes are not zero before: an encoder writes all of them.
        let mut bytes = vec![0xA7; self.bytes(trits.len() / cols, cols)];
        self.packing().encode(trits, cols, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn decode(&self, bytes: &[u8], rows: usize, cols: usize) -> Vec<i8> {
        let mut trits = vec![99; rows * cols];
        self.packing().decode(bytes, cols, &mut trits);
        trits
    }

    pub(crate) fn validate(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<(), Offence> {
        self.packing().validate(bytes, rows, cols)
    }
}

/// A sequence of numbers that is the same every time.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // An additive sequence whose steps are mixed (splitmix64).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % end as u64) as usize
    }

    /// Trits that keep a pattern; how full groups are differs from group to group.
    pub(crate) fn trits(&mut self, rows: usize, cols: usize, pattern: Pattern) -> Vec<i8> {
        let mut trits = vec![0; rows * cols];
        let (n, m) = if pattern.is_dense() { (4, 4) } else { (pattern.n(), pattern.m()) };
        for group in trits.chunks_mut(m) {
            for _ in 0..self.below(n + 1) {
                let at = self.below(group.len());
                group[at] = if self.below(2) == 0 { 1 } else { -1 };
            }
        }
        trits
    }
}
