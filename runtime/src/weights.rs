//! Single weights of a file, for applications that bring their own graph: `y = W x`.
//!
//! Any sbnc file will do, with a model or without. Nothing is known here about what a weight is for.

use std::fmt;
use std::sync::Arc;

use sbnc_kernels::cpu::{Activations, Cpu, Output, Rule};

use crate::error::{Error, Kind, Result};
use crate::model::Options;
use crate::tensor::{File, Weight};

/// The weights of an open file.
///
/// ```no_run
/// use sbnc_runtime::Weights;
///
/// let weights = Weights::open("weights.sbnc")?;
/// let mut linear = weights.linear("layers.0.attention.wo.weight")?;
/// let x = vec![1.0; 2 * linear.cols()]; // two inputs
/// let mut y = vec![0.0; 2 * linear.rows()];
/// linear.forward(&x, &mut y)?;
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct Weights {
    shared: Arc<(File, Cpu)>,
}

/// One ternary weight of a file, ready to multiply. Its inputs are quantised to 8 bits, each by its own largest magnitude.
pub struct Linear {
    shared: Arc<(File, Cpu)>,
    weight: Weight,
    activations: Activations,
}

impl Weights {
    /// Opens a file, mapped, with all threads; see [`Options::open_weights`] for other ways.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        Options::default().open_weights(path)
    }

    pub(crate) fn new(file: File, cpu: Cpu) -> Self {
        Self { shared: Arc::new((file, cpu)) }
    }

    /// The names of the ternary weights, in the order of their bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shared.0.tensors().iter().filter(|t| t.is_ternary()).map(|t| t.name.as_str())
    }

    /// The ternary weight `name`, checked.
    pub fn linear(&self, name: &str) -> Result<Linear> {
        let file = &self.shared.0;
        let weight = Weight::open(file, name, None).map_err(|e| e.in_file(file.storage().path()))?;
        if !weight.is_ternary() {
            let error = Error::new(Kind::Unsupported, format!("tensor '{name}'"), "a ternary weight", "another");
            return Err(error.in_file(file.storage().path()));
        }
        let activations = Activations::with_capacity(1, weight.cols);
        Ok(Linear { shared: Arc::clone(&self.shared), weight, activations })
    }
}

impl Linear {
    /// Outputs.
    pub fn rows(&self) -> usize {
        self.weight.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.weight.cols
    }

    /// Multiplies: `x` holds inputs of [`Linear::cols`] numbers one after another, `y` as many outputs of [`Linear::rows`]. Buffers grow with the largest
    /// batch; after that nothing is allocated.
    pub fn forward(&mut self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let (file, cpu) = &*self.shared;
        let (rows, cols) = (self.weight.rows, self.weight.cols);
        if !x.len().is_multiple_of(cols) || y.len() != x.len() / cols * rows {
            let expected = format!("inputs of {cols} numbers, and as many outputs of {rows}");
            let found = format!("{} and {} numbers", x.len(), y.len());
            return Err(Error::new(Kind::Usage, "shapes", expected, found));
        }
        file.storage().check()?;
        cpu.quantise(x, cols, None, Rule::A8, &mut self.activations);
        let layer = sbnc_kernels::cpu::Linear { weight: self.weight.matrix(file), bias: None, offset: 0 };
        cpu.linear(&[layer], &self.activations, &mut Output { values: y, stride: rows });
        file.storage().check()
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights").field("path", &self.shared.0.storage().path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linear").field("weight", &self.weight).finish_non_exhaustive()
    }
}
