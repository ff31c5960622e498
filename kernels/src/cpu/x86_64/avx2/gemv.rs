//! Sums of a few tokens over rows of t2, t5 and nm-6b, straight from the bytes of the file, a row at a time.

use std::ops::Range;

use sbnc_format::Encoding;

use super::fragments;
use super::sums::{Sums, load, load_half, planes, prefetch};
use super::unpack::{Codes, Fives};
use crate::cpu::Matrix;
use crate::cpu::gemv::{Deal, Kernel, Layout, Line, Lines};
use crate::cpu::platform::{Isa, Platform};

/// The encodings of rows.
const T2: u8 = 0;
const T5: u8 = 1;
const NM6B: u8 = 2;

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
    matches!(platform.isa(), Isa::Avx2).then_some(|weight, rows, x, sums| {
        // SAFETY: this kernel is handed out for a platform that has these instructions.
        unsafe { sums_of(weight, rows, x, sums) }
    })
}

/// [`Layout::deal`].
pub(crate) fn deal(platform: Platform) -> Option<Deal> {
    matches!(platform.isa(), Isa::Avx2).then_some(|layout, x, lines| {
        // SAFETY: this function is handed out for a platform that has these instructions.
        unsafe { deal_out(layout, x, lines) }
    })
}

#[target_feature(enable = "avx2")]
fn deal_out(layout: Layout, x: &[i8], lines: &mut [Line]) -> i32 {
    layout.deal(x, lines)
}

#[target_feature(enable = "avx2")]
fn sums_of(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    match weight.packing.encoding {
        Encoding::T2 => of_rows::<T2>(weight, rows, x, sums),
        Encoding::T5 => of_rows::<T5>(weight, rows, x, sums),
        Encoding::Nm6b => of_rows::<NM6B>(weight, rows, x, sums),
        _ => fragments::sums_of(weight, rows, x, sums),
    }
}

/// Up to four tokens at a time: what a second look at a row reads is in the nearest cache.
#[target_feature(enable = "avx2")]
fn of_rows<const FORM: u8>(weight: &Matrix<'_>, rows: Range<usize>, x: &Lines<'_>, sums: &mut [i32]) {
    let bytes = weight.data.len() / weight.rows;
    let data = weight.data[rows.start * bytes..rows.end * bytes].chunks_exact(bytes);
    for (row, sums) in data.zip(sums.chunks_exact_mut(x.tokens)) {
        for (i, sums) in sums.chunks_mut(4).enumerate() {
            let lines = &x.lines[4 * i * x.stride..];
            match sums.len() {
                1 => sums.copy_from_slice(&of_row::<FORM, 1>(row, lines, x.stride)),
                2 => sums.copy_from_slice(&of_row::<FORM, 2>(row, lines, x.stride)),
                3 => sums.copy_from_slice(&of_row::<FORM, 3>(row, lines, x.stride)),
                _ => sums.copy_from_slice(&of_row::<FORM, 4>(row, lines, x.stride)),
            }
        }
    }
}

/// The sums of a row and T tokens, whose lines begin `stride` apart.
#[target_feature(enable = "avx2")]
fn of_row<const FORM: u8, const T: usize>(row: &[u8], lines: &[Line], stride: usize) -> [i32; T] {
    let steps = row.chunks_exact(step(FORM));
    let left = steps.remainder();
    let mut last = [0; 64];
    last[..left.len()].copy_from_slice(left);
    let last = (!left.is_empty()).then_some(&last[..step(FORM)]);
    let (codes, fives) = (Codes::new(), Fives::new());
    let mut sums = Sums::<T>::new();
    for (i, bytes) in steps.chain(last).enumerate() {
        prefetch(bytes);
        let lines = &lines[i * lines_of(FORM)..];
        match FORM {
            T5 => {
                let [(low, low_fifth), (high, high_fifth)] = [0, 1].map(|half| fives.unpack(load_half(bytes, half)));
                let [a, b, c, d] = planes(low);
                let [e, f, g, h] = planes(high);
                sums.add([[a, b, c, d, low_fifth], [e, f, g, h, high_fifth]], lines, stride);
            }
            NM6B => {
                let [low, high] = codes.unpack(load(bytes, 0), load(bytes, 12), load(bytes, 24), load(bytes, 32));
                sums.add([planes(low), planes(high)], lines, stride);
            }
            _ => sums.add([planes(load_half(bytes, 0)), planes(load_half(bytes, 1))], lines, stride),
        }
    }
    sums.finish()
}
