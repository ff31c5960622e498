//! What bytes a token stands for, without the tokens around it.
//!
//! A tokenizer's decoder works on whole sequences and gives text, in which incomplete characters are lost. Two kinds of decoder, which nearly all language
//! models use, also work token by token in bytes: the byte-level alphabet of GPT-2, and SentencePiece's with `▁` for a space and `<0x0A>` for a byte. Others
//! are refused.

use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// How tokens become bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    byte_level: bool,
    byte_fallback: bool,
    replace: Vec<(String, String)>,
    /// Removed at the start of a text: this character, at most so many times.
    strip: Option<(char, usize)>,
}

impl Pieces {
    /// Of the `decoder` of a tokenizer.json.
    pub(super) fn of_decoder(decoder: &Value) -> Result<Self> {
        let mut pieces = Self::default();
        pieces.add(decoder)?;
        Ok(pieces)
    }

    fn add(&mut self, decoder: &Value) -> Result<()> {
        let kind = decoder["type"].as_str().unwrap_or("none");
        match kind {
            "ByteLevel" => self.byte_level = true,
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => {}
            "Sequence" => {
                let parts = decoder["decoders"].as_array().map_or(&[][..], Vec::as_slice);
                parts.iter().try_for_each(|part| self.add(part))?;
            }
            "Replace" => {
                let from = decoder["pattern"]["String"].as_str().filter(|from| !from.is_empty());
                let from = from.ok_or_else(|| unsupported("Replace with a pattern"))?;
                self.replace.push((from.to_owned(), decoder["content"].as_str().unwrap_or_default().to_owned()));
            }
            "Strip" => {
                let number = |name: &str| decoder[name].as_u64().unwrap_or(0) as usize;
                let content = decoder["content"].as_str().and_then(|c| c.chars().next());
                match content {
                    Some(content) if number("stop") == 0 => self.strip = Some((content, number("start"))),
                    _ => return Err(unsupported("Strip at the end")),
                }
            }
            "Metaspace" => {
                let space = decoder["replacement"].as_str().unwrap_or("▁");
                self.replace.push((space.to_owned(), " ".to_owned()));
                if decoder["prepend_scheme"] != "never" {
                    self.strip = Some((' ', 1));
                }
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }

    /// Appends the bytes of a token; `at_start` if nothing came before it.
    pub(super) fn append(&self, token: &str, at_start: bool, out: &mut Vec<u8>) {
        if self.byte_level {
            let before = out.len();
            for c in token.chars() {
                match byte_of(c) {
                    Some(byte) => out.push(byte),
                    // Not of the alphabet: an added token, which stands for itself.
                    None => {
                        out.truncate(before);
                        return out.extend_from_slice(token.as_bytes());
                    }
                }
            }
            return;
        }
        if self.byte_fallback
            && let Some(byte) = fallback_byte(token)
        {
            return out.push(byte);
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replace {
            text = text.replace(from, to);
        }
        let mut rest = text.as_str();
        if let (true, Some((content, times))) = (at_start, self.strip) {
            for _ in 0..times {
                rest = rest.strip_prefix(content).unwrap_or(rest);
            }
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

/// The byte that a character of the byte-level alphabet stands for: printable ones for themselves, the others shifted to where characters are printable.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),        // 0x00 to 0x20
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8), // 0x7F to 0xA0
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The character of the byte-level alphabet that stands for a byte.
pub(super) fn char_of(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x00..=0x20 => code + 0x100,
        0x7F..=0xA0 => code - 0x7F + 0x121,
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn unsupported(found: &str) -> Error {
    let expected = "a decoder of kind ByteLevel, or of ByteFallback, Replace, Fuse, Strip and Metaspace";
    Error::new(Kind::Unsupported, "tokenizer.json", expected, found).remedy("token ids can be used without a tokenizer")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use serde_json::json;
    use tokenizers::Decoder as _;
    use tokenizers::decoders::DecoderWrapper;

    use super::*;

    fn whole(pieces: &Pieces, tokens: &[&str]) -> String {
        let mut out = Vec::new();
        for (i, token) in tokens.iter().enumerate() {
            pieces.append(token, i == 0, &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn pieces_join_to_what_the_decoder_gives() {
        let sentence_piece = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let cases: [(&Value, &[&str]); 6] = [
            (&sentence_piece, &["▁Hello", "▁wor", "ld", "<0x0A>", "<0xE6>", "<0x97>", "<0xA5>", "!", "▁▁x"]),
            (&sentence_piece, &["Hello", "▁world"]),
            (&metaspace, &["▁Hello", "▁wor", "ld"]),
            (&byte_level, &["Hello", "Ġworld", "Ċ", "æĹ", "¥", "ĠÃ©"]),
            (&byte_level, &["<|a special one|>", "Ġx"]),
            (&byte_level, &["日", "Ġx"]),
        ];
        for (decoder, tokens) in cases {
            let theirs: DecoderWrapper = serde_json::from_value(decoder.clone()).unwrap();
            let expected = theirs.decode(tokens.iter().map(|t| (*t).to_owned()).collect()).unwrap();
            assert_eq!(whole(&Pieces::of_decoder(decoder).unwrap(), tokens), expected, "{decoder}");
        }
    }

    #[test]
    fn the_byte_level_alphabet_has_every_byte_once() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
            assert!(seen.insert(char_of(byte)));
        }
        assert_eq!(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().len(), 256);
        assert!(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().iter().all(|c| seen.contains(c)));
    }

    #[test]
    fn other_decoders_are_refused_by_name() {
        for decoder in [json!(null), json!({"type": "WordPiece", "prefix": "##"}), json!({"type": "CTC"})] {
            let error = Pieces::of_decoder(&decoder).unwrap_err();
            assert!(error.kind() == Kind::Unsupported && error.to_string().contains("token ids"), "{error}");
        }
    }
}
