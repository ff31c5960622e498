//! Mutations of a valid file that know its structure, so that the fuzzer gets past digests and sizes to the rules behind them.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};

use crate::support::parts::Parts;
use crate::support::reseal::{number, put, reseal};
use crate::support::{self, Random, Sample};
use sbnc_format::{Encoding, Order, Pattern, Role};

const TENSORS: u32 = 16;
const NAMES: u32 = 32;
const MANIFEST: u32 = 48;
const PAYLOAD: u32 = 128;
const RECORD: usize = 160;
/// Bytes of payload that a mutated file may have.
const MAX_PAYLOAD: u128 = 1 << 20;

/// Offset and width of the numeric fields of the prefix, a section entry and a record (SPEC §3 to §5).
const PREFIX_FIELDS: &[(usize, usize)] =
    &[(8, 2), (10, 2), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 4), (52, 4), (56, 8)];
const ENTRY_FIELDS: &[(usize, usize)] = &[(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8)];
const RECORD_FIELDS: &[(usize, usize)] = &[
    (0, 4),
    (4, 4),
    (8, 2),
    (10, 2),
    (12, 2),
    (14, 2),
    (16, 1),
    (17, 1),
    (18, 1),
    (19, 1),
    (20, 4),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 8),
    (128, 8),
];

fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let small = |encoding, order, shape, pattern| {
            support::one(Sample::trits(&mut Random(7), "w", (encoding, order), shape, pattern))
        };
        vec![
            support::whole(),
            small(Encoding::T2, Order::Rows, (2, 6), Pattern::DENSE),
            small(Encoding::NmVi, Order::Windows, (2, 16), support::pattern(6, 8)),
            support::one(Sample::values(&mut Random(8), "i", Role::Embedding, Encoding::I8, &[3, 5])),
        ]
    })
}

/// A file made from a valid one by the instructions in `input`.
pub fn mutated(input: &[u8]) -> Result<Vec<u8>> {
    mutated_from(seeds(), input)
}

/// A file made from one of some valid ones by the instructions in `input`.
pub fn mutated_from(files: &[Vec<u8>], input: &[u8]) -> Result<Vec<u8>> {
    let mut u = Unstructured::new(input);
    let mut parts = Parts::split(u.choose(files)?);
    let mut late = Vec::new();
    for _ in 0..u.int_in_range(1..=8)? {
        match u.int_in_range(0..=11)? {
            0 | 1 => {
                let at = field(&mut u, parts.section(TENSORS).len() / RECORD, RECORD, RECORD_FIELDS)?;
                set(&mut u, parts.section(TENSORS), at)?;
            }
            2 => {
                let records = parts.section(TENSORS).len() / RECORD;
                record_edit(&mut u, &mut parts, records)?;
            }
            3 => relayout(&mut parts),
            4 => splice(&mut u, parts.section(MANIFEST))?,
            5 => splice(&mut u, parts.section(NAMES))?,
            6 => {
                // Payload bytes: often one, sometimes a run.
                let payload = parts.section(PAYLOAD);
                let at = u.choose_index(payload.len().max(1))?;
                let run = u.int_in_range(1..=16)?;
                for byte in payload.iter_mut().skip(at).take(run) {
                    *byte = u.arbitrary()?;
                }
            }
            7 => {
                let index = u.choose_index(parts.sections.len())?;
                splice(&mut u, &mut parts.sections[index].2)?;
            }
            8 => {
                let section = (u.int_in_range(0..=200)?, u.int_in_range(0..=3)?, vec![7; u.int_in_range(0..=40)?]);
                parts.sections.push(section);
                if u.arbitrary()? {
                    parts.sections.sort_by_key(|s| s.0);
                }
            }
            9 => {
                let bit = u.int_in_range(0..=63)?;
                let at = 24 + 8 * u.int_in_range(0..=2usize)?;
                parts.prefix[at + bit / 8] |= 1 << (bit % 8);
            }
            10 => late.push((PREFIX_FIELDS[u.choose_index(PREFIX_FIELDS.len())?], value(&mut u, 8)?)),
            _ => {
                let (at, width) = field(&mut u, parts.sections.len(), 64, ENTRY_FIELDS)?;
                late.push(((96 + at, width), value(&mut u, number(&parts.prefix, 16, 8))?));
            }
        }
        if parts.sections.iter().filter(|s| [TENSORS, NAMES, MANIFEST, PAYLOAD].contains(&s.0)).count() < 4 {
            return Ok(parts.join());
        }
    }
    let mut file = parts.join();
    for ((at, width), value) in late {
        if at + width <= file.len() {
            put(&mut file, at, width, value);
        }
    }
    reseal(&mut file);
    Ok(file)
}

/// A numeric field of one of `count` structures of `size` bytes.
fn field(u: &mut Unstructured<'_>, count: usize, size: usize, fields: &[(usize, usize)]) -> Result<(usize, usize)> {
    let (at, width) = *u.choose(fields)?;
    Ok((u.choose_index(count.max(1))? * size + at, width))
}

fn set(u: &mut Unstructured<'_>, bytes: &mut [u8], (at, width): (usize, usize)) -> Result<()> {
    if at + width <= bytes.len() {
        let value = value(u, number(bytes, at, width))?;
        put(bytes, at, width, value);
    }
    Ok(())
}

/// A number that is likely to matter.
fn value(u: &mut Unstructured<'_>, old: u64) -> Result<u64> {
    Ok(match u.int_in_range(0..=7)? {
        0 => u.int_in_range(0..=20)?,
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => old.wrapping_mul(2),
        4 => 1u64.wrapping_shl(u.int_in_range(0..=63)?),
        5 => 1u64.wrapping_shl(u.int_in_range(0..=63)?).wrapping_sub(1),
        6 => u.int_in_range(0..=4096)?,
        _ => u.arbitrary()?,
    })
}

/// Replaces a range by other bytes.
fn splice(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    let start = u.choose_index(bytes.len() + 1)?;
    let end = (start + u.int_in_range(0..=24)?).min(bytes.len());
    let length = u.int_in_range(0..=24)?.min(u.len());
    let new = u.bytes(length)?.to_vec();
    bytes.splice(start..end, new);
    Ok(())
}

/// Whole records: twice, not at all, in another place; or another layout, with sizes to match.
fn record_edit(u: &mut Unstructured<'_>, parts: &mut Parts, records: usize) -> Result<()> {
    if records == 0 {
        return Ok(());
    }
    let (a, b) = (u.choose_index(records)? * RECORD, u.choose_index(records)? * RECORD);
    let tensors = parts.section(TENSORS);
    match u.int_in_range(0..=3)? {
        0 => {
            let copy = tensors[a..a + RECORD].to_vec();
            tensors.splice(b..b, copy);
        }
        1 => {
            tensors.drain(a..a + RECORD);
        }
        2 => (0..RECORD).for_each(|i| tensors.swap(a + i, b + i)),
        _ => {
            let (encoding, order) =
                *u.choose(&[(1, 0), (2, 0), (3, 0), (4, 0), (16, 0), (17, 0), (18, 1), (18, 2), (19, 0)])?;
            let (n, m) = *u.choose(&[(0, 0), (1, 4), (2, 4), (4, 6), (6, 8), (14, 16), (1, 2), (15, 16)])?;
            let (rows, cols) = (u.int_in_range(1..=40u64)?, u.int_in_range(1..=30u64)? * u64::max(m, 1));
            for (at, width, value) in
                [(10, 2, encoding), (12, 2, order), (16, 1, n), (17, 1, m), (18, 1, u64::from(m > 0)), (19, 1, 2)]
            {
                put(tensors, a + at, width, value);
            }
            for (i, dim) in [rows, cols, 0, 0].into_iter().enumerate() {
                put(tensors, a + 24 + 8 * i, 8, dim);
            }
            relayout(parts);
        }
    }
    Ok(())
}

/// Makes sizes, offsets and names of all records agree with their shapes and encodings, as the table of SPEC §5 has it.
fn relayout(parts: &mut Parts) {
    let mut tensors = std::mem::take(parts.section(TENSORS));
    let (mut end, mut name_end) = (0u128, 0u64);
    for at in (0..tensors.len() / RECORD).map(|i| i * RECORD) {
        let get = |offset, width| u128::from(number(&tensors, at + offset, width));
        let rank = get(19, 1).clamp(1, 4) as usize;
        let dims: Vec<u128> = (0..rank).map(|i| get(24 + 8 * i, 8)).collect();
        let cols = dims[rank - 1].max(1);
        let rows = dims[..rank - 1].iter().fold(1u128, |a, &d| a.saturating_mul(d));
        let (encoding, order, m) = (get(10, 2), get(12, 2), get(17, 1).max(2));
        let width = if order == 2 { (cols / m * (m / 2 - 1)).saturating_mul(4) } else { cols };
        let (strip_rows, strip_bytes) = match encoding {
            1 => (1, cols.saturating_mul(4)),
            2 | 3 => (1, cols.saturating_mul(2)),
            16 => (1, cols.div_ceil(4)),
            17 => (1, cols.div_ceil(5)),
            18 => (16, width.div_ceil(128).saturating_mul(512)),
            19 => (1, (cols / 4).saturating_mul(6).div_ceil(8)),
            _ => (1, cols),
        };
        let data = rows.div_ceil(strip_rows).saturating_mul(strip_bytes);
        let scales = if matches!(encoding, 4 | 16..=19) { rows } else { 0 };
        // Saturated numbers fail every check, and are beyond what the payload is made to hold.
        let extent = data.saturating_add(255) / 256 * 256;
        let stored = if scales == 0 { data } else { extent.saturating_add(scales.saturating_mul(4)) };
        let offset = end.saturating_add(255) / 256 * 256;
        end = offset.saturating_add(stored);
        for (field, value) in [(56, offset), (64, stored), (72, data), (80, scales)] {
            put(&mut tensors, at + field, 8, value as u64);
        }
        put(&mut tensors, at, 4, name_end);
        name_end = name_end.wrapping_add(number(&tensors, at + 4, 4));
    }
    *parts.section(TENSORS) = tensors;
    if end <= MAX_PAYLOAD {
        parts.section(PAYLOAD).resize(end as usize, 0);
    }
    if name_end <= 1 << 16 {
        parts.section(NAMES).resize(name_end as usize, b'n');
    }
}
