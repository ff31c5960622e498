//! Sums of a few tokens over rows of t2, t5 and nm-6b, straight from the bytes of the file.
//!
//! ```text
//! 64 bytes of t5, 48 of nm-6b ── look up ──▶ 64 bytes in the form of t2 ──▶ planes ── · lines ──▶ sums
//! ```

use std::arch::x86_64::*;
use std::ops::Range;

use sbnc_format::Encoding;

use super::fragments;
use super::sums::{Sums, across, load, prefetch};
use super::tables::{Codes, Fives};
use crate::cpu::Matrix;
use crate::cpu::gemv::{Deal, Kernel, Layout, Line, Lines};
use crate::cpu::platform::{Isa, Platform};

/// Rows whose sums are added up across vectors together.
const ROWS: usize = 4;
/// Tokens that share the planes of a weight.
const TOKENS: usize = 4;

/// The encodings of rows.
const T2: u8 = 0;
const T5: u8 = 1;
const NM6B: u8 = 2;

/// Bytes of a row that become 64 bytes in the form of t2.
const fn step(form: u8) -> usize {
    if form == NM6B { 48 } else { 64 }
}

/// Lines of activations of a step.
const fn planes(form: u8) -> usize {
    if form == T5 { 5 } else { 4 }
}

/// Sums of a few tokens.
pub(crate) fn kernel(platform: Platform) -> Option<Kernel> {
    matches!(platform.isa(), Isa::Avx512 | Isa::Amx).then_some(|weight, rows, x, sums| {
        // SAFETY: this kernel is handed out for a platform that has these instructions.
        unsafe { sums_of(weight, rows, x, sums) }
    })
}

/// [`Layout::deal`].
pub(crate) fn deal(platform: Platform) -> Option<Deal> {
    matches!(platform.isa(), Isa::Avx512 | Isa::Amx).then_some(|layout, x, lines| {
        // SAFETY: this function is handed out for a platform that has these instructions.
        unsafe { deal_out(layout, x, lines) }
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn deal_out(layout: Layout, x: &[i8], lines: &mut [Line]) -> i32 {
    layout.deal(x, lines)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    match weight.packing.encoding {
        Encoding::T2 => of_rows::<T2>(weight, rows, x, sums),
        Encoding::T5 => of_rows::<T5>(weight, rows, x, sums),
        Encoding::Nm6b => of_rows::<NM6B>(weight, rows, x, sums),
        _ => fragments::sums_of(weight, rows, x, sums),
    }
}

/// Up to four tokens at a time: what a second look at some rows reads is in the nearest cache.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_rows<const FORM: u8>(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    let bytes = weight.data.len() / weight.rows;
    let data = &weight.data[rows.start * bytes..rows.end * bytes];
    for (rows, sums) in data.chunks(ROWS * bytes).zip(sums.chunks_mut(ROWS * x.tokens)) {
        for token in (0..x.tokens).step_by(TOKENS) {
            let lines = &x.lines[token * x.stride..];
            let sums = &mut sums[token..];
            match x.tokens - token {
                1 => of_block::<FORM, 1>(rows, bytes, lines, x, sums),
                2 => of_block::<FORM, 2>(rows, bytes, lines, x, sums),
                3 => of_block::<FORM, 3>(rows, bytes, lines, x, sums),
                _ => of_block::<FORM, 4>(rows, bytes, lines, x, sums),
            }
        }
    }
}

/// The sums of up to four rows and T tokens: row by row, because memory likes that best, but added up across vectors for all of them together.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_block<const FORM: u8, const T: usize>(
    rows: &[u8],
    bytes: usize,
    lines: &[Line],
    x: &Lines<'_>,
    sums: &mut [i32],
) {
    let mut totals = [[_mm512_setzero_si512(); ROWS]; T];
    for (r, row) in rows.chunks_exact(bytes).enumerate() {
        for (totals, of_token) in totals.iter_mut().zip(of_row::<FORM, T>(row, lines, x.stride)) {
            totals[r] = of_token;
        }
    }
    for (t, totals) in totals.into_iter().enumerate() {
        sums.iter_mut().skip(t).step_by(x.tokens).zip(across(totals)).for_each(|(sum, total)| *sum = total);
    }
}

/// The sums of a row and T tokens, whose lines begin `stride` apart, spread over vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn of_row<const FORM: u8, const T: usize>(row: &[u8], lines: &[Line], stride: usize) -> [__m512i; T] {
    let steps = row.len().div_ceil(step(FORM));
    // As many steps can be loaded with all 64 bytes, of which those beyond the step do not count: a mask takes two instructions more.
    let whole = if row.len() < 64 { 0 } else { (row.len() - 64) / step(FORM) + 1 };
    assert!((T - 1) * stride + steps * planes(FORM) <= lines.len(), "as many lines as the row has columns");
    let (codes, fives) = (Codes::new(), Fives::new());
    let mut sums = Sums::<1, T>::new();
    let mut add = |i: usize, stored: __m512i| {
        let at = lines.as_ptr().wrapping_add(i * planes(FORM));
        let fours = match FORM {
            T5 => {
                let [fours, last] = fives.unpack(stored);
                // SAFETY: every token has the lines of step i, the fifth among them, as checked above.
                unsafe { sums.add_last(&[last], at.wrapping_add(4), stride) };
                fours
            }
            NM6B => codes.unpack(stored),
            _ => stored,
        };
        // SAFETY: every token has the lines of step i, as checked above.
        unsafe { sums.add_fours(&[fours], at, stride) };
    };
    for i in 0..whole {
        let start = row.as_ptr().wrapping_add(i * step(FORM));
        prefetch(start);
        // SAFETY: a whole step and the 64 bytes from its beginning on are within the row.
        add(i, unsafe { load(start, u64::MAX) });
    }
    for i in whole..steps {
        let left = &row[i * step(FORM)..];
        prefetch(left.as_ptr());
        // SAFETY: the mask lets a whole step of the row through, or what is left of it.
        add(i, unsafe { load(left.as_ptr(), u64::MAX >> (64 - left.len().min(step(FORM)))) });
    }
    let [sums] = sums.finish();
    sums
}
