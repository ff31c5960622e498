//! The compiler, as a library, and the `sbnc` command: a trained checkpoint in, one packed and checked file out.
//!
//! ```text
//! files ── checkpoint: one list of tensors ──▶ family: which tensor is what ──▶ compile: tensor by tensor, then checked ──▶ model.sbnc
//!                                                                                  │
//!                                                                        quantize: scale, trits, mask ──▶ report: what happened
//! ```
//!
//! | to | use |
//! |---|---|
//! | read a checkpoint of any container | [`checkpoint::Checkpoint::open`] |
//! | know what its tensors are | [`family::plan()`] |
//! | compile it | [`compile::Input`], [`compile::compile()`] |
//! | make trits of latent weights | [`quantize`] |
//! | show what happened, as text or HTML | [`report`] |
//! | end early, leaving nothing behind | [`interrupt`] |
//!
//! Files are run by the crate `sbnc-runtime`; the command's `run`, `ppl` and `bench` in [`cli`] call it.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod compile;
pub mod error;
pub mod family;
pub mod interrupt;
mod json;
mod numbers;
pub mod quantize;
pub mod report;

pub use error::{Error, Exit, Result};
