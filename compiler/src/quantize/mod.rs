//! Quantize-then-mask: from the latent weights of a checkpoint to trits and scales, exactly as the training code does it.
//!
//! ```text
//! bytes ─ Latent ─┬─ part_scale ─────▶ PartScale ─┐
//!                 ├─ Ternariser (threshold, N:M) ◀┘ ─▶ trits (i8) + Stats
//!                 ├─ int8_rows ───────▶ int8 rows + scales + Int8Error
//!                 └─ read_f32
//! ```
//!
//! A *part* is a range of whole rows with a scale of its own (q, k and v of a fused `wqkv`; gate and up of a fused `w13`). Per part:
//! `scale = max(mean(|W|), 1e-5)` over every weight, before the mask; `q = clamp(round_half_even(W/scale), −1, +1)`; the mask keeps the N
//! largest `|W|` of every M consecutive inputs of a row, the lower index winning a tie.
//!
//! Results do not depend on threads or on the vector unit: parallel functions run on the current rayon pool, and every sum of floats has
//! one order. What a checkpoint is called, what its parts are and how trits are packed is not known here.

mod element;
mod error;
mod int8;
mod latent;
mod mask;
pub mod oracle;
mod pattern;
mod scale;
mod stats;
mod ternary;

pub use error::QuantizeError;
pub use int8::{Int8Error, int8_rows};
pub use latent::{Dtype, Latent};
pub use pattern::{MAX_M, Nm};
pub use scale::{BLOCK_ROWS, LANES, MIN_SCALE, PartScale, part_scale};
pub use stats::{BINS, NEAR, Stats, Tally, TritCounts};
pub use ternary::Ternariser;
