//! Random numbers, and how far numbers of the GPU are from those that are expected.

use crate::support::Random;

fn normal(random: &mut Random) -> f32 {
    let unit = |r: &mut Random| (r.number() >> 11) as f64 / (1u64 << 53) as f64;
    let (a, b) = (unit(random).max(1e-12), unit(random));
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

pub(crate) fn normals(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| normal(random)).collect()
}

pub(crate) fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |v: f64| v * v;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - b)).sum();
    (difference / expected.iter().map(|&v| square(v)).sum::<f64>().max(1e-30)).sqrt()
}

pub(crate) fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, i32::from(bits >> 10 & 31), u32::from(bits & 1023));
    match exponent {
        0 => f32::from_bits(sign | 0x3F80_0000) * fraction as f32 / (1 << 24) as f32,
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | ((exponent + 112) as u32) << 23 | fraction << 13),
    }
}
