//! Linear layers of a step: what comes before them is done while the inputs are quantised, once for all matrices that share them.
//!
//! Matrices with norms of their own, and those that the compiler was told to leave dense, are computed one by one from inputs in f32. They are rare, so
//! nothing is allocated for them unless the plan has some.

use sbnc_kernels::cpu::ops::Activation;
use sbnc_kernels::cpu::{Activations, Cpu, Fused, Linear, Output, Rule};

use crate::error::Result;
use crate::memory::zeros;
use crate::plan::{Plan, Projection, Projections};
use crate::profile::{Phase, Profile};
use crate::tensor::File;

/// The most matrices that share an input: q, k and v.
const MOST_PARTS: usize = 3;

/// Where the inputs of a layer come from.
pub(super) enum Source<'a> {
    /// They are there.
    Rows(&'a [f32]),
    /// The residual stream, to which something is to be added first.
    Sum { x: &'a mut [f32], y: &'a [f32] },
    /// The product of an activated gate and its partner.
    Gated { activation: Activation, gate_up: &'a [f32] },
}

/// What goes into projections: rows, the norm before them, and how they are quantised.
pub(super) struct Input<'a> {
    pub(super) source: Source<'a>,
    pub(super) norm: Option<&'a [f32]>,
    pub(super) rule: Rule,
}

/// Linear layers of one step: the kernels, and what all layers have in common.
pub(super) struct Projector<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) file: &'a File,
    pub(super) eps: f32,
    pub(super) buffers: &'a mut Buffers,
    pub(super) profile: &'a mut Profile,
}

impl Projector<'_> {
    /// Whether so many rows are computed together with what reads the outputs.
    fn fuses(&self, projections: &Projections, rows: usize) -> bool {
        projections.share_input() && self.cpu.fuses(rows, projections.cols)
    }

    /// Computes all parts: `out` has `projections.rows` values for each row of the input.
    pub(super) fn run(&mut self, projections: &Projections, input: Input<'_>, out: &mut [f32], phase: Phase) {
        if !projections.share_input() {
            return self.run_apart(projections, input, out, phase);
        }
        if out.len() == projections.rows {
            self.expect(projections);
        }
        self.run_fused(projections, input, (out, projections.rows), phase, Fused::Nothing);
    }

    /// Computes all parts together with what reads their outputs next: `out` has `stride` values for each row of the input.
    fn run_fused(
        &mut self,
        projections: &Projections,
        input: Input<'_>,
        (values, stride): (&mut [f32], usize),
        phase: Phase,
        fused: Fused,
    ) {
        let Self { cpu, file, eps, buffers: Buffers { activations, .. }, profile } = self;
        let Input { source, norm, rule } = input;
        let (norm, cols) = (norm.map(|norm| (norm, *eps)), projections.cols);
        profile.time(Phase::Quantise, || match source {
            Source::Rows(x) => cpu.quantise(x, cols, norm, rule, activations),
            Source::Sum { x, y } => cpu.add_quantise(x, y, cols, norm, rule, activations),
            Source::Gated { activation, gate_up } => {
                cpu.gate_quantise(activation, gate_up, cols, norm, rule, activations);
            }
        });
        profile.time(phase, || {
            let layers = layers(&projections.parts, file);
            let (layers, out) = (&layers[..projections.parts.len()], &mut Output { values, stride });
            match fused {
                Fused::Nothing => cpu.linear(layers, activations, out),
                fused => cpu.linear_fused(layers, fused, activations, out),
            }
        });
    }

    /// Computes what is added to the residual stream `x`, and adds it if that is done with the product; otherwise it is in `y`.
    pub(super) fn add(
        &mut self,
        projections: &Projections,
        input: Input<'_>,
        (x, y): (&mut [f32], &mut [f32]),
        rows: usize,
        phase: Phase,
    ) -> bool {
        let fuses = self.fuses(projections, rows);
        if fuses {
            self.run_fused(projections, input, (x, projections.rows), phase, Fused::Add);
        } else {
            self.run(projections, input, y, phase);
        }
        fuses
    }

    /// Computes a gate and its partner, and their product if that is done at once; says where what goes into the next layer is found.
    pub(super) fn gate<'o>(
        &mut self,
        projections: &Projections,
        input: Input<'_>,
        (activation, gate_up): (Activation, &'o mut [f32]),
        rows: usize,
    ) -> Source<'o> {
        if !self.fuses(projections, rows) || projections.parts.len() != 2 {
            self.run(projections, input, gate_up, Phase::GateUp);
            return Source::Gated { activation, gate_up };
        }
        let width = projections.rows / 2;
        let gated = &mut gate_up[..rows * width];
        self.run_fused(projections, input, (gated, width), Phase::GateUp, Fused::Gate(activation));
        Source::Rows(gated)
    }

    /// Tells the kernels which projections of a single row come next.
    pub(super) fn expect(&self, projections: &Projections) {
        if projections.share_input() {
            self.cpu.expect(&layers(&projections.parts, self.file)[..projections.parts.len()]);
        }
    }

    /// Computes parts that do not share their inputs.
    fn run_apart(&mut self, projections: &Projections, input: Input<'_>, out: &mut [f32], phase: Phase) {
        let Self { cpu, file, eps, buffers, profile } = self;
        let Buffers { activations, gated, once, twice, outputs } = buffers;
        let start = std::time::Instant::now();
        let cols = projections.cols;
        let x: &[f32] = match input.source {
            Source::Rows(x) => x,
            Source::Sum { x, y } => {
                cpu.add(x, y);
                x
            }
            Source::Gated { activation, gate_up } => {
                let gated = &mut gated[..gate_up.len() / 2];
                cpu.gate(activation, gate_up, cols, gated);
                gated
            }
        };
        let once = match input.norm {
            Some(weight) => {
                cpu.norm(x, weight, *eps, &mut once[..x.len()]);
                &once[..x.len()]
            }
            None => x,
        };
        for part in &projections.parts {
            if part.weight.is_ternary() {
                cpu.quantise(once, cols, part.norm.as_deref().map(|norm| (norm, *eps)), input.rule, activations);
                let mut out = Output { values: &mut *out, stride: projections.rows };
                cpu.linear(&[linear(part, file)], activations, &mut out);
                continue;
            }
            let x = match &part.norm {
                Some(norm) => {
                    cpu.norm(once, norm, *eps, &mut twice[..once.len()]);
                    &twice[..once.len()]
                }
                None => once,
            };
            let outputs = &mut outputs[..x.len() / cols * part.weight.rows];
            cpu.dense(&part.weight.dense(file), cols, x, outputs);
            place(part, outputs, out, projections.rows);
        }
        profile.add(phase, start.elapsed());
    }
}

/// Puts the outputs of one dense matrix among those of all parts.
fn place(part: &Projection, outputs: &[f32], out: &mut [f32], stride: usize) {
    let rows = part.weight.rows;
    for (out, y) in out.chunks_exact_mut(stride).zip(outputs.chunks_exact(rows)) {
        let out = &mut out[part.offset..][..rows];
        out.copy_from_slice(y);
        if let Some(bias) = &part.bias {
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// Parts that share an input, as the kernels take them; in the places that are left the first again.
fn layers<'a>(parts: &'a [Projection], file: &'a File) -> [Linear<'a>; MOST_PARTS] {
    let mut layers = [linear(&parts[0], file); MOST_PARTS];
    for (layer, part) in layers.iter_mut().zip(parts) {
        *layer = linear(part, file);
    }
    layers
}

fn linear<'a>(part: &'a Projection, file: &'a File) -> Linear<'a> {
    Linear { weight: part.weight.matrix(file), bias: part.bias.as_deref(), offset: part.offset }
}

/// Inputs and outputs of linear layers between kernels.
pub(super) struct Buffers {
    activations: Activations,
    gated: Vec<f32>,
    /// Normalised inputs, and inputs with a second norm, in f32.
    once: Vec<f32>,
    twice: Vec<f32>,
    /// Outputs of one dense matrix.
    outputs: Vec<f32>,
}

/// Values of a row in each of the buffers.
struct Widths {
    activations: usize,
    gated: usize,
    once: usize,
    twice: usize,
    outputs: usize,
}

impl Widths {
    fn new(plan: &Plan) -> Self {
        let apart = |p: &&Projections| !p.share_input();
        let dense = |p: &&Projections| p.parts.iter().any(|part| !part.weight.is_ternary());
        let twice = |p: &&Projections| p.parts.iter().any(|part| !part.weight.is_ternary() && part.norm.is_some());
        let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
        Self {
            activations: widest(&mut plan.projections().map(|p| p.cols)),
            gated: widest(&mut plan.layers.iter().map(|l| &l.down).filter(apart).map(|p| p.cols)),
            once: widest(&mut plan.projections().filter(apart).map(|p| p.cols)),
            twice: widest(&mut plan.projections().filter(twice).map(|p| p.cols)),
            outputs: widest(&mut plan.projections().filter(dense).map(|p| p.rows)),
        }
    }
}

impl Buffers {
    /// Buffers for `chunk` rows of any projection of the plan.
    pub(super) fn new(plan: &Plan, chunk: usize) -> Result<Self> {
        let widths = Widths::new(plan);
        let rows = |width: usize| zeros(chunk * width, "inputs of projections");
        Ok(Self {
            activations: Activations::with_capacity(chunk, widths.activations),
            gated: rows(widths.gated)?,
            once: rows(widths.once)?,
            twice: rows(widths.twice)?,
            outputs: rows(widths.outputs)?,
        })
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(plan: &Plan, chunk: usize) -> u64 {
        let Widths { activations, gated, once, twice, outputs } = Widths::new(plan);
        (chunk * (activations + 4 * (gated + once + twice + outputs))) as u64
    }
}
