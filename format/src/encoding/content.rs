//! The digest of decoded content, which is the same for every encoding and order of the same tensor (SPEC §9.3).

use rayon::prelude::*;

use super::{Encoding, Offence, Order, Pattern, decode, strip};
use crate::digest::Digest;
use crate::error::rule;

/// Decoded bytes held at a time.
const BATCH_BYTES: usize = 4 << 20;
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
        self.non_zero += trits.par_chunks(1 << 16).map(count_non_zero).sum::<u64>();
    }

    /// Takes the scales, as stored, and gives the result.
    pub fn finish(mut self, scale_bytes: &[u8]) -> Content {
        self.hasher.update(scale_bytes);
        Content { digest: self.hasher.finalize().into(), non_zero: self.non_zero }
    }
}

fn count_non_zero(trits: &[i8]) -> u64 {
    // Sums of bytes over short runs vectorise; a run of 255 cannot overflow one.
    trits.chunks(255).map(|run| u64::from(run.iter().map(|&t| (t & 1) as u8).sum::<u8>())).sum()
}

/// Decodes a tensor, checks its declared pattern (R077) and takes the digest of its content. Memory is bounded whatever the tensor's size.
pub(crate) fn content(
    encoding: Encoding,
    order: Order,
    pattern: Pattern,
    data: &[u8],
    (rows, cols): (usize, usize),
    scale_bytes: &[u8],
) -> Result<Content, Offence> {
    let mut hasher = ContentHasher::default();
    decode_batches(encoding, order, pattern, data, (rows, cols), |first_row, trits| {
        let rows_each = (PIECE_BYTES / cols).max(1);
        trits.par_chunks(rows_each * cols).enumerate().try_for_each(|(i, trits)| {
            check_pattern(trits, cols, pattern).map_err(|e| e.below(first_row + i * rows_each))
        })?;
        hasher.update(trits);
        Ok(())
    })?;
    Ok(hasher.finish(scale_bytes))
}

/// Decodes a tensor a few megabytes at a time, on all threads, and hands out whole rows in order: the first row's number, and the trits.
pub fn decode_batches<E>(
    encoding: Encoding,
    order: Order,
    pattern: Pattern,
    data: &[u8],
    (rows, cols): (usize, usize),
    mut each: impl FnMut(usize, &[i8]) -> Result<(), E>,
) -> Result<(), E> {
    let strip = strip(encoding, order, cols, pattern);
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
            .for_each(|(trits, bytes)| decode(encoding, order, pattern, bytes, cols, trits));
        each(first_row, trits)?;
    }
    Ok(())
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
    fn most<const M: usize>(trits: &[i8]) -> u8 {
        let count = |group: &[i8; M]| group.iter().map(|&t| (t & 1) as u8).sum::<u8>();
        trits.as_chunks::<M>().0.iter().map(count).fold(0, u8::max)
    }
    let most = match pattern.m() {
        4 => most::<4>(trits),
        8 => most::<8>(trits),
        16 => most::<16>(trits),
        m => trits.chunks_exact(m).map(|g| g.iter().map(|&t| (t & 1) as u8).sum()).max().unwrap_or(0),
    };
    usize::from(most) <= pattern.n()
}
