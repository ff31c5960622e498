//! Choosing the next token from logits.
//!
//! ```text
//! logits ─ bias ─ penalties ─┬─ temperature 0: the largest
//!                            └─ top-k ─ top-p ─ min-p ─ temperature ─ draw
//! ```
//!
//! The steps come in this order, which is that of llama.cpp: filters look at the distribution before it is heated, so a high temperature spreads the
//! choice among tokens that were likely anyway. Whatever is not asked for is off; [`Model::sampling`](crate::Model::sampling) is what a model's makers recommend.
//!
//! # The same seed gives the same text
//!
//! A draw depends on the logits, the settings and the number of draws before it, and on nothing else: the generator is defined here ([`random`]),
//! exponentials are computed with plain additions and multiplications in f64 (mathematical libraries differ in the last bit), sums run in the order of token
//! ids, and ties go to the lower id. What may differ between machines is the last bit of the logits themselves.
//!
//! This module knows neither models nor text; a [`Sampler`] allocates for a vocabulary once and never again.

pub mod random;
pub(crate) mod recommended;
mod sampler;
mod select;
#[cfg(test)]
mod tests;

pub use sampler::{Logprobs, Sampler};

use crate::error::{Error, Kind, Result};

/// How tokens are chosen. The default is greedy.
///
/// ```
/// use sbnc_runtime::sampling::{Sampler, Sampling};
/// let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: 42, ..Sampling::greedy() };
/// let mut sampler = Sampler::new(&sampling, 4)?;
/// let token = sampler.sample(&[0.1, 2.0, -1.0, 1.5])?;
/// assert!(token < 4);
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this before the draw; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens that are at least this likely in relation to the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Logits of recent tokens are divided by this where positive, multiplied where negative; 1 changes nothing.
    pub repeat_penalty: f32,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens once for each time that they occurred.
    pub frequency_penalty: f32,
    /// How many tokens are recent, those of the prompt included.
    pub penalty_window: usize,
    /// Added to the logits of these tokens, before everything else; negative infinity rules a token out.
    pub logit_bias: Vec<(u32, f32)>,
    /// Decides all draws.
    pub seed: u64,
    /// Report log-probabilities: of the chosen token and of this many most likely ones. They are the model's own, before bias, penalties and filters.
    pub logprobs: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self::greedy()
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: None,
        }
    }

    /// Fails at the first setting that is out of its range, for a vocabulary of `vocab` tokens.
    pub fn check(&self, vocab: usize) -> Result<()> {
        let Self { temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, .. } = *self;
        let at_least_0 = |v: f32| v >= 0.0 && v.is_finite();
        let above_0 = |v: f32| v > 0.0 && v.is_finite();
        let ranges = [
            ("temperature", at_least_0(temperature), "a number of at least 0", temperature),
            ("top-p", top_p > 0.0 && top_p <= 1.0, "a number above 0, at most 1", top_p),
            ("min-p", (0.0..=1.0).contains(&min_p), "a number from 0 to 1", min_p),
            ("repeat penalty", above_0(repeat_penalty), "a number above 0", repeat_penalty),
            ("presence penalty", presence_penalty.is_finite(), "a number", presence_penalty),
            ("frequency penalty", frequency_penalty.is_finite(), "a number", frequency_penalty),
        ];
        for (setting, holds, expected, found) in ranges {
            if !holds {
                return Err(Error::new(Kind::Usage, setting, expected, found.to_string()));
            }
        }
        for &(token, bias) in &self.logit_bias {
            if token as usize >= vocab {
                let expected = format!("a token below {vocab}");
                return Err(Error::new(Kind::Usage, "logit bias", expected, token.to_string()));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                let subject = format!("logit bias of token {token}");
                return Err(Error::new(Kind::Usage, subject, "a number, or -inf", bias.to_string()));
            }
        }
        Ok(())
    }

    /// The same for a device that chooses by itself; `None` where it takes logits to do what is asked for.
    pub(crate) fn on_device(&self) -> Option<crate::device::OnDevice> {
        let Self { temperature, top_k, top_p, min_p, seed, .. } = *self;
        let plain = !self.adjusts() && self.logprobs.is_none();
        plain.then_some(crate::device::OnDevice { temperature, top_k, top_p, min_p, seed, draws: 0 })
    }

    /// Whether logits are changed before anything is chosen.
    fn adjusts(&self) -> bool {
        !self.logit_bias.is_empty() || self.penalises()
    }

    fn penalises(&self) -> bool {
        let off = self.repeat_penalty == 1.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        self.penalty_window > 0 && !off
    }
}
