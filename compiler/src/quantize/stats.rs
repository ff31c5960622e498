//! What quantisation did to a part, counted for the report. Nothing here changes a weight.
//!
//! [`Tally`] is the accumulator of one thread and [`Stats`] its result. Every field is a count, so merging is associative and the
//! figures do not depend on threads.
//!
//! A histogram increments memory once per weight, which no vector unit helps with. The tally therefore counts *pairs*: two neighbours'
//! codes (a bin, and whether the mask removed a non-zero) index one table of 2^16 counters, whose rows and columns are summed at the end.
//! Trained weights touch a small part of it. This is still what statistics cost: the floor is one store per two weights, and about half
//! of the time goes there, the other half into the two vectorised loops before it.

use super::element::{Element, Word};
use super::mask::GroupCounts;

/// Bins of a histogram over `w / scale` in [−4, 4]; what lies beyond is in the end bins.
pub const BINS: usize = 128;
/// A weight is near the threshold when `||w|·s − 0.5|` is at most this.
pub const NEAR: f32 = 1e-3;

const BINS_PER_UNIT: f32 = 16.0;
const MIDDLE: f32 = (BINS / 2) as f32;
/// The flag of a removed non-zero in a code; the bin is below it.
const REMOVED: usize = BINS;
const CODES: usize = 2 * BINS;

/// How many weights have each ternary value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TritCounts {
    /// −1.
    pub negative: u64,
    /// 0.
    pub zero: u64,
    /// +1.
    pub positive: u64,
}

/// The counts of a part, or of several merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Ternary values before the mask; its zeros are the natural ones.
    pub before: TritCounts,
    /// Ternary values after the mask.
    pub after: TritCounts,
    /// Groups of M; 0 without a pattern.
    pub groups: u64,
    /// Groups with more than N non-zeros before the mask.
    pub violated_groups: u64,
    /// Groups in which a tie at the boundary decided which of two non-zeros was kept.
    pub tied_groups: u64,
    /// Weights within [`NEAR`] of the rounding threshold.
    pub near_threshold: u64,
    /// Subnormal latents, in their own format.
    pub subnormal: u64,
    /// All weights: bin `i` holds `i − 64 ≤ 16·(w·s) < i − 63`.
    pub histogram: [u64; BINS],
    /// The same, of the weights that the mask removed although they were not zero.
    pub removed_histogram: [u64; BINS],
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            before: TritCounts::default(),
            after: TritCounts::default(),
            groups: 0,
            violated_groups: 0,
            tied_groups: 0,
            near_threshold: 0,
            subnormal: 0,
            histogram: [0; BINS],
            removed_histogram: [0; BINS],
        }
    }
}

impl Stats {
    /// Number of weights counted.
    #[must_use]
    pub fn weights(&self) -> u64 {
        self.before.negative + self.before.zero + self.before.positive
    }

    /// Weights that rounded to zero by themselves.
    #[must_use]
    pub fn natural_zeros(&self) -> u64 {
        self.before.zero
    }

    /// Non-zeros that the mask removed.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.after.zero - self.before.zero
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Stats) {
        // Exhaustive, so that a new field must be merged.
        let Stats {
            before,
            after,
            groups,
            violated_groups,
            tied_groups,
            near_threshold,
            subnormal,
            histogram,
            removed_histogram,
        } = other;
        for (mine, theirs) in [(&mut self.before, before), (&mut self.after, after)] {
            mine.negative += theirs.negative;
            mine.zero += theirs.zero;
            mine.positive += theirs.positive;
        }
        self.groups += groups;
        self.violated_groups += violated_groups;
        self.tied_groups += tied_groups;
        self.near_threshold += near_threshold;
        self.subnormal += subnormal;
        for (mine, theirs) in [(&mut self.histogram, histogram), (&mut self.removed_histogram, removed_histogram)] {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
    }
}

/// The accumulator of one thread: 256 KiB, so make one per thread and task, not per row.
#[derive(Clone, Debug)]
pub struct Tally {
    stats: Stats,
    pairs: Box<[u32; CODES * CODES]>,
    counted: u32,
}

impl Default for Tally {
    fn default() -> Self {
        let pairs = vec![0; CODES * CODES].into_boxed_slice();
        Tally {
            stats: Stats::default(),
            pairs: pairs.try_into().unwrap_or_else(|_| unreachable!("allocated with this length")),
            counted: 0,
        }
    }
}

/// What a weight's magnitude is compared with, in the words of its format.
#[derive(Clone, Copy)]
pub(super) struct Bounds<T> {
    /// The smallest magnitude that becomes ±1.
    pub(super) threshold: T,
    /// The smallest magnitude near the threshold.
    pub(super) near: T,
    /// The smallest magnitude that is no longer near.
    pub(super) beyond: T,
}

/// The most weights that one call to [`Tally::count`] takes: its 16-bit counters cannot overflow.
pub(super) const PIECE: usize = 8192;

impl Tally {
    /// The counts so far.
    #[must_use]
    pub fn finish(mut self) -> Stats {
        self.fold();
        self.stats
    }

    pub(super) fn add_groups(&mut self, groups: usize, counts: GroupCounts) {
        self.stats.groups += groups as u64;
        self.stats.violated_groups += counts.violated;
        self.stats.tied_groups += counts.tied;
    }

    /// Counts at most [`PIECE`] weights, given their masked trits.
    #[inline(always)]
    pub(super) fn count<E: Element>(
        &mut self,
        raw: &[<E::Word as Word>::Raw],
        trits: &[i8],
        inverse: f32,
        bounds: Bounds<E::Word>,
    ) {
        let zero = E::Word::ZERO;
        let mut codes = [0u8; PIECE];
        let (mut ones, mut minus, mut kept, mut kept_minus, mut near, mut subnormal) =
            (zero, zero, zero, zero, zero, zero);
        let (near_span, subnormal_span) = (bounds.beyond.minus(bounds.near), E::MIN_NORMAL.minus(E::Word::truncate(1)));
        for ((&raw, &trit), code) in raw.iter().zip(trits).zip(&mut codes) {
            let word = E::Word::load(raw);
            let magnitude = word.magnitude();
            let one = magnitude >= bounds.threshold;
            let negative = word != magnitude;
            let stays = trit != 0;
            ones = ones.minus(E::Word::ones(one));
            minus = minus.minus(E::Word::ones(one & negative));
            kept = kept.minus(E::Word::ones(stays));
            kept_minus = kept_minus.minus(E::Word::ones(stays & negative));
            near = near.minus(E::Word::ones(magnitude.minus(bounds.near) < near_span));
            subnormal = subnormal.minus(E::Word::ones(magnitude.minus(E::Word::truncate(1)) < subnormal_span));
            *code = if one & !stays { REMOVED as u8 } else { 0 };
        }
        for (&raw, code) in raw.iter().zip(&mut codes) {
            *code |= bin(E::value(E::Word::load(raw)) * inverse);
        }
        let total = raw.len() as u64;
        let [ones, minus, kept, kept_minus, near, subnormal] =
            [ones, minus, kept, kept_minus, near, subnormal].map(|count| u64::from(count.into()));
        add(&mut self.stats.before, minus, ones - minus, total);
        add(&mut self.stats.after, kept_minus, kept - kept_minus, total);
        self.stats.near_threshold += near;
        self.stats.subnormal += subnormal;
        self.count_codes(&codes[..raw.len()]);
    }

    #[inline(always)]
    fn count_codes(&mut self, codes: &[u8]) {
        if self.counted > u32::MAX - PIECE as u32 {
            self.fold();
        }
        self.counted += codes.len() as u32;
        let table = &mut *self.pairs;
        let (words, rest) = codes.as_chunks::<8>();
        for &word in words {
            let word = u64::from_le_bytes(word);
            for pair in 0..4 {
                table[usize::from((word >> (16 * pair)) as u16)] += 1;
            }
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        for &pair in pairs {
            table[usize::from(u16::from_le_bytes(pair))] += 1;
        }
        if let [code] = odd {
            self.stats.add_code(usize::from(*code), 1);
        }
    }

    /// Moves the pairs' counts into the histograms.
    fn fold(&mut self) {
        let mut second = [0u64; CODES];
        for (code, row) in self.pairs.as_chunks::<CODES>().0.iter().enumerate() {
            let mut first = 0;
            for (second, &count) in second.iter_mut().zip(row) {
                *second += u64::from(count);
                first += u64::from(count);
            }
            self.stats.add_code(code, first);
        }
        for (code, &count) in second.iter().enumerate() {
            self.stats.add_code(code, count);
        }
        self.pairs.fill(0);
        self.counted = 0;
    }
}

impl Stats {
    #[inline(always)]
    fn add_code(&mut self, code: usize, count: u64) {
        self.histogram[code % BINS] += count;
        if code >= REMOVED {
            self.removed_histogram[code % BINS] += count;
        }
    }
}

#[inline(always)]
fn add(counts: &mut TritCounts, negative: u64, positive: u64, total: u64) {
    counts.negative += negative;
    counts.positive += positive;
    counts.zero += total - negative - positive;
}

/// The bin of a normalised weight.
#[inline(always)]
fn bin(normalised: f32) -> u8 {
    // Adding 2^23 to an integer below it leaves the integer in the low bits: cheaper than a saturating conversion.
    const INTEGER: f32 = 8_388_608.0;
    let bin = (normalised * BINS_PER_UNIT).floor();
    let bin = if bin < -MIDDLE { -MIDDLE } else { bin };
    let bin = if bin > MIDDLE - 1.0 { MIDDLE - 1.0 } else { bin };
    ((bin + (INTEGER + MIDDLE)).to_bits() as u8) & (BINS - 1) as u8
}
