//! The keys of a `config.json` that describe a decoder: its sizes, norms, window and special tokens. One table says where the model types
//! differ. How its linear weights are stored is in [`quantization`](super::quantization), its rotary embedding in [`rope`](super::rope).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sbnc_format::manifest::{Model, Real, Tokens};

use super::assemble::Features;
use super::error::{FamilyError, Result, clip};
use super::inventory::Inventory;
use super::json::Object;
use super::rope;

pub(super) const LAYERS: RangeInclusive<u64> = 1..=1024;
pub(super) const HEADS: RangeInclusive<u64> = 1..=1024;
pub(super) const WIDTH: RangeInclusive<u64> = 1..=1 << 24;
pub(super) const VOCAB: RangeInclusive<u64> = 1..=1 << 22;
pub(super) const CONTEXT: RangeInclusive<u64> = 1..=1 << 24;

/// What a model type means where its configuration is silent.
#[derive(Debug)]
pub(super) struct ModelType {
    pub(super) name: &'static str,
    architecture: &'static str,
    activation: &'static str,
    theta: f64,
    norm_eps: f64,
    tied: bool,
    head_dim: Option<u64>,
    biases: Biases,
    window: Window,
    sub_norms: bool,
    qk_norms: bool,
    /// Whether the type itself says that its weights were trained to be ternary.
    pub(super) ternary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Biases {
    Never,
    /// On q, k and v, always.
    Qkv,
    /// On attention and feed-forward, as `attention_bias` and `mlp_bias` say.
    Stated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Never,
    /// On every layer: `sliding_window`, or the default.
    Every {
        default: u64,
    },
    /// On the layers that `use_sliding_window`, `max_window_layers` and `layer_types` say.
    Some,
}

const PLAIN: ModelType = ModelType {
    name: "llama",
    architecture: "LlamaForCausalLM",
    activation: "silu",
    theta: 10_000.0,
    norm_eps: 1e-6,
    tied: false,
    head_dim: None,
    biases: Biases::Stated,
    window: Window::Never,
    sub_norms: false,
    qk_norms: false,
    ternary: false,
};

/// The first public reproduction of BitNet b1.58, whose configuration claims to be a llama.
static BITNET_AS_LLAMA: ModelType =
    ModelType { name: "bitnet", architecture: "BitnetForCausalLM", sub_norms: true, ternary: true, ..PLAIN };

static MODEL_TYPES: [ModelType; 5] = [
    ModelType {
        name: "bitnet",
        architecture: "BitNetForCausalLM",
        activation: "relu2",
        theta: 500_000.0,
        norm_eps: 1e-5,
        sub_norms: true,
        ternary: true,
        ..PLAIN
    },
    PLAIN,
    ModelType {
        name: "mistral",
        architecture: "MistralForCausalLM",
        biases: Biases::Never,
        window: Window::Every { default: 4096 },
        ..PLAIN
    },
    ModelType { name: "qwen2", architecture: "Qwen2ForCausalLM", biases: Biases::Qkv, window: Window::Some, ..PLAIN },
    ModelType {
        name: "qwen3",
        architecture: "Qwen3ForCausalLM",
        head_dim: Some(128),
        window: Window::Some,
        qk_norms: true,
        ..PLAIN
    },
];

/// Activation functions by the names in use.
pub(super) const ACTIVATIONS: [(&str, &str); 4] =
    [("silu", "silu"), ("swish", "silu"), ("relu2", "relu2"), ("gelu", "gelu")];

impl ModelType {
    /// Which type a configuration is of; tensors and other keys overrule a `model_type` that lies.
    pub(super) fn find(config: &Object, stock: &Inventory<'_>) -> Result<&'static Self> {
        let architectures = config.texts("architectures")?.unwrap_or_default();
        let named = match config.text("model_type")? {
            Some(name) => MODEL_TYPES.iter().find(|known| known.name == name),
            None => MODEL_TYPES.iter().find(|known| architectures.contains(&known.architecture)),
        };
        let as_llama = config.value("weight_bits").is_some()
            || architectures.contains(&BITNET_AS_LLAMA.architecture)
            || stock.any(|name| name.ends_with("inner_attn_ln.weight") || name.ends_with("attn_sub_norm.weight"));
        let found = match named {
            Some(known) if known.name == "llama" && as_llama => Some(&BITNET_AS_LLAMA),
            None if config.value("model_type").is_none() && as_llama => Some(&BITNET_AS_LLAMA),
            named => named,
        };
        let Some(found) = found else {
            let names: Vec<_> = MODEL_TYPES.iter().map(|known| known.name).collect();
            return Err(config.unsupported("model_type", format!("one of {}", names.join(", "))));
        };
        for (key, only) in [("weight_bits", 1), ("input_bits", 8)] {
            if config.count(key, 0..=64)?.is_some_and(|bits| bits != only) {
                return Err(config.unsupported(key, format!("{only}: ternary weights and 8-bit activations")));
            }
        }
        Ok(found)
    }

    /// The optional parts of the graph.
    pub(super) fn features(&self, config: &Object) -> Result<Features> {
        let stated = |key| Ok::<_, FamilyError>(self.biases == Biases::Stated && config.boolean(key)? == Some(true));
        let attention = stated("attention_bias")?;
        Ok(Features {
            sub_norms: self.sub_norms,
            qk_norms: self.qk_norms,
            qkv_bias: attention || self.biases == Biases::Qkv,
            o_bias: attention,
            mlp_bias: stated("mlp_bias")?,
            input_norms: None,
        })
    }

    /// The shape of the model, without the names of its tensors.
    pub(super) fn model(&self, config: &Object, generation: Option<&Object>, notes: &mut Vec<String>) -> Result<Model> {
        refuse_unsupported(config)?;
        let hidden = config.required("hidden_size", WIDTH)?;
        let heads = config.required("num_attention_heads", HEADS)?;
        let kv_heads = config.count("num_key_value_heads", HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.wrong("num_key_value_heads", format!("a divisor of num_attention_heads, {heads}")));
        }
        let layers = config.required("num_hidden_layers", LAYERS)?;
        let vocab = config.required("vocab_size", VOCAB)?;
        config.agreed(("dtype", config.text("dtype")?), ("torch_dtype", config.text("torch_dtype")?))?;
        Ok(Model {
            activation: self.activation(config)?,
            activation_bits: 8,
            context: config.required("max_position_embeddings", CONTEXT)?,
            family: self.name.to_owned(),
            head_dim: self.head_dim(config, hidden, heads)?,
            heads,
            hidden,
            intermediate: config.required("intermediate_size", WIDTH)?,
            kv_heads,
            layers,
            norm_eps: Real::new(config.positive("rms_norm_eps", 1.0)?.unwrap_or(self.norm_eps)),
            rope: rope::read(config, self.theta)?,
            tensors: BTreeMap::new(),
            tied: config.boolean("tie_word_embeddings")?.unwrap_or(self.tied),
            tokens: tokens([Some(config), generation], vocab, notes)?,
            vocab,
            window: self.window(config, layers)?,
        })
    }

    fn activation(&self, config: &Object) -> Result<String> {
        let name = config.text("hidden_act")?.unwrap_or(self.activation);
        let known = ACTIVATIONS.iter().find(|(alias, _)| *alias == name);
        known.map(|(_, ours)| (*ours).to_owned()).ok_or_else(|| config.unsupported("hidden_act", "silu, relu2 or gelu"))
    }

    fn head_dim(&self, config: &Object, hidden: u64, heads: u64) -> Result<u64> {
        let head_dim = match config.count("head_dim", 1..=1 << 16)?.or(self.head_dim) {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(config.wrong("hidden_size", format!("a multiple of num_attention_heads, {heads}"))),
        };
        if head_dim.is_multiple_of(2) {
            return Ok(head_dim);
        }
        let expected = "an even width of heads, because rotary embedding turns pairs";
        Err(FamilyError::invalid(config.subject("head_dim"), expected, head_dim.to_string()))
    }

    fn window(&self, config: &Object, layers: u64) -> Result<Option<u64>> {
        let width = config.count("sliding_window", CONTEXT)?;
        let stated = match self.window {
            Window::Never => return Ok(None),
            Window::Every { default } if !config.has_key("sliding_window") => return Ok(Some(default)),
            Window::Every { .. } => return Ok(width),
            Window::Some => config.boolean("use_sliding_window")?.unwrap_or(false),
        };
        let sliding = match config.texts("layer_types")? {
            Some(types) => {
                if types.len() as u64 != layers {
                    return Err(config.wrong("layer_types", format!("{layers} entries, as num_hidden_layers says")));
                }
                if let Some(other) = types.iter().find(|t| !matches!(**t, "full_attention" | "sliding_attention")) {
                    let subject = config.subject("layer_types");
                    return Err(FamilyError::unsupported(subject, "full_attention or sliding_attention", clip(other)));
                }
                types.iter().filter(|t| **t == "sliding_attention").count() as u64
            }
            None if !stated => 0,
            None => layers.saturating_sub(config.count("max_window_layers", 0..=1 << 16)?.unwrap_or(28)),
        };
        match (sliding, width) {
            (0, _) => Ok(None),
            (all, Some(width)) if all == layers => Ok(Some(width)),
            (all, None) if all == layers => Err(config.wrong("sliding_window", "the width of the sliding window")),
            (some, _) => Err(FamilyError::unsupported(
                config.subject("sliding_window"),
                "the same attention on every layer",
                format!("a sliding window on {some} of {layers} layers"),
            )),
        }
    }
}

fn refuse_unsupported(config: &Object) -> Result<()> {
    for key in ["num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"] {
        if config.value(key).is_some_and(|value| value.as_u64() != Some(0)) {
            return Err(config.unsupported(key, "no such key: mixtures of experts (MoE) are not compiled"));
        }
    }
    for key in ["text_config", "vision_config", "audio_config"] {
        if config.value(key).is_some() {
            return Err(config.unsupported(key, "no such key: only text decoders are compiled"));
        }
    }
    Ok(())
}

/// The special tokens: every source adds tokens that end a sequence, and the first that names another one wins.
pub(super) fn tokens(sources: [Option<&Object>; 2], vocab: u64, notes: &mut Vec<String>) -> Result<Tokens> {
    let ids = 0..=vocab - 1;
    let mut tokens = Tokens::default();
    for source in sources.into_iter().flatten() {
        tokens.bos = tokens.bos.or(source.count("bos_token_id", ids.clone())?);
        if source.value("pad_token_id").and_then(serde_json::Value::as_i64) == Some(-1) {
            notes.push(format!("{} is -1: no padding token", source.subject("pad_token_id")));
        } else {
            tokens.pad = tokens.pad.or(source.count("pad_token_id", ids.clone())?);
        }
        for id in source.one_or_more("eos_token_id", ids.clone())?.unwrap_or_default() {
            let eos = tokens.eos.get_or_insert_default();
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
    }
    Ok(tokens)
}
