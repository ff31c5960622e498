//! (map to follow)
