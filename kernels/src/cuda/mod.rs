//! Kernels for NVIDIA GPUs.
//!
//! ```text
//! src/*.cu ── cargo xtask kernels ──▶ images/ ── embedded ──▶ Device ──▶ Kernel ─┐
//!                                                                               ├─ launch ──▶ Stream, Graph
//! Validated ──▶ Linear::upload ──▶ Buffer (weights, scales) ────────────────────┘
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`Device`], [`Buffer`] | an open GPU and its memory |
//! | [`Stream`], [`Graph`], [`Event`] | order of execution, capture, time |
//! | [`Linear`] | a ternary layer on the GPU |
//! | [`Dense`] | the embedding and the output head |
//! | [`quantise()`], [`normalise`] | what comes before a layer |
//! | [`attention`] | attention, keys and values |
//! | [`Chooser`] | choosing tokens |
//! | [`DeviceError`] | what went wrong and what to do |
//! | `abi` | the structs that host and device share |
//! | `images` | the compiled kernels |
//!
//! The driver is looked for at run time: a program that links this runs on machines without it, and [`Device::open`] says what is missing there. Weights come in as
//! [`Validated`](sbnc_format::Validated) only, because illegal sparsity metadata is undefined behaviour on tensor cores.
#![allow(unsafe_code, reason = "every call of the driver is unsafe; each stands in a block of its own with its proof")]

mod abi;
pub mod attention;
mod buffer;
mod dense;
mod device;
mod error;
mod few;
mod images;
mod launch;
mod linear;
mod many;
mod plan;
mod quantise;
mod sample;
mod tensor_map;

pub use buffer::Buffer;
pub use dense::{Dense, FEW_TOKENS, Logits};
pub use device::Device;
pub use error::{DeviceError, Result};
pub use launch::{Event, Graph, Stream};
pub use linear::{Activations, DECODE_TOKENS, Epilogue, Linear, Output};
pub use plan::Choice;
pub use quantise::{Activation, Columns, Norm, Order, Quantised, Source, normalise, normalise_some, quantise};
pub use sample::{Chooser, Sampling};
