//! What a decoder does between its linear layers.
//!
//! Rows of `x` are tokens. All arithmetic is f32 (f64 where noted); keys and values are kept in 16 bits ([`WideCache`] keeps 32). Every operation is written once with the vectors of
//! `simd`, and compared with its counterpart in [`plain`]. Little work stays on the calling thread: waking the others takes longer than a short row.

pub(in crate::cpu) mod attention;
mod dense;
mod elementwise;
mod fours;
mod int8;
mod norm;
pub mod plain;
mod rotary;
pub(crate) mod rows;
pub(in crate::cpu) mod scratch;
mod wide;

pub use attention::{Cache, Heads, Segment};
pub use elementwise::Activation;
pub use rotary::{Pairing, Rotation};
pub use wide::WideCache;

#[cfg(target_arch = "x86_64")]
pub(crate) use int8::{Int8Kernel, PLANES};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Half {
    /// binary16: more precision.
    #[default]
    F16,
    /// The upper half of binary32: more range.
    Bf16,
}

impl Half {
    fn pack(self, value: f32) -> u16 {
        match self {
            Self::F16 => half::f16::from_f32(value).to_bits(),
            Self::Bf16 => half::bf16::from_f32(value).to_bits(),
        }
    }

    fn unpack(self, bits: u16) -> f32 {
        match self {
            Self::F16 => half::f16::from_bits(bits).to_f32(),
            Self::Bf16 => half::bf16::from_bits(bits).to_f32(),
        }
    }
}

/// Values that a thread handles in a few microseconds, about what it takes to wake the others.
const GRAIN: usize = 1 << 15;

/// Rows of `cols` values to hand out at a time.
fn rows_of_task(cols: usize) -> usize {
    (GRAIN / cols.max(1)).max(1)
}
