//! The scaling of a manifest, read into [`Scaling`]: what parameters mean, and which may be left out, is as in the `transformers` library.

use std::collections::BTreeMap;

use sbnc_format::manifest::RopeValue;

use super::{Long, Scaling, Yarn};
use crate::error::{Error, Kind, Result};

impl Scaling {
    /// Reads the scaling of a manifest, for a model with this context and heads of this width.
    pub(crate) fn new(scaling: Option<&BTreeMap<String, RopeValue>>, context: usize, dim: usize) -> Result<Self> {
        let Some(scaling) = scaling else { return Ok(Self::None) };
        let mut parameters = Parameters { values: scaling.clone(), context };
        let kind = parameters.text("rope_type")?;
        let scaling = match kind.as_deref() {
            None | Some("default") => Self::None,
            Some("linear") => {
                parameters.positive("original_max_position_embeddings")?;
                Self::Linear { factor: parameters.required("factor")? }
            }
            Some("dynamic") => {
                parameters.positive("original_max_position_embeddings")?;
                Self::Dynamic { factor: parameters.stretch()?, original: context as f64 }
            }
            Some("llama3") => parameters.llama3()?,
            Some("yarn") => Self::Yarn(parameters.yarn()?),
            Some("longrope") => Self::Long(parameters.long(dim)?),
            Some(other) => {
                let expected = "linear, dynamic, llama3, yarn or longrope";
                return Err(Error::new(Kind::Unsupported, subject("rope_type"), expected, other));
            }
        };
        parameters.nothing_left()?;
        Ok(scaling)
    }
}

/// Parameters that nobody has read yet.
struct Parameters {
    values: BTreeMap<String, RopeValue>,
    /// Of the model.
    context: usize,
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

    /// A factor by which a context grows, so at least 1.
    fn stretch(&mut self) -> Result<f64> {
        let factor = self.required("factor")?;
        if factor >= 1.0 {
            return Ok(factor);
        }
        Err(Error::new(Kind::Invalid, subject("factor"), "a number of at least 1", factor.to_string()))
    }

    /// A positive number for each pair, separated by commas.
    fn list(&mut self, key: &str, pairs: usize) -> Result<Vec<f64>> {
        let text = self.text(key)?;
        let expected = || format!("{pairs} numbers above 0, one for each pair of a head");
        let Some(text) = text else { return Err(Error::new(Kind::Invalid, subject(key), expected(), "nothing")) };
        let number = |item: &str| item.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0);
        let Some(numbers) = text.split(',').map(number).collect::<Option<Vec<f64>>>() else {
            return Err(Error::new(Kind::Invalid, subject(key), expected(), text.chars().take(64).collect::<String>()));
        };
        if numbers.len() == pairs {
            return Ok(numbers);
        }
        Err(Error::new(Kind::Invalid, subject(key), expected(), format!("{} of them", numbers.len())))
    }

    /// The context before scaling; the model's own where none is stated.
    fn original(&mut self) -> Result<f64> {
        Ok(self.positive("original_max_position_embeddings")?.unwrap_or(self.context as f64))
    }

    /// `factor`, or what the model's context is of its original one.
    fn factor(&mut self, original: f64) -> Result<f64> {
        Ok(self.positive("factor")?.unwrap_or(self.context as f64 / original))
    }

    fn llama3(&mut self) -> Result<Scaling> {
        let (low, high) = (self.required("low_freq_factor")?, self.required("high_freq_factor")?);
        if high <= low {
            let expected = format!("above low_freq_factor, {low}");
            return Err(Error::new(Kind::Invalid, subject("high_freq_factor"), expected, high.to_string()));
        }
        let original = self.original()?;
        Ok(Scaling::Llama3 { factor: self.required("factor")?, low, high, original })
    }

    fn yarn(&mut self) -> Result<Yarn> {
        let original = self.original()?;
        let factor = self.factor(original)?;
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

    fn long(&mut self, dim: usize) -> Result<Long> {
        let (short, long) = (self.list("short_factor", dim / 2)?, self.list("long_factor", dim / 2)?);
        let original = self.original()?;
        let factor = self.factor(original)?;
        let attention = match self.positive("attention_factor")? {
            Some(stated) => stated,
            None if factor <= 1.0 => 1.0,
            None if original > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
            None => {
                let key = subject("original_max_position_embeddings");
                return Err(Error::new(Kind::Invalid, key, "a number above 1", original.to_string()));
            }
        };
        Ok(Long { original: original as usize, short, long, attention })
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
