//! Scratch folders, and what the tests assert of a refusal.

use std::path::{Path, PathBuf};

use sbnc::checkpoint::gguf::decode::I2sLayout;
use sbnc::checkpoint::{Access, Checkpoint, CheckpointError, ErrorKind, Options, Prefer};

/// An empty folder of this name, under the target folder.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checkpoint").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(path, &Options::default())
}

pub(crate) fn preferring(prefer: Prefer) -> Options {
    Options { prefer, ..Options::default() }
}

pub(crate) const COPYING: Options = Options { access: Access::Read, prefer: Prefer::Auto };

/// Asserts that opening fails with this kind, and with text that has every fragment and the file's name.
#[track_caller]
pub(crate) fn assert_refused(path: &Path, kind: ErrorKind, fragments: &[&str]) {
    assert_refusal(open(path).map(|_| ()), path, kind, fragments);
}

#[track_caller]
pub(crate) fn assert_refusal<T: std::fmt::Debug>(
    result: Result<T, CheckpointError>,
    path: &Path,
    kind: ErrorKind,
    fragments: &[&str],
) {
    let error = result.expect_err("accepted");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    let name = path.file_name().unwrap().to_str().unwrap();
    for fragment in fragments.iter().chain([&name]) {
        assert!(text.contains(fragment), "no {fragment:?} in: {text}");
    }
}

/// Cuts a good file at every byte: each must be an error that says the input is bad, never a panic and never a success.
pub(crate) fn assert_every_truncation_refused(folder: &Path, name: &str, bytes: &[u8]) {
    open(&file(folder, name, bytes)).unwrap();
    for len in 0..bytes.len() {
        let path = file(folder, name, &bytes[..len]);
        let error = open(&path).expect_err(&format!("accepted at {len} of {} bytes", bytes.len()));
        assert_ne!(error.kind(), ErrorKind::Io, "at {len} bytes: {error}");
    }
    for extra in [&b"\0"[..], b"PK", &[b' '; 64]] {
        let error = open(&file(folder, name, &[bytes, extra].concat()));
        assert!(
            error.is_err() || name.ends_with(".gguf") && extra.len() < 32,
            "accepted with {} bytes more",
            extra.len()
        );
    }
}

/// Flips every bit of a good file in turn: it opens and can be read, or is refused as bad, but nothing panics.
pub(crate) fn assert_every_bit_flip_survived(folder: &Path, name: &str, good: &[u8]) {
    let mut bytes = good.to_vec();
    for bit in 0..8 * good.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match open(&file(folder, name, &bytes)) {
            Err(error) => assert_ne!(error.kind(), ErrorKind::Io, "bit {bit}: {error}"),
            Ok(checkpoint) => {
                for entry in checkpoint.entries() {
                    assert_eq!(checkpoint.bytes(entry).unwrap().len() as u64, entry.bytes, "bit {bit}");
                    let _any = checkpoint.ternary_rows(entry, 0..entry.rows(), Some(I2sLayout::X86));
                }
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
