//! Results are equal bit for bit on 1, 2 and 5 threads, the error for a weight that is not finite included.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sbnc::quantize::{Dtype, Latent, Nm, PartScale, QuantizeError, Stats, Ternariser, int8_rows, part_scale};

const ROWS: usize = 1500;
const COLS: usize = 680;

fn weights() -> Vec<u8> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..ROWS * COLS).flat_map(|_| ((0..4).map(|_| uniform()).sum::<f32>() * 0.03).to_le_bytes()).collect()
}

/// `work` on pools of 1, 2 and 5 threads; the results must agree.
fn on_every_pool<T: PartialEq + std::fmt::Debug + Send>(work: impl Fn() -> T + Sync) -> T {
    let [one, two, five] =
        [1, 2, 5].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work));
    assert!(one == two && one == five, "the number of threads shows");
    one
}

#[test]
fn scale_trits_statistics_and_int8_do_not_depend_on_threads() {
    let bytes = weights();
    let latent = Latent::new(&bytes, ROWS, COLS, Dtype::F32).unwrap();
    let parts = [0..700, 700..701, 701..ROWS];
    for part in parts {
        let scale = on_every_pool(|| match part_scale(&latent, part.clone()).unwrap() {
            PartScale::Scale(scale) => scale.to_bits(),
            PartScale::AllZero => 0,
        });
        for nm in [None, Some((2, 4)), Some((6, 8)), Some((8, 10))] {
            let plan =
                Ternariser::new(Dtype::F32, f32::from_bits(scale), nm.map(|(n, m)| Nm::new(n, m).unwrap())).unwrap();
            let (trits, stats): (Vec<i8>, Stats) = on_every_pool(|| {
                let mut trits = vec![9; part.len() * COLS];
                let stats = plan.part_with_stats(&latent, part.clone(), &mut trits).unwrap();
                (trits, stats)
            });
            assert_eq!(stats.weights(), trits.len() as u64);
            assert_eq!(stats.after.zero, trits.iter().filter(|&&t| t == 0).count() as u64);
            assert_eq!(stats.removed_histogram.iter().sum::<u64>(), stats.removed());
        }
    }
    let (_, _, error) = on_every_pool(|| {
        let (mut q, mut scales) = (vec![0; ROWS * COLS], vec![0.0; ROWS]);
        let error = int8_rows(&latent, 0..ROWS, &mut q, &mut scales).unwrap();
        (q, scales, error)
    });
    let relative_rms = error.relative_rms();
    assert!(relative_rms > 1e-3 && relative_rms < 2e-2, "{relative_rms}");
}

#[test]
fn the_first_weight_that_is_not_finite_is_named() {
    for (value, later) in [(f32::INFINITY, f32::NAN), (f32::NEG_INFINITY, f32::INFINITY), (f32::NEG_INFINITY, f32::NAN)]
    {
        let mut bytes = weights();
        for (row, col, value) in [(321, 654, value), (321, 655, later), (1400, 0, later)] {
            let at = (row * COLS + col) * 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let latent = Latent::new(&bytes, ROWS, COLS, Dtype::F32).unwrap();
        let expected = QuantizeError::NonFinite { row: 321, col: 654, value };
        assert_eq!(on_every_pool(|| part_scale(&latent, 100..ROWS)).unwrap_err(), expected);
        let int8 = || {
            int8_rows(&latent, 0..ROWS, &mut vec![0; ROWS * COLS], &mut vec![0.0; ROWS]).map(|error| error.max_abs())
        };
        assert_eq!(on_every_pool(int8).unwrap_err(), expected);
        assert!(part_scale(&latent, 0..321).is_ok());
    }
}
