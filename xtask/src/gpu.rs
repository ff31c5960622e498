//! The CUDA images and the GPU's test runner: tasks that need no GPU here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, root, run};

/// The compiler of the images: the oldest that knows every instruction used, so that old drivers load what it makes.
const COMPILER: &str = "nvidia-cuda-nvrtc-cu12==12.4.127";

/// Compiles `kernels/src/cuda/src` into `images/` and records the digests of sources and images.
pub(crate) fn kernels() -> Result {
    let folder = root().join("target/nvrtc");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python3" });
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-deps", COMPILER]))?;
    let library = find(&folder, "libnvrtc.so.12").ok_or("the compiler's library is not where its package puts it")?;
    run(Command::new(&python).arg("kernels/src/cuda/compile.py").arg(library))?;
    record_digests()
}

/// Writes `images/DIGESTS`: a line `image digest` for each image, and one of all sources together. A test of the kernels checks it.
fn record_digests() -> Result {
    let cuda = root().join("kernels/src/cuda");
    let mut text = format!("compiler {COMPILER}\nsources {}\n", digest_of(&files(&cuda.join("src"))?)?);
    for image in files(&cuda.join("images"))?.iter().filter(|f| !f.ends_with("DIGESTS")) {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        writeln!(text, "{name} {}", digest_of(std::slice::from_ref(image))?).map_err(|e| e.to_string())?;
    }
    std::fs::write(cuda.join("images/DIGESTS"), text).map_err(|e| e.to_string())
}

/// Builds the runner of the GPU tests: one program without dependencies but the C library, to be copied to where the GPU is.
pub(crate) fn tests() -> Result {
    run(Command::new(env!("CARGO")).args(["build", "--release", "-p", "sbnc-kernels", "--example", "gpu_tests"]))?;
    run(Command::new(env!("CARGO")).args(["build", "--release", "-p", "sbnc-runtime", "--example", "gpu_models"]))?;
    eprintln!(
        "run target/release/examples/gpu_tests, and gpu_models with some models, on a machine with an NVIDIA GPU; they fail without one"
    );
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|f| f.path()).filter(|f| f.is_file()).collect();
    files.sort();
    Ok(files)
}

/// The digest of some files' names and bytes, in order.
fn digest_of(files: &[PathBuf]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        hasher.update(name.as_bytes()).update(&[0]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|f| f == name) {
            return Some(path);
        }
        if path.is_dir()
            && !path.is_symlink()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}
