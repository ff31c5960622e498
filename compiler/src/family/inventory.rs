//! The tensors of a checkpoint by name, each to be used once: what is left at the end was not expected.

use std::collections::{BTreeMap, BTreeSet};

use sbnc_format::limits::{MAX_DIM, MAX_ELEMENTS, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS};

use super::error::{FamilyError, Result, clip, tensor};
use super::facts::TensorFact;

/// Ends of names of tensors that some savers write although the graph computes them.
const COMPUTED: [&str; 6] = [
    "rotary_emb.inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
    ".masked_bias",
    ".rope.freqs",
    "freqs_cis",
];

/// Parts of names that give away a mixture of experts.
const EXPERTS: [&str; 6] = [".experts.", ".router.", "block_sparse_moe.", ".shared_expert", ".ffn_gate_inp", "_exps."];

pub(super) struct Inventory<'a> {
    all: BTreeMap<&'a str, &'a TensorFact>,
    unused: BTreeSet<&'a str>,
}

impl<'a> Inventory<'a> {
    /// Takes stock, and refuses what could be no tensor of the file whatever it is for.
    pub(super) fn new(tensors: &'a [TensorFact]) -> Result<Self> {
        if tensors.len() > MAX_TENSORS {
            let expected = format!("at most {MAX_TENSORS} tensors");
            return Err(FamilyError::invalid("checkpoint", expected, tensors.len().to_string()));
        }
        let mut all = BTreeMap::new();
        for fact in tensors {
            check_name(&fact.name)?;
            if all.insert(fact.name.as_str(), fact).is_some() {
                return Err(FamilyError::invalid(tensor(&fact.name), "one tensor of that name", "two"));
            }
        }
        let unused = all.keys().copied().collect();
        Ok(Self { all, unused })
    }

    /// Refuses a mixture of experts by its names, which say more than any missing tensor would.
    pub(super) fn refuse_experts(&self) -> Result<()> {
        match self.all.keys().find(|name| EXPERTS.iter().any(|part| name.contains(part))) {
            None => Ok(()),
            Some(name) => {
                let expected = "a dense feed-forward layer";
                Err(FamilyError::unsupported(tensor(name), expected, "a mixture of experts (MoE)"))
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a TensorFact> {
        self.all.get(name).copied()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.all.keys().any(|name| test(name))
    }

    /// Uses a tensor.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a TensorFact> {
        self.unused.remove(name);
        self.get(name)
    }

    /// The names not used so far, in order, without those that the graph computes; the latter are noted.
    pub(super) fn leftovers(self, notes: &mut Vec<String>) -> Vec<&'a str> {
        let computed = |name: &&str| COMPUTED.iter().any(|end| name.ends_with(end));
        let (computed, left): (Vec<_>, Vec<_>) = self.unused.into_iter().partition(computed);
        if let Some(first) = computed.first() {
            let others = match computed.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            notes.push(format!("left out, because the runtime computes them: {first}{others}"));
        }
        left
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| (0x21..=0x7E).contains(&b) && !matches!(b, b'"' | b'\\');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let expected = format!("a name of 1 to {MAX_NAME_BYTES} printable ASCII characters without quotes or backslashes");
    Err(FamilyError::invalid(tensor(name), expected, format!("{} bytes: \"{}\"", name.len(), clip(name))))
}

/// Checks the limits of the file, for tensors whose shape no configuration implies.
pub(super) fn check_limits(name: &str, shape: &[u64]) -> Result<()> {
    let elements = shape.iter().try_fold(1u64, |product, &d| product.checked_mul(d));
    let fits = (1..=MAX_RANK).contains(&shape.len())
        && shape.iter().all(|d| (1..=MAX_DIM).contains(d))
        && elements.is_some_and(|n| n <= MAX_ELEMENTS);
    if fits {
        return Ok(());
    }
    let expected = format!("1 to {MAX_RANK} dimensions of 1 to {MAX_DIM}, and at most {MAX_ELEMENTS} elements");
    Err(FamilyError::invalid(tensor(name), expected, show_shape(shape)))
}

/// A shape as errors show it.
pub(super) fn show_shape(shape: &[u64]) -> String {
    let shown: Vec<_> = shape.iter().take(8).map(u64::to_string).collect();
    let more = if shape.len() > 8 { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
}
