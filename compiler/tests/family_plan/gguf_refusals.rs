//! GGUF files that must be refused: each with its kind, and with words that name the culprit.

use sbnc::checkpoint::gguf::Value;
use sbnc::family::FamilyErrorKind::{Invalid, Unsupported};
use sbnc::family::{Dtype, FamilyErrorKind, RequestedPattern, ScaleRule};

use crate::gguf::{File, bitnet, file, llama, planned, scaled};
use crate::support::{SMALL, Sizes};

#[track_caller]
fn refused(file: File, kind: FamilyErrorKind, words: &[&str]) {
    let error = file.plan().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn other_architectures() {
    for name in ["mistral3", "gemma3", "LLAMA", "", "llama\n"] {
        let other = llama().set("general.architecture", Value::String(name.into()));
        refused(other, Unsupported, &["general.architecture", name.trim(), "bitnet-b1.58"]);
    }
    refused(llama().remove("general.architecture"), Unsupported, &["general.architecture", "no such key"]);
    refused(llama().set("general.architecture", Value::U32(1)), Invalid, &["general.architecture", "a string"]);
    refused(llama().set("general.type", Value::String("adapter".into())), Unsupported, &["general.type", "adapter"]);
    // Keys of one architecture do not describe another.
    refused(llama().set("general.architecture", Value::String("qwen2".into())), Invalid, &["qwen2.", "no such key"]);
}

#[test]
fn graphs_that_are_not_compiled() {
    let list = || Value::Array(vec![Value::U32(4), Value::U32(4)]);
    for (key, value) in [
        ("attention.head_count", list()),
        ("attention.head_count_kv", list()),
        ("feed_forward_length", list()),
        ("expert_count", Value::U32(8)),
        ("attention.causal", Value::Bool(false)),
        ("use_parallel_residual", Value::Bool(true)),
        ("attention.sliding_window", Value::U32(1024)),
        ("attention.scale", Value::F32(0.1)),
        ("attention.clamp_kqv", Value::F32(8.0)),
        ("attention.value_length", Value::U32(32)),
        ("rope.dimension_count", Value::U32(32)),
        ("rope.dimension_sections", list()),
        ("logit_scale", Value::F32(f32::NAN)),
        ("yoco_u_iters", Value::U32(2)),
        ("hidden_activation", Value::String("swish_oai".into())),
    ] {
        refused(llama().set(key, value), Unsupported, &["GGUF metadata: llama.", key]);
    }
    refused(llama().with("blk.0.ffn_gate_exps.weight", Dtype::Tq1_0, &[8, 768, 256]), Unsupported, &["MoE"]);
    planned(&llama().set("expert_count", Value::U32(0)).set("attention.clamp_kqv", Value::F32(0.0)));
}

#[test]
fn numbers_that_are_none_or_contradict_each_other() {
    for (key, value) in [
        ("block_count", Value::U32(0)),
        ("block_count", Value::F32(2.0)),
        ("block_count", Value::U64(u64::MAX)),
        ("block_count", Value::I32(-1)),
        ("block_count", Value::Array(Vec::new())),
        ("embedding_length", Value::String("256".into())),
        ("embedding_length", Value::U32(254)),
        ("context_length", Value::Bool(true)),
        ("attention.head_count", Value::U32(0)),
        ("attention.head_count_kv", Value::U32(3)),
        ("attention.key_length", Value::U32(63)),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("attention.layer_norm_rms_epsilon", Value::F32(0.0)),
        ("attention.layer_norm_rms_epsilon", Value::F64(f64::INFINITY)),
        ("rope.freq_base", Value::F32(-1.0)),
        ("rope.scaling.factor", Value::F32(0.0)),
        ("vocab_size", Value::U32(383)),
        ("tokenizer.ggml.eos_token_id", Value::U32(384)),
        ("tokenizer.ggml.bos_token_id", Value::Array(vec![Value::U32(1)])),
    ] {
        refused(llama().set(key, value), Invalid, &["GGUF metadata: ", key, "expected"]);
    }
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        refused(llama().remove(key), Invalid, &[key, "no such key"]);
    }
    refused(llama().remove("vocab_size").remove("tokenizer.ggml.tokens"), Invalid, &["vocab_size", "neither"]);
}

#[test]
fn tensors_missing_or_left_over() {
    let q1 = "blk.1.attn_q.weight";
    refused(llama().drop(q1), Invalid, &[q1, "block_count is 2", "no tensor of that name"]);
    refused(llama().drop("token_embd.weight"), Invalid, &["token_embd.weight"]);
    refused(llama().drop("output_norm.weight"), Invalid, &["output_norm.weight"]);
    refused(llama().set("block_count", Value::U32(3)), Invalid, &["blk.2.", "block_count is 3"]);
    refused(llama().set("block_count", Value::U32(1)), Invalid, &["blk.1.", "nothing would use"]);
    refused(bitnet().drop("blk.1.ffn_sub_norm.weight"), Invalid, &["blk.1.ffn_sub_norm", "sub-norms"]);
    refused(llama().with("blk.0.attn_sub_norm.weight", Dtype::F32, &[256]), Invalid, &["attn_sub_norm", "llama"]);
    refused(llama().with("blk.0.attn_q.scale", Dtype::F32, &[1]), Invalid, &["attn_q.scale", "blocks carry theirs"]);
    refused(llama().with("output.bias", Dtype::F32, &[384]), Invalid, &["output.bias", "no bias here"]);
    refused(llama().with("blk.0.ffn_up.bias", Dtype::F32, &[768]), Invalid, &["blk.1.ffn_up.bias"]);
    refused(file("qwen2", SMALL, Dtype::I2S).drop("blk.0.attn_k.bias"), Invalid, &["attn_k.bias", "qwen2"]);
    refused(file("qwen3", SMALL, Dtype::I2S).drop("blk.1.attn_q_norm.weight"), Invalid, &["attn_q_norm", "qwen3"]);
    refused(llama().with(q1, Dtype::Tq1_0, &[256, 256]), Invalid, &[q1, "two"]);
    refused(File { tensors: Vec::new(), ..llama() }, Invalid, &["token_embd.weight"]);
}

#[test]
fn shapes_and_types_that_do_not_fit() {
    let q = "blk.0.attn_q.weight";
    refused(
        llama().change(q, Dtype::Tq1_0, &[128, 256]),
        Invalid,
        &[q, "[256, 256]", "[128, 256]", "attention.head_count 4", "embedding_length 256"],
    );
    refused(llama().change(q, Dtype::Tq1_0, &[u64::MAX, u64::MAX]), Invalid, &[q]);
    refused(llama().change("output_norm.weight", Dtype::F32, &[1, 256]), Invalid, &["output_norm.weight"]);
    refused(llama().change("token_embd.weight", Dtype::F16, &[383, 256]), Invalid, &["token_embd", "vocab_size 384"]);
    for dtype in [Dtype::Tq1_0, Dtype::I2S] {
        let quantised = llama().change("token_embd.weight", dtype, &[384, 256]);
        refused(quantised, Unsupported, &["token_embd.weight", dtype.name(), "F16"]);
        let quantised = llama().with("output.weight", dtype, &[384, 256]);
        refused(quantised, Unsupported, &["output.weight", dtype.name()]);
    }
    for dtype in [Dtype::F16, Dtype::F32, Dtype::I8, Dtype::F64] {
        refused(llama().change(q, dtype, &[256, 256]), Unsupported, &[q, dtype.name(), "ternary blocks", "--ternary"]);
    }
    refused(llama().change("blk.0.attn_norm.weight", Dtype::I8, &[256]), Unsupported, &["attn_norm", "I8"]);
}

#[test]
fn scalings_of_the_rotation() {
    refused(scaled("longrope"), Unsupported, &["llama.rope.scaling.type", "longrope"]);
    refused(scaled("yarn").set("rope.scale_linear", Value::F32(2.0)), Invalid, &["rope.scale_linear", "agree"]);
    refused(scaled("yarn").set("rope.scaling.attn_factor", Value::F32(2.0)), Unsupported, &["attn_factor"]);
    refused(scaled("yarn").set("rope.scaling.yarn_beta_fast", Value::F32(2.0)), Unsupported, &["yarn_beta_fast"]);
    let factors = llama().with("rope_freqs.weight", Dtype::F32, &[32]);
    refused(factors, Unsupported, &["rope_freqs.weight", "compile the checkpoint"]);
}

#[test]
fn options_that_make_no_sense() {
    let odd = Sizes { hidden: 252, head_dim: 62, heads: 4, ..SMALL };
    let straddling = file("bitnet-b1.58", odd, Dtype::I2S)
        .set("attention.key_length", Value::U32(62))
        .option(|options| options.pattern = RequestedPattern::Nm(6, 8));
    refused(straddling, Invalid, &["attn_q.weight", "252 inputs", "6:8"]);
    refused(llama().option(|o| o.force_quantize = true), Invalid, &["--force-quantize", "ternary blocks"]);
    refused(llama().option(|o| o.packed_scale = Some(ScaleRule::Divide)), Invalid, &["--packed-scale"]);
    refused(llama().option(|o| o.include = vec!["*".into()]), Invalid, &["--include"]);
    refused(llama().option(|o| o.pattern = RequestedPattern::Nm(4, 4)), Invalid, &["--nm", "4:4"]);
}

#[test]
fn no_value_of_any_key_is_a_panic() {
    let values = [
        Value::U8(0),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F32(f32::NEG_INFINITY),
        Value::F64(f64::MAX),
        Value::Bool(true),
        Value::String("\u{0}\u{1b}[2J".into()),
        Value::Array(vec![Value::U32(u32::MAX); 3]),
    ];
    let mut answers = 0;
    for base in [llama(), bitnet()] {
        for key in base.metadata.keys() {
            for value in &values {
                let mut spoilt = base.clone();
                spoilt.metadata.insert(key.clone(), value.clone());
                if let Err(error) = spoilt.plan() {
                    assert!(!error.to_string().contains('\u{1b}'), "{key}");
                }
                answers += 1;
            }
        }
    }
    assert!(answers > 200, "{answers}");
}
