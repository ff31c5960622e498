//! Torch checkpoints (`.pt`): a state dict that `torch.save` wrote, read as data.
//!
//! ```text
//! zip archive ── zip ──▶ records ── data.pkl ── pickle ──▶ values ── here ──▶ entries
//!                        data/0, data/1 … ─────────────────────────▶ their byte ranges
//! ```
//!
//! Nothing is executed and nothing is unpickled in Python's sense; see [`pickle`]. Tensors must be contiguous, because an entry is a
//! byte range. Several tensors may share a storage, as tied weights do.

mod fields;
mod opcode;
pub mod pickle;
mod value;
pub mod zip;

use std::collections::BTreeMap;

use super::entry::{Catalog, Entry, check_name};
use super::error::Result;
use super::source::Source;
use value::{Heap, Span, Tensor, Value};
use zip::Record;

/// Keys under which trainers nest the weights; the first that holds tensors wins.
const NESTED_KEYS: [&str; 4] = ["model", "state_dict", "model_state_dict", "module"];

const SAVE_CONTIGUOUS: &str = "save {name: tensor.contiguous() for name, tensor in model.state_dict().items()}";

/// Adds the tensors of `source`, file number `file`, and says in `notes` what was not taken as a tensor.
pub(super) fn read(source: &Source, file: usize, catalog: &mut Catalog, notes: &mut Vec<String>) -> Result<()> {
    refuse_old_format(source)?;
    let archive = Archive::open(source)?;
    let record = archive.record("data.pkl")?;
    source.at_most("data.pkl in bytes", record.bytes, pickle::MAX_PICKLE_BYTES)?;
    let pickle = source.copy(record.offset, record.bytes, "data.pkl")?;
    let (heap, root) = pickle::read(source, &pickle)?;
    let state = StateDict { source, archive: &archive, pickle: &pickle, heap: &heap };
    for (name, tensor) in state.tensors(root, notes)? {
        let entry = state.entry(name, tensor, file)?;
        catalog.push(source, entry)?;
    }
    Ok(())
}

/// Before version 1.6, torch.save wrote a bare pickle; earlier still, a tar archive.
fn refuse_old_format(source: &Source) -> Result<()> {
    let start = source.copy(0, source.len().min(4), "the first bytes")?;
    if start.starts_with(&[0x80]) {
        let remedy = "load it once with torch.load(path, weights_only=True) and save it again with torch.save";
        return Err(source
            .unsupported("a zip archive, as torch.save writes since 1.6", "a bare pickle")
            .remedy(remedy));
    }
    Ok(())
}

/// The records under the archive's one folder.
struct Archive<'a> {
    source: &'a Source,
    folder: String,
    records: BTreeMap<String, Record>,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        let records = zip::read(source)?;
        let first = records.keys().next().map_or("", String::as_str);
        let folder = first.split_once('/').map_or("", |(folder, _)| folder).to_owned();
        if folder.is_empty()
            || !records.keys().all(|name| name.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/')))
        {
            return Err(source.malformed(
                "all zip records in one folder, as torch.save writes them",
                format!("{first:?} and others"),
            ));
        }
        let archive = Self { source, folder, records };
        if archive.records.contains_key(&format!("{}/constants.pkl", archive.folder)) {
            return Err(source
                .unsupported("a state dict", "a TorchScript program")
                .remedy("save model.state_dict() with torch.save"));
        }
        archive.check_byte_order()?;
        Ok(archive)
    }

    fn record(&self, name: &str) -> Result<Record> {
        let full = format!("{}/{name}", self.folder);
        self.records.get(&full).copied().ok_or_else(|| self.source.malformed(format!("a zip record {full:?}"), "none"))
    }

    /// Archives from before the record existed are little-endian.
    fn check_byte_order(&self) -> Result<()> {
        let Ok(record) = self.record("byteorder") else {
            return Ok(());
        };
        let text = self.source.copy(record.offset, record.bytes.min(16), "byteorder")?;
        if text == b"little" {
            return Ok(());
        }
        Err(self.source.unsupported("byteorder little", format!("{:?}", String::from_utf8_lossy(&text))))
    }
}

/// The pickle's values, with what is needed to read them as tensors.
struct StateDict<'a> {
    source: &'a Source,
    archive: &'a Archive<'a>,
    pickle: &'a [u8],
    heap: &'a Heap,
}

impl<'a> StateDict<'a> {
    /// The named tensors of the root, or of the one dict below it that holds the weights.
    fn tensors(&self, root: Value, notes: &mut Vec<String>) -> Result<BTreeMap<String, Tensor>> {
        let Value::Dict(root) = root else {
            return Err(self
                .source
                .unsupported("a dict of tensors", "another pickled object")
                .remedy("save model.state_dict() with torch.save"));
        };
        let (mut tensors, mut others) = self.partition(root)?;
        let nested = NESTED_KEYS.into_iter().find_map(|key| match others.get(key) {
            Some(&Value::Dict(dict)) if self.has_tensors(dict) => Some((key, dict)),
            _ => None,
        });
        if let Some((key, dict)) = nested {
            notes.push(format!("the weights are under key {key:?} of {}", self.source.path().display()));
            others.remove(key);
            let beside = std::mem::take(&mut tensors);
            others.extend(beside.into_keys().map(|name| (name, Value::None)));
            let (below, others_below) = self.partition(dict)?;
            tensors = below;
            others.extend(others_below);
        }
        if tensors.is_empty() {
            let expected = format!("tensors in the pickled dict, or one level down under one of {NESTED_KEYS:?}");
            return Err(self.source.unsupported(expected, "none").remedy("save model.state_dict() with torch.save"));
        }
        if !others.is_empty() {
            let names: Vec<_> = others.into_keys().collect();
            notes.push(format!("not tensors of the model, ignored: {}", names.join(", ")));
        }
        Ok(tensors)
    }

    fn has_tensors(&self, dict: usize) -> bool {
        self.heap.dicts[dict].iter().any(|(_, value)| matches!(value, Value::Tensor(_)))
    }

    /// A dict's tensors, and its other values.
    fn partition(&self, dict: usize) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, Value>)> {
        let (mut tensors, mut others) = (BTreeMap::new(), BTreeMap::new());
        for &(key, value) in &self.heap.dicts[dict] {
            let Value::Str(span) = key else {
                return Err(self.source.unsupported("a dict whose keys are names", "a key that is no string"));
            };
            let name = self.text(span);
            check_name(self.source, name)?;
            let twice = tensors.contains_key(name) || others.contains_key(name);
            if twice {
                return Err(self.source.malformed("one value of this name", "two").tensor(name));
            }
            if let Value::Tensor(tensor) = value {
                tensors.insert(name.to_owned(), self.heap.tensors[tensor]);
            } else {
                others.insert(name.to_owned(), value);
            }
        }
        Ok((tensors, others))
    }

    fn entry(&self, name: String, tensor: Tensor, file: usize) -> Result<Entry> {
        let storage = self.heap.storages[tensor.storage];
        let refuse = |expected: String, found: String| self.source.malformed(expected, found).tensor(&name);
        let shape =
            self.dimensions(tensor.shape).ok_or_else(|| refuse("a shape of sizes".into(), "other values".into()))?;
        let strides = self
            .dimensions(tensor.strides)
            .ok_or_else(|| refuse("strides of at least zero".into(), "other values".into()))?;
        if !is_row_major(&shape, &strides) {
            let found = format!("a non-contiguous tensor: shape {shape:?}, strides {strides:?}");
            return Err(self.source.unsupported("a contiguous tensor", found).tensor(&name).remedy(SAVE_CONTIGUOUS));
        }
        let size = storage.dtype.block().1;
        let key = self.text(storage.key);
        let record = self.archive.record(&format!("data/{key}")).map_err(|error| error.tensor(&name))?;
        let elements =
            u64::try_from(storage.elements).ok().filter(|elements| elements.checked_mul(size) == Some(record.bytes));
        if elements.is_none() {
            return Err(refuse(
                format!("storage {key:?} of {} {} elements", storage.elements, storage.dtype),
                format!("{} bytes", record.bytes),
            ));
        }
        let start = u64::try_from(tensor.offset).ok().and_then(|offset| offset.checked_mul(size));
        let bytes = storage.dtype.bytes_of(&shape);
        match (start, bytes) {
            (Some(start), Some(bytes)) if start.checked_add(bytes).is_some_and(|end| end <= record.bytes) => {
                Ok(Entry { name, dtype: storage.dtype, shape, file, offset: record.offset + start, bytes })
            }
            _ => Err(refuse(
                format!("a tensor within storage {key:?} of {} elements", storage.elements),
                format!("shape {shape:?} from element {}", tensor.offset),
            )),
        }
    }

    fn dimensions(&self, span: Span) -> Option<Vec<u64>> {
        let dimension = |value: &Value| match *value {
            Value::Int(int) => u64::try_from(int).ok(),
            _ => None,
        };
        self.heap.tuple(span).iter().map(dimension).collect()
    }

    fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(&self.pickle[span.start..span.end]).unwrap_or_default() // the reader checked it
    }
}

/// Whether elements follow each other in row-major order. The stride of a dimension of one is never used, and an empty tensor has no
/// element to misplace.
fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    if shape.len() != strides.len() {
        return false;
    }
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1u64;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        if dim != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(dim);
    }
    true
}
