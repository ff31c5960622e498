//! Encodings through their public interface: every layout goes round, accepts only what it writes, and agrees with the text of SPEC §10.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod canonical;
mod layout;
mod round_trip;
mod rules;
mod spec;
mod windows;
