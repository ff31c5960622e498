//! Rotary position embedding: the angle of every pair of a head's elements at every position, under the scalings that configurations name.
//!
//! | kind | what it does to the frequencies | source |
//! |---|---|---|
//! | `linear` | divides all by `factor` | position interpolation |
//! | `llama3` | divides the slow ones, leaves the fast ones, blends between | Llama 3.1 |
//! | `yarn` | blends by the number of turns within the original context, and sharpens attention | YaRN |
//! | `dynamic` | nothing within the model's context, which sessions keep to | NTK by parts of the length |
//!
//! Other kinds are refused by name, and so is any parameter that would go unread. Frequencies are rounded to f32 and multiplied with the position in f32, as
//! the training code does; sines and cosines are those of the rounded angles.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use sbnc_format::manifest::RopeValue;
use sbnc_kernels::cpu::ops::{Pairing, Rotation};

use crate::error::{Error, Kind, Result};

/// How frequencies are scaled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    Linear { factor: f64 },
    Dynamic,
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    Yarn(Yarn),
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

impl Scaling {
    /// Reads the scaling of a manifest, for a model with this context.
    pub(crate) fn new(scaling: Option<&BTreeMap<String, RopeValue>>, context: usize) -> Result<Self> {
        let Some(scaling) = scaling else { return Ok(Self::None) };
        let mut parameters = Parameters { values: scaling.clone() };
        let kind = parameters.text("rope_type")?;
        let scaling = match kind.as_deref() {
            None | Some("default") => Self::None,
            Some("linear") => {
                parameters.positive("original_max_position_embeddings")?;
                Self::Linear { factor: parameters.required("factor")? }
            }
            Some("dynamic") => {
                parameters.positive("original_max_position_embeddings")?;
                parameters.required("factor")?;
                Self::Dynamic
            }
            Some("llama3") => parameters.llama3()?,
            Some("yarn") => Self::Yarn(parameters.yarn(context)?),
            Some(other) => {
                let expected = "linear, dynamic, llama3 or yarn";
                return Err(Error::new(Kind::Unsupported, subject("rope_type"), expected, other));
            }
        };
        parameters.nothing_left()?;
        Ok(scaling)
    }

    /// The longest context, where the model's own is the one before scaling.
    pub(crate) fn context(&self, context: usize) -> usize {
        let reach = match self {
            Self::Yarn(yarn) => yarn.original * yarn.factor,
            _ => 0.0,
        };
        context.max(reach as usize)
    }

    /// What sines and cosines are multiplied by.
    fn attention(&self) -> f64 {
        match self {
            Self::Yarn(yarn) => yarn.attention,
            _ => 1.0,
        }
    }

    /// Radians that each pair turns from one position to the next.
    fn frequencies(&self, theta: f64, dim: usize) -> Vec<f32> {
        let plain = |pair: usize| theta.powf(-((2 * pair) as f64) / dim as f64);
        let scaled = |pair: usize| match self {
            Self::None | Self::Dynamic => plain(pair),
            Self::Linear { factor } => plain(pair) / factor,
            Self::Llama3 { factor, low, high, original } => {
                // Turns within the original context decide: few are stretched, many are kept.
                let turns = original * plain(pair) / TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                plain(pair) * (keep + (1.0 - keep) / factor)
            }
            Self::Yarn(yarn) => plain(pair) * yarn.share(pair, theta, dim),
        };
        (0..dim / 2).map(|pair| scaled(pair) as f32).collect()
    }

    /// The angles of all positions below `positions`.
    pub(crate) fn rotation(&self, pairing: Pairing, theta: f64, dim: usize, positions: usize) -> Result<Rotation> {
        let frequencies = self.frequencies(theta, dim);
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

/// Parameters that nobody has read yet.
struct Parameters {
    values: BTreeMap<String, RopeValue>,
}

impl Parameters {
    fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.values.remove(key) {
            Some(RopeValue::Text(text)) => Ok(Some(text)),
            Some(RopeValue::Integer(found)) => {
                Err(Error::new(Kind::Invalid, subject(key), "a name", found.to_string()))
            }
            None => Ok(None),
        }
    }

    fn positive(&mut self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let (number, text) = match value {
            RopeValue::Integer(number) => (Some(number as f64), number.to_string()),
            RopeValue::Text(text) => (text.parse().ok(), text),
        };
        match number.filter(|v: &f64| v.is_finite() && *v > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::new(Kind::Invalid, subject(key), "a number above 0", text)),
        }
    }

    fn required(&mut self, key: &str) -> Result<f64> {
        self.positive(key)?.ok_or_else(|| Error::new(Kind::Invalid, subject(key), "a number above 0", "nothing"))
    }

    fn llama3(&mut self) -> Result<Scaling> {
        let (low, high) = (self.required("low_freq_factor")?, self.required("high_freq_factor")?);
        if high <= low {
            let expected = format!("above low_freq_factor, {low}");
            return Err(Error::new(Kind::Invalid, subject("high_freq_factor"), expected, high.to_string()));
        }
        let original = self.required("original_max_position_embeddings")?;
        Ok(Scaling::Llama3 { factor: self.required("factor")?, low, high, original })
    }

    fn yarn(&mut self, context: usize) -> Result<Yarn> {
        let factor = self.required("factor")?;
        let original = self.positive("original_max_position_embeddings")?.unwrap_or(context as f64);
        let (fast, slow) = (self.positive("beta_fast")?.unwrap_or(32.0), self.positive("beta_slow")?.unwrap_or(1.0));
        let truncate = match self.text("truncate")?.as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(found) => return Err(Error::new(Kind::Invalid, subject("truncate"), "true or false", found)),
        };
        let magnitude = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let stated = self.positive("attention_factor")?;
        let (one, all) = (self.positive("mscale")?, self.positive("mscale_all_dim")?);
        let attention = match (stated, one, all) {
            (Some(stated), _, _) => stated,
            (None, Some(one), Some(all)) => magnitude(one) / magnitude(all),
            _ => magnitude(1.0),
        };
        Ok(Yarn { factor, original, fast, slow, truncate, attention })
    }

    /// A parameter that was not read would change nothing, silently.
    fn nothing_left(&self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::new(Kind::Unsupported, subject(key), "no such parameter of this scaling", "one")),
        }
    }
}

fn subject(key: &str) -> String {
    format!("model.rope.scaling.{key}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn scaling(members: &[(&str, &str)]) -> Result<Scaling> {
        let member = |(key, value): &(&str, &str)| match value.parse() {
            Ok(integer) => ((*key).to_owned(), RopeValue::Integer(integer)),
            Err(_) => ((*key).to_owned(), RopeValue::Text((*value).to_owned())),
        };
        Scaling::new(Some(&members.iter().map(member).collect()), 8192)
    }

    #[track_caller]
    fn assert_near(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs(), "{found}, not {expected}");
    }

    #[test]
    fn plain_frequencies_fall_from_one() {
        let plain = Scaling::None.frequencies(10_000.0, 8);
        for (found, expected) in plain.into_iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert_near(found, expected);
        }
    }

    #[test]
    fn linear_divides_all_and_dynamic_none() {
        let linear = scaling(&[("rope_type", "linear"), ("factor", "2.5")]).unwrap();
        assert_near(linear.frequencies(10_000.0, 8)[1], 0.04);
        let dynamic = scaling(&[("rope_type", "dynamic"), ("factor", "4")]).unwrap();
        assert_eq!(dynamic.frequencies(10_000.0, 8), Scaling::None.frequencies(10_000.0, 8));
        assert_eq!((linear.context(8192), dynamic.context(8192)), (8192, 8192));
    }

    /// The rule as the model's authors publish it: by wave length, with three cases.
    #[test]
    fn llama3_divides_long_waves_and_keeps_short_ones() {
        let members = [
            ("rope_type", "llama3"),
            ("factor", "8.0"),
            ("low_freq_factor", "1.0"),
            ("high_freq_factor", "4.0"),
            ("original_max_position_embeddings", "8192"),
        ];
        let found = scaling(&members).unwrap().frequencies(500_000.0, 128);
        let mut cases = [0; 3];
        for (pair, found) in found.into_iter().enumerate() {
            let plain = 500_000f64.powf(-2.0 * pair as f64 / 128.0);
            let wave = TAU / plain;
            let (case, expected) = if wave < 8192.0 / 4.0 {
                (0, plain)
            } else if wave > 8192.0 / 1.0 {
                (1, plain / 8.0)
            } else {
                let smooth = (8192.0 / wave - 1.0) / (4.0 - 1.0);
                (2, (1.0 - smooth) * plain / 8.0 + smooth * plain)
            };
            cases[case] += 1;
            assert_near(found, expected);
        }
        assert_eq!(cases, [29, 29, 6], "short, long and medium waves");
    }

    #[test]
    fn yarn_keeps_the_first_pairs_and_divides_the_last() {
        let members = [("rope_type", "yarn"), ("factor", "4.0"), ("original_max_position_embeddings", "32768")];
        let yarn = scaling(&members).unwrap();
        let (found, plain) = (yarn.frequencies(1e6, 128), Scaling::None.frequencies(1e6, 128));
        // 32 turns within 32768 positions are at pair 23.6, one turn at pair 39.7: the ramp goes from 23 to 40.
        for pair in 0..64 {
            let stretch = ((pair as f64 - 23.0) / 17.0).clamp(0.0, 1.0);
            assert_near(found[pair], f64::from(plain[pair]) * (stretch / 4.0 + 1.0 - stretch));
        }
        assert_eq!(yarn.context(32768), 131_072);
        assert!((yarn.attention() - 1.138_629_436).abs() < 1e-8, "0.1 ln 4 + 1");
        let rotation = yarn.rotation(Pairing::Half, 1e6, 128, 2).unwrap();
        assert_near(rotation.cos[0], 1.138_629_436);
        assert_near(rotation.sin[64], 1.138_629_436 * 1f64.sin());
    }

    #[test]
    fn yarn_takes_its_other_parameters() {
        let with = |more: &[(&'static str, &'static str)]| {
            scaling(&[&[("rope_type", "yarn"), ("factor", "40")], more].concat())
        };
        let attention = |more: &[(&'static str, &'static str)]| with(more).unwrap().attention();
        assert!((attention(&[("attention_factor", "0.5")]) - 0.5).abs() < 1e-12);
        assert!((attention(&[("mscale", "1.0"), ("mscale_all_dim", "1.0")]) - 1.0).abs() < 1e-12);
        let whole = with(&[]).unwrap().frequencies(10_000.0, 64);
        assert_ne!(whole, with(&[("truncate", "false")]).unwrap().frequencies(10_000.0, 64));
        assert_ne!(whole, with(&[("beta_fast", "16")]).unwrap().frequencies(10_000.0, 64));
        assert!(with(&[("truncate", "perhaps")]).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let unread = scaling(&[("rope_type", "linear"), ("factor", "2"), ("alpha", "1")]).unwrap_err();
        assert_eq!((unread.kind(), unread.subject()), (Kind::Unsupported, "model.rope.scaling.alpha"));
        let unknown = scaling(&[("rope_type", "longrope")]).unwrap_err();
        assert_eq!((unknown.kind(), unknown.found()), (Kind::Unsupported, "longrope"));
        assert_eq!(scaling(&[("rope_type", "default")]).unwrap(), Scaling::None);
    }

    #[test]
    fn angles_are_products_in_f32() {
        let rotation = Scaling::None.rotation(Pairing::Interleaved, 10_000.0, 4, 1001).unwrap();
        let angle = 1000f32 * 0.01;
        assert_near(rotation.cos[2001], f64::from(angle).cos());
        assert_eq!((rotation.pairs, rotation.cos.len()), (2, 2002));
    }
}
