//! What is known about a checkpoint before any of its weights is read, and what the user asks for.

use std::fmt;

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

/// Types of stored elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the container formats")]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I8,
    U8,
    I16,
    I32,
    I64,
    Bool,
    /// A block type of GGUF, by its number.
    Gguf(u32),
}

impl Dtype {
    /// Whether the elements are floating-point numbers of at most 32 bits, which the file holds as they are.
    pub fn is_storable_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        self.is_storable_float() || self == Self::F64
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(number) => write!(out, "GGUF type {number}"),
            named => write!(out, "{named:?}"),
        }
    }
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
