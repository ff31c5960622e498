//! (map to follow)

pub mod family;
