//! Outputs that would overwrite what they are made of, found before the work rather than after it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};

/// Refuses outputs that are one of the inputs, or each other.
pub(crate) fn check_outputs(outputs: &[&Path], inputs: &[PathBuf]) -> Result<()> {
    let usage = |message: String| Err(Error::new(Exit::Usage, message));
    for (i, output) in outputs.iter().enumerate() {
        let place = place(output);
        if inputs.iter().any(|input| self::place(input) == place) {
            return usage(format!("{}: is an input, and would be overwritten; name another output", output.display()));
        }
        if outputs[..i].iter().any(|other| self::place(other) == place) {
            return usage(format!("{}: is named for two outputs; name two files", output.display()));
        }
    }
    Ok(())
}

/// Where a path leads, whether or not there is a file yet.
fn place(path: &Path) -> PathBuf {
    if let Ok(there) = path.canonicalize() {
        return there;
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
