//! Compiling: a checkpoint in, one verified file out.
//!
//! ```text
//! Input ── open, read configuration, plan ──▶ layout ──▶ Writer ──▶ check ──▶ file
//!                                               │          ▲
//!                          linear: scale, trits, mask, encode
//!                          kept:   floats, int8
//! ```
//!
//! A few tensors are compiled at a time, each in runs of rows that fit a cache, by whichever thread is free; what is held in memory is a map of these
//! tensors, together no larger than the largest, and a few megabytes. Meanwhile the sources are hashed. The result depends on the input and the options
//! only. Before the output gets its name, it is opened again and every tensor is decoded and compared with what the quantiser made.

mod against;
mod input;
mod kept;
mod layout;
mod linear;
mod provenance;
mod summary;
mod target;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sbnc_format::writer::{Sealed, TensorWriter, Writer};
use sbnc_format::{Digest, Encoding, Order, Sbnc, TensorView};
use sbnc_runtime::map::Map;

pub use against::{Comparison, against};
pub use input::Input;
pub use target::Target;

use crate::checkpoint::Entry;
use crate::checkpoint::gguf::decode::I2sLayout;
use crate::error::{Error, Exit, Result};
use crate::family;
use crate::report::{Report, TensorReport};

/// Memory that a compilation takes besides the tensors it works on: buffers, tables, threads and the program itself.
const BASE_MEMORY: u64 = 192 << 20;
/// Bytes of the tensors that are worked on at the same time, if the largest has fewer: enough that no thread waits long for the last of them, and within
/// [`BASE_MEMORY`].
const GROUP_BYTES: u64 = 64 << 20;

/// Everything that decides the bytes of the output, besides the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Pattern, and what to do where the checkpoint is silent.
    pub family: family::Options,
    /// What the file is meant for.
    pub target: Target,
    /// How trits are stored; `None` chooses by target and pattern.
    pub encoding: Option<Encoding>,
    /// Execution order; `None` chooses by encoding and pattern.
    pub order: Option<Order>,
    /// How the embedding is stored.
    pub embed: FloatForm,
    /// How an untied head is stored.
    pub head: FloatForm,
    /// The layout of I2_S tensors.
    pub i2s_layout: Option<I2sLayout>,
}

/// How a float matrix is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloatForm {
    /// In the type it has.
    #[default]
    Keep,
    /// As bf16.
    Bf16,
    /// As int8 with a scale per row.
    Int8,
}

/// How a compilation is watched and bounded; none of it changes the output.
pub struct Conduct<'a> {
    /// Gather the statistics of the report, which takes longer.
    pub statistics: bool,
    /// Most memory to use.
    pub max_memory: Option<u64>,
    /// Called with source bytes done.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// A finished compilation.
#[derive(Debug)]
pub struct Outcome {
    /// Digest that names the file.
    pub root: Digest,
    /// Length of the file.
    pub bytes: u64,
    /// What became of every tensor.
    pub report: Report,
}

/// Compiles `input` into the file `output`.
pub fn compile(input: &Input, output: &Path, options: &Options, conduct: &Conduct<'_>) -> Result<Outcome> {
    let plan = Prepared::new(input, options, conduct)?;
    let writer = Writer::create(output, plan.specs()?, &plan.manifest, &plan.carried)?;
    let bytes = writer.file_bytes();
    let (sealed, tensors) = plan.write(writer, conduct)?;
    // The disk works while the file is checked.
    let (content, synced) = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| sealed.sync());
        let content = check(&sealed);
        (content, syncing.join())
    });
    let content = content?;
    synced.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let report = summary::report(&plan, output, &sealed, content, bytes, tensors)?;
    crate::interrupt::check()?;
    let root = sealed.commit()?;
    Ok(Outcome { root, bytes, report })
}

/// A planned compilation: everything that is known before a weight is read.
struct Prepared<'a> {
    input: &'a Input,
    options: &'a Options,
    plan: family::Plan,
    layouts: Vec<layout::Chosen>,
    manifest: sbnc_format::manifest::Manifest,
    carried: Vec<sbnc_format::writer::Carried>,
    notes: Vec<String>,
}

impl<'a> Prepared<'a> {
    fn new(input: &'a Input, options: &'a Options, conduct: &Conduct<'_>) -> Result<Self> {
        let plan = input.plan(options)?;
        check_memory(input, &plan, conduct.max_memory)?;
        input.check_duplicates(&plan)?;
        let layouts = layout::choose(&plan, input, options)?;
        let (carried, mut notes) = input.carried()?;
        notes.splice(0..0, input.notes().iter().chain(&plan.notes).cloned());
        notes.extend(layout::note(&layouts, options));
        // Digests of the sources are filled in at the end, at the same length.
        let manifest = provenance::manifest(input, &plan, options, &carried, &[]);
        Ok(Self { input, options, plan, layouts, manifest, carried, notes })
    }

    fn specs(&self) -> Result<Vec<sbnc_format::writer::TensorSpec>> {
        let planned = self.plan.tensors.iter().zip(&self.layouts);
        Ok(planned.map(|(planned, layout)| layout.spec(planned)).collect())
    }

    fn write(&self, mut writer: Writer, conduct: &Conduct<'_>) -> Result<(Sealed, Vec<TensorReport>)> {
        // Hashing waits for nobody: it fills the gaps in which the tensors have no work for every thread.
        let failed = AtomicBool::new(false);
        let (reports, digests) = rayon::join(
            || self.write_tensors(&mut writer, conduct).inspect_err(|_| failed.store(true, Ordering::Relaxed)),
            || provenance::source_digests(self.input, &failed),
        );
        let (reports, digests) = (reports?, digests?);
        let manifest = provenance::manifest(self.input, &self.plan, self.options, &self.carried, &digests);
        Ok((writer.seal(&manifest)?, reports))
    }

    fn write_tensors(&self, writer: &mut Writer, conduct: &Conduct<'_>) -> Result<Vec<TensorReport>> {
        let mut jobs = Vec::with_capacity(self.plan.tensors.len());
        for ((planned, chosen), tensor) in self.plan.tensors.iter().zip(&self.layouts).zip(writer.tensors()) {
            jobs.push(Job { planned, chosen, entry: self.input.entry(&planned.name)?, tensor });
        }
        let mut reports = Vec::with_capacity(jobs.len());
        for group in groups(jobs, |job| job.entry.bytes) {
            let done: Vec<_> =
                group.into_par_iter().with_max_len(1).map(|job| self.write_tensor(job, conduct)).collect();
            // Of several errors the first by the order of the file, whichever thread came first.
            for report in done {
                reports.push(report?);
            }
        }
        Ok(reports)
    }

    fn write_tensor(&self, job: Job<'_>, conduct: &Conduct<'_>) -> Result<TensorReport> {
        crate::interrupt::check()?;
        let Job { planned, chosen, entry, tensor } = job;
        let result = if planned.is_ternary() {
            linear::write(self, planned, entry, chosen, tensor, conduct)
        } else {
            kept::write(self.input, planned, entry, chosen, tensor)
        };
        let report = result.map_err(|e| e.at(format_args!("{}: tensor '{}'", self.input.name(entry), planned.name)))?;
        (conduct.progress)(entry.bytes);
        Ok(report)
    }
}

/// A tensor to be compiled.
struct Job<'a> {
    planned: &'a family::Planned,
    chosen: &'a layout::Chosen,
    entry: &'a Entry,
    tensor: TensorWriter<'a>,
}

/// Cuts a sequence into runs that together have no more bytes than its largest item, or than [`GROUP_BYTES`].
fn groups<T>(items: Vec<T>, bytes: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let limit = items.iter().map(&bytes).max().unwrap_or(0).max(GROUP_BYTES);
    let (mut groups, mut held) = (Vec::new(), limit);
    for item in items {
        held += bytes(&item);
        if held > limit {
            groups.push(Vec::new());
            held = bytes(&item);
        }
        if let Some(group) = groups.last_mut() {
            group.push(item);
        }
    }
    groups
}

/// Refuses work that is known not to fit.
fn check_memory(input: &Input, plan: &family::Plan, max_memory: Option<u64>) -> Result<()> {
    let largest = plan.tensors.iter().filter_map(|t| input.entry(&t.name).ok()).max_by_key(|e| e.bytes);
    let (Some(limit), Some(largest)) = (max_memory, largest) else { return Ok(()) };
    let needed = BASE_MEMORY + largest.bytes;
    if needed <= limit {
        return Ok(());
    }
    let message = format!(
        "tensor '{}' has {} bytes: compiling takes {needed} bytes of memory, --max-memory allows {limit}; allow more",
        largest.name, largest.bytes
    );
    Err(Error::new(Exit::Memory, message))
}

/// Opens the complete temporary file and checks every tensor of it: structure, digests, rules, and that it decodes to what the quantiser
/// made. Gives the digest of the content.
fn check(sealed: &Sealed) -> Result<Digest> {
    let Some(path) = sealed.path() else { return Err(Error::new(Exit::Io, "the output was not written")) };
    let map = Map::open(path).map_err(|e| Error::io(path, "map", &e))?;
    let file = Sbnc::open(map).map_err(|e| Error::format(path, &e))?;
    for group in groups(file.views().collect(), |view| view.extent().len() as u64) {
        let verify = |view: &TensorView<'_>| {
            crate::interrupt::check()?;
            let result = view.verify().map_err(|e| Error::format(path, &e));
            // Keeps the resident size at a group.
            file.storage().release(file.range_of(view.tensor()));
            result
        };
        let done: Vec<_> = group.par_iter().with_max_len(1).map(verify).collect();
        done.into_iter().collect::<Result<()>>()?;
    }
    Ok(file.content())
}
