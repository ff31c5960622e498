//! `sbnc run`: text from a model, once or in a conversation.
//!
//! Text goes to stdout as it is chosen; what it took goes to stderr, if that is a terminal. An interruption leaves what was generated, and nothing of a
//! conversation is written anywhere.

mod chat;
mod logits;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::{Finish, Generation, Model, Piece, Prompt, Session, Usage};
use serde_json::{Value, json};

use super::execution::{Choosing, Place, read_text, session};
use super::paths::check_outputs;
use super::terminal::emit_json;
use crate::error::{Error, Exit, Result};

#[derive(Args, Clone, Debug)]
pub(crate) struct Run {
    /// An .sbnc file
    pub(crate) file: PathBuf,
    /// Continue this text
    #[arg(long, value_name = "TEXT", group = "input")]
    prompt: Option<String>,
    /// Continue the text of this file, or of stdin for -
    #[arg(long, value_name = "FILE", group = "input")]
    prompt_file: Option<PathBuf>,
    /// Continue these tokens; needs no tokenizer
    #[arg(long, value_name = "1,2,3", group = "input", value_parser = parse_tokens)]
    token_ids: Option<Tokens>,
    /// Converse: a line of stdin is a message [default where stdin is a terminal and no prompt is given]
    #[arg(long, group = "input", conflicts_with_all = ["json", "logits"])]
    chat: bool,
    /// What a conversation begins with
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["prompt", "prompt_file", "token_ids"])]
    system: Option<String>,
    /// Most tokens to generate [default: until the model ends the text or the context is full]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on after tokens that end a text
    #[arg(long)]
    ignore_eos: bool,
    /// Most tokens of prompt and text together [default: the model's, at most 4096]
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    context: Option<usize>,
    /// Take the tokenizer from this folder or file
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choosing: Choosing,
    /// Write the logits of all positions as one f32 tensor
    #[arg(long, value_name = "OUT.safetensors", help_heading = "Output")]
    logits: Option<PathBuf>,
    /// With --json: log-probabilities of the chosen token and of so many others
    #[arg(long, value_name = "N", requires = "json", help_heading = "Output")]
    logprobs: Option<usize>,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Token ids of the command line.
#[derive(Clone, Debug)]
struct Tokens(Vec<u32>);

impl Run {
    pub(crate) fn run(&self) -> Result<()> {
        let outputs: Vec<&Path> = self.logits.iter().map(PathBuf::as_path).collect();
        let inputs = [Some(&self.file), self.prompt_file.as_ref()].into_iter().flatten().cloned().collect::<Vec<_>>();
        check_outputs(&outputs, &inputs)?;
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(path)) => Some(read_text(path)?),
            (None, None) => None,
        };
        let converse = self.chat || (text.is_none() && self.token_ids.is_none() && io::stdin().is_terminal());
        if text.is_none() && self.token_ids.is_none() && !converse {
            let message = "no prompt: give --prompt, --prompt-file or --token-ids, or --chat to converse on stdin";
            return Err(Error::new(Exit::Usage, message));
        }
        if converse && (self.json || self.logits.is_some()) {
            return Err(Error::new(Exit::Usage, "a conversation has no --json and no --logits; give a prompt"));
        }
        let mut options = self.place.options();
        if let Some(path) = &self.tokenizer {
            options = options.tokenizer(path);
        }
        let model = options.open(&self.file)?;
        let mut session = session(&model, self.context)?;
        if converse {
            return self.converse(&mut session);
        }
        let prompt = match (&text, &self.token_ids) {
            (Some(text), _) => Prompt::Text(text),
            (None, ids) => Prompt::Tokens(ids.as_ref().map_or(&[], |ids| &ids.0)),
        };
        crate::interrupt::deferred(|| self.once(&model, &mut session, prompt))
    }

    fn once(&self, model: &Model, session: &mut Session, prompt: Prompt<'_>) -> Result<()> {
        let logits = self.logits.as_deref().map(logits::Output::create).transpose()?;
        let sampling = Sampling { logprobs: self.logprobs, ..self.choosing.sampling(model)? };
        let mut generation = self.settings(session.generate(prompt, &sampling)?)?;
        let has_text = model.tokenizer().is_ok();
        let mut told = Told::default();
        let ended =
            if self.json { self.collect(&mut generation, &mut told) } else { stream(&mut generation, has_text) };
        let (usage, finish) = (generation.usage(), generation.finish());
        let tokens = [generation.prompt(), generation.tokens()].concat();
        let (prompt_tokens, generated) = (generation.prompt().len(), generation.tokens().to_vec());
        drop(generation);
        if self.json {
            let finish = if crate::interrupt::is_raised() { "interrupted" } else { finish.map_or("", Finish::name) };
            emit_json(&json!({
                "file": self.file.display().to_string(),
                "root": model.root().to_string(),
                "prompt_tokens": prompt_tokens,
                "token_ids": generated,
                "text": if has_text { Value::from(told.text) } else { Value::Null },
                "finish": finish,
                "seed": sampling.seed,
                "sampling": sampling_json(&sampling),
                "usage": usage_json(&usage),
                "logprobs": if self.logprobs.is_some() { Value::from(told.logprobs) } else { Value::Null },
            }))?;
        } else {
            tell(&usage);
        }
        ended?;
        // The last token was chosen and not run: there are no logits after it.
        let run = &tokens[..tokens.len() - usize::from(!generated.is_empty())];
        logits.map_or(Ok(()), |logits| logits.write(session, run))
    }

    fn settings<'a>(&self, generation: Generation<'a>) -> Result<Generation<'a>> {
        let generation = generation.ignore_eos(self.ignore_eos).stop(&self.stop)?;
        Ok(generation.max_tokens(self.max_tokens.unwrap_or(usize::MAX)))
    }

    fn collect(&self, generation: &mut Generation<'_>, told: &mut Told) -> Result<()> {
        for piece in generation {
            let Piece { token, text, logprobs } = piece?;
            told.text.push_str(&text);
            if let Some(l) = logprobs {
                let top: Vec<Value> = l.top.iter().map(|(t, p)| json!({ "token": t, "logprob": p })).collect();
                told.logprobs.push(json!({ "token": token, "logprob": l.chosen, "top": top }));
            }
        }
        Ok(())
    }
}

/// What JSON tells of a generation.
#[derive(Default)]
struct Told {
    text: String,
    logprobs: Vec<Value>,
}

/// Writes text as it comes, or tokens where there is no text; a newline ends it in any case.
pub(crate) fn stream(generation: &mut Generation<'_>, has_text: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut first = true;
    let ended = loop {
        let Some(piece) = generation.next() else { break Ok(()) };
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) if first => return Err(error.into()),
            Err(error) => break Err(error.into()),
        };
        let shown = match (has_text, first) {
            (true, _) => piece.text,
            (false, true) => piece.token.to_string(),
            (false, false) => format!(",{}", piece.token),
        };
        first = false;
        if !shown.is_empty() && !write(&mut out, &shown)? {
            return Ok(());
        }
    };
    write(&mut out, "\n")?;
    ended
}

/// Writes and flushes; `false` if the reader has seen enough. A terminal gets no control characters: a model must not move its cursor.
fn write(out: &mut io::StdoutLock<'_>, text: &str) -> Result<bool> {
    let plain = |c: char| if c == '\n' || c == '\t' || !c.is_control() { c } else { char::REPLACEMENT_CHARACTER };
    let shown: String;
    let text = if out.is_terminal() {
        shown = text.chars().map(plain).collect();
        &shown
    } else {
        text
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::new(Exit::Io, format!("stdout: {e}"))),
    }
}

/// The settings that tokens were chosen with, those that a model recommends among them.
fn sampling_json(sampling: &Sampling) -> Value {
    let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, .. } =
        *sampling;
    // As it was stated: a number of 32 bits has other digits in 64.
    let real = |v: f32| v.to_string().parse::<f64>().map_or(Value::Null, Value::from);
    json!({
        "temperature": real(temperature),
        "top_k": top_k,
        "top_p": real(top_p),
        "min_p": real(min_p),
        "repeat_penalty": real(repeat_penalty),
        "presence_penalty": real(presence_penalty),
        "frequency_penalty": real(frequency_penalty),
        "penalty_window": if sampling.penalty_window == usize::MAX { Value::Null } else { sampling.penalty_window.into() },
    })
}

fn usage_json(usage: &Usage) -> Value {
    let Usage { prompt_tokens, cached_tokens, generated_tokens, prompt_time, generation_time } = *usage;
    json!({
        "prompt_tokens": prompt_tokens,
        "cached_tokens": cached_tokens,
        "generated_tokens": generated_tokens,
        "prompt_seconds": prompt_time.as_secs_f64(),
        "generation_seconds": generation_time.as_secs_f64(),
    })
}

/// Tells a person what a generation took.
pub(crate) fn tell(usage: &Usage) {
    if !io::stderr().is_terminal() {
        return;
    }
    let Usage { prompt_tokens, cached_tokens, generated_tokens, prompt_time, generation_time } = *usage;
    let rate = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let computed = prompt_tokens - cached_tokens;
    // The first token comes with the prompt: the steps after it are what is timed.
    eprintln!(
        "[prompt {computed} tokens, {:.1}/s; text {generated_tokens} tokens, {:.1}/s]",
        rate(computed, prompt_time),
        rate(generated_tokens.saturating_sub(1), generation_time),
    );
}

fn parse_tokens(text: &str) -> std::result::Result<Tokens, String> {
    let parse = |part: &str| part.trim().parse::<u32>();
    let tokens: std::result::Result<Vec<u32>, _> = text.split(',').map(parse).collect();
    tokens.map(Tokens).map_err(|_| "expected token ids, such as 1,2,3".to_owned())
}

pub(crate) fn parse_positive(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".to_owned())
}
