//! The shape of a model, taken from the manifest into types that cannot be wrong.
//!
//! What the manifest says in words becomes a choice here, and what this version does not know is refused by name. Tensors are the business of
//! [`plan`](crate::plan).

use sbnc_format::manifest::{self, RopeStyle};

use crate::error::{Error, Kind, Result};
use crate::rope::Scaling;
use sbnc_kernels::cpu::Rule;
use sbnc_kernels::cpu::ops::{Activation, Pairing};

/// The kind of model; the graph is the same for all, with the parts that the file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// BitNet b1.58: sub-norms, squared ReLU.
    Bitnet,
    /// Llama with ternary linears.
    Llama,
    /// Mistral: a sliding window.
    Mistral,
    /// Qwen2: biases of q, k and v.
    Qwen2,
    /// Qwen3: norms of q and k.
    Qwen3,
    /// The Sparse-BitNet trainer's own.
    SparseBitnet,
}

impl Family {
    const ALL: [(&'static str, Self); 6] = [
        ("bitnet", Self::Bitnet),
        ("llama", Self::Llama),
        ("mistral", Self::Mistral),
        ("qwen2", Self::Qwen2),
        ("qwen3", Self::Qwen3),
        ("sparse-bitnet", Self::SparseBitnet),
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Numbers and choices that make up a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The kind of model.
    pub family: Family,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Attention heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// The longest context that the model and its position embedding are made for.
    pub context: usize,
    /// The longest session in which the position embedding is that of short texts: some scalings change it beyond.
    pub(crate) short: usize,
    /// How far attention looks back, if not over everything.
    pub window: Option<usize>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Special tokens.
    pub tokens: Tokens,
    /// Bits of quantised activations of attention and feed-forward inputs: 8 or 4.
    pub activation_bits: u32,
    pub(crate) activation: Activation,
    pub(crate) norm_eps: f32,
    pub(crate) pairing: Pairing,
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
}

/// Special tokens, where the model has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// End a sequence.
    pub eos: Vec<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

impl Config {
    /// Takes over what a manifest says.
    pub(crate) fn new(model: &manifest::Model) -> Result<Self> {
        let number = |value: u64| value as usize; // the format bounds every one of them by 2^24
        let family = Family::ALL.iter().find(|(name, _)| *name == model.family).map(|(_, family)| *family);
        let activation = match model.activation.as_str() {
            "silu" => Some(Activation::Silu),
            "relu2" => Some(Activation::Relu2),
            "gelu" => Some(Activation::Gelu),
            _ => None,
        };
        let (head_dim, context) = (number(model.head_dim), number(model.context));
        if head_dim % 2 == 1 {
            let expected = "an even width, because rotary embedding turns pairs";
            return Err(Error::new(Kind::Invalid, "model.head_dim", expected, head_dim.to_string()));
        }
        let scaling = Scaling::new(model.rope.scaling.as_ref(), context, head_dim)?;
        Ok(Self {
            family: family.ok_or_else(|| {
                let names: Vec<_> = Family::ALL.iter().map(|(name, _)| *name).collect();
                unsupported("family", &names.join(", "), &model.family)
            })?,
            layers: number(model.layers),
            hidden: number(model.hidden),
            intermediate: number(model.intermediate),
            heads: number(model.heads),
            kv_heads: number(model.kv_heads),
            head_dim,
            vocab: number(model.vocab),
            context: scaling.context(context),
            short: scaling.short(context),
            window: window(model.window)?,
            tied: model.tied,
            tokens: tokens(&model.tokens, model.vocab)?,
            activation_bits: model.activation_bits,
            activation: activation
                .ok_or_else(|| unsupported("activation", "silu, relu2 or gelu", &model.activation))?,
            norm_eps: real("norm_eps", &model.norm_eps)? as f32,
            pairing: match model.rope.style {
                RopeStyle::Half => Pairing::Half,
                RopeStyle::Interleaved => Pairing::Interleaved,
            },
            theta: real("rope.theta", &model.rope.theta)?,
            scaling,
        })
    }

    /// Values of a token's q.
    pub(crate) fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of a token's k, and of its v.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// How the inputs of attention and feed-forward are quantised; all others are A8.
    pub(crate) fn input_rule(&self) -> Rule {
        if self.activation_bits == 4 { Rule::A4 } else { Rule::A8 }
    }

    /// Numbers that a position of a sequence takes in the cache: keys and values of all layers.
    pub fn cache_values_per_token(&self) -> u64 {
        2 * (self.layers * self.kv_width()) as u64
    }
}

fn unsupported(member: &str, expected: &str, found: &str) -> Error {
    Error::new(Kind::Unsupported, format!("model.{member}"), expected, found).remedy("use a newer version")
}

fn real(member: &str, value: &manifest::Real) -> Result<f64> {
    let found = || Error::new(Kind::Invalid, format!("model.{member}"), "a real number above 0", "another value");
    value.value().filter(|v| *v > 0.0).ok_or_else(found)
}

fn window(window: Option<u64>) -> Result<Option<usize>> {
    match window {
        Some(0) => Err(Error::new(Kind::Invalid, "model.window", "at least 1", "0")),
        Some(width) => Ok(Some(usize::try_from(width).unwrap_or(usize::MAX))),
        None => Ok(None),
    }
}

fn tokens(tokens: &manifest::Tokens, vocab: u64) -> Result<Tokens> {
    let id = |name: &str, id: u64| match u32::try_from(id) {
        Ok(token) if id < vocab => Ok(token),
        _ => {
            let expected = format!("a token below {vocab}, the size of the vocabulary");
            Err(Error::new(Kind::Invalid, format!("model.tokens.{name}"), expected, id.to_string()))
        }
    };
    Ok(Tokens {
        bos: tokens.bos.map(|token| id("bos", token)).transpose()?,
        eos: tokens.eos.iter().flatten().map(|&token| id("eos", token)).collect::<Result<_>>()?,
        pad: tokens.pad.map(|token| id("pad", token)).transpose()?,
    })
}
