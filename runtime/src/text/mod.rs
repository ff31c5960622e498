//! Text to tokens and back: the tokenizer that a file carries, streaming, stop strings, chat templates.
//!
//! ```text
//! messages ─ ChatTemplate ─▶ prompt ─ Tokenizer ─▶ tokens ─▶ (model) ─▶ tokens ─ TextStream ─ StopStrings ─▶ text
//! ```
//!
//! Everything here comes from files that others wrote, so it is bounded and cannot crash the caller: a panic of the tokenizer library becomes an error,
//! regular expressions have a limit of backtracking, templates run with a limit of steps, depth and output, and reach neither files nor clocks.
//!
//! What is not supported is said when a tokenizer is loaded; token ids work without one.

mod pieces;
mod source;
mod stop;
mod stream;
mod template;
#[cfg(test)]
mod tests;
mod tiktoken;
mod tokenizer;

pub use stop::StopStrings;
pub use stream::TextStream;
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Source, Specials, Tokenizer};
