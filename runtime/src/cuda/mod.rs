//! A session's engine on an NVIDIA GPU: the plan, step by step, over kernels of `sbnc_kernels::cuda`.
//!
//! ```text
//! Gpu (of a model)  ── weights.rs  what is in the GPU's memory, shared by all sessions
//! Engine (of a session)
//!   ── buffers.rs   everything that a step needs, allocated once
//!   ── layers.rs    the order of things
//!   ── here         steps, graphs, logits, and tokens that the GPU chooses by itself
//! ```
//!
//! A step that gives each of some sequences one token is captured once for each number of sequences, and replayed: launching its few hundred kernels one by
//! one would take longer than running them. Larger steps are launched as they come; in them projections are bf16, which halves what is moved, in smaller ones f32.

mod buffers;
mod layers;
mod weights;

use std::collections::HashMap;
use std::sync::Arc;

use sbnc_kernels::cuda::attention::Run;
use sbnc_kernels::cuda::{Chooser, Columns, Norm};
use sbnc_kernels::cuda::{DeviceError, Graph, Sampling, Stream, normalise_some};

use self::buffers::Buffers;
pub(crate) use self::weights::{Gpu, is_there};
use crate::cpu::Size;
use crate::device::{Engine, Interrupt, OnDevice, Step};
use crate::error::{Error, Kind, Result};
use crate::model::Loaded;
use crate::profile::{Phase, Profile};

/// Tokens of a row that can be read back after they were chosen: the most that are chosen without asking the host.
const HISTORY: usize = 1024;

/// What a session has on the GPU.
pub(crate) struct CudaEngine {
    gpu: Arc<Gpu>,
    buffers: Buffers,
    chooser: Chooser,
    /// Steps of one token a sequence, by the number of sequences: up to the last states, and up to the next tokens.
    steps: HashMap<usize, Graph>,
    loops: HashMap<usize, Graph>,
    profile: Profile,
    // Last, so that graphs and buffers go before it.
    stream: Stream,
}

impl CudaEngine {
    /// Allocates everything.
    pub(crate) fn new(model: &Arc<Loaded>, gpu: &Arc<Gpu>, size: Size) -> Result<Self> {
        let stream = gpu.device.stream().map_err(told)?;
        let buffers = Buffers::new(gpu, &model.config, size, &stream).map_err(told)?;
        let chooser = Chooser::new(&gpu.device, size.sequences, HISTORY).map_err(told)?;
        stream.synchronize().map_err(told)?;
        let (steps, loops) = (HashMap::new(), HashMap::new());
        Ok(Self { gpu: Arc::clone(gpu), buffers, chooser, steps, loops, profile: Profile::default(), stream })
    }

    /// Whether every row is the next token of a sequence of its own, and kernels for that exist.
    fn decodes(&self, step: Step<'_>) -> bool {
        let single = step.segments.iter().all(|s| s.rows.len() == 1);
        single && self.buffers.parts.is_some() && step.tokens.len() <= self.buffers.size.sequences
    }

    /// Tells the GPU what the rows of a step are.
    fn send(&mut self, step: Step<'_>) -> Result<(), DeviceError> {
        let rows = step.segments.iter().flat_map(|s| (0..s.rows.len()).map(move |i| (s.slot, s.position + i)));
        let (sequences, positions): (Vec<u32>, Vec<u32>) = rows.map(|(s, p)| (s as u32, p as u32)).unzip();
        self.buffers.ids.write(step.tokens, &self.stream)?;
        self.buffers.sequences.write(&sequences, &self.stream)?;
        self.buffers.positions.write(&positions, &self.stream)
    }

    /// Runs the captured step of so many sequences, or captures it first.
    fn replay(&mut self, rows: usize) -> Result<(), DeviceError> {
        let Self { gpu, buffers, steps, stream, .. } = self;
        if !steps.contains_key(&rows) {
            let graph = stream.capture(|stream| {
                layers::embed(gpu, buffers, rows, stream)?;
                (0..gpu.layers.len()).try_for_each(|i| layers::decode(gpu, buffers, i, rows, stream))
            })?;
            steps.insert(rows, graph);
        }
        steps[&rows].launch(stream)
    }

    /// Runs rows that are not all single tokens.
    fn launch(&mut self, step: Step<'_>, interrupt: &Interrupt) -> Result<()> {
        let rows = step.tokens.len();
        let run = |s: &crate::device::Segment| Run {
            row: s.rows.start,
            rows: s.rows.len(),
            sequence: s.slot,
            position: s.position,
        };
        let runs: Vec<Run> = step.segments.iter().map(run).collect();
        let Self { gpu, buffers, stream, .. } = self;
        buffers.tiles.set(&runs, stream).map_err(told)?;
        layers::embed(gpu, buffers, rows, stream).map_err(told)?;
        for i in 0..gpu.layers.len() {
            interrupt.check()?;
            layers::prefill(gpu, buffers, i, rows, stream).map_err(told)?;
        }
        Ok(())
    }

    /// Normalises the last states of the rows in `wanted`.
    fn normalise(gpu: &Gpu, buffers: &mut Buffers, count: usize, stream: &Stream) -> Result<(), DeviceError> {
        let cols = gpu.embed.cols();
        let x = Columns::rows(&buffers.x, cols);
        let norm = Norm { weight: &gpu.norm, eps: gpu.eps };
        normalise_some(stream, x, (&buffers.wanted, buffers.size.chunk), (count, cols), norm, &mut buffers.last)
    }

    fn choose_rows(&mut self, wanted: &[usize]) -> Result<(), DeviceError> {
        let rows: Vec<u32> = wanted.iter().map(|&row| row as u32).collect();
        self.buffers.wanted.write(&rows, &self.stream)?;
        Self::normalise(&self.gpu, &mut self.buffers, wanted.len(), &self.stream)
    }

    /// A whole step: layers, logits, and the tokens of the next.
    fn capture_loop(&mut self, rows: usize) -> Result<(), DeviceError> {
        let Self { gpu, buffers, chooser, stream, .. } = self;
        let graph = stream.capture(|stream| {
            layers::embed(gpu, buffers, rows, stream)?;
            (0..gpu.layers.len()).try_for_each(|i| layers::decode(gpu, buffers, i, rows, stream))?;
            Self::normalise(gpu, buffers, rows, stream)?;
            let head = gpu.head();
            head.logits(stream, &buffers.last, rows, &mut buffers.logits)?;
            let Buffers { logits, ids, positions, .. } = buffers;
            chooser.choose(stream, logits, head.rows(), rows, ids, positions)
        })?;
        self.loops.insert(rows, graph);
        Ok(())
    }

    fn run_loop(&mut self, step: Step<'_>, sampling: &[OnDevice], count: usize) -> Result<Vec<u32>, DeviceError> {
        let rows = step.tokens.len();
        self.send(step)?;
        let numbers: Vec<u32> = (0..rows as u32).collect();
        self.buffers.wanted.write(&numbers, &self.stream)?;
        let settings: Vec<Sampling> = sampling
            .iter()
            .zip(step.segments)
            .map(|(s, segment)| Sampling {
                temperature: s.temperature,
                top_k: s.top_k,
                top_p: s.top_p,
                min_p: s.min_p,
                seed: s.seed,
                // The draws before this call are those of the tokens before it.
                first: segment.position.wrapping_sub(s.draws),
            })
            .collect();
        self.chooser.set(&settings, &self.stream)?;
        if !self.loops.contains_key(&rows) {
            self.capture_loop(rows)?;
        }
        for _ in 0..count {
            self.loops[&rows].launch(&self.stream)?;
        }
        let mut chosen = Vec::with_capacity(rows * count);
        for (row, segment) in step.segments.iter().enumerate() {
            chosen.extend(self.chooser.chosen(&self.stream, row, segment.position, count)?);
        }
        Ok(chosen)
    }
}

impl Engine for CudaEngine {
    fn run(&mut self, step: Step<'_>, interrupt: &Interrupt) -> Result<()> {
        self.send(step).map_err(told)?;
        if self.decodes(step) {
            return self.replay(step.tokens.len()).map_err(told);
        }
        self.launch(step, interrupt)
    }

    fn logits(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let start = std::time::Instant::now();
        self.choose_rows(rows).map_err(told)?;
        let Self { gpu, buffers, stream, .. } = self;
        gpu.head().logits(stream, &buffers.last, rows.len(), &mut buffers.logits).map_err(told)?;
        buffers.logits.values.read(&mut out[..rows.len() * gpu.head().rows()], stream).map_err(told)?;
        self.profile.add(Phase::Head, start.elapsed());
        Ok(())
    }

    fn hidden(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.choose_rows(rows).map_err(told)?;
        let len = rows.len() * self.gpu.embed.cols();
        self.buffers.last.read(&mut out[..len], &self.stream).map_err(told)
    }

    fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<()> {
        let Self { gpu, buffers, stream, .. } = self;
        let Buffers { caches, places, .. } = buffers;
        let copied = caches.iter_mut().try_for_each(|cache| cache.copy(&gpu.heads, places, (from, to), len, stream));
        copied.map_err(told)
    }

    fn decode(
        &mut self,
        step: Step<'_>,
        sampling: &[OnDevice],
        count: usize,
        interrupt: &Interrupt,
    ) -> Result<Option<Vec<u32>>> {
        interrupt.check()?;
        if !self.decodes(step) {
            return Ok(None);
        }
        self.run_loop(step, sampling, count).map(Some).map_err(told)
    }

    fn most_decoded(&self) -> usize {
        HISTORY
    }

    fn profile(&mut self) -> &mut Profile {
        &mut self.profile
    }
}

/// An error of the GPU in this crate's words.
fn told(error: DeviceError) -> Error {
    let kind = match &error {
        DeviceError::OutOfMemory { .. } => Kind::Budget,
        DeviceError::Misuse(_) => Kind::Unsupported,
        _ => Kind::Device,
    };
    Error::new(kind, error.to_string(), "", "")
}
