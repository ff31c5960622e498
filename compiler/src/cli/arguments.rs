//! Every command and flag, once: the parser, the help and the checks come from these declarations.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use sbnc_format::Pattern;

use super::bench::Bench;
use super::demo::Demo;
use super::export::Form;
use super::ppl::Ppl;
use super::run::Run;
use crate::checkpoint::gguf::decode::I2sLayout;
use crate::compile::Target;

/// Compiles Sparse-BitNet checkpoints (ternary, N:M sparse) into one packed, verified, memory-mappable file.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile, verify and run a small model that comes with this program
    Demo(Demo),
    /// Compile a checkpoint into one .sbnc file
    Compile(Box<Compile>),
    /// Show what is in a file
    Inspect {
        /// An .sbnc file
        file: PathBuf,
        /// Show this tensor only
        #[arg(long, value_name = "NAME")]
        tensor: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check structure, digests and payload rules of a file
    Verify {
        /// An .sbnc file
        file: PathBuf,
        /// Also decode everything, check declared patterns and compare the digests of the content
        #[arg(long)]
        deep: bool,
        /// Compile this checkpoint again, in memory, and compare
        #[arg(long, value_name = "INPUT", conflicts_with = "deep")]
        against: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which tensors of two files differ, and in what; exit code 1 if any
    Diff {
        /// An .sbnc file
        a: PathBuf,
        /// Another
        b: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a file's tensors as safetensors
    Export {
        /// An .sbnc file
        file: PathBuf,
        /// The .safetensors file to write
        #[arg(short, long, value_name = "OUT.safetensors")]
        output: PathBuf,
        /// Write int8 trits under the source's names, and NAME.scale
        #[arg(long)]
        trits: bool,
        /// Type of the weights that trits stand for
        #[arg(long, value_enum, default_value = "bf16", conflicts_with = "trits")]
        dtype: FloatType,
    },
    /// Compress a file for download
    Pack {
        /// An .sbnc file
        file: PathBuf,
        /// The .sbncz file to write [default: FILE with the extension .sbncz]
        #[arg(short, long, value_name = "OUT.sbncz")]
        output: Option<PathBuf>,
        /// zstd level, 1 (fast) to 19 (small)
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=19))]
        level: i32,
    },
    /// Restore a packed file, byte for byte
    Unpack {
        /// An .sbncz file
        file: PathBuf,
        /// The .sbnc file to write [default: FILE with the extension .sbnc]
        #[arg(short, long, value_name = "OUT.sbnc")]
        output: Option<PathBuf>,
    },
    /// Generate text with a model, or converse with it
    Run(Box<Run>),
    /// Measure how well a model foretells a text
    Ppl(Ppl),
    /// Measure speed beside what the machine can do
    Bench(Box<Bench>),
    /// Show what this machine has and what sbnc makes of it
    Doctor {
        /// .sbnc files to check too
        files: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Whether files are written, so that an interruption has something to remove.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Demo(_) | Self::Compile(_) | Self::Export { .. } | Self::Pack { .. } | Self::Unpack { .. } => true,
            Self::Inspect { .. } | Self::Verify { .. } | Self::Diff { .. } | Self::Doctor { .. } => false,
            // They say themselves when there is something to finish.
            Self::Run(_) | Self::Ppl(_) | Self::Bench(_) => false,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Compile {
    /// A checkpoint: a model folder, or a .safetensors, .pt or .gguf file
    pub(crate) input: PathBuf,
    /// The .sbnc file to write
    #[arg(short, long, value_name = "OUT.sbnc")]
    pub(crate) output: PathBuf,
    /// Sparsity: auto takes what the checkpoint declares, none keeps every trit, N:M masks latent weights and checks packed ones
    #[arg(long, default_value = "auto", value_name = "auto|none|N:M", value_parser = parse_pattern)]
    pub(crate) nm: RequestedPattern,
    // The help is made of the table that decides.
    #[arg(long, value_enum, default_value = "auto", help = target_help())]
    pub(crate) target: Target,
    /// How trits are stored; auto: as suits the target
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) encoding: EncodingChoice,
    /// Execution order of nm-vi; auto: fragments, or windows for the patterns (M-2):M
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) order: OrderChoice,
    /// How the embedding is stored
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) embed: FloatChoice,
    /// How an untied output head is stored
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) head: FloatChoice,
    /// Without a configuration: tensors to make ternary (default: every matrix); * and ? match
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Without a configuration: tensors to leave as they are
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Without a configuration: what weight_scale of packed tensors does
    #[arg(long, value_enum)]
    pub(crate) packed_scale: Option<PackedScale>,
    /// The layout of I2_S tensors in a GGUF file, which the file does not say
    #[arg(long, value_enum)]
    pub(crate) i2s_layout: Option<I2s>,
    /// Dense weights are three-valued already: take their trits and scales over
    #[arg(long, conflicts_with = "force_quantize")]
    pub(crate) ternary: bool,
    /// Quantise a model that shows no sign of ternary training
    #[arg(long)]
    pub(crate) force_quantize: bool,
    /// Worker threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Refuse to use more memory than this, such as 2G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) max_memory: Option<u64>,
    /// Write a report on every tensor, as .html or .json
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print a summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

fn target_help() -> String {
    let rows: Vec<String> = Target::ALL.iter().map(|t| format!("{}: {}", t.name(), t.describe())).collect();
    format!(
        "What the file is meant for, though every backend runs every file: how trits are stored. {}",
        rows.join("; ")
    )
}

/// What the user wants of the sparsity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestedPattern {
    Auto,
    Given(Pattern),
}

fn parse_pattern(text: &str) -> Result<RequestedPattern, String> {
    if text == "auto" {
        return Ok(RequestedPattern::Auto);
    }
    text.parse().map(RequestedPattern::Given).map_err(|e: sbnc_format::encoding::ParsePatternError| e.to_string())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err("expected a number of bytes, such as 512M or 2G".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number of bytes, such as 512M or 2G".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too many bytes".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EncodingChoice {
    Auto,
    T2,
    T5,
    NmVi,
    #[value(name = "nm-6b")]
    Nm6b,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderChoice {
    Auto,
    Rows,
    Fragments,
    Windows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloatChoice {
    Keep,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloatType {
    Bf16,
    F32,
}

impl From<FloatType> for Form {
    fn from(dtype: FloatType) -> Self {
        match dtype {
            FloatType::Bf16 => Self::Bf16,
            FloatType::F32 => Self::F32,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackedScale {
    Divide,
    Multiply,
}

/// The three layouts that share one type number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum I2s {
    X86,
    Arm,
    Rows4,
}

impl From<I2s> for I2sLayout {
    fn from(layout: I2s) -> Self {
        match layout {
            I2s::X86 => Self::X86,
            I2s::Arm => Self::Arm,
            I2s::Rows4 => Self::Rows4,
        }
    }
}
