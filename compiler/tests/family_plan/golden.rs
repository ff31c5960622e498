//! The golden models: checkpoints that other people's code wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use sbnc::family::{Dtype, Facts, Options, Plan, Role, ScaleRule, Source, SourceKind, TensorFact, plan};
use sbnc_format::manifest::{Manifest, Provenance, RopeStyle};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden").join(name)
}

/// The header of a safetensors file.
fn header(name: &str) -> Vec<TensorFact> {
    let bytes = fs::read(folder(name).join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let fact = |(name, value): (String, Value)| {
        let dtype = match value["dtype"].as_str().unwrap() {
            "BF16" => Dtype::BF16,
            "U8" => Dtype::U8,
            other => panic!("{other}"),
        };
        TensorFact { name, dtype, shape: serde_json::from_value(value["shape"].clone()).unwrap() }
    };
    tensors.map(fact).collect()
}

fn plan_of(name: &str, with_metadata: bool) -> Plan {
    let text = |file| fs::read_to_string(folder(name).join(file)).ok();
    let (config, metadata) = (text("config.json"), text("metadata.json").filter(|_| with_metadata));
    let facts = Facts {
        config: config.as_deref(),
        metadata: metadata.as_deref(),
        generation_config: None,
        tensors: &header(name),
    };
    let plan = plan(&facts, &Options::default()).unwrap();
    check_manifest(&plan);
    plan
}

/// The format accepts the model, and the names of its tensors lead to the plan's.
pub(crate) fn check_manifest(plan: &Plan) {
    let model = plan.model.clone().unwrap();
    for planned in &plan.tensors {
        let named = (0..model.layers as usize)
            .any(|layer| model.tensor(planned.role.key(), layer).as_ref() == Some(&planned.name));
        assert!(named, "{}", planned.name);
    }
    let provenance = Provenance {
        compiler: "test".into(),
        kind: plan.kind.name().into(),
        options: BTreeMap::new(),
        rules: BTreeMap::new(),
        sources: Vec::new(),
    };
    Manifest { files: Vec::new(), model: Some(model), provenance }.to_bytes().unwrap();
}

fn roles(plan: &Plan) -> Vec<&'static str> {
    plan.tensors.iter().map(|planned| planned.role.key()).collect()
}

#[test]
fn latent_bitnet_with_sub_norms() {
    let plan = plan_of("hf-bitnet-latent-2of4", false);
    let model = plan.model.as_ref().unwrap();
    assert_eq!((plan.kind, plan.pattern), (SourceKind::HfLatent, None));
    assert_eq!((model.family.as_str(), model.activation.as_str(), model.tied), ("bitnet", "relu2", true));
    assert_eq!((model.layers, model.head_dim, model.rope.style), (3, 64, RopeStyle::Half));
    assert_eq!(model.rope.theta.value(), Some(500_000.0));
    assert_eq!(model.tokens.eos, Some(vec![2]));
    let layer = ["attn_norm", "q", "k", "v", "attn_sub_norm", "o", "ffn_norm", "gate", "up", "ffn_sub_norm", "down"];
    let expected: Vec<_> = [&["embed"][..], &layer, &layer, &layer, &["norm"]].concat();
    assert_eq!(roles(&plan), expected);
    let down = plan.tensors.iter().find(|planned| planned.role == Role::Down).unwrap();
    assert_eq!(
        (down.shape.as_slice(), &down.source),
        (&[256, 640][..], &Source::Latent { parts: std::iter::once(0..256).collect() })
    );
}

#[test]
fn packed_llama_divides_by_its_scales() {
    let plan = plan_of("hf-llama-packed-bitlinear", false);
    assert_eq!(plan.kind, SourceKind::HfPacked);
    let layer = ["attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down"];
    assert_eq!(roles(&plan), [&["embed"][..], &layer, &layer, &["norm", "head"]].concat());
    for planned in plan.tensors.iter().filter(|planned| planned.is_ternary()) {
        let Source::PackedRows { scale } = &planned.source else { panic!("{planned:?}") };
        assert_eq!(
            (scale.tensor.as_str(), scale.rule),
            (format!("{}_scale", planned.name).as_str(), ScaleRule::Divide)
        );
    }
    let k = plan.tensors.iter().find(|planned| planned.role == Role::K).unwrap();
    assert_eq!(k.shape, [128, 256]);
}

#[test]
fn sparse_bitnet_of_the_trainer() {
    let plan = plan_of("sparsebitnet-6of8", true);
    let model = plan.model.as_ref().unwrap();
    assert_eq!((plan.kind, plan.pattern), (SourceKind::SparseBitnet, Some((6, 8))));
    assert_eq!((model.rope.style, model.activation_bits, model.tied), (RopeStyle::Interleaved, 8, false));
    let layer = ["attn_norm", "qkv", "o", "ffn_norm", "gate_up", "down"];
    assert_eq!(roles(&plan), [&["embed"][..], &layer, &layer, &["norm", "head"]].concat());
    let parts = |role| match &plan.tensors.iter().find(|planned| planned.role == role).unwrap().source {
        Source::Latent { parts } => parts.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(parts(Role::Qkv), [0..256, 256..384, 384..512]);
    assert_eq!(parts(Role::GateUp), [0..640, 640..1280]);
    assert!(plan.notes.is_empty() && plan.duplicates.is_empty());
}

#[test]
fn the_copy_of_the_arguments_in_the_configuration_is_enough() {
    assert_eq!(plan_of("sparsebitnet-6of8", false), plan_of("sparsebitnet-6of8", true));
}
