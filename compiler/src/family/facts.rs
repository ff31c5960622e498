//! What is known about a checkpoint before any of its weights is read, and what the user asks for.

use crate::checkpoint::{Entry, gguf};

pub use crate::checkpoint::Dtype;

/// A checkpoint, described: the texts beside the weights and the header of every tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Text of `config.json`.
    pub config: Option<&'a str>,
    /// Text of `metadata.json`, which the Sparse-BitNet trainer writes.
    pub metadata: Option<&'a str>,
    /// Text of `generation_config.json`.
    pub generation_config: Option<&'a str>,
    /// Every tensor of the checkpoint, in any order.
    pub tensors: &'a [TensorFact],
}

/// A GGUF file, described: its metadata and the header of every tensor.
#[derive(Clone, Copy, Debug)]
pub struct GgufFacts<'a> {
    /// The metadata of the file.
    pub metadata: &'a gguf::Metadata,
    /// Every tensor of the file, in any order.
    pub tensors: &'a [TensorFact],
}

/// The header of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFact {
    /// Its name in the checkpoint.
    pub name: String,
    /// The type of its stored elements.
    pub dtype: Dtype,
    /// Its stored dimensions, outermost first.
    pub shape: Vec<u64>,
}

impl From<&Entry> for TensorFact {
    fn from(entry: &Entry) -> Self {
        Self { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.clone() }
    }
}

/// Whether the elements are floating-point numbers of at most 32 bits, which the file holds as they are.
pub(super) fn is_storable_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Whether the elements are floating-point numbers.
pub(super) fn is_float(dtype: Dtype) -> bool {
    is_storable_float(dtype) || dtype == Dtype::F64
}

/// What the user asks for. The default asks for nothing: everything is decided by the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--nm`: the N:M pattern.
    pub pattern: RequestedPattern,
    /// `--include`: which 2-D tensors of a checkpoint without configuration are linear weights; empty for all.
    pub include: Vec<String>,
    /// `--exclude`: which of them are not.
    pub exclude: Vec<String>,
    /// `--force-quantize`: make ternary what was not trained to be.
    pub force_quantize: bool,
    /// `--ternary`: dense weights are three-valued already, and keep their values.
    pub already_ternary: bool,
    /// `--packed-scale`: what `weight_scale` does where the checkpoint does not say.
    pub packed_scale: Option<ScaleRule>,
}

/// The pattern that the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestedPattern {
    /// What the checkpoint declares.
    #[default]
    Auto,
    /// No pattern.
    None,
    /// At most N non-zeros in every M consecutive inputs.
    Nm(u8, u8),
}

/// What a stored scale does to the sum of a row. Checkpoints use one name, `weight_scale`, for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleRule {
    /// The weight is trit ÷ scale.
    Divide,
    /// The weight is trit × scale.
    Multiply,
}
