//! (map to follow)

pub mod map;
