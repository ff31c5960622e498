//! Plans for checkpoints: the golden models, published models described at full size, and descriptions that must be refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its input should stop")]

mod golden;
mod published;
mod refusals;
mod support;
