//! The library for C programs, as the tests link it. Its functions are those of `sbnc_runtime::capi`, which a library that links the crate exports.

pub use sbnc_runtime::capi;
