//! Stop strings: text that ends a generation, wherever the pieces are cut.

use crate::error::{Error, Kind, Result};

/// Lets text through until one of some strings appears in it, whatever pieces it comes in. Text that may be the beginning of such a string is held back
/// until that is known.
///
/// ```
/// let mut stops = sbnc_runtime::text::StopStrings::new(&["END"])?;
/// let mut out = String::new();
/// assert!(!stops.push("to the E", &mut out));
/// assert_eq!(out, "to the ");
/// assert!(stops.push("ND of", &mut out));
/// assert_eq!(out, "to the ");
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// A filter for these strings; an empty one would stop everything, and is refused.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        let stops: Vec<String> = stops.iter().map(|s| s.as_ref().to_owned()).collect();
        if stops.iter().any(String::is_empty) {
            return Err(Error::new(Kind::Usage, "stop string", "some text", "none"));
        }
        Ok(Self { stops, held: String::new() })
    }

    /// Takes a piece and appends to `out` what is certain to come before any stop string. `true` when one has appeared: it and what follows are dropped.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(piece);
            return false;
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }
        let certain = self.held.len() - self.longest_beginning();
        out.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        false
    }

    /// The end of the text: what was held back is no stop string.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Bytes at the end of the held text that some stop string begins with.
    fn longest_beginning(&self) -> usize {
        let beginnings = |stop: &String| {
            (1..stop.len()).rev().find(|&n| stop.is_char_boundary(n) && self.held.ends_with(&stop[..n]))
        };
        self.stops.iter().filter_map(beginnings).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use super::*;
    use crate::sampling::random::Random;

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let mut random = Random::new(3);
        let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
        for _ in 0..3000 {
            let letters = ['a', 'b', 'é', '日'];
            let text: String = (0..below(20)).map(|_| letters[below(4)]).collect();
            let stops: Vec<String> =
                (0..below(4)).map(|_| (0..=below(4)).map(|_| letters[below(4)]).collect()).collect();
            let expected = stops.iter().filter_map(|s| text.find(s.as_str())).min();
            let mut filter = StopStrings::new(&stops).unwrap();
            let (mut out, mut stopped, mut rest) = (String::new(), false, text.as_str());
            while !rest.is_empty() && !stopped {
                let cut = (1..=rest.len()).filter(|&n| rest.is_char_boundary(n)).nth(below(3));
                let (piece, after) = rest.split_at(cut.unwrap_or(rest.len()));
                stopped = filter.push(piece, &mut out);
                rest = after;
            }
            if !stopped {
                filter.finish(&mut out);
            }
            // A stop string that begins earlier may end later than another: the one that is complete first counts.
            let complete = stops.iter().filter_map(|s| text.find(s.as_str()).map(|at| at + s.len())).min();
            assert_eq!(stopped, expected.is_some(), "{text:?} {stops:?}");
            match complete {
                None => assert_eq!(out, text, "{stops:?}"),
                Some(end) => {
                    assert!(text.starts_with(&out) && out.len() < end, "{text:?} {stops:?} {out:?}");
                    let begins = |s: &String| text[out.len()..].starts_with(s.as_str());
                    assert!(stops.iter().any(begins), "{text:?} {stops:?} {out:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_begin_a_stop_string_is_not_held_back() {
        let mut filter = StopStrings::new(&["\nUser:"]).unwrap();
        let mut out = String::new();
        for piece in ["Hello", "\n", "Us", "es of"] {
            assert!(!filter.push(piece, &mut out));
        }
        assert_eq!(out, "Hello\nUses of");
        assert!(!filter.push("\nUser", &mut out));
        assert_eq!(out, "Hello\nUses of");
        filter.finish(&mut out);
        assert_eq!(out, "Hello\nUses of\nUser");
    }

    #[test]
    fn nothing_is_no_stop_string() {
        assert_eq!(StopStrings::new(&["a", ""]).unwrap_err().kind(), Kind::Usage);
    }
}
