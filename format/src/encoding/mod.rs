//! Encodings: how the values of a tensor become bytes, and back.
//!
//! ```text
//!            rows of trits (i8)  ── encode ──▶  bytes  ── validate ──▶  fit for kernels
//!                                ◀── decode ──
//! t2        four trits a byte        any pattern
//! t5        five trits a byte        any pattern
//! nm-6b     a code per group of 4    1:4, 2:4
//! nm-vi     values and indices       1:4, 2:4 (fragments), (M−2):M (windows)
//! ```
//!
//! Everything works on *strips*: the rows whose bytes lie together, so that a matrix can be streamed and shared out. Decoding is total, whatever the
//! bytes; whether they are what an encoder writes is the business of [`validate`]. Nothing here knows of files, names or digests of stored bytes.

mod content;
mod fragments;
mod fragments_check;
#[cfg(target_arch = "x86_64")]
mod fragments_check_x86;
mod nm6b;
mod pattern;
mod simd;
mod t2;
mod t5;
mod values;
pub mod windows;

pub(crate) use content::content;
pub use content::{Content, ContentHasher, check_pattern, decode_batches};
pub use pattern::{ParsePatternError, Pattern};
pub(crate) use values::{check_scales, check_values};

/// How values are stored (SPEC §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// int8 with a scale per row.
    I8,
    /// Four trits a byte.
    T2,
    /// Five trits a byte.
    T5,
    /// Values and indices of 2:4 groups.
    NmVi,
    /// A 6-bit code per 2:4 group.
    Nm6b,
}

/// In which order the values of an encoding lie (SPEC §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Row after row.
    Rows,
    /// As sparse tensor cores read them.
    Fragments,
    /// Expanded to 2:4 windows, then as fragments.
    Windows,
}

/// The smallest run of rows whose bytes lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strip {
    /// Rows of a whole strip.
    pub rows: usize,
    /// Bytes of a strip, whole or not.
    pub bytes: usize,
}

/// A group that has more non-zeros than its encoding can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The row, counted from the first that was given.
    pub row: usize,
    /// The column where the group begins, or where it has one non-zero too many.
    pub col: usize,
}

/// Bytes that no encoder writes: which rule they break, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The rule's number.
    pub rule: u16,
    /// The row, counted from the first that was given.
    pub row: usize,
    /// The column.
    pub col: usize,
    /// What the rule wants.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Offence {
    fn new(rule: u16, row: usize, col: usize, expected: &str, found: impl ToString) -> Self {
        Self { rule, row, col, expected: expected.to_owned(), found: found.to_string() }
    }

    /// The same offence in a matrix whose first rows were left out.
    pub(crate) fn below(self, rows: usize) -> Self {
        Self { row: self.row + rows, ..self }
    }
}

impl Encoding {
    const ALL: [(Self, u16, &'static str); 8] = [
        (Self::F32, 1, "f32"),
        (Self::F16, 2, "f16"),
        (Self::Bf16, 3, "bf16"),
        (Self::I8, 4, "i8"),
        (Self::T2, 16, "t2"),
        (Self::T5, 17, "t5"),
        (Self::NmVi, 18, "nm-vi"),
        (Self::Nm6b, 19, "nm-6b"),
    ];

    /// The encoding with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|e| e.1 == id).map(|e| e.0)
    }

    /// The encoding with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|e| e.2 == name).map(|e| e.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u16 {
        Self::ALL[self as usize].1
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    /// Whether it holds trits.
    pub fn is_ternary(self) -> bool {
        matches!(self, Self::T2 | Self::T5 | Self::NmVi | Self::Nm6b)
    }

    /// Whether the encoding has this order.
    pub fn allows(self, order: Order) -> bool {
        match self {
            Self::NmVi => matches!(order, Order::Fragments | Order::Windows),
            _ => order == Order::Rows,
        }
    }

    /// Whether the encoding, in this order, can hold tensors of this pattern.
    pub fn allows_pattern(self, order: Order, pattern: Pattern) -> bool {
        match (self, order) {
            (Self::NmVi, Order::Windows) => pattern.windows().is_some(),
            (Self::NmVi | Self::Nm6b, _) => pattern.m() == 4 && pattern.n() <= 2,
            _ => pattern.is_dense() || self.is_ternary(),
        }
    }
}

impl Order {
    const ALL: [(Self, u16, &'static str); 3] =
        [(Self::Rows, 0, "rows"), (Self::Fragments, 1, "fragments"), (Self::Windows, 2, "windows")];

    /// The order with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|o| o.1 == id).map(|o| o.0)
    }

    /// The order with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|o| o.2 == name).map(|o| o.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u16 {
        Self::ALL[self as usize].1
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].2
    }
}

/// Bytes of the data of a matrix, or `None` where the encoding cannot hold it.
pub fn data_bytes(encoding: Encoding, order: Order, rows: u64, cols: u64, pattern: Pattern) -> Option<u64> {
    let fits = encoding.allows(order)
        && encoding.allows_pattern(order, pattern)
        && (pattern.is_dense() || cols.is_multiple_of(pattern.m() as u64));
    if !fits {
        return None;
    }
    match encoding {
        Encoding::F32 => rows.checked_mul(cols)?.checked_mul(4),
        Encoding::F16 | Encoding::Bf16 => rows.checked_mul(cols)?.checked_mul(2),
        Encoding::I8 => rows.checked_mul(cols),
        Encoding::T2 | Encoding::T5 | Encoding::NmVi | Encoding::Nm6b => {
            let strip = strip(encoding, order, usize::try_from(cols).ok()?, pattern);
            rows.div_ceil(strip.rows as u64).checked_mul(strip.bytes as u64)
        }
    }
}

/// The strip of a ternary encoding; for others a row of bytes.
pub fn strip(encoding: Encoding, order: Order, cols: usize, pattern: Pattern) -> Strip {
    let (rows, bytes) = match (encoding, order) {
        (Encoding::T2, _) => (1, t2::row_bytes(cols)),
        (Encoding::T5, _) => (1, t5::row_bytes(cols)),
        (Encoding::Nm6b, _) => (1, nm6b::row_bytes(cols)),
        (Encoding::NmVi, Order::Windows) => {
            (fragments::ROWS, fragments::strip_bytes(windows::expanded_cols(cols, pattern)))
        }
        (Encoding::NmVi, _) => (fragments::ROWS, fragments::strip_bytes(cols)),
        (Encoding::F32, _) => (1, 4 * cols),
        (Encoding::F16 | Encoding::Bf16, _) => (1, 2 * cols),
        (Encoding::I8, _) => (1, cols),
    };
    Strip { rows, bytes }
}

/// Encodes whole rows of trits into whole strips. `out` has the length that [`strip`] says; `cols` and `pattern` fit the encoding.
pub fn encode(
    encoding: Encoding,
    order: Order,
    pattern: Pattern,
    trits: &[i8],
    cols: usize,
    out: &mut [u8],
) -> Result<(), Illegal> {
    let strip = strip(encoding, order, cols, pattern);
    let mut scratch = [Vec::new(), Vec::new()];
    for (i, (trits, out)) in trits.chunks(strip.rows * cols).zip(out.chunks_exact_mut(strip.bytes)).enumerate() {
        let result = match (encoding, order) {
            (Encoding::T2, _) => {
                t2::encode_row(trits, out);
                Ok(())
            }
            (Encoding::T5, _) => {
                t5::encode_row(trits, out);
                Ok(())
            }
            (Encoding::Nm6b, _) => nm6b::encode_row(trits, out, &mut scratch[0]),
            (Encoding::NmVi, Order::Windows) => encode_windows(trits, cols, pattern, out, &mut scratch),
            _ => fragments::encode_strip(trits, cols, out, &mut scratch[0]),
        };
        result.map_err(|e| Illegal { row: e.row + i * strip.rows, ..e })?;
    }
    Ok(())
}

fn encode_windows(
    trits: &[i8],
    cols: usize,
    pattern: Pattern,
    out: &mut [u8],
    [scratch, packed]: &mut [Vec<u8>; 2],
) -> Result<(), Illegal> {
    let width = windows::expanded_cols(cols, pattern);
    fragments::encode_packed(trits.len() / cols, width, out, scratch, |row, placed| {
        windows::place_row(&trits[row * cols..][..cols], pattern, placed, packed)
    })
}

/// Elements of an expanded strip, 0 where nothing is expanded.
fn expanded_strip(order: Order, cols: usize, pattern: Pattern) -> usize {
    if order == Order::Windows { fragments::ROWS * windows::expanded_cols(cols, pattern) } else { 0 }
}

/// Decodes whole strips of a ternary encoding. `out` holds whole rows, in the last strip perhaps fewer than it could.
/// Bytes that no encoder writes decode to some trits.
pub fn decode(encoding: Encoding, order: Order, pattern: Pattern, bytes: &[u8], cols: usize, out: &mut [i8]) {
    let strip = strip(encoding, order, cols, pattern);
    let mut expanded = vec![0i8; expanded_strip(order, cols, pattern)];
    for (bytes, out) in bytes.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * cols)) {
        match (encoding, order) {
            (Encoding::T2, _) => t2::decode_row(bytes, out),
            (Encoding::T5, _) => t5::decode_row(bytes, out),
            (Encoding::Nm6b, _) => nm6b::decode_row(bytes, out),
            (Encoding::NmVi, Order::Windows) => {
                let width = windows::expanded_cols(cols, pattern);
                let expanded = &mut expanded[..out.len() / cols * width];
                fragments::decode_strip(bytes, width, expanded);
                for (wide, out) in expanded.chunks_exact(width).zip(out.chunks_exact_mut(cols)) {
                    windows::contract_row(wide, pattern, out);
                }
            }
            _ => fragments::decode_strip(bytes, cols, out),
        }
    }
}

/// Checks that whole strips of `rows` rows are what [`encode`] writes for some trits: the rules of SPEC §10 for the encoding. It does not check a
/// pattern that the encoding does not enforce; [`check_pattern`] does, on decoded rows.
pub fn validate(
    encoding: Encoding,
    order: Order,
    pattern: Pattern,
    bytes: &[u8],
    rows: usize,
    cols: usize,
) -> Result<(), Offence> {
    match (encoding, order) {
        (Encoding::T2, _) => t2::validate(bytes, cols),
        (Encoding::T5, _) => t5::validate(bytes, cols),
        (Encoding::Nm6b, _) => nm6b::validate(bytes, cols, pattern.n()),
        (Encoding::NmVi, Order::Windows) => validate_windows(bytes, rows, cols, pattern),
        (Encoding::NmVi, _) => fragments::validate(bytes, rows, cols, pattern.n()),
        _ => check_values(encoding, bytes),
    }
}

fn validate_windows(bytes: &[u8], rows: usize, cols: usize, pattern: Pattern) -> Result<(), Offence> {
    let width = windows::expanded_cols(cols, pattern);
    if fragments::validate_windows(bytes, rows, width, pattern.windows().unwrap_or(1))? {
        return Ok(());
    }
    let mut expanded = vec![0i8; expanded_strip(Order::Windows, cols, pattern)];
    for (i, bytes) in bytes.chunks_exact(fragments::strip_bytes(width)).enumerate() {
        let first = i * fragments::ROWS;
        let expanded = &mut expanded[..fragments::ROWS.min(rows - first) * width];
        fragments::decode_strip(bytes, width, expanded);
        for (row, wide) in expanded.chunks_exact(width).enumerate() {
            windows::check_row(wide, pattern, first + row)?;
        }
    }
    Ok(())
}
