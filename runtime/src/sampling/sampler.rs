//! The sampler: settings, the tokens that were recent, and room for the work.

use std::collections::VecDeque;

use super::random::{Random, exp};
use super::select::{Candidate, argmax, largest, maximum};
use super::{Sampling, select};
use crate::error::{Error, Kind, Result};

/// Chooses tokens of one sequence. It allocates when it is made, and not later.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    vocab: usize,
    random: Random,
    recent: Recent,
    /// Logits after bias and penalties; empty where there are none.
    adjusted: Vec<f32>,
    /// What filters have left.
    candidates: Vec<Candidate>,
    /// Of candidates, or of the whole vocabulary where nothing filters.
    weights: Vec<f64>,
    chosen: Option<f32>,
    top: Vec<Candidate>,
    reported: Vec<(u32, f32)>,
}

/// Log-probabilities of a choice, in the model's own distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprobs<'a> {
    /// Of the chosen token.
    pub chosen: f32,
    /// The most likely tokens and theirs, the likeliest first.
    pub top: &'a [(u32, f32)],
}

impl Sampler {
    /// A sampler for a vocabulary of `vocab` tokens.
    pub fn new(sampling: &Sampling, vocab: usize) -> Result<Self> {
        sampling.check(vocab)?;
        let sampled = sampling.temperature > 0.0;
        let room = |needed: bool| if needed { vocab } else { 0 };
        let top = sampling.logprobs.unwrap_or(0).min(vocab);
        Ok(Self {
            vocab,
            random: Random::new(sampling.seed),
            recent: Recent::new(if sampling.penalises() { sampling.penalty_window } else { 0 }, vocab),
            adjusted: vec![0.0; room(sampling.adjusts())],
            candidates: Vec::with_capacity(room(sampled)),
            weights: vec![0.0; room(sampled || sampling.logprobs.is_some())],
            chosen: None,
            top: Vec::with_capacity(select::room(top, vocab)),
            reported: Vec::with_capacity(top),
            sampling: sampling.clone(),
        })
    }

    /// Takes note of a token of the sequence: penalties count it. Every token is to be given once, those of the prompt and those that were chosen.
    pub fn accept(&mut self, token: u32) {
        self.recent.push(token);
    }

    /// Chooses a token. Fails where logits are not numbers or the bias rules all of them out.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        assert_eq!(logits.len(), self.vocab, "a logit for each token of the vocabulary");
        check_finite(logits)?;
        let adjusts = self.sampling.adjusts();
        if adjusts {
            self.adjust(logits);
        }
        let adjusted = std::mem::take(&mut self.adjusted);
        let scores = if adjusts { &adjusted[..] } else { logits };
        let token = if self.sampling.temperature > 0.0 { self.draw(scores) } else { argmax(scores) };
        self.adjusted = adjusted;
        let nothing = || Error::new(Kind::Usage, "logit bias", "a token that may be chosen", "all are ruled out");
        let token = token.ok_or_else(nothing)?;
        if let Some(top) = self.sampling.logprobs {
            self.report(logits, token, top);
        }
        Ok(token)
    }

    /// The log-probabilities of the last choice, where they were asked for.
    pub fn logprobs(&self) -> Option<Logprobs<'_>> {
        Some(Logprobs { chosen: self.chosen?, top: &self.reported })
    }

    fn adjust(&mut self, logits: &[f32]) {
        let Sampling { repeat_penalty, presence_penalty, frequency_penalty, .. } = self.sampling;
        self.adjusted.copy_from_slice(logits);
        for &(token, bias) in &self.sampling.logit_bias {
            self.adjusted[token as usize] += bias;
        }
        for &token in &self.recent.distinct {
            let logit = &mut self.adjusted[token as usize];
            *logit = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
            *logit -= self.recent.counts[token as usize] as f32 * frequency_penalty + presence_penalty;
        }
    }

    /// A token at random; `None` where all are ruled out.
    fn draw(&mut self, scores: &[f32]) -> Option<u32> {
        let best = maximum(scores);
        if best == f32::NEG_INFINITY {
            return None;
        }
        let unit = self.random.next_unit();
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let heat = f64::from(temperature);
        let weight = |score: f32, heat: f64| exp(f64::from(score - best) / heat);
        if top_k == 0 && top_p >= 1.0 && min_p == 0.0 {
            let weights = &mut self.weights[..scores.len()];
            weights.iter_mut().zip(scores).for_each(|(w, &score)| *w = weight(score, heat));
            return Some(pick(weights, unit) as u32);
        }
        if top_k > 0 || top_p < 1.0 {
            self.keep_likely(scores, best);
        } else {
            self.candidates.clear();
            let all = scores.iter().enumerate().map(|(token, &logit)| Candidate { logit, token: token as u32 });
            // The filter is below; this only leaves out what surely fails it.
            let surely = min_p_bound(min_p);
            self.candidates.extend(all.filter(|c| c.logit - best >= surely));
        }
        if min_p > 0.0 {
            let min_p = f64::from(min_p);
            self.candidates.retain(|c| weight(c.logit, 1.0) >= min_p);
        }
        self.candidates.sort_unstable_by_key(|c| c.token);
        let weights = &mut self.weights[..self.candidates.len()];
        weights.iter_mut().zip(&self.candidates).for_each(|(w, c)| *w = weight(c.logit, heat));
        Some(self.candidates[pick(weights, unit)].token)
    }

    /// Top-k, then top-p of what that leaves.
    fn keep_likely(&mut self, scores: &[f32], best: f32) {
        let Sampling { top_k, top_p, .. } = self.sampling;
        let weight = |score: f32| exp(f64::from(score - best));
        if top_k > 0 {
            largest(scores, top_k, &mut self.candidates);
        }
        if top_p >= 1.0 {
            return;
        }
        let total: f64 = if top_k > 0 {
            self.candidates.iter().map(|c| weight(c.logit)).sum()
        } else {
            let weights = &mut self.weights[..scores.len()];
            weights.iter_mut().zip(scores).for_each(|(w, &score)| *w = weight(score));
            weights.iter().sum()
        };
        let enough = f64::from(top_p) * total;
        // Without top-k: ever more of the best, until they suffice.
        let mut k = if top_k > 0 { self.candidates.len() } else { 64 };
        loop {
            if top_k == 0 {
                largest(scores, k, &mut self.candidates);
            }
            let mut sum = 0.0;
            let needed = self.candidates.iter().position(|c| {
                sum += weight(c.logit);
                sum >= enough
            });
            if let Some(last) = needed {
                self.candidates.truncate(last + 1);
                return;
            }
            if top_k > 0 || k >= scores.len() {
                return;
            }
            k = (8 * k).min(scores.len());
        }
    }

    fn report(&mut self, logits: &[f32], token: u32, top: usize) {
        let best = maximum(logits);
        let weights = &mut self.weights[..logits.len()];
        weights.iter_mut().zip(logits).for_each(|(w, &logit)| *w = exp(f64::from(logit - best)));
        let total = weights.iter().sum::<f64>().ln();
        let logprob = |logit: f32| (f64::from(logit - best) - total) as f32;
        self.chosen = Some(logprob(logits[token as usize]));
        largest(logits, top, &mut self.top);
        self.reported.clear();
        self.reported.extend(self.top.iter().map(|c| (c.token, logprob(c.logit))));
    }
}

/// What a logit is below the best one at least to be less likely by `min_p`, with some room for rounding.
fn min_p_bound(min_p: f32) -> f32 {
    if min_p > 0.0 { min_p.ln() - 0.01 } else { f32::NEG_INFINITY }
}

/// The place where the running sum of weights passes the share `unit` of their total.
fn pick(weights: &[f64], unit: f64) -> usize {
    let target = unit * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let place = weights.iter().position(|weight| {
        sum += weight;
        sum > target
    });
    // The share is below 1 and the sum is the same one, so there is a place; were it not for that, the last one that can be chosen is right.
    place.unwrap_or_else(|| weights.iter().rposition(|&w| w > 0.0).unwrap_or(0))
}

fn check_finite(logits: &[f32]) -> Result<()> {
    let broken = |v: f32| v.is_nan() || v == f32::INFINITY;
    // One pass without a branch for each logit; the place is looked for only where there is one.
    if !logits.iter().fold(false, |any, &v| any | broken(v)) {
        return Ok(());
    }
    let token = logits.iter().position(|&v| broken(v)).unwrap_or(0);
    let error = Error::new(Kind::Invalid, format!("logit of token {token}"), "a number", logits[token].to_string());
    Err(error.remedy("check the file with `sbnc verify`"))
}

/// The last tokens of a sequence, counted.
#[derive(Clone, Debug)]
struct Recent {
    window: usize,
    order: VecDeque<u32>,
    counts: Vec<u32>,
    distinct: Vec<u32>,
}

impl Recent {
    fn new(window: usize, vocab: usize) -> Self {
        let vocab = if window > 0 { vocab } else { 0 };
        // A window that is longer than this is in practice the whole sequence, which may grow.
        let room = window.min(1 << 16);
        Self {
            window,
            order: VecDeque::with_capacity(room),
            counts: vec![0; vocab],
            distinct: Vec::with_capacity((room + 1).min(vocab)),
        }
    }

    fn push(&mut self, token: u32) {
        let Some(count) = self.counts.get_mut(token as usize) else { return };
        *count += 1;
        if *count == 1 {
            self.distinct.push(token);
        }
        if self.order.len() == self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
        self.order.push_back(token);
    }

    fn forget(&mut self, token: u32) {
        let count = &mut self.counts[token as usize];
        *count -= 1;
        if *count == 0
            && let Some(at) = self.distinct.iter().position(|&t| t == token)
        {
            self.distinct.swap_remove(at);
        }
    }
}

#[cfg(test)]
impl Sampler {
    /// Where everything lies and how much room it has.
    pub(super) fn rooms(&self) -> [(usize, usize); 7] {
        let Self { recent, adjusted, candidates, weights, top, reported, .. } = self;
        [
            (adjusted.as_ptr().addr(), adjusted.capacity()),
            (candidates.as_ptr().addr(), candidates.capacity()),
            (weights.as_ptr().addr(), weights.capacity()),
            (top.as_ptr().addr(), top.capacity()),
            (reported.as_ptr().addr(), reported.capacity()),
            (recent.distinct.as_ptr().addr(), recent.distinct.capacity()),
            (0, recent.order.capacity()),
        ]
    }
}
