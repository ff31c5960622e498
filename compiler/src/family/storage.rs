//! How the linear weights of a checkpoint are stored: what its configuration says, checked against each tensor.

use super::error::{FamilyError, Result, tensor};
use super::facts::{Dtype, ScaleRule, TensorFact, is_float};
use super::inventory::show_shape;
use super::plan::{Scale, Source};

/// What the configuration and the options say about linear weights.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// Who says so, for errors.
    pub(super) authority: String,
    /// What a stored scale does, or `None` where nothing says it.
    pub(super) rule: Option<ScaleRule>,
    /// Whether four trits a byte are possible.
    pub(super) packed: bool,
    /// Whether blocks of trits that carry their scales are possible.
    pub(super) blocks: bool,
    /// Whether dense trits with a stored scale are possible.
    pub(super) scaled: bool,
    /// What floating-point weights without a scale are.
    pub(super) plain: Plain,
}

/// What floating-point weights without a scale are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// Latent weights, to be quantised.
    Latent,
    /// Three-valued, and carry their scale.
    Ternary,
    /// Not possible.
    Refused,
}

impl Storage {
    /// Latent weights and nothing else.
    pub(super) fn latent(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            rule: None,
            packed: false,
            blocks: false,
            scaled: false,
            plain: Plain::Latent,
        }
    }

    /// How the linear weight `fact` of `rows` logical rows comes from the source. The parts of a latent weight are the caller's to fill in.
    pub(super) fn source(
        &self,
        fact: &TensorFact,
        scale_name: &str,
        scale: Option<&TensorFact>,
        rows: u64,
    ) -> Result<Source> {
        if let Some(scale) = scale {
            check_scale(scale)?;
        }
        match (fact.dtype, scale) {
            (Dtype::Tq1_0 | Dtype::Tq2_0 | Dtype::I2S, None) if self.blocks => Ok(Source::Blocks),
            (_, None) if self.blocks && self.plain != Plain::Ternary => {
                let expected = "ternary blocks (TQ1_0, TQ2_0 or I2_S), because it is a linear weight";
                Err(FamilyError::unsupported(tensor(&fact.name), expected, fact.dtype.to_string()).remedy(
                    "compile the checkpoint that the file was made from; if its values are three-valued, pass --ternary",
                ))
            }
            (Dtype::U8, _) if !self.packed => Err(self.refuse(fact, "a floating-point weight")),
            (Dtype::U8, None) => {
                let expected = format!("that it exists, because {} is packed", fact.name);
                Err(FamilyError::invalid(tensor(scale_name), expected, "no tensor of that name"))
            }
            (Dtype::U8, Some(_)) if !rows.is_multiple_of(4) => {
                let expected = "a number of rows that is a multiple of 4, because four are packed in a byte";
                Err(FamilyError::invalid(tensor(&fact.name), expected, format!("{rows} rows")))
            }
            (Dtype::U8, Some(_)) => Ok(Source::PackedRows { scale: self.scale(fact, scale_name)? }),
            (dtype, Some(_)) if dtype == Dtype::I8 || is_float(dtype) => {
                if !self.scaled {
                    let expected = if self.packed { "packed trits, U8, beside a scale" } else { "no scale beside it" };
                    return Err(self.refuse(fact, expected));
                }
                Ok(Source::Ternary { scale: Some(self.scale(fact, scale_name)?) })
            }
            (dtype, None) if is_float(dtype) => match self.plain {
                Plain::Latent => Ok(Source::Latent { parts: Vec::new() }),
                Plain::Ternary => Ok(Source::Ternary { scale: None }),
                Plain::Refused => Err(self.refuse(fact, "a ternary weight with a scale").remedy(
                    "if these are latent weights, pass --force-quantize; if they are three-valued, pass --ternary",
                )),
            },
            (Dtype::I8, None) => {
                let expected = format!("that it exists, because {} holds bare trits", fact.name);
                Err(FamilyError::invalid(tensor(scale_name), expected, "no tensor of that name"))
            }
            (dtype, _) => {
                let expected = "a linear weight of F32, F16, BF16, F64, I8 or U8";
                Err(FamilyError::unsupported(tensor(&fact.name), expected, dtype.to_string()))
            }
        }
    }

    fn scale(&self, fact: &TensorFact, scale_name: &str) -> Result<Scale> {
        let rule = self.rule.ok_or_else(|| {
            let expected = format!("to know what the scale of {} does: checkpoints differ", fact.name);
            FamilyError::invalid(tensor(scale_name), expected, "nothing that says it")
                .remedy("pass --packed-scale divide or --packed-scale multiply")
        })?;
        Ok(Scale { tensor: scale_name.to_owned(), rule })
    }

    fn refuse(&self, fact: &TensorFact, expected: &str) -> FamilyError {
        let expected = format!("{expected}, because of {}", self.authority);
        FamilyError::invalid(tensor(&fact.name), expected, format!("{} {}", fact.dtype, show_shape(&fact.shape)))
    }
}

/// A scale is one floating-point number.
fn check_scale(scale: &TensorFact) -> Result<()> {
    if !is_float(scale.dtype) {
        return Err(FamilyError::invalid(tensor(&scale.name), "a floating-point scale", scale.dtype.to_string()));
    }
    if scale.shape.len() <= 2 && scale.shape.iter().all(|&d| d == 1) {
        return Ok(());
    }
    let expected = "one scale for the whole matrix, shape [1]";
    Err(FamilyError::unsupported(tensor(&scale.name), expected, show_shape(&scale.shape))
        .remedy("compile the latent weights instead"))
}
