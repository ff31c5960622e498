//! Checkpoints: real ones read right, and hand-built hostile ones refused with the words that matter.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod folders;
mod gguf;
mod golden;
mod safetensors;
mod support;
mod torch;
mod zip;
