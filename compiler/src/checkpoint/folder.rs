//! Which files make up the checkpoint at a path.
//!
//! A folder can hold several copies of a model, so the choice follows stated rules and is reported in the notes; where the rules do not
//! decide, the folder is refused with the candidates' names. Entries that are symbolic links to files count as files: that is how
//! download caches are laid out.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use super::sharded::INDEX_NAME;
use super::source::{Access, Source};
use super::{Format, Options, Prefer};

/// Files in a folder that is searched.
const MAX_FOLDER_FILES: u64 = 1 << 16;

const TORCH_NAME: &str = "model_state.pt";
const SAFETENSORS_NAME: &str = "model.safetensors";
const METADATA_NAME: &str = "metadata.json";

/// A choice: what to read, and as what.
pub(super) struct Found {
    pub(super) format: Format,
    pub(super) path: PathBuf,
}

/// Looks at `path` and says in `notes` what was passed over.
pub(super) fn find(path: &Path, options: &Options, notes: &mut Vec<String>) -> Result<Found> {
    let metadata = fs::metadata(path).map_err(|source| CheckpointError::io(path, "open", source))?;
    if metadata.is_dir() { in_folder(path, options, notes) } else { file(path) }
}

/// By its first bytes, or its name where those say nothing.
fn file(path: &Path) -> Result<Found> {
    let found = |format| Ok(Found { format, path: path.to_owned() });
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".safetensors.index.json") {
        return found(Format::Sharded);
    }
    let source = Source::open(path, Access::Read)?;
    let start = source.copy(0, source.len().min(4), "the first bytes")?;
    let extension = path.extension().unwrap_or_default();
    match start.as_slice() {
        b"GGUF" => found(Format::Gguf),
        b"PK\x03\x04" => found(Format::Torch),
        _ if extension == "safetensors" => found(Format::Safetensors),
        _ if extension == "gguf" => found(Format::Gguf),
        _ if extension == "pt" || extension == "pth" || extension == "bin" => found(Format::Torch),
        _ => Err(CheckpointError::unsupported(
            path,
            "a folder, or a .safetensors, .pt or .gguf file",
            "a file of another kind",
        )),
    }
}

fn in_folder(folder: &Path, options: &Options, notes: &mut Vec<String>) -> Result<Found> {
    let names = file_names(folder)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    let found = |format, name: &str| Ok(Found { format, path: folder.join(name) });
    let sparse_bitnet = has(METADATA_NAME) || has(TORCH_NAME);

    if has(TORCH_NAME) && options.prefer != Prefer::Safetensors {
        notes.push(format!("read {TORCH_NAME}"));
        let passed_over: Vec<_> = names.iter().filter(|name| is_safetensors(name)).map(String::as_str).collect();
        if !passed_over.is_empty() {
            notes.push(format!(
                "not read, because {TORCH_NAME} is the trainer's own output: {}",
                passed_over.join(", ")
            ));
        }
        return found(Format::Torch, TORCH_NAME);
    }
    if options.prefer == Prefer::Torch {
        return Err(CheckpointError::malformed(folder, format!("{TORCH_NAME}, as was asked for"), "none"));
    }
    if has(SAFETENSORS_NAME) {
        if has(INDEX_NAME) {
            notes.push(format!("{INDEX_NAME} was not read, because there is a {SAFETENSORS_NAME}"));
        }
        return found(Format::Safetensors, SAFETENSORS_NAME);
    }
    if has(INDEX_NAME) {
        return found(Format::Sharded, INDEX_NAME);
    }
    for (format, suffix) in [(Format::Safetensors, ".safetensors"), (Format::Gguf, ".gguf")] {
        let candidates: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).map(String::as_str).collect();
        match candidates[..] {
            [] => {}
            [only] => {
                notes.push(format!("read {only}, the folder's only {suffix} file"));
                return found(format, only);
            }
            _ => {
                let expected = format!("{SAFETENSORS_NAME}, {INDEX_NAME} or a single {suffix} file");
                let error = CheckpointError::malformed(folder, expected, candidates.join(", "));
                return Err(error.remedy("name one of the files instead of the folder"));
            }
        }
    }
    let expected = if sparse_bitnet {
        format!("{TORCH_NAME} or a .safetensors file beside {METADATA_NAME}")
    } else {
        format!("{SAFETENSORS_NAME}, {INDEX_NAME}, {TORCH_NAME} or a .gguf file")
    };
    Err(CheckpointError::malformed(folder, expected, "none of them"))
}

/// The folder's file names, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>> {
    let refuse = |source| CheckpointError::io(folder, "list", source);
    let mut names = Vec::new();
    for (count, entry) in (1..).zip(fs::read_dir(folder).map_err(refuse)?) {
        let entry = entry.map_err(refuse)?;
        if count > MAX_FOLDER_FILES {
            return Err(CheckpointError::limit(folder, "a number of files", MAX_FOLDER_FILES, "more"));
        }
        // A name that is not text is no name we look for.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors") || name == INDEX_NAME
}
