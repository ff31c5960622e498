//! Models made by code outside this project, in the containers that code writes.

use std::path::{Path, PathBuf};

use sbnc::checkpoint::{Checkpoint, Dtype, Format, Options, Prefer};

use super::support::{COPYING, open, preferring};

/// The golden model's folder, or `None`, said aloud, where the checkout has none.
fn golden(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden");
    if !folder.is_dir() {
        println!("skipped: no {}", folder.display());
        return None;
    }
    Some(folder.join(name))
}

#[test]
fn torch_and_safetensors_hold_the_same_tensors() {
    let Some(folder) = golden("sparsebitnet-6of8") else {
        return;
    };
    let torch = open(&folder).unwrap();
    assert_eq!(torch.format(), Format::Torch);
    assert!(torch.notes().iter().any(|note| note.contains("read model_state.pt")), "{:?}", torch.notes());
    assert!(torch.notes().iter().any(|note| note.contains("not read") && note.contains("model.safetensors")));
    let safetensors = Checkpoint::open(&folder, &preferring(Prefer::Safetensors)).unwrap();
    assert_eq!(safetensors.format(), Format::Safetensors);
    let copied = Checkpoint::open(&folder, &COPYING).unwrap();

    assert_eq!(torch.entries().len(), 15);
    assert_eq!(safetensors.entries().len(), 15);
    for (entry, other) in torch.entries().iter().zip(safetensors.entries()) {
        assert_eq!((&entry.name, entry.dtype, &entry.shape), (&other.name, other.dtype, &other.shape));
        let bytes = torch.bytes(entry).unwrap();
        assert!(bytes[..] == safetensors.bytes(other).unwrap()[..], "{}", entry.name);
        assert!(bytes[..] == copied.bytes(copied.entry(&entry.name).unwrap()).unwrap()[..], "{}", entry.name);
    }
    let wqkv = torch.entry("layers.0.attention.wqkv.weight").unwrap();
    assert_eq!((wqkv.dtype, wqkv.shape.as_slice()), (Dtype::BF16, &[512, 256][..]));
}

#[test]
fn a_damaged_torch_checkpoint_is_refused_wherever_it_was_cut() {
    let Some(folder) = golden("sparsebitnet-6of8") else {
        return;
    };
    let bytes = std::fs::read(folder.join("model_state.pt")).unwrap();
    let scratch = super::support::scratch("golden-cut");
    for lost in [1, 21, 22, 42, 98, 99, 500, 4096, bytes.len() / 2, bytes.len() - 3] {
        let path = super::support::file(&scratch, "cut.pt", &bytes[..bytes.len() - lost]);
        super::support::assert_refused(&path, sbnc::checkpoint::ErrorKind::Invalid, &["expected"]);
    }
}

#[test]
fn published_layouts_open() {
    for (name, tensor, dtype) in [
        ("hf-bitnet-latent-2of4", "model.embed_tokens.weight", Dtype::BF16),
        ("hf-llama-packed-bitlinear", "model.layers.0.mlp.down_proj.weight", Dtype::U8),
    ] {
        let Some(folder) = golden(name) else { return };
        let checkpoint = Checkpoint::open(&folder, &Options::default()).unwrap();
        assert_eq!(checkpoint.format(), Format::Safetensors);
        assert_eq!(checkpoint.entry(tensor).unwrap().dtype, dtype);
    }
}
