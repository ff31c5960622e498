//! (map to follow)

pub mod checkpoint;
