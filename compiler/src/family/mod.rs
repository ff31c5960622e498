//! From the description of a checkpoint to a plan for compiling it.
//!
//! This module decides which family a model belongs to, which tensor has which role, how each is stored and which N:M pattern applies. It
//! reads no files and no weights: it sees the texts of the configuration and the names, types and shapes of the tensors, and knows nothing
//! of how containers and encodings lay out bytes.
//!
//! ```text
//!  config.json ─┐            ┌ trainer ─┐
//!  metadata.json┼─ json ─▶ ──┤          ├─▶ Blueprint ─┐
//!  generation…  ┘            └ config, rope,           ├─ assemble (tables of roles) ─▶ Plan
//!                              quantization            │
//!  GGUF metadata ───────────▶ gguf ────────────────────┤
//!  names, types, shapes ───── inventory ───────────────┴─ bare, where there is no configuration
//! ```
//!
//! Every tensor is used, known to be computed by the runtime, or an error; every shape follows from the configuration.
//!
//! ```
//! use sbnc::family::{Dtype, Facts, Options, Source, SourceKind, TensorFact, plan};
//!
//! let weight = TensorFact { name: "w".into(), dtype: Dtype::BF16, shape: vec![8, 16] };
//! let facts = Facts { tensors: &[weight], ..Facts::default() };
//! let plan = plan(&facts, &Options::default())?;
//! assert_eq!(plan.kind, SourceKind::Weights);
//! assert!(matches!(plan.tensors[0].source, Source::Latent { .. }));
//! # Ok::<(), sbnc::family::FamilyError>(())
//! ```

mod assemble;
mod bare;
mod config;
mod error;
mod facts;
mod gguf;
mod inventory;
mod json;
mod names;
mod pattern;
mod plan;
mod quantization;
mod roles;
mod rope;
mod storage;
mod trainer;

pub use error::{FamilyError, FamilyErrorKind, Result};
pub use facts::{Dtype, Facts, GgufFacts, Options, RequestedPattern, ScaleRule, TensorFact};
pub use plan::{Duplicate, Plan, Planned, Scale, Source, SourceKind};
pub use roles::Role;

use assemble::{Assembled, Blueprint, assemble};
use config::ModelType;
use inventory::Inventory;
use json::Object;

/// Decides how to compile the checkpoint that `facts` describes.
pub fn plan(facts: &Facts<'_>, options: &Options) -> Result<Plan> {
    check_options(options)?;
    let parse = |file, text: Option<&str>| text.map(|text| Object::parse(file, text)).transpose();
    let config = parse("config.json", facts.config)?;
    let metadata = parse("metadata.json", facts.metadata)?;
    let generation = parse("generation_config.json", facts.generation_config)?;

    let mut notes = Vec::new();
    if let Some(args) = trainer::arguments(metadata.as_ref(), config.as_ref())? {
        return sparse_bitnet(&args, [config.as_ref(), generation.as_ref()], facts, options, notes);
    }
    if let Some(config) = config {
        return folder(&config, generation.as_ref(), facts, options, notes);
    }
    if metadata.is_some() {
        notes.push("metadata.json has no modelargs: not followed".to_owned());
    }
    let tensors = bare::plan(facts.tensors, options, &mut notes)?;
    require_ternary(&tensors, "tensors", "choose some with --include")?;
    let pattern = pattern::settle(options.pattern, None, SourceKind::Weights, &mut notes)?;
    pattern::check_groups(pattern, &tensors)?;
    Ok(Plan { kind: SourceKind::Weights, model: None, pattern, tensors, duplicates: Vec::new(), notes })
}

/// Decides how to compile the GGUF file that `facts` describes.
///
/// ```
/// use sbnc::checkpoint::gguf::{Metadata, Value};
/// use sbnc::family::{FamilyErrorKind, GgufFacts, Options, plan_gguf};
///
/// let metadata = Metadata::from([("general.architecture".to_owned(), Value::String("mamba".to_owned()))]);
/// let error = plan_gguf(&GgufFacts { metadata: &metadata, tensors: &[] }, &Options::default()).unwrap_err();
/// assert_eq!(error.kind(), FamilyErrorKind::Unsupported);
/// ```
pub fn plan_gguf(facts: &GgufFacts<'_>, options: &Options) -> Result<Plan> {
    check_options(options)?;
    refuse_globs(options)?;
    for (option, given) in
        [("--force-quantize", options.force_quantize), ("--packed-scale", options.packed_scale.is_some())]
    {
        if given {
            let expected = "no such option, because a GGUF file holds ternary blocks with their scales";
            return Err(FamilyError::invalid(option, expected, "the option"));
        }
    }
    let mut notes = Vec::new();
    let stock = Inventory::new(facts.tensors)?;
    let blueprint = gguf::describe(facts.metadata, &stock, options, &mut notes)?;
    let assembled = assemble(blueprint, stock, &mut notes)?;
    finish(SourceKind::Gguf, assembled, None, options, notes)
}

fn sparse_bitnet(
    args: &Object,
    beside: [Option<&Object>; 2],
    facts: &Facts<'_>,
    options: &Options,
    mut notes: Vec<String>,
) -> Result<Plan> {
    refuse_globs(options)?;
    if options.already_ternary {
        let expected = "no such option, because the trainer stores latent weights";
        return Err(FamilyError::invalid("--ternary", expected, "the option"));
    }
    let (blueprint, declared) = trainer::describe(args, beside, &mut notes)?;
    let stock = Inventory::new(facts.tensors)?;
    let assembled = assemble(blueprint, stock, &mut notes)?;
    finish(SourceKind::SparseBitnet, assembled, declared, options, notes)
}

fn folder(
    config: &Object,
    generation: Option<&Object>,
    facts: &Facts<'_>,
    options: &Options,
    mut notes: Vec<String>,
) -> Result<Plan> {
    refuse_globs(options)?;
    let stock = Inventory::new(facts.tensors)?;
    let known = ModelType::find(config, &stock)?;
    let model = known.model(config, generation, &mut notes)?;
    let mut features = known.features(config)?;
    let quantization = quantization::read(config, known, &model, &stock, options, &mut features, &mut notes)?;
    let declared = pattern::declared(config, &mut notes)?;
    let blueprint =
        Blueprint { scheme: &roles::FOLDER, model, features, storage: quantization.storage, dense: quantization.dense };
    let assembled = assemble(blueprint, stock, &mut notes)?;
    finish(kind_of(&assembled.tensors), assembled, declared, options, notes)
}

fn finish(
    kind: SourceKind,
    assembled: Assembled,
    declared: Option<(u8, u8)>,
    options: &Options,
    mut notes: Vec<String>,
) -> Result<Plan> {
    let Assembled { model, tensors, duplicates } = assembled;
    require_ternary(&tensors, "modules_to_not_convert", "name fewer modules")?;
    let pattern = pattern::settle(options.pattern, declared, kind, &mut notes)?;
    pattern::check_groups(pattern, &tensors)?;
    Ok(Plan { kind, model: Some(model), pattern, tensors, duplicates, notes })
}

/// The kind of a folder: packed where anything is, as one packed tensor is enough to make the source's scales binding.
fn kind_of(tensors: &[Planned]) -> SourceKind {
    let any = |test: fn(&Source) -> bool| tensors.iter().any(|planned| test(&planned.source));
    if any(|source| matches!(source, Source::PackedRows { .. })) {
        SourceKind::HfPacked
    } else if any(|source| matches!(source, Source::Ternary { .. })) {
        SourceKind::HfTernary
    } else {
        SourceKind::HfLatent
    }
}

/// A file without a ternary weight would be a copy of its source.
fn require_ternary(tensors: &[Planned], subject: &str, remedy: &str) -> Result<()> {
    if tensors.iter().any(Planned::is_ternary) {
        return Ok(());
    }
    Err(FamilyError::invalid(subject, "at least one linear weight to make ternary", "none").remedy(remedy))
}

fn check_options(options: &Options) -> Result<()> {
    if options.force_quantize && options.already_ternary {
        return Err(FamilyError::invalid("--force-quantize", "no --ternary beside it", "both"));
    }
    Ok(())
}

/// Which tensors of a model are linear is the configuration's to say.
fn refuse_globs(options: &Options) -> Result<()> {
    for (option, globs) in [("--include", &options.include), ("--exclude", &options.exclude)] {
        if let Some(glob) = globs.first() {
            let expected = "no such option, because the configuration says which tensors are linear";
            return Err(FamilyError::invalid(option, expected, error::clip(glob)));
        }
    }
    Ok(())
}
