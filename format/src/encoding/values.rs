//! Rules for values that are not trits: scales, floats and int8 (R073 to R075).

use super::{Encoding, Offence, simd};
use crate::error::rule;
use crate::limits::MAX_SCALE;

/// Checks the bytes of f32 scales.
pub(crate) fn check_scales(bytes: &[u8]) -> Result<(), Offence> {
    let scales = bytes.as_chunks().0;
    let legal = |scale: f32| scale > 0.0 && scale <= MAX_SCALE;
    match scales.iter().position(|&b| !legal(f32::from_le_bytes(b))) {
        None => Ok(()),
        Some(row) => {
            let found = f32::from_le_bytes(scales[row]);
            Err(Offence::new(rule::SCALE_VALUE, row, 0, "a finite scale above 0 and at most 10000", found))
        }
    }
}

/// Checks the data of an f32, f16, bf16 or i8 tensor. Offences are given by element.
pub(crate) fn check_values(encoding: Encoding, data: &[u8]) -> Result<(), Offence> {
    let at = match encoding {
        Encoding::F32 => first(data.as_chunks().0, |b| u32::from_le_bytes(b) & 0x7F80_0000 == 0x7F80_0000),
        Encoding::F16 => first(data.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7C00 == 0x7C00),
        Encoding::Bf16 => first(data.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7F80 == 0x7F80),
        Encoding::I8 => {
            let at = first(data.as_chunks::<1>().0, |[b]| b == 0x80);
            return at.map_or(Ok(()), |at| Err(Offence::new(rule::INT8_VALUE, 0, at, "a value above -128", -128)));
        }
        Encoding::T2 | Encoding::T5 | Encoding::NmVi | Encoding::Nm6b => None,
    };
    at.map_or(Ok(()), |at| Err(Offence::new(rule::FLOAT_VALUE, 0, at, "finite values", "an infinity or NaN")))
}

struct Any<'a, T, F>(&'a [T], F);

impl<T: Copy, F: Fn(T) -> bool> simd::Kernel for Any<'_, T, F> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        self.0.iter().fold(false, |any, &value| any | (self.1)(value))
    }
}

/// The first element that is bad; looked for only if there is one.
fn first<T: Copy>(values: &[T], bad: impl Fn(T) -> bool) -> Option<usize> {
    simd::run(Any(values, &bad)).then(|| values.iter().position(|&v| bad(v))).flatten()
}
