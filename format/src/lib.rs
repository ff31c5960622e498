//! (map to follow)
#![forbid(unsafe_code)]

mod canonical;
pub mod error;
pub mod limits;
pub mod manifest;

pub use error::{FormatError, Kind, Result};
