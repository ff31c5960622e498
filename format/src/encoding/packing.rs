//! How the values of one tensor lie in the file, and the two ways between them and bytes: everything that does not depend on a single encoding.

use super::{Encoding, Illegal, Offence, Order, Pattern, check_values, fragments, nm6b, t2, t5, windows};

/// How the values of a tensor lie in the file: all that is needed, besides its shape, to make sense of its bytes.
///
/// ```
/// use sbnc_format::{Encoding, Order, Packing, Pattern};
/// let packing = Packing { encoding: Encoding::T5, order: Order::Rows, pattern: Pattern::DENSE };
/// let mut bytes = [0; 2];
/// packing.encode(&[1, 0, -1, 0, 1, 1, 1, 0], 8, &mut bytes).map_err(|e| format!("{e:?}"))?;
/// let mut trits = [0; 8];
/// packing.decode(&bytes, 8, &mut trits);
/// assert_eq!(trits, [1, 0, -1, 0, 1, 1, 1, 0]);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// How values are stored.
    pub encoding: Encoding,
    /// In which order.
    pub order: Order,
    /// The declared sparsity.
    pub pattern: Pattern,
}

/// The smallest run of rows whose bytes lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strip {
    /// Rows of a whole strip.
    pub rows: usize,
    /// Bytes of a strip, whole or not.
    pub bytes: usize,
}

impl Packing {
    /// Whether the three go together.
    pub fn is_possible(self) -> bool {
        self.encoding.allows(self.order) && self.encoding.allows_pattern(self.order, self.pattern)
    }

    /// Bytes of the data of a matrix, or `None` where the encoding cannot hold it.
    pub fn data_bytes(self, rows: u64, cols: u64) -> Option<u64> {
        let whole_groups = self.pattern.is_dense() || cols.is_multiple_of(self.pattern.m() as u64);
        if !self.is_possible() || !whole_groups {
            return None;
        }
        match self.encoding {
            Encoding::F32 => rows.checked_mul(cols)?.checked_mul(4),
            Encoding::F16 | Encoding::Bf16 => rows.checked_mul(cols)?.checked_mul(2),
            Encoding::I8 => rows.checked_mul(cols),
            Encoding::T2 | Encoding::T5 | Encoding::NmVi | Encoding::Nm6b => {
                let strip = self.strip(usize::try_from(cols).ok()?);
                rows.div_ceil(strip.rows as u64).checked_mul(strip.bytes as u64)
            }
        }
    }

    /// The strip of a ternary encoding; for others a row of bytes.
    pub fn strip(self, cols: usize) -> Strip {
        let (rows, bytes) = match (self.encoding, self.order) {
            (Encoding::T2, _) => (1, t2::row_bytes(cols)),
            (Encoding::T5, _) => (1, t5::row_bytes(cols)),
            (Encoding::Nm6b, _) => (1, nm6b::row_bytes(cols)),
            (Encoding::NmVi, Order::Windows) => {
                (fragments::ROWS, fragments::strip_bytes(windows::expanded_cols(cols, self.pattern)))
            }
            (Encoding::NmVi, _) => (fragments::ROWS, fragments::strip_bytes(cols)),
            (Encoding::F32, _) => (1, 4 * cols),
            (Encoding::F16 | Encoding::Bf16, _) => (1, 2 * cols),
            (Encoding::I8, _) => (1, cols),
        };
        Strip { rows, bytes }
    }

    /// Encodes whole rows of trits into whole strips. `out` has the length that [`strip`](Self::strip) says; `cols` and the pattern fit the encoding.
    pub fn encode(self, trits: &[i8], cols: usize, out: &mut [u8]) -> Result<(), Illegal> {
        let strip = self.strip(cols);
        let (mut scratch, mut expanded) = ([Vec::new(), Vec::new()], vec![0i8; self.expanded_strip(cols)]);
        for (i, (trits, out)) in trits.chunks(strip.rows * cols).zip(out.chunks_exact_mut(strip.bytes)).enumerate() {
            let result = match (self.encoding, self.order) {
                (Encoding::T2, _) => {
                    t2::encode_row(trits, out);
                    Ok(())
                }
                (Encoding::T5, _) => {
                    t5::encode_row(trits, out);
                    Ok(())
                }
                (Encoding::Nm6b, _) => nm6b::encode_row(trits, out, &mut scratch[0]),
                (Encoding::NmVi, Order::Windows) => {
                    encode_windows(trits, cols, self.pattern, out, &mut expanded, &mut scratch)
                }
                _ => fragments::encode_strip(trits, cols, out, &mut scratch[0]),
            };
            result.map_err(|e| Illegal { row: e.row + i * strip.rows, ..e })?;
        }
        Ok(())
    }

    /// Decodes whole strips of a ternary encoding. `out` holds whole rows, in the last strip perhaps fewer than it could.
    /// Bytes that no encoder writes decode to some trits.
    pub fn decode(self, bytes: &[u8], cols: usize, out: &mut [i8]) {
        let strip = self.strip(cols);
        let mut expanded = vec![0i8; self.expanded_strip(cols)];
        for (bytes, out) in bytes.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * cols)) {
            match (self.encoding, self.order) {
                (Encoding::T2, _) => t2::decode_row(bytes, out),
                (Encoding::T5, _) => t5::decode_row(bytes, out),
                (Encoding::Nm6b, _) => nm6b::decode_row(bytes, out),
                (Encoding::NmVi, Order::Windows) => {
                    let width = windows::expanded_cols(cols, self.pattern);
                    let expanded = &mut expanded[..out.len() / cols * width];
                    fragments::decode_strip(bytes, width, expanded);
                    for (wide, out) in expanded.chunks_exact(width).zip(out.chunks_exact_mut(cols)) {
                        windows::contract_row(wide, self.pattern, out);
                    }
                }
                _ => fragments::decode_strip(bytes, cols, out),
            }
        }
    }

    /// Checks that whole strips of `rows` rows are what [`encode`](Self::encode) writes for some trits: the rules of SPEC §10 for the encoding. It does
    /// not check a pattern that the encoding does not enforce; [`check_pattern`](super::check_pattern) does, on decoded rows.
    pub fn validate(self, bytes: &[u8], rows: usize, cols: usize) -> Result<(), Offence> {
        match (self.encoding, self.order) {
            (Encoding::T2, _) => t2::validate(bytes, cols),
            (Encoding::T5, _) => t5::validate(bytes, cols),
            (Encoding::Nm6b, _) => nm6b::validate(bytes, cols, self.pattern.n()),
            (Encoding::NmVi, Order::Windows) => self.validate_windows(bytes, rows, cols),
            (Encoding::NmVi, _) => fragments::validate(bytes, rows, cols, self.pattern.n()),
            (encoding, _) => check_values(encoding, bytes),
        }
    }

    fn validate_windows(self, bytes: &[u8], rows: usize, cols: usize) -> Result<(), Offence> {
        let width = windows::expanded_cols(cols, self.pattern);
        if fragments::validate_windows(bytes, rows, width, self.pattern.windows().unwrap_or(1))? {
            return Ok(());
        }
        let mut expanded = vec![0i8; self.expanded_strip(cols)];
        for (i, bytes) in bytes.chunks_exact(fragments::strip_bytes(width)).enumerate() {
            let first = i * fragments::ROWS;
            let expanded = &mut expanded[..fragments::ROWS.min(rows - first) * width];
            fragments::decode_strip(bytes, width, expanded);
            for (row, wide) in expanded.chunks_exact(width).enumerate() {
                windows::check_row(wide, self.pattern, first + row)?;
            }
        }
        Ok(())
    }

    /// Elements of an expanded strip, 0 where nothing is expanded.
    fn expanded_strip(self, cols: usize) -> usize {
        if self.order == Order::Windows { fragments::ROWS * windows::expanded_cols(cols, self.pattern) } else { 0 }
    }
}

fn encode_windows(
    trits: &[i8],
    cols: usize,
    pattern: Pattern,
    out: &mut [u8],
    expanded: &mut [i8],
    [scratch, packed]: &mut [Vec<u8>; 2],
) -> Result<(), Illegal> {
    let width = windows::expanded_cols(cols, pattern);
    let expanded = &mut expanded[..trits.len() / cols * width];
    for (row, (trits, wide)) in trits.chunks_exact(cols).zip(expanded.chunks_exact_mut(width)).enumerate() {
        windows::place_row(trits, pattern, wide, packed).map_err(|e| Illegal { row, ..e })?;
    }
    fragments::encode_strip(expanded, width, out, scratch)
}
