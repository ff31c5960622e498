//! How fast a checkpoint compiles: bf16 latents of the shape of BitNet b1.58 2B-4T, from the page cache to a finished, checked file.
//!
//! `cargo bench -p sbnc-tests --bench compile -- [--layers N] [--repeats N] [--keep]`
//!
//! Prints the rate for dense, 2:4 and 6:8, on one thread and on all, beside what limits it: copying memory and hashing, in the same process. Then what
//! numpy takes for the same steps on one of the matrices, if it is installed.

mod support;

use std::path::Path;
use std::time::Instant;

use sbnc::compile::{Conduct, Input, Options, compile};
use sbnc::family::RequestedPattern;
use support::{Arguments, checkpoint, median, peak_resident, rate};

fn main() {
    let arguments = Arguments::parse();
    let folder = checkpoint::folder(arguments.layers);
    let bytes = checkpoint::make(&folder, arguments.layers);
    println!("checkpoint: {} layers of 2B-4T, {:.2} GB of bf16", arguments.layers, bytes as f64 / 1e9);
    warm(&folder);

    let output = support::scratch().join("compiled.sbnc");
    for (name, pattern) in
        [("dense", RequestedPattern::None), ("2:4", RequestedPattern::Nm(2, 4)), ("6:8", RequestedPattern::Nm(6, 8))]
    {
        for threads in support::thread_counts() {
            let seconds: Vec<f64> =
                (0..arguments.repeats).map(|_| compile_once(&folder, &output, pattern, threads)).collect();
            let size = std::fs::metadata(&output).map_or(0, |m| m.len());
            println!(
                "compile {name:5}  {threads} threads  {:6.2} GB/s of input (median of {}; {:.2} to {:.2} s), output {:.3} GB",
                bytes as f64 / median(&seconds) / 1e9,
                seconds.len(),
                seconds.iter().copied().fold(f64::MAX, f64::min),
                seconds.iter().copied().fold(0.0, f64::max),
                size as f64 / 1e9,
            );
        }
    }
    println!("peak resident size: {:.0} MB (largest tensor 657 MB)", peak_resident() as f64 / 1e6);
    floors();
    support::numpy_rival();
    let _ = std::fs::remove_file(&output);
    if !arguments.keep {
        let _ = std::fs::remove_dir_all(&folder);
    }
}

fn compile_once(folder: &Path, output: &Path, pattern: RequestedPattern, threads: usize) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let mut options = Options::default();
    options.family.pattern = pattern;
    let conduct = Conduct { statistics: false, max_memory: None, progress: &|_| {} };
    let started = Instant::now();
    pool.install(|| {
        let input = Input::open(folder).expect("the checkpoint opens");
        compile(&input, output, &options, &conduct).expect("the checkpoint compiles");
    });
    started.elapsed().as_secs_f64()
}

/// Brings the checkpoint into the page cache.
fn warm(folder: &Path) {
    let mut buffer = vec![0u8; 1 << 20];
    for entry in std::fs::read_dir(folder).expect("the folder exists").flatten() {
        let mut file = std::fs::File::open(entry.path()).expect("the file opens");
        while std::io::Read::read(&mut file, &mut buffer).expect("the file reads") > 0 {}
    }
}

/// What no compiler can beat: copying the input once, and hashing it once.
fn floors() {
    let buffer = vec![1u8; 256 << 20];
    let mut copy = vec![0u8; buffer.len()];
    println!(
        "floor: copy of memory, 1 thread      {:6.2} GB/s",
        rate(buffer.len(), 5, || copy.copy_from_slice(&buffer))
    );
    println!(
        "floor: BLAKE3, 1 thread              {:6.2} GB/s",
        rate(buffer.len(), 5, || {
            std::hint::black_box(blake3::hash(&buffer));
        })
    );
    println!(
        "floor: BLAKE3, all threads           {:6.2} GB/s",
        rate(buffer.len(), 5, || {
            std::hint::black_box(blake3::Hasher::new().update_rayon(&buffer).finalize());
        })
    );
}
