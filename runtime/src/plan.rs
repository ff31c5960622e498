//! What is computed with which tensors: the graph of a model, checked once, before anything runs.
//!
//! ```text
//! token ── embed ──▶ x ─┬─ attn_norm ─ q k v ─ [q_norm k_norm] ─ rope ─ attention ─ [attn_sub_norm] ─ o ─▶ + ─┐
//!                       └──────────────────────────────────────────────────────────────────────────────────┘ │
//!        ┌─────────────────────────────────────────────────────────────────────────────────────────────────┘
//!        └─ x ─┬─ ffn_norm ─ gate up ─ activation(gate) · up ─ [ffn_sub_norm] ─ down ─▶ + ─▶ next layer … norm ─ head ─▶ logits
//!              └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Parts in brackets exist where the manifest names them. Every projection may have a bias and a norm of its own input, and may be left dense. All devices
//! run this plan; how is their business.

use std::collections::BTreeSet;

use sbnc_format::manifest::Model;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::tensor::{File, Weight, encoding, vector};

/// All tensors of a model, by what they do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) embed: Weight,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// `None` where the head is the embedding.
    pub(crate) head: Option<Weight>,
}

/// One decoder layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) qkv: Projections,
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) attn_sub_norm: Option<Vec<f32>>,
    pub(crate) o: Projections,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate_up: Projections,
    pub(crate) ffn_sub_norm: Option<Vec<f32>>,
    pub(crate) down: Projections,
}

/// Matrices whose outputs lie side by side and that take the same input, but for norms of their own.
#[derive(Debug)]
pub(crate) struct Projections {
    pub(crate) parts: Vec<Projection>,
    /// Outputs of all parts.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

/// One matrix.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Vec<f32>>,
    /// A norm of this projection's input, after the layer's.
    pub(crate) norm: Option<Vec<f32>>,
    /// Where its outputs begin among those of all parts.
    pub(crate) offset: usize,
}

impl Projections {
    /// Whether one quantised input serves all parts.
    pub(crate) fn share_input(&self) -> bool {
        self.parts.iter().all(|part| part.norm.is_none() && part.weight.is_ternary())
    }
}

impl Plan {
    /// The graph of the model that a file holds.
    pub(crate) fn new(file: &File, model: &Model, config: &Config) -> Result<Self> {
        let names = Names { file, model };
        names.check_roles()?;
        let (hidden, vocab) = (config.hidden, config.vocab);
        let embed = Weight::open(file, &names.required("embed", 0)?, Some([vocab, hidden]))?;
        let head = match (config.tied, names.named("head", 0)) {
            (true, None) => None,
            (false, Some(name)) => Some(Weight::open(file, &name, Some([vocab, hidden]))?),
            (true, Some(name)) => {
                let expected = "no head, because model.tied is true";
                return Err(Error::new(Kind::Invalid, "model.tensors.head", expected, name));
            }
            (false, None) => return Err(names.unnamed("head")),
        };
        for (role, weight) in [("embed", Some(&embed)), ("head", head.as_ref())] {
            if weight.is_some_and(Weight::is_ternary) {
                let expected = "f32, f16, bf16 or i8";
                return Err(Error::new(Kind::Unsupported, format!("model.tensors.{role}"), expected, "trits"));
            }
        }
        let layers = (0..config.layers).map(|layer| Layer::new(&names, config, layer)).collect::<Result<_>>()?;
        let norm = vector(file, &names.required("norm", 0)?, hidden)?;
        Ok(Self { embed, layers, norm, head })
    }

    /// The output head.
    pub(crate) fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// All matrices of the layers, in the order of execution.
    pub(crate) fn projections(&self) -> impl Iterator<Item = &Projections> {
        self.layers.iter().flat_map(Layer::projections)
    }
}

impl Layer {
    fn new(names: &Names<'_>, config: &Config, layer: usize) -> Result<Self> {
        let (q, kv, hidden, inner) = (config.q_width(), config.kv_width(), config.hidden, config.intermediate);
        let required = |role: &str, len| vector(names.file, &names.required(role, layer)?, len);
        let optional = |role: &str, len| names.vector(role, layer, len);
        let qkv = [("q", q), ("k", kv), ("v", kv)];
        Ok(Self {
            attn_norm: required("attn_norm", hidden)?,
            qkv: names.projections(layer, "qkv", &qkv, hidden)?,
            q_norm: optional("q_norm", config.head_dim)?,
            k_norm: optional("k_norm", config.head_dim)?,
            attn_sub_norm: optional("attn_sub_norm", q)?,
            o: names.projections(layer, "o", &[("o", hidden)], q)?,
            ffn_norm: required("ffn_norm", hidden)?,
            gate_up: names.projections(layer, "gate_up", &[("gate", inner), ("up", inner)], hidden)?,
            ffn_sub_norm: optional("ffn_sub_norm", inner)?,
            down: names.projections(layer, "down", &[("down", hidden)], inner)?,
        })
    }

    /// The layer's matrices, in the order of execution.
    pub(crate) fn projections(&self) -> [&Projections; 4] {
        [&self.qkv, &self.o, &self.gate_up, &self.down]
    }
}

/// Roles that the graph has.
const ROLES: [&str; 32] = [
    "embed",
    "head",
    "norm",
    "attn_norm",
    "q",
    "k",
    "v",
    "qkv",
    "o",
    "attn_sub_norm",
    "q_norm",
    "k_norm",
    "ffn_norm",
    "gate",
    "up",
    "gate_up",
    "down",
    "ffn_sub_norm",
    "q_bias",
    "k_bias",
    "v_bias",
    "o_bias",
    "gate_bias",
    "up_bias",
    "down_bias",
    "q_in_norm",
    "k_in_norm",
    "v_in_norm",
    "o_in_norm",
    "gate_in_norm",
    "up_in_norm",
    "down_in_norm",
];

/// The names that a manifest gives to roles.
struct Names<'a> {
    file: &'a File,
    model: &'a Model,
}

impl Names<'_> {
    /// A role that the graph lacks would be left out of the computation.
    fn check_roles(&self) -> Result<()> {
        let known = BTreeSet::from(ROLES);
        match self.model.tensors.keys().find(|role| !known.contains(role.as_str())) {
            None => Ok(()),
            Some(role) => {
                let error = Error::new(Kind::Unsupported, "model.tensors", "roles that this version knows", role);
                Err(error.remedy("use a newer version"))
            }
        }
    }

    fn named(&self, role: &str, layer: usize) -> Option<String> {
        self.model.tensor(role, layer)
    }

    fn required(&self, role: &str, layer: usize) -> Result<String> {
        self.named(role, layer).ok_or_else(|| self.unnamed(role))
    }

    fn unnamed(&self, role: &str) -> Error {
        let subject = format!("model.tensors.{role}");
        Error::new(Kind::Invalid, subject, "the name of a tensor, which every model of this kind has", "none")
    }

    fn vector(&self, role: &str, layer: usize, len: usize) -> Result<Option<Vec<f32>>> {
        self.named(role, layer).map(|name| vector(self.file, &name, len)).transpose()
    }

    /// The matrices of `parts` (role and rows), or the one that fuses them.
    fn projections(&self, layer: usize, fused: &str, parts: &[(&str, usize)], cols: usize) -> Result<Projections> {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let projections = match self.named(fused, layer) {
            Some(name) if parts.len() > 1 => vec![self.fused(layer, &name, parts, cols)?],
            _ => self.split(layer, parts, cols)?,
        };
        Ok(Projections { parts: projections, rows, cols })
    }

    fn split(&self, layer: usize, parts: &[(&str, usize)], cols: usize) -> Result<Vec<Projection>> {
        let mut offset = 0;
        let projection = |&(role, rows): &(&str, usize)| {
            let name = self.required(role, layer)?;
            let weight = self.weight(&name, [rows, cols])?;
            let bias = self.vector(&format!("{role}_bias"), layer, rows)?;
            let norm = self.vector(&format!("{role}_in_norm"), layer, cols)?;
            offset += rows;
            Ok(Projection { weight, bias, norm, offset: offset - rows })
        };
        parts.iter().map(projection).collect()
    }

    /// One matrix for all parts: then there is one input, and the biases of parts lie one after another.
    fn fused(&self, layer: usize, name: &str, parts: &[(&str, usize)], cols: usize) -> Result<Projection> {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        for (role, _) in parts {
            for role in [(*role).to_owned(), format!("{role}_in_norm")] {
                if let Some(other) = self.named(&role, layer) {
                    let expected = format!("no such tensor beside '{name}', which fuses it with others");
                    return Err(Error::new(Kind::Invalid, format!("model.tensors.{role}"), expected, other));
                }
            }
        }
        let mut bias = Vec::with_capacity(rows);
        let mut has_bias = false;
        for &(role, rows) in parts {
            let part = self.vector(&format!("{role}_bias"), layer, rows)?;
            has_bias |= part.is_some();
            bias.extend(part.unwrap_or_else(|| vec![0.0; rows]));
        }
        let weight = self.weight(name, [rows, cols])?;
        Ok(Projection { weight, bias: has_bias.then_some(bias), norm: None, offset: 0 })
    }

    /// A linear weight: trits, or numbers where the compiler was told to leave it dense.
    fn weight(&self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        if encoding(self.file, name) == Some(sbnc_format::Encoding::I8) {
            let subject = format!("tensor '{name}'");
            return Err(Error::new(Kind::Unsupported, subject, "trits, f32, f16 or bf16", "int8"));
        }
        Weight::open(self.file, name, Some(shape))
    }
}
