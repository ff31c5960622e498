//! Keys and values in f32, for comparing a model with other people's f32 code: twice the memory and the time.
//!
//! Sixteen bits of a key are enough for a trained model, but not for telling whether two programs compute the same: one value that rounds the other way
//! into the next int8 input shows up in every logit. What applications run is [`Cache`](super::Cache).

use super::attention::{Heads, Segment};
use super::rotary::Rotation;
use crate::cpu::Cpu;

/// Keys and values of one layer in f32: `[slot][kv head][position][dim]`.
#[derive(Debug)]
pub struct WideCache<'a> {
    /// Positions of a slot.
    pub capacity: usize,
    /// Turned keys.
    pub keys: &'a mut [f32],
    /// Values.
    pub values: &'a mut [f32],
}

impl Cpu {
    /// [`Cpu::rotate_and_store`] without rounding. Panics as that does.
    pub fn rotate_and_store_wide(
        &self,
        qkv: &mut [f32],
        heads: &Heads,
        rotation: &Rotation,
        segments: &[Segment],
        cache: &mut WideCache<'_>,
    ) {
        self.store(qkv, heads, rotation, segments, cache.capacity, (&mut *cache.keys, &mut *cache.values));
    }

    /// [`Cpu::attend`] without rounding. Panics as that does.
    pub fn attend_wide(
        &self,
        qkv: &[f32],
        heads: &Heads,
        segments: &[Segment],
        cache: &WideCache<'_>,
        out: &mut [f32],
    ) {
        self.attend_stored(qkv, heads, segments, cache.capacity, (&*cache.keys, &*cache.values), out);
    }
}
