//! GGUF files of ternary blocks: the model from the metadata, the roles from the names of the tensors.
//!
//! One table says what each architecture means where the metadata is silent, as the programs that run these files do. What matters is the
//! graph those programs compute, since that is what a file was made for:
//!
//! | architecture | rows of q and k | feed-forward |
//! |---|---|---|
//! | `llama` | permuted by the converter, so that rotation pairs neighbours | SiLU |
//! | `qwen2`, `qwen3` | as trained: rotation pairs halves | SiLU |
//! | `bitnet` | as trained | SiLU, in the graph of llama.cpp |
//! | `bitnet-b1.58`, `bitnet-25` | as trained | ReLU², in the graph of bitnet.cpp |
//!
//! The pairing is stated by `llama_model_rope_type` in llama.cpp, and by `llama_rope_type` in the copy of it that bitnet.cpp builds.

mod metadata;

use std::collections::BTreeMap;

use sbnc_format::manifest::{Model, Real, Rope, RopeStyle, RopeValue, Tokens};

use super::assemble::{Blueprint, Features};
use super::config::{ACTIVATIONS, CONTEXT, HEADS, LAYERS, VOCAB, WIDTH};
use super::error::{FamilyError, Result, clip, tensor};
use super::facts::Options;
use super::inventory::Inventory;
use super::json::Object;
use super::roles::GGUF;
use super::storage::{Plain, Storage};
use crate::checkpoint::gguf::Metadata;

/// What an architecture means where the metadata is silent.
#[derive(Debug)]
struct Architecture {
    name: &'static str,
    family: &'static str,
    activation: &'static str,
    rope: RopeStyle,
    qkv_bias: bool,
    qk_norms: bool,
    sub_norms: bool,
    note: Option<&'static str>,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    family: "llama",
    activation: "silu",
    rope: RopeStyle::Interleaved,
    qkv_bias: false,
    qk_norms: false,
    sub_norms: false,
    note: None,
};

const BITNET: Architecture = Architecture {
    name: "bitnet-b1.58",
    family: "bitnet",
    activation: "relu2",
    rope: RopeStyle::Half,
    sub_norms: true,
    ..LLAMA
};

static ARCHITECTURES: [Architecture; 6] = [
    LLAMA,
    Architecture { name: "qwen2", family: "qwen2", rope: RopeStyle::Half, qkv_bias: true, ..LLAMA },
    Architecture { name: "qwen3", family: "qwen3", rope: RopeStyle::Half, qk_norms: true, ..LLAMA },
    BITNET,
    Architecture { name: "bitnet-25", ..BITNET },
    // One converter gives this name to models that were trained with ReLU² as well, and the metadata does not tell them apart.
    Architecture {
        name: "bitnet",
        activation: "silu",
        note: Some(
            "architecture bitnet: compiled with SiLU, as the graph of that name computes; a model trained with ReLU², such as \
             BitNet b1.58 2B4T, is only right from its own checkpoint or as architecture bitnet-b1.58",
        ),
        ..BITNET
    },
];

/// Keys below the architecture that are followed, or that change nothing. Others are refused where they concern attention or rotation.
const KNOWN: [&str; 24] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "hidden_activation",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "use_parallel_residual",
    "vocab_size",
];

/// Other keys that change the graph in ways that are not compiled.
const REFUSED: [&str; 7] = [
    "attn_logit_softcapping",
    "embedding_scale",
    "final_logit_softcapping",
    "logit_scale",
    "pooling_type",
    "residual_scale",
    "yoco_u_iters",
];

/// Largest base of the frequencies.
const MAX_THETA: f64 = 1e12;

/// Describes the model of a GGUF file.
pub(super) fn describe(
    metadata: &Metadata,
    stock: &Inventory<'_>,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Blueprint> {
    let general = metadata::object(metadata, "general.");
    let known = architecture(&general)?;
    let keys = metadata::object(metadata, &format!("{}.", known.name));
    refuse_unsupported(&keys, stock)?;
    let stores = |bias: &str| stock.has(&format!("blk.0.attn_{bias}.bias"));
    let features = Features {
        sub_norms: known.sub_norms,
        qk_norms: known.qk_norms,
        qkv_bias: known.qkv_bias || ["q", "k", "v"].into_iter().any(stores),
        ..Features::default()
    };
    let model = known.model(&keys, metadata, stock, notes)?;
    if keys.value("hidden_activation").is_none() {
        notes.extend(known.note.map(str::to_owned));
    }
    if known.family == "bitnet" && !model.tied {
        let name = known.name;
        notes.push(format!("output.weight is the head, although the graph of {name} uses the embedding in its place"));
    }
    note_ignored(&keys, notes);
    if metadata.keys().any(|key| key.starts_with("tokenizer.")) {
        notes.push("the tokenizer in the GGUF metadata is not carried".to_owned());
    }
    let plain = if options.already_ternary { Plain::Ternary } else { Plain::Refused };
    let authority = "the GGUF metadata".to_owned();
    let storage = Storage { authority, rule: None, packed: false, blocks: true, scaled: false, plain };
    Ok(Blueprint { scheme: &GGUF, model, features, storage, dense: Vec::new() })
}

fn architecture(general: &Object) -> Result<&'static Architecture> {
    if general.text("type")?.is_some_and(|kind| kind != "model") {
        return Err(general.unsupported("type", "model: adapters, projectors and the like are no model of their own"));
    }
    let name = general.text("architecture")?;
    name.and_then(|name| ARCHITECTURES.iter().find(|known| known.name == name)).ok_or_else(|| {
        let names: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        general.unsupported("architecture", format!("one of {}", names.join(", ")))
    })
}

impl Architecture {
    fn model(
        &self,
        keys: &Object,
        metadata: &Metadata,
        stock: &Inventory<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Model> {
        let hidden = keys.required("embedding_length", WIDTH)?;
        let heads = keys.required("attention.head_count", HEADS)?;
        let kv_heads = keys.count("attention.head_count_kv", HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of attention.head_count, {heads}");
            return Err(keys.wrong("attention.head_count_kv", expected));
        }
        let head_dim = head_dim(keys, hidden, heads)?;
        let context = keys.required("context_length", CONTEXT)?;
        refuse_window(keys, context)?;
        let eps = "attention.layer_norm_rms_epsilon";
        let eps = keys
            .positive(eps, 1.0)?
            .ok_or_else(|| FamilyError::invalid(keys.subject(eps), "a number", "no such key"))?;
        let vocab = vocab(keys, metadata)?;
        Ok(Model {
            activation: self.activation(keys)?,
            activation_bits: 8,
            context,
            family: self.family.to_owned(),
            head_dim,
            heads,
            hidden,
            intermediate: keys.required("feed_forward_length", WIDTH)?,
            kv_heads,
            layers: keys.required("block_count", LAYERS)?,
            norm_eps: Real::new(eps),
            rope: Rope {
                scaling: scaling(keys)?,
                style: self.rope,
                theta: Real::new(keys.positive("rope.freq_base", MAX_THETA)?.unwrap_or(10_000.0)),
            },
            tensors: BTreeMap::new(),
            tied: !stock.has(GGUF.head.names[0]),
            tokens: tokens(&metadata::object(metadata, "tokenizer.ggml."), vocab, notes)?,
            vocab,
            window: None,
        })
    }

    /// The activation of the graph, unless the file names one.
    fn activation(&self, keys: &Object) -> Result<String> {
        let key = "hidden_activation";
        let name = keys.text(key)?.unwrap_or(self.activation);
        let known = ACTIVATIONS.iter().find(|(alias, _)| *alias == name);
        known.map(|(_, ours)| (*ours).to_owned()).ok_or_else(|| keys.unsupported(key, "silu, relu2 or gelu"))
    }
}

/// The width of a head, all of which must turn.
fn head_dim(keys: &Object, hidden: u64, heads: u64) -> Result<u64> {
    const HEAD: std::ops::RangeInclusive<u64> = 1..=1 << 16;
    let head_dim = match keys.count("attention.key_length", HEAD)? {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(keys.wrong("embedding_length", format!("a multiple of attention.head_count, {heads}")));
        }
    };
    if !head_dim.is_multiple_of(2) {
        let expected = "an even width of heads, because rotary embedding turns pairs";
        return Err(FamilyError::invalid(keys.subject("attention.key_length"), expected, head_dim.to_string()));
    }
    for (key, why) in
        [("attention.value_length", "values as wide as keys"), ("rope.dimension_count", "rotation of the whole head")]
    {
        if keys.count(key, HEAD)?.is_some_and(|width| width != head_dim) {
            return Err(keys.unsupported(key, format!("{head_dim}: {why}")));
        }
    }
    Ok(head_dim)
}

/// The entries of the vocabulary: stated, or as many as there are tokens.
fn vocab(keys: &Object, metadata: &Metadata) -> Result<u64> {
    let tokens = "tokenizer.ggml.tokens";
    let stated = keys.count("vocab_size", VOCAB)?;
    let listed = metadata::items(metadata, tokens).filter(|items| VOCAB.contains(items));
    let agreed = keys.agreed(("vocab_size", stated), (tokens, listed))?;
    agreed.ok_or_else(|| {
        let expected = format!("an integer from {} to {}, or {tokens}", VOCAB.start(), VOCAB.end());
        FamilyError::invalid(keys.subject("vocab_size"), expected, "neither")
    })
}

/// The scaling of the rotation. A factor of 1, which one converter writes into every file, is none.
fn scaling(keys: &Object) -> Result<Option<BTreeMap<String, RopeValue>>> {
    let stated = ("rope.scaling.factor", keys.positive("rope.scaling.factor", 1e6)?);
    let older = ("rope.scale_linear", keys.positive("rope.scale_linear", 1e6)?);
    let factor = keys.agreed(stated, older)?.filter(|factor| *factor != 1.0);
    if keys.positive("rope.scaling.attn_factor", 1e6)?.is_some_and(|factor| factor != 1.0) {
        return Err(keys.unsupported("rope.scaling.attn_factor", "1"));
    }
    let text = |real: f64| RopeValue::Text(format!("{real:?}"));
    let original = keys.count("rope.scaling.original_context_length", CONTEXT)?;
    let kind = keys.text("rope.scaling.type")?.unwrap_or("linear");
    let (Some(factor), "linear" | "yarn") = (factor, kind) else {
        return match kind {
            "none" | "linear" | "yarn" => Ok(None),
            _ => Err(keys.unsupported("rope.scaling.type", "none, linear or yarn")),
        };
    };
    let mut scaling = BTreeMap::from([
        ("rope_type".to_owned(), RopeValue::Text(kind.to_owned())),
        ("factor".to_owned(), text(factor)),
    ]);
    if kind == "yarn"
        && let Some(original) = original
    {
        scaling.insert("original_max_position_embeddings".to_owned(), RopeValue::Integer(original as i64));
    }
    Ok(Some(scaling))
}

/// The special tokens. Every one that ends a turn or a message ends a sequence.
fn tokens(keys: &Object, vocab: u64, notes: &mut Vec<String>) -> Result<Tokens> {
    /// How converters write that there is none.
    const NONE: u64 = u32::MAX as u64;
    let mut id = |key: &str| {
        if keys.value(key).is_some_and(|value| value.as_u64() == Some(NONE) || value.as_i64() == Some(-1)) {
            notes.push(format!("{} is -1: no such token", keys.subject(key)));
            return Ok(None);
        }
        keys.count(key, 0..=vocab - 1)
    };
    let (bos, pad) = (id("bos_token_id")?, id("padding_token_id")?);
    let mut eos = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        eos.extend(id(key)?.filter(|token| !eos.contains(token)));
    }
    Ok(Tokens { bos, eos: Some(eos).filter(|eos| !eos.is_empty()), pad })
}

fn refuse_unsupported(keys: &Object, stock: &Inventory<'_>) -> Result<()> {
    let one_for_all = ["attention.head_count", "attention.head_count_kv", "feed_forward_length"];
    if let Some(key) = one_for_all.into_iter().find(|key| keys.value(key).is_some_and(serde_json::Value::is_array)) {
        return Err(keys.unsupported(key, "one number: layers that differ are not compiled"));
    }
    let is_zero = |key: &str| keys.value(key).is_none_or(|value| value.as_f64() == Some(0.0));
    if !is_zero("expert_count") {
        return Err(keys.unsupported("expert_count", "0: mixtures of experts (MoE) are not compiled"));
    }
    for (key, only) in [("attention.causal", true), ("use_parallel_residual", false)] {
        if keys.boolean(key)?.is_some_and(|flag| flag != only) {
            return Err(keys.unsupported(key, only.to_string()));
        }
    }
    let concerns = |key: &str| key.starts_with("attention.") || key.starts_with("rope.") || REFUSED.contains(&key);
    if let Some(key) = keys.keys().find(|key| concerns(key) && !KNOWN.contains(key) && !is_zero(key)) {
        return Err(keys.unsupported(key, "no such key: it changes the graph in a way that is not compiled"));
    }
    let factors = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
    if let Some(name) = factors.into_iter().find(|name| stock.has(name)) {
        let expected = "no factors of single frequencies: rotation is kept as a base and a scaling";
        return Err(FamilyError::unsupported(tensor(name), expected, "a tensor of them")
            .remedy("compile the checkpoint that the file was made from"));
    }
    Ok(())
}

/// A window as wide as the context hides nothing.
fn refuse_window(keys: &Object, context: u64) -> Result<()> {
    let key = "attention.sliding_window";
    match keys.count(key, 0..=u64::MAX)? {
        Some(width) if (1..context).contains(&width) => Err(keys.unsupported(key, "full attention")),
        _ => Ok(()),
    }
}

fn note_ignored(keys: &Object, notes: &mut Vec<String>) {
    let mut ignored = keys.keys().filter(|key| !KNOWN.contains(key));
    if let Some(first) = ignored.next() {
        let others = match ignored.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        notes.push(format!("not followed, because nothing is known of it: {}{others}", clip(&keys.subject(first))));
    }
}
