//! Sums of a few tokens over rows of t2, t5 and nm-6b, straight from the bytes of the file.
//!
//! ```text
//! 64 bytes of t5, 48 of nm-6b ── look up ──▶ 64 bytes in the form of t2 ──▶ planes ── · lines ──▶ sums
//! ```

use std::arch::x86_64::*;
use std::ops::Range;

use sbnc_format::Encoding;

use super::fragments;
use super::sums::{Sums, load, prefetch, put};
use super::tables::{Codes, Fives};
use crate::cpu::Matrix;
use crate::cpu::gemv::{Deal, Kernel, Layout, Line, Lines};
use crate::cpu::platform::{Isa, Platform};

/// Rows that share loads of activations.
const ROWS: usize = 2;
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

/// Four rows at a time, then one at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_rows<const FORM: u8>(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    let bytes = weight.data.len() / weight.rows;
    let fours = weight.data[rows.start * bytes..rows.end * bytes].chunks_exact(ROWS * bytes);
    let ones = fours.remainder().chunks_exact(bytes);
    let (sums_of_fours, sums_of_ones) = sums.split_at_mut(fours.len() * ROWS * x.tokens);
    for (rows, sums) in fours.zip(sums_of_fours.chunks_exact_mut(ROWS * x.tokens)) {
        of_tokens::<FORM, ROWS>(rows, x, sums);
    }
    for (row, sums) in ones.zip(sums_of_ones.chunks_exact_mut(x.tokens)) {
        of_tokens::<FORM, 1>(row, x, sums);
    }
}

/// Up to four tokens at a time: what a second look at some rows reads is in the nearest cache.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_tokens<const FORM: u8, const R: usize>(rows: &[u8], x: &Lines<'_>, sums: &mut [i32]) {
    for token in (0..x.tokens).step_by(TOKENS) {
        let lines = &x.lines[token * x.stride..];
        match x.tokens - token {
            1 => put(&of_block::<FORM, R, 1>(rows, lines, x.stride), token, x.tokens, sums),
            2 => put(&of_block::<FORM, R, 2>(rows, lines, x.stride), token, x.tokens, sums),
            3 => put(&of_block::<FORM, R, 3>(rows, lines, x.stride), token, x.tokens, sums),
            _ => put(&of_block::<FORM, R, 4>(rows, lines, x.stride), token, x.tokens, sums),
        }
    }
}

/// The sums of R rows, which lie one after another in `rows`, and T tokens, whose lines begin `stride` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn of_block<const FORM: u8, const R: usize, const T: usize>(
    rows: &[u8],
    lines: &[Line],
    stride: usize,
) -> [[i32; T]; R] {
    let bytes = rows.len() / R;
    let (whole, left) = (bytes / step(FORM), bytes % step(FORM));
    let steps = whole + usize::from(left > 0);
    assert!((T - 1) * stride + steps * planes(FORM) <= lines.len(), "as many lines as the rows have columns");
    let (codes, fives) = (Codes::new(), Fives::new());
    let mut sums = Sums::<R, T>::new();
    for i in 0..steps {
        let mask = if i < whole { u64::MAX >> (64 - step(FORM)) } else { (1 << left) - 1 };
        let mut stored = [_mm512_setzero_si512(); R];
        for (r, stored) in stored.iter_mut().enumerate() {
            let start = rows.as_ptr().wrapping_add(r * bytes + i * step(FORM));
            prefetch(rows.as_ptr().wrapping_add((R * i + r) * step(FORM)));
            // SAFETY: the mask lets a whole step of row r through, or the `left` bytes that remain of it.
            *stored = unsafe { load(start, mask) };
        }
        let at = lines.as_ptr().wrapping_add(i * planes(FORM));
        if FORM == T5 {
            let mut fifths = stored;
            fifths.iter_mut().for_each(|v| *v = fives.last(*v));
            // SAFETY: every token has the lines of step i, the fifth among them, as checked above.
            unsafe { sums.add_ones(&fifths, at.wrapping_add(4), stride) };
        }
        for stored in &mut stored {
            *stored = match FORM {
                T5 => fives.first_four(*stored),
                NM6B => codes.unpack(*stored),
                _ => *stored,
            };
        }
        // SAFETY: every token has the lines of step i, as checked above.
        unsafe { sums.add_fours(&stored, at, stride) };
    }
    sums.finish()
}
