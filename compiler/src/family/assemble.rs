//! From a description of a model and a stock of tensors to a plan: every tensor has its role, its shape is what the configuration implies,
//! nothing is missing and nothing is left over.

use sbnc_format::manifest::Model;

use super::error::{FamilyError, Result, tensor};
use super::facts::{TensorFact, is_storable_float};
use super::inventory::{Inventory, show_shape};
use super::names::ModulePattern;
use super::plan::{Duplicate, Planned, Source};
use super::roles::{Extent, Scheme, Slot, When};
use super::storage::Storage;

/// A model as its configuration describes it, before its tensors are looked at.
pub(super) struct Blueprint {
    pub(super) scheme: &'static Scheme,
    /// Complete but for the names of the tensors.
    pub(super) model: Model,
    pub(super) features: Features,
    pub(super) storage: Storage,
    /// Linear modules that the configuration leaves unquantised.
    pub(super) dense: Vec<ModulePattern>,
}

/// The optional parts of a graph.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    pub(super) sub_norms: bool,
    pub(super) qk_norms: bool,
    pub(super) qkv_bias: bool,
    pub(super) o_bias: bool,
    pub(super) mlp_bias: bool,
    /// `None`: the checkpoint shows which projections have them.
    pub(super) input_norms: Option<bool>,
}

/// The result: the model with the names of its tensors, and the tensors.
pub(super) struct Assembled {
    pub(super) model: Model,
    pub(super) tensors: Vec<Planned>,
    pub(super) duplicates: Vec<Duplicate>,
}

pub(super) fn assemble(blueprint: Blueprint, stock: Inventory<'_>, notes: &mut Vec<String>) -> Result<Assembled> {
    stock.refuse_experts()?;
    let scheme = blueprint.scheme;
    let mut bench = Bench { blueprint, stock, tensors: Vec::new(), duplicates: Vec::new(), left_dense: Vec::new() };
    bench.place_embedding(notes)?;
    let active: Vec<_> = scheme.layer.iter().filter(|slot| bench.is_active(slot)).collect();
    let active: Vec<_> = active.into_iter().map(|slot| (slot, bench.name_of(slot))).collect();
    for layer in 0..bench.blueprint.model.layers {
        for (slot, template) in &active {
            bench.place(slot, template, layer)?;
        }
    }
    bench.place(&scheme.norm, scheme.norm.names[0], 0)?;
    if bench.is_active(&scheme.head) {
        bench.place(&scheme.head, scheme.head.names[0], 0)?;
    }
    bench.finish(notes)
}

struct Bench<'a> {
    blueprint: Blueprint,
    stock: Inventory<'a>,
    tensors: Vec<Planned>,
    duplicates: Vec<Duplicate>,
    left_dense: Vec<String>,
}

impl<'a> Bench<'a> {
    /// The embedding, and the output head where it should be the same tensor: savers keep either name, or both.
    fn place_embedding(&mut self, notes: &mut Vec<String>) -> Result<()> {
        let Scheme { embed, head, keys, .. } = self.blueprint.scheme;
        let (embed_name, head_name) = (embed.names[0], head.names[0]);
        if !self.blueprint.model.tied || !self.stock.has(head_name) {
            return self.place(embed, embed_name, 0);
        }
        if !self.stock.has(embed_name) {
            notes.push(format!(
                "the embedding is stored under the name of the head, {head_name}, because they are tied"
            ));
            return self.place(embed, head_name, 0);
        }
        self.place(embed, embed_name, 0)?;
        let (kept, dropped) = (self.stock.get(embed_name), self.stock.take(head_name));
        if let (Some(kept), Some(dropped)) = (kept, dropped)
            && (kept.dtype, &kept.shape) != (dropped.dtype, &dropped.shape)
        {
            let subject = tensor(head_name);
            let expected = format!(
                "a copy of {embed_name}, {} {}, because {} is true",
                kept.dtype,
                show_shape(&kept.shape),
                keys.tied
            );
            let found = format!("{} {}", dropped.dtype, show_shape(&dropped.shape));
            return Err(FamilyError::invalid(subject, expected, found).remedy(format!("set {} to false", keys.tied)));
        }
        notes.push(format!("{head_name} is left out if it equals {embed_name}, because {} is true", keys.tied));
        self.duplicates.push(Duplicate { name: head_name.to_owned(), duplicate_of: embed_name.to_owned() });
        Ok(())
    }

    /// Whether the tensors of `slot` are part of this model.
    fn is_active(&self, slot: &Slot) -> bool {
        let features = &self.blueprint.features;
        match slot.when {
            When::Always => true,
            When::Stored => self.is_stored(slot),
            When::Unfused(fused) => {
                !self.blueprint.scheme.layer.iter().any(|other| other.role == fused && self.is_stored(other))
            }
            When::SubNorms => features.sub_norms,
            When::QkNorms => features.qk_norms,
            When::QkvBias => features.qkv_bias,
            When::OBias => features.o_bias,
            When::MlpBias => features.mlp_bias,
            When::InputNorms => features.input_norms.unwrap_or_else(|| self.is_stored(slot)),
            When::Untied => !self.blueprint.model.tied,
        }
    }

    fn is_stored(&self, slot: &Slot) -> bool {
        slot.names.iter().any(|name| self.stock.has(&in_layer(name, 0)))
    }

    /// The name under which the first layer stores `slot`, or the usual one.
    fn name_of(&self, slot: &Slot) -> &'static str {
        let stored = slot.names.iter().find(|name| self.stock.has(&in_layer(name, 0)));
        stored.unwrap_or(&slot.names[0])
    }

    fn place(&mut self, slot: &Slot, template: &str, layer: u64) -> Result<()> {
        let name = in_layer(template, layer);
        let fact = self.stock.take(&name).ok_or_else(|| self.missing(slot, &name))?;
        let rows = slot.rows.iter().map(|extent| extent.of(&self.blueprint.model)).sum();
        let cols = slot.cols.map(|extent| extent.of(&self.blueprint.model));
        let shape: Vec<u64> = std::iter::once(rows).chain(cols).collect();
        let source = if !slot.linear {
            kept(fact)?
        } else if self.blueprint.dense.iter().any(|pattern| pattern.matches(module(&name))) {
            self.left_dense.push(module(&name).to_owned());
            kept(fact)?
        } else {
            self.source_of_linear(slot, fact, rows)?
        };
        self.check_shape(slot, fact, &shape, &source)?;
        self.blueprint.model.tensors.entry(slot.role.key().to_owned()).or_insert_with(|| template.to_owned());
        self.tensors.push(Planned { name, role: slot.role, shape, source });
        Ok(())
    }

    fn source_of_linear(&mut self, slot: &Slot, fact: &TensorFact, rows: u64) -> Result<Source> {
        let scale_name = format!("{}_scale", fact.name);
        let scale = self.stock.take(&scale_name);
        let source = self.blueprint.storage.source(fact, &scale_name, scale, rows)?;
        let mut start = 0;
        let parts = slot.rows.iter().map(|extent| {
            let end = start + extent.of(&self.blueprint.model);
            std::mem::replace(&mut start, end)..end
        });
        match source {
            Source::Latent { .. } => Ok(Source::Latent { parts: parts.collect() }),
            other => Ok(other),
        }
    }

    fn check_shape(&self, slot: &Slot, fact: &TensorFact, shape: &[u64], source: &Source) -> Result<()> {
        let packed = matches!(source, Source::PackedRows { .. });
        let mut stored = shape.to_vec();
        if packed {
            stored[0] /= 4;
        }
        if fact.shape == stored {
            return Ok(());
        }
        let explain = |extents: &[Extent]| {
            let reasons: Vec<_> =
                extents.iter().map(|e| e.reason(&self.blueprint.model, &self.blueprint.scheme.keys)).collect();
            reasons.join(" + ")
        };
        let rows = match packed {
            true => format!("({}) ÷ 4", explain(slot.rows)),
            false => explain(slot.rows),
        };
        let reason = match slot.cols {
            Some(cols) => format!("{rows}; {}", explain(&[cols])),
            None => rows,
        };
        let expected = format!("shape {} ({reason})", show_shape(&stored));
        Err(FamilyError::invalid(tensor(&fact.name), expected, show_shape(&fact.shape))
            .remedy(format!("check that {} belongs to this checkpoint", self.blueprint.scheme.keys.file)))
    }

    fn missing(&self, slot: &Slot, name: &str) -> FamilyError {
        let keys = &self.blueprint.scheme.keys;
        let model = &self.blueprint.model;
        let reason = match slot.when {
            When::Untied => format!("{} is false", keys.tied),
            When::SubNorms => format!("the {} family has sub-norms", model.family),
            When::QkNorms => format!("the {} family normalises queries and keys", model.family),
            When::QkvBias | When::OBias => {
                format!("the {} family, attention_bias or another layer asks for it", model.family)
            }
            When::MlpBias => "mlp_bias is true".to_owned(),
            When::InputNorms => "use_rms_norm is true, or another layer has it".to_owned(),
            _ if name.contains("layers.") || name.starts_with("blk.") => format!("{} is {}", keys.layers, model.layers),
            _ => format!("every {} model has it", model.family),
        };
        FamilyError::invalid(tensor(name), format!("that it exists, because {reason}"), "no tensor of that name")
            .remedy("check that no file of the checkpoint is missing")
    }

    fn finish(self, notes: &mut Vec<String>) -> Result<Assembled> {
        if let Some(first) = self.left_dense.first() {
            let count = self.left_dense.len();
            notes.push(format!(
                "left dense, as modules_to_not_convert says: {count} linear weights, the first in {first}"
            ));
        }
        let model = self.blueprint.model;
        match self.stock.leftovers(notes).first() {
            Some(name) => Err(unexpected(name, &model, self.blueprint.scheme)),
            None => Ok(Assembled { model, tensors: self.tensors, duplicates: self.duplicates }),
        }
    }
}

fn unexpected(name: &str, model: &Model, scheme: &Scheme) -> FamilyError {
    let family = &model.family;
    let expected = match name.rsplit_once('.').map(|(_, end)| end) {
        Some("bias") => format!("no bias here, as {} describes a {family} model", scheme.keys.file),
        Some("scale") => "no scale, because blocks carry theirs".to_owned(),
        Some("weight_scale") => "no scale, because its weight is left dense".to_owned(),
        _ => format!("only tensors of a {family} model with {} {}", scheme.keys.layers, model.layers),
    };
    FamilyError::invalid(tensor(name), expected, "a tensor that nothing would use")
        .remedy("check that the configuration belongs to this checkpoint; nothing is dropped silently")
}

fn kept(fact: &TensorFact) -> Result<Source> {
    if is_storable_float(fact.dtype) {
        return Ok(Source::Keep);
    }
    let expected = "F32, F16 or BF16, because it is not quantised";
    let error = FamilyError::unsupported(tensor(&fact.name), expected, fact.dtype.to_string());
    Err(if fact.dtype.is_plain() { error } else { error.remedy("convert the model again and keep this tensor in F16") })
}

fn in_layer(template: &str, layer: u64) -> String {
    template.replace("{}", &layer.to_string())
}

/// The module that holds the weight `name`.
fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}
