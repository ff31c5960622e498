//! Flags of the commands that run a model, and what they mean to the runtime.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::{Device, Model, Options, SessionOptions};

use crate::error::Result;

/// Where and how a model runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Where to run; auto: the fastest that there is
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Threads that compute [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Read the file into memory instead of mapping it
    #[arg(long)]
    pub(crate) no_mmap: bool,
}

/// What the runtime calls [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    Auto,
    Cpu,
    Cuda,
}

/// How tokens are chosen. Nothing is on unless it is named.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Choosing tokens")]
pub(crate) struct Choosing {
    /// Divide logits by this before drawing; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from this many of the most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from the most likely tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Draw from tokens that are this likely in relation to the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Divide the logits of recent tokens by this
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Take this off the logits of recent tokens
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Take this off the logits of recent tokens for each time they occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// How many tokens are recent
    #[arg(long, value_name = "N", default_value_t = 64)]
    penalty_window: usize,
    /// Add to the logit of a token, as TOKEN:BIAS; -inf rules it out
    #[arg(long, value_name = "TOKEN:BIAS", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl Place {
    /// How to open a model.
    pub(crate) fn options(&self) -> Options {
        let options = Model::options().device(self.device.into()).mmap(!self.no_mmap);
        match self.threads {
            Some(threads) => options.threads(threads.into()),
            None => options,
        }
    }
}

impl Choosing {
    /// As the runtime takes it, with log-probabilities of so many tokens.
    pub(crate) fn sampling(&self, logprobs: Option<usize>) -> Sampling {
        let Self { temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, .. } = *self;
        Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            penalty_window: self.penalty_window,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
            logprobs,
        }
    }
}

impl From<DeviceChoice> for Device {
    fn from(choice: DeviceChoice) -> Self {
        match choice {
            DeviceChoice::Auto => Self::Auto,
            DeviceChoice::Cpu => Self::Cpu,
            DeviceChoice::Cuda => Self::Cuda,
        }
    }
}

/// A session of some context, whose running calls end at an interruption.
pub(crate) fn session(model: &Model, context: Option<usize>) -> Result<sbnc_runtime::Session> {
    let options = SessionOptions { context: context.unwrap_or(0), ..SessionOptions::default() };
    let session = model.session(&options)?;
    crate::interrupt::raise(session.interrupt().clone());
    Ok(session)
}

/// Text from a file, or from stdin for `-`.
pub(crate) fn read_text(path: &PathBuf) -> Result<String> {
    use crate::error::{Error, Exit};
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|e| Error::io(path, "read it", &e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::new(Exit::Invalid, format!("{}: expected UTF-8 text, found other bytes at {at}", path.display()))
    })
}

fn parse_bias(text: &str) -> std::result::Result<(u32, f32), String> {
    let expected = || "expected TOKEN:BIAS, such as 13:-2.5 or 13:-inf".to_owned();
    let (token, bias) = text.split_once(':').ok_or_else(expected)?;
    Ok((token.trim().parse().map_err(|_| expected())?, bias.trim().parse().map_err(|_| expected())?))
}
