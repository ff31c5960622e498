//! Patterns over names: the globs of the command line, and the patterns by which configurations name modules.
//!
//! Both are matched without backtracking, so no pattern is slow. Module patterns are written as regular expressions but are plain names in
//! practice; the few constructs in use are understood, and anything else is refused rather than guessed.

use super::error::{FamilyError, Result, clip};

const MAX_PATTERN_BYTES: usize = 256;

/// A sequence of character classes, each once or any number of times.
#[derive(Clone, Debug)]
struct Steps(Vec<Step>);

#[derive(Clone, Copy, Debug)]
struct Step {
    class: Class,
    many: bool,
}

#[derive(Clone, Copy, Debug)]
enum Class {
    Any,
    Digit,
    One(char),
}

impl Class {
    fn holds(self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Digit => c.is_ascii_digit(),
            Self::One(one) => c == one,
        }
    }
}

impl Steps {
    /// Feeds `text` through the steps and calls `accept` with every byte length of a match that begins at the start of `text`.
    fn matches(&self, text: &str, mut accept: impl FnMut(usize) -> bool) -> bool {
        let steps = &self.0;
        let mut reached = vec![false; steps.len() + 1];
        reached[0] = true;
        let skip_optional = |reached: &mut Vec<bool>| {
            for (i, step) in steps.iter().enumerate() {
                reached[i + 1] |= reached[i] && step.many;
            }
        };
        skip_optional(&mut reached);
        for (at, c) in text.char_indices() {
            if reached[steps.len()] && accept(at) {
                return true;
            }
            let mut next = vec![false; steps.len() + 1];
            for (i, step) in steps.iter().enumerate() {
                if reached[i] && step.class.holds(c) {
                    next[if step.many { i } else { i + 1 }] = true;
                }
            }
            skip_optional(&mut next);
            if !next.contains(&true) {
                return false;
            }
            reached = next;
        }
        reached[steps.len()] && accept(text.len())
    }
}

/// A glob over whole names: `*` is any text, `?` any one character.
#[derive(Clone, Debug)]
pub(super) struct Glob(Steps);

impl Glob {
    pub(super) fn parse(option: &str, text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            let found = format!("{} bytes", text.len());
            return Err(FamilyError::invalid(option, format!("a pattern of 1 to {MAX_PATTERN_BYTES} bytes"), found));
        }
        let step = |c| match c {
            '*' => Step { class: Class::Any, many: true },
            '?' => Step { class: Class::Any, many: false },
            c => Step { class: Class::One(c), many: false },
        };
        Ok(Self(Steps(text.chars().map(step).collect())))
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.matches(name, |end| end == name.len())
    }
}

/// A pattern of `modules_to_not_convert`: it names one or more whole dotted components, anywhere in the name of a module.
#[derive(Clone, Debug)]
pub(super) struct ModulePattern {
    steps: Steps,
    from_start: bool,
    to_end: bool,
}

impl ModulePattern {
    pub(super) fn parse(key: &str, text: &str) -> Result<Self> {
        let refuse = || {
            FamilyError::unsupported(
                key,
                "module names, with no more than ^ $ . .* \\. \\d and \\d+ in them",
                clip(text),
            )
            .remedy("name the modules without regular expressions")
        };
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return Err(refuse());
        }
        let body = text.strip_prefix('^').unwrap_or(text);
        let from_start = body.len() < text.len();
        let inner = body.strip_suffix('$').unwrap_or(body);
        let to_end = inner.len() < body.len();
        let mut steps = Vec::new();
        let mut rest = inner.chars().peekable();
        while let Some(c) = rest.next() {
            let class = match c {
                '.' => Class::Any,
                '\\' => match rest.next() {
                    Some('.') => Class::One('.'),
                    Some('d') => Class::Digit,
                    _ => return Err(refuse()),
                },
                c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') => Class::One(c),
                _ => return Err(refuse()),
            };
            let once = Step { class, many: false };
            let many = Step { class, many: true };
            match rest.next_if(|c| matches!(c, '*' | '+')) {
                Some('*') => steps.push(many),
                Some(_) => steps.extend([once, many]),
                None => steps.push(once),
            }
        }
        Ok(Self { steps: Steps(steps), from_start, to_end })
    }

    pub(super) fn matches(&self, module: &str) -> bool {
        let ends = |end: usize, of: &str| end == of.len() || (!self.to_end && of.as_bytes().get(end) == Some(&b'.'));
        let starts = std::iter::once(0).chain(module.match_indices('.').map(|(at, _)| at + 1));
        starts
            .take(if self.from_start { 1 } else { usize::MAX })
            .filter_map(|start| module.get(start..))
            .any(|rest| self.steps.matches(rest, |end| ends(end, rest)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set up its input should stop")]

    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let matches = |glob: &str, name: &str| Glob::parse("--include", glob).unwrap().matches(name);
        assert!(matches("*", ""));
        assert!(matches("*.weight", "a.b.weight"));
        assert!(matches("layers.?.w*", "layers.3.wq"));
        assert!(!matches("layers.?.w*", "layers.13.wq"));
        assert!(!matches("weight", "a.weight"));
        assert!(!matches("a.*", "aXb"));
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
        assert!(Glob::parse("--include", "").is_err());
    }

    #[test]
    fn module_patterns_match_whole_components() {
        let matches = |pattern: &str, name: &str| ModulePattern::parse("key", pattern).unwrap().matches(name);
        let module = "model.layers.10.mlp.down_proj";
        for pattern in
            ["down_proj", "down_proj$", "mlp", "model.layers.10", r"layers\.\d+\.mlp", r"^model\..*\.down_proj$"]
        {
            assert!(matches(pattern, module), "{pattern}");
        }
        for pattern in ["proj", "model.layers.1", "^mlp", "mlp$", "lm_head$", r"layers\.\d\.mlp"] {
            assert!(!matches(pattern, module), "{pattern}");
        }
        assert!(matches("lm_head$", "lm_head"));
        for pattern in ["", "(a|b)", "[0-9]", "a{2}", "\\w", "a?"] {
            assert!(ModulePattern::parse("key", pattern).is_err(), "{pattern}");
        }
    }
}
