//! The settings that a model's makers recommend, in the `generation_config.json` that a file carries.
//!
//! They are read as the `transformers` library reads them: without `do_sample` the choice is greedy whatever else is stated, and `repetition_penalty` counts the whole
//! text. What is not stated is off; that library's own defaults are not added.

use serde_json::{Map, Value};

use super::Sampling;
use crate::error::{Error, Kind, Result};

/// The file's name.
pub(crate) const NAME: &str = "generation_config.json";

impl Sampling {
    /// What a `generation_config.json` recommends.
    ///
    /// ```
    /// use sbnc_runtime::sampling::Sampling;
    /// let sampling = Sampling::recommended(br#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9}"#)?;
    /// assert_eq!(sampling, Sampling { temperature: 0.6, top_p: 0.9, ..Sampling::greedy() });
    /// assert_eq!(Sampling::recommended(b"{}")?, Sampling::greedy());
    /// # Ok::<(), sbnc_runtime::Error>(())
    /// ```
    pub fn recommended(json: &[u8]) -> Result<Self> {
        let members: Map<String, Value> =
            serde_json::from_slice(json).map_err(|e| Error::new(Kind::Invalid, NAME, "an object", e.to_string()))?;
        let stated = |key: &str| members.get(key).filter(|value| !value.is_null());
        let wrong = |key: &str, expected: &str, found: &Value| {
            Error::new(Kind::Invalid, format!("{NAME}: {key}"), expected, found.to_string())
        };
        let number = |key: &str, low: f64, high: f64| match stated(key) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|v| (low..=high).contains(v)) {
                Some(number) => Ok(Some(number as f32)),
                None => Err(wrong(key, &format!("a number from {low} to {high}"), value)),
            },
        };
        let mut sampling = Self::greedy();
        if let Some(penalty) = number("repetition_penalty", 1e-3, 1e3)?.filter(|penalty| *penalty != 1.0) {
            (sampling.repeat_penalty, sampling.penalty_window) = (penalty, usize::MAX);
        }
        let sample = match stated("do_sample") {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("do_sample", "true or false", value))?,
        };
        if !sample {
            return Ok(sampling);
        }
        sampling.temperature = number("temperature", 0.0, 1e3)?.unwrap_or(1.0);
        sampling.top_p = number("top_p", 1e-6, 1.0)?.unwrap_or(1.0);
        sampling.min_p = number("min_p", 0.0, 1.0)?.unwrap_or(0.0);
        if let Some(value) = stated("top_k") {
            let k = value.as_u64().ok_or_else(|| wrong("top_k", "a whole number", value))?;
            sampling.top_k = usize::try_from(k).unwrap_or(usize::MAX);
        }
        Ok(sampling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_is_taken_and_the_rest_is_off() {
        let json = br#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": null, "min_p": 0.05, "repetition_penalty": 1.05, "max_length": 9}"#;
        let expected = Sampling {
            temperature: 0.7,
            top_k: 20,
            min_p: 0.05,
            repeat_penalty: 1.05,
            penalty_window: usize::MAX,
            ..Sampling::greedy()
        };
        assert_eq!(Sampling::recommended(json), Ok(expected));
        let heated = Sampling { temperature: 1.0, ..Sampling::greedy() };
        assert_eq!(Sampling::recommended(br#"{"do_sample": true}"#), Ok(heated));
    }

    #[test]
    fn without_do_sample_the_choice_is_greedy() {
        let penalised = Sampling { repeat_penalty: 1.1, penalty_window: usize::MAX, ..Sampling::greedy() };
        for do_sample in ["", "\"do_sample\": false,", "\"do_sample\": null,"] {
            let json = format!("{{{do_sample} \"temperature\": 0.6, \"top_k\": 3, \"repetition_penalty\": 1.1}}");
            assert_eq!(Sampling::recommended(json.as_bytes()).as_ref(), Ok(&penalised));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (json, part) in [
            ("[]", "generation_config.json"),
            (r#"{"do_sample": 1}"#, "do_sample"),
            (r#"{"do_sample": true, "temperature": -1}"#, "temperature"),
            (r#"{"do_sample": true, "temperature": "hot"}"#, "temperature"),
            (r#"{"do_sample": true, "top_p": 0}"#, "top_p"),
            (r#"{"do_sample": true, "top_k": -1}"#, "top_k"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        ] {
            let Err(error) = Sampling::recommended(json.as_bytes()) else { panic!("{json} must be refused") };
            assert_eq!(error.kind(), Kind::Invalid, "{json}");
            assert!(error.to_string().contains(part), "{json}: {error}");
        }
    }
}
