//! Linear layers of a step: inputs are normalised and quantised once for all matrices that share them.
//!
//! Matrices with norms of their own, and those that the compiler was told to leave dense, are computed one by one from the normalised input in f32. They are
//! rare, so nothing is allocated for them unless the plan has some.

use sbnc_kernels::cpu::{Activations, Cpu, Linear, Output, Rule};

use crate::error::Result;
use crate::memory::zeros;
use crate::plan::{Plan, Projection, Projections};
use crate::profile::{Phase, Profile};
use crate::tensor::File;

/// The most matrices that share an input: q, k and v.
const MOST_PARTS: usize = 3;

/// What goes into projections: rows, the norm before them, and how they are quantised.
pub(super) struct Input<'a> {
    pub(super) x: &'a [f32],
    pub(super) norm: Option<(&'a [f32], f32)>,
    pub(super) rule: Rule,
}

/// Buffers of linear layers.
pub(super) struct Projector {
    activations: Activations,
    /// Normalised inputs, and inputs with a second norm, in f32.
    once: Vec<f32>,
    twice: Vec<f32>,
    /// Outputs of one dense matrix.
    outputs: Vec<f32>,
}

/// Values of a row in each of a projector's buffers.
struct Widths {
    activations: usize,
    once: usize,
    twice: usize,
    outputs: usize,
}

impl Widths {
    fn new(plan: &Plan) -> Self {
        let widest = |wanted: fn(&Projections) -> bool, width: fn(&Projections) -> usize| {
            plan.projections().filter(|p| wanted(p)).map(width).max().unwrap_or(0)
        };
        let any = |p: &Projections, is: fn(&Projection) -> bool| p.parts.iter().any(is);
        let _ = any;
        Self {
            activations: widest(|_| true, |p| p.cols),
            once: widest(|p| !p.share_input(), |p| p.cols),
            twice: widest(|p| p.parts.iter().any(|p| p.norm.is_some() && !p.weight.is_ternary()), |p| p.cols),
            outputs: widest(|p| p.parts.iter().any(|p| !p.weight.is_ternary()), |p| p.rows),
        }
    }
}

impl Projector {
    /// Buffers for `chunk` rows of any projection of the plan.
    pub(super) fn new(plan: &Plan, chunk: usize) -> Result<Self> {
        let widths = Widths::new(plan);
        let rows = |width: usize| zeros(chunk * width, "inputs of projections");
        Ok(Self {
            activations: Activations::with_capacity(chunk, widths.activations),
            once: rows(widths.once)?,
            twice: rows(widths.twice)?,
            outputs: rows(widths.outputs)?,
        })
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(plan: &Plan, chunk: usize) -> u64 {
        let widths = Widths::new(plan);
        (chunk * (widths.activations + 4 * (widths.once + widths.twice + widths.outputs))) as u64
    }

    /// Computes all parts: `out` has `projections.rows` values for each row of the input.
    #[allow(clippy::too_many_arguments, reason = "kernels, weights, input, output and clock are five different things")]
    pub(super) fn run(
        &mut self,
        cpu: &Cpu,
        file: &File,
        projections: &Projections,
        input: &Input<'_>,
        eps: f32,
        out: &mut [f32],
        (phase, profile): (Phase, &mut Profile),
    ) {
        if !projections.share_input() {
            return profile.time(phase, || self.run_apart(cpu, file, projections, input, eps, out));
        }
        let activations = &mut self.activations;
        profile.time(Phase::Quantise, || {
            cpu.quantise(input.x, projections.cols, input.norm, input.rule, activations);
        });
        profile.time(phase, || {
            let mut out = Output { values: out, stride: projections.rows };
            let parts = &projections.parts;
            let first = linear(&parts[0], file);
            let mut layers = [first; MOST_PARTS];
            for (layer, part) in layers[1..].iter_mut().zip(&parts[1..]) {
                *layer = linear(part, file);
            }
            cpu.linear(&layers[..parts.len()], activations, &mut out);
        });
    }

    /// Computes parts that do not share their inputs.
    fn run_apart(
        &mut self,
        cpu: &Cpu,
        file: &File,
        projections: &Projections,
        input: &Input<'_>,
        eps: f32,
        out: &mut [f32],
    ) {
        let Projections { parts, rows: stride, cols } = projections;
        let Self { activations, once, twice, outputs } = self;
        let once: &[f32] = match input.norm {
            Some((weight, eps)) => {
                cpu.norm(input.x, weight, eps, &mut once[..input.x.len()]);
                &once[..input.x.len()]
            }
            None => input.x,
        };
        for part in parts {
            if part.weight.is_ternary() {
                cpu.quantise(once, *cols, part.norm.as_deref().map(|norm| (norm, eps)), input.rule, activations);
                cpu.linear(&[linear(part, file)], activations, &mut Output { values: out, stride: *stride });
                continue;
            }
            let x = match &part.norm {
                Some(norm) => {
                    cpu.norm(once, norm, eps, &mut twice[..once.len()]);
                    &twice[..once.len()]
                }
                None => once,
            };
            let rows = part.weight.rows;
            let outputs = &mut outputs[..x.len() / cols * rows];
            cpu.dense(&part.weight.dense(file), *cols, x, outputs);
            for (out, y) in out.chunks_exact_mut(*stride).zip(outputs.chunks_exact(rows)) {
                let out = &mut out[part.offset..][..rows];
                out.copy_from_slice(y);
                if let Some(bias) = &part.bias {
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        }
    }
}

fn linear<'a>(part: &'a Projection, file: &'a File) -> Linear<'a> {
    Linear { weight: part.weight.matrix(file), bias: part.bias.as_deref(), offset: part.offset }
}
