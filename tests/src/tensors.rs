//! A safetensors file in memory, read by the crate of the format's inventors: what `sbnc export` writes must be right for others, not for us.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// One tensor: its type, its dimensions and its bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// The tensors of a file by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    /// Reads a file.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A tensor by name.
    #[track_caller]
    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor '{name}'"))
    }

    /// Every tensor that is not as in `expected`, or not there: a line each.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let wrong = expected.0.iter().filter_map(|(name, tensor)| difference(name, tensor, self.0.get(name)));
        let extra =
            self.names().filter(|name| !expected.0.contains_key(*name)).map(|name| format!("{name}: not expected"));
        wrong.chain(extra).collect()
    }
}

fn difference(name: &str, expected: &Tensor, found: Option<&Tensor>) -> Option<String> {
    let Some(found) = found else { return Some(format!("{name}: missing")) };
    if (expected.0, &expected.1) != (found.0, &found.1) {
        let (a, b) = ((expected.0, &expected.1), (found.0, &found.1));
        return Some(format!("{name}: expected {a:?}, found {b:?}"));
    }
    let different = expected.2.iter().zip(&found.2).filter(|(a, b)| a != b).count();
    (different > 0).then(|| format!("{name}: {different} of {} bytes differ", expected.2.len()))
}

/// Little-endian f32 values.
pub fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
