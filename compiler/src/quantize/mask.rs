//! Trits of consecutive groups: threshold, N:M mask and sign in one pass over bit patterns. It knows words, not formats: the caller has
//! turned the scale into a threshold on magnitudes, and guarantees a whole number of groups.
//!
//! A block of [`WIDTH`] groups is turned into `M` *planes* (plane `k` holds input `k` of every group), so that comparing two inputs of a
//! group is one comparison of two vectors. The rank of an input is the number of inputs of its group that beat it: the larger magnitude,
//! or the equal one at the lower index. It is kept where the rank is below N. There is no branch on data. The compiler vectorises the
//! loops over a block; M = 4 and M = 8 have their own instances, where it also turns loads and stores of whole groups into shifts.

use super::element::Word;
use super::pattern::{MAX_M, Nm};

/// Groups per block.
pub(super) const WIDTH: usize = 64;

/// What a pass with `TALLY` counts; zero without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupCounts {
    /// Groups with more than N non-zeros before the mask.
    pub(super) violated: u64,
    /// Groups in which a kept and a removed weight have the same magnitude and are both non-zero: the index decided.
    pub(super) tied: u64,
}

impl GroupCounts {
    #[inline(always)]
    fn add<T: Word>(&mut self, (violated, tied): (T, T)) {
        self.violated += u64::from(violated.into());
        self.tied += u64::from(tied.into());
    }
}

/// ±1 where the magnitude reaches `threshold`, else 0, in every group of `pattern` only for the weights it keeps.
#[inline(always)]
pub(super) fn ternarise<T: Word, const TALLY: bool>(
    raw: &[T::Raw],
    pattern: Option<Nm>,
    threshold: T,
    out: &mut [i8],
) -> GroupCounts {
    match pattern.map(|nm| (nm.n() as u32, nm.m())) {
        Some((n, 4)) if n < 4 => fixed::<T, 4, TALLY>(raw, T::truncate(n), threshold, out),
        Some((n, 8)) if n < 8 => fixed::<T, 8, TALLY>(raw, T::truncate(n), threshold, out),
        Some((n, m)) if (n as usize) < m => any::<T, TALLY>(raw, T::truncate(n), m, threshold, out),
        _ => dense(raw, threshold, out),
    }
}

#[inline(always)]
fn dense<T: Word>(raw: &[T::Raw], threshold: T, out: &mut [i8]) -> GroupCounts {
    for (out, &raw) in out.iter_mut().zip(raw) {
        let word = T::load(raw);
        *out = low_byte(if word.magnitude() >= threshold { word.sign() } else { T::ZERO });
    }
    GroupCounts::default()
}

#[inline(always)]
fn low_byte<T: Word>(word: T) -> i8 {
    let wide: u32 = word.into();
    wide as i8
}

/// M known when compiled, and a multiple of 4.
#[inline(always)]
fn fixed<T: Word, const M: usize, const TALLY: bool>(
    raw: &[T::Raw],
    n: T,
    threshold: T,
    out: &mut [i8],
) -> GroupCounts {
    let mut counts = GroupCounts::default();
    let (mut words, mut trits) = ([[T::ZERO; WIDTH]; M], [[T::ZERO; WIDTH]; M]);
    let (raw, tail) = raw.as_chunks::<M>().0.as_chunks::<WIDTH>();
    let (out, out_tail) = out.as_chunks_mut::<M>().0.as_chunks_mut::<WIDTH>();
    for (raw, out) in raw.iter().zip(out) {
        split(raw, &mut words);
        counts.add(rank_fixed::<T, M, TALLY>(&words, n, threshold, &mut trits));
        join(&trits, out);
    }
    if !tail.is_empty() {
        // Zeros fill the block: they are below every threshold, so they count as nothing.
        let (mut raw, mut out) = ([[T::Raw::default(); M]; WIDTH], [[0; M]; WIDTH]);
        raw[..tail.len()].copy_from_slice(tail);
        split(&raw, &mut words);
        counts.add(rank_fixed::<T, M, TALLY>(&words, n, threshold, &mut trits));
        join(&trits, &mut out);
        out_tail.copy_from_slice(&out[..tail.len()]);
    }
    counts
}

#[inline(always)]
fn split<T: Word, const M: usize>(raw: &[[T::Raw; M]; WIDTH], words: &mut [[T; WIDTH]; M]) {
    for g in 0..WIDTH {
        for (i, quad) in raw[g].as_chunks::<4>().0.iter().enumerate() {
            let quad = T::quad(quad);
            for k in 0..4 {
                words[4 * i + k][g] = quad[k];
            }
        }
    }
}

#[inline(always)]
fn join<T: Word, const M: usize>(trits: &[[T; WIDTH]; M], out: &mut [[i8; M]; WIDTH]) {
    for g in 0..WIDTH {
        for (i, out) in out[g].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let quad = [trits[4 * i][g], trits[4 * i + 1][g], trits[4 * i + 2][g], trits[4 * i + 3][g]];
            *out = T::low_bytes(quad).to_le_bytes().map(|byte| byte as i8);
        }
    }
}

/// Trits of one block, and its counts of violated and tied groups.
#[allow(
    clippy::needless_range_loop,
    reason = "planes are indexed by two inputs and a group at once; written as iterators the loop over groups does not vectorise"
)]
#[inline(always)]
fn rank_fixed<T: Word, const M: usize, const TALLY: bool>(
    words: &[[T; WIDTH]; M],
    n: T,
    threshold: T,
    trits: &mut [[T; WIDTH]; M],
) -> (T, T) {
    let (mut violated, mut tied) = (T::ZERO, T::ZERO);
    for g in 0..WIDTH {
        let (mut least_kept, mut most_removed) = (T::MAX, T::ZERO);
        for k in 0..M {
            let mine = words[k][g].magnitude();
            let mut rank = T::ZERO;
            for j in 0..M {
                let other = words[j][g].magnitude();
                if j != k {
                    rank = rank.minus(T::ones(if j < k { other >= mine } else { other > mine }));
                }
            }
            let keep = rank < n;
            trits[k][g] = if keep & (mine >= threshold) { words[k][g].sign() } else { T::ZERO };
            if TALLY {
                least_kept = least(least_kept, if keep { mine } else { T::MAX });
                most_removed = most(most_removed, if keep { T::ZERO } else { mine });
            }
        }
        if TALLY {
            // The removed weights are the smallest, so a group has more than N non-zeros exactly when its largest removed one is one.
            violated = violated.minus(T::ones(most_removed >= threshold));
            tied = tied.minus(T::ones((most_removed >= threshold) & (most_removed == least_kept)));
        }
    }
    (violated, tied)
}

#[inline(always)]
fn least<T: Word>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

#[inline(always)]
fn most<T: Word>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

type Planes<T> = [[T; WIDTH]; MAX_M];

/// Any M up to [`MAX_M`].
#[inline(always)]
fn any<T: Word, const TALLY: bool>(raw: &[T::Raw], n: T, m: usize, threshold: T, out: &mut [i8]) -> GroupCounts {
    let mut counts = GroupCounts::default();
    let (mut words, mut trits) = ([[T::ZERO; WIDTH]; MAX_M], [[T::ZERO; WIDTH]; MAX_M]);
    for (raw, out) in raw.chunks(m * WIDTH).zip(out.chunks_mut(m * WIDTH)) {
        if raw.len() < m * WIDTH {
            words = [[T::ZERO; WIDTH]; MAX_M];
        }
        for (g, raw) in raw.chunks_exact(m).enumerate() {
            for (words, &raw) in words[..m].iter_mut().zip(raw) {
                words[g] = T::load(raw);
            }
        }
        counts.add(rank_any::<T, TALLY>(&words, m, n, threshold, &mut trits));
        for (g, out) in out.chunks_exact_mut(m).enumerate() {
            for (out, trits) in out.iter_mut().zip(&trits[..m]) {
                *out = low_byte(trits[g]);
            }
        }
    }
    counts
}

/// [`rank_fixed`] with the loop over a block innermost, because M is not known.
#[inline(always)]
fn rank_any<T: Word, const TALLY: bool>(
    words: &Planes<T>,
    m: usize,
    n: T,
    threshold: T,
    trits: &mut Planes<T>,
) -> (T, T) {
    let (mut least_kept, mut most_removed) = ([T::MAX; WIDTH], [T::ZERO; WIDTH]);
    for k in 0..m {
        let mut rank = [T::ZERO; WIDTH];
        for j in 0..k {
            for g in 0..WIDTH {
                rank[g] = rank[g].minus(T::ones(words[j][g].magnitude() >= words[k][g].magnitude()));
            }
        }
        for j in k + 1..m {
            for g in 0..WIDTH {
                rank[g] = rank[g].minus(T::ones(words[j][g].magnitude() > words[k][g].magnitude()));
            }
        }
        for g in 0..WIDTH {
            let mine = words[k][g].magnitude();
            let keep = rank[g] < n;
            trits[k][g] = if keep & (mine >= threshold) { words[k][g].sign() } else { T::ZERO };
            if TALLY {
                least_kept[g] = least(least_kept[g], if keep { mine } else { T::MAX });
                most_removed[g] = most(most_removed[g], if keep { T::ZERO } else { mine });
            }
        }
    }
    let (mut violated, mut tied) = (T::ZERO, T::ZERO);
    if TALLY {
        for g in 0..WIDTH {
            violated = violated.minus(T::ones(most_removed[g] >= threshold));
            tied = tied.minus(T::ones((most_removed[g] >= threshold) & (most_removed[g] == least_kept[g])));
        }
    }
    (violated, tied)
}
