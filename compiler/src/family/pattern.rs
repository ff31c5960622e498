//! Which N:M pattern the linear weights have: what is declared, what is asked for, and whether the shapes allow it.

use super::error::{FamilyError, Result, tensor};
use super::facts::RequestedPattern;
use super::json::Object;
use super::plan::{Planned, SourceKind};

/// Widest group of a pattern.
const MAX_M: u64 = 16;

/// The pattern that a configuration declares by the keys of the Sparse-BitNet trainer.
pub(super) fn declared(config: &Object, notes: &mut Vec<String>) -> Result<Option<(u8, u8)>> {
    if config.boolean("use_weight_semi_sparse")? != Some(true) {
        return Ok(None);
    }
    // The trainer's own defaults.
    let n = config.count("sparse_n", 1..=1 << 16)?.unwrap_or(2);
    let m = config.count("sparse_m", 1..=1 << 16)?.unwrap_or(4);
    if n > m {
        return Err(config.wrong("sparse_n", format!("at most sparse_m, {m}")));
    }
    if m > MAX_M {
        return Err(config.unsupported("sparse_m", format!("at most {MAX_M}")));
    }
    if n == m {
        notes.push(format!("the declared pattern {n}:{m} keeps every weight: compiled as dense"));
        return Ok(None);
    }
    Ok(Some((n as u8, m as u8)))
}

/// Settles the pattern between declaration and request.
pub(super) fn settle(
    requested: RequestedPattern,
    declared: Option<(u8, u8)>,
    kind: SourceKind,
    notes: &mut Vec<String>,
) -> Result<Option<(u8, u8)>> {
    let latent = matches!(kind, SourceKind::SparseBitnet | SourceKind::HfLatent);
    match (requested, declared) {
        (RequestedPattern::Auto, declared) => Ok(declared),
        (RequestedPattern::None, None) => Ok(None),
        (RequestedPattern::None, Some((n, m))) => {
            notes.push(match latent {
                true => format!("the model was trained with {n}:{m}, which --nm none ignores: its results will differ"),
                false => format!("the declared pattern {n}:{m} is not recorded, as --nm none asks"),
            });
            Ok(None)
        }
        (RequestedPattern::Nm(n, m), declared) => {
            if n == 0 || n >= m || u64::from(m) > MAX_M {
                let expected = format!("N:M with 1 ≤ N < M ≤ {MAX_M}");
                return Err(FamilyError::invalid("--nm", expected, format!("{n}:{m}")));
            }
            match declared {
                Some(pattern) if pattern != (n, m) && !latent => {
                    let expected = format!("{}:{}, which the configuration declares", pattern.0, pattern.1);
                    return Err(FamilyError::invalid("--nm", expected, format!("{n}:{m}"))
                        .remedy("leave --nm out: ternary weights are checked, never pruned"));
                }
                Some(pattern) if pattern != (n, m) => {
                    let (a, b) = pattern;
                    notes.push(format!("the model was trained with {a}:{b}; --nm {n}:{m} changes its results"));
                }
                None if latent => {
                    notes.push(format!("the model was not trained with a pattern; --nm {n}:{m} changes its results"));
                }
                _ => {}
            }
            Ok(Some((n, m)))
        }
    }
}

/// Checks that no group straddles two rows.
pub(super) fn check_groups(pattern: Option<(u8, u8)>, tensors: &[Planned]) -> Result<()> {
    let Some((n, m)) = pattern else { return Ok(()) };
    let straddles = |cols: u64| !cols.is_multiple_of(u64::from(m));
    let ternary = tensors.iter().filter(|planned| planned.is_ternary());
    match ternary.filter_map(|p| p.shape.last().map(|&cols| (p, cols))).find(|(_, cols)| straddles(*cols)) {
        None => Ok(()),
        Some((planned, cols)) => {
            let expected = format!("inputs in whole groups of {m}, because of the pattern {n}:{m}");
            Err(FamilyError::invalid(tensor(&planned.name), expected, format!("{cols} inputs"))
                .remedy("choose another pattern with --nm, or none"))
        }
    }
}
