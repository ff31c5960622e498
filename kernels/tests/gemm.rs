//! Linear layers of many tokens on every kernel of this processor, equal to the oracle bit for bit.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sbnc_format::{Encoding, Order, Packing, Pattern};
use sbnc_kernels::cpu::gemm::{self, Kernel};
use sbnc_kernels::cpu::ops::Activation;
use sbnc_kernels::cpu::{Activations, Cpu, Fused, Linear, Output, Packed, Platform, Pool, Rule, portable};

/// Encoding, order, and the patterns to choose from (0:0 is dense).
type Layout = (Encoding, Order, &'static [(u8, u8)]);

const LAYOUTS: [Layout; 7] = [
    (Encoding::T2, Order::Rows, &[(0, 0), (2, 4), (6, 8)]),
    (Encoding::T5, Order::Rows, &[(0, 0), (6, 8), (3, 5)]),
    (Encoding::Nm6b, Order::Rows, &[(2, 4), (1, 4)]),
    (Encoding::NmVi, Order::Fragments, &[(2, 4), (1, 4)]),
    (Encoding::NmVi, Order::Windows, &[(6, 8), (4, 6)]),
    (Encoding::NmVi, Order::Windows, &[(8, 10), (10, 12)]),
    (Encoding::NmVi, Order::Windows, &[(12, 14), (14, 16)]),
];

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Trits that keep the pattern; `full` has no zero that the pattern does not ask for, and one sign.
    fn trits(&mut self, rows: usize, cols: usize, (n, m): (u8, u8), full: bool) -> Vec<i8> {
        let mut trits = vec![0; rows * cols];
        let (n, m) = if m == 0 { (1, 1) } else { (usize::from(n), usize::from(m)) };
        let sign = if self.below(2) == 0 { 1 } else { -1 };
        for group in trits.chunks_mut(m) {
            for _ in 0..n {
                let at = self.below(m);
                group[at] = if full { sign } else { self.below(3) as i8 - 1 };
            }
        }
        trits
    }

    /// Activations: ordinary ones, or only the largest and the smallest that there are.
    fn activations(&mut self, tokens: usize, cols: usize, extreme: bool) -> Activations {
        let sign = if self.below(2) == 0 { 1.0 } else { -1.0 };
        let x: Vec<f32> =
            (0..tokens * cols).map(|_| if extreme { sign } else { self.below(2001) as f32 / 100.0 - 10.0 }).collect();
        Activations::quantise(&x, cols, if self.below(4) == 0 { Rule::A4 } else { Rule::A8 })
    }
}

struct Layer {
    packed: Packed,
    bias: Option<Vec<f32>>,
}

impl Random {
    fn layer(&mut self, rows: usize, cols: usize, layout: (Encoding, Order, (u8, u8)), full: bool) -> Layer {
        let trits = self.trits(rows, cols, layout.2, full);
        let one = self.below(2) == 0;
        let scales = (0..rows).map(|row| if one { 0.37 } else { 0.01 + (row % 7) as f32 }).collect();
        let pattern = Pattern::from_ids(layout.2.0, layout.2.1).unwrap();
        let packed =
            Packed::new(Packing { encoding: layout.0, order: layout.1, pattern }, &trits, cols, scales).unwrap();
        let bias = (self.below(3) == 0).then(|| (0..rows).map(|row| row as f32 - 3.5).collect());
        Layer { packed, bias }
    }
}

/// Computes the layers side by side on every kernel, and each alone by the oracle.
fn check(pools: &[Pool], layers: &[Layer], x: &Activations, what: &str) {
    let mut offset = 1;
    let linears: Vec<_> = layers
        .iter()
        .map(|layer| {
            let weight = layer.packed.matrix();
            let linear = Linear { weight, bias: layer.bias.as_deref(), offset };
            offset += weight.rows();
            linear
        })
        .collect();
    let stride = offset + 2;
    let mut expected = vec![-7.0; x.tokens() * stride];
    for linear in &linears {
        let rows = linear.weight.rows();
        for (i, value) in portable::linear(&linear.weight, x).into_iter().enumerate() {
            let (token, row) = (i / rows, i % rows);
            expected[token * stride + linear.offset + row] = value + linear.bias.map_or(0.0, |bias| bias[row]);
        }
    }
    for kernel in Kernel::available() {
        for pool in pools {
            let mut values = vec![-7.0; x.tokens() * stride];
            gemm::linear(pool, kernel, &linears, x, &mut Output { values: &mut values, stride });
            let wrong = values.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
            if let Some(i) = wrong {
                let (token, at) = (i / stride, i % stride);
                panic!(
                    "{} differs at token {token}, output {at}: {} instead of {} ({what})",
                    kernel.name(),
                    values[i],
                    expected[i]
                );
            }
        }
    }
}

#[test]
fn random_shapes_equal_the_oracle() {
    let pools = [Pool::new(1).unwrap(), Pool::new(3).unwrap()];
    let mut random = Random(0x5b1c_0f3a);
    // Tools that watch memory take fewer: they are ten to a hundred times as slow.
    let shapes = std::env::var("SBNC_SHAPES").map_or(1200, |number| number.parse().unwrap());
    for case in 0..shapes {
        let (encoding, order, patterns) = LAYOUTS[case % LAYOUTS.len()];
        let pattern = patterns[random.below(patterns.len())];
        let most = if case % 10 == 0 { 1700 } else { 300 };
        let cols = match pattern.1 {
            0 => 1 + random.below(most),
            m => (1 + random.below(most / usize::from(m))) * usize::from(m),
        };
        let tokens = 1 + random.below(70);
        let (full, extreme) = (random.below(4) == 0, random.below(4) == 0);
        let layers: Vec<_> = (0..1 + random.below(3))
            .map(|_| {
                let rows = 1 + random.below(if case % 7 == 0 { 200 } else { 70 });
                random.layer(rows, cols, (encoding, order, pattern), full)
            })
            .collect();
        let x = random.activations(tokens, cols, extreme);
        let what = format!("case {case}: {encoding:?} {order:?} {pattern:?}, {tokens} tokens of {cols} columns");
        check(&pools, &layers, &x, &what);
    }
}

#[test]
fn sums_of_the_largest_products_do_not_overflow() {
    let pools = [Pool::new(1).unwrap()];
    let mut random = Random(77);
    for cols in [64, 256, 260, 1024, 6912] {
        for _ in 0..4 {
            let layer = random.layer(17, cols, (Encoding::T2, Order::Rows, (0, 0)), true);
            let x = random.activations(7, cols, true);
            check(&pools, &[layer], &x, "largest products");
        }
    }
}

#[test]
fn more_tokens_than_a_task_takes() {
    let pools = [Pool::new(2).unwrap()];
    let mut random = Random(99);
    for tokens in [513, 1100] {
        let layers = [
            random.layer(130, 192, (Encoding::NmVi, Order::Fragments, (2, 4)), false),
            random.layer(40, 192, (Encoding::T5, Order::Rows, (0, 0)), false),
        ];
        let x = random.activations(tokens, 192, false);
        check(&pools, &layers, &x, "many tokens");
    }
}

#[test]
fn more_columns_than_stay_in_a_cache() {
    let pools = [Pool::new(1).unwrap(), Pool::new(2).unwrap()];
    let mut random = Random(31);
    for tokens in [47, 210, 400] {
        let layers = [random.layer(50, 6912, (Encoding::Nm6b, Order::Rows, (2, 4)), false)];
        let x = random.activations(tokens, 6912, false);
        check(&pools, &layers, &x, "many columns");
    }
}

/// Bits of each value.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn what_is_fused_equals_both_apart_bit_for_bit() {
    let pools = [Pool::new(1).unwrap(), Pool::new(3).unwrap()];
    let mut random = Random(41);
    for case in 0..300 {
        let (encoding, order, patterns) = LAYOUTS[case % LAYOUTS.len()];
        let pattern = patterns[random.below(patterns.len())];
        let cols = (1 + random.below(40)) * usize::from(pattern.1.max(1));
        let (rows, tokens) = (1 + random.below(if case % 5 == 0 { 300 } else { 70 }), 1 + random.below(70));
        let layers = [0, 1].map(|_| random.layer(rows, cols, (encoding, order, pattern), false));
        let x = random.activations(tokens, cols, false);
        let linear = |i: usize, offset| {
            let layer: &Layer = &layers[i];
            Linear { weight: layer.packed.matrix(), bias: layer.bias.as_deref(), offset }
        };
        let before: Vec<f32> = (0..tokens * rows).map(|i| (i % 13) as f32 - 6.25).collect();
        for kernel in Kernel::available() {
            let platform = Platform::available().find(|&platform| Kernel::of(platform) == Some(kernel));
            let cpu = Cpu::new(platform.unwrap_or(Platform::PORTABLE), 1).unwrap();
            for pool in &pools {
                let both = [linear(0, 0), linear(1, rows)];
                let mut apart = vec![0.0; tokens * 2 * rows];
                gemm::linear(pool, kernel, &both, &x, &mut Output { values: &mut apart, stride: 2 * rows });
                for activation in [Activation::Relu2, Activation::Silu, Activation::Gelu] {
                    let mut expected = vec![0.0; tokens * rows];
                    cpu.gate(activation, &apart, rows, &mut expected);
                    let mut values = vec![7.0; tokens * rows];
                    let out = &mut Output { values: &mut values, stride: rows };
                    gemm::fused(pool, kernel, (&both, Fused::Gate(activation)), &x, out);
                    assert_eq!(bits(&values), bits(&expected), "case {case}: {activation:?}, {}", kernel.name());
                }
                let mut expected = before.clone();
                for (token, expected) in expected.chunks_exact_mut(rows).enumerate() {
                    expected.iter_mut().zip(&apart[token * 2 * rows..]).for_each(|(sum, y)| *sum += y);
                }
                let mut values = before.clone();
                let out = &mut Output { values: &mut values, stride: rows };
                gemm::fused(pool, kernel, (&both[..1], Fused::Add), &x, out);
                assert_eq!(bits(&values), bits(&expected), "case {case}: added, {}", kernel.name());
            }
        }
    }
}

#[test]
#[should_panic(expected = "as many gates as values")]
fn gates_of_another_height_are_refused() {
    let mut random = Random(5);
    let layers = [20, 21].map(|rows| random.layer(rows, 64, (Encoding::T2, Order::Rows, (0, 0)), false));
    let linears = layers.each_ref().map(|layer| Linear { weight: layer.packed.matrix(), bias: None, offset: 0 });
    let Some(kernel) = Kernel::available().next() else { panic!("as many gates as values: no kernel") };
    let (x, mut values) = (random.activations(20, 64, false), vec![0.0; 20 * 21]);
    let out = &mut Output { values: &mut values, stride: 21 };
    gemm::fused(&Pool::new(1).unwrap(), kernel, (&linears, Fused::Gate(Activation::Relu2)), &x, out);
}

#[test]
#[should_panic(expected = "outputs that do not overlap")]
fn layers_that_overlap_are_refused() {
    let mut random = Random(5);
    let layer = random.layer(20, 64, (Encoding::T2, Order::Rows, (0, 0)), false);
    let weight = layer.packed.matrix();
    let x = random.activations(20, 64, false);
    let linears = [Linear { weight, bias: None, offset: 0 }, Linear { weight, bias: None, offset: 19 }];
    let Some(kernel) = Kernel::available().next() else { panic!("outputs that do not overlap: no kernel") };
    let mut values = vec![0.0; 20 * 40];
    gemm::linear(&Pool::new(1).unwrap(), kernel, &linears, &x, &mut Output { values: &mut values, stride: 40 });
}
