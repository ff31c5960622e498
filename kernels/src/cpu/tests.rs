//! Every platform against the oracle, on random shapes, patterns and numbers of tokens, and on the values that come closest to an overflow.

use sbnc_format::{Encoding, Order, Packing, Pattern};

use super::*;

/// Numbers that look random (splitmix64), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// An encoding, an order, and patterns.
type Layouts = (Encoding, Order, &'static [(u8, u8)]);

/// Every encoding, order and kind of pattern.
const LAYOUTS: [Layouts; 5] = [
    (Encoding::T2, Order::Rows, &[(0, 0), (2, 4), (6, 8)]),
    (Encoding::T5, Order::Rows, &[(0, 0), (2, 4), (6, 8)]),
    (Encoding::Nm6b, Order::Rows, &[(1, 4), (2, 4)]),
    (Encoding::NmVi, Order::Fragments, &[(1, 4), (2, 4)]),
    (Encoding::NmVi, Order::Windows, &[(4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)]),
];

/// Trits that keep a pattern; a share of `zeros` in 8 is zero where it could be something else.
fn trits(random: &mut Random, rows: usize, cols: usize, pattern: Pattern, zeros: usize) -> Vec<i8> {
    let (n, m) = if pattern.is_dense() { (1, 1) } else { (pattern.n(), pattern.m()) };
    let mut trits = vec![0; rows * cols];
    for group in trits.chunks_exact_mut(m) {
        for _ in 0..n {
            if random.below(8) >= zeros {
                group[random.below(m)] = random.of(&[-1, 1]);
            }
        }
    }
    trits
}

fn activations(tokens: usize, cols: usize, mut value: impl FnMut() -> i8) -> Activations {
    let mut x = Activations::with_capacity(tokens, cols);
    x.resize(tokens, cols);
    for token in 0..tokens {
        x.values[token * x.stride..][..cols].fill_with(&mut value);
        x.scales[token] = 0.5 + token as f32;
    }
    x
}

fn all_platforms() -> Vec<Cpu> {
    Platform::available()
        .flat_map(|platform| [1, 3].map(|threads| Cpu::new(platform, threads).expect("threads")))
        .collect()
}

/// One call on one platform against the oracle, outputs bit for bit.
fn check(cpu: &Cpu, layers: &[Linear<'_>], x: &Activations, what: &str) {
    let stride = layers.iter().map(|layer| layer.offset + layer.weight.rows).max().unwrap_or(0) + 3;
    let mut out = vec![f32::NAN; x.tokens() * stride];
    cpu.linear(layers, x, &mut Output { values: &mut out, stride });
    let mut expected = vec![f32::NAN; x.tokens() * stride];
    for layer in layers {
        let rows = layer.weight.rows;
        for (i, value) in portable::linear(&layer.weight, x).into_iter().enumerate() {
            let bias = layer.bias.map_or(0.0, |bias| bias[i % rows]);
            expected[i / rows * stride + layer.offset + i % rows] = value + bias;
        }
    }
    let first = out.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()));
    if let Some(i) = first {
        let (token, row) = (i / stride, i % stride);
        panic!("{} {what}: token {token}, row {row}: {} instead of {}", cpu.platform().isa(), out[i], expected[i]);
    }
}

#[test]
fn random_shapes_give_what_the_oracle_gives() {
    let cpus = all_platforms();
    let mut random = Random(1);
    // Tools that watch memory take fewer: they are ten to a hundred times as slow.
    let shapes = std::env::var("SBNC_SHAPES").map_or(1200, |number| number.parse().expect("SBNC_SHAPES is a number"));
    for case in 0..shapes {
        let (encoding, order, patterns) = random.of(&LAYOUTS);
        let (n, m) = random.of(patterns);
        let pattern = Pattern::from_ids(n, m).expect("a pattern");
        let most = random.of(&[40, 400, 1500]);
        let cols = (1 + random.below(most)).next_multiple_of(pattern.m().max(1));
        let tokens = random.of(&[1, 1, 2, 3, 4, 5, 7, 8, 9, 17]);
        let x = activations(tokens, cols, || random.next() as i8);
        let packed: Vec<Packed> = (0..1 + random.below(3))
            .map(|_| {
                let rows = 1 + random.below(100);
                let zeros = random.below(8);
                let trits = trits(&mut random, rows, cols, pattern, zeros);
                // Mostly one scale for all rows, as for one tensor, and sometimes another.
                let scales = (0..rows).map(|_| random.of(&[0.25, 0.25, 0.25, 0.3])).collect();
                Packed::new(Packing { encoding, order, pattern }, &trits, cols, scales).expect("legal trits")
            })
            .collect();
        let bias: Vec<f32> = (0..100).map(|i| i as f32 / 7.0).collect();
        let mut offset = random.below(3);
        let mut layers = Vec::new();
        for packed in &packed {
            let weight = packed.matrix();
            let bias = (random.below(2) == 0).then(|| &bias[..weight.rows]);
            layers.push(Linear { weight, bias, offset });
            offset += weight.rows + random.below(3);
        }
        let what = format!("case {case}, {} {} {pattern}, {cols} columns", encoding.name(), order.name());
        cpus.iter().for_each(|cpu| check(cpu, &layers, &x, &what));
    }
}

#[test]
fn layers_of_one_call_may_differ_in_encoding() {
    let mut random = Random(2);
    let (rows, cols) = (37, 480);
    let x = activations(3, cols, || random.next() as i8);
    let packed: Vec<Packed> = LAYOUTS
        .iter()
        .flat_map(|(encoding, order, patterns)| patterns.iter().map(|ids| (*encoding, *order, *ids)))
        .filter_map(|(encoding, order, (n, m))| {
            let pattern = Pattern::from_ids(n, m).expect("a pattern");
            let fits = cols.is_multiple_of(pattern.m().max(1));
            fits.then(|| {
                let trits = trits(&mut random, rows, cols, pattern, 2);
                Packed::new(Packing { encoding, order, pattern }, &trits, cols, vec![1.0; rows]).expect("legal trits")
            })
        })
        .collect();
    let layers: Vec<Linear<'_>> =
        packed.iter().enumerate().map(|(i, p)| Linear { weight: p.matrix(), bias: None, offset: i * rows }).collect();
    assert!(layers.len() > 10);
    all_platforms().iter().for_each(|cpu| check(cpu, &layers, &x, "all encodings"));
}

#[test]
fn largest_sums_do_not_overflow() {
    let cpus = all_platforms();
    for (encoding, order, patterns) in LAYOUTS {
        for &(n, m) in patterns {
            let pattern = Pattern::from_ids(n, m).expect("a pattern");
            let (n, m) = if pattern.is_dense() { (1, 1) } else { (pattern.n(), pattern.m()) };
            let (rows, cols) = (18, 6912usize.next_multiple_of(m));
            for weight in [1i8, -1] {
                // The first n of every group, in some rows the last n.
                let is_set = |row: usize, k: usize| if row.is_multiple_of(2) { k % m < n } else { k % m >= m - n };
                let trits: Vec<i8> =
                    (0..rows * cols).map(|i| if is_set(i / cols, i % cols) { weight } else { 0 }).collect();
                let packed =
                    Packed::new(Packing { encoding, order, pattern }, &trits, cols, vec![0.5; rows]).expect("legal");
                for value in [127, -128] {
                    let x = activations(2, cols, || value);
                    let layers = [Linear { weight: packed.matrix(), bias: None, offset: 0 }];
                    let what = format!("{} {} {pattern}, all {weight} x {value}", encoding.name(), order.name());
                    cpus.iter().for_each(|cpu| check(cpu, &layers, &x, &what));
                    // One token is the hot path, and another kernel.
                    let x = activations(1, cols, || value);
                    cpus.iter().for_each(|cpu| check(cpu, &layers, &x, &what));
                }
            }
        }
    }
}
