//! The trits and scales that the public training code itself computes for a small model, part by part.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use sbnc::quantize::{Dtype, Latent, Nm, PartScale, Ternariser, part_scale};
use serde_json::Value;

/// A safetensors file: a length, a JSON header, the payload.
struct Tensors {
    header: Value,
    bytes: Vec<u8>,
    payload: usize,
}

impl Tensors {
    fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let payload = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Tensors { header: serde_json::from_slice(&bytes[8..payload]).unwrap(), bytes, payload }
    }

    fn get(&self, name: &str) -> Option<(Vec<usize>, &[u8])> {
        let tensor = self.header.get(name)?;
        let numbers = |key: &str| -> Vec<usize> {
            tensor[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let range = numbers("data_offsets");
        Some((numbers("shape"), &self.bytes[self.payload + range[0]..self.payload + range[1]]))
    }
}

#[test]
fn trits_equal_the_training_codes() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/sparsebitnet-6of8");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let (model, golden) =
        (Tensors::open(&folder.join("model.safetensors")), Tensors::open(&folder.join("golden_trits.safetensors")));
    let pattern = Some(Nm::new(6, 8).unwrap());
    let (mut parts, mut weights) = (0, 0);
    for layer in 0..2 {
        for (name, heights) in [
            ("attention.wqkv", vec![256, 128, 128]),
            ("attention.wo", vec![256]),
            ("feed_forward.w13", vec![640, 640]),
            ("feed_forward.w2", vec![256]),
        ] {
            let name = format!("layers.{layer}.{name}.weight");
            let (shape, bytes) = model.get(&name).unwrap();
            let latent = Latent::new(bytes, shape[0], shape[1], Dtype::Bf16).unwrap();
            let mut from = 0;
            for (part, height) in heights.into_iter().enumerate() {
                let rows = from..from + height;
                let PartScale::Scale(scale) = part_scale(&latent, rows.clone()).unwrap() else {
                    panic!("{name} is all zero")
                };
                let expected =
                    f32::from_le_bytes(golden.get(&format!("{name}.part{part}.scale")).unwrap().1.try_into().unwrap());
                assert!(
                    scale.to_bits().abs_diff(expected.to_bits()) <= 1,
                    "{name} part {part}: {scale:e}, expected {expected:e}"
                );
                let (shape, expected) = golden.get(&format!("{name}.part{part}.trits")).unwrap();
                assert_eq!(shape, [height, latent.cols()]);
                let mut trits = vec![9; height * latent.cols()];
                Ternariser::new(Dtype::Bf16, scale, pattern).unwrap().part(&latent, rows, &mut trits).unwrap();
                assert!(
                    trits.iter().zip(expected).all(|(&ours, &theirs)| ours == theirs as i8),
                    "{name} part {part} differs"
                );
                from += height;
                parts += 1;
                weights += trits.len();
            }
            assert_eq!(from, latent.rows());
        }
    }
    assert_eq!((parts, weights), (14, 2 * (512 * 256 + 256 * 256 + 1280 * 256 + 256 * 640)));
}
