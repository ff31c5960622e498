//! (map to follow)
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod quantize;
