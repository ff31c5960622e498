//! Checkpoints of the Sparse-BitNet trainer: the `modelargs` of its `metadata.json`.
//!
//! What counts is what its training code does, not what its arguments suggest: the feed-forward layer is gated by SiLU whatever `srelu` says.

use std::collections::BTreeMap;

use sbnc_format::manifest::{Model, Real, Rope, RopeStyle};

use super::assemble::{Blueprint, Features};
use super::config::{CONTEXT, HEADS, LAYERS, VOCAB, WIDTH, tokens};
use super::error::{FamilyError, Result};
use super::json::Object;
use super::pattern;
use super::roles::TRAINER;
use super::storage::Storage;

/// Where the arguments stand in `metadata.json`, and in a `config.json` that was made from them.
const IN_METADATA: &str = "modelargs";
const IN_CONFIG: &str = "sparse_bitnet_modelargs";

/// Finds the arguments, if the checkpoint is one of the trainer's.
pub(super) fn arguments(metadata: Option<&Object>, config: Option<&Object>) -> Result<Option<Object>> {
    let of = |object: Option<&Object>, key| object.map_or(Ok(None), |object| object.object(key));
    let (ours, copy) = (of(metadata, IN_METADATA)?, of(config, IN_CONFIG)?);
    if let (Some(ours), Some(copy)) = (&ours, &copy) {
        let differs = |key: &&str| copy.value(key).is_some() && ours.value(key) != copy.value(key);
        if let Some(key) = ours.keys().find(differs) {
            let expected = format!("{}, which config.json says", copy.shown(key));
            return Err(FamilyError::invalid(ours.subject(key), expected, ours.shown(key))
                .remedy("keep the one file that belongs to the weights"));
        }
    }
    Ok(ours.or(copy))
}

/// Describes the model, and the pattern that was trained. The trainer writes no special tokens; files that users add may name them.
pub(super) fn describe(
    args: &Object,
    beside: [Option<&Object>; 2],
    notes: &mut Vec<String>,
) -> Result<(Blueprint, Option<(u8, u8)>)> {
    refuse_unsupported(args)?;
    let layers = args.required("n_layers", LAYERS)?;
    let hidden = args.required("d_model", WIDTH)?;
    let intermediate = args.required("d_ffn", WIDTH)?;
    let vocab = args.required("vocab_size", VOCAB)?;
    let heads = args.required("head", HEADS)?;
    let kv_heads = args.required("kv_head", HEADS)?;
    if !hidden.is_multiple_of(2 * heads) {
        return Err(args.wrong("d_model", format!("a multiple of 2 × head, {}", 2 * heads)));
    }
    if !heads.is_multiple_of(kv_heads) {
        return Err(args.wrong("kv_head", format!("a divisor of head, {heads}")));
    }
    if args.boolean("srelu")? == Some(true) {
        notes.push(
            "srelu is set, but the trainer's feed-forward layer uses SiLU all the same: compiled with SiLU".into(),
        );
    }
    let model = Model {
        activation: "silu".to_owned(),
        activation_bits: if args.boolean("a4")? == Some(true) { 4 } else { 8 },
        context: args.count("max_seq_len", CONTEXT)?.unwrap_or(4096),
        family: "sparse-bitnet".to_owned(),
        head_dim: hidden / heads,
        heads,
        hidden,
        intermediate,
        kv_heads,
        layers,
        norm_eps: Real::new(args.positive("norm_eps", 1.0)?.unwrap_or(1e-5)),
        rope: Rope {
            scaling: None,
            style: RopeStyle::Interleaved,
            theta: Real::new(args.positive("rope_theta", 1e12)?.unwrap_or(500_000.0)),
        },
        tensors: BTreeMap::new(),
        tied: args.boolean("weight_tying")?.unwrap_or(false),
        tokens: tokens(beside, vocab, notes)?,
        vocab,
        window: None,
    };
    let blueprint = Blueprint {
        scheme: &TRAINER,
        model,
        features: Features::default(),
        storage: Storage::latent("modelargs: the trainer stores latent weights"),
        dense: Vec::new(),
    };
    Ok((blueprint, pattern::declared(args, notes)?))
}

fn refuse_unsupported(args: &Object) -> Result<()> {
    if let Some(key) = args.keys().find(|key| key.contains("moe") || *key == "n_experts") {
        return Err(args.unsupported(key, "no such key: mixtures of experts (MoE) are not compiled"));
    }
    for key in ["universal_n_group", "universal_group_size", "universal_repeat_time"] {
        if args.integer(key)?.is_some_and(|value| value != -1) {
            return Err(args.unsupported(key, "-1: models that repeat groups of layers are not compiled"));
        }
    }
    if args.boolean("bitlinear")? != Some(true) {
        return Err(args
            .unsupported("bitlinear", "true: this is a BF16 baseline, whose weights were not trained to be ternary")
            .remedy("compile the BitNet run instead"));
    }
    Ok(())
}
