//! Rotary position embedding: the angle of every pair of a head's elements at every position, under the scalings that configurations name.
//!
//! | kind | what it does to the frequencies | source |
//! |---|---|---|
//! | `linear` | divides all by `factor` | position interpolation |
//! | `dynamic` | raises the base where a session is longer than the model's context | NTK by parts of the length |
//! | `llama3` | divides the slow ones, leaves the fast ones, blends between | Llama 3.1 |
//! | `yarn` | blends by the number of turns within the original context, and sharpens attention | YaRN |
//! | `longrope` | divides each by a factor of its own, one list for sessions up to the original context and one for longer ones | LongRoPE |
//!
//! Two kinds depend on the length of the text. Keys are rotated once, when they are stored, so the length that counts is the one that a session is opened for: all its
//! keys and queries agree. (Code that changes the frequencies while a text grows leaves the keys that it has stored under the old ones.) Sessions of the default size
//! have the frequencies of short texts.
//!
//! Other kinds are refused by name, and so is any parameter that would go unread. Frequencies are rounded to f32 and multiplied with the position in f32, as
//! the training code does; sines and cosines are those of the rounded angles.

mod parameters;
#[cfg(test)]
mod tests;

use std::f64::consts::TAU;

use sbnc_kernels::cpu::ops::{Pairing, Rotation};

use crate::error::Result;

/// How frequencies are scaled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    Linear { factor: f64 },
    Dynamic { factor: f64, original: f64 },
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    Yarn(Yarn),
    Long(Long),
}

/// The parameters of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Yarn {
    factor: f64,
    original: f64,
    /// Turns within the original context, above which a frequency is kept and below which it is divided.
    fast: f64,
    slow: f64,
    /// Whether the blended range is widened to whole pairs.
    truncate: bool,
    /// What sines and cosines are multiplied by.
    attention: f64,
}

/// The parameters of LongRoPE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Long {
    /// The most positions of a session whose frequencies are divided by `short`.
    original: usize,
    /// A divisor for each pair.
    short: Vec<f64>,
    long: Vec<f64>,
    /// What sines and cosines are multiplied by.
    attention: f64,
}

impl Scaling {
    /// The longest context, where the model's own is the one before scaling.
    pub(crate) fn context(&self, context: usize) -> usize {
        let reach = match self {
            Self::Yarn(yarn) => yarn.original * yarn.factor,
            Self::Dynamic { factor, original } => original * factor,
            _ => 0.0,
        };
        context.max(reach as usize)
    }

    /// The longest session that has the frequencies of short texts.
    pub(crate) fn short(&self, context: usize) -> usize {
        match self {
            Self::Dynamic { original, .. } => *original as usize,
            Self::Long(long) => context.min(long.original),
            _ => self.context(context),
        }
    }

    /// What sines and cosines are multiplied by.
    fn attention(&self) -> f64 {
        match self {
            Self::Yarn(yarn) => yarn.attention,
            Self::Long(long) => long.attention,
            _ => 1.0,
        }
    }

    /// Radians that each pair turns from one position to the next, in a session of so many positions.
    fn frequencies(&self, theta: f64, dim: usize, positions: usize) -> Vec<f32> {
        let theta = match self {
            Self::Dynamic { factor, original } => {
                let stretch = (factor * positions as f64 / original - (factor - 1.0)).max(1.0);
                theta * stretch.powf(dim as f64 / (dim as f64 - 2.0))
            }
            _ => theta,
        };
        let plain = |pair: usize| theta.powf(-((2 * pair) as f64) / dim as f64);
        let scaled = |pair: usize| match self {
            Self::None | Self::Dynamic { .. } => plain(pair),
            Self::Linear { factor } => plain(pair) / factor,
            Self::Llama3 { factor, low, high, original } => {
                // Turns within the original context decide: few are stretched, many are kept.
                let turns = original * plain(pair) / TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                plain(pair) * (keep + (1.0 - keep) / factor)
            }
            Self::Yarn(yarn) => plain(pair) * yarn.share(pair, theta, dim),
            Self::Long(long) => plain(pair) / long.divisors(positions)[pair],
        };
        (0..dim / 2).map(|pair| scaled(pair) as f32).collect()
    }

    /// The angles of all positions of a session.
    pub(crate) fn rotation(&self, pairing: Pairing, theta: f64, dim: usize, positions: usize) -> Result<Rotation> {
        let frequencies = self.frequencies(theta, dim, positions);
        let mut cos = crate::memory::zeros(positions * frequencies.len(), "angles of positions")?;
        let mut sin = crate::memory::zeros(positions * frequencies.len(), "angles of positions")?;
        let attention = self.attention();
        let rows = cos.chunks_exact_mut(frequencies.len()).zip(sin.chunks_exact_mut(frequencies.len()));
        for (position, (cos, sin)) in rows.enumerate() {
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&frequencies) {
                let angle = f64::from(position as f32 * frequency);
                *cos = (angle.cos() * attention) as f32;
                *sin = (angle.sin() * attention) as f32;
            }
        }
        Ok(Rotation { pairing, pairs: frequencies.len(), cos, sin })
    }
}

impl Yarn {
    /// What a pair's frequency is multiplied by: between 1 / factor (slow) and 1 (fast).
    fn share(&self, pair: usize, theta: f64, dim: usize) -> f64 {
        // The pair, as a fraction, that turns this many times within the original context.
        let pair_of = |turns: f64| dim as f64 * (self.original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair_of(self.fast), pair_of(self.slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let stretch = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        stretch / self.factor + (1.0 - stretch)
    }
}

impl Long {
    fn divisors(&self, positions: usize) -> &[f64] {
        if positions > self.original { &self.long } else { &self.short }
    }
}
