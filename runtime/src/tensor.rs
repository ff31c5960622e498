//! Tensors of an open file as the graph keeps them: proofs and small copies, never references, so that a model owns all it needs.
//!
//! A weight is checked once ([`sbnc_format::Sbnc::prove`]) and taken back from the file for every call, which costs a lookup. Scales, norms and biases are
//! copied: they are small, and nobody can change them afterwards.

use sbnc_format::{Encoding, Layout, Proof, Sbnc, Validated};
use sbnc_kernels::cpu::{Dense, Matrix};

use crate::error::{Error, Kind, Result};
use crate::storage::Storage;

/// An open file.
pub(crate) type File = Sbnc<Storage>;

/// A matrix of any encoding.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    proof: Proof,
    encoding: Encoding,
    scales: Vec<f32>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Weight {
    /// Checks the tensor `name`: its shape first, then the rules of its encoding.
    pub(crate) fn open(file: &File, name: &str, shape: Option<[usize; 2]>) -> Result<Self> {
        let view = file.tensor(name).ok_or_else(|| missing(name))?;
        let found = &view.tensor().shape;
        let fits = match shape {
            Some(shape) => *found == shape.map(|n| n as u64),
            None => found.len() == 2,
        };
        if !fits {
            let expected = shape.map_or("a matrix".to_owned(), |[rows, cols]| format!("shape {rows}x{cols}"));
            return Err(Error::new(Kind::Invalid, subject(name), expected, show(found)));
        }
        let valid = prove(file, name)?;
        let (rows, cols) = valid.1.matrix();
        Ok(Self { proof: valid.0, encoding: valid.1.encoding(), scales: valid.1.scales(), rows, cols })
    }

    /// Whether it holds trits.
    pub(crate) fn is_ternary(&self) -> bool {
        self.encoding.is_ternary()
    }

    /// Bytes that one pass over the weights reads.
    pub(crate) fn bytes(&self, file: &File) -> u64 {
        (self.validated(file).data().len() + 4 * self.scales.len()) as u64
    }

    /// The ternary matrix, as kernels take it.
    pub(crate) fn matrix<'a>(&'a self, file: &'a File) -> Matrix<'a> {
        Matrix::new(&self.validated(file), &self.scales).expect("what is ternary is asked before")
    }

    /// The matrix of plain numbers, as kernels take it.
    pub(crate) fn dense<'a>(&'a self, file: &'a File) -> Dense<'a> {
        dense(&self.validated(file), &self.scales)
            .expect("what is dense is asked before, and where tensors lie is checked")
    }

    /// The checked tensor.
    pub(crate) fn validated<'a>(&self, file: &'a File) -> Validated<'a> {
        file.proven(self.proof).expect("a weight belongs to the file that it was opened from")
    }
}

/// Copies the vector `name` of `len` numbers.
pub(crate) fn vector(file: &File, name: &str, len: usize) -> Result<Vec<f32>> {
    let view = file.tensor(name).ok_or_else(|| missing(name))?;
    let found = &view.tensor().shape;
    if *found != [len as u64] {
        return Err(Error::new(Kind::Invalid, subject(name), format!("{len} numbers"), show(found)));
    }
    let (_, valid) = prove(file, name)?;
    let values = dense(&valid, &[])
        .ok_or_else(|| Error::new(Kind::Unsupported, subject(name), "f32, f16 or bf16", valid.encoding().name()))?;
    let mut out = vec![0.0; len];
    values.read_row(0, &mut out);
    Ok(out)
}

/// Checks a tensor's rules.
fn prove<'a>(file: &'a File, name: &str) -> Result<(Proof, Validated<'a>)> {
    let proof = file.prove(name).ok_or_else(|| missing(name))?.map_err(|e| Error::format(&e))?;
    let valid = file.proven(proof).ok_or_else(|| missing(name))?;
    Ok((proof, valid))
}

/// The numbers of a tensor that is not ternary; `None` for one that is, or that lies where its type cannot.
fn dense<'a>(valid: &Validated<'a>, scales: &'a [f32]) -> Option<Dense<'a>> {
    let data = valid.data();
    match valid.encoding() {
        Encoding::F32 => bytemuck::try_cast_slice(data).ok().map(Dense::F32),
        Encoding::F16 => bytemuck::try_cast_slice(data).ok().map(Dense::F16),
        Encoding::Bf16 => bytemuck::try_cast_slice(data).ok().map(Dense::Bf16),
        Encoding::I8 => Some(Dense::I8(bytemuck::cast_slice(data), scales)),
        _ => None,
    }
}

/// The encoding of a tensor, without checking it.
pub(crate) fn encoding(file: &File, name: &str) -> Option<Encoding> {
    match file.tensor(name)?.tensor().layout {
        Layout::Known(packing) => Some(packing.encoding),
        Layout::Opaque { .. } => None,
    }
}

fn missing(name: &str) -> Error {
    Error::new(Kind::Invalid, subject(name), "that the file holds it", "no tensor of that name")
}

fn subject(name: &str) -> String {
    format!("tensor '{name}'")
}

fn show(shape: &[u64]) -> String {
    let dims: Vec<_> = shape.iter().map(u64::to_string).collect();
    format!("shape {}", dims.join("x"))
}
