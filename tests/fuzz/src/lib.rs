//! What the fuzz targets share: how a file is exercised, how a valid one is mutated with its digests right, and how a matrix is checked.

pub mod checkpoint;
pub mod file;
pub mod matrix;
pub mod model;
pub mod mutate;
#[path = "../../../format/tests/support/mod.rs"]
pub mod support;
