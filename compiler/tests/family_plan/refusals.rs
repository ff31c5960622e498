//! Descriptions that must be refused: each with its kind, and with words that name the culprit.

use sbnc::family::FamilyErrorKind::{Invalid, Unsupported};
use sbnc::family::{Dtype, Facts, FamilyErrorKind, Options, RequestedPattern, ScaleRule, plan};
use serde_json::{Value, json};

use crate::support::{Checkpoint, SMALL, Stored, folder, online_llama, packed_llama, tensor, trainer};

#[track_caller]
fn refused(checkpoint: Checkpoint, kind: FamilyErrorKind, words: &[&str]) {
    let error = checkpoint.plan().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert_eq!(error.exit_code(), if kind == Invalid { 3 } else { 5 });
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

fn latent_bitnet() -> Checkpoint {
    folder("bitnet", SMALL, Stored::Latent).set("hidden_act", json!("relu2"))
}

const Q0: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn texts_that_are_no_configuration() {
    let text = |config: &str, word: &str| {
        let facts = Facts { config: Some(config), ..Facts::default() };
        let error = plan(&facts, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), Invalid, "{error}");
        assert!(error.to_string().starts_with("config.json") && error.to_string().contains(word), "{error}");
    };
    text("", "EOF");
    text("[]", "an object");
    text("{\"a\": 1} x", "trailing");
    text("{\"hidden_size\": 1, \"hidden_size\": 2}", "key \"hidden_size\" occurs twice");
    text("{\"x\": {\"y\": [{\"z\": 1, \"z\": 1}]}}", "key \"z\" occurs twice");
    text("{\"rope_theta\": 1e999}", "out of range");
    text("{\"rope_theta\": NaN}", "expected");
    text(&"[".repeat(100_000), "recursion");
    text(&format!("{{\"a\": \"{}\"}}", "x".repeat(4 << 20)), "at most 4194304 bytes");
}

#[test]
fn numbers_that_are_none_or_beyond_the_limits() {
    for (key, value) in [
        ("hidden_size", json!("256")),
        ("hidden_size", json!(256.0)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(u64::MAX)),
        ("hidden_size", json!([256])),
        ("num_hidden_layers", json!(-1)),
        ("num_hidden_layers", json!(1025)),
        ("num_attention_heads", json!(1_000_000_000_000_u64)),
        ("num_key_value_heads", json!(3)),
        ("vocab_size", json!(4_194_305)),
        ("intermediate_size", json!(true)),
        ("max_position_embeddings", json!(null)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!("1e-5")),
        ("rope_theta", json!(-1.0)),
        ("tie_word_embeddings", json!("false")),
        ("eos_token_id", json!(384)),
        ("eos_token_id", json!([2, "3"])),
        ("bos_token_id", json!({})),
        ("head_dim", json!(63)),
        ("hidden_act", json!(7)),
        ("architectures", json!("LlamaForCausalLM")),
        ("quantization_config", json!("bitnet")),
    ] {
        refused(online_llama().set(key, value), Invalid, &["config.json: ", key, "expected"]);
    }
    refused(
        online_llama().set("num_attention_heads", json!(6)).set("num_key_value_heads", json!(6)),
        Invalid,
        &["hidden_size", "multiple of num_attention_heads, 6"],
    );
}

#[test]
fn models_of_other_kinds() {
    for (key, value, words) in [
        ("model_type", json!("gemma3_text"), "bitnet, llama, mistral, qwen2, qwen3"),
        ("hidden_act", json!("gelu_pytorch_tanh"), "hidden_act"),
        ("num_local_experts", json!(8), "num_local_experts"),
        ("vision_config", json!({}), "vision_config"),
        ("weight_bits", json!(2), "weight_bits"),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        ("quantization_config", json!({"quant_method": "gptq"}), "quant_method"),
        ("quantization_config", json!({"quant_method": "bitnet", "linear_class": "bit2linear"}), "bit2linear"),
    ] {
        refused(online_llama().set(key, value), Unsupported, &[words]);
    }
    refused(online_llama().remove("model_type"), Unsupported, &["model_type", "no such key"]);
    let experts = online_llama().with("model.layers.0.mlp.experts.0.w1.weight", Dtype::BF16, &[8, 8]);
    refused(experts, Unsupported, &["mlp.experts.0", "MoE"]);
}

#[test]
fn an_ordinary_model() {
    for model_type in ["llama", "mistral", "qwen2", "qwen3"] {
        let words = ["quantization_config", "trained to be ternary", model_type, "--force-quantize"];
        refused(folder(model_type, SMALL, Stored::Latent), Unsupported, &words);
    }
    let both = folder("llama", SMALL, Stored::Latent).option(|options| {
        options.force_quantize = true;
        options.already_ternary = true;
    });
    refused(both, Invalid, &["--force-quantize", "--ternary"]);
}

#[test]
fn tensors_missing_or_left_over() {
    refused(online_llama().drop(Q0), Invalid, &[Q0, "num_hidden_layers is 2", "no tensor of that name"]);
    refused(online_llama().drop("model.layers.1.mlp.up_proj.weight"), Invalid, &["layers.1.mlp.up_proj"]);
    refused(
        online_llama().set("num_hidden_layers", json!(3)),
        Invalid,
        &["model.layers.2.input_layernorm.weight", "num_hidden_layers is 3"],
    );
    refused(online_llama().set("num_hidden_layers", json!(1)), Invalid, &["model.layers.1.", "num_hidden_layers 1"]);
    refused(online_llama().drop("lm_head.weight"), Invalid, &["lm_head.weight", "tie_word_embeddings is false"]);
    refused(online_llama().drop("model.norm.weight"), Invalid, &["model.norm.weight"]);
    refused(
        online_llama().with("adapter.weight", Dtype::BF16, &[1]),
        Invalid,
        &["adapter.weight", "nothing would use"],
    );
    let biased = online_llama().with("model.layers.0.self_attn.q_proj.bias", Dtype::BF16, &[256]);
    refused(biased, Invalid, &["q_proj.bias", "no bias here"]);
    refused(online_llama().set("attention_bias", json!(true)), Invalid, &["q_proj.bias", "attention_bias"]);
    refused(online_llama().set("mlp_bias", json!(true)), Invalid, &["gate_proj.bias", "mlp_bias is true"]);
    refused(
        latent_bitnet().drop("model.layers.1.mlp.ffn_sub_norm.weight"),
        Invalid,
        &["layers.1.mlp.ffn_sub_norm", "sub-norms"],
    );
    refused(online_llama().set("weight_bits", json!(1)), Invalid, &["attn_sub_norm", "bitnet family"]);
    let twice = online_llama().with(Q0, Dtype::BF16, &[256, 256]);
    refused(twice, Invalid, &[Q0, "two"]);
    let nothing = Checkpoint { tensors: Vec::new(), ..online_llama() };
    refused(nothing, Invalid, &["model.embed_tokens.weight"]);
    refused(online_llama().with("a\nb", Dtype::F32, &[1]), Invalid, &["a\\nb", "printable ASCII"]);
    refused(online_llama().with(&"n".repeat(5000), Dtype::F32, &[1]), Invalid, &["nnn…", "5000 bytes"]);
}

#[test]
fn shapes_that_the_configuration_does_not_imply() {
    refused(
        online_llama().change(Q0, Dtype::BF16, &[256, 128]),
        Invalid,
        &[Q0, "[256, 256]", "[256, 128]", "num_attention_heads 4 × head_dim 64", "hidden_size 256"],
    );
    refused(online_llama().change(Q0, Dtype::BF16, &[65_536]), Invalid, &[Q0, "[65536]"]);
    refused(online_llama().change(Q0, Dtype::BF16, &[u64::MAX, u64::MAX, 2]), Invalid, &[Q0, "18446744073709551615"]);
    refused(online_llama().change(Q0, Dtype::BF16, &[]), Invalid, &[Q0, "found []"]);
    refused(online_llama().set("num_key_value_heads", json!(4)), Invalid, &["k_proj", "num_key_value_heads 4"]);
    refused(online_llama().set("intermediate_size", json!(641)), Invalid, &["gate_proj", "intermediate_size 641"]);
    refused(online_llama().set("vocab_size", json!(383)), Invalid, &["embed_tokens", "vocab_size 383"]);
    refused(online_llama().set("head_dim", json!(32)), Invalid, &["q_proj", "head_dim 32"]);
    refused(packed_llama().change(Q0, Dtype::U8, &[256, 256]), Invalid, &[Q0, "[64, 256]", "÷ 4"]);
    let odd = packed_llama().set("intermediate_size", json!(642));
    refused(odd, Invalid, &["gate_proj", "642 rows", "multiple of 4"]);
    let tied = online_llama().set("tie_word_embeddings", json!(true)).change("lm_head.weight", Dtype::F32, &[384, 256]);
    refused(tied, Invalid, &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn types_that_the_storage_does_not_allow() {
    refused(online_llama().change(Q0, Dtype::U8, &[64, 256]), Invalid, &[Q0, "autobitlinear, online", "U8"]);
    refused(online_llama().change(Q0, Dtype::I64, &[256, 256]), Unsupported, &[Q0, "I64"]);
    refused(online_llama().change(Q0, Dtype::I2S, &[256, 256]), Unsupported, &[Q0, "I2_S"]);
    refused(online_llama().change("model.norm.weight", Dtype::F64, &[256]), Unsupported, &["model.norm.weight", "F64"]);
    refused(packed_llama().change("lm_head.weight", Dtype::U8, &[96, 256]), Unsupported, &["lm_head.weight", "U8"]);
    refused(packed_llama().change(Q0, Dtype::BF16, &[256, 256]), Invalid, &[Q0, "packed trits, U8"]);
    refused(
        trainer(SMALL, true).change("layers.0.attention.wqkv.weight", Dtype::U8, &[128, 256]),
        Invalid,
        &["wqkv", "modelargs"],
    );
}

#[test]
fn scales() {
    let name = "model.layers.0.self_attn.q_proj.weight_scale";
    refused(packed_llama().drop(name), Invalid, &[name, "packed"]);
    refused(packed_llama().change(name, Dtype::BF16, &[256]), Unsupported, &[name, "[256]"]);
    refused(packed_llama().change(name, Dtype::BF16, &[0]), Unsupported, &[name, "[0]"]);
    refused(packed_llama().change(name, Dtype::U8, &[1]), Invalid, &[name, "floating-point"]);
    refused(online_llama().with(name, Dtype::BF16, &[1]), Invalid, &[Q0, "no scale beside it"]);
    let undeclared = folder("llama", SMALL, Stored::Packed);
    refused(undeclared.clone(), Invalid, &[name, "--packed-scale divide or --packed-scale multiply"]);
    let latent = folder("llama", SMALL, Stored::Latent).set("quantization_config", json!({"quant_method": "bitnet"}));
    refused(latent, Invalid, &[Q0, "bitlinear", "--force-quantize"]);
    let other = packed_llama().option(|options| options.packed_scale = Some(ScaleRule::Multiply));
    refused(other, Invalid, &["--packed-scale", "divide", "multiply"]);
    let dense = packed_llama().set("quantization_config.modules_to_not_convert", json!(["lm_head", "q_proj"]));
    refused(dense.clone(), Unsupported, &[Q0, "U8"]);
    let dense = dense.change(Q0, Dtype::BF16, &[256, 256]).change(
        "model.layers.1.self_attn.q_proj.weight",
        Dtype::BF16,
        &[256, 256],
    );
    refused(dense, Invalid, &[name, "left dense"]);
}

#[test]
fn quantization_that_contradicts_itself() {
    let set = |key: &str, value: Value| online_llama().set(&format!("quantization_config.{key}"), value);
    refused(set("quantization_mode", json!("sometimes")), Unsupported, &["quantization_mode", "sometimes"]);
    refused(set("offline_quantization", json!(true)), Invalid, &["quantization_mode", "offline_quantization"]);
    refused(set("modules_to_not_convert", json!("lm_head")), Invalid, &["modules_to_not_convert", "list of strings"]);
    refused(set("modules_to_not_convert", json!(["(a|b)*"])), Unsupported, &["modules_to_not_convert", "(a|b)*"]);
    refused(set("modules_to_not_convert", json!([])), Unsupported, &["modules_to_not_convert", "lm_head"]);
    refused(
        set("modules_to_not_convert", json!(vec!["x".repeat(200); 100])),
        Invalid,
        &["modules_to_not_convert", "20000"],
    );
    refused(set("use_rms_norm", json!(true)), Invalid, &["q_proj.rms_norm.weight", "use_rms_norm"]);
    refused(
        set("use_rms_norm", json!(true)).set("quantization_config.rms_norm_eps", json!(1e-6)),
        Unsupported,
        &["quantization_config.rms_norm_eps", "1e-5"],
    );
    let forbidden =
        set("use_rms_norm", json!(false)).with("model.layers.0.mlp.up_proj.rms_norm.weight", Dtype::BF16, &[256]);
    refused(forbidden, Invalid, &["up_proj.rms_norm.weight"]);
    let half =
        set("linear_class", json!("autobitlinear")).with("model.layers.0.mlp.up_proj.norm.weight", Dtype::BF16, &[256]);
    refused(half, Invalid, &["layers.1.mlp.up_proj.norm.weight"]);
}

#[test]
fn nothing_to_make_ternary() {
    let all = online_llama().set("quantization_config.modules_to_not_convert", json!(["lm_head", "model"]));
    refused(all, Invalid, &["modules_to_not_convert", "at least one linear weight"]);
    let vector = Checkpoint { tensors: vec![tensor("norm", Dtype::F32, &[8])], ..Checkpoint::default() };
    refused(vector, Invalid, &["at least one linear weight", "--include"]);
}

#[test]
fn spellings_that_disagree() {
    refused(
        online_llama().set("rope_parameters", json!({"rope_theta": 1e4})),
        Invalid,
        &["rope_theta", "rope_parameters.rope_theta"],
    );
    refused(online_llama().set("dtype", json!("float16")), Invalid, &["dtype", "bfloat16"]);
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0});
    let both =
        online_llama().set("rope_scaling", llama3.clone()).set("rope_parameters", json!({"rope_type": "default"}));
    refused(both, Invalid, &["rope_scaling", "no scaling"]);
    refused(
        online_llama().set("rope_scaling", json!({"type": "linear", "rope_type": "yarn"})),
        Invalid,
        &["rope_scaling.rope_type"],
    );
    refused(
        online_llama().set("rope_scaling", json!({"type": "proportional", "factor": 1.0})),
        Unsupported,
        &["rope_scaling.type", "longrope", "proportional"],
    );
    refused(
        online_llama().set("rope_scaling", json!({"type": "longrope", "short_factor": ["1.0"]})),
        Unsupported,
        &["rope_scaling.short_factor", "a list of numbers", "a list of 1"],
    );
    refused(online_llama().set("rope_scaling", json!({"factor": 2.0})), Unsupported, &["rope_scaling.rope_type"]);
    refused(online_llama().set("rope_scaling", json!([1])), Invalid, &["rope_scaling", "an object"]);
}

#[test]
fn windows_that_differ_by_layer() {
    let qwen = || folder("qwen2", SMALL, Stored::Latent).option(|options| options.force_quantize = true);
    let sliding = qwen().set("use_sliding_window", json!(true)).set("sliding_window", json!(64));
    refused(sliding.clone().set("max_window_layers", json!(1)), Unsupported, &["sliding_window", "1 of 2 layers"]);
    let mixed = json!(["full_attention", "sliding_attention"]);
    refused(sliding.clone().set("layer_types", mixed), Unsupported, &["sliding_window"]);
    refused(sliding.clone().set("layer_types", json!(["full_attention"])), Invalid, &["layer_types", "2 entries"]);
    refused(sliding.set("layer_types", json!(["full_attention", "ssm"])), Unsupported, &["layer_types", "ssm"]);
}

#[test]
fn trainer_arguments() {
    let set = |key: &str, value: Value| trainer(SMALL, true).set_arg(key, value);
    for (key, value) in [
        ("bitlinear", json!(false)),
        ("universal_n_group", json!(2)),
        ("universal_repeat_time", json!(3)),
        ("moe_freq", json!(2)),
        ("n_experts", json!(4)),
        ("sparse_m", json!(32)),
    ] {
        refused(set(key, value), Unsupported, &["metadata.json: modelargs.", key]);
    }
    refused(set("bitlinear", json!(false)), Unsupported, &["BF16 baseline"]);
    for (key, value) in [
        ("d_model", json!("256")),
        ("d_model", json!(258)),
        ("kv_head", json!(3)),
        ("n_layers", json!(null)),
        ("sparse_n", json!(0)),
        ("sparse_n", json!(9)),
        ("a4", json!(1)),
        ("vocab_size", json!(1e9)),
    ] {
        refused(set(key, value), Invalid, &["metadata.json: modelargs.", key]);
    }
    let mut copy = trainer(SMALL, true);
    copy.config = Some(json!({"sparse_bitnet_modelargs": {"sparse_n": 2}}));
    refused(copy, Invalid, &["modelargs.sparse_n", "config.json"]);
}

#[test]
fn trainer_tensors() {
    let both = trainer(SMALL, true).with("layers.0.attention.wq.weight", Dtype::BF16, &[256, 256]);
    refused(both, Invalid, &["layers.0.attention.wq.weight", "nothing would use"]);
    let mixed = trainer(SMALL, true).drop("layers.1.feed_forward.w13.weight");
    refused(mixed, Invalid, &["layers.1.feed_forward.w13.weight"]);
    let experts = trainer(SMALL, true).with("layers.0.feed_forward.experts.w1", Dtype::BF16, &[4, 8, 8]);
    refused(experts, Unsupported, &["experts.w1", "MoE"]);
    let repeated = trainer(SMALL, true).rename("layers.", "layers.0.");
    refused(repeated, Invalid, &["layers.0."]);
    let wide = trainer(SMALL, true).change("layers.0.attention.wqkv.weight", Dtype::BF16, &[768, 256]);
    refused(wide, Invalid, &["wqkv", "[512, 256]", "kv_head 2"]);
    refused(trainer(SMALL, true).option(|options| options.include = vec!["*".into()]), Invalid, &["--include"]);
    refused(trainer(SMALL, true).option(|options| options.already_ternary = true), Invalid, &["--ternary"]);
}

#[test]
fn patterns() {
    let asked =
        |checkpoint: Checkpoint, n, m| checkpoint.option(|options| options.pattern = RequestedPattern::Nm(n, m));
    for (n, m) in [(0, 4), (4, 4), (5, 4), (2, 17), (255, 255)] {
        refused(asked(online_llama(), n, m), Invalid, &["--nm", &format!("{n}:{m}")]);
    }
    refused(asked(online_llama(), 4, 6), Invalid, &[Q0, "groups of 6", "256 inputs"]);
    refused(asked(packed_llama(), 5, 7), Invalid, &[Q0, "groups of 7"]);
    let declared = packed_llama().set("use_weight_semi_sparse", json!(true));
    refused(asked(declared, 6, 8), Invalid, &["--nm", "2:4", "6:8"]);
}

#[test]
fn bare_weights() {
    let bare = |name: &str, dtype, shape: &[u64]| Checkpoint {
        tensors: vec![tensor(name, dtype, shape)],
        ..Checkpoint::default()
    };
    let packed = bare("w.weight", Dtype::U8, &[4, 8]);
    refused(packed.clone(), Invalid, &["w.weight_scale", "packed"]);
    refused(packed.with("w.weight_scale", Dtype::F32, &[1]), Invalid, &["w.weight_scale", "--packed-scale divide"]);
    refused(bare("layers.0.attention.wqkv.weight", Dtype::BF16, &[8, 8]), Invalid, &["wqkv", "metadata.json"]);
    refused(bare("w", Dtype::U8, &[1 << 62, 8]), Invalid, &["tensor w", "2147483648"]);
    refused(bare("w", Dtype::BF16, &[u64::MAX, u64::MAX]), Invalid, &["tensor w"]);
    refused(bare("w", Dtype::BF16, &[0, 8]), Invalid, &["tensor w", "[0, 8]"]);
    refused(bare("w", Dtype::BF16, &[1; 5]), Invalid, &["tensor w", "dimensions"]);
    refused(bare("ids", Dtype::I64, &[8]), Unsupported, &["ids", "I64"]);
    refused(Checkpoint::default(), Invalid, &["at least one tensor"]);
    let options =
        |include: &str| bare("w", Dtype::BF16, &[8, 8]).option(|options| options.include = vec![include.into()]);
    refused(options("q*"), Invalid, &["--include", "q*"]);
    refused(options(""), Invalid, &["--include"]);
}

/// Whatever stands in a configuration or a header: an answer, never a panic, and never a plan with another shape than the one stored.
#[test]
fn no_value_of_any_key_is_a_panic() {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(7),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(5e-324),
        json!(""),
        json!("x\u{0}\u{202e}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"rope_type": "yarn", "factor": -1e300}),
        json!([u64::MAX]),
    ];
    let optional = [
        "head_dim",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
        "rope_scaling",
        "rope_parameters",
        "weight_bits",
        "input_bits",
        "pad_token_id",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "dtype",
        "use_weight_semi_sparse",
        "sparse_n",
        "sparse_m",
        "quantization_config",
        "partial_rotary_factor",
        "architectures",
        "is_bitnet_config",
        "sparse_bitnet_modelargs",
    ];
    let mut answers = 0;
    for base in [online_llama(), packed_llama(), latent_bitnet(), folder("qwen3", SMALL, Stored::Latent)] {
        let keys: Vec<String> = base.config.as_ref().unwrap().as_object().unwrap().keys().cloned().collect();
        for key in keys.iter().map(String::as_str).chain(optional) {
            for value in &values {
                let _ = base.clone().set(key, value.clone()).plan();
                answers += 1;
            }
        }
    }
    let keys: Vec<String> =
        trainer(SMALL, true).metadata.unwrap()["modelargs"].as_object().unwrap().keys().cloned().collect();
    for key in &keys {
        for value in &values {
            let _ = trainer(SMALL, true).set_arg(key, value.clone()).plan();
            answers += 1;
        }
    }
    let shapes: [&[u64]; 6] = [&[], &[0], &[u64::MAX], &[u64::MAX, 1], &[1 << 32, 1 << 32], &[1, 1, 1, 1, 1]];
    let dtypes = [Dtype::F64, Dtype::BF16, Dtype::U8, Dtype::I8, Dtype::Bool, Dtype::Tq1_0];
    for base in [online_llama(), packed_llama(), trainer(SMALL, false)] {
        let bare = Checkpoint { config: None, metadata: None, ..base.clone() };
        for (i, shape, dtype) in
            (0..base.tensors.len()).flat_map(|i| shapes.iter().flat_map(move |s| dtypes.map(|d| (i, s, d))))
        {
            for mut spoilt in [base.clone(), bare.clone()] {
                spoilt.tensors[i].shape = shape.to_vec();
                spoilt.tensors[i].dtype = dtype;
                let is_scalar = dtype != Dtype::U8 && shape.is_empty() && spoilt.tensors[i].name.ends_with("_scale");
                assert!(is_scalar || spoilt.plan().is_err(), "{:?}", spoilt.tensors[i]);
                answers += 1;
            }
        }
    }
    assert!(answers > 5_000, "{answers}");
}
