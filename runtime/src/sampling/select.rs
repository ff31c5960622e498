//! The largest of many numbers, without sorting them all.

use std::cmp::Ordering;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) token: u32,
}

impl Candidate {
    /// Larger logits first, then lower tokens. Logits are numbers.
    pub(super) fn by_rank(a: &Self, b: &Self) -> Ordering {
        b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
    }
}

/// Most candidates that [`largest`] holds at a time.
pub(super) fn room(k: usize, vocab: usize) -> usize {
    (2 * k).max(256).min(vocab)
}

/// Puts the `k` best candidates into `out`, best first, leaving out what is ruled out. A pass over all logits keeps those that beat the worst of the best
/// so far; most fail that one comparison.
pub(super) fn largest(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let k = k.min(logits.len());
    if k == 0 {
        return;
    }
    let room = room(k, logits.len());
    let mut least = f32::NEG_INFINITY;
    // Blocks without a better logit are passed over at the speed of a vector maximum.
    for (block, logits) in logits.chunks(64).enumerate() {
        let best = logits.iter().fold(f32::NEG_INFINITY, |best, &v| if v > best { v } else { best });
        if best <= least {
            continue;
        }
        for (i, &logit) in logits.iter().enumerate() {
            // A later token with an equal logit ranks below those that are there already.
            if logit > least {
                if out.len() == room {
                    least = shrink(out, k);
                }
                if logit > least {
                    out.push(Candidate { logit, token: (64 * block + i) as u32 });
                }
            }
        }
    }
    if out.len() > k {
        shrink(out, k);
    }
    out.sort_unstable_by(Candidate::by_rank);
}

/// Keeps the `k` best; the logit of the worst of them.
fn shrink(out: &mut Vec<Candidate>, k: usize) -> f32 {
    if out.len() > k {
        out.select_nth_unstable_by(k - 1, Candidate::by_rank);
        out.truncate(k);
    }
    out.iter().fold(f32::INFINITY, |least, c| least.min(c.logit))
}

/// The token with the largest logit, the lower one of equals; `None` where all are ruled out.
pub(super) fn argmax(logits: &[f32]) -> Option<u32> {
    let best = maximum(logits);
    let at = logits.iter().position(|&v| v == best)?;
    (best > f32::NEG_INFINITY).then_some(at as u32)
}

/// The largest logit.
pub(super) fn maximum(logits: &[f32]) -> f32 {
    // Sixteen maxima at a time, so that the loop does not wait for each comparison.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = logits.as_chunks::<16>();
    for block in blocks {
        for (lane, &v) in lanes.iter_mut().zip(block) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |best, &v| if v > best { v } else { best })
}
