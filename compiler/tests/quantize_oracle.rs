//! The fast kernels against the naive oracle: every format, many patterns, awkward shapes, ties, signed zeros, subnormals and products
//! on the rounding boundary; and the threshold against its definition, over every 16-bit value.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use half::{bf16, f16};
use proptest::prelude::*;
use sbnc::quantize::{
    BINS, Dtype, Latent, NEAR, Nm, PartScale, QuantizeError, Stats, Tally, Ternariser, int8_rows, oracle, part_scale,
};

/// The bytes of `weights` in `dtype`, and what they are once rounded to it.
fn encode(weights: &[f32], dtype: Dtype) -> (Vec<u8>, Vec<f32>) {
    let one = |&w: &f32| match dtype {
        Dtype::Bf16 => (bf16::from_f32(w).to_le_bytes().to_vec(), bf16::from_f32(w).to_f32()),
        Dtype::F16 => (f16::from_f32(w).to_le_bytes().to_vec(), f16::from_f32(w).to_f32()),
        Dtype::F32 => (w.to_le_bytes().to_vec(), w),
    };
    let (bytes, values): (Vec<Vec<u8>>, Vec<f32>) = weights.iter().map(one).unzip();
    (bytes.concat(), values)
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![Dtype::Bf16, Dtype::F16, Dtype::F32])
}

/// Weights that collide, vanish and sit on boundaries far more often than trained ones.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -4.0f32..4.0,
        4 => prop::sample::select(vec![0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 0.25, -0.25, 0.50390625, -0.49804688, 1.5]),
        1 => (0u32..0x0080_0000).prop_map(f32::from_bits),
        1 => (0u16..0x400, any::<bool>()).prop_map(|(bits, minus)| f16::from_bits(bits | u16::from(minus) << 15).to_f32()),
        1 => -6e4f32..6e4,
    ]
}

/// (n, m, rows, cols, weights)
fn matrix() -> impl Strategy<Value = (usize, usize, usize, usize, Vec<f32>)> {
    (1usize..=16).prop_flat_map(|m| (1..=m, Just(m), 1usize..7, prop_oneof![Just(1usize), 1usize..90])).prop_flat_map(
        |(n, m, rows, groups)| {
            (Just(n), Just(m), Just(rows), Just(groups * m), prop::collection::vec(weight(), rows * groups * m))
        },
    )
}

/// The statistics, counted one weight at a time.
fn naive_stats(weights: &[f32], scale: f32, n: usize, m: usize, subnormal: impl Fn(f32) -> bool) -> Stats {
    let inverse = 1.0 / scale;
    let (before, after) = (oracle::ternarise(weights, scale, 1, 1), oracle::ternarise(weights, scale, n, m));
    let mut stats = Stats::default();
    for (trits, counts) in [(&before, &mut stats.before), (&after, &mut stats.after)] {
        counts.negative = trits.iter().filter(|&&t| t < 0).count() as u64;
        counts.zero = trits.iter().filter(|&&t| t == 0).count() as u64;
        counts.positive = trits.iter().filter(|&&t| t > 0).count() as u64;
    }
    for ((group, before), after) in weights.chunks(m).zip(before.chunks(m)).zip(after.chunks(m)) {
        stats.groups += 1;
        stats.violated_groups += u64::from(before.iter().filter(|&&t| t != 0).count() > n);
        let tied =
            |i: usize, j: usize| after[i] != 0 && before[j] != 0 && after[j] == 0 && group[i].abs() == group[j].abs();
        stats.tied_groups += u64::from((0..m).any(|i| (0..m).any(|j| tied(i, j))));
    }
    for (&w, (&before, &after)) in weights.iter().zip(before.iter().zip(&after)) {
        stats.near_threshold += u64::from(((w * inverse).abs() - 0.5).abs() <= NEAR);
        stats.subnormal += u64::from(subnormal(w));
        let bin = ((w * inverse * 16.0).floor().clamp(-64.0, 63.0) + 64.0) as usize;
        stats.histogram[bin] += 1;
        stats.removed_histogram[bin] += u64::from(before != 0 && after == 0);
    }
    stats
}

fn smallest_normal(dtype: Dtype) -> f32 {
    if dtype == Dtype::F16 { f16::MIN_POSITIVE.to_f32() } else { f32::MIN_POSITIVE }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn trits_scale_and_statistics_equal_the_oracle(
        (n, m, rows, cols, weights) in matrix(), dtype in dtypes(), shift in 0usize..3,
        chosen in prop::sample::select(vec![None, Some(1.0f32), Some(0.5), Some(2.0), Some(1e-5), Some(0.37)]),
    ) {
        let (bytes, values) = encode(&weights, dtype);
        let moved: Vec<u8> = std::iter::repeat_n(0xee, shift).chain(bytes).collect(); // any alignment
        let latent = Latent::new(&moved[shift..], rows, cols, dtype).unwrap();
        let mean = oracle::scale(&values, cols);
        match part_scale(&latent, 0..rows).unwrap() {
            PartScale::Scale(scale) => prop_assert_eq!(scale.to_bits(), mean.to_bits()),
            PartScale::AllZero => prop_assert!(values.iter().all(|&w| w == 0.0)),
        }
        let scale = chosen.unwrap_or(if mean == 0.0 { 1.0 } else { mean });
        let plan = Ternariser::new(dtype, scale, Some(Nm::new(n, m).unwrap())).unwrap();
        let expected = oracle::ternarise(&values, scale, n, m);

        let mut trits = vec![9; rows * cols];
        plan.part(&latent, 0..rows, &mut trits).unwrap();
        prop_assert_eq!(&trits, &expected);

        let mut counted = vec![9; rows * cols];
        let mut tally = Tally::default();
        for row in 0..rows {
            plan.rows(&latent, row..row + 1, &mut counted[row * cols..(row + 1) * cols], Some(&mut tally)).unwrap();
        }
        prop_assert_eq!(&counted, &expected);
        let stats = tally.finish();
        let subnormal = |w: f32| w != 0.0 && w.abs() < smallest_normal(dtype);
        prop_assert_eq!(&stats, &naive_stats(&values, scale, n, m, subnormal));
        prop_assert_eq!(plan.part_with_stats(&latent, 0..rows, &mut trits).unwrap(), stats);
    }

    #[test]
    fn int8_rows_are_the_nearest_integers(
        (_, _, rows, cols, weights) in matrix(), dtype in dtypes(),
    ) {
        let (bytes, values) = encode(&weights, dtype);
        let latent = Latent::new(&bytes, rows, cols, dtype).unwrap();
        let (mut q, mut scales) = (vec![0; rows * cols], vec![0.0; rows]);
        let error = int8_rows(&latent, 0..rows, &mut q, &mut scales).unwrap();
        let (relative_rms, max_abs) = (error.relative_rms(), error.max_abs());
        let (mut error, mut total, mut largest) = (0.0, 0.0, 0.0f64);
        for ((row, q), &scale) in values.chunks(cols).zip(q.chunks(cols)).zip(&scales) {
            let max = row.iter().fold(0.0f32, |max, w| max.max(w.abs()));
            prop_assert_eq!(scale, if max / 127.0 == 0.0 { 1.0 } else { max / 127.0 });
            for (&w, &q) in row.iter().zip(q) {
                prop_assert_eq!(q, (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8);
                let off = f64::from(w) - f64::from(q) * f64::from(scale);
                (error, total, largest) = (error + off * off, total + f64::from(w).powi(2), largest.max(off.abs()));
            }
        }
        prop_assert_eq!(max_abs, largest);
        let expected: f64 = if total > 0.0 { (error / total).sqrt() } else { 0.0 };
        prop_assert!((relative_rms - expected).abs() <= 1e-9 * expected, "{relative_rms} {expected}");
        let mut decoded = vec![0.0; rows * cols];
        latent.read_f32(0..rows, &mut decoded).unwrap();
        prop_assert!(decoded.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn the_threshold_is_the_definition_for_every_16_bit_value() {
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let end = if dtype == Dtype::Bf16 { 0x7f80u16 } else { 0x7c00 };
        let finite: Vec<u16> = (0..end).chain(0x8000..0x8000 | end).collect();
        let bytes: Vec<u8> = finite.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let latent = Latent::new(&bytes, 1, finite.len(), dtype).unwrap();
        let mut values = vec![0.0; finite.len()];
        latent.read_f32(0..1, &mut values).unwrap();
        let odd = (0..64).map(|i| f32::from_bits(0x3c00_0000 + i * 0x0003_1f2b));
        let scales = [1.0f32, 0.5, 2.0, 1e-5, 3.0, 0.1, 1.0 / 3.0, 1e30, 1e-30, 8.5e37, 2e-38, f32::MIN_POSITIVE];
        for scale in scales.into_iter().chain(odd) {
            let mut trits = vec![9; finite.len()];
            Ternariser::new(dtype, scale, None).unwrap().rows(&latent, 0..1, &mut trits, None).unwrap();
            let inverse = 1.0 / scale;
            for (&w, &trit) in values.iter().zip(&trits) {
                let q = (w * inverse).round_ties_even().clamp(-1.0, 1.0);
                assert_eq!(f32::from(trit), q, "{w:e} / {scale:e} in {dtype:?}");
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_index_and_zeros_are_equal() {
    let cases: [(&[f32], usize, &[i8]); 4] = [
        (&[1.0, -1.0, 1.0, 1.0], 2, &[1, -1, 0, 0]),
        (&[-0.0, 0.0, 1.0, -0.0], 2, &[0, 0, 1, 0]),
        (&[0.25, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 6, &[0, 1, -1, 1, 1, 1, 1, 0]),
        (&[2.0, 3.0, 2.0, -3.0, 2.0, 2.0], 4, &[1, 1, 1, -1, 0, 0]),
    ];
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        for (weights, n, expected) in cases {
            let (bytes, _) = encode(weights, dtype);
            let latent = Latent::new(&bytes, 1, weights.len(), dtype).unwrap();
            let mut trits = vec![9; weights.len()];
            let nm = Nm::new(n, weights.len()).unwrap();
            Ternariser::new(dtype, 1.0, Some(nm)).unwrap().rows(&latent, 0..1, &mut trits, None).unwrap();
            assert_eq!(trits, expected, "{nm} in {dtype:?}");
        }
    }
}

#[test]
fn exactly_half_rounds_to_zero() {
    let (bytes, _) = encode(&[0.5, -0.5, 0.50390625, -0.50390625, 1.5, 2.5], Dtype::Bf16);
    let latent = Latent::new(&bytes, 1, 6, Dtype::Bf16).unwrap();
    let mut trits = [9; 6];
    Ternariser::new(Dtype::Bf16, 1.0, None).unwrap().rows(&latent, 0..1, &mut trits, None).unwrap();
    assert_eq!(trits, [0, 0, 1, -1, 1, 1]);
}

#[test]
fn misuse_and_bad_weights_are_refused_by_name() {
    assert!(matches!(Latent::new(&[0; 7], 2, 2, Dtype::Bf16), Err(QuantizeError::Shape { .. })));
    assert!(matches!(Latent::new(&[], 0, 4, Dtype::Bf16), Err(QuantizeError::Shape { .. })));
    assert!(matches!(Latent::new(&[], usize::MAX, 4, Dtype::F32), Err(QuantizeError::Shape { .. })));
    assert!(matches!(Nm::new(3, 17), Err(QuantizeError::Pattern { .. })));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45] {
        assert!(matches!(Ternariser::new(Dtype::F32, scale, None), Err(QuantizeError::Scale { .. })), "{scale}");
    }
    let (bytes, _) = encode(&[0.0; 12], Dtype::F16);
    let latent = Latent::new(&bytes, 2, 6, Dtype::F16).unwrap();
    assert_eq!(part_scale(&latent, 0..2), Ok(PartScale::AllZero));
    assert!(matches!(part_scale(&latent, 1..1), Err(QuantizeError::Rows { .. })));
    let plan = Ternariser::new(Dtype::F16, 1.0, Some(Nm::new(2, 4).unwrap())).unwrap();
    assert!(matches!(plan.rows(&latent, 0..2, &mut [0; 12], None), Err(QuantizeError::Group { cols: 6, .. })));
    let plan = Ternariser::new(Dtype::F16, 1.0, None).unwrap();
    assert!(matches!(plan.part(&latent, 0..2, &mut [0; 11]), Err(QuantizeError::Output { expected: 12, found: 11 })));
    assert!(matches!(plan.part(&latent, 0..3, &mut [0; 18]), Err(QuantizeError::Rows { .. })));
    assert_eq!(BINS, 128);
}
