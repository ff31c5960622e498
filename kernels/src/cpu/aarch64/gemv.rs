//! Sums of a few tokens over rows of t2, t5 and nm-6b, straight from the bytes of the file, some rows at a time: they share what is loaded of the
//! activations, and no sum waits for the one before.
//!
//! Vector instructions for 64 weights and one token, with dot products, besides loads: 8 for t2, 11 for nm-6b, 13 for t5. So a core that starts two in a
//! cycle reads at most 4 bytes of t2 in a cycle, and 2 of the others. Counted in machine code; nothing was timed.

use std::arch::aarch64::*;
use std::ops::Range;

use sbnc_format::Encoding;

use super::fragments;
use super::products::Products;
use super::unpack::{Codes, Fives};
use super::{fetch, load, load_signed};
use crate::cpu::Matrix;
use crate::cpu::gemv::{Deal, Kernel, Line, Lines};
use crate::cpu::platform::{Isa, Platform};

/// The encodings of rows.
const T2: u8 = 0;
const T5: u8 = 1;
const NM6B: u8 = 2;

/// How far ahead of its use a weight is fetched, at least.
const AHEAD: usize = 4096;

/// Bytes of a row that become 64 bytes in the form of t2.
const fn step(form: u8) -> usize {
    if form == NM6B { 48 } else { 64 }
}

/// Lines of activations of a step.
const fn lines_of(form: u8) -> usize {
    if form == T5 { 5 } else { 4 }
}

/// Sums of a few tokens.
pub(crate) fn kernel(platform: Platform) -> Option<Kernel> {
    matches!(platform.isa(), Isa::Neon).then_some(|weight, rows, x, sums| match Products::dots() {
        // SAFETY: this kernel is handed out for a platform that has these instructions.
        Some(products) => unsafe { sums_of(products, weight, rows, x, sums) },
        // SAFETY: as above.
        None => unsafe { sums_of(Products::WIDENED, weight, rows, x, sums) },
    })
}

/// [`Layout::deal`](crate::cpu::gemv::Layout::deal).
pub(crate) fn deal(platform: Platform) -> Option<Deal> {
    matches!(platform.isa(), Isa::Neon).then_some(|layout, x, lines| layout.deal(x, lines))
}

#[target_feature(enable = "neon")]
fn sums_of<const DOT: bool>(
    products: Products<DOT>,
    weight: &Matrix<'_>,
    rows: Range<usize>,
    x: &Lines<'_>,
    sums: &mut [i32],
) {
    match weight.packing.encoding {
        Encoding::T2 => of_rows::<DOT, T2>(products, weight, rows, x, sums),
        Encoding::T5 => of_rows::<DOT, T5>(products, weight, rows, x, sums),
        Encoding::Nm6b => of_rows::<DOT, NM6B>(products, weight, rows, x, sums),
        _ => fragments::sums_of(products, weight, rows, x, sums),
    }
}

/// Up to four tokens at a time: what a second look at a row reads is in the nearest cache. The fewer the tokens, the more rows: registers bound their
/// product.
#[target_feature(enable = "neon")]
fn of_rows<const DOT: bool, const FORM: u8>(
    products: Products<DOT>,
    weight: &Matrix<'_>,
    rows: Range<usize>,
    x: &Lines<'_>,
    sums: &mut [i32],
) {
    let bytes = weight.data.len() / weight.rows;
    let data = &weight.data[rows.start * bytes..rows.end * bytes];
    for token in (0..x.tokens).step_by(4) {
        let part = Part { bytes, x, token };
        match (x.tokens - token, FORM) {
            (1, T2) => part.sums::<DOT, FORM, 4, 1>(products, data, sums),
            (1, _) => part.sums::<DOT, FORM, 2, 1>(products, data, sums),
            (2, _) => part.sums::<DOT, FORM, 2, 2>(products, data, sums),
            (3, _) => part.sums::<DOT, FORM, 1, 3>(products, data, sums),
            _ => part.sums::<DOT, FORM, 1, 4>(products, data, sums),
        }
    }
}

/// Some tokens of a call, and the size of a row.
struct Part<'a> {
    bytes: usize,
    x: &'a Lines<'a>,
    token: usize,
}

impl Part<'_> {
    /// Sums of T tokens, R rows at a time.
    #[target_feature(enable = "neon")]
    fn sums<const DOT: bool, const FORM: u8, const R: usize, const T: usize>(
        &self,
        products: Products<DOT>,
        data: &[u8],
        sums: &mut [i32],
    ) {
        let of_rows = R * self.x.tokens;
        let whole = data.len() / (R * self.bytes);
        let (data, rest) = data.split_at(whole * R * self.bytes);
        let (sums, rest_sums) = sums.split_at_mut(whole * of_rows);
        for (rows, sums) in data.chunks_exact(R * self.bytes).zip(sums.chunks_exact_mut(of_rows)) {
            self.store(sums, of_some::<DOT, FORM, R, T>(products, rows, self.lines(), self.x.stride));
        }
        for (row, sums) in rest.chunks_exact(self.bytes).zip(rest_sums.chunks_exact_mut(self.x.tokens)) {
            self.store(sums, of_some::<DOT, FORM, 1, T>(products, row, self.lines(), self.x.stride));
        }
    }

    fn lines(&self) -> &[Line] {
        &self.x.lines[self.token * self.x.stride..]
    }

    fn store<const R: usize, const T: usize>(&self, sums: &mut [i32], of_rows: [[i32; T]; R]) {
        for (sums, of_row) in sums.chunks_exact_mut(self.x.tokens).zip(&of_rows) {
            sums[self.token..][..T].copy_from_slice(of_row);
        }
    }
}

/// The sums of R rows, one after another in `rows`, and T tokens, whose lines begin `stride` apart. One function, so that it is one loop: what has the
/// features of a processor cannot be made to be inlined.
#[target_feature(enable = "neon")]
fn of_some<const DOT: bool, const FORM: u8, const R: usize, const T: usize>(
    products: Products<DOT>,
    rows: &[u8],
    lines: &[Line],
    stride: usize,
) -> [[i32; T]; R] {
    let bytes = rows.len() / R;
    // The rows after these, which are read next, or those after them.
    let ahead = rows.len() * (1 + AHEAD / rows.len().max(1));
    let (whole, left) = (bytes / step(FORM), bytes % step(FORM));
    let mut last = [[0; 64]; R];
    for (r, last) in last.iter_mut().enumerate() {
        last[..left].copy_from_slice(&rows[r * bytes + whole * step(FORM)..][..left]);
    }
    let (codes, fives) = (Codes::new(), Fives::new());
    let mut sums = [[products.zero(); T]; R];
    for i in 0..whole + usize::from(left > 0) {
        let lines = &lines[i * lines_of(FORM)..];
        // Of every quarter those of R rows.
        let mut trits = [[vdupq_n_u8(0); R]; 4];
        for r in 0..R {
            let mut part = &last[r][..step(FORM)];
            if i < whole {
                part = &rows[r * bytes + i * step(FORM)..][..step(FORM)];
                fetch(part.as_ptr().wrapping_add(ahead));
            }
            match part.first_chunk() {
                Some(part) if FORM == NM6B => {
                    let [a, b, c, d] = codes.unpack(part);
                    (trits[0][r], trits[1][r], trits[2][r], trits[3][r]) = (a, b, c, d);
                }
                _ => {
                    for (trits, part) in trits.iter_mut().zip(part.as_chunks().0) {
                        trits[r] = load(part);
                    }
                }
            }
        }
        for (quarter, trits) in trits.iter().enumerate() {
            for (sums, &bytes) in sums.iter_mut().zip(trits) {
                let mut planes = [vdupq_n_s8(0); 5];
                if FORM == T5 {
                    let [low, fourth, fifth] = fives.unpack(bytes);
                    let [first, second, third, _] = products.planes(low);
                    planes = [first, second, third, vreinterpretq_s8_u8(fourth), vreinterpretq_s8_u8(fifth)];
                } else {
                    planes[..4].copy_from_slice(&products.planes(bytes));
                }
                for (t, sum) in sums.iter_mut().enumerate() {
                    let mut x = [vdupq_n_s8(0); 5];
                    for (x, line) in x.iter_mut().zip(&lines[t * stride..][..lines_of(FORM)]) {
                        *x = load_signed(&line.0.as_chunks().0[quarter]);
                    }
                    *sum = products.add(*sum, &planes[..lines_of(FORM)], &x[..lines_of(FORM)]);
                }
            }
        }
    }
    let mut out = [[0; T]; R];
    for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *out = products.finish(*sum);
    }
    out
}

#[cfg(test)]
mod tests {
    use sbnc_format::{Order, Packing, Pattern};

    use super::*;
    use crate::cpu::gemv::Layout;
    use crate::cpu::{Activations, Packed, Rule, portable};

    /// Where there are dot products nothing else calls the other way.
    #[test]
    fn widened_products_give_the_sums_of_the_oracle() {
        let dense = Pattern::DENSE;
        let pattern = |n, m| Pattern::new(n, m).expect("a pattern");
        let forms = [
            (Encoding::T2, Order::Rows, dense),
            (Encoding::T5, Order::Rows, dense),
            (Encoding::Nm6b, Order::Rows, pattern(2, 4)),
            (Encoding::NmVi, Order::Fragments, pattern(2, 4)),
            (Encoding::NmVi, Order::Windows, pattern(6, 8)),
        ];
        let (rows, cols) = (37, 1000);
        let trits: Vec<i8> =
            (0..rows * cols).map(|i| if i % 4 < 2 { [-1, 1, 0, -1, 1][i * 7 / 3 % 5] } else { 0 }).collect();
        for (encoding, order, pattern) in forms {
            let packed = Packed::new(Packing { encoding, order, pattern }, &trits, cols, vec![1.0; rows]);
            let packed = packed.expect("legal trits");
            let weight = packed.matrix();
            for tokens in 1..=8 {
                let x: Vec<f32> = (0..tokens * cols).map(|i| (i * 7919 % 1009) as f32 - 504.0).collect();
                let x = Activations::quantise(&x, cols, Rule::A8);
                let layout = Layout::of(&weight);
                let stride = layout.lines(cols);
                let mut lines = vec![Line([0; 64]); tokens * stride];
                let totals: Vec<i32> =
                    lines.chunks_exact_mut(stride).enumerate().map(|(t, out)| layout.deal(x.values(t), out)).collect();
                let mut sums = vec![0; rows * tokens];
                let lines = Lines { lines: &lines, stride, tokens };
                // SAFETY: every processor of this architecture has NEON.
                unsafe { sums_of(Products::WIDENED, &weight, 0..rows, &lines, &mut sums) };
                let got: Vec<i32> =
                    (0..tokens * rows).map(|i| sums[i % rows * tokens + i / rows] - totals[i / rows]).collect();
                assert_eq!(got, portable::sums(&weight, &x), "{encoding:?} {order:?}, {tokens} tokens");
            }
        }
    }
}
