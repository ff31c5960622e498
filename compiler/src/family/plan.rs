//! The outcome: which tensors make up the model, in the order of execution, and how each becomes a tensor of the file.

use std::ops::Range;

use sbnc_format::manifest::Model;

use super::facts::ScaleRule;
use super::roles::Role;

/// How to compile a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What kind of checkpoint it is.
    pub kind: SourceKind,
    /// The model, or `None` for weights without one.
    pub model: Option<Model>,
    /// The N:M pattern of the linear weights: to be imposed on latent weights, to be checked on ternary ones.
    pub pattern: Option<(u8, u8)>,
    /// The tensors of the file, in the order of execution: embedding, layers, norm, head.
    pub tensors: Vec<Planned>,
    /// Tensors that are left out because the configuration says they equal another; the caller compares their bytes.
    pub duplicates: Vec<Duplicate>,
    /// What the user should know: what was assumed, dropped or left dense.
    pub notes: Vec<String>,
}

/// Kinds of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Latent weights in the layout of the Sparse-BitNet trainer.
    SparseBitnet,
    /// Latent weights in a folder with a `config.json`.
    HfLatent,
    /// Trits, four to a byte, with a `weight_scale` each.
    HfPacked,
    /// Dense tensors that hold three values only.
    HfTernary,
    /// A GGUF file of ternary blocks.
    Gguf,
    /// Weights without a model.
    Weights,
}

impl SourceKind {
    /// The name in the manifest's `provenance.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SparseBitnet => "sparse-bitnet",
            Self::HfLatent => "hf-latent",
            Self::HfPacked => "hf-packed",
            Self::HfTernary => "hf-ternary",
            Self::Gguf => "gguf",
            Self::Weights => "weights",
        }
    }
}

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name, which is the source's.
    pub name: String,
    /// Its role in the graph.
    pub role: Role,
    /// Its logical dimensions: rows and columns of a matrix, whatever way the source packs them.
    pub shape: Vec<u64>,
    /// How its content comes from the source.
    pub source: Source,
}

/// How the content of a tensor comes from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// As it is.
    Keep,
    /// Quantised, every part (a range of rows) with a scale of its own.
    Latent {
        /// The parts, which cover the rows in order.
        parts: Vec<Range<u64>>,
    },
    /// Unpacked: the tensor of the same name holds four trits a byte, row r in byte row r mod (rows ÷ 4).
    PackedRows {
        /// The scale.
        scale: Scale,
    },
    /// Taken over: the tensor of the same name is dense and three-valued.
    Ternary {
        /// The scale, or `None` where the values carry it.
        scale: Option<Scale>,
    },
    /// Decoded: the tensor of the same name is of TQ1_0, TQ2_0 or I2_S blocks, which yield the trits and a multiplier for every row.
    Blocks,
}

/// A stored scale: one number for a whole matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The tensor that holds it.
    pub tensor: String,
    /// What it does.
    pub rule: ScaleRule,
}

/// A tensor that is left out because it should equal another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The tensor that is left out.
    pub name: String,
    /// The planned tensor that it must equal, byte for byte.
    pub duplicate_of: String,
}

impl Planned {
    /// Whether the tensor becomes trits. A linear weight that the source leaves unquantised does not.
    pub fn is_ternary(&self) -> bool {
        !matches!(self.source, Source::Keep)
    }
}
