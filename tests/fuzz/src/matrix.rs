//! The promises of an encoding, checked on one matrix of arbitrary shape and bytes.

use arbitrary::{Result, Unstructured};
use sbnc_format::encoding::check_pattern;
use sbnc_format::{Encoding, Order, Packing, Pattern};

/// Shapes up to here: several strips and tiles each way.
const MAX_ROWS: usize = 50;
const MAX_COLS: usize = 400;

/// Decoding is total and in range; bytes are valid exactly if encoding what they decode to gives them again.
pub fn check(encoding: Encoding, order: Order, patterns: &[Pattern], input: &[u8]) -> Result<()> {
    let mut u = Unstructured::new(input);
    let pattern = *u.choose(patterns)?;
    let rows = u.int_in_range(1..=MAX_ROWS)?;
    let groups = if pattern.is_dense() { MAX_COLS } else { MAX_COLS / pattern.m() };
    let cols = u.int_in_range(1..=groups)? * pattern.m().max(1);
    let packing = Packing { encoding, order, pattern };
    let strip = packing.strip(cols);
    let mut bytes = vec![0; rows.div_ceil(strip.rows) * strip.bytes];

    let mut edits = Vec::new();
    if u.arbitrary()? {
        // A valid matrix with a few bytes changed: arbitrary bytes are rarely close to valid.
        for _ in 0..u.int_in_range(0..=4)? {
            edits.push((u.choose_index(bytes.len())?, u.arbitrary::<u8>()?));
        }
        let trits = trits(&mut u, rows, cols, pattern);
        packing.encode(&trits, cols, &mut bytes).expect("trits that keep the pattern can be encoded");
        assert_eq!(packing.validate(&bytes, rows, cols), Ok(()));
        let mut decoded = vec![9; rows * cols];
        packing.decode(&bytes, cols, &mut decoded);
        assert_eq!(decoded, trits);
    } else {
        let given = u.bytes(u.len().min(bytes.len()))?;
        bytes[..given.len()].copy_from_slice(given);
    }
    for (at, value) in edits {
        bytes[at] = value;
    }

    let mut decoded = vec![9; rows * cols];
    packing.decode(&bytes, cols, &mut decoded);
    assert!(decoded.iter().all(|t| (-1..=1).contains(t)));
    let verdict = packing.validate(&bytes, rows, cols);
    if let Err(offence) = &verdict {
        assert!(offence.row < rows.next_multiple_of(16) && (80..=90).contains(&offence.rule));
    }
    let mut again = vec![0; bytes.len()];
    let encoded = packing.encode(&decoded, cols, &mut again);
    // Of t2 and t5 the pattern is a promise that is checked elsewhere; the other encodings hold no more than it allows.
    let keeps = !encoding_enforces(encoding) || check_pattern(&decoded, cols, pattern).is_ok();
    assert_eq!(verdict.is_ok(), encoded.is_ok() && again == bytes && keeps, "{verdict:?} {encoded:?}");
    Ok(())
}

fn encoding_enforces(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::NmVi | Encoding::Nm6b)
}

/// Trits that keep the pattern, driven by the input.
fn trits(u: &mut Unstructured<'_>, rows: usize, cols: usize, pattern: Pattern) -> Vec<i8> {
    let mut trits: Vec<i8> = (0..rows * cols).map(|_| (u.arbitrary::<u8>().unwrap_or(1) % 3) as i8 - 1).collect();
    if !pattern.is_dense() {
        for group in trits.chunks_exact_mut(pattern.m()) {
            let mut left = pattern.n();
            for t in group.iter_mut().filter(|t| **t != 0) {
                if left == 0 {
                    *t = 0;
                } else {
                    left -= 1;
                }
            }
        }
    }
    trits
}
