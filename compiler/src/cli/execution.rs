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

/// How tokens are chosen: as the model's makers recommend, but for what is named.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Choosing tokens")]
pub(crate) struct Choosing {
    /// Divide logits by this before drawing; 0 always takes the most likely token [default: the file's generation_config.json, else 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw from this many of the most likely tokens; 0 for all [default: likewise, else 0]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the most likely tokens that have this probability together [default: likewise, else 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from tokens that are this likely in relation to the most likely one [default: likewise, else 0]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divide the logits of recent tokens by this [default: likewise, else 1]
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f32>,
    /// Take this off the logits of recent tokens
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Take this off the logits of recent tokens for each time they occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// How many tokens are recent [default: 64, or all where the file has a repetition_penalty]
    #[arg(long, value_name = "N")]
    penalty_window: Option<usize>,
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
    /// As the runtime takes it: what is named, and otherwise what the model recommends.
    pub(crate) fn sampling(&self, model: &Model) -> Result<Sampling> {
        let Self { presence_penalty, frequency_penalty, seed, .. } = *self;
        let recommended = model.sampling()?;
        Ok(Sampling {
            temperature: self.temperature.unwrap_or(recommended.temperature),
            top_k: self.top_k.unwrap_or(recommended.top_k),
            top_p: self.top_p.unwrap_or(recommended.top_p),
            min_p: self.min_p.unwrap_or(recommended.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(recommended.repeat_penalty),
            presence_penalty,
            frequency_penalty,
            penalty_window: self.penalty_window.unwrap_or(recommended.penalty_window),
            logit_bias: self.logit_bias.clone(),
            seed,
            logprobs: None,
        })
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
