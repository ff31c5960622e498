//! A session's engine on the processor: the plan, step by step, over kernels of `sbnc_kernels::cpu`.
//!
//! ```text
//! Engine ── cache.rs    keys and values of all sequences
//!        ── project.rs  linear layers: quantise once, multiply, side by side
//!        ── here        the order of things, and the rows of a step
//! ```
//!
//! The residual stream is f32. All buffers hold a chunk of rows and are allocated with the engine.

mod cache;
mod project;

use std::sync::Arc;

use sbnc_kernels::cpu::ops::Heads;
use sbnc_kernels::cpu::{Cpu, Rule};

use self::cache::KvCache;
use self::project::{Buffers, Input, Projector, Source};
use crate::device::{Engine, Interrupt, Step};
use crate::error::Result;
use crate::memory::Floats;
use crate::model::Loaded;
use crate::profile::{Phase, Profile};
use crate::session::CacheType;

/// What a session needs of the processor.
pub(crate) struct CpuEngine {
    model: Arc<Loaded>,
    cpu: Arc<Cpu>,
    heads: Heads,
    cache: KvCache,
    buffers: Buffers,
    rows: Rows,
    profile: Profile,
}

/// Rows of a step, all as many as the chunk.
struct Rows {
    /// The residual stream.
    x: Floats,
    qkv: Floats,
    attention: Floats,
    gate_up: Floats,
    /// What is added to the residual stream.
    y: Floats,
    /// Normalised last states of the rows whose logits are wanted.
    last: Floats,
}

/// How large an engine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rows of a step.
    pub(crate) chunk: usize,
    /// Rows whose logits are wanted at a time.
    pub(crate) wanted: usize,
    pub(crate) sequences: usize,
    /// Positions of a sequence.
    pub(crate) context: usize,
}

impl CpuEngine {
    /// Allocates everything.
    pub(crate) fn new(model: &Arc<Loaded>, cpu: &Arc<Cpu>, kind: CacheType, size: Size) -> Result<Self> {
        let c = &model.config;
        let heads = Heads { heads: c.heads, kv_heads: c.kv_heads, dim: c.head_dim, window: c.window };
        let rotation = c.scaling.rotation(c.pairing, c.theta, c.head_dim, size.context)?;
        let rows = |width: usize| Floats::zeros(size.chunk * width, "the rows of a chunk");
        Ok(Self {
            model: Arc::clone(model),
            cpu: Arc::clone(cpu),
            heads,
            cache: KvCache::new((c.layers, heads), rotation, kind, (size.sequences, size.context))?,
            buffers: Buffers::new(&model.plan, size.chunk)?,
            rows: Rows {
                x: rows(c.hidden)?,
                qkv: rows(heads.row())?,
                attention: rows(c.q_width())?,
                gate_up: rows(2 * c.intermediate)?,
                y: rows(c.hidden)?,
                last: Floats::zeros(size.wanted * c.hidden, "last states")?,
            },
            profile: Profile::default(),
        })
    }

    /// Bytes that [`CpuEngine::new`] allocates but for keys and values, about.
    pub(crate) fn scratch_bytes(model: &Loaded, size: Size) -> u64 {
        let c = &model.config;
        let row = 2 * c.hidden + 2 * c.q_width() + 2 * c.kv_width() + 2 * c.intermediate;
        let angles = size.context * c.head_dim;
        let numbers = size.chunk * row + size.wanted * c.hidden + angles;
        4 * numbers as u64 + Buffers::bytes(&model.plan, size.chunk)
    }

    /// Writes the normalised last states of some rows to the front of `last`.
    fn normalise(&mut self, wanted: &[usize]) {
        let (c, plan) = (&self.model.config, &self.model.plan);
        for (row, out) in wanted.iter().zip(self.rows.last.chunks_exact_mut(c.hidden)) {
            self.cpu.norm(&self.rows.x[row * c.hidden..][..c.hidden], &plan.norm, c.norm_eps, out);
        }
    }
}

impl Engine for CpuEngine {
    fn run(&mut self, step: Step<'_>, interrupt: &Interrupt) -> Result<()> {
        let Self { model, cpu, heads, cache, buffers, rows, profile } = self;
        let (c, plan, file) = (&model.config, &model.plan, &model.file);
        let n = step.tokens.len();
        let x = &mut rows.x[..n * c.hidden];
        let qkv = &mut rows.qkv[..n * heads.row()];
        let attention = &mut rows.attention[..n * c.q_width()];
        let gate_up = &mut rows.gate_up[..n * 2 * c.intermediate];
        let y = &mut rows.y[..n * c.hidden];

        profile.time(Phase::Embed, || {
            let embed = plan.embed.dense(file);
            x.chunks_exact_mut(c.hidden).zip(step.tokens).for_each(|(x, &token)| embed.read_row(token as usize, x));
        });
        let mut projector = Projector { cpu, file, eps: c.norm_eps, buffers, profile };
        let mut is_added = true;
        for (i, layer) in plan.layers.iter().enumerate() {
            interrupt.check()?;
            // What a layer adds to the stream is added where the next one reads it, unless its kernel does that.
            let source = if is_added { Source::Rows(x) } else { Source::Sum { x, y } };
            let input = Input { source, norm: Some(&layer.attn_norm), rule: c.input_rule() };
            projector.run(&layer.qkv, input, qkv, Phase::Qkv);
            if n == 1 {
                projector.expect(&layer.o);
            }
            projector.profile.time(Phase::Attention, || {
                let mut norm_heads = |norm: &Option<Vec<f32>>, offset, count| {
                    if let Some(norm) = norm {
                        cpu.norm_heads(qkv, heads.row(), offset, count, norm, c.norm_eps);
                    }
                };
                norm_heads(&layer.q_norm, 0, heads.heads);
                norm_heads(&layer.k_norm, c.q_width(), heads.kv_heads);
                cache.attend(cpu, i, step.segments, qkv, attention);
            });
            let input = Input { source: Source::Rows(attention), norm: layer.attn_sub_norm.as_deref(), rule: Rule::A8 };
            is_added = projector.add(&layer.o, input, (x, y), n, Phase::Out);

            let source = if is_added { Source::Rows(x) } else { Source::Sum { x, y } };
            let input = Input { source, norm: Some(&layer.ffn_norm), rule: c.input_rule() };
            let gated = projector.gate(&layer.gate_up, input, (c.activation, gate_up), n);
            let input = Input { source: gated, norm: layer.ffn_sub_norm.as_deref(), rule: Rule::A8 };
            is_added = projector.add(&layer.down, input, (x, y), n, Phase::Down);
        }
        if !is_added {
            profile.time(Phase::Add, || cpu.add(x, y));
        }
        Ok(())
    }

    fn logits(&mut self, wanted: &[usize], out: &mut [f32]) -> Result<()> {
        let start = std::time::Instant::now();
        self.normalise(wanted);
        let (c, plan) = (&self.model.config, &self.model.plan);
        let head = plan.head().dense(&self.model.file);
        let last = &self.rows.last[..wanted.len() * c.hidden];
        self.cpu.dense(&head, c.hidden, last, &mut out[..wanted.len() * c.vocab]);
        self.profile.add(Phase::Head, start.elapsed());
        Ok(())
    }

    fn hidden(&mut self, wanted: &[usize], out: &mut [f32]) -> Result<()> {
        self.normalise(wanted);
        let len = wanted.len() * self.model.config.hidden;
        out[..len].copy_from_slice(&self.rows.last[..len]);
        Ok(())
    }

    fn copy(&mut self, from: usize, to: usize, len: usize) -> Result<()> {
        self.cache.copy(from, to, len);
        Ok(())
    }

    fn profile(&mut self) -> &mut Profile {
        &mut self.profile
    }
}
