//! Sums over rows of int8, for an output head: weights as w + 128, times bytes of activations.

use std::arch::x86_64::*;

use super::sums::{Sums, across, prefetch};
use super::{load, load_part};
use crate::cpu::gemv::Line;
use crate::cpu::ops::{Int8Kernel, PLANES};
use crate::cpu::platform::{Isa, Platform};

/// Sums of four rows.
pub(crate) fn kernel(platform: Platform) -> Option<Int8Kernel> {
    matches!(platform.isa(), Isa::Avx512 | Isa::Amx).then_some(|rows, lines| {
        // SAFETY: this kernel is handed out for a platform that has these instructions.
        unsafe { sums_of(rows, lines) }
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of(rows: &[&[i8]; 4], lines: &[Line]) -> [[i32; 4]; PLANES] {
    let mut totals = [[_mm512_setzero_si512(); 4]; PLANES];
    for (r, row) in rows.iter().enumerate() {
        for (totals, of_plane) in totals.iter_mut().zip(of_row(bytemuck::cast_slice(row), lines)) {
            totals[r] = of_plane;
        }
    }
    let mut sums = [[0; 4]; PLANES];
    for (sums, totals) in sums.iter_mut().zip(totals) {
        *sums = across(totals);
    }
    sums
}

/// The sums of a row with each plane, spread over vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn of_row(row: &[u8], lines: &[Line]) -> [__m512i; PLANES] {
    let stride = lines.len() / PLANES;
    assert!(row.len().div_ceil(64) <= stride, "as many lines as the row has columns");
    // A sum that is added to waits for the one before, so that there are two for each plane.
    let (mut even, mut odd) = (Sums::<1, PLANES>::new(), Sums::<1, PLANES>::new());
    let add = |sums: &mut Sums<1, PLANES>, i: usize, bytes: __m512i| {
        // Beyond the last column weights are taken for 0, so that 128 is added: activations are zero there.
        let weights = _mm512_xor_si512(bytes, _mm512_set1_epi8(i8::MIN));
        // SAFETY: every plane has line i, as checked above.
        unsafe { sums.add_ones(&[weights], lines.as_ptr().wrapping_add(i), stride) };
    };
    let (pairs, rest) = row.as_chunks::<64>().0.as_chunks::<2>();
    for (i, [first, second]) in pairs.iter().enumerate() {
        prefetch(first.as_ptr());
        prefetch(second.as_ptr());
        add(&mut even, 2 * i, load(first));
        add(&mut odd, 2 * i + 1, load(second));
    }
    if let [last] = rest {
        prefetch(last.as_ptr());
        add(&mut even, 2 * pairs.len(), load(last));
    }
    let left = row.as_chunks::<64>().1;
    if !left.is_empty() {
        add(&mut odd, row.len() / 64, load_part(left));
    }
    let ([mut out], [odd]) = (even.finish(), odd.finish());
    for (out, odd) in out.iter_mut().zip(odd) {
        *out = _mm512_add_epi32(*out, odd);
    }
    out
}
