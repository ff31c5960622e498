//! (map to follow)
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod compile;
pub mod error;
pub mod family;
pub mod interrupt;
mod numbers;
pub mod quantize;
pub mod report;

pub use error::{Error, Exit, Result};
