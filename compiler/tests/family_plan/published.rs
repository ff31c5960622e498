//! Published models at full size, and the ways in which their descriptions vary.

use sbnc::family::{Dtype, Plan, RequestedPattern, Role, ScaleRule, Source, SourceKind};
use sbnc_format::manifest::RopeValue;
use serde_json::json;

use crate::golden::check_manifest;
use crate::support::{Checkpoint, SMALL, Sizes, Stored, folder, online_llama, packed_llama, tensor, trainer};

const BITNET_2B: Sizes =
    Sizes { hidden: 2560, intermediate: 6912, layers: 30, heads: 20, kv_heads: 5, head_dim: 128, vocab: 128_256 };

fn planned(checkpoint: &Checkpoint) -> Plan {
    let plan = checkpoint.plan().unwrap();
    if plan.model.is_some() {
        check_manifest(&plan);
    }
    plan
}

fn count(plan: &Plan, test: impl Fn(&Source) -> bool) -> usize {
    plan.tensors.iter().filter(|planned| test(&planned.source)).count()
}

fn bitnet_2b(stored: Stored, mode: &str) -> Checkpoint {
    folder("bitnet", BITNET_2B, stored)
        .drop("lm_head.weight")
        .set("architectures", json!(["BitNetForCausalLM"]))
        .set("auto_map", json!({"AutoConfig": "configuration_bitnet.BitNetConfig"}))
        .set("hidden_act", json!("relu2"))
        .set("tie_word_embeddings", json!(true))
        .set("bos_token_id", json!(128_000))
        .set("eos_token_id", json!(128_001))
        .set(
            "quantization_config",
            json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": mode}),
        )
}

#[test]
fn bitnet_2b_packed_multiplies() {
    let mut checkpoint = bitnet_2b(Stored::Packed, "offline");
    checkpoint.generation = Some(json!({"bos_token_id": 128_000, "eos_token_id": [128_001, 128_009]}));
    let plan = planned(&checkpoint);
    assert_eq!(plan.kind, SourceKind::HfPacked);
    let multiplies =
        |source: &Source| matches!(source, Source::PackedRows { scale } if scale.rule == ScaleRule::Multiply);
    assert_eq!(count(&plan, multiplies), 7 * 30);
    let model = plan.model.unwrap();
    assert_eq!((model.head_dim, model.activation.as_str()), (128, "relu2"));
    assert_eq!(model.tokens.eos, Some(vec![128_001, 128_009]));
    assert_eq!(model.tensors["ffn_sub_norm"], "model.layers.{}.mlp.ffn_sub_norm.weight");
}

#[test]
fn bitnet_2b_master_weights() {
    for checkpoint in
        [bitnet_2b(Stored::Latent, "online"), bitnet_2b(Stored::Latent, "online").remove("quantization_config")]
    {
        let plan = planned(&checkpoint);
        assert_eq!(plan.kind, SourceKind::HfLatent);
        assert_eq!(count(&plan, |source| matches!(source, Source::Latent { .. })), 7 * 30);
    }
}

#[test]
fn bitnet_2b_dense_trits_with_scales() {
    let plan = planned(&bitnet_2b(Stored::Scaled, "offline"));
    assert_eq!(plan.kind, SourceKind::HfTernary);
    let multiplies =
        |source: &Source| matches!(source, Source::Ternary { scale: Some(scale) } if scale.rule == ScaleRule::Multiply);
    assert_eq!(count(&plan, multiplies), 7 * 30);
}

#[test]
fn llama3_8b_packed_divides() {
    let sizes =
        Sizes { hidden: 4096, intermediate: 14336, layers: 32, heads: 32, kv_heads: 8, head_dim: 128, vocab: 128_256 };
    let checkpoint = folder("llama", sizes, Stored::Packed)
        .set("quantization_config", json!({"quant_method": "bitnet", "modules_to_not_convert": null}))
        .set("hidden_act", json!("silu"));
    let plan = planned(&checkpoint);
    let divides = |source: &Source| matches!(source, Source::PackedRows { scale } if scale.rule == ScaleRule::Divide);
    assert_eq!(count(&plan, divides), 7 * 32);
    assert_eq!(plan.tensors.last().unwrap().role, Role::Head);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

fn falcon_e(stored: Stored) -> Checkpoint {
    let sizes =
        Sizes { hidden: 2048, intermediate: 8192, layers: 18, heads: 8, kv_heads: 2, head_dim: 256, vocab: 32_768 };
    folder("llama", sizes, stored)
        .set("head_dim", json!(256))
        .set("is_bitnet_config", json!(true))
        .set("pretraining_tp", json!(1))
}

#[test]
fn falcon_e_1b_packed_master_and_three_valued() {
    let packed = falcon_e(Stored::Packed)
        .set("quantization_config", json!({"quant_method": "bitnet", "modules_to_not_convert": ["lm_head$"]}));
    assert_eq!(planned(&packed).kind, SourceKind::HfPacked);
    assert_eq!(planned(&falcon_e(Stored::Latent)).kind, SourceKind::HfLatent);
    let plan = planned(&falcon_e(Stored::Latent).option(|options| options.already_ternary = true));
    assert_eq!(plan.kind, SourceKind::HfTernary);
    assert_eq!(count(&plan, |source| *source == Source::Ternary { scale: None }), 7 * 18);
}

#[test]
fn first_reproduction_of_b158_calls_itself_llama() {
    let sizes =
        Sizes { hidden: 1536, intermediate: 4096, layers: 24, heads: 16, kv_heads: 16, head_dim: 96, vocab: 32_002 };
    let checkpoint = folder("bitnet", sizes, Stored::Latent)
        .rename("attn_sub_norm", "inner_attn_ln")
        .rename("ffn_sub_norm", "ffn_layernorm")
        .drop("lm_head.weight")
        .set("model_type", json!("llama"))
        .set("architectures", json!(["BitnetForCausalLM"]))
        .set("tie_word_embeddings", json!(true))
        .set("weight_bits", json!(1))
        .set("input_bits", json!(8))
        .set("rope_scaling", json!(null));
    let by_names = checkpoint.clone().remove("weight_bits").remove("architectures");
    for checkpoint in [checkpoint, by_names] {
        let plan = planned(&checkpoint);
        let model = plan.model.unwrap();
        assert_eq!(
            (plan.kind, model.family.as_str(), model.activation.as_str()),
            (SourceKind::HfLatent, "bitnet", "silu")
        );
        assert_eq!(model.tensors["attn_sub_norm"], "model.layers.{}.self_attn.inner_attn_ln.weight");
    }
}

#[test]
fn qwen2_has_biases_and_qwen3_norms_of_queries_and_keys() {
    let quantization =
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    let qwen2 = folder("qwen2", SMALL, Stored::Latent).set("quantization_config", quantization.clone());
    let qwen2 = qwen2.set("sliding_window", json!(4096)).set("use_sliding_window", json!(false));
    let model = planned(&qwen2).model.unwrap();
    assert_eq!((model.tensors["v_bias"].as_str(), model.window), ("model.layers.{}.self_attn.v_proj.bias", None));
    assert!(!model.tensors.contains_key("o_bias"));
    let everywhere = qwen2.set("use_sliding_window", json!(true)).set("max_window_layers", json!(0));
    assert_eq!(planned(&everywhere).model.unwrap().window, Some(4096));

    let sizes = Sizes { head_dim: 128, ..SMALL };
    let qwen3 = folder("qwen3", sizes, Stored::Latent).set("quantization_config", quantization);
    let plan = planned(&qwen3);
    assert_eq!(plan.model.as_ref().unwrap().head_dim, 128);
    let q_norm = plan.tensors.iter().find(|planned| planned.role == Role::QNorm).unwrap();
    assert_eq!(q_norm.shape, [128]);
}

#[test]
fn mistral_slides_unless_told_otherwise() {
    let quantization =
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "offline_quantization": false});
    let mistral = folder("mistral", SMALL, Stored::Latent).set("quantization_config", quantization);
    assert_eq!(planned(&mistral).model.unwrap().window, Some(4096));
    assert_eq!(planned(&mistral.clone().set("sliding_window", json!(null))).model.unwrap().window, None);
    assert_eq!(planned(&mistral.set("sliding_window", json!(1024))).model.unwrap().window, Some(1024));
}

#[test]
fn biases_and_input_norms_where_the_configuration_says_so() {
    let mut checkpoint = packed_llama()
        .set("attention_bias", json!(true))
        .set("mlp_bias", json!(true))
        .set("quantization_config.use_rms_norm", json!(true))
        .set("quantization_config.rms_norm_eps", json!(1e-5));
    let weights: Vec<_> = checkpoint.tensors.iter().filter(|fact| fact.dtype == Dtype::U8).cloned().collect();
    for fact in weights {
        let module = fact.name.strip_suffix(".weight").unwrap();
        checkpoint.tensors.push(tensor(&format!("{module}.bias"), Dtype::BF16, &[fact.shape[0] * 4]));
        checkpoint.tensors.push(tensor(&format!("{module}.rms_norm.weight"), Dtype::BF16, &[fact.shape[1]]));
    }
    let plan = planned(&checkpoint);
    assert_eq!(plan.tensors.len(), 3 + 2 * (2 + 7 * 3));
    let keys: Vec<_> = plan.tensors.iter().skip(1).take(5).map(|planned| planned.role.key()).collect();
    assert_eq!(keys, ["attn_norm", "q_in_norm", "q", "q_bias", "k_in_norm"]);
}

#[test]
fn input_norms_alone_show_ternary_training() {
    let mut checkpoint = folder("llama", SMALL, Stored::Latent);
    let weights: Vec<_> = checkpoint.tensors.iter().filter(|fact| fact.name.contains("_proj")).cloned().collect();
    for fact in weights {
        let name = fact.name.replace(".weight", ".norm.weight");
        checkpoint.tensors.push(tensor(&name, Dtype::BF16, &fact.shape[1..]));
    }
    let plan = planned(&checkpoint);
    assert_eq!(plan.model.unwrap().tensors["down_in_norm"], "model.layers.{}.mlp.down_proj.norm.weight");
}

#[test]
fn modules_left_dense_are_kept_and_noted() {
    let checkpoint = packed_llama().set(
        "quantization_config.modules_to_not_convert",
        json!(["lm_head$", r"model\.layers\.1\.mlp\.down_proj", "model.layers.0.self_attn.o_proj"]),
    );
    let mut checkpoint = checkpoint.change("model.layers.1.mlp.down_proj.weight", Dtype::BF16, &[256, 640]).change(
        "model.layers.0.self_attn.o_proj.weight",
        Dtype::BF16,
        &[256, 256],
    );
    checkpoint.tensors.retain(|fact| {
        !matches!(
            fact.name.as_str(),
            "model.layers.1.mlp.down_proj.weight_scale" | "model.layers.0.self_attn.o_proj.weight_scale"
        )
    });
    let plan = planned(&checkpoint);
    assert_eq!(count(&plan, |source| matches!(source, Source::PackedRows { .. })), 12);
    assert!(plan.notes.iter().any(|note| note.contains("left dense") && note.contains("2 linear weights")));
}

#[test]
fn rope_scaling_in_either_spelling() {
    let scaling = json!({"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192});
    let old = planned(&online_llama().set("rope_scaling", scaling.clone())).model.unwrap().rope;
    let mut parameters = scaling;
    parameters["rope_theta"] = json!(500000.0);
    let new = planned(&online_llama().remove("rope_theta").set("rope_parameters", parameters)).model.unwrap().rope;
    assert_eq!(old, new);
    let scaling = new.scaling.unwrap();
    assert_eq!(scaling["factor"], RopeValue::Text("32.0".into()));
    assert_eq!(scaling["original_max_position_embeddings"], RopeValue::Integer(8192));
    assert_eq!(scaling["rope_type"], RopeValue::Text("llama3".into()));
}

#[test]
fn lists_of_a_scaling_become_strings_and_the_context_before_it_may_stand_outside() {
    let scaling = json!({"type": "longrope", "short_factor": [1, 1.05], "long_factor": [1e1, 48.5]});
    let model = online_llama().set("rope_scaling", scaling).set("original_max_position_embeddings", json!(4096));
    let scaling = planned(&model).model.unwrap().rope.scaling.unwrap();
    assert_eq!(scaling["short_factor"], RopeValue::Text("1.0,1.05".into()));
    assert_eq!(scaling["long_factor"], RopeValue::Text("10.0,48.5".into()));
    assert_eq!(scaling["original_max_position_embeddings"], RopeValue::Integer(4096));
    let linear = online_llama().set("rope_scaling", json!({"type": "linear", "factor": 2}));
    let linear = planned(&linear.set("original_max_position_embeddings", json!(4096))).model.unwrap();
    assert_eq!(linear.rope.scaling.unwrap().len(), 2, "a scaling that does not know it is left as it is");
}

#[test]
fn tied_heads_under_either_name_or_both() {
    let tied = online_llama().set("tie_word_embeddings", json!(true));
    let plan = planned(&tied);
    assert_eq!(plan.duplicates.len(), 1);
    assert_eq!(
        (plan.duplicates[0].name.as_str(), plan.duplicates[0].duplicate_of.as_str()),
        ("lm_head.weight", "model.embed_tokens.weight")
    );
    assert!(plan.notes.iter().any(|note| note.contains("lm_head.weight")));
    let plan = planned(&tied.clone().drop("model.embed_tokens.weight"));
    assert_eq!((plan.tensors[0].role, plan.tensors[0].name.as_str()), (Role::Embed, "lm_head.weight"));
    assert!(planned(&tied.drop("lm_head.weight")).duplicates.is_empty());
}

#[test]
fn what_the_runtime_computes_is_left_out() {
    let checkpoint = online_llama().with("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, &[32]);
    assert!(planned(&checkpoint).notes.iter().any(|note| note.contains("inv_freq")));
}

#[test]
fn sparse_bitnet_in_all_its_forms() {
    let sizes =
        Sizes { hidden: 896, intermediate: 4864, layers: 24, heads: 14, kv_heads: 2, head_dim: 64, vocab: 151_936 };
    let fused = planned(&trainer(sizes, true));
    assert_eq!((fused.pattern, fused.tensors.len()), (Some((6, 8)), 3 + 24 * 6));
    let split = planned(&trainer(sizes, false));
    assert_eq!((split.pattern, split.tensors.len()), (Some((6, 8)), 3 + 24 * 9));
    assert_eq!(split.model.unwrap().tensors["up"], "layers.{}.feed_forward.w3.weight");

    let two_of_four = trainer(SMALL, true).set_arg("sparse_n", json!(2)).set_arg("sparse_m", json!(4));
    assert_eq!(planned(&two_of_four).pattern, Some((2, 4)));
    let dense = trainer(SMALL, true).set_arg("use_weight_semi_sparse", json!(false));
    assert_eq!(planned(&dense).pattern, None);
    let all = trainer(SMALL, true).set_arg("sparse_n", json!(8));
    assert_eq!(planned(&all).pattern, None);
    let variant = planned(&trainer(SMALL, true).set_arg("a4", json!(true)).set_arg("srelu", json!(true)));
    assert_eq!(variant.model.unwrap().activation_bits, 4);
    assert!(variant.notes.iter().any(|note| note.contains("srelu")));
    let mut named = trainer(SMALL, true);
    named.generation = Some(json!({"eos_token_id": [3, 5], "pad_token_id": -1}));
    assert_eq!(planned(&named).model.unwrap().tokens.eos, Some(vec![3, 5]));
    let tied = planned(&trainer(SMALL, true).set_arg("weight_tying", json!(true)));
    assert_eq!(tied.duplicates[0].name, "output.weight");
}

#[test]
fn a_requested_pattern_wins_for_latent_weights_and_is_noted() {
    let asked = |checkpoint: Checkpoint, pattern| planned(&checkpoint.option(|options| options.pattern = pattern));
    let plan = asked(trainer(SMALL, true), RequestedPattern::Nm(2, 4));
    assert_eq!(plan.pattern, Some((2, 4)));
    assert!(plan.notes.iter().any(|note| note.contains("6:8")));
    assert_eq!(asked(trainer(SMALL, true), RequestedPattern::None).pattern, None);
    assert_eq!(asked(packed_llama(), RequestedPattern::Nm(2, 4)).pattern, Some((2, 4)));
    assert_eq!(asked(online_llama(), RequestedPattern::Nm(2, 4)).pattern, Some((2, 4)));
}

#[test]
fn an_ordinary_model_is_quantised_only_by_force() {
    let plan = planned(&folder("llama", SMALL, Stored::Latent).option(|options| options.force_quantize = true));
    assert_eq!(plan.kind, SourceKind::HfLatent);
    assert!(plan.notes.iter().any(|note| note.contains("ruins")));
}

#[test]
fn master_weights_under_a_packed_configuration_need_force() {
    let checkpoint = falcon_e(Stored::Latent).set("quantization_config", json!({"quant_method": "bitnet"}));
    let plan = planned(&checkpoint.option(|options| options.force_quantize = true));
    assert_eq!(plan.kind, SourceKind::HfLatent);
    assert!(plan.notes.iter().any(|note| note.contains("--force-quantize")));
}

#[test]
fn an_undeclared_scale_needs_its_rule() {
    let checkpoint = folder("llama", SMALL, Stored::Packed);
    let plan = planned(&checkpoint.option(|options| options.packed_scale = Some(ScaleRule::Multiply)));
    assert_eq!(plan.kind, SourceKind::HfPacked);
}

#[test]
fn bare_weights_by_shape_and_glob() {
    let tensors = vec![
        tensor("b.weight", Dtype::BF16, &[8, 16]),
        tensor("a.weight", Dtype::F32, &[8, 16]),
        tensor("norm.weight", Dtype::F32, &[16]),
        tensor("p.weight", Dtype::U8, &[2, 16]),
        tensor("p.weight_scale", Dtype::F32, &[1, 1]),
    ];
    let checkpoint = Checkpoint { tensors, ..Checkpoint::default() }.option(|options| {
        options.exclude = vec!["a.*".into()];
        options.packed_scale = Some(ScaleRule::Divide);
        options.pattern = RequestedPattern::Nm(2, 4);
    });
    let plan = planned(&checkpoint);
    let found: Vec<_> = plan.tensors.iter().map(|p| (p.name.as_str(), p.role.key(), p.is_ternary())).collect();
    let expected = [
        ("b.weight", "linear", true),
        ("a.weight", "other", false),
        ("norm.weight", "other", false),
        ("p.weight", "linear", true),
    ];
    assert_eq!(found, expected);
    assert_eq!(plan.tensors[3].shape, [8, 16]);
    let some = planned(&checkpoint.option(|options| options.include = vec!["p.*".into()]));
    assert_eq!(some.tensors.iter().filter(|planned| planned.is_ternary()).count(), 1);
}
