//! Stored rows to rows with two bits a trit. The plain form of this is `gemm::rows`.

use std::arch::aarch64::*;
use std::ops::Range;

use sbnc_format::{Encoding, Order};

use super::unpack::{Codes, Fives, Quads};
use super::{load, store};
use crate::cpu::Matrix;
use crate::cpu::gemm::rows;

/// Unpacks some rows; the first is a multiple of 16. Beyond the last column up to 128 bytes of `out` are written.
#[target_feature(enable = "neon")]
pub(crate) fn unpack(weight: &Matrix<'_>, range: Range<usize>, out: &mut [u8], stride: usize, windows: &mut Vec<u8>) {
    let strip = weight.packing.strip(weight.cols);
    let strips = &weight.data[range.start / strip.rows * strip.bytes..range.end.div_ceil(strip.rows) * strip.bytes];
    let strips = strips.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * stride));
    match (weight.packing.encoding, weight.packing.order) {
        (Encoding::T2, _) => strips.for_each(|(bytes, out)| out[..bytes.len()].copy_from_slice(bytes)),
        (Encoding::T5, _) => strips.for_each(|(bytes, out)| t5(bytes, out)),
        (Encoding::Nm6b, _) => strips.for_each(|(bytes, out)| nm6b(bytes, out)),
        (_, Order::Windows) => {
            let width = strip.bytes / 512 * 32;
            windows.resize(width * 16, 0);
            let (each, blocks) = (weight.packing.pattern.m() / 2 - 1, weight.cols / weight.packing.pattern.m());
            for (bytes, out) in strips {
                fragments(bytes, windows, width, 0x55);
                for (windows, out) in windows.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                    if each == 3 {
                        threes(windows, blocks, out);
                    } else {
                        rows::contract(windows, each, blocks, out);
                    }
                }
            }
        }
        _ => strips.for_each(|(bytes, out)| fragments(bytes, out, stride, 0)),
    }
}

/// Part `i` of N bytes, zeros behind the last.
#[inline]
fn part<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    let bytes = &bytes[N * i..];
    bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; N];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    })
}

/// 16 bytes, which are 80 codes, become 20; 26 are written.
#[target_feature(enable = "neon")]
fn t5(bytes: &[u8], out: &mut [u8]) {
    let fives = Fives::new();
    let close = load(&[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 0, 0, 0, 0, 0, 0]);
    for i in 0..bytes.len().div_ceil(16) {
        let [low, fourth, fifth] = fives.unpack(load(&part(bytes, i)));
        let four = vsliq_n_u8::<6>(low, fourth);
        for (half, ten) in [vzip1q_u8(four, fifth), vzip2q_u8(four, fifth)].into_iter().enumerate() {
            // Ten bits of each 16: two make 20 bits, four 40.
            let ten = vreinterpretq_u32_u8(ten);
            let twenty = vreinterpretq_u64_u32(vsliq_n_u32::<10>(ten, vshrq_n_u32::<16>(ten)));
            let forty = vsliq_n_u64::<20>(twenty, vshrq_n_u64::<32>(twenty));
            if let Some(out) = out[20 * i + 10 * half..].first_chunk_mut() {
                store(out, vqtbl1q_u8(vreinterpretq_u8_u64(forty), close));
            }
        }
    }
}

/// 48 bytes, which are 64 codes of four trits, become 64.
#[target_feature(enable = "neon")]
fn nm6b(bytes: &[u8], out: &mut [u8]) {
    let codes = Codes::new();
    for (i, out) in out.as_chunks_mut::<64>().0.iter_mut().take(bytes.len().div_ceil(48)).enumerate() {
        let [a, b, c, d] = codes.unpack(&part(bytes, i));
        // SAFETY: 64 bytes are writable behind the reference; the store needs no alignment.
        unsafe { vst4q_u8(out.as_mut_ptr(), uint8x16x4_t(a, b, c, d)) };
    }
}

/// One strip of 16 rows; all codes are joined with `flip` by "xor".
#[target_feature(enable = "neon")]
fn fragments(bytes: &[u8], out: &mut [u8], stride: usize, flip: u8) {
    let quads = Quads::new(flip);
    let (upper, lower) = out.split_at_mut(8 * stride);
    for (tile, bytes) in bytes.as_chunks::<512>().0.iter().enumerate() {
        let rows = upper.chunks_exact_mut(stride).zip(lower.chunks_exact_mut(stride));
        for (quad, (upper, lower)) in bytes.as_chunks().0.iter().zip(rows) {
            for (half, [of_upper, of_lower]) in quads.unpack(quad).into_iter().enumerate() {
                let at = 32 * tile + 16 * half;
                if let (Some(upper), Some(lower)) = (upper[at..].first_chunk_mut(), lower[at..].first_chunk_mut()) {
                    store(upper, of_upper);
                    store(lower, of_lower);
                }
            }
        }
    }
}

/// Joins blocks of three windows, whose zeros have the code 0: the pattern 6:8, the commonest. Blocks are two bytes of `out`.
#[target_feature(enable = "neon")]
fn threes(windows: &[u8], blocks: usize, out: &mut [u8]) {
    let zeros = vdupq_n_u8(0x55);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().take(blocks.div_ceil(16)).enumerate() {
        let windows: [u8; 48] = part(windows, i);
        // SAFETY: 48 bytes are readable behind the reference; the load needs no alignment.
        let uint8x16x3_t(a, b, c) = unsafe { vld3q_u8(windows.as_ptr()) };
        let low = veorq_u8(veorq_u8(a, zeros), vshlq_n_u8::<4>(b));
        let high = veorq_u8(veorq_u8(c, zeros), vshrq_n_u8::<4>(b));
        // SAFETY: 32 bytes are writable behind the reference; the store needs no alignment.
        unsafe { vst2q_u8(out.as_mut_ptr(), uint8x16x2_t(low, high)) };
    }
}
