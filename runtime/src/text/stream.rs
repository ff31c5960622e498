//! Tokens to text, one by one: UTF-8 is never cut, and what is incomplete waits.

use super::Tokenizer;

/// Turns tokens into text as they come. A token may end within a character: its bytes wait for the next ones. Bytes that can no longer become a
/// character are shown as `�`; an incomplete character at the end is dropped.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    characters: Characters,
    at_start: bool,
}

impl TextStream {
    /// A stream of `tokenizer`. `at_start` says that the first token begins a text: some tokenizers put a space before a text, which decoding removes.
    pub fn new(tokenizer: &Tokenizer, at_start: bool) -> Self {
        Self { tokenizer: tokenizer.clone(), characters: Characters::default(), at_start }
    }

    /// Appends the text that a token completes, which may be none.
    pub fn push(&mut self, token: u32, out: &mut String) {
        let characters = &mut self.characters;
        self.at_start &= !self.tokenizer.piece(token, self.at_start, &mut characters.bytes);
        characters.complete(out);
    }
}

/// Bytes that are not characters yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Characters {
    pub(super) bytes: Vec<u8>,
}

impl Characters {
    /// Moves to `out` whatever further bytes cannot change.
    pub(super) fn complete(&mut self, out: &mut String) {
        let mut at = 0;
        while at < self.bytes.len() {
            match std::str::from_utf8(&self.bytes[at..]) {
                Ok(text) => {
                    out.push_str(text);
                    at = self.bytes.len();
                }
                Err(error) => {
                    let (valid, rest) = self.bytes[at..].split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid)); // valid, so borrowed as it is
                    at += valid.len();
                    let Some(bad) = error.error_len() else { break };
                    debug_assert!(bad <= rest.len());
                    out.push(char::REPLACEMENT_CHARACTER);
                    at += bad;
                }
            }
        }
        self.bytes.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::random::Random;

    #[test]
    fn however_bytes_are_cut_the_text_is_the_same() {
        let mut random = Random::new(11);
        let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
        let parts: [&[u8]; 9] = [
            b"a",
            "é".as_bytes(),
            "日".as_bytes(),
            "👩‍🚀".as_bytes(),
            b"\xff",
            b"\xe6\x97",
            b"\xf0\x9f",
            b"\x80",
            b"\xed\xa0\x80",
        ];
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..below(8)).flat_map(|_| parts[below(parts.len())].to_vec()).collect();
            let mut characters = Characters::default();
            let mut out = String::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((1 + below(3)).min(rest.len()));
                characters.bytes.extend_from_slice(piece);
                characters.complete(&mut out);
                assert!(characters.bytes.len() < 4, "only an incomplete character waits");
                rest = after;
            }
            let whole = &bytes[..bytes.len() - characters.bytes.len()];
            assert_eq!(out, String::from_utf8_lossy(whole), "{bytes:x?}");
        }
    }
}
