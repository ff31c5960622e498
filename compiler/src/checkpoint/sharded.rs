//! `model.safetensors.index.json`: one model in several safetensors files.
//!
//! The index is checked against the shards in both directions, so a tensor can neither be lost nor come from a file that the index
//! does not mean. Shard names are plain file names: an index cannot reach outside its folder (a symbolic link placed in the
//! folder can, which is how download caches lay models out).

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::entry::Catalog;
use super::error::Result;
use super::safetensors;
use super::source::{Access, Source};
use crate::json;

/// The index's file name.
pub const INDEX_NAME: &str = "model.safetensors.index.json";
/// Bytes in the index.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Shards of one model; each holds a file descriptor while the checkpoint is open.
pub const MAX_SHARDS: u64 = 512;

/// Reads the index at `path` and every shard's header. The shards come sorted by name.
pub(crate) fn read(path: &Path, access: Access, catalog: &mut Catalog) -> Result<Vec<Source>> {
    let index = Source::open(path, access)?;
    index.at_most("an index in bytes", index.len(), MAX_INDEX_BYTES)?;
    let text = index.copy(0, index.len(), "the index")?;
    let Index { weight_map } = json::parse(&text).map_err(|error| {
        index.malformed("an index with a weight_map of tensor name to shard name", format!("JSON where {error}"))
    })?;

    let mut shards: Vec<&str> = weight_map.values().map(String::as_str).collect();
    shards.sort_unstable();
    shards.dedup();
    index.at_most("a number of shards", shards.len() as u64, MAX_SHARDS)?;
    for shard in &shards {
        if !is_plain_file_name(shard) {
            return Err(index.malformed("shards that are plain names of files beside the index", format!("{shard:?}")));
        }
    }

    let folder = path.parent().unwrap_or(Path::new("."));
    let mut sources = Vec::with_capacity(shards.len());
    for (file, shard) in shards.iter().enumerate() {
        let source = Source::open(&folder.join(shard), access)?;
        let first = catalog.entries.len();
        safetensors::read(&source, file, catalog)?;
        for entry in &catalog.entries[first..] {
            if weight_map.get(&entry.name).is_none_or(|mapped| mapped != shard) {
                let found = match weight_map.get(&entry.name) {
                    Some(mapped) => format!("the index says {mapped:?}"),
                    None => "the index does not know it".to_owned(),
                };
                return Err(source.malformed(format!("the index to place it in {shard:?}"), found).tensor(&entry.name));
            }
        }
        sources.push(source);
    }
    refuse_absent(&index, &weight_map, catalog)?;
    Ok(sources)
}

/// Every tensor that a shard has is in the map by now; what remains is the map's tensors that no shard has.
fn refuse_absent(index: &Source, weight_map: &BTreeMap<String, String>, catalog: &Catalog) -> Result<()> {
    let mut present: Vec<&str> = catalog.entries.iter().map(|entry| entry.name.as_str()).collect();
    present.sort_unstable();
    for (name, shard) in weight_map {
        if present.binary_search(&name.as_str()).is_err() {
            return Err(index
                .malformed(format!("it in shard {shard:?}, as the index says"), "no such tensor there")
                .tensor(name));
        }
    }
    Ok(())
}

fn is_plain_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single =
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    single && !name.contains(['/', '\\', ':']) && !name.chars().any(char::is_control)
}

/// Other keys are allowed: savers add their own.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}
