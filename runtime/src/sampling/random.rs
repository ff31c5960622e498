//! Chance, defined: a generator and an exponential that give the same bits on every machine.
//!
//! Not for secrets: the generator is small and its outputs can be foretold.

/// The generator of draws: draw `n` of seed `s` is `mix(s + (n + 1) · 0x9E3779B97F4A7C15)` with the finaliser of SplitMix64, so any draw can be had without
/// those before it.
///
/// ```
/// use sbnc_runtime::sampling::random::Random;
/// let mut random = Random::new(0);
/// assert_eq!(random.next_u64(), 0xE220_A839_7B1D_CDAF); // the first output of SplitMix64 for this seed
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The draws of a seed, from the first on.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1, of 53 random bits.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// e to the power of `x` ≤ 0, with a relative error under 1e-15; 0 below −700. Only additions, multiplications and a table-free scaling, each rounded as IEEE 754
/// says, so all machines agree on every bit. Branch-free, so that loops over it become vectors.
pub fn exp(x: f64) -> f64 {
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    // ln 2 in two parts: the first has so few bits that its products with exponents are exact.
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // Adding and subtracting this rounds to an integer, which is then in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // 1/n! for n from 13 down to 2.
    const TERMS: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ];
    let clamped = x.max(-700.0);
    let shifted = clamped * LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let rest = (clamped - exponent * LN2_HIGH) - exponent * LN2_LOW;
    let series = TERMS.iter().fold(0.0, |sum, term| sum * rest + term);
    let value = (series * rest + 1.0) * rest + 1.0;
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    if x < -700.0 { 0.0 } else { value * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_splitmix64() {
        // Published outputs for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        assert_eq!([(); 4].map(|()| random.next_u64()), expected);
    }

    #[test]
    fn exponentials_are_within_a_rounding_or_two() {
        for i in 0..70_000 {
            let x = -f64::from(i) / 100.0 + 1e-4;
            let x = x.min(0.0);
            let error = (exp(x) / x.exp() - 1.0).abs();
            assert!(error < 1e-15, "exp({x}): {error:e}");
        }
        assert_eq!((exp(0.0), exp(-701.0), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn exponentials_have_these_bits() {
        // If these change, texts of a seed change.
        let bits = [-0.1, -1.0, -3.5, -20.25, -699.5].map(|x: f64| exp(x).to_bits());
        let expected: [u64; 5] = [
            0x3fec_f46d_99d5_2b3a,
            0x3fd7_8b56_362c_ef38,
            0x3f9e_ec10_18e4_ff66,
            0x3e1b_93de_1e27_ca3b,
            0x00dc_89c2_e339_b392,
        ];
        assert_eq!(bits, expected, "{bits:#x?}");
    }
}
