//! GGUF metadata as objects, so that one set of checks serves every kind of configuration.
//!
//! Only single values are taken over. An array becomes a list of as many nulls: nothing that is read here may be one, and its length is what an
//! error shows. Vocabularies and merges, which are most of a file's metadata, are never copied.

use serde_json::{Map, Number, Value as Json};

use super::super::json::Object;
use crate::checkpoint::gguf::{Metadata, Value};

/// Longest list that stands in for an array.
const MAX_SHOWN: usize = 4096;

/// The values whose keys begin with `prefix`, under the rest of their keys.
pub(super) fn object(metadata: &Metadata, prefix: &str) -> Object {
    let below = metadata.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
    let members = below.map(|(key, value)| (key[prefix.len()..].to_owned(), json(value)));
    Object::of(format!("GGUF metadata: {prefix}"), members.collect::<Map<_, _>>())
}

/// Items of an array; `None` where there is no such array.
pub(super) fn items(metadata: &Metadata, key: &str) -> Option<u64> {
    match metadata.get(key) {
        Some(Value::Array(items)) => Some(items.len() as u64),
        _ => None,
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::U8(int) => (*int).into(),
        Value::I8(int) => (*int).into(),
        Value::U16(int) => (*int).into(),
        Value::I16(int) => (*int).into(),
        Value::U32(int) => (*int).into(),
        Value::I32(int) => (*int).into(),
        Value::U64(int) => (*int).into(),
        Value::I64(int) => (*int).into(),
        // The shortest decimal that is this number: 1e-5, which the configuration said, and not the f64 nearest to its f32.
        Value::F32(real) => real_number(format!("{real:?}")),
        Value::F64(real) => real_number(format!("{real:?}")),
        Value::Bool(flag) => (*flag).into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Json::Array(vec![Json::Null; items.len().min(MAX_SHOWN)]),
    }
}

/// Infinities and NaN stay text, which no number is read from.
fn real_number(text: String) -> Json {
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map_or(Json::String(text), Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_meaning() {
        assert_eq!(json(&Value::F32(1e-5)).as_f64(), Some(1e-5));
        assert_eq!(json(&Value::F32(500_000.0)).as_f64(), Some(500_000.0));
        assert_eq!(json(&Value::F32(f32::NAN)).as_f64(), None);
        assert_eq!(json(&Value::U64(u64::MAX)).as_u64(), Some(u64::MAX));
        assert_eq!(json(&Value::F32(32.0)).as_u64(), None);
        assert!(json(&Value::Array(vec![Value::U32(1)])).is_array());
    }

    #[test]
    fn a_prefix_selects_whole_components() {
        let keys = ["llama.a", "llama.b.c", "llama2.a", "lla"];
        let metadata = keys.iter().map(|key| ((*key).to_owned(), Value::U8(1))).collect();
        assert_eq!(object(&metadata, "llama.").keys().collect::<Vec<_>>(), ["a", "b.c"]);
    }
}
