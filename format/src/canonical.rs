//! Canonical JSON, the text form of the manifest: one value has exactly one byte string (SPEC-rules R063 to R065).
//!
//! Whether a text is JSON at all, and what it says, is left to `serde_json`; here is only what makes it canonical. Not a general JSON library:
//! numbers are integers of 53 bits, nothing else.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::{FormatError, Result, rule};
use crate::limits::MAX_MANIFEST_DEPTH;

const MAX_INTEGER: u64 = 1 << 53;

/// Checks that `bytes` are the canonical form of an object, and gives them as text. Nothing is kept of the text, so that a hostile one cannot
/// take many times its length in memory.
pub(crate) fn check(bytes: &[u8]) -> Result<&str> {
    let invalid =
        |expected: &str, found: String| FormatError::invalid(rule::MANIFEST_JSON, "manifest", expected, found);
    let text = std::str::from_utf8(bytes).map_err(|e| invalid("UTF-8", e.to_string()))?;
    let depth = depth(text);
    if depth > MAX_MANIFEST_DEPTH {
        return Err(invalid("nesting of at most 16", format!("a nesting of {depth}")));
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| invalid("JSON", e.to_string()))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(invalid("an object", "something else".to_owned()));
    }
    let mut scan = Scan::new(text);
    if !scan.value() || scan.at != bytes.len() {
        let expected = "canonical JSON: sorted unique keys, no whitespace, minimal escapes";
        let found = format!("something else at byte {}", scan.at);
        return Err(FormatError::invalid(rule::MANIFEST_CANONICAL, "manifest", expected, found));
    }
    match scan.bad_number {
        None => Ok(text),
        Some(number) => {
            let expected = "an integer of at most 53 bits; a real is a string";
            Err(FormatError::invalid(rule::MANIFEST_NUMBER, "manifest", expected, number.escape_ascii().to_string()))
        }
    }
}

/// Whether `text` has everything that `part` has, with the same types and values. Both are canonical; `text` may have other members.
pub(crate) fn has(text: &str, part: &str) -> bool {
    Scan::new(text).has(&mut Scan::new(part))
}

/// A walk over JSON that is known to be well-formed: it stops, with false, where the form is not canonical.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// The first number that the format does not allow.
    bad_number: Option<&'a [u8]>,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, bad_number: None }
    }

    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Passes `byte`, if it comes next.
    fn pass(&mut self, byte: u8) -> bool {
        let comes = self.peek() == byte;
        self.at += usize::from(comes);
        comes
    }

    fn value(&mut self) -> bool {
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().is_some(),
            b'-' | b'0'..=b'9' => {
                self.number();
                true
            }
            b't' | b'n' => {
                self.at += 4;
                true
            }
            b'f' => {
                self.at += 5;
                true
            }
            _ => false,
        }
    }

    fn object(&mut self) -> bool {
        self.at += 1;
        let mut last: Option<&[u8]> = None;
        while !self.pass(b'}') {
            if last.is_some() && !self.pass(b',') {
                return false;
            }
            let start = self.at;
            let Some(key) = self.string() else { return false };
            if last.is_some_and(|last| !unescaped(last).lt(unescaped(key))) {
                self.at = start;
                return false;
            }
            last = Some(key);
            if !self.pass(b':') || !self.value() {
                return false;
            }
        }
        true
    }

    fn array(&mut self) -> bool {
        self.at += 1;
        let mut first = true;
        while !self.pass(b']') {
            if !first && !self.pass(b',') || !self.value() {
                return false;
            }
            first = false;
        }
        true
    }

    /// What is between the quotes, as it is written.
    fn string(&mut self) -> Option<&'a [u8]> {
        if !self.pass(b'"') {
            return None;
        }
        let start = self.at;
        while !self.pass(b'"') {
            if self.peek() == b'\\' {
                self.at += escape_length(&self.text[self.at + 1..])?;
            }
            self.at += 1;
        }
        Some(&self.text[start..self.at - 1])
    }

    fn number(&mut self) {
        let start = self.at;
        while matches!(self.peek(), b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
            self.at += 1;
        }
        let number = &self.text[start..self.at];
        let in_range = |n: i64| n.unsigned_abs() <= MAX_INTEGER && number != b"-0";
        let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
        if !parsed.is_some_and(in_range) {
            self.bad_number.get_or_insert(number);
        }
    }

    fn has(&mut self, part: &mut Scan<'_>) -> bool {
        match part.peek() {
            b'{' => self.pass(b'{') && self.has_members(part),
            b'[' => self.pass(b'[') && self.has_items(part),
            _ => {
                let (start, part_start) = (self.at, part.at);
                self.value() && part.value() && self.text[start..self.at] == part.text[part_start..part.at]
            }
        }
    }

    /// Keys are sorted on both sides, so one walk finds them all.
    fn has_members(&mut self, part: &mut Scan<'_>) -> bool {
        part.at += 1;
        while !part.pass(b'}') {
            part.pass(b',');
            let wanted = part.string();
            part.pass(b':');
            loop {
                self.pass(b',');
                let Some(key) = self.string() else { return false };
                self.pass(b':');
                if Some(key) == wanted {
                    break;
                }
                self.value();
            }
            if !self.has(part) {
                return false;
            }
        }
        while !self.pass(b'}') {
            self.pass(b',');
            self.string();
            self.pass(b':');
            self.value();
        }
        true
    }

    fn has_items(&mut self, part: &mut Scan<'_>) -> bool {
        part.at += 1;
        while !part.pass(b']') {
            part.pass(b',');
            self.pass(b',');
            if !self.has(part) {
                return false;
            }
        }
        self.pass(b']')
    }
}

/// Bytes of an escape after its backslash, less the one that every escape has; `None` if it is not the canonical one of its character.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(1),
        [b'u', b'0', b'0', high @ (b'0' | b'1'), low, ..] => {
            let value = (high - b'0') << 4 | (*low as char).to_digit(16)? as u8;
            let has_short_form = matches!(value, 8 | 9 | 10 | 12 | 13);
            (!has_short_form && !low.is_ascii_uppercase()).then_some(5)
        }
        _ => None,
    }
}

/// The bytes that a canonical string stands for.
fn unescaped(string: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = string;
    std::iter::from_fn(move || {
        let (byte, length) = match rest {
            [] => return None,
            [b'\\', b'u', _, _, high, low, ..] => {
                ((high - b'0') << 4 | (*low as char).to_digit(16).unwrap_or(0) as u8, 6)
            }
            [b'\\', short, ..] => {
                let byte = match short {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                };
                (byte, 2)
            }
            [byte, ..] => (*byte, 1),
        };
        rest = &rest[length..];
        Some(byte)
    })
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
