//! Functions of vectors, the same bits on all platforms: only products and sums that are rounded one by one.

use super::Simd;

/// The exponential function: within 2 units in the last place for −86.6 < x, infinite from 88.73 on, 0 below −86.6 (where eˣ < 2.5e-38).
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2. ln 2 is taken in two parts, the first with so few bits that its products are exact. The polynomial interpolates
/// (eʳ − 1 − r) / r² at the five Chebyshev nodes of that interval, which leaves a relative error of 1.1e-8 in eʳ.
#[inline(always)]
pub(crate) fn exp<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F {
    let low = s.splat(-86.6);
    let clamped = s.max(low, s.min(s.splat(89.0), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.sub(clamped, s.mul(n, s.splat(355.0 / 512.0)));
    let r = s.sub(r, s.mul(n, s.splat(-0.000_212_194_44)));
    let mut p = s.splat(0.001_392_621_3);
    for coefficient in [0.008_363_203, 0.041_666_556, 0.166_665_76, 0.5] {
        p = s.add(s.mul(p, r), s.splat(coefficient));
    }
    let e = s.add(s.add(r, s.mul(s.mul(r, r), p)), s.splat(1.0));
    // Twice eʳ times 2ⁿ⁻¹: 2ⁿ itself overflows where eˣ does not yet.
    let scaled = s.mul(s.add(e, e), s.power(s.sub(n, s.splat(1.0))));
    s.where_le(x, low, s.splat(0.0), scaled)
}

/// The normal distribution Φ, with a relative error under 5e-6 for x > −12 (where Φ is 2e-33), and under 1e-6 for x > −5.
///
/// Φ(−a) = exp(−a²/2) · u · q(u) with u = 1 / (1 + 0.31·a). The polynomial interpolates q at the eight Chebyshev nodes of the range of u for 0 ≤ a ≤ 14, which
/// leaves a relative error of 2e-7; the rest is the rounding of a², which the exponential magnifies.
#[inline(always)]
pub(crate) fn normal<S: Simd<N>, const N: usize>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let u = s.div(one, s.add(one, s.mul(s.abs(x), s.splat(0.31))));
    let mut q = s.splat(0.036_296_174);
    for coefficient in
        [-0.143_568_49, 0.158_57, -0.018_225_584, 0.111_909_91, 0.107_217_856, 0.124_149_136, 0.123_651_2]
    {
        q = s.add(s.mul(q, u), s.splat(coefficient));
    }
    let below = s.mul(exp(s, s.mul(s.mul(x, x), s.splat(-0.5))), s.mul(u, q));
    s.where_le(x, s.splat(0.0), below, s.sub(one, below))
}

/// `clamp(round_half_even(x · scale), low, high)`, 0 where the product is not a number.
#[inline(always)]
pub(crate) fn quantised<S: Simd<N>, const N: usize>(s: S, x: S::F, scale: S::F, low: S::F, high: S::F) -> S::F {
    let product = s.mul(x, scale);
    let number = s.where_le(product, product, product, s.splat(0.0));
    // Clamped before it is rounded, which is the same for whole bounds and keeps the rounding within its range.
    s.round(s.max(s.min(number, high), low))
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;
    use crate::cpu::Platform;

    struct Each<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Each<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd<N>, const N: usize>(self, s: S) {
            for (from, to) in self.0.as_chunks::<N>().0.iter().zip(self.1.as_chunks_mut::<N>().0) {
                s.store(exp(s, s.load(from)), to);
            }
        }
    }

    fn exp_of(platform: Platform, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        platform.dispatch(Each(x, &mut y));
        y
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let x: Vec<f32> = (0..1 << 20).map(|i| -86.59 + 175.3 * i as f32 / (1 << 20) as f32).collect();
        let mut worst = 0.0f64;
        for (x, y) in x.iter().zip(exp_of(Platform::PORTABLE, &x)) {
            let exact = f64::from(*x).exp();
            let unit = 2f64.powi(exact.log2().floor() as i32 - 23);
            worst = worst.max((f64::from(y) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
    }

    #[test]
    fn exp_has_the_same_bits_everywhere_and_known_ends() {
        let mut x: Vec<f32> = (0..1 << 14).map(|i| (i as f32 - 8000.0) * 0.0137).collect();
        x[..8].copy_from_slice(&[f32::NEG_INFINITY, -1e30, -86.7, 0.0, 88.7, 88.8, f32::INFINITY, f32::NAN]);
        let expected = exp_of(Platform::PORTABLE, &x);
        assert_eq!(expected[..4], [0.0, 0.0, 0.0, 1.0]);
        assert!(expected[4].is_finite() && expected[5] == f32::INFINITY && expected[6] == f32::INFINITY);
        assert!(expected[7].is_nan());
        for platform in Platform::available() {
            let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(exp_of(platform, &x)), bits(expected.clone()), "{platform:?}");
        }
    }
}
