//! Weights without a configuration: which of them are linear is decided by shape and by the user's globs.

use super::error::{FamilyError, Result, tensor};
use super::facts::{Dtype, Options, TensorFact, is_float, is_storable_float};
use super::inventory::{Inventory, check_limits, show_shape};
use super::names::Glob;
use super::plan::{Planned, Source};
use super::roles::Role;
use super::storage::{Plain, Storage};

/// Ends of names of matrices that hold several parts, each of which had a scale of its own in training.
const FUSED: [&str; 4] = [".wqkv.weight", ".w13.weight", ".qkv_proj.weight", ".gate_up_proj.weight"];
/// Parts of names of 2-D tensors that models do not use as linear layers, or do not train to be ternary.
const NOT_LINEAR: [&str; 4] = ["embed", "lm_head", "wte", "output.weight"];

/// Plans every tensor, in the order in which the checkpoint lists them.
pub(super) fn plan(facts: &[TensorFact], options: &Options, notes: &mut Vec<String>) -> Result<Vec<Planned>> {
    let mut stock = Inventory::new(facts)?;
    if facts.is_empty() {
        return Err(FamilyError::invalid("checkpoint", "at least one tensor", "none"));
    }
    let globs = |option: &str, texts: &[String]| -> Result<Vec<Glob>> {
        texts.iter().map(|text| Glob::parse(option, text)).collect()
    };
    let (include, exclude) = (globs("--include", &options.include)?, globs("--exclude", &options.exclude)?);
    for (text, glob) in options.include.iter().zip(&include) {
        if !stock.any(|name| glob.matches(name)) {
            let expected = "a glob that matches a name";
            return Err(FamilyError::invalid("--include", expected, format!("{text}, which matches none")));
        }
    }
    let storage = Storage {
        authority: "the absence of a configuration".to_owned(),
        rule: options.packed_scale,
        packed: true,
        blocks: false,
        scaled: true,
        plain: if options.already_ternary { Plain::Ternary } else { Plain::Latent },
    };
    let mut linears = Vec::new();
    for fact in facts {
        let is_scale = fact.name.strip_suffix("_scale").is_some_and(|weight| stock.has(weight));
        if !is_scale {
            check_limits(&fact.name, &fact.shape)?;
        }
        let of_weights = is_float(fact.dtype) || matches!(fact.dtype, Dtype::I8 | Dtype::U8);
        let is_matrix = fact.shape.len() == 2 && of_weights && !is_scale;
        let included = include.is_empty() || include.iter().any(|glob| glob.matches(&fact.name));
        if is_matrix && included && !exclude.iter().any(|glob| glob.matches(&fact.name)) {
            linears.push(linear(fact, &storage, &mut stock, options)?);
            stock.take(&fact.name);
        }
    }
    let doubtful = linears.iter().find(|planned| NOT_LINEAR.iter().any(|part| planned.name.contains(part)));
    if let Some(planned) = doubtful.filter(|_| options.include.is_empty()) {
        notes.push(format!("{} is made ternary like every 2-D tensor; --exclude keeps it", planned.name));
    }
    let left = stock.leftovers(notes);
    let mut planned = Vec::new();
    let mut linears = linears.into_iter().peekable();
    for fact in facts {
        if let Some(linear) = linears.next_if(|linear| linear.name == fact.name) {
            planned.push(linear);
        } else if left.binary_search(&fact.name.as_str()).is_ok() {
            planned.push(kept(fact)?);
        }
    }
    Ok(planned)
}

fn linear(fact: &TensorFact, storage: &Storage, stock: &mut Inventory<'_>, options: &Options) -> Result<Planned> {
    let fused = FUSED.iter().any(|end| fact.name.ends_with(end));
    if fused && is_float(fact.dtype) && !options.already_ternary {
        let expected = "a configuration that says where its parts end, because each has a scale of its own";
        return Err(FamilyError::invalid(tensor(&fact.name), expected, "weights without config.json or metadata.json")
            .remedy("put the configuration beside the weights, or leave the tensor dense with --exclude"));
    }
    let (rows, cols) = (fact.shape[0], fact.shape[1]);
    let logical = if fact.dtype == Dtype::U8 { rows.saturating_mul(4) } else { rows };
    check_limits(&fact.name, &[logical, cols])?;
    let scale_name = format!("{}_scale", fact.name);
    let scale = stock.take(&scale_name);
    let source = match storage.source(fact, &scale_name, scale, logical)? {
        Source::Latent { .. } => Source::Latent { parts: std::iter::once(0..rows).collect() },
        other => other,
    };
    Ok(Planned { name: fact.name.clone(), role: Role::Linear, shape: vec![logical, cols], source })
}

fn kept(fact: &TensorFact) -> Result<Planned> {
    check_limits(&fact.name, &fact.shape)?;
    if is_storable_float(fact.dtype) {
        let shape = fact.shape.clone();
        return Ok(Planned { name: fact.name.clone(), role: Role::Other, shape, source: Source::Keep });
    }
    let found = format!("{} {}", fact.dtype, show_shape(&fact.shape));
    Err(FamilyError::unsupported(tensor(&fact.name), "F32, F16 or BF16, because it is not quantised", found)
        .remedy("remove the tensor from the checkpoint"))
}
