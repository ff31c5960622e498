//! What an application embeds: a compiled model file in, logits out.
//!
//! ```text
//! model.sbnc ── storage (map or read, watched) ── sbnc_format: structure, rules, digests
//!                    │
//!                  Model ──── Config: shape, special tokens         Weights ── Linear: y = W x,
//!                    │ └───── plan: the graph, every tensor checked            of any file
//!                    ▼
//!                 Session ─── sequences, chunks, prefixes, interruption
//!                    │
//!                 Engine ──── cache, scratch, kernels: the processor (cpu/) or a GPU (cuda/)
//! ```
//!
//! | to | use |
//! |---|---|
//! | open a model | [`Model::open`], [`Model::options`] |
//! | generate text | [`Session::generate`], [`Session::chat`], [`sampling`] |
//! | turn text into tokens and back | [`Model::tokenizer`], [`text`] |
//! | run tokens | [`Session::forward`], [`Session::batch`] |
//! | score a text | [`Session::forward_all`] |
//! | embed a text | [`Session::hidden`] |
//! | keep or share a prefix | [`Session::reuse`], [`Session::copy_prefix`], [`Session::truncate`] |
//! | stop a running call | [`Interrupt`] |
//! | know what a token costs, and where time goes | [`Model::cost`], [`Session::take_profile`] |
//! | multiply by one weight of a file | [`Weights`], [`Linear`] |
//!
//! ```no_run
//! use sbnc_runtime::{Model, SessionOptions};
//!
//! let model = Model::open("model.sbnc")?;
//! let mut session = model.session(&SessionOptions::default())?;
//! let mut logits = session.forward(&[1, 5, 9, 33])?;
//! for _ in 0..16 {
//!     let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(token, _)| token as u32);
//!     print!("{best} ");
//!     logits = session.forward(&[best])?;
//! }
//! # Ok::<(), sbnc_runtime::Error>(())
//! ```
//!
//! # Promises
//!
//! * Whatever is in a file, opening it ends in a model or in an [`Error`] that names the file, the tensor, what was expected and what was found.
//! * A session allocates when it is opened, and threads keep some scratch from their first work on; a step after that allocates nothing. A call that fails
//!   leaves its sequences as they were.
//! * Chunks, batches, threads and instruction sets do not change what a model computes, beyond the order of f32 sums.
//! * A mapped file is shared by all processes that map it. One that is changed while mapped is noticed before the next answer. Losing pages of it ends the process, unless it
//!   called [`map::survive_lost_pages`].

#[cfg(feature = "capi")]
pub mod capi;
mod config;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod error;
mod generate;
pub mod map;
mod memory;
mod model;
mod plan;
mod profile;
mod rope;
pub mod sampling;
mod session;
mod storage;
mod tensor;
pub mod text;
mod weights;

pub use config::{Config, Family, Tokens};
pub use device::{Device, Interrupt, OnDevice};
pub use error::{Error, Kind, Result};
pub use generate::{Finish, Generation, Piece, PieceLogprobs, Prompt, Usage};
pub use model::{Check, Cost, Model, Options};
pub use profile::{Phase, Profile};
pub use sbnc_kernels::cpu::{Isa, Platform};
pub use session::{CacheType, Rows, Session, SessionOptions};
pub use weights::{Linear, Weights};
