//! The inputs of ternary linears: one int8 vector and one scale for each token.

use super::ops::plain::ordered_sum;

/// Smallest magnitude that activations are scaled by.
pub(crate) const MIN_MAGNITUDE: f32 = 1e-5;

/// Columns are padded with zeros to a multiple of this, so that vector kernels may read whole blocks.
pub(crate) const BLOCK: usize = 64;

/// How activations become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `a = 127 / max(max|x|, 1e-5)`, `clamp(round_half_even(x·a), −128, 127)`.
    A8,
    /// `a = √7 / max(mean|x|, 1e-5)`, `clamp(round_half_even(x·a), −8, 7)`. The mean is
    /// taken in f64: lane j of 32 adds the elements i ≡ j (mod 32) from the first on, then the upper half of the lanes is added to the lower until one
    /// is left.
    A4,
}

/// Quantised activations of some tokens: `x ≈ values / scale`. Made once for a session and filled again and again.
#[derive(Clone, Debug)]
pub struct Activations {
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    /// Distance between the first values of two tokens: `cols` and padding.
    pub(crate) stride: usize,
    pub(crate) values: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

impl Activations {
    /// Room for `tokens` tokens of `cols` values.
    pub fn with_capacity(tokens: usize, cols: usize) -> Self {
        let size = tokens * cols.next_multiple_of(BLOCK);
        Self { tokens: 0, cols: 0, stride: 0, values: vec![0; size], scales: vec![0.0; tokens] }
    }

    /// Quantises `x`, rows of `cols` values.
    pub fn quantise(x: &[f32], cols: usize, rule: Rule) -> Self {
        let mut activations = Self::with_capacity(x.len() / cols, cols);
        activations.resize(x.len() / cols, cols);
        for (token, row) in x.chunks_exact(cols).enumerate() {
            let values = &mut activations.values[token * activations.stride..][..cols];
            activations.scales[token] = quantise_row(row, rule, values);
        }
        activations
    }

    /// Tokens that are held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The integers of a token.
    pub fn values(&self, token: usize) -> &[i8] {
        &self.values[token * self.stride..][..self.cols]
    }

    /// The scale `a` of a token.
    pub fn scale(&self, token: usize) -> f32 {
        self.scales[token]
    }

    /// Takes another shape; the padding is zeroed, the values are to be written.
    pub(crate) fn resize(&mut self, tokens: usize, cols: usize) {
        self.tokens = tokens;
        self.cols = cols;
        self.stride = cols.next_multiple_of(BLOCK);
        if self.values.len() < tokens * self.stride {
            self.values.resize(tokens * self.stride, 0);
        }
        if self.scales.len() < tokens {
            self.scales.resize(tokens, 0.0);
        }
        for row in self.values[..tokens * self.stride].chunks_exact_mut(self.stride.max(1)) {
            row[cols..].fill(0);
        }
    }
}

/// Quantises one token and gives its scale.
pub(crate) fn quantise_row(x: &[f32], rule: Rule, out: &mut [i8]) -> f32 {
    let (scale, low, high) = match rule {
        Rule::A8 => (127.0 / x.iter().fold(MIN_MAGNITUDE, |largest, v| largest.max(v.abs())), -128.0, 127.0),
        Rule::A4 => {
            let mean = ordered_sum(x, f64::abs) / x.len() as f64;
            (7f32.sqrt() / (mean as f32).max(MIN_MAGNITUDE), -8.0, 7.0)
        }
    };
    for (out, v) in out.iter_mut().zip(x) {
        *out = (v * scale).round_ties_even().clamp(low, high) as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_scale_by_the_largest_and_round_to_even() {
        let x = Activations::quantise(&[1.0, -0.5, 0.0, 0.0, 2.0, 4.0], 3, Rule::A8);
        assert_eq!((x.values(0), x.scale(0)), (&[127, -64, 0][..], 127.0));
        assert_eq!((x.values(1), x.scale(1)), (&[0, 64, 127][..], 31.75));
    }

    #[test]
    fn four_bits_scale_by_the_mean() {
        let x = Activations::quantise(&[1.0, -1.0, 3.0, -3.0], 4, Rule::A4);
        assert_eq!(x.values(0), &[1, -1, 4, -4]);
        assert!((x.scale(0) - 7f32.sqrt() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn zeros_stay_zeros() {
        let x = Activations::quantise(&[0.0; 5], 5, Rule::A8);
        assert_eq!((x.values(0), x.scale(0)), (&[0; 5][..], 127.0 / 1e-5));
    }
}
