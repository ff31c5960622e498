//! The semantics of this module once more, as plainly as they can be said: what the fast kernels are tested against. Not for use on real
//! matrices.

use super::scale::{BLOCK_ROWS, LANES, MIN_SCALE};

/// The scale of a part, summed in the documented order; 0 if every weight is.
#[must_use]
pub fn scale(weights: &[f32], cols: usize) -> f32 {
    let mut total = 0.0;
    for block in weights.chunks(BLOCK_ROWS * cols) {
        let mut sum = 0.0;
        for row in block.chunks(cols) {
            let mut lanes: Vec<f64> = (0..LANES)
                .map(|j| row.iter().skip(j).step_by(LANES).fold(0.0, |sum, w| sum + f64::from(w.abs())))
                .collect();
            while lanes.len() > 1 {
                let upper = lanes.split_off(lanes.len() / 2);
                lanes = lanes.iter().zip(upper).map(|(low, high)| low + high).collect();
            }
            sum += lanes[0];
        }
        total += sum;
    }
    if total == 0.0 { 0.0 } else { ((total / weights.len() as f64) as f32).max(MIN_SCALE) }
}

/// The trits of whole rows: round, clamp, and keep the `n` largest `|w|` of every `m`, the lower index first among equals.
#[must_use]
pub fn ternarise(weights: &[f32], scale: f32, n: usize, m: usize) -> Vec<i8> {
    let inverse = 1.0 / scale;
    let mut trits = vec![0; weights.len()];
    for (group, trits) in weights.chunks(m).zip(trits.chunks_mut(m)) {
        let mut order: Vec<usize> = (0..group.len()).collect();
        order.sort_by(|&a, &b| group[b].abs().total_cmp(&group[a].abs())); // stable
        for &index in order.iter().take(n) {
            trits[index] = (group[index] * inverse).round_ties_even().clamp(-1.0, 1.0) as i8;
        }
    }
    trits
}
