//! Every part that a model may have, one model each, against the oracle.

use std::collections::BTreeMap;

use sbnc_format::encoding::Packing;
use sbnc_format::manifest::{RopeStyle, RopeValue};
use sbnc_format::{Encoding, Order};
use sbnc_runtime::{CacheType, Model, SessionOptions};
use sbnc_tests::{Recipe, folder};

use crate::kit::{assert_same, name, platforms};
use crate::reference::Reference;

const TOKENS: [u32; 9] = [1, 17, 39, 0, 5, 5, 22, 31, 8];

/// Compares the model of a recipe with the oracle, on every platform.
#[track_caller]
fn check(what: &str, recipe: &Recipe) {
    check_session(what, recipe, 0, false);
}

/// [`check`] in a session of some context, which is longer than that before scaling or not.
#[track_caller]
fn check_session(what: &str, recipe: &Recipe, context: usize, long: bool) {
    let folder = folder();
    let path = folder.path().join("model.sbnc");
    recipe.write(&path);
    let mut reference = Reference::open(std::fs::read(&path).unwrap());
    reference.long = long;
    let expected = reference.logits(&TOKENS);
    let expected: Vec<f32> = expected.into_iter().flatten().map(|v| v as f32).collect();
    for platform in platforms() {
        let model = Model::options().platform(platform).threads(2).open(&path).unwrap();
        let options = SessionOptions { context, cache: CacheType::F32, chunk: 4, ..SessionOptions::default() };
        let mut session = model.session(&options).unwrap();
        let mut found = Vec::new();
        session.forward_all(&TOKENS, |rows| found.extend_from_slice(rows.values)).unwrap();
        assert_same(&found, &expected, model.config().vocab, &format!("{what}, {}", name(platform)));
    }
}

#[test]
fn the_plain_model() {
    check("plain", &Recipe::small());
}

#[test]
fn projections_may_be_fused() {
    let fused = Recipe::small().without(&["q", "k", "v", "gate", "up"]).with(&["qkv", "gate_up"]);
    check("fused", &fused);
    check("fused with some biases", &fused.with(&["q_bias", "v_bias", "up_bias"]));
}

#[test]
fn projections_may_have_biases() {
    let biases = ["q_bias", "k_bias", "v_bias", "o_bias", "gate_bias", "up_bias", "down_bias"];
    check("biases", &Recipe::small().with(&biases));
    check("biases of q, k and v", &Recipe::small().with(&biases[..3]));
}

#[test]
fn norms_may_stand_in_many_places() {
    check("sub-norms", &Recipe::small().with(&["attn_sub_norm", "ffn_sub_norm"]));
    check("norms of q and k", &Recipe::small().with(&["q_norm", "k_norm"]));
    let of_inputs = ["q_in_norm", "k_in_norm", "v_in_norm", "o_in_norm", "gate_in_norm", "up_in_norm", "down_in_norm"];
    check("norms of inputs", &Recipe::small().with(&of_inputs));
    check("norms of one input", &Recipe::small().with(&["k_in_norm", "down_in_norm", "ffn_sub_norm"]));
}

#[test]
fn matrices_may_be_left_dense() {
    let dense = |roles: &[&'static str]| Recipe { dense: roles.to_vec(), ..Recipe::small() };
    check("one dense", &dense(&["k"]).with(&["k_bias"]));
    check("some dense", &dense(&["o", "up", "down"]).with(&["up_in_norm", "ffn_sub_norm"]));
}

#[test]
fn heads_and_embeddings_of_all_kinds() {
    for encoding in [Encoding::F32, Encoding::Bf16, Encoding::I8] {
        check(encoding.name(), &Recipe { embed: encoding, head: encoding, ..Recipe::small() });
    }
    let mut tied = Recipe::small().without(&["head"]);
    tied.model.tied = true;
    check("tied", &tied);
}

#[test]
fn attention_of_all_shapes() {
    for (heads, kv_heads, head_dim) in [(4, 4, 8), (6, 1, 12), (1, 1, 64), (2, 1, 10)] {
        let mut recipe = Recipe::small();
        (recipe.model.heads, recipe.model.kv_heads, recipe.model.head_dim) = (heads, kv_heads, head_dim);
        check(&format!("{heads} heads, {kv_heads} of keys, {head_dim} wide"), &recipe);
    }
    for window in [1, 3, 9, 100] {
        let mut recipe = Recipe::small();
        recipe.model.window = Some(window);
        check(&format!("window {window}"), &recipe);
    }
}

#[test]
fn rotations_of_all_kinds() {
    let mut recipe = Recipe::small();
    recipe.model.rope.style = RopeStyle::Interleaved;
    check("interleaved", &recipe);
    let kind = |name: &str| ("rope_type".to_owned(), RopeValue::Text(name.to_owned()));
    recipe.model.rope.scaling = Some(BTreeMap::from([kind("linear"), ("factor".to_owned(), RopeValue::Integer(4))]));
    check("linear", &recipe);
    let text = |key: &str, value: &str| (key.to_owned(), RopeValue::Text(value.to_owned()));
    recipe.model.rope.scaling = Some(BTreeMap::from([
        kind("longrope"),
        text("short_factor", "1.0,1.5,2.0,2.5,3.0,3.5,4.0,4.5"),
        text("long_factor", "2.0,3.0,4.0,6.0,8.0,16.0,24.0,32.0"),
        text("attention_factor", "1.25"),
        ("original_max_position_embeddings".to_owned(), RopeValue::Integer(20)),
    ]));
    check("longrope, by default", &recipe);
    check_session("longrope, short", &recipe, 20, false);
    check_session("longrope, long", &recipe, 21, true);
}

#[test]
fn activations_of_all_kinds() {
    let mut recipe = Recipe::small();
    recipe.model.activation = "relu2".to_owned();
    check("relu2", &recipe);
    recipe.model.activation_bits = 4;
    check("4 bits", &recipe);
    recipe.model.activation = "gelu".to_owned();
    check("gelu", &recipe);
}

#[test]
fn widths_that_fill_no_block() {
    let mut recipe = Recipe::small();
    (recipe.model.hidden, recipe.model.intermediate, recipe.model.vocab) = (72, 200, 67);
    for (encoding, order, pattern) in [
        (Encoding::T5, Order::Rows, "none"),
        (Encoding::T2, Order::Rows, "6:8"),
        (Encoding::NmVi, Order::Windows, "6:8"),
        (Encoding::NmVi, Order::Fragments, "2:4"),
        (Encoding::Nm6b, Order::Rows, "2:4"),
    ] {
        let pattern = if pattern == "none" { sbnc_format::Pattern::DENSE } else { pattern.parse().unwrap() };
        recipe.packing = Packing { encoding, order, pattern };
        check(&format!("{} {} {pattern}", encoding.name(), order.name()), &recipe);
    }
}
