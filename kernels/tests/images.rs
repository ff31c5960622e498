//! The embedded CUDA images are those of the sources beside them: `cargo xtask kernels` makes them again.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn cuda() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda")
}

fn recorded() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(cuda().join("images/DIGESTS")).unwrap();
    text.lines()
        .map(|l| l.split_once(' ').unwrap())
        .map(|(name, digest)| (name.to_owned(), digest.to_owned()))
        .collect()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cuda().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.flatten().map(|f| f.path()).collect();
    files.sort();
    files
}

fn digest_of(files: &[PathBuf]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        hasher.update(name.as_bytes()).update(&[0]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn images_are_made_from_these_sources() {
    assert_eq!(recorded()["sources"], digest_of(&files("src")), "stale: run `cargo xtask kernels`");
}

#[test]
fn images_are_as_recorded() {
    let mut recorded = recorded();
    recorded.retain(|name, _| name != "sources" && name != "compiler");
    let images = files("images").into_iter().filter(|f| !f.ends_with("DIGESTS"));
    let found: BTreeMap<String, String> = images
        .map(|f| (f.file_name().unwrap().to_str().unwrap().to_owned(), digest_of(std::slice::from_ref(&f))))
        .collect();
    assert_eq!(found, recorded, "changed by hand, or stale: run `cargo xtask kernels`");
}

#[test]
fn every_source_names_its_targets_and_has_their_images() {
    let images: Vec<String> =
        files("images").iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for source in files("src").iter().filter(|f| f.extension().is_some_and(|e| e == "cu")) {
        let text = std::fs::read_to_string(source).unwrap();
        let targets = text.lines().next().unwrap().strip_prefix("// targets: ").expect("the first line names targets");
        for target in targets.split(' ') {
            let kind = if target.starts_with("sm_") { "cubin" } else { "ptx" };
            let image = format!("{}.{target}.{kind}", source.file_stem().unwrap().to_str().unwrap());
            assert!(images.contains(&image), "{image} is missing: run `cargo xtask kernels`");
        }
    }
}
