//! Plans for checkpoints: the golden models, published models described at full size, GGUF files, and descriptions that must be refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its input should stop")]

mod gguf;
mod gguf_refusals;
mod golden;
mod published;
mod refusals;
mod support;
