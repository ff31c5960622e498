//! `sbnc ppl`: how well a model foretells a text, by conventions that are stated with the number.

use std::path::PathBuf;

use clap::Args;
use sbnc_runtime::text::{Specials, Tokenizer};
use sbnc_runtime::{Rows, Session};
use serde_json::json;

use super::execution::{Place, read_text, session};
use super::run::parse_positive;
use super::terminal::{emit, emit_json, progress_steps};
use crate::error::{Error, Exit, Result};
use crate::numbers::count;

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Windows: the text is one sequence of tokens, cut into windows of --context tokens. The first token of each is replaced by the one that begins a text, if
the model has one, and the second half of each is scored, as llama-perplexity does; a rest that fills no window is not. With --stride S, windows begin every
S tokens, and each scores what the one before it did not.

Lines: each line is a text of its own, with the tokens that begin and end one, cut to --context tokens, and all but the first are scored, as the
Sparse-BitNet trainer does: a target that is token 0 does not count.")]
pub(crate) struct Ppl {
    /// An .sbnc file
    file: PathBuf,
    /// The text to score; - for stdin
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a window, or the most of a line [default: 512; with --per-line 2048, or the model's context]
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    context: Option<usize>,
    /// Begin a window every N tokens
    #[arg(long, value_name = "N", value_parser = parse_positive, conflicts_with = "per_line")]
    stride: Option<usize>,
    /// Score lines on their own
    #[arg(long)]
    per_line: bool,
    /// Score this many windows or lines at most
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    limit: Option<usize>,
    /// Take the tokenizer from this folder or file
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tokens to run, and from which target on they count.
struct Window {
    tokens: Vec<u32>,
    /// Targets before this place are context only.
    from: usize,
}

/// Sums over targets.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    targets: u64,
    /// Of negative log-likelihoods, and of their squares.
    sum: f64,
    squares: f64,
}

impl Ppl {
    pub(crate) fn run(&self) -> Result<()> {
        let text = read_text(&self.text)?;
        let mut options = self.place.options();
        if let Some(path) = &self.tokenizer {
            options = options.tokenizer(path);
        }
        let model = options.open(&self.file)?;
        let tokenizer = model.tokenizer()?;
        let most = model.config().context;
        let context = self.context.unwrap_or(if self.per_line { 2048 } else { 512 }.min(most));
        let skip = if self.per_line { Some(0) } else { None };
        let windows = if self.per_line {
            lines(&text, &tokenizer, context)?
        } else {
            let tokens = tokenizer.encode(&text, Specials::Whole)?;
            self.windows(&tokens, &tokenizer, context)?
        };
        let windows = &windows[..self.limit.unwrap_or(windows.len()).min(windows.len())];
        let mut session = session(&model, Some(context.max(2)))?;
        let bar = progress_steps(windows.len() as u64, "scoring");
        let mut score = Score::default();
        for window in windows {
            crate::interrupt::check()?;
            score.add(&mut session, window, skip)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        if score.targets == 0 {
            let message = format!("{}: no token to score", self.text.display());
            return Err(Error::new(Exit::Invalid, message));
        }
        self.report(&score, windows.len(), context)
    }

    /// Windows of one sequence.
    fn windows(&self, tokens: &[u32], tokenizer: &Tokenizer, context: usize) -> Result<Vec<Window>> {
        if tokens.len() < context.max(2) {
            let message = format!(
                "{}: expected at least {context} tokens, a whole window, found {}; give a longer text or a smaller --context",
                self.text.display(),
                tokens.len()
            );
            return Err(Error::new(Exit::Invalid, message));
        }
        let stride = self.stride.unwrap_or(context);
        if stride > context {
            let message = format!("--stride: expected at most {context}, the tokens of a window, found {stride}");
            return Err(Error::new(Exit::Usage, message));
        }
        let whole = (0..=tokens.len() - context).step_by(stride).map(|start| {
            let mut window = tokens[start..start + context].to_vec();
            let from = match self.stride {
                // Targets that no window before this one had.
                Some(_) if start == 0 => 1,
                Some(stride) => context - stride,
                None => {
                    if let Some(bos) = tokenizer.bos() {
                        window[0] = bos;
                    }
                    context / 2 + 1
                }
            };
            Window { tokens: window, from: from.max(1) }
        });
        Ok(whole.collect())
    }

    fn convention(&self, context: usize) -> String {
        match (self.per_line, self.stride) {
            (true, _) => format!("lines of at most {context} tokens, targets of token 0 left out"),
            (false, None) => format!("windows of {context} tokens, second half scored"),
            (false, Some(stride)) => format!("windows of {context} tokens every {stride}, new targets scored"),
        }
    }

    fn report(&self, score: &Score, windows: usize, context: usize) -> Result<()> {
        let convention = self.convention(context);
        let (mean, error) = (score.mean(), score.error());
        let perplexity = mean.exp();
        if self.json {
            return emit_json(&json!({
                "file": self.file.display().to_string(),
                "text": self.text.display().to_string(),
                "convention": convention,
                "context": context,
                "stride": self.stride,
                "per_line": self.per_line,
                "windows": windows,
                "targets": score.targets,
                "nll": mean,
                "nll_error": error,
                "perplexity": perplexity,
                "perplexity_error": error * perplexity,
            }));
        }
        let what = if self.per_line { "lines" } else { "windows" };
        emit(&format!(
            "perplexity  {perplexity:.4} ± {:.4}\nconvention  {convention}\nscored      {} tokens in {} {what}\n",
            error * perplexity,
            count(score.targets),
            count(windows as u64),
        ))
    }
}

/// Each line as the trainer reads it, blank ones left out.
fn lines(text: &str, tokenizer: &Tokenizer, context: usize) -> Result<Vec<Window>> {
    let Some(&eos) = tokenizer.eos().first() else {
        return Err(Error::new(
            Exit::Unsupported,
            "--per-line: expected a model with a token that ends a text, found none",
        ));
    };
    let mut windows = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut tokens = tokenizer.encode(line, Specials::Text)?;
        if let Some(bos) = tokenizer.bos() {
            tokens.insert(0, bos);
        }
        tokens.push(eos);
        tokens.truncate(context);
        windows.push(Window { tokens, from: 1 });
    }
    Ok(windows)
}

impl Score {
    /// Runs a window and scores its targets; `skip` is a target that does not count.
    fn add(&mut self, session: &mut Session, window: &Window, skip: Option<u32>) -> Result<()> {
        session.truncate(0, 0);
        let tokens = &window.tokens;
        // The last token is a target only.
        let inputs = &tokens[..tokens.len() - 1];
        if inputs.is_empty() {
            return Ok(());
        }
        session.forward_all(inputs, |rows: Rows<'_>| {
            for (position, logits) in rows.iter() {
                let target = tokens[position + 1];
                if position + 1 >= window.from && Some(target) != skip {
                    self.count(nll(logits, target));
                }
            }
        })?;
        Ok(())
    }

    fn count(&mut self, nll: f64) {
        self.targets += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.sum / self.targets as f64
    }

    /// Standard error of the mean.
    fn error(&self) -> f64 {
        let n = self.targets as f64;
        let variance = (self.squares / n - self.mean().powi(2)).max(0.0);
        if n > 1.0 { (variance / (n - 1.0)).sqrt() } else { 0.0 }
    }
}

/// −ln of the probability that logits give a token.
fn nll(logits: &[f32], token: u32) -> f64 {
    let best = logits.iter().fold(f32::NEG_INFINITY, |best, &v| best.max(v));
    let total: f64 = logits.iter().map(|&v| f64::from(v - best).exp()).sum();
    total.ln() - f64::from(logits[token as usize] - best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_a_softmax() {
        let logits = [1.0f32, 2.0, -3.0, 0.5];
        let total: f64 = logits.iter().map(|&v| f64::from(v).exp()).sum();
        for (token, &logit) in logits.iter().enumerate() {
            let expected = -(f64::from(logit).exp() / total).ln();
            assert!((nll(&logits, token as u32) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn errors_are_those_of_a_mean() {
        let mut score = Score::default();
        [1.0, 2.0, 3.0, 4.0].into_iter().for_each(|nll| score.count(nll));
        assert_eq!(score.mean(), 2.5);
        // Sample deviation √(5/3), by √4.
        assert!((score.error() - (5.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    }
}
