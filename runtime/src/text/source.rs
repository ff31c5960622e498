//! Where a tokenizer comes from: the files that a model carries, or others beside it.

use std::path::Path;

use super::{Source, Tokenizer};
use crate::error::{Error, Kind, Result};

/// What a folder or a model may have.
const NAMES: [&str; 4] = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"];

/// The largest file that is read.
const MAX_BYTES: u64 = sbnc_format::limits::MAX_FILE_RAW_BYTES;

impl Source {
    /// Takes every file from `read`, by name.
    pub fn from_files(mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let [tokenizer_json, tokenizer_model, tokenizer_config, chat_template] = NAMES.map(&mut read);
        Ok(Self {
            tokenizer_json: tokenizer_json?,
            tokenizer_model: tokenizer_model?,
            tokenizer_config: tokenizer_config?,
            chat_template: chat_template?,
            ..Self::default()
        })
    }

    /// Reads a model's folder, or a `tokenizer.json` or `tokenizer.model` and what lies beside it.
    pub fn from_path(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_files(|name| read_if_there(&path.join(name)));
        }
        let bytes = read_if_there(path)?;
        let bytes = bytes.ok_or_else(|| Error::io(path, "open it", &std::io::ErrorKind::NotFound.into()))?;
        let beside = |name: &str| read_if_there(&path.with_file_name(name));
        let json = path.extension().is_some_and(|e| e == "json");
        let (tokenizer_json, tokenizer_model) = if json { (Some(bytes), None) } else { (None, Some(bytes)) };
        Ok(Self {
            tokenizer_json,
            tokenizer_model,
            tokenizer_config: beside("tokenizer_config.json")?,
            chat_template: beside("chat_template.jinja")?,
            ..Self::default()
        })
    }
}

impl Tokenizer {
    /// Loads the tokenizer of a folder or file, see [`Source::from_path`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(&Source::from_path(path)?).map_err(|e| e.in_file(path))
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "open it", &e)),
    };
    if length > MAX_BYTES {
        let expected = format!("at most {MAX_BYTES} bytes");
        return Err(Error::new(Kind::Invalid, "tokenizer file", expected, length.to_string()).in_file(path));
    }
    std::fs::read(path).map(Some).map_err(|e| Error::io(path, "read it", &e))
}
