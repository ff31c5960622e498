//! A session: sequences of tokens that a model has seen, and what it says comes next.
//!
//! A session checks what it is asked, cuts it into chunks, and keeps account of which tokens each sequence's cache holds. Computing is the business of its
//! [engine](crate::device). A call that fails leaves every sequence as it was before.

mod options;
mod step;

use std::fmt;

use self::options::within;
pub use self::options::{CacheType, SessionOptions};
use self::step::{Cursor, StepBuffer};
use crate::cpu::Size;
use crate::device::{Engine, Interrupt, OnDevice, Step};
use crate::error::{Error, Kind, Result};
use crate::memory::zeros;
use crate::model::Model;
use crate::profile::Profile;

/// Rows of numbers, one for each of some consecutive positions of a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows<'a> {
    /// The sequence.
    pub sequence: usize,
    /// The position of the first row.
    pub position: usize,
    /// Numbers of a row: the vocabulary, or the width of the model.
    pub width: usize,
    /// The rows, one after another.
    pub values: &'a [f32],
}

impl<'a> Rows<'a> {
    /// The rows, each with its position.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a [f32])> {
        (self.position..).zip(self.values.chunks_exact(self.width))
    }
}

/// Sequences in the making; see [`Model::session`].
///
/// ```no_run
/// # use sbnc_runtime::{Model, SessionOptions};
/// # let model = Model::open("model.sbnc")?;
/// let options = SessionOptions { context: 1024, sequences: 2, ..SessionOptions::default() };
/// let mut session = model.session(&options)?;
/// session.forward(&[1, 5, 9])?;                 // sequence 0
/// session.copy_prefix(0, 1, 2)?;                // sequence 1 has seen 1, 5
/// let logits = session.batch(&[(0, &[7]), (1, &[8, 8])])?;
/// assert_eq!(logits.len(), 2 * model.config().vocab);
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
pub struct Session {
    model: Model,
    engine: Box<dyn Engine>,
    /// The tokens that each sequence's cache holds.
    sequences: Vec<Vec<u32>>,
    cache: CacheType,
    context: usize,
    chunk: usize,
    interrupt: Interrupt,
    step: StepBuffer,
    /// Lengths of the sequences before a call.
    before: Vec<usize>,
    /// Logits or states that a call gives.
    out: Vec<f32>,
}

/// What a caller wants to know of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Logits,
    Hidden,
}

/// What takes the rows of all positions.
type Each<'a> = &'a mut dyn FnMut(Rows<'_>);

/// Tokens to run, each entry on a sequence of its own.
type Work<'a> = [(usize, &'a [u32])];

impl Session {
    pub(crate) fn new(model: &Model, options: &SessionOptions) -> Result<Self> {
        let (size, cache) = options.size(model)?;
        let Size { chunk, wanted, sequences, context } = size;
        let config = model.config();
        let segments = sequences.min(chunk);
        Ok(Self {
            engine: model.engine(cache, size)?,
            sequences: (0..sequences).map(|_| Vec::with_capacity(context)).collect(),
            cache,
            context,
            chunk,
            interrupt: options.interrupt.clone(),
            step: StepBuffer {
                tokens: Vec::with_capacity(chunk),
                segments: Vec::with_capacity(segments),
                ends: Vec::with_capacity(segments),
                wanted: Vec::with_capacity(wanted),
            },
            before: Vec::with_capacity(sequences),
            out: zeros(wanted * config.vocab.max(config.hidden), "logits")?,
            model: model.clone(),
        })
    }

    /// Runs tokens at the end of sequence 0 and gives the logits of what follows them.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.batch(&[(0, tokens)])
    }

    /// Runs tokens at the end of sequence 0 and gives the logits after each of them, in pieces: those of a long text in a large vocabulary do not fit memory.
    pub fn forward_all(&mut self, tokens: &[u32], mut each: impl FnMut(Rows<'_>)) -> Result<()> {
        self.execute(&[(0, tokens)], What::Logits, Some(&mut each))
    }

    /// Runs tokens at the ends of some sequences, each of which occurs once, and gives the logits of what follows each entry, one row after another.
    pub fn batch(&mut self, work: &Work<'_>) -> Result<&[f32]> {
        self.execute(work, What::Logits, None)?;
        Ok(&self.out[..work.len() * self.model.config().vocab])
    }

    /// [`Session::batch`] with the logits after every token, as [`Session::forward_all`] gives them.
    pub fn batch_all(&mut self, work: &Work<'_>, mut each: impl FnMut(Rows<'_>)) -> Result<()> {
        self.execute(work, What::Logits, Some(&mut each))
    }

    /// Runs tokens at the end of sequence 0 and gives the model's state after the last of them, normalised: what the output head sees.
    pub fn hidden(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.execute(&[(0, tokens)], What::Hidden, None)?;
        Ok(&self.out[..self.model.config().hidden])
    }

    /// [`Session::hidden`] after each of the tokens, in pieces.
    pub fn hidden_all(&mut self, tokens: &[u32], mut each: impl FnMut(Rows<'_>)) -> Result<()> {
        self.execute(&[(0, tokens)], What::Hidden, Some(&mut each))
    }

    /// Runs one token of each of some sequences, and then tokens that the device chooses by itself, without asking the host for any: gives `count` chosen
    /// tokens of each sequence, one sequence after another. The last one is chosen and not run. `None` where the device leaves choosing to the host, which
    /// processors do; at most [`Session::most_decoded`] tokens are chosen by a call.
    pub fn decode(&mut self, work: &[(usize, u32)], sampling: &[OnDevice], count: usize) -> Result<Option<Vec<u32>>> {
        let most = self.engine.most_decoded();
        if most == 0 || work.len() > self.chunk {
            return Ok(None);
        }
        within("count", count, most, "tokens")?;
        if sampling.len() != work.len() {
            let expected = format!("{}, one for each sequence", work.len());
            return Err(Error::new(Kind::Usage, "settings of sampling", expected, sampling.len().to_string()));
        }
        let tokens: Vec<[u32; 1]> = work.iter().map(|&(_, token)| [token]).collect();
        let entries: Vec<(usize, &[u32])> = work.iter().zip(&tokens).map(|(w, token)| (w.0, &token[..])).collect();
        let checked = self.check(&entries).and_then(|()| self.model.storage().check());
        checked.map_err(|e| e.in_file(self.model.storage().path()))?;
        for &(sequence, _) in work {
            within("count", count, self.room(sequence), "tokens that fit the context")?;
        }
        self.step.fill(&entries, &mut Cursor { entry: 0, token: 0 }, &self.sequences, self.chunk);
        let step = Step { tokens: &self.step.tokens, segments: &self.step.segments };
        let Some(chosen) = self.engine.decode(step, sampling, count, &self.interrupt)? else { return Ok(None) };
        for (&(sequence, token), chosen) in work.iter().zip(chosen.chunks_exact(count)) {
            self.sequences[sequence].push(token);
            self.sequences[sequence].extend_from_slice(&chosen[..count - 1]);
        }
        Ok(Some(chosen))
    }

    /// The most tokens that a call of [`Session::decode`] chooses; 0 where the device leaves that to the host.
    pub fn most_decoded(&self) -> usize {
        self.engine.most_decoded()
    }

    /// The tokens that a sequence has seen.
    pub fn tokens(&self, sequence: usize) -> &[u32] {
        &self.sequences[sequence]
    }

    /// Makes a sequence forget all but its first `len` tokens; it has no effect on a shorter one.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        self.sequences[sequence].truncate(len);
    }

    /// Makes a sequence ready for a text, keeping what it has seen of it: truncates it to the longest common prefix, but short of the text's last token, and
    /// gives the length. The rest, `tokens[length..]`, is to be run.
    pub fn reuse(&mut self, sequence: usize, tokens: &[u32]) -> usize {
        let cached = &mut self.sequences[sequence];
        let common = common_prefix(cached, tokens).min(tokens.len().saturating_sub(1));
        cached.truncate(common);
        common
    }

    /// The sequence that has seen the longest beginning of a text, and its length.
    pub fn longest_prefix(&self, tokens: &[u32]) -> (usize, usize) {
        let lengths = self.sequences.iter().map(|cached| common_prefix(cached, tokens)).enumerate();
        lengths.max_by_key(|&(sequence, len)| (len, std::cmp::Reverse(sequence))).unwrap_or((0, 0))
    }

    /// Makes sequence `to` what the first `len` tokens of `from` are, without computing anything.
    pub fn copy_prefix(&mut self, from: usize, to: usize, len: usize) -> Result<()> {
        for sequence in [from, to] {
            self.check_sequence(sequence)?;
        }
        if len > self.sequences[from].len() {
            let expected = format!("at most {}, the length of sequence {from}", self.sequences[from].len());
            return Err(Error::new(Kind::Usage, "length of a prefix", expected, len.to_string()));
        }
        if from == to {
            self.sequences[to].truncate(len);
            return Ok(());
        }
        self.engine.copy(from, to, len)?;
        let [source, target] = self.sequences.get_disjoint_mut([from, to]).expect("both are there, and differ");
        target.clear();
        target.extend_from_slice(&source[..len]);
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The most tokens of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens that are run at a time.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Tokens that still fit a sequence.
    pub fn room(&self, sequence: usize) -> usize {
        self.context - self.sequences[sequence].len()
    }

    /// How keys and values are stored; never [`CacheType::Auto`].
    pub fn cache(&self) -> CacheType {
        self.cache
    }

    /// The flag that ends running calls.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Where the time went since the session was opened, or since the last call of this.
    pub fn take_profile(&mut self) -> Profile {
        std::mem::take(self.engine.profile())
    }

    fn execute(&mut self, work: &Work<'_>, what: What, each: Option<Each<'_>>) -> Result<()> {
        let checked = self.check(work).and_then(|()| self.model.storage().check());
        checked.map_err(|e| e.in_file(self.model.storage().path()))?;
        self.before.clear();
        self.before.extend(self.sequences.iter().map(Vec::len));
        let result = self.steps(work, what, each);
        if result.is_err() {
            self.sequences.iter_mut().zip(&self.before).for_each(|(sequence, &len)| sequence.truncate(len));
        }
        result
    }

    /// Runs all work, a chunk at a time.
    fn steps(&mut self, work: &Work<'_>, what: What, mut each: Option<Each<'_>>) -> Result<()> {
        let mut cursor = Cursor { entry: 0, token: 0 };
        let mut answered = 0;
        while cursor.entry < work.len() {
            self.interrupt.check()?;
            self.step.fill(work, &mut cursor, &self.sequences, self.chunk);
            let step = Step { tokens: &self.step.tokens, segments: &self.step.segments };
            self.engine.run(step, &self.interrupt)?;
            for segment in &self.step.segments {
                self.sequences[segment.slot].extend_from_slice(&self.step.tokens[segment.rows.clone()]);
            }
            match &mut each {
                Some(each) => self.give_all(what, each)?,
                None => answered += self.give_last(what, answered)?,
            }
        }
        Ok(())
    }

    /// Answers the entries that ended in the last step, behind those that were answered before.
    fn give_last(&mut self, what: What, answered: usize) -> Result<usize> {
        let ends = &self.step.ends;
        if !ends.is_empty() {
            let width = what.width(&self.model);
            let out = &mut self.out[answered * width..][..ends.len() * width];
            what.ask(self.engine.as_mut(), ends, out)?;
            self.model.storage().check()?;
        }
        Ok(ends.len())
    }

    /// Gives the numbers of all rows of the last step.
    fn give_all(&mut self, what: What, each: &mut Each<'_>) -> Result<()> {
        let width = what.width(&self.model);
        for segment in &self.step.segments {
            for start in segment.rows.clone().step_by(self.step.wanted.capacity()) {
                let end = segment.rows.end.min(start + self.step.wanted.capacity());
                self.interrupt.check()?;
                self.step.wanted.clear();
                self.step.wanted.extend(start..end);
                let out = &mut self.out[..(end - start) * width];
                what.ask(self.engine.as_mut(), &self.step.wanted, out)?;
                self.model.storage().check()?;
                let position = segment.position + start - segment.rows.start;
                each(Rows { sequence: segment.slot, position, width, values: out });
            }
        }
        Ok(())
    }

    /// Everything that can be wrong with a call, before anything is computed.
    fn check(&self, work: &Work<'_>) -> Result<()> {
        if work.is_empty() {
            return Err(Error::new(Kind::Usage, "work", "at least one entry", "none"));
        }
        let vocab = self.model.config().vocab;
        for (i, (sequence, tokens)) in work.iter().enumerate() {
            self.check_sequence(*sequence)?;
            if work[..i].iter().any(|(other, _)| other == sequence) {
                let found = format!("sequence {sequence} twice");
                return Err(Error::new(Kind::Usage, "work", "every sequence at most once", found));
            }
            if tokens.is_empty() {
                return Err(Error::new(Kind::Usage, format!("sequence {sequence}"), "at least one token", "none"));
            }
            if let Some(at) = tokens.iter().position(|&token| token as usize >= vocab) {
                let expected = format!("at most {}, the last of the vocabulary", vocab - 1);
                return Err(Error::new(Kind::Usage, format!("token {at}"), expected, tokens[at].to_string()));
            }
            let room = self.room(*sequence);
            if tokens.len() > room {
                let expected = format!("at most {room} more tokens in a context of {}", self.context);
                let error = Error::new(Kind::Usage, format!("sequence {sequence}"), expected, tokens.len().to_string());
                let most = self.model.config().context;
                return Err(
                    error.remedy(format!("shorten the text, or open a session with more context (up to {most})"))
                );
            }
        }
        Ok(())
    }

    fn check_sequence(&self, sequence: usize) -> Result<()> {
        let count = self.sequences.len();
        if sequence < count {
            return Ok(());
        }
        let expected = format!("below {count}, the session's number of sequences");
        Err(Error::new(Kind::Usage, "sequence", expected, sequence.to_string()))
    }
}

impl What {
    fn width(self, model: &Model) -> usize {
        match self {
            Self::Logits => model.config().vocab,
            Self::Hidden => model.config().hidden,
        }
    }

    fn ask(self, engine: &mut dyn Engine, rows: &[usize], out: &mut [f32]) -> Result<()> {
        match self {
            Self::Logits => engine.logits(rows, out),
            Self::Hidden => engine.hidden(rows, out),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<_> = self.sequences.iter().map(Vec::len).collect();
        f.debug_struct("Session").field("context", &self.context).field("lengths", &lengths).finish_non_exhaustive()
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
