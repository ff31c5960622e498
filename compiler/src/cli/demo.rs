//! `sbnc demo`: from a checkpoint to text, with the small model that this program carries.
//!
//! The model is part of the program, 7 MB beside kernels of ten times that size, so that the installed command alone shows what it does: nothing has to be
//! found, fetched or made first. It takes the way of any other checkpoint: files in a folder, then `compile`, `verify` and `run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use sbnc_format::Depth;
use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::{Device, Model, Prompt};

use super::execution::{Place, session};
use super::run::{parse_positive, stream, tell};
use super::terminal::emit;
use crate::compile::{Conduct, Input, Options, compile};
use crate::error::{Error, Exit, Result};
use crate::numbers::{bytes, weights};
use crate::report::{html, text};

/// The files of `models/demo/` that make up its checkpoint.
const CHECKPOINT: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../models/demo/config.json")),
    ("tokenizer.json", include_bytes!("../../../models/demo/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../models/demo/tokenizer_config.json")),
    // Last: a folder that has it is whole.
    ("model.safetensors", include_bytes!("../../../models/demo/model.safetensors")),
];

/// What is written below the folder.
const FOLDER: &str = "checkpoint";
const FILE: &str = "demo.sbnc";
const REPORT: &str = "report.html";

#[derive(Args, Clone, Debug)]
pub(crate) struct Demo {
    /// What the model continues: it knows the documentation of Rust and Python, and nothing else
    #[arg(default_value = "## Ownership\n\nThe borrow checker")]
    prompt: String,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value = "160", value_parser = parse_positive)]
    tokens: usize,
    /// Divide logits by this before drawing; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    temperature: f32,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep the checkpoint, the compiled file and the report of the compilation in this new folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Demo {
    pub(crate) fn run(&self) -> Result<()> {
        let place = OwnFolder::create(self.keep.as_deref())?;
        let (checkpoint, file) = (place.path.join(FOLDER), place.path.join(FILE));
        write_checkpoint(&checkpoint)?;
        self.compile(&checkpoint, &file)?;
        verify(&file)?;
        self.generate(&file)?;
        if self.keep.is_some() {
            let folder = place.path.display();
            eprintln!("kept: {folder}/{FOLDER}, {folder}/{FILE} and {folder}/{REPORT}. The same again, step by step:");
            eprintln!("  sbnc compile {folder}/{FOLDER} -o {folder}/{FILE} --report {folder}/{REPORT}");
            eprintln!("  sbnc verify {folder}/{FILE} --deep\n  sbnc run {folder}/{FILE} --prompt 'The borrow checker'");
        }
        Ok(())
    }

    fn compile(&self, checkpoint: &Path, file: &Path) -> Result<()> {
        let started = Instant::now();
        let input = Input::open(checkpoint)?;
        let conduct = Conduct { statistics: true, max_memory: None, progress: &|_| {} };
        let outcome = compile(&input, file, &Options::default(), &conduct)?;
        step("compile", &format!("to {}, in {:.2} s", file.display(), started.elapsed().as_secs_f64()));
        for line in text::summary(&outcome.report).lines() {
            eprintln!("            {line}");
        }
        if self.keep.is_some() {
            super::write_whole(&file.with_file_name(REPORT), html::page(&outcome.report).as_bytes())?;
        }
        Ok(())
    }

    fn generate(&self, file: &Path) -> Result<()> {
        let model = self.place.options().open(file)?;
        let mut session = session(&model, None)?;
        step("run", &place_of(&model));
        if let Some(why) = model.why_not_gpu() {
            eprintln!("            not on the GPU: {why}");
        }
        let sampling = Sampling { temperature: self.temperature, top_p: 0.95, seed: self.seed, ..Sampling::greedy() };
        let mut generation = session.generate(Prompt::Text(&self.prompt), &sampling)?.max_tokens(self.tokens);
        eprintln!();
        emit(&self.prompt)?;
        stream(&mut generation, true)?;
        tell(&generation.usage());
        Ok(())
    }
}

/// Says what was done, to a person and to a log alike: it is what the command is for.
fn step(what: &str, how: &str) {
    eprintln!("{what:<11} {how}");
}

fn write_checkpoint(folder: &Path) -> Result<()> {
    fs::create_dir(folder).map_err(|e| Error::io(folder, "create", &e))?;
    for (name, content) in CHECKPOINT {
        crate::interrupt::check()?;
        super::write_whole(&folder.join(name), content)?;
    }
    let size = CHECKPOINT.iter().map(|(_, content)| content.len() as u64).sum();
    step("checkpoint", &format!("the model in this program: {} in {}", bytes(size), folder.display()));
    Ok(())
}

fn verify(path: &Path) -> Result<()> {
    let started = Instant::now();
    let file = super::open(path)?;
    let checked = file.verify(Depth::Decoded, &|_| {});
    let size = checked.bytes;
    checked.result().map_err(|e| Error::format(path, &e))?;
    let seconds = started.elapsed().as_secs_f64();
    step(
        "verify",
        &format!("structure, digests, payload rules and decoded content of {}, in {seconds:.2} s", bytes(size)),
    );
    crate::interrupt::check()
}

/// Where a model runs.
fn place_of(model: &Model) -> String {
    let parameters = weights(model.cost().weight_ops / 2);
    match (model.device(), model.gpu()) {
        (Device::Cuda, Some(gpu)) => format!("{parameters} ternary weights on {gpu}"),
        _ => format!(
            "{parameters} ternary weights on the processor, with the kernels for {} and {} threads",
            model.platform().isa().name(),
            model.threads()
        ),
    }
}

/// The folder that the files are made in.
struct OwnFolder {
    path: PathBuf,
    /// Whether it is the user's.
    kept: bool,
}

impl OwnFolder {
    /// Creates a folder of its own, so that no file of another one is overwritten or read.
    fn create(keep: Option<&Path>) -> Result<Self> {
        let path = match keep {
            Some(path) => path.to_owned(),
            None => {
                let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
                std::env::temp_dir().join(format!("sbnc-demo-{}-{nanos:08x}", std::process::id()))
            }
        };
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path, kept: keep.is_some() }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let message = format!(
                    "{}: expected the name of a new folder, found one that exists; name another",
                    path.display()
                );
                Err(Error::new(Exit::Usage, message))
            }
            Err(e) => Err(Error::io(&path, "create", &e)),
        }
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if !self.kept {
            // What is left in a folder for temporary files does no harm.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
