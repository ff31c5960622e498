//! The digest of decoded content, which is the same for every encoding and order of the same tensor (SPEC §9.3).

use rayon::prelude::*;

use super::{Offence, Packing, Pattern, simd};
use crate::digest::Digest;
use crate::error::rule;

/// Decoded bytes held at a time.
const BATCH_BYTES: usize = 2 << 20;
/// A thread's share of them, which fits its cache.
const PIECE_BYTES: usize = 64 << 10;

/// Digest and count of the trits of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Digest of all trits, row by row, and the scales.
    pub digest: Digest,
    /// How many trits are not zero.
    pub non_zero: u64,
}

/// Takes the digest of trits that come in order, in pieces of whole rows, from an encoder or a decoder.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher {
    hasher: blake3::Hasher,
    non_zero: u64,
}

impl ContentHasher {
    /// Takes the next trits.
    pub fn update(&mut self, trits: &[i8]) {
        self.hasher.update_rayon(bytemuck::cast_slice(trits));
        self.non_zero += trits.par_chunks(1 << 18).map(|trits| simd::run(CountNonZero(trits))).sum::<u64>();
    }

    /// Takes the scales, as stored, and gives the result.
    pub fn finish(mut self, scale_bytes: &[u8]) -> Content {
        self.hasher.update(scale_bytes);
        Content { digest: self.hasher.finalize().into(), non_zero: self.non_zero }
    }
}

/// The number of non-zero trits.
struct CountNonZero<'a>(&'a [i8]);

impl simd::Kernel for CountNonZero<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        // Sums of bytes over short runs stay in bytes: 64 lanes of at most 255.
        let (runs, rest) = self.0.as_chunks::<{ 64 * 255 }>();
        let of_run = |run: &[i8; 64 * 255]| {
            let mut lanes = [0u8; 64];
            for trits in run.as_chunks::<64>().0 {
                for (lane, &trit) in lanes.iter_mut().zip(trits) {
                    *lane += (trit & 1) as u8;
                }
            }
            lanes.iter().map(|&n| u64::from(n)).sum::<u64>()
        };
        runs.iter().map(of_run).sum::<u64>() + rest.iter().map(|&t| u64::from(t as u8 & 1)).sum::<u64>()
    }
}

impl Packing {
    /// Decodes a tensor, checks its declared pattern (R077) and takes the digest of its content. Memory is bounded whatever the tensor's size.
    pub(crate) fn content(
        self,
        data: &[u8],
        (rows, cols): (usize, usize),
        scale_bytes: &[u8],
    ) -> Result<Content, Offence> {
        let mut hasher = ContentHasher::default();
        self.decode_batches(data, (rows, cols), |first_row, trits| {
            let rows_each = (PIECE_BYTES / cols).max(1);
            trits.par_chunks(rows_each * cols).enumerate().try_for_each(|(i, trits)| {
                check_pattern(trits, cols, self.pattern).map_err(|e| e.below(first_row + i * rows_each))
            })?;
            hasher.update(trits);
            Ok(())
        })?;
        Ok(hasher.finish(scale_bytes))
    }

    /// Decodes a tensor a few megabytes at a time, on all threads, and hands out whole rows in order: the first row's number, and the trits.
    pub fn decode_batches<E>(
        self,
        data: &[u8],
        (rows, cols): (usize, usize),
        mut each: impl FnMut(usize, &[i8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let strip = self.strip(cols);
        let strips_at_once = (BATCH_BYTES / (strip.rows * cols)).max(1);
        let strips_each = (PIECE_BYTES / (strip.rows * cols)).max(1);
        let mut trits = vec![0i8; (strips_at_once * strip.rows).min(rows) * cols];
        for (batch, bytes) in data.chunks(strips_at_once * strip.bytes).enumerate() {
            let first_row = batch * strips_at_once * strip.rows;
            let here = (rows - first_row).min(bytes.len() / strip.bytes * strip.rows);
            let trits = &mut trits[..here * cols];
            trits
                .par_chunks_mut(strips_each * strip.rows * cols)
                .zip(bytes.par_chunks(strips_each * strip.bytes))
                .for_each(|(trits, bytes)| self.decode(bytes, cols, trits));
            each(first_row, trits)?;
        }
        Ok(())
    }
}

/// Checks that rows of `cols` trits keep a pattern (R077); the first offence by row and column.
pub fn check_pattern(trits: &[i8], cols: usize, pattern: Pattern) -> Result<(), Offence> {
    if pattern.is_dense() || keeps_pattern(trits, pattern) {
        return Ok(());
    }
    for (row, trits) in trits.chunks_exact(cols).enumerate() {
        for (group, trits) in trits.chunks_exact(pattern.m()).enumerate() {
            let count = trits.iter().filter(|&&t| t != 0).count();
            if count > pattern.n() {
                let expected = format!("at most {} non-zeros in {} columns", pattern.n(), pattern.m());
                return Err(Offence::new(rule::TOO_MANY_NON_ZERO, row, group * pattern.m(), &expected, count));
            }
        }
    }
    Ok(())
}

/// Rows hold whole groups, so all rows are one run of groups.
fn keeps_pattern(trits: &[i8], pattern: Pattern) -> bool {
    simd::run(MostNonZero { trits, m: pattern.m() }) <= pattern.n()
}

/// The most non-zeros that a group has.
struct MostNonZero<'a> {
    trits: &'a [i8],
    m: usize,
}

impl simd::Kernel for MostNonZero<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        // The lowest bit of a trit says whether it is zero. Groups of four and eight are words, whose bytes are added in place.
        let bytes: &[u8] = bytemuck::cast_slice(self.trits);
        match self.m {
            4 => bytes.as_chunks().0.iter().fold(0, |most, &group| most.max(bytes_set(u32::from_le_bytes(group))))
                as usize,
            8 => {
                let halves = |group: &[u8; 8]| {
                    let word = u64::from_le_bytes(*group);
                    bytes_set(word as u32) + bytes_set((word >> 32) as u32)
                };
                bytes.as_chunks().0.iter().fold(0, |most, group| most.max(halves(group))) as usize
            }
            m => {
                let count = |group: &[u8]| group.iter().map(|&t| usize::from(t & 1)).sum();
                bytes.chunks_exact(m).map(count).fold(0, usize::max)
            }
        }
    }
}

/// How many bytes of a word have their lowest bit set.
#[inline(always)]
fn bytes_set(word: u32) -> u32 {
    let pairs = (word & 0x0101_0101) + (word >> 16 & 0x0101);
    (pairs + (pairs >> 8)) & 0xFF
}
