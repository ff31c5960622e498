//! Matrices that are not ternary: embeddings and output heads.
//!
//! One token or few: rows of the matrix stream from memory once, from two places by turns, widened in registers; rows of int8 are multiplied as they are,
//! where there are instructions for that ([`super::int8`]). Many tokens: a panel of the matrix is widened once, into the second-level cache, and multiplied
//! with all tokens in tiles of registers.
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled; iterators hide that")]

use std::ops::Range;

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use super::fours::Fours;
use super::scratch::{self, take};
use crate::cpu::pool::Shares;
use crate::cpu::simd::{Kernel, Simd, Stored};
use crate::cpu::{Cpu, Dense};

/// Tokens that are still few.
const FEW: usize = 8;

/// Rows of a panel.
const PANEL_ROWS: usize = 64;

/// Columns of a panel: four of its rows and the same columns of some tokens fit the first-level cache.
const PANEL_COLS: usize = 1024;

/// Bytes that are asked for ahead of use, in each stream.
const AHEAD: usize = 2560;

/// Rows whose sums are added up across vectors together.
const TALL: usize = 4;

/// Vectors of a row that have a sum of their own, so that no sum waits for the one before.
const SUMS: usize = 4;

impl Cpu {
    /// `out[token · rows + row] = weight · x`, with `cols` values a row of `x` and of the matrix. Panics where the shapes do not fit.
    pub fn dense(&self, weight: &Dense<'_>, cols: usize, x: &[f32], out: &mut [f32]) {
        assert!(cols > 0 && weight.len().is_multiple_of(cols) && x.len().is_multiple_of(cols), "rows of {cols} values");
        let (rows, tokens) = (weight.len() / cols, x.len() / cols);
        assert_eq!(out.len(), rows * tokens, "an output for each row and token");
        match weight {
            Dense::F32(values) => self.dense_stored(values, None, cols, x, out),
            Dense::F16(values) => self.dense_stored::<f16>(values.reinterpret_cast(), None, cols, x, out),
            Dense::Bf16(values) => self.dense_stored::<bf16>(values.reinterpret_cast(), None, cols, x, out),
            Dense::I8(values, scales) => {
                assert_eq!(scales.len(), rows, "a scale for each row");
                if tokens > FEW || !self.dense_int8((values, scales), cols, x, out) {
                    self.dense_stored(values, Some(scales), cols, x, out);
                }
            }
        }
    }

    fn dense_stored<T: Stored>(&self, weight: &[T], scales: Option<&[f32]>, cols: usize, x: &[f32], out: &mut [f32]) {
        let rows = weight.len() / cols;
        let out = Shares::new(out);
        if x.len() / cols <= FEW {
            let fours = Fours::new(rows, self.pool.threads(), cols * size_of::<T>());
            return self.pool.run(fours.tasks(), &|task| {
                let out = Outputs { out: &out, rows, first: 0 };
                self.platform.dispatch(Stream { weight, scales, cols, x, out, fours: &fours, task });
            });
        }
        self.pool.run(rows.div_ceil(PANEL_ROWS), &|task| {
            let first = task * PANEL_ROWS;
            let end = rows.min(first + PANEL_ROWS);
            let block = Block {
                weight: &weight[first * cols..end * cols],
                scales: scales.map(|scales| &scales[first..end]),
                cols,
                x,
                out: Outputs { out: &out, rows, first },
            };
            let stride = cols.min(PANEL_COLS).next_multiple_of(16);
            scratch::for_task(PANEL_ROWS * stride + 16, |memory| {
                self.platform.dispatch(Panel { block, stride, memory })
            });
        });
    }
}

/// Some rows of the matrix, for all tokens.
struct Block<'a, T> {
    weight: &'a [T],
    scales: Option<&'a [f32]>,
    cols: usize,
    x: &'a [f32],
    out: Outputs<'a>,
}

/// Where the outputs of some rows go, from row `first` on. Only the task of these rows writes there.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    out: &'a Shares<'a, f32>,
    rows: usize,
    first: usize,
}

impl Outputs<'_> {
    /// The outputs of `count` rows for a token.
    #[inline(always)]
    fn of(&mut self, token: usize, row: usize, count: usize) -> &mut [f32] {
        // SAFETY: an `Outputs` is made for each task, whose rows no other task has; `&mut self` keeps two parts of one task from being alive together.
        unsafe { self.out.range(token * self.rows + self.first + row, count) }
    }
}

/// A kernel that reads the rows of a task once, for few tokens.
struct Stream<'a, T> {
    weight: &'a [T],
    scales: Option<&'a [f32]>,
    cols: usize,
    x: &'a [f32],
    out: Outputs<'a>,
    fours: &'a Fours,
    task: usize,
}

impl<T: Stored> Kernel for Stream<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        let Self { weight, scales, cols, x, mut out, fours, task } = self;
        let at_a_time = if S::MANY_REGISTERS { 4 } else { 2 };
        for four in fours.of(task) {
            let rows = four.map(|row| &weight[row.unwrap_or(0) * cols..][..cols]);
            for (group, x) in x.chunks(at_a_time * cols).enumerate() {
                let tokens = x.len() / cols;
                let mut sums = [[0.0; TALL]; 4];
                let sums = &mut sums[..tokens];
                dots(s, rows, x, cols, sums);
                for (token, sums) in sums.iter().enumerate() {
                    for (row, sum) in four.iter().zip(sums) {
                        if let Some(row) = *row {
                            out.of(group * at_a_time + token, row, 1)[0] =
                                sum * scales.map_or(1.0, |scales| scales[row]);
                        }
                    }
                }
            }
        }
    }
}

/// [`dot`] for as many tokens as there are.
#[inline(always)]
fn dots<T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    rows: [&[T]; TALL],
    x: &[f32],
    cols: usize,
    sums: &mut [[f32; TALL]],
) {
    match sums.len() {
        4 => dot::<4, T, S, N>(s, rows, x, cols, sums),
        3 => dot::<3, T, S, N>(s, rows, x, cols, sums),
        2 => dot::<2, T, S, N>(s, rows, x, cols, sums),
        _ => dot::<1, T, S, N>(s, rows, x, cols, sums),
    }
}

/// Products of rows with `Q` tokens, row by row; asks for what follows each row meanwhile.
#[inline(always)]
fn dot<const Q: usize, T: Stored, S: Simd<N>, const N: usize>(
    s: S,
    rows: [&[T]; TALL],
    x: &[f32],
    cols: usize,
    out: &mut [[f32; TALL]],
) {
    let mut v: [&[[f32; N]]; Q] = [&[]; Q];
    let mut v_tail: [&[f32]; Q] = [&[]; Q];
    for q in 0..Q {
        (v[q], v_tail[q]) = x[q * cols..][..cols].as_chunks::<N>();
    }
    let mut totals = [[s.splat(0.0); TALL]; Q];
    for r in 0..TALL {
        let (w, w_tail) = rows[r].as_chunks::<N>();
        let mut sums = [[s.splat(0.0); SUMS]; Q];
        let whole = w.len() / SUMS;
        for (i, w) in w.as_chunks::<SUMS>().0.iter().enumerate() {
            for at in (0..size_of_val(w)).step_by(64) {
                s.prefetch(w.as_ptr().cast::<u8>().wrapping_add(at + AHEAD));
            }
            for c in 0..SUMS {
                let weight = T::widen(s, &w[c]);
                for q in 0..Q {
                    sums[q][c] = s.mul_add(weight, s.load(&v[q][i * SUMS + c]), sums[q][c]);
                }
            }
        }
        for c in whole * SUMS..w.len() {
            let weight = T::widen(s, &w[c]);
            for q in 0..Q {
                sums[q][0] = s.mul_add(weight, s.load(&v[q][c]), sums[q][0]);
            }
        }
        if !w_tail.is_empty() {
            let weight = s.widen_tail(w_tail);
            for q in 0..Q {
                sums[q][1] = s.mul_add(weight, s.widen_tail(v_tail[q]), sums[q][1]);
            }
        }
        for q in 0..Q {
            totals[q][r] = s.add(s.add(sums[q][0], sums[q][1]), s.add(sums[q][2], sums[q][3]));
        }
    }
    for q in 0..Q {
        out[q] = s.sums(totals[q]);
    }
}

/// A kernel that widens the rows once, for many tokens.
struct Panel<'a, 'b, T> {
    block: Block<'a, T>,
    /// Distance between the rows of the panel.
    stride: usize,
    memory: &'b mut [f32],
}

impl<T: Stored> Kernel for Panel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        let Self { block: Block { weight, scales, cols, x, mut out }, stride, mut memory } = self;
        let panel = take(&mut memory, PANEL_ROWS * stride);
        let rows = weight.len() / cols;
        for first in (0..cols).step_by(PANEL_COLS) {
            let width = PANEL_COLS.min(cols - first);
            for (row, wide) in weight.chunks_exact(cols).zip(panel.chunks_exact_mut(stride)) {
                widen_padded(s, &row[first..][..width], wide);
            }
            let (panel, columns) = ((&*panel, stride, rows), Columns { x, cols, range: first..first + width });
            if S::MANY_REGISTERS {
                tiles::<4, S, N>(s, panel, columns, &mut out);
            } else {
                tiles::<2, S, N>(s, panel, columns, &mut out);
            }
        }
        if let Some(scales) = scales {
            for token in 0..x.len() / cols {
                out.of(token, 0, rows).iter_mut().zip(scales).for_each(|(out, scale)| *out *= scale);
            }
        }
    }
}

/// Widens values and pads them with zeros to a whole vector.
#[inline(always)]
fn widen_padded<T: Stored, S: Simd<N>, const N: usize>(s: S, from: &[T], to: &mut [f32]) {
    let (from, tail) = from.as_chunks::<N>();
    let to = to.as_chunks_mut::<N>().0;
    for (from, to) in from.iter().zip(to.iter_mut()) {
        s.store(T::widen(s, from), to);
    }
    if !tail.is_empty() {
        s.store(s.widen_tail(tail), &mut to[from.len()]);
    }
}

/// Some columns of all tokens: rows of `cols` values, and which of them.
#[derive(Clone)]
struct Columns<'a> {
    x: &'a [f32],
    cols: usize,
    range: Range<usize>,
}

/// Multiplies the rows of a panel with all tokens, in tiles of six tokens and `R` rows.
#[inline(always)]
fn tiles<const R: usize, S: Simd<N>, const N: usize>(
    s: S,
    (panel, stride, rows): (&[f32], usize, usize),
    columns: Columns<'_>,
    out: &mut Outputs<'_>,
) {
    for (group, x) in columns.x.chunks(6 * columns.cols).enumerate() {
        for row in (0..rows).step_by(R) {
            let wide = &panel[row * stride..][..R * stride];
            let columns = Columns { x, ..columns.clone() };
            let to = (&mut *out, 6 * group, row, R.min(rows - row));
            match x.len() / columns.cols {
                6 => tile::<6, R, S, N>(s, wide, columns, to),
                5 => tile::<5, R, S, N>(s, wide, columns, to),
                4 => tile::<4, R, S, N>(s, wide, columns, to),
                3 => tile::<3, R, S, N>(s, wide, columns, to),
                2 => tile::<2, R, S, N>(s, wide, columns, to),
                _ => tile::<1, R, S, N>(s, wide, columns, to),
            }
        }
    }
}

/// Adds the products of `R` rows of a panel with `Q` tokens to the outputs; the first columns set them.
#[inline(always)]
fn tile<const Q: usize, const R: usize, S: Simd<N>, const N: usize>(
    s: S,
    wide: &[f32],
    Columns { x, cols, range }: Columns<'_>,
    (out, token, row, count): (&mut Outputs<'_>, usize, usize, usize),
) {
    let full = range.len() / N;
    let stride = wide.len() / R;
    let mut w: [&[[f32; N]]; R] = [&[]; R];
    for r in 0..R {
        w[r] = wide[r * stride..][..stride].as_chunks::<N>().0;
    }
    let mut v: [&[[f32; N]]; Q] = [&[]; Q];
    let mut v_tail: [&[f32]; Q] = [&[]; Q];
    for q in 0..Q {
        let (chunks, tail) = x[q * cols..][range.clone()].as_chunks::<N>();
        (v[q], v_tail[q]) = (&chunks[..full], tail);
    }
    let mut sums = [[s.splat(0.0); R]; Q];
    let whole = w.map(|w| &w[..full]);
    for c in 0..full {
        let mut weights = [s.splat(0.0); R];
        for r in 0..R {
            weights[r] = s.load(&whole[r][c]);
        }
        for q in 0..Q {
            let value = s.load(&v[q][c]);
            for r in 0..R {
                sums[q][r] = s.mul_add(weights[r], value, sums[q][r]);
            }
        }
    }
    if full * N < range.len() {
        for q in 0..Q {
            let value = s.widen_tail(v_tail[q]);
            for r in 0..R {
                sums[q][r] = s.mul_add(s.load(&w[r][full]), value, sums[q][r]);
            }
        }
    }
    for q in 0..Q {
        let mut four = [s.splat(0.0); 4];
        four[..R].copy_from_slice(&sums[q]);
        let sums = s.sums(four);
        let out = out.of(token + q, row, count);
        if range.start == 0 {
            out.copy_from_slice(&sums[..count]);
        } else {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        }
    }
}
