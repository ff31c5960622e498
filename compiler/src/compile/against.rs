//! Proof that a file is what its source compiles to: compile again, in memory, and compare.

use sbnc_format::Sbnc;
use sbnc_format::writer::Writer;
use sbnc_runtime::map::Map;

use super::{Conduct, Input, Prepared, provenance};
use crate::error::Result;

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The file has exactly the bytes that the source compiles to.
    pub same_bytes: bool,
    /// What differs, one line each; empty if the content is the same.
    pub differences: Vec<String>,
    /// Another version wrote the file.
    pub compiler: Option<String>,
}

/// Compiles `input` with the options that `file` records, without writing anything, and compares.
pub fn against(file: &Sbnc<Map>, input: &Input, conduct: &Conduct<'_>) -> Result<Comparison> {
    let options = provenance::options_of(file.manifest())?;
    let prepared = Prepared::new(input, &options, conduct)?;
    let writer = Writer::dry(prepared.specs()?, &prepared.manifest, &prepared.carried)?;
    let (sealed, _) = prepared.write(writer, conduct)?;
    let mut differences = Vec::new();
    let made = sealed.tensors();
    for (name, content) in made {
        match file.tensor(name) {
            None => differences.push(format!("tensor '{name}' is not in the file")),
            Some(view) if view.tensor().content_digest != *content => {
                differences.push(format!("tensor '{name}' has other content"));
            }
            Some(_) => {}
        }
    }
    for tensor in file.tensors() {
        if !made.iter().any(|(name, _)| *name == tensor.name) {
            differences.push(format!("tensor '{}' is not in the source", tensor.name));
        }
    }
    if file.manifest().model != prepared.plan.model {
        differences.push("the model's description differs".to_owned());
    }
    let written_by = &file.manifest().provenance.compiler;
    let compiler = (written_by != provenance::COMPILER).then(|| written_by.clone());
    Ok(Comparison { same_bytes: sealed.root() == file.root(), differences, compiler })
}
