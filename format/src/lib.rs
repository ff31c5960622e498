//! The sbnc file: one model of ternary, N:M sparse weights, packed, verified and mappable.
//!
//! ```text
//! bytes ──▶ header ──▶ record, manifest ──▶ Sbnc ──▶ TensorView ──▶ Validated ──▶ kernels
//!           prefix,    tensors, names,      an open   a tensor's     its bytes
//!           sections   model, files         file      bytes          obey the rules
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`Sbnc`], [`TensorView`] | an open file and its tensors |
//! | [`Depth`], [`Verification`], [`Validated`] | checking payload bytes |
//! | [`encoding`] | how trits become bytes and back |
//! | [`manifest`] | what the file says about the model and its origin |
//! | [`packed`] | the compressed form for download |
//! | `writer` (feature) | writing a file in one pass |
//! | [`limits`] | constants and limits of the format |
//!
//! The format itself is specified in `spec/SPEC.md`; errors name its rules. This crate reads byte slices and writes files; it maps nothing,
//! computes nothing and contains no unsafe code.
#![forbid(unsafe_code)]

#[cfg(feature = "writer")]
pub mod atomic;
mod canonical;
mod digest;
pub mod encoding;
pub mod error;
mod file;
mod frame;
mod header;
pub mod limits;
pub mod manifest;
pub mod packed;
#[cfg(feature = "writer")]
mod plan;
mod record;
mod verify;
mod wire;
#[cfg(feature = "writer")]
pub mod writer;

pub use digest::Digest;
pub use encoding::{Encoding, Order, Packing, Pattern};
pub use error::{FormatError, Kind, Result};
pub use file::{Proof, Sbnc, TensorView};
pub use header::{Header, Section, section};
pub use record::{Layout, Role, Tensor, checked_name};
pub use verify::{Depth, Validated, Verification};
