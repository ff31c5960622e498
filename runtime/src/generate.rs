//! Generating text: a prompt in, pieces out as they are chosen.
//!
//! ```text
//! prompt ─ tokens ─▶ session ─ logits ─▶ sampler ─ token ─▶ stream, stop strings ─▶ Piece
//!                       ▲                            │
//!                       └────────────────────────────┘
//! ```
//!
//! A [`Generation`] is an iterator that does one step for each piece, so a caller stops by not asking for more. What the session has seen of a prompt is not
//! computed again: a conversation, or prompts with the same beginning, cost only what is new.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::device::OnDevice;
use crate::error::{Error, Kind, Result};
use crate::sampling::{Sampler, Sampling};
use crate::session::Session;
use crate::text::{Message, Specials, StopStrings, TextStream, Tokenizer};

/// Tokens that a device chooses without being asked in between.
const AHEAD: usize = 16;

/// What a generation begins with: text, or tokens.
#[derive(Clone, Copy, Debug)]
pub enum Prompt<'a> {
    /// Text: what begins a text is put before it, and special tokens in it are recognised.
    Text(&'a str),
    /// Tokens, as they are.
    Tokens(&'a [u32]),
}

/// A token that was chosen, and the text that it completes.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The token.
    pub token: u32,
    /// Text that is now certain: none, while a character is incomplete or a stop string may be beginning.
    pub text: String,
    /// Log-probabilities, where [`Sampling::logprobs`] asks for them.
    pub logprobs: Option<PieceLogprobs>,
}

/// Log-probabilities of a token and of those that it was chosen among.
#[derive(Clone, Debug, PartialEq)]
pub struct PieceLogprobs {
    /// Of the token.
    pub chosen: f32,
    /// The most likely tokens and theirs.
    pub top: Vec<(u32, f32)>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended the text.
    Eos,
    /// A stop string appeared.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The session's context is full.
    Context,
    /// A step failed, or was interrupted; the iterator gave the error.
    Error,
}

/// What a generation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them the session had seen already.
    pub cached_tokens: usize,
    /// Tokens that were chosen.
    pub generated_tokens: usize,
    /// Time until the logits after the prompt.
    pub prompt_time: Duration,
    /// Time since then.
    pub generation_time: Duration,
}

/// An iterator over what a model generates; made by [`Session::generate`].
#[derive(Debug)]
pub struct Generation<'a> {
    session: &'a mut Session,
    tokenizer: Option<Tokenizer>,
    sampler: Sampler,
    stream: Option<TextStream>,
    stops: StopStrings,
    eos: Vec<u32>,
    max_tokens: usize,
    prompt: Vec<u32>,
    /// How the device chooses tokens, if it can, and those that it has chosen and that are yet to be given.
    on_device: Option<OnDevice>,
    ahead: VecDeque<u32>,
    /// What was chosen.
    tokens: Vec<u32>,
    usage: Usage,
    finish: Option<Finish>,
}

impl Session {
    /// Generates what follows a prompt, which is the whole text so far: what sequence 0 has seen of it is kept, the rest of the sequence is forgotten. Ends at
    /// the model's end of text, or where the [`Generation`]'s settings say.
    ///
    /// ```no_run
    /// use sbnc_runtime::{Model, sampling::Sampling};
    ///
    /// let model = Model::open("model.sbnc")?;
    /// let mut session = model.session(&Default::default())?;
    /// for piece in session.generate("Once upon a time", &Sampling::greedy())?.max_tokens(50) {
    ///     print!("{}", piece?);
    /// }
    /// # Ok::<(), sbnc_runtime::Error>(())
    /// ```
    pub fn generate<'p>(&mut self, prompt: impl Into<Prompt<'p>>, sampling: &Sampling) -> Result<Generation<'_>> {
        match prompt.into() {
            Prompt::Text(text) => {
                let tokenizer = self.model().tokenizer()?;
                let tokens = tokenizer.encode(text, Specials::Whole)?;
                self.start(tokens, Some(tokenizer), sampling)
            }
            Prompt::Tokens(tokens) => {
                // Without a tokenizer there are tokens and no text.
                let tokenizer = match self.model().tokenizer() {
                    Err(e) if e.kind() == Kind::Unsupported => None,
                    other => Some(other?),
                };
                self.start(tokens.to_vec(), tokenizer, sampling)
            }
        }
    }

    /// Generates the answer to a conversation, written as the model's chat template says. The text of special tokens may not occur in messages: it would
    /// let whoever wrote one speak for others.
    ///
    /// ```no_run
    /// use sbnc_runtime::{Model, sampling::Sampling, text::Message};
    ///
    /// let model = Model::open("model.sbnc")?;
    /// let mut session = model.session(&Default::default())?;
    /// let mut messages = vec![Message::user("Name a bird.")];
    /// let answer = session.chat(&messages, &Sampling::greedy())?.max_tokens(50).text()?;
    /// messages.extend([Message::assistant(answer), Message::user("Another one.")]);
    /// let another = session.chat(&messages, &Sampling::greedy())?.max_tokens(50).text()?; // computes only what is new
    /// # Ok::<(), sbnc_runtime::Error>(())
    /// ```
    pub fn chat(&mut self, messages: &[Message], sampling: &Sampling) -> Result<Generation<'_>> {
        let tokenizer = self.model().tokenizer()?;
        let tokens = tokenizer.encode_chat(messages)?;
        self.start(tokens, Some(tokenizer), sampling)
    }

    fn start(&mut self, prompt: Vec<u32>, tokenizer: Option<Tokenizer>, sampling: &Sampling) -> Result<Generation<'_>> {
        let config = self.model().config();
        if prompt.is_empty() {
            return Err(Error::new(Kind::Usage, "prompt", "at least one token", "none"));
        }
        if prompt.len() > self.context() {
            let expected = format!("at most {} tokens, the session's context", self.context());
            let error = Error::new(Kind::Usage, "prompt", expected, prompt.len().to_string());
            let most = config.context;
            return Err(error.remedy(format!("shorten it, or open a session with more context (up to {most})")));
        }
        let mut sampler = Sampler::new(sampling, config.vocab)?;
        prompt.iter().for_each(|&token| sampler.accept(token));
        let mut eos = config.tokens.eos.clone();
        eos.extend(tokenizer.iter().flat_map(|t| t.eos()).filter(|t| !config.tokens.eos.contains(t)));
        let stream = tokenizer.as_ref().map(|tokenizer| TextStream::new(tokenizer, false));
        let cached_tokens = self.reuse(0, &prompt);
        let usage = Usage { prompt_tokens: prompt.len(), cached_tokens, ..Usage::default() };
        Ok(Generation {
            sampler,
            stream,
            tokenizer,
            stops: StopStrings::default(),
            eos,
            max_tokens: usize::MAX,
            tokens: Vec::with_capacity(self.context() - prompt.len() + 1),
            usage,
            prompt,
            on_device: sampling.on_device().filter(|_| self.most_decoded() > 0),
            ahead: VecDeque::new(),
            finish: None,
            session: self,
        })
    }
}

impl Generation<'_> {
    /// Ends after this many tokens; without it the context is the limit.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        if tokens == 0 {
            self.finish = Some(Finish::Length);
        }
        self
    }

    /// Ends where one of these strings appears; the text ends before it. Needs a tokenizer.
    pub fn stop<S: AsRef<str>>(mut self, stops: &[S]) -> Result<Self> {
        if !stops.is_empty() && self.tokenizer.is_none() {
            let error = Error::new(Kind::Unsupported, "stop strings", "a tokenizer", "none");
            return Err(error.remedy("without one there is no text to look for them in"));
        }
        self.stops = StopStrings::new(stops)?;
        Ok(self)
    }

    /// Goes on after tokens that end a text, as if they were any others.
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        if ignore {
            self.eos.clear();
        }
        self
    }

    /// Tokens of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Tokens that were chosen so far, the one that ended the text included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Why it ended, if it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What it took so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Runs to the end; all of the text.
    pub fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        for piece in self {
            text.push_str(&piece?.text);
        }
        Ok(text)
    }

    fn step(&mut self) -> Result<Piece> {
        let started = Instant::now();
        let token = if let Some(token) = self.chosen_ahead()? {
            token
        } else {
            let logits = match self.tokens.last() {
                None => self.session.forward(&self.prompt[self.usage.cached_tokens..])?,
                Some(&last) => self.session.forward(&[last])?,
            };
            if self.tokens.is_empty() {
                self.usage.prompt_time = started.elapsed();
            }
            self.sampler.sample(logits)?
        };
        self.sampler.accept(token);
        self.tokens.push(token);
        let text = self.read(token);
        self.usage.generated_tokens = self.tokens.len();
        let took = started.elapsed();
        self.usage.generation_time += if self.tokens.len() == 1 { took - self.usage.prompt_time } else { took };
        let logprobs = self.sampler.logprobs().map(|l| PieceLogprobs { chosen: l.chosen, top: l.top.to_vec() });
        Ok(Piece { token, text, logprobs })
    }

    /// The next token, if the device chooses by itself: some at a time, which a text that ends before is then rid of again.
    fn chosen_ahead(&mut self) -> Result<Option<u32>> {
        let (Some(on_device), Some(&last)) = (self.on_device, self.tokens.last()) else { return Ok(None) };
        if self.ahead.is_empty() {
            let wanted = self.max_tokens - self.tokens.len();
            let count = wanted.min(AHEAD).min(self.session.room(0)).min(self.session.most_decoded());
            let setting = OnDevice { draws: self.tokens.len(), ..on_device };
            let chosen = self.session.decode(&[(0, last)], &[setting], count)?;
            self.ahead.extend(chosen.unwrap_or_default());
        }
        Ok(self.ahead.pop_front())
    }

    /// The text that a token completes, and whether it ends everything.
    fn read(&mut self, token: u32) -> String {
        let (mut fresh, mut text) = (String::new(), String::new());
        if self.eos.contains(&token) {
            self.finish = Some(Finish::Eos);
        } else if let Some(stream) = &mut self.stream {
            stream.push(token, &mut fresh);
        }
        if self.stops.push(&fresh, &mut text) {
            self.finish = Some(Finish::Stop);
        }
        if self.finish.is_none() {
            self.finish = if self.tokens.len() >= self.max_tokens {
                Some(Finish::Length)
            } else if self.session.room(0) == 0 && self.ahead.is_empty() {
                Some(Finish::Context)
            } else {
                return text;
            };
        }
        self.stops.finish(&mut text);
        text
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        let piece = self.step();
        if piece.is_err() {
            self.finish = Some(Finish::Error);
        }
        Some(piece)
    }
}

impl std::iter::FusedIterator for Generation<'_> {}

/// The session is left with what was given and nothing that was chosen ahead.
impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.session.truncate(0, self.prompt.len() + self.tokens.len().saturating_sub(1));
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Finish {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Error => "error",
        }
    }
}

impl<'a> From<&'a str> for Prompt<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Prompt<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u32]> for Prompt<'a> {
    fn from(tokens: &'a [u32]) -> Self {
        Self::Tokens(tokens)
    }
}

impl<'a> From<&'a Vec<u32>> for Prompt<'a> {
    fn from(tokens: &'a Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Prompt<'a> {
    fn from(tokens: &'a [u32; N]) -> Self {
        Self::Tokens(tokens)
    }
}
