//! Models of other people's code, run by the runtime: what they compute, and what must not change it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod golden;
mod kit;
mod linear;
mod parts;
mod reference;
mod same;
