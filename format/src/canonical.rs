//! Canonical JSON, the text form of the manifest: one value has exactly one byte string (SPEC-rules R063 to R065).
//!
//! Parsing is by `serde_json`; what makes it canonical is that the parsed value is written again and compared. Not a general JSON library:
//! numbers are integers of 53 bits, nothing else.

use serde_json::Value;

use crate::error::{FormatError, Result, rule};
use crate::limits::MAX_MANIFEST_DEPTH;

const MAX_INTEGER: u64 = 1 << 53;

/// Parses `bytes` and refuses whatever is not the canonical form of an object.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value> {
    let invalid =
        |expected: &str, found: String| FormatError::invalid(rule::MANIFEST_JSON, "manifest", expected, found);
    let text = std::str::from_utf8(bytes).map_err(|e| invalid("UTF-8", e.to_string()))?;
    let depth = depth(text);
    if depth > MAX_MANIFEST_DEPTH {
        return Err(invalid("nesting of at most 16", format!("a nesting of {depth}")));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| {
        // A number beyond all floats is good JSON; the parser has no other way to say so.
        let error = e.to_string();
        if error.starts_with("number out of range") { not_an_integer(&error) } else { invalid("JSON", error) }
    })?;
    if !value.is_object() {
        return Err(invalid("an object", kind(&value).to_owned()));
    }
    check_numbers(&value)?;
    let written = to_bytes(&value);
    if written != bytes {
        let at = written.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let expected = "canonical JSON: sorted unique keys, no whitespace, minimal escapes";
        return Err(FormatError::invalid(
            rule::MANIFEST_CANONICAL,
            "manifest",
            expected,
            format!("a difference at byte {at}"),
        ));
    }
    Ok(value)
}

/// The canonical bytes of `value`. The keys are sorted here, because whether the parser keeps them sorted is a feature of another crate.
pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    let mut text = String::new();
    write(value, &mut text);
    text.into_bytes()
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                separate(i, out);
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_bytes());
            out.push('{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                separate(i, out);
                write(&Value::String(key.clone()), out);
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

/// Deepest nesting of brackets outside strings. Counted before parsing, so that the parser's own recursion is bounded by our rule.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn check_numbers(value: &Value) -> Result<()> {
    match value {
        Value::Number(number) => {
            let in_range = number.as_u64().is_some_and(|n| n <= MAX_INTEGER)
                || number.as_i64().is_some_and(|n| n.unsigned_abs() <= MAX_INTEGER);
            if in_range {
                return Ok(());
            }
            Err(not_an_integer(&number.to_string()))
        }
        Value::Array(items) => items.iter().try_for_each(check_numbers),
        Value::Object(members) => members.values().try_for_each(check_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn not_an_integer(found: &str) -> FormatError {
    FormatError::invalid(rule::MANIFEST_NUMBER, "manifest", "an integer of at most 53 bits; a real is a string", found)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
