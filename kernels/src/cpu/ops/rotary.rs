//! Rotary position embedding, and the way of keys and values into the cache.

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};

use super::attention::{Cache, Heads, Segment, check};
use super::{Half, rows_of_task};
use crate::cpu::Cpu;
use crate::cpu::pool::Shares;
use crate::cpu::simd::{Kernel, Narrow, Simd};

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Element i with element i + half.
    Half,
    /// Element 2i with element 2i + 1.
    Interleaved,
}

/// The angles of all positions: `cos[position · pairs + pair]`, and `sin` likewise.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Which elements turn together.
    pub pairing: Pairing,
    /// Pairs of a head.
    pub pairs: usize,
    /// Cosines (with the attention factor of a scaling, where there is one).
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl Cpu {
    /// Takes rows of q, k and v (`heads.row()` values each), turns q in place and k on its way into the cache, and stores v there too. What k holds afterwards
    /// is unspecified. The bits are the same on all platforms.
    ///
    /// # Panics
    ///
    /// Where the shapes do not fit, rows or positions are out of range (of the cache or of `rotation`), the segments are not in the order of their rows, or two
    /// of them would write the same place of the cache.
    pub fn rotate_and_store(
        &self,
        qkv: &mut [f32],
        heads: &Heads,
        rotation: &Rotation,
        segments: &[Segment],
        cache: &mut Cache<'_>,
    ) {
        let capacity = cache.capacity;
        match cache.half {
            Half::F16 => {
                let stored: (&mut [f16], &mut [f16]) =
                    (cache.keys.reinterpret_cast_mut(), cache.values.reinterpret_cast_mut());
                self.store(qkv, heads, rotation, segments, capacity, stored);
            }
            Half::Bf16 => {
                let stored: (&mut [bf16], &mut [bf16]) =
                    (cache.keys.reinterpret_cast_mut(), cache.values.reinterpret_cast_mut());
                self.store(qkv, heads, rotation, segments, capacity, stored);
            }
        }
    }

    pub(super) fn store<T: Narrow>(
        &self,
        qkv: &mut [f32],
        heads: &Heads,
        rotation: &Rotation,
        segments: &[Segment],
        capacity: usize,
        (keys, values): (&mut [T], &mut [T]),
    ) {
        check(heads, segments, capacity, (keys.len(), values.len()), qkv.len());
        let positions = segments.iter().map(|s| s.position + s.rows.len()).max().unwrap_or(0);
        let angles = positions.checked_mul(rotation.pairs).expect("a number of angles");
        assert!(rotation.pairs <= heads.dim / 2, "{} pairs in a head of {}", rotation.pairs, heads.dim);
        assert!(rotation.cos.len() >= angles && rotation.sin.len() >= angles, "angles for {positions} positions");
        assert!(are_apart(segments), "segments that write different places");
        let (keys, values) = (Shares::new(keys), Shares::new(values));
        let rows = rows_of_task(heads.row());
        self.pool.chunks(qkv, rows * heads.row(), &|task, qkv| {
            for (i, row) in qkv.chunks_exact_mut(heads.row()).enumerate() {
                let token = task * rows + i;
                let Some(segment) = segments.iter().find(|s| s.rows.contains(&token)) else { continue };
                let position = segment.position + token - segment.rows.start;
                let angles = position * rotation.pairs..(position + 1) * rotation.pairs;
                let (cos, sin) = (&rotation.cos[angles.clone()], &rotation.sin[angles]);
                let (turned, v) = row.split_at_mut((heads.heads + heads.kv_heads) * heads.dim);
                self.platform.dispatch(Turn { heads: turned, dim: heads.dim, pairing: rotation.pairing, cos, sin });
                let k = &turned[heads.heads * heads.dim..];
                for (head, (k, v)) in k.chunks_exact(heads.dim).zip(v.chunks_exact(heads.dim)).enumerate() {
                    let start = ((segment.slot * heads.kv_heads + head) * capacity + position) * heads.dim;
                    // SAFETY: a token's place is its own: `check` found that slots, heads and positions are within the cache, so each (slot, head, position) is
                    // another place; the tokens of a segment differ in position, those of different segments in slot or position (`are_apart`).
                    let key = unsafe { keys.range(start, heads.dim) };
                    // SAFETY: as for the key.
                    let value = unsafe { values.range(start, heads.dim) };
                    self.platform.dispatch(Store(k, key));
                    self.platform.dispatch(Store(v, value));
                }
            }
        });
    }
}

/// Whether no two segments share positions of a slot.
fn are_apart(segments: &[Segment]) -> bool {
    if segments.is_sorted_by(|a, b| a.slot < b.slot) {
        return true; // the usual case, in one pass
    }
    let overlap = |a: &Segment, b: &Segment| {
        a.slot == b.slot && a.position < b.position + b.rows.len() && b.position < a.position + a.rows.len()
    };
    segments.iter().enumerate().all(|(i, a)| segments[..i].iter().all(|b| !overlap(a, b)))
}

/// Turns heads of `dim` values by the same angles.
struct Turn<'a> {
    heads: &'a mut [f32],
    dim: usize,
    pairing: Pairing,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Turn<'_> {
    type Output = ();

    // Plain loops: the compiler makes vectors of them with the features of each platform.
    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, _: S) {
        let pairs = self.cos.len();
        let sin = &self.sin[..pairs];
        for head in self.heads.chunks_exact_mut(self.dim) {
            match self.pairing {
                Pairing::Half => {
                    let (a, b) = head[..2 * pairs].split_at_mut(pairs);
                    for i in 0..pairs {
                        (a[i], b[i]) = turned((a[i], b[i]), self.cos[i], sin[i]);
                    }
                }
                Pairing::Interleaved => {
                    let head = &mut head[..2 * pairs];
                    for i in 0..pairs {
                        (head[2 * i], head[2 * i + 1]) = turned((head[2 * i], head[2 * i + 1]), self.cos[i], sin[i]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turned((a, b): (f32, f32), cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, a * sin + b * cos)
}

/// Rounds values to 16 bits.
struct Store<'a, T>(&'a [f32], &'a mut [T]);

impl<T: Narrow> Kernel for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<N>, const N: usize>(self, s: S) {
        let (from, from_tail) = self.0.as_chunks::<N>();
        let (to, to_tail) = self.1.as_chunks_mut::<N>();
        for (from, to) in from.iter().zip(to) {
            T::narrow(s, s.load(from), to);
        }
        if !to_tail.is_empty() {
            let mut last = [T::ZERO; N];
            T::narrow(s, s.widen_tail(from_tail), &mut last);
            to_tail.copy_from_slice(&last[..to_tail.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_apart_unless_slot_and_positions_meet() {
        let segment = |slot, position, rows| Segment { rows: 0..rows, position, slot };
        assert!(are_apart(&[segment(0, 0, 5), segment(1, 0, 5), segment(7, 3, 1)]));
        assert!(are_apart(&[segment(1, 0, 5), segment(0, 0, 5), segment(1, 5, 1)]));
        assert!(!are_apart(&[segment(1, 0, 5), segment(0, 0, 5), segment(1, 4, 1)]));
        assert!(!are_apart(&[segment(2, 4, 1), segment(2, 0, 5)]));
        assert!(are_apart(&[]));
    }
}
