//! (map to follow)
#![forbid(unsafe_code)]

pub mod quantize;
