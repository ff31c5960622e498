//! GGUF files of ternary blocks: published ones described at full size, and the ways in which their metadata varies.

use sbnc::checkpoint::gguf::{Metadata, Value};
use sbnc::family::{
    Dtype, FamilyError, GgufFacts, Options, Plan, RequestedPattern, Role, Source, SourceKind, TensorFact, plan_gguf,
};
use sbnc_format::manifest::{RopeStyle, RopeValue};

use crate::golden::check_manifest;
use crate::support::{SMALL, Sizes, tensor};

/// A file that owns its metadata.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) architecture: &'static str,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorFact>,
    pub(crate) options: Options,
}

impl File {
    pub(crate) fn plan(&self) -> Result<Plan, FamilyError> {
        plan_gguf(&GgufFacts { metadata: &self.metadata, tensors: &self.tensors }, &self.options)
    }

    /// Sets a key below the architecture, or a whole key.
    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        let whole = key.starts_with("general.") || key.starts_with("tokenizer.");
        let key = if whole { key.to_owned() } else { format!("{}.{key}", self.architecture) };
        self.metadata.insert(key, value);
        self
    }

    pub(crate) fn remove(mut self, key: &str) -> Self {
        let removed = self.metadata.remove(key).or(self.metadata.remove(&format!("{}.{key}", self.architecture)));
        assert!(removed.is_some(), "{key}");
        self
    }

    pub(crate) fn with(mut self, name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        self.tensors.push(tensor(name, dtype, shape));
        self
    }

    pub(crate) fn drop(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|fact| fact.name != name);
        assert_eq!(self.tensors.len() + 1, before, "{name}");
        self
    }

    pub(crate) fn change(self, name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        self.drop(name).with(name, dtype, shape)
    }

    pub(crate) fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }
}

/// A file without a head, as converters write it.
pub(crate) fn file(architecture: &'static str, sizes: Sizes, blocks: Dtype) -> File {
    let Sizes { hidden, intermediate, layers, heads, kv_heads, head_dim, vocab } = sizes;
    let int = |n: u64| Value::U32(n as u32);
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    let mut tensors = vec![
        tensor("token_embd.weight", Dtype::F16, &[vocab, hidden]),
        tensor("output_norm.weight", Dtype::F32, &[hidden]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, dtype, shape: &[u64]| {
            tensors.push(tensor(&format!("blk.{layer}.{name}"), dtype, shape));
        };
        add("attn_norm.weight", Dtype::F32, &[hidden]);
        add("ffn_norm.weight", Dtype::F32, &[hidden]);
        add("attn_q.weight", blocks, &[queries, hidden]);
        add("attn_k.weight", blocks, &[keys, hidden]);
        add("attn_v.weight", blocks, &[keys, hidden]);
        add("attn_output.weight", blocks, &[hidden, queries]);
        add("ffn_gate.weight", blocks, &[intermediate, hidden]);
        add("ffn_up.weight", blocks, &[intermediate, hidden]);
        add("ffn_down.weight", blocks, &[hidden, intermediate]);
        if architecture.starts_with("bitnet") {
            add("attn_sub_norm.weight", Dtype::F32, &[queries]);
            add("ffn_sub_norm.weight", Dtype::F32, &[intermediate]);
        }
        if architecture == "qwen2" {
            add("attn_q.bias", Dtype::F32, &[queries]);
            add("attn_k.bias", Dtype::F32, &[keys]);
            add("attn_v.bias", Dtype::F32, &[keys]);
        }
        if architecture == "qwen3" {
            add("attn_q_norm.weight", Dtype::F32, &[head_dim]);
            add("attn_k_norm.weight", Dtype::F32, &[head_dim]);
        }
    }
    let file = File { architecture, metadata: Metadata::new(), tensors, options: Options::default() };
    file.set("general.architecture", Value::String(architecture.to_owned()))
        .set("general.file_type", int(40))
        .set("block_count", int(layers))
        .set("context_length", int(4096))
        .set("embedding_length", int(hidden))
        .set("feed_forward_length", int(intermediate))
        .set("attention.head_count", int(heads))
        .set("attention.head_count_kv", int(kv_heads))
        .set("attention.layer_norm_rms_epsilon", Value::F32(1e-5))
        .set("rope.dimension_count", int(head_dim))
        .set("rope.freq_base", Value::F32(500_000.0))
        .set("vocab_size", int(vocab))
        .set("tokenizer.ggml.model", Value::String("gpt2".into()))
        .set("tokenizer.ggml.tokens", Value::Array(vec![Value::String("t".into()); vocab as usize]))
        .set("tokenizer.ggml.bos_token_id", int(1))
        .set("tokenizer.ggml.eos_token_id", int(2))
}

pub(crate) fn llama() -> File {
    file("llama", Sizes { intermediate: 768, ..SMALL }, Dtype::Tq1_0)
}

pub(crate) fn bitnet() -> File {
    file("bitnet-b1.58", SMALL, Dtype::I2S)
}

/// A file with the rotation scaled in this way.
pub(crate) fn scaled(kind: &str) -> File {
    let file = llama().set("rope.scaling.type", Value::String(kind.into()));
    file.set("rope.scaling.factor", Value::F32(4.0)).set("rope.scaling.original_context_length", Value::U32(1024))
}

#[track_caller]
pub(crate) fn planned(file: &File) -> Plan {
    let plan = file.plan().unwrap_or_else(|error| panic!("{error}"));
    check_manifest(&plan);
    plan
}

fn blocks(plan: &Plan) -> usize {
    plan.tensors.iter().filter(|planned| planned.source == Source::Blocks).count()
}

fn notes(plan: &Plan, words: &str) -> bool {
    plan.notes.iter().any(|note| note.contains(words))
}

#[test]
fn bitnet_b158_2b_4t_in_i2s() {
    let sizes =
        Sizes { hidden: 2560, intermediate: 6912, layers: 30, heads: 20, kv_heads: 5, head_dim: 128, vocab: 128_256 };
    for architecture in ["bitnet-b1.58", "bitnet-25"] {
        let file = file(architecture, sizes, Dtype::I2S)
            .set("rope.scaling.type", Value::String("linear".into()))
            .set("rope.scaling.factor", Value::F32(1.0))
            .set("tokenizer.ggml.eot_token_id", Value::U32(128_009))
            .set("tokenizer.ggml.eos_token_id", Value::U32(128_001));
        let plan = planned(&file);
        assert_eq!((plan.kind, plan.kind.name(), plan.pattern), (SourceKind::Gguf, "gguf", None));
        assert_eq!((plan.tensors.len(), blocks(&plan)), (332, 210));
        let model = plan.model.as_ref().unwrap();
        assert_eq!((model.family.as_str(), model.activation.as_str(), model.tied), ("bitnet", "relu2", true));
        assert_eq!((model.head_dim, model.vocab, model.context), (128, 128_256, 4096));
        assert_eq!((model.rope.style, model.rope.scaling.as_ref()), (RopeStyle::Half, None));
        assert_eq!((model.rope.theta.value(), model.norm_eps.value()), (Some(500_000.0), Some(1e-5)));
        assert_eq!(model.tokens.eos, Some(vec![128_001, 128_009]));
        let roles: Vec<_> = plan.tensors.iter().take(12).map(|planned| planned.role.key()).collect();
        let layer =
            ["attn_norm", "q", "k", "v", "attn_sub_norm", "o", "ffn_norm", "gate", "up", "ffn_sub_norm", "down"];
        assert_eq!(roles, [&["embed"][..], &layer].concat());
        assert!(notes(&plan, "tokenizer") && !notes(&plan, "SiLU"));
    }
}

#[test]
fn doubts_about_a_graph_are_said() {
    let file = file("bitnet", SMALL, Dtype::Tq2_0);
    let plan = planned(&file);
    let model = plan.model.as_ref().unwrap();
    assert_eq!((model.family.as_str(), model.activation.as_str()), ("bitnet", "silu"));
    assert_eq!(model.rope.style, RopeStyle::Half);
    assert!(notes(&plan, "SiLU"));
    let named = planned(&file.set("hidden_activation", Value::String("relu2".into())));
    assert_eq!(named.model.as_ref().unwrap().activation, "relu2");
    assert!(!notes(&named, "SiLU"));
    let untied = planned(&bitnet().with("output.weight", Dtype::F16, &[384, 256]));
    assert!(!untied.model.as_ref().unwrap().tied && notes(&untied, "output.weight is the head"));
}

#[test]
fn llama_in_tq_pairs_neighbours() {
    let sizes =
        Sizes { hidden: 4096, intermediate: 14_336, layers: 32, heads: 32, kv_heads: 8, head_dim: 128, vocab: 128_256 };
    for dtype in [Dtype::Tq1_0, Dtype::Tq2_0] {
        let tied = file("llama", sizes, dtype);
        let untied = tied.clone().with("output.weight", Dtype::F16, &[128_256, 4096]);
        let plan = planned(&untied);
        let model = plan.model.as_ref().unwrap();
        assert_eq!((model.family.as_str(), model.activation.as_str(), model.tied), ("llama", "silu", false));
        assert_eq!(model.rope.style, RopeStyle::Interleaved);
        assert_eq!((blocks(&plan), plan.tensors.len()), (7 * 32, 3 + 9 * 32));
        let head = plan.tensors.last().unwrap();
        assert_eq!((head.role, head.name.as_str(), &head.source), (Role::Head, "output.weight", &Source::Keep));
        let plan = planned(&tied);
        assert!(plan.model.as_ref().unwrap().tied);
        assert_eq!(plan.tensors.last().unwrap().role, Role::Norm);
        assert!(plan.duplicates.is_empty());
    }
}

#[test]
fn qwen_pairs_halves() {
    let plan = planned(&file("qwen2", SMALL, Dtype::I2S));
    let model = plan.model.unwrap();
    assert_eq!((model.family.as_str(), model.rope.style), ("qwen2", RopeStyle::Half));
    assert_eq!(model.tensors["v_bias"], "blk.{}.attn_v.bias");
    let sizes = Sizes { head_dim: 128, ..SMALL };
    let wide = file("qwen3", sizes, Dtype::I2S)
        .set("attention.key_length", Value::U32(128))
        .set("attention.value_length", Value::U32(128));
    let plan = planned(&wide);
    assert_eq!(plan.model.as_ref().unwrap().head_dim, 128);
    let q_norm = plan.tensors.iter().find(|planned| planned.role == Role::QNorm).unwrap();
    assert_eq!(q_norm.shape, [128]);
}

#[test]
fn what_is_optional() {
    let mut biased = llama();
    for layer in 0..2 {
        for (name, rows) in [("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("ffn_down", 256)] {
            biased = biased.with(&format!("blk.{layer}.{name}.bias"), Dtype::F32, &[rows]);
        }
    }
    let model = planned(&biased).model.unwrap();
    assert!(model.tensors.contains_key("q_bias") && model.tensors.contains_key("down_bias"));
    assert!(!model.tensors.contains_key("o_bias"));

    let bare = llama()
        .remove("vocab_size")
        .remove("rope.freq_base")
        .remove("rope.dimension_count")
        .remove("tokenizer.ggml.bos_token_id")
        .set("tokenizer.ggml.padding_token_id", Value::U32(u32::MAX))
        .set("attention.sliding_window", Value::U32(4096));
    let plan = planned(&bare);
    let model = plan.model.as_ref().unwrap();
    assert_eq!((model.vocab, model.rope.theta.value()), (384, Some(10_000.0)));
    assert_eq!((model.tokens.bos, model.tokens.pad, model.window), (None, None, None));
    assert!(notes(&plan, "padding_token_id"));
    let heads = planned(&file("llama", Sizes { kv_heads: 4, ..SMALL }, Dtype::I2S).remove("attention.head_count_kv"));
    assert_eq!(heads.model.unwrap().kv_heads, 4);
    let unknown = planned(&llama().set("mood", Value::Bool(true)).set("noise", Value::U8(1)));
    assert!(notes(&unknown, "llama.mood and 1 more"));
}

#[test]
fn scalings_of_the_rotation() {
    let rope = |file: &File| planned(file).model.unwrap().rope.scaling;
    let yarn = rope(&scaled("yarn")).unwrap();
    assert_eq!(
        (&yarn["rope_type"], &yarn["factor"]),
        (&RopeValue::Text("yarn".into()), &RopeValue::Text("4.0".into()))
    );
    assert_eq!(yarn["original_max_position_embeddings"], RopeValue::Integer(1024));
    assert_eq!(rope(&scaled("linear")).unwrap().len(), 2);
    assert_eq!(rope(&scaled("none")), None);
    assert_eq!(
        rope(&llama().set("rope.scale_linear", Value::F32(2.0))).unwrap()["factor"],
        RopeValue::Text("2.0".into())
    );
}

#[test]
fn patterns_are_checked_and_three_values_taken_over() {
    let plan = planned(&bitnet().option(|options| options.pattern = RequestedPattern::Nm(2, 4)));
    assert_eq!(plan.pattern, Some((2, 4)));
    let dense = file("bitnet", SMALL, Dtype::F16).option(|options| options.already_ternary = true);
    let plan = planned(&dense);
    assert_eq!(plan.kind, SourceKind::Gguf);
    assert!(plan.tensors.iter().any(|planned| planned.source == Source::Ternary { scale: None }));
}
