//! Both ends of a decoder: the embedding, the output head, and the choice of a token.

use sbnc_format::{Encoding, Role};
use sbnc_kernels::cuda::{Chooser, Dense, Device, Logits, Sampling, Stream};

use crate::Test;
use crate::numbers::{distance, normals};
use crate::support::{self, Random, Sample};

pub(crate) const TESTS: &[Test] =
    &[("embedding and output head, all types", check_dense), ("choosing: greedy, filters, seeds", check_choosing)];

fn dense(
    random: &mut Random,
    encoding: Encoding,
    (rows, cols): (usize, usize),
) -> (sbnc_format::Sbnc<Vec<u8>>, Vec<f64>) {
    let values = normals(random, rows * cols);
    let (mut bytes, mut scales, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for row in values.chunks_exact(cols) {
        let scale = row.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
        for &v in row {
            match encoding {
                Encoding::F32 => bytes.extend(v.to_le_bytes()),
                Encoding::Bf16 => bytes.extend(((v.to_bits() >> 16) as u16).to_le_bytes()),
                // f16 of what a bf16 with a small exponent and three bits of fraction says.
                Encoding::F16 => bytes.extend(
                    ((v.to_bits() >> 16 & 0x8000) as u16 | 0x3C00 | (v.to_bits() >> 13 & 0x3FF) as u16).to_le_bytes(),
                ),
                _ => bytes.push((v / scale).round() as i8 as u8),
            }
            plain.push(match encoding {
                Encoding::F32 => f64::from(v),
                Encoding::Bf16 => f64::from(f32::from_bits(v.to_bits() & 0xFFFF_0000)),
                Encoding::F16 => {
                    f64::from(f32::from_bits(v.to_bits() & 0x8000_0000 | 0x3F80_0000 | v.to_bits() & 0x7F_E000))
                }
                _ => f64::from((v / scale).round()) * f64::from(scale),
            });
        }
        scales.push(scale);
    }
    let scales = if encoding == Encoding::I8 { scales } else { Vec::new() };
    let mut sample = Sample::values(random, "w", Role::Head, encoding, &[rows as u64, cols as u64]);
    (sample.data, sample.scales) = (bytes, scales);
    (sbnc_format::Sbnc::open(support::one(sample)).unwrap(), plain)
}

fn check_dense(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(12);
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Bf16, Encoding::I8] {
        for (rows, cols) in [(1003, 256), (5000, 1984), (77, 72)] {
            let (file, plain) = dense(&mut random, encoding, (rows, cols));
            let matrix = Dense::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
            let ids: Vec<u32> = (0..9).map(|_| (random.number() % rows as u64) as u32).collect();
            let mut out = device.alloc(9 * cols).unwrap();
            matrix.embed(&stream, &device.upload(&ids).unwrap(), 9, &mut out).unwrap();
            let expected: Vec<f64> = ids.iter().flat_map(|&id| &plain[id as usize * cols..][..cols]).copied().collect();
            assert!(distance(&out.download(&stream).unwrap(), &expected) < 1e-7, "{encoding:?} rows");

            for tokens in [1, 4, 5, 13, 16, 33, 100] {
                let x = normals(&mut random, tokens * cols);
                let mut logits = Logits::new(&matrix, tokens).unwrap();
                matrix.logits(&stream, &device.upload(&x).unwrap(), tokens, &mut logits).unwrap();
                let expected: Vec<f64> = x
                    .chunks_exact(cols)
                    .flat_map(|x| {
                        plain.chunks_exact(cols).map(move |w| w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum())
                    })
                    .collect();
                let found = logits.values.download(&stream).unwrap();
                let off = distance(&found, &expected);
                let bound = if encoding == Encoding::I8 && tokens > 16 { 1e-4 } else { 2e-5 };
                assert!(off < bound, "{encoding:?} {rows} × {cols}, {tokens} tokens: {off:e}");
                check_greedy(&stream, &logits, &found, rows, tokens);
            }
        }
    }
}

/// Temperature 0 finds the first of the largest logits, also through what the head has found.
fn check_greedy(stream: &Stream, logits: &Logits, found: &[f32], vocab: usize, rows: usize) {
    let device = stream.device();
    let mut chooser = Chooser::new(device, rows, 4).unwrap();
    let greedy = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1, first: 0 };
    chooser.set(&vec![greedy; rows], stream).unwrap();
    let mut tokens = device.upload(&vec![u32::MAX; rows]).unwrap();
    let mut positions = device.upload(&vec![6u32; rows]).unwrap();
    chooser.choose(stream, logits, vocab, rows, &mut tokens, &mut positions).unwrap();
    let expected: Vec<u32> = found
        .chunks_exact(vocab)
        .map(|l| (0..vocab).fold(0, |best, i| if l[i] > l[best] { i } else { best }) as u32)
        .collect();
    assert_eq!(tokens.download(stream).unwrap(), expected);
    assert_eq!(positions.download(stream).unwrap(), vec![7; rows]);
    assert_eq!(chooser.chosen(stream, rows - 1, 6, 1).unwrap(), expected[rows - 1..]);
}

/// Draws of the same logits at many positions: only what the filters keep, with the frequencies that they should have, and the same ones again.
fn check_choosing(device: &Device) {
    let stream = device.stream().unwrap();
    let mut random = Random(13);
    const DRAWS: usize = 4000;
    for (vocab, temperature, top_k, top_p, min_p) in [
        (64, 1.0, 0, 1.0, 0.0),
        (64, 0.7, 5, 1.0, 0.0),
        (67, 1.3, 0, 0.8, 0.0),
        (1000, 1.0, 20, 0.9, 0.0),
        (1000, 0.8, 40, 0.95, 0.05),
        (1001, 2.0, 1, 1.0, 0.0),
        (40_000, 1.5, 0, 0.3, 0.0),
    ] {
        let row: Vec<f32> = normals(&mut random, vocab).iter().map(|v| 2.0 * v).collect();
        let (file, _) = dense(&mut random, Encoding::F32, (vocab, 8));
        let head = Dense::upload(device, &file.tensor("w").unwrap().validate().unwrap()).unwrap();
        let rows = DRAWS.min(40_000_000 / vocab);
        let mut logits = Logits::new(&head, rows).unwrap();
        logits.values.fill_at(0, &row.repeat(rows)).unwrap();
        let mut chooser = Chooser::new(device, rows, 1).unwrap();
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed: 99, first: 0 };
        chooser.set(&vec![sampling; rows], &stream).unwrap();
        let mut draw = || {
            let mut tokens = device.alloc::<u32>(rows).unwrap();
            let numbers: Vec<u32> = (0..rows as u32).collect();
            let mut positions = device.upload(&numbers).unwrap();
            chooser.choose(&stream, &logits, vocab, rows, &mut tokens, &mut positions).unwrap();
            tokens.download(&stream).unwrap()
        };
        let tokens = draw();
        assert_eq!(tokens, draw(), "the same seed");
        let mut order: Vec<usize> = (0..vocab).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let best = row[order[0]];
        let weight = |token: usize, heat: f32| f64::from((row[token] - best) / heat).exp();
        order.truncate(if top_k == 0 { vocab } else { top_k });
        let total: f64 = order.iter().map(|&t| weight(t, 1.0)).sum();
        let mut sum = 0.0;
        let enough = order.iter().position(|&t| {
            sum += weight(t, 1.0);
            sum >= total * f64::from(top_p)
        });
        order.truncate(enough.map_or(order.len(), |e| e + 1));
        order.retain(|&t| weight(t, 1.0) >= f64::from(min_p));
        let total: f64 = order.iter().map(|&t| weight(t, temperature)).sum();
        let mut seen = vec![0usize; vocab];
        tokens.iter().for_each(|&t| seen[t as usize] += 1);
        assert_eq!(order.iter().map(|&t| seen[t]).sum::<usize>(), rows, "a word that the filters drop");
        let chances = order.iter().map(|&t| weight(t, temperature) / total);
        let (mut off, mut expected) = (0.0, 0.0);
        for (p, &t) in chances.zip(&order) {
            off += (seen[t] as f64 / rows as f64 - p).abs();
            expected += (p * (1.0 - p) / rows as f64).sqrt() * 0.8;
        }
        assert!(off < 2.0 * expected + 1e-9 || order.len() > rows, "{vocab}: {off} where {expected} is expected");
        // The draw itself: number n of the generator, in the order of ids.
        order.sort_unstable();
        let mut generator = 99u64;
        let mut same = 0;
        for &token in &tokens {
            generator = generator.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = generator;
            z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            let target = ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64 * total;
            let mut sum = 0.0;
            let place = order.iter().find(|&&t| {
                sum += weight(t, temperature);
                sum > target
            });
            same += usize::from(place == Some(&(token as usize)));
        }
        assert!(same * 1000 >= rows * 998, "{vocab}: {same} of {rows} draws as on a processor");
    }
}
