//! The input: a checkpoint, the files beside it, and what the model families make of them.

use std::fs;
use std::path::{Path, PathBuf};

use sbnc_format::writer::Carried;

use super::Options;
use crate::checkpoint::{self, Bytes, Checkpoint, Entry, Format};
use crate::error::{Error, Exit, Result};
use crate::family::{self, Facts, GgufFacts, Plan, Source, SourceKind, TensorFact};

/// Files that are carried along where they exist: what a runtime or a person may want of the folder.
const CARRIED: [&str; 11] = [
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "metadata.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// Any of these makes text of tokens.
const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "vocab.json"];

/// Most bytes of a configuration.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Most bytes of a carried file.
const MAX_CARRIED_BYTES: u64 = sbnc_format::limits::MAX_FILE_RAW_BYTES;

/// An opened checkpoint and the texts beside it.
#[derive(Debug)]
pub struct Input {
    checkpoint: Checkpoint,
    path: PathBuf,
    folder: PathBuf,
    config: Option<String>,
    metadata: Option<String>,
    generation_config: Option<String>,
}

impl Input {
    /// Opens a folder or a file. Beside a file, the configuration in the same folder is read too.
    pub fn open(path: &Path) -> Result<Self> {
        fs::metadata(path).map_err(|e| Error::io(path, "open", &e))?;
        let folder = if path.is_dir() { path } else { parent_of(path) };
        let checkpoint = Checkpoint::open(path, &checkpoint::Options::default())?;
        let text = |name: &str| {
            let beside_gguf = checkpoint.format() == Format::Gguf;
            if beside_gguf { Ok(None) } else { read_text(&folder.join(name)) }
        };
        let (config, metadata, generation_config) =
            (text("config.json")?, text("metadata.json")?, text("generation_config.json")?);
        if path.is_dir() && config.is_none() && metadata.is_none() && checkpoint.format() != Format::Gguf {
            let message = format!(
                "{}: expected config.json or metadata.json beside the weights, found neither; add it, or name a .safetensors file to compile \
                 weights without a model",
                path.display()
            );
            return Err(Error::new(Exit::Invalid, message));
        }
        Ok(Self { checkpoint, path: path.to_owned(), folder: folder.to_owned(), config, metadata, generation_config })
    }

    /// Every file that the input is made of: those that hold tensors, and those beside them that are read or carried along.
    pub fn files(&self) -> Vec<PathBuf> {
        let sources = self.checkpoint.sources().iter().map(|s| s.path().to_owned());
        let beside =
            CARRIED.iter().copied().chain([checkpoint::sharded::INDEX_NAME]).map(|name| self.folder.join(name));
        sources.chain(std::iter::once(self.path.clone())).chain(beside.filter(|path| path.exists())).collect()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.checkpoint.entries().iter().map(|e| e.bytes).sum()
    }

    /// What should be known of how the checkpoint was read.
    pub fn notes(&self) -> &[String] {
        self.checkpoint.notes()
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn entry(&self, name: &str) -> Result<&Entry> {
        let missing = || Error::new(Exit::Invalid, format!("{}: no tensor '{name}'", self.folder.display()));
        self.checkpoint.entry(name).ok_or_else(missing)
    }

    /// The name of the file that holds a tensor.
    pub(super) fn name(&self, entry: &Entry) -> String {
        file_name(self.checkpoint.sources()[entry.file].path())
    }

    /// Decides what becomes of every tensor.
    pub(super) fn plan(&self, options: &Options) -> Result<Plan> {
        let tensors: Vec<TensorFact> = self.checkpoint.entries().iter().map(TensorFact::from).collect();
        let facts = Facts {
            config: self.config.as_deref(),
            metadata: self.metadata.as_deref(),
            generation_config: self.generation_config.as_deref(),
            tensors: &tensors,
        };
        let gguf_facts = GgufFacts { metadata: self.checkpoint.gguf_metadata(), tensors: &tensors };
        let gguf = self.checkpoint.format() == Format::Gguf;
        let plan = |options: &family::Options| {
            if gguf { family::plan_gguf(&gguf_facts, options) } else { family::plan(&facts, options) }
        };
        let place = |e: family::FamilyError| {
            let exit = if e.exit_code() == 5 { Exit::Unsupported } else { Exit::Invalid };
            Error::new(exit, format!("{}: {e}", self.folder.display()))
        };
        let chosen = plan(&options.family);
        // The mean of weights that are ternary already counts their zeros: their scale must be taken over, not computed. And a model that shows no
        // other sign of ternary training shows this one.
        let may_be_ternary = match &chosen {
            Ok(chosen) => chosen.kind == SourceKind::HfLatent,
            Err(e) => e.exit_code() == 5,
        };
        if may_be_ternary && !options.family.already_ternary && !options.family.force_quantize {
            let taken_over = plan(&family::Options { already_ternary: true, ..options.family.clone() });
            if let Ok(mut taken_over) = taken_over
                && self.is_three_valued(&taken_over)?
            {
                taken_over
                    .notes
                    .push("the weights are three-valued: their trits and scales were taken over".to_owned());
                return Ok(taken_over);
            }
        }
        chosen.map_err(place)
    }

    /// Whether most linear weights are three-valued, judged by their first rows: one magnitude in each besides zero. Most, not all: then one that is not
    /// gets an error that names it, and one that is by accident decides nothing.
    fn is_three_valued(&self, plan: &Plan) -> Result<bool> {
        let (mut linears, mut three_valued) = (0, 0);
        for planned in plan.tensors.iter().filter(|t| matches!(t.source, Source::Ternary { scale: None })) {
            linears += 1;
            three_valued += usize::from(self.starts_three_valued(self.entry(&planned.name)?)?);
        }
        Ok(2 * three_valued > linears)
    }

    fn starts_three_valued(&self, entry: &Entry) -> Result<bool> {
        let rows = entry.rows().min(4);
        let bytes = self.checkpoint.rows(entry, 0..rows)?;
        let mut values = vec![0.0; (rows * entry.cols()) as usize];
        if entry.dtype.to_f32(&bytes, &mut values).is_none() {
            return Ok(false);
        }
        let one_magnitude = |row: &[f32]| {
            let mut magnitudes = row.iter().map(|v| v.abs()).filter(|&v| v != 0.0);
            let first = magnitudes.next();
            first.is_some() && magnitudes.all(|v| Some(v) == first)
        };
        Ok(values.chunks_exact(entry.cols() as usize).all(one_magnitude))
    }

    /// Checks that what the plan leaves out as a copy is one.
    pub(super) fn check_duplicates(&self, plan: &Plan) -> Result<()> {
        for pair in &plan.duplicates {
            let (copy, kept) = (self.entry(&pair.name)?, self.entry(&pair.duplicate_of)?);
            let runs = copy.row_runs(64 << 20);
            for rows in runs {
                let same = self.checkpoint.rows(copy, rows.clone())?[..] == self.checkpoint.rows(kept, rows)?[..];
                if !same {
                    let message = format!(
                        "{}: tensor '{}': expected a copy of '{}', which the configuration ties it to; found other values; \
                         set tie_word_embeddings to false, or remove the tensor",
                        self.name(copy),
                        pair.name,
                        pair.duplicate_of
                    );
                    return Err(Error::new(Exit::Invalid, message));
                }
            }
        }
        Ok(())
    }

    /// A scale: one number in a tensor of its own.
    pub(super) fn scalar(&self, name: &str) -> Result<f32> {
        let entry = self.entry(name)?;
        let bytes: Bytes = self.checkpoint.bytes(entry)?;
        let mut value = [0.0];
        match entry.dtype.to_f32(&bytes, &mut value) {
            Some(()) if value[0].is_finite() && value[0] > 0.0 => Ok(value[0]),
            _ => {
                let found = format!("tensor '{name}': expected one finite scale above 0, found {}", value[0]);
                Err(Error::new(Exit::Invalid, found))
            }
        }
    }

    /// The files to carry along, and a note if none of them makes text of tokens.
    pub(super) fn carried(&self) -> Result<(Vec<Carried>, Vec<String>)> {
        let mut carried = Vec::new();
        let mut notes = Vec::new();
        if self.checkpoint.format() == Format::Gguf || (self.config.is_none() && self.metadata.is_none()) {
            return Ok((carried, notes));
        }
        for name in CARRIED {
            let path = self.folder.join(name);
            if let Some(bytes) = read_bounded(&path, MAX_CARRIED_BYTES)? {
                carried.push(Carried::new(name, &bytes).map_err(|e| Error::io(&path, "compress", &e))?);
            }
        }
        if !carried.iter().any(|c| TOKENIZERS.contains(&c.entry.name.as_str())) {
            notes.push("no tokenizer beside the checkpoint: the model can be run with token ids only".to_owned());
        }
        Ok((carried, notes))
    }
}

/// The last part of a path, for people.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_bounded(path, MAX_CONFIG_BYTES)? else { return Ok(None) };
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::new(Exit::Invalid, format!("{}: expected UTF-8, found {e}", path.display())))?;
    Ok(Some(text))
}

/// The bytes of a regular file, or `None` if there is none.
fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let length = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => return Err(Error::new(Exit::Io, format!("{}: not a regular file", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "open", &e)),
    };
    if length > most {
        let message = format!("{}: expected at most {most} bytes, found {length}", path.display());
        return Err(Error::new(Exit::Invalid, message));
    }
    fs::read(path).map(Some).map_err(|e| Error::io(path, "read", &e))
}
