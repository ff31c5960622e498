//! Configurations from strangers: typed access whose errors name the file and the key.
//!
//! Keys that nobody asks for are ignored; `null` counts as absent, as it does in the tools that write these files.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{FamilyError, Result, clip};
use crate::json;

/// Longest configuration that is read.
const MAX_BYTES: usize = 4 << 20;
/// Longest list of strings or numbers in a configuration.
const MAX_ITEMS: usize = 65_536;

/// An object of a configuration, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The file, and the keys that lead here, as in `config.json: rope_scaling.`
    path: String,
    members: Map<String, Value>,
}

impl Object {
    /// Parses the text of `file`.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(FamilyError::invalid(file, format!("at most {MAX_BYTES} bytes"), format!("{}", text.len())));
        }
        let value: Value = json::parse(text.as_bytes())
            .map_err(|e| FamilyError::invalid(file, "JSON with unique keys", clip(&e.to_string())))?;
        match value {
            Value::Object(members) => Ok(Self { path: format!("{file}: "), members }),
            other => Err(FamilyError::invalid(file, "an object", show(&other))),
        }
    }

    /// An object of another format, whose errors begin with `path`.
    pub(super) fn of(path: String, members: Map<String, Value>) -> Self {
        Self { path, members }
    }

    /// How an error names `key`.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("{}{}", self.path, clip(key))
    }

    /// The value of `key`, unless it is absent or null.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is present, be it null.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.members.contains_key(key)
    }

    /// The keys, null or not.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// A whole number within `range`.
    pub(super) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let number = value.as_u64().filter(|n| range.contains(n));
        number.map(Some).ok_or_else(|| self.wrong(key, expected()))
    }

    /// A whole number within `range` that must be there.
    pub(super) fn required(&self, key: &str, range: RangeInclusive<u64>) -> Result<u64> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.count(key, range)?.ok_or_else(|| FamilyError::invalid(self.subject(key), expected, "no such key"))
    }

    /// A whole number of either sign.
    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.wrong(key, "an integer"))
    }

    /// A real number above 0 and at most `most`.
    pub(super) fn positive(&self, key: &str, most: f64) -> Result<Option<f64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_f64().filter(|n| *n > 0.0 && *n <= most);
        number.map(Some).ok_or_else(|| self.wrong(key, format!("a number above 0 and at most {most}")))
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string"))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let items = value.as_array().filter(|items| items.len() <= MAX_ITEMS);
        let texts = items.and_then(|items| items.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.wrong(key, "a list of strings"))
    }

    /// One number, or a list of them.
    pub(super) fn one_or_more(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<Vec<u64>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let items = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let number = |item: &Value| item.as_u64().filter(|n| range.contains(n));
        let numbers =
            if items.len() > MAX_ITEMS { None } else { items.iter().map(number).collect::<Option<Vec<u64>>>() };
        let expected = || format!("an integer from {} to {}, or a list of them", range.start(), range.end());
        numbers.map(Some).ok_or_else(|| self.wrong(key, expected()))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let members = value.as_object().ok_or_else(|| self.wrong(key, "an object"))?;
        Ok(Some(Self { path: format!("{}.", self.subject(key)), members: members.clone() }))
    }

    /// The value under either of two spellings, which must agree where both are present.
    pub(super) fn agreed<T: PartialEq + fmt::Display>(
        &self,
        (key, value): (&str, Option<T>),
        (other_key, other): (&str, Option<T>),
    ) -> Result<Option<T>> {
        match (value, other) {
            (Some(a), Some(b)) if a != b => {
                let expected = format!("{}, which {other_key} says", clip(&b.to_string()));
                Err(FamilyError::invalid(self.subject(key), expected, clip(&a.to_string()))
                    .remedy(format!("make {key} and {other_key} agree")))
            }
            (a, b) => Ok(a.or(b)),
        }
    }

    /// The error for a value of `key` that is not what was expected.
    pub(super) fn wrong(&self, key: &str, expected: impl Into<String>) -> FamilyError {
        FamilyError::invalid(self.subject(key), expected, self.shown(key))
    }

    /// The error for a value of `key` that sbnc does not compile.
    pub(super) fn unsupported(&self, key: &str, expected: impl Into<String>) -> FamilyError {
        FamilyError::unsupported(self.subject(key), expected, self.shown(key))
    }

    /// The value of `key` as an error shows it.
    pub(super) fn shown(&self, key: &str) -> String {
        self.members.get(key).map_or_else(|| "no such key".to_owned(), show)
    }
}

/// A value as an error shows it: with its type where that may be the mistake, and never longer than a line.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string \"{}\"", clip(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(members) => format!("an object of {} keys", members.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
