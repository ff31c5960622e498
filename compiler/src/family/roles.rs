//! The roles that tensors have in the graph, and where each naming scheme keeps them: one table per scheme.
//!
//! A row of a table says which role, under which name, of which shape, and when the tensor is part of the model. The order of the rows is
//! the order of execution. Shapes are equations in the numbers of the configuration, so that an error can say which key implied them.

use sbnc_format::manifest::Model;

/// What a tensor is for. The names of SPEC §7 are given by [`Role::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the specification documents each role; its key is the documentation")]
pub enum Role {
    Embed,
    AttnNorm,
    QInNorm,
    Q,
    QBias,
    KInNorm,
    K,
    KBias,
    VInNorm,
    V,
    VBias,
    Qkv,
    QNorm,
    KNorm,
    AttnSubNorm,
    OInNorm,
    O,
    OBias,
    FfnNorm,
    GateInNorm,
    Gate,
    GateBias,
    UpInNorm,
    Up,
    UpBias,
    GateUp,
    FfnSubNorm,
    DownInNorm,
    Down,
    DownBias,
    Norm,
    Head,
    /// A linear weight of a checkpoint without a model.
    Linear,
    /// Any other tensor of a checkpoint without a model.
    Other,
}

impl Role {
    /// The key of `model.tensors` in the manifest; `linear` and `other` are none, and occur only without a model.
    pub fn key(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::AttnNorm => "attn_norm",
            Self::QInNorm => "q_in_norm",
            Self::Q => "q",
            Self::QBias => "q_bias",
            Self::KInNorm => "k_in_norm",
            Self::K => "k",
            Self::KBias => "k_bias",
            Self::VInNorm => "v_in_norm",
            Self::V => "v",
            Self::VBias => "v_bias",
            Self::Qkv => "qkv",
            Self::QNorm => "q_norm",
            Self::KNorm => "k_norm",
            Self::AttnSubNorm => "attn_sub_norm",
            Self::OInNorm => "o_in_norm",
            Self::O => "o",
            Self::OBias => "o_bias",
            Self::FfnNorm => "ffn_norm",
            Self::GateInNorm => "gate_in_norm",
            Self::Gate => "gate",
            Self::GateBias => "gate_bias",
            Self::UpInNorm => "up_in_norm",
            Self::Up => "up",
            Self::UpBias => "up_bias",
            Self::GateUp => "gate_up",
            Self::FfnSubNorm => "ffn_sub_norm",
            Self::DownInNorm => "down_in_norm",
            Self::Down => "down",
            Self::DownBias => "down_bias",
            Self::Norm => "norm",
            Self::Head => "head",
            Self::Linear => "linear",
            Self::Other => "other",
        }
    }
}

/// A number that the configuration implies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Hidden,
    Intermediate,
    Vocab,
    HeadDim,
    /// Rows of q: heads × head width.
    Queries,
    /// Rows of k and of v: key and value heads × head width.
    Keys,
}

/// What a scheme's configuration calls its numbers.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) file: &'static str,
    pub(super) layers: &'static str,
    pub(super) hidden: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) heads: &'static str,
    pub(super) kv_heads: &'static str,
    pub(super) head_dim: &'static str,
    pub(super) vocab: &'static str,
    pub(super) tied: &'static str,
}

impl Extent {
    pub(super) fn of(self, model: &Model) -> u64 {
        match self {
            Self::Hidden => model.hidden,
            Self::Intermediate => model.intermediate,
            Self::Vocab => model.vocab,
            Self::HeadDim => model.head_dim,
            Self::Queries => model.heads * model.head_dim,
            Self::Keys => model.kv_heads * model.head_dim,
        }
    }

    /// The keys that imply the number, as in `num_attention_heads 4 × head_dim 64`.
    pub(super) fn reason(self, model: &Model, keys: &Keys) -> String {
        match self {
            Self::Hidden => format!("{} {}", keys.hidden, model.hidden),
            Self::Intermediate => format!("{} {}", keys.intermediate, model.intermediate),
            Self::Vocab => format!("{} {}", keys.vocab, model.vocab),
            Self::HeadDim => format!("{} {}", keys.head_dim, model.head_dim),
            Self::Queries => format!("{} {} × {} {}", keys.heads, model.heads, keys.head_dim, model.head_dim),
            Self::Keys => format!("{} {} × {} {}", keys.kv_heads, model.kv_heads, keys.head_dim, model.head_dim),
        }
    }
}

/// When a tensor is part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// Where the first layer stores it; every other layer must then have it too.
    Stored,
    /// Where the tensor that fuses it with others is not part of the model.
    Unfused(Role),
    SubNorms,
    QkNorms,
    QkvBias,
    OBias,
    MlpBias,
    /// Norms of every projection's input: all, none, or where the first layer stores them.
    InputNorms,
    Untied,
}

/// One row of a table.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) role: Role,
    /// Names in use for it, `{}` standing for the layer; the first one stored counts.
    pub(super) names: &'static [&'static str],
    /// Rows, one extent for each part with a scale of its own.
    pub(super) rows: &'static [Extent],
    /// Columns; a vector has none.
    pub(super) cols: Option<Extent>,
    /// Whether it is a weight that was trained to be ternary.
    pub(super) linear: bool,
    pub(super) when: When,
}

const fn linear(role: Role, names: &'static [&'static str], rows: &'static [Extent], cols: Extent) -> Slot {
    Slot { role, names, rows, cols: Some(cols), linear: true, when: When::Always }
}

const fn matrix(role: Role, names: &'static [&'static str], rows: &'static [Extent], cols: Extent) -> Slot {
    Slot { role, names, rows, cols: Some(cols), linear: false, when: When::Always }
}

const fn vector(role: Role, names: &'static [&'static str], rows: &'static [Extent]) -> Slot {
    Slot { role, names, rows, cols: None, linear: false, when: When::Always }
}

impl Slot {
    const fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }
}

/// Where a kind of checkpoint keeps the tensors of a model.
#[derive(Debug)]
pub(super) struct Scheme {
    pub(super) keys: Keys,
    pub(super) embed: Slot,
    pub(super) layer: &'static [Slot],
    pub(super) norm: Slot,
    pub(super) head: Slot,
}

use Extent::{HeadDim, Hidden, Intermediate, Queries, Vocab};
use When::{InputNorms, MlpBias, OBias, QkNorms, QkvBias, Stored, SubNorms, Unfused, Untied};

/// The Sparse-BitNet trainer's own names.
pub(super) static TRAINER: Scheme = Scheme {
    keys: Keys {
        file: "modelargs",
        layers: "n_layers",
        hidden: "d_model",
        intermediate: "d_ffn",
        heads: "head",
        kv_heads: "kv_head",
        head_dim: "d_model/head",
        vocab: "vocab_size",
        tied: "weight_tying",
    },
    embed: matrix(Role::Embed, &["tok_embeddings.weight"], &[Vocab], Hidden),
    layer: &[
        vector(Role::AttnNorm, &["layers.{}.attention_norm.weight"], &[Hidden]),
        linear(Role::Qkv, &["layers.{}.attention.wqkv.weight"], &[Queries, Extent::Keys, Extent::Keys], Hidden)
            .when(Stored),
        linear(Role::Q, &["layers.{}.attention.wq.weight"], &[Queries], Hidden).when(Unfused(Role::Qkv)),
        linear(Role::K, &["layers.{}.attention.wk.weight"], &[Extent::Keys], Hidden).when(Unfused(Role::Qkv)),
        linear(Role::V, &["layers.{}.attention.wv.weight"], &[Extent::Keys], Hidden).when(Unfused(Role::Qkv)),
        linear(Role::O, &["layers.{}.attention.wo.weight"], &[Hidden], Queries),
        vector(Role::FfnNorm, &["layers.{}.ffn_norm.weight"], &[Hidden]),
        linear(Role::GateUp, &["layers.{}.feed_forward.w13.weight"], &[Intermediate, Intermediate], Hidden)
            .when(Stored),
        linear(Role::Gate, &["layers.{}.feed_forward.w1.weight"], &[Intermediate], Hidden).when(Unfused(Role::GateUp)),
        linear(Role::Up, &["layers.{}.feed_forward.w3.weight"], &[Intermediate], Hidden).when(Unfused(Role::GateUp)),
        linear(Role::Down, &["layers.{}.feed_forward.w2.weight"], &[Hidden], Intermediate),
    ],
    norm: vector(Role::Norm, &["norm.weight"], &[Hidden]),
    head: matrix(Role::Head, &["output.weight"], &[Vocab], Hidden).when(Untied),
};

/// Names of one projection of a layer, of its bias and of the norms of its input.
macro_rules! projection {
    ($path:literal) => {
        &[concat!("model.layers.{}.", $path, ".weight")]
    };
    ($path:literal bias) => {
        &[concat!("model.layers.{}.", $path, ".bias")]
    };
    ($path:literal norm) => {
        &[concat!("model.layers.{}.", $path, ".rms_norm.weight"), concat!("model.layers.{}.", $path, ".norm.weight")]
    };
}

/// The names that the decoder models of a `config.json` folder share. The second names of the sub-norms are those of the first public
/// reproduction of BitNet b1.58.
pub(super) static FOLDER: Scheme = Scheme {
    keys: Keys {
        file: "config.json",
        layers: "num_hidden_layers",
        hidden: "hidden_size",
        intermediate: "intermediate_size",
        heads: "num_attention_heads",
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
        vocab: "vocab_size",
        tied: "tie_word_embeddings",
    },
    embed: matrix(Role::Embed, &["model.embed_tokens.weight"], &[Vocab], Hidden),
    layer: &[
        vector(Role::AttnNorm, &["model.layers.{}.input_layernorm.weight"], &[Hidden]),
        vector(Role::QInNorm, projection!("self_attn.q_proj" norm), &[Hidden]).when(InputNorms),
        linear(Role::Q, projection!("self_attn.q_proj"), &[Queries], Hidden),
        vector(Role::QBias, projection!("self_attn.q_proj" bias), &[Queries]).when(QkvBias),
        vector(Role::KInNorm, projection!("self_attn.k_proj" norm), &[Hidden]).when(InputNorms),
        linear(Role::K, projection!("self_attn.k_proj"), &[Extent::Keys], Hidden),
        vector(Role::KBias, projection!("self_attn.k_proj" bias), &[Extent::Keys]).when(QkvBias),
        vector(Role::VInNorm, projection!("self_attn.v_proj" norm), &[Hidden]).when(InputNorms),
        linear(Role::V, projection!("self_attn.v_proj"), &[Extent::Keys], Hidden),
        vector(Role::VBias, projection!("self_attn.v_proj" bias), &[Extent::Keys]).when(QkvBias),
        vector(Role::QNorm, &["model.layers.{}.self_attn.q_norm.weight"], &[HeadDim]).when(QkNorms),
        vector(Role::KNorm, &["model.layers.{}.self_attn.k_norm.weight"], &[HeadDim]).when(QkNorms),
        vector(
            Role::AttnSubNorm,
            &["model.layers.{}.self_attn.attn_sub_norm.weight", "model.layers.{}.self_attn.inner_attn_ln.weight"],
            &[Queries],
        )
        .when(SubNorms),
        vector(Role::OInNorm, projection!("self_attn.o_proj" norm), &[Queries]).when(InputNorms),
        linear(Role::O, projection!("self_attn.o_proj"), &[Hidden], Queries),
        vector(Role::OBias, projection!("self_attn.o_proj" bias), &[Hidden]).when(OBias),
        vector(Role::FfnNorm, &["model.layers.{}.post_attention_layernorm.weight"], &[Hidden]),
        vector(Role::GateInNorm, projection!("mlp.gate_proj" norm), &[Hidden]).when(InputNorms),
        linear(Role::Gate, projection!("mlp.gate_proj"), &[Intermediate], Hidden),
        vector(Role::GateBias, projection!("mlp.gate_proj" bias), &[Intermediate]).when(MlpBias),
        vector(Role::UpInNorm, projection!("mlp.up_proj" norm), &[Hidden]).when(InputNorms),
        linear(Role::Up, projection!("mlp.up_proj"), &[Intermediate], Hidden),
        vector(Role::UpBias, projection!("mlp.up_proj" bias), &[Intermediate]).when(MlpBias),
        vector(
            Role::FfnSubNorm,
            &["model.layers.{}.mlp.ffn_sub_norm.weight", "model.layers.{}.mlp.ffn_layernorm.weight"],
            &[Intermediate],
        )
        .when(SubNorms),
        vector(Role::DownInNorm, projection!("mlp.down_proj" norm), &[Intermediate]).when(InputNorms),
        linear(Role::Down, projection!("mlp.down_proj"), &[Hidden], Intermediate),
        vector(Role::DownBias, projection!("mlp.down_proj" bias), &[Hidden]).when(MlpBias),
    ],
    norm: vector(Role::Norm, &["model.norm.weight"], &[Hidden]),
    head: matrix(Role::Head, &["lm_head.weight"], &[Vocab], Hidden).when(Untied),
};

/// Names of one tensor of a layer.
macro_rules! block {
    ($name:literal) => {
        &[concat!("blk.{}.", $name)]
    };
}

/// The names in GGUF files. Biases of attention are part of some families; others are where the file has them.
pub(super) static GGUF: Scheme = Scheme {
    keys: Keys {
        file: "the GGUF metadata",
        layers: "block_count",
        hidden: "embedding_length",
        intermediate: "feed_forward_length",
        heads: "attention.head_count",
        kv_heads: "attention.head_count_kv",
        head_dim: "head width",
        vocab: "vocab_size",
        tied: "the absence of output.weight",
    },
    embed: matrix(Role::Embed, &["token_embd.weight"], &[Vocab], Hidden),
    layer: &[
        vector(Role::AttnNorm, block!("attn_norm.weight"), &[Hidden]),
        linear(Role::Q, block!("attn_q.weight"), &[Queries], Hidden),
        vector(Role::QBias, block!("attn_q.bias"), &[Queries]).when(QkvBias),
        linear(Role::K, block!("attn_k.weight"), &[Extent::Keys], Hidden),
        vector(Role::KBias, block!("attn_k.bias"), &[Extent::Keys]).when(QkvBias),
        linear(Role::V, block!("attn_v.weight"), &[Extent::Keys], Hidden),
        vector(Role::VBias, block!("attn_v.bias"), &[Extent::Keys]).when(QkvBias),
        vector(Role::QNorm, block!("attn_q_norm.weight"), &[HeadDim]).when(QkNorms),
        vector(Role::KNorm, block!("attn_k_norm.weight"), &[HeadDim]).when(QkNorms),
        vector(Role::AttnSubNorm, block!("attn_sub_norm.weight"), &[Queries]).when(SubNorms),
        linear(Role::O, block!("attn_output.weight"), &[Hidden], Queries),
        vector(Role::OBias, block!("attn_output.bias"), &[Hidden]).when(Stored),
        vector(Role::FfnNorm, block!("ffn_norm.weight"), &[Hidden]),
        linear(Role::Gate, block!("ffn_gate.weight"), &[Intermediate], Hidden),
        vector(Role::GateBias, block!("ffn_gate.bias"), &[Intermediate]).when(Stored),
        linear(Role::Up, block!("ffn_up.weight"), &[Intermediate], Hidden),
        vector(Role::UpBias, block!("ffn_up.bias"), &[Intermediate]).when(Stored),
        vector(Role::FfnSubNorm, block!("ffn_sub_norm.weight"), &[Intermediate]).when(SubNorms),
        linear(Role::Down, block!("ffn_down.weight"), &[Hidden], Intermediate),
        vector(Role::DownBias, block!("ffn_down.bias"), &[Hidden]).when(Stored),
    ],
    norm: vector(Role::Norm, &["output_norm.weight"], &[Hidden]),
    head: matrix(Role::Head, &["output.weight"], &[Vocab], Hidden).when(Untied),
};
