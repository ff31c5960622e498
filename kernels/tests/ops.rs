//! Every operation on every platform of this processor, with one thread and three, against its plain counterpart: random shapes, most of them ragged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sbnc_kernels::cpu::ops::{Activation, Cache, Half, Heads, Pairing, Rotation, Segment, WideCache, plain};
use sbnc_kernels::cpu::{Activations, Cpu, Dense, Isa, Platform, Rule};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// About normal, by the sum of four uniform values.
    fn float(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

fn cpus() -> Vec<Cpu> {
    Platform::available().flat_map(|p| [1, 3].map(|threads| Cpu::new(p, threads).unwrap())).collect()
}

/// The distance of `got` from `expected`, relative to the length of `expected`.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |v: f64| v * v;
    let apart: f64 = got.iter().zip(expected).map(|(&g, &e)| square(f64::from(g) - f64::from(e))).sum();
    let length: f64 = expected.iter().map(|&e| square(f64::from(e))).sum();
    (apart / length.max(1e-30)).sqrt()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

fn same(got: &Activations, expected: &Activations, what: &str) {
    assert_eq!((got.tokens(), got.cols()), (expected.tokens(), expected.cols()), "{what}");
    for token in 0..got.tokens() {
        assert_eq!(got.scale(token).to_bits(), expected.scale(token).to_bits(), "scale {token}, {what}");
        assert_eq!(got.values(token), expected.values(token), "token {token}, {what}");
    }
}

#[test]
fn norms_and_quantisation_equal_the_plain_ones_bit_for_bit() {
    let mut random = Random(1);
    for cpu in cpus() {
        for round in 0..60 {
            let cols = if round < 30 { 1 + random.below(200) } else { 1 + random.below(7000) };
            let tokens = 1 + random.below(if round % 10 == 0 { 60 } else { 4 });
            let mut x = random.floats(tokens * cols);
            if round % 7 == 0 {
                // Extremes: nothing, a value that dwarfs the others, what is not a number or not finite.
                let special = [0.0, 1e30, f32::NAN, f32::INFINITY, -1e-30, f32::NEG_INFINITY];
                for _ in 0..3 {
                    let i = random.below(x.len());
                    x[i] = random.pick(&special);
                }
            }
            let (weight, eps, rule) = (random.floats(cols), 1e-5, random.pick(&[Rule::A8, Rule::A4]));
            let what = format!("{:?}, {tokens} of {cols}, {rule:?}", cpu.platform());
            let (mut got, mut expected) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            cpu.norm(&x, &weight, eps, &mut got);
            plain::norm(&x, &weight, eps, &mut expected);
            let nan_or_same = |(g, e): (&f32, &f32)| g.to_bits() == e.to_bits() || g.is_nan() && e.is_nan();
            assert!(got.iter().zip(&expected).all(nan_or_same), "norm, {what}");

            let mut got = Activations::with_capacity(0, 0);
            for norm in [None, Some((&weight[..], eps))] {
                cpu.quantise(&x, cols, norm, rule, &mut got);
                same(&got, &plain::quantise(&x, cols, norm, rule), &what);
                let (mut sum, y) = (x.clone(), random.floats(x.len()));
                cpu.add_quantise(&mut sum, &y, cols, norm, rule, &mut got);
                let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                assert!(sum.iter().zip(&expected).all(nan_or_same), "sum, {what}");
                same(&got, &plain::quantise(&expected, cols, norm, rule), &what);
            }
        }
    }
}

#[test]
fn halves_between_two_integers_round_to_the_even_one_everywhere() {
    // The largest is 127, so that the scale is 1 and the halves stay halves.
    let mut x: Vec<f32> = (0..127).map(|i| i as f32 - 63.5).collect();
    x.push(127.0);
    let expected: Vec<i8> = x.iter().map(|v| v.round_ties_even() as i8).collect();
    for cpu in cpus() {
        let mut got = Activations::with_capacity(1, x.len());
        cpu.quantise(&x, x.len(), None, Rule::A8, &mut got);
        assert_eq!(got.values(0), expected, "{:?}", cpu.platform());
    }
}

#[test]
fn norms_of_heads_touch_only_their_heads() {
    let mut random = Random(2);
    for cpu in cpus() {
        for dim in [1, 7, 40, 64, 80, 96, 128] {
            let (heads, tokens) = (1 + random.below(5), 1 + random.below(30));
            let offset = random.below(50);
            let stride = offset + heads * dim + random.below(50);
            let x = random.floats(tokens * stride);
            let weight = random.floats(dim);
            let mut got = x.clone();
            cpu.norm_heads(&mut got, stride, offset, heads, &weight, 1e-6);
            let mut expected = x.clone();
            for (from, to) in x.chunks_exact(stride).zip(expected.chunks_exact_mut(stride)) {
                let heads = offset..offset + heads * dim;
                plain::norm(&from[heads.clone()], &weight, 1e-6, &mut to[heads]);
            }
            assert_eq!(bits(&got), bits(&expected), "{:?}, {heads} of {dim} at {offset}", cpu.platform());
        }
    }
}

#[test]
fn gates_are_the_same_bits_everywhere_and_near_the_plain_ones() {
    let mut random = Random(3);
    let portable = Cpu::new(Platform::PORTABLE, 1).unwrap();
    for cpu in cpus() {
        for round in 0..40 {
            let (tokens, width) = (1 + random.below(20), 1 + random.below(3000));
            let spread = random.pick(&[1.0, 10.0, 60.0]);
            let gate_up: Vec<f32> = random.floats(2 * tokens * width).iter().map(|v| v * spread).collect();
            let activation = [Activation::Silu, Activation::Relu2, Activation::Gelu][round % 3];
            let what = format!("{:?}, {activation:?}, {tokens} of {width}", cpu.platform());
            let mut got = vec![0.0; tokens * width];
            let (mut same_bits, mut expected) = (got.clone(), got.clone());
            cpu.gate(activation, &gate_up, width, &mut got);
            portable.gate(activation, &gate_up, width, &mut same_bits);
            plain::gate(activation, &gate_up, width, &mut expected);
            assert_eq!(bits(&got), bits(&same_bits), "{what}");
            let gate_of = |i: usize| i / width * 2 * width + i % width;
            for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
                // The error of an exponent grows with it: gelu's is a square.
                let bound = if activation == Activation::Gelu && gate_up[gate_of(i)] < -5.0 { 1e-5 } else { 1e-6 };
                assert!((g - e).abs() <= bound * e.abs() + 1e-30, "{i}: {g} for {e}, {what}");
            }
            let (weight, rule) = (random.floats(width), random.pick(&[Rule::A8, Rule::A4]));
            for norm in [None, Some((&weight[..], 1e-5))] {
                let mut fused = Activations::with_capacity(0, 0);
                cpu.gate_quantise(activation, &gate_up, width, norm, rule, &mut fused);
                same(&fused, &plain::quantise(&got, width, norm, rule), &what);
            }
        }
    }
}

/// Digits of Φ from tables, so that the oracle itself has one; halfway between its two ways of computing, too.
#[test]
fn the_plain_normal_distribution_is_that_of_the_tables() {
    for (x, expected) in [
        (0.0, 0.5),
        (1.0, 0.841_344_746_068_542_9),
        (-1.0, 0.158_655_253_931_457_05),
        (-2.0, 0.022_750_131_948_179_21),
        (-3.0, 1.349_898_031_630_094_6e-3),
        (-2.999_999_999_999, 1.349_898_031_634_526_4e-3),
        (3.0, 0.998_650_101_968_369_9),
        (-5.0, 2.866_515_718_791_939e-7),
        (-10.0, 7.619_853_024_160_527e-24),
    ] {
        let found = plain::normal(x);
        assert!((found / expected - 1.0).abs() < 1e-12, "{x}: {found:e}, not {expected:e}");
    }
}

#[test]
fn sums_are_sums() {
    let mut random = Random(4);
    for cpu in cpus() {
        for len in [1, 15, 16, 17, 1000, 100_003] {
            let (x, y) = (random.floats(len), random.floats(len));
            let mut got = x.clone();
            cpu.add(&mut got, &y);
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(bits(&got), bits(&expected), "{:?}, {len}", cpu.platform());
        }
    }
}

#[test]
fn dense_products_are_near_the_plain_ones() {
    let mut random = Random(5);
    let mut worst = 0.0f64;
    for cpu in cpus() {
        for round in 0..40 {
            let cols = if round % 4 == 0 { 1 + random.below(3000) } else { 1 + random.below(300) };
            let rows = 1 + random.below(if cols > 300 { 80 } else { 300 });
            let tokens = 1 + random.below(if round % 2 == 0 { 9 } else { 40 });
            let (wide, x) = (random.floats(rows * cols), random.floats(tokens * cols));
            let half: Vec<u16> = wide.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
            let upper: Vec<u16> = wide.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect();
            let bytes: Vec<i8> = wide.iter().map(|&v| (v * 40.0) as i8).collect();
            let scales = random.floats(rows);
            let weights = [Dense::F32(&wide), Dense::F16(&half), Dense::Bf16(&upper), Dense::I8(&bytes, &scales)];
            for (kind, weight) in weights.iter().enumerate() {
                let (mut got, mut expected) = (vec![f32::NAN; rows * tokens], vec![0.0; rows * tokens]);
                cpu.dense(weight, cols, &x, &mut got);
                plain::dense(weight, cols, &x, &mut expected);
                let apart = distance(&got, &expected);
                worst = worst.max(apart);
                assert!(apart < 2e-6, "{apart:e}: {:?}, kind {kind}, {tokens} of {rows}x{cols}", cpu.platform());
            }
        }
    }
    assert!(worst > 0.0, "f32 sums are rounded, so a distance of exactly nothing means that nothing was compared");
}

/// A random attention layer, and a batch for it.
struct Case {
    heads: Heads,
    segments: Vec<Segment>,
    rows: usize,
    capacity: usize,
    slots: usize,
}

impl Case {
    fn new(random: &mut Random, long: bool) -> Self {
        let kv_heads = 1 + random.below(3);
        let group = 1 + random.below(8);
        let dim = random.pick(&[40, 64, 80, 96, 128, 6, 17]);
        let window = (random.below(3) == 0).then(|| 1 + random.below(90));
        let heads = Heads { heads: kv_heads * group, kv_heads, dim, window };
        let count = 1 + random.below(4);
        let capacity = if long { 1500 } else { 260 };
        let (mut rows, mut segments) = (random.below(2), Vec::new());
        for i in 0..count {
            let len = if random.below(2) == 0 { 1 + random.below(3) } else { 1 + random.below(120) };
            let position = random.below(capacity - len);
            // From the last slot to the first: their order is free.
            segments.push(Segment { rows: rows..rows + len, position, slot: count - 1 - i });
            rows += len + random.below(2);
        }
        Self { heads, segments, rows, capacity, slots: count }
    }

    fn cache_len(&self) -> usize {
        self.slots * self.heads.kv_heads * self.capacity * self.heads.dim
    }
}

#[test]
fn attention_is_near_the_plain_one() {
    let mut random = Random(6);
    for round in 0..60 {
        let case = Case::new(&mut random, round % 5 == 0);
        let half = random.pick(&[Half::F16, Half::Bf16]);
        let pack = |v: f32| match half {
            Half::F16 => half::f16::from_f32(v).to_bits(),
            Half::Bf16 => half::bf16::from_f32(v).to_bits(),
        };
        let mut keys: Vec<u16> = random.floats(case.cache_len()).into_iter().map(pack).collect();
        let mut values: Vec<u16> = random.floats(case.cache_len()).into_iter().map(pack).collect();
        let cache = Cache { half, capacity: case.capacity, keys: &mut keys, values: &mut values };
        // Large scores now and then: the softmax is then nearly a choice.
        let spread = random.pick(&[0.2, 1.0, 8.0]);
        let qkv: Vec<f32> = random.floats(case.rows * case.heads.row()).iter().map(|v| v * spread).collect();
        let mut expected = vec![7.0; case.rows * case.heads.heads * case.heads.dim];
        plain::attend(&qkv, &case.heads, &case.segments, &cache, &mut expected);
        let unpack = |bits: &u16| match half {
            Half::F16 => half::f16::from_bits(*bits).to_f32(),
            Half::Bf16 => half::bf16::from_bits(*bits).to_f32(),
        };
        let mut wide_keys: Vec<f32> = cache.keys.iter().map(unpack).collect();
        let mut wide_values: Vec<f32> = cache.values.iter().map(unpack).collect();
        let wide = WideCache { capacity: case.capacity, keys: &mut wide_keys, values: &mut wide_values };
        for cpu in cpus() {
            let mut got = vec![7.0; expected.len()];
            let mut got_wide = got.clone();
            cpu.attend(&qkv, &case.heads, &case.segments, &cache, &mut got);
            cpu.attend_wide(&qkv, &case.heads, &case.segments, &wide, &mut got_wide);
            // Tiles take keys and values of 16 bits, and keep 16 bits of all that they multiply.
            let has_tiles = cpu.platform().isa() == Isa::Amx;
            if !has_tiles {
                assert_eq!(bits(&got), bits(&got_wide), "the same keys and values in f32");
            }
            let width = case.heads.heads * case.heads.dim;
            for row in 0..case.rows {
                let (platform, heads, segments) = (cpu.platform(), case.heads, &case.segments);
                for (got, most) in [(&got, if has_tiles { 3e-5 } else { 5e-6 }), (&got_wide, 5e-6)] {
                    let apart = distance(&got[row * width..][..width], &expected[row * width..][..width]);
                    assert!(apart < most, "{apart:e} in row {row}: {platform:?}, {heads:?}, {half:?}, {segments:?}");
                }
            }
        }
    }
}

#[test]
fn turning_and_storing_equal_the_plain_ones_bit_for_bit() {
    let mut random = Random(7);
    for round in 0..40 {
        let case = Case::new(&mut random, false);
        let half = random.pick(&[Half::F16, Half::Bf16]);
        let pairs = if round % 3 == 0 { case.heads.dim / 4 } else { case.heads.dim / 2 };
        let rotation = Rotation {
            pairing: random.pick(&[Pairing::Half, Pairing::Interleaved]),
            pairs,
            cos: random.floats(pairs * case.capacity),
            sin: random.floats(pairs * case.capacity),
        };
        let qkv = random.floats(case.rows * case.heads.row());
        let run = |f: &dyn Fn(&mut [f32], &mut Cache<'_>)| {
            let (mut qkv, mut keys, mut values) = (qkv.clone(), vec![9; case.cache_len()], vec![9; case.cache_len()]);
            f(&mut qkv, &mut Cache { half, capacity: case.capacity, keys: &mut keys, values: &mut values });
            (bits(&qkv), keys, values)
        };
        let expected = run(&|qkv, cache| plain::rotate_and_store(qkv, &case.heads, &rotation, &case.segments, cache));
        for cpu in cpus() {
            let got = run(&|qkv, cache| cpu.rotate_and_store(qkv, &case.heads, &rotation, &case.segments, cache));
            assert!(got == expected, "{:?}, {:?}, {rotation:?}", cpu.platform(), case.heads);
            let (mut wide, mut keys, mut values) = (qkv.clone(), vec![0.0; got.1.len()], vec![0.0; got.2.len()]);
            let mut cache = WideCache { capacity: case.capacity, keys: &mut keys, values: &mut values };
            cpu.rotate_and_store_wide(&mut wide, &case.heads, &rotation, &case.segments, &mut cache);
            let pack = |v: &f32| match half {
                Half::F16 => half::f16::from_f32(*v).to_bits(),
                Half::Bf16 => half::bf16::from_f32(*v).to_bits(),
            };
            // Where nothing was stored there are zeros here and nines there.
            let agree = |(w, &n): (&f32, &u16)| pack(w) == n || n == 9 && *w == 0.0;
            assert!(bits(&wide) == got.0 && keys.iter().zip(&got.1).all(agree) && values.iter().zip(&got.2).all(agree));
        }
    }
}

#[test]
fn what_does_not_fit_panics() {
    let cpu = Cpu::new(Platform::detect(), 2).unwrap();
    let heads = Heads { heads: 4, kv_heads: 2, dim: 8, window: None };
    let rotation = Rotation { pairing: Pairing::Half, pairs: 4, cos: vec![1.0; 40], sin: vec![0.0; 40] };
    let segment = |rows, position, slot| Segment { rows, position, slot };
    let refused: [(&str, Vec<Segment>); 6] = [
        ("beyond the capacity", vec![segment(0..3, 8, 0)]),
        ("a slot that is not there", vec![segment(0..3, 0, 2)]),
        ("rows that are not there", vec![segment(2..5, 0, 0)]),
        ("rows of another segment", vec![segment(0..2, 0, 0), segment(1..3, 0, 1)]),
        ("the same place twice", vec![segment(0..2, 0, 1), segment(2..4, 1, 1)]),
        ("a position near the end of all numbers", vec![segment(0..3, usize::MAX - 1, 0)]),
    ];
    for (what, segments) in refused {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (mut qkv, mut keys, mut values) = (vec![0.0; 4 * heads.row()], vec![0; 320], vec![0; 320]);
            let mut cache = Cache { half: Half::F16, capacity: 10, keys: &mut keys, values: &mut values };
            cpu.rotate_and_store(&mut qkv, &heads, &rotation, &segments, &mut cache);
        }));
        assert!(outcome.is_err(), "{what}");
    }
    let good = [segment(0..2, 0, 1), segment(2..4, 8, 0)];
    let (mut qkv, mut keys, mut values) = (vec![0.0; 4 * heads.row()], vec![0; 320], vec![0; 320]);
    let mut cache = Cache { half: Half::F16, capacity: 10, keys: &mut keys, values: &mut values };
    cpu.rotate_and_store(&mut qkv, &heads, &rotation, &good, &mut cache);
    let short = AssertUnwindSafe(|| cpu.attend(&qkv, &heads, &good, &cache, &mut [0.0; 95]));
    assert!(catch_unwind(short).is_err());
    cpu.attend(&qkv, &heads, &good, &cache, &mut [0.0; 128]);
}
