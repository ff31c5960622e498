//! Tensor records and names, parsed into types that cannot be invalid (SPEC §5, §6).
//!
//! A record is checked against every rule that needs no payload byte. Nothing is allocated but the result: one [`Tensor`] and one name for each record.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::encoding::{Encoding, Order, Packing, Pattern};
use crate::error::{FormatError, Result, rule};
use crate::limits::{MAX_DIM, MAX_ELEMENTS, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS, RECORD_BYTES, TENSOR_ALIGN, up};
use crate::wire::{self, Record};

/// The only version of every execution order.
pub(crate) const ORDER_VERSION: u16 = 1;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The weight of a ternary linear layer.
    Linear,
    /// Rows looked up by token.
    Embedding,
    /// The weight of a norm.
    Norm,
    /// The output head.
    Head,
    /// Biases and whatever else a model has.
    Other,
}

impl Role {
    const ALL: [(Self, u16, &'static str); 5] = [
        (Self::Linear, 1, "linear"),
        (Self::Embedding, 2, "embedding"),
        (Self::Norm, 3, "norm"),
        (Self::Head, 4, "head"),
        (Self::Other, 5, "other"),
    ];

    /// The role with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().find(|r| r.1 == id).map(|r| r.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u16 {
        self.entry().1
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> (Self, u16, &'static str) {
        Self::ALL[self as usize]
    }
}

/// How the bytes of a tensor are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A layout of this version.
    Known(Packing),
    /// A layout of a later version, in a file that may be listed but not decoded.
    Opaque {
        /// The encoding's number.
        encoding: u16,
        /// The order's number.
        order: u16,
    },
}

/// A tensor: what it is called, what it means and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The name in the source checkpoint.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// How its bytes are to be read.
    pub layout: Layout,
    /// Its first byte in PAYLOAD.
    pub offset: u64,
    /// Length of data, padding and scales.
    pub stored_bytes: u64,
    /// Length of the data alone.
    pub data_bytes: u64,
    /// Number of scales: the rows, or 0.
    pub scale_count: u64,
    /// Non-zero trits of a ternary encoding.
    pub non_zero: u64,
    /// Digest of the stored bytes.
    pub stored_digest: Digest,
    /// Digest of the decoded content; independent of the layout.
    pub content_digest: Digest,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Rows and columns; a vector is one row, leading dimensions count as rows.
    pub fn matrix(&self) -> (u64, u64) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.elements() / cols, cols)
    }

    /// Stored bits for each element, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        self.stored_bytes as f64 * 8.0 / self.elements() as f64
    }

    /// Whether the encoding holds trits.
    pub fn is_ternary(&self) -> bool {
        matches!(self.layout, Layout::Known(packing) if packing.encoding.is_ternary())
    }

    /// Share of zero trits, for ternary encodings.
    pub fn zero_fraction(&self) -> Option<f64> {
        self.is_ternary().then(|| 1.0 - self.non_zero as f64 / self.elements() as f64)
    }

    /// The declared sparsity, for ternary encodings.
    pub fn pattern(&self) -> Option<Pattern> {
        match self.layout {
            Layout::Known(packing) if packing.encoding.is_ternary() => Some(packing.pattern),
            _ => None,
        }
    }

    /// What the bytes under the content digest are: scaled integers are 0 in every encoding, each type of float is its own, and so is what this reader
    /// does not know. The same two bytes are different numbers in f16 and bf16.
    pub(crate) fn element_kind(&self) -> u16 {
        match self.layout {
            Layout::Known(Packing { encoding, .. }) if encoding.is_ternary() || encoding == Encoding::I8 => 0,
            Layout::Known(Packing { encoding, .. }) => encoding.id(),
            Layout::Opaque { encoding, .. } => encoding,
        }
    }

    /// First byte of the scales within the tensor's bytes.
    pub(crate) fn scales_offset(&self) -> u64 {
        up(self.data_bytes, TENSOR_ALIGN)
    }
}

/// Parses and checks TENSORS and NAMES. `opaque` says that the file may hold layouts that this reader does not know.
pub(crate) fn parse(tensors: &[u8], names: &[u8], payload_bytes: u64, opaque: bool) -> Result<Vec<Tensor>> {
    let count = tensors.len() / RECORD_BYTES;
    if !tensors.len().is_multiple_of(RECORD_BYTES) || !(1..=MAX_TENSORS).contains(&count) {
        let found = format!("{} bytes", tensors.len());
        return Err(FormatError::invalid(rule::RECORD_COUNT, "TENSORS", "1 to 65536 records of 160 bytes", found));
    }
    let records: &[Record] = wire::slice(tensors);
    let mut parsed = Vec::with_capacity(count);
    for (i, record) in records.iter().enumerate() {
        parsed.push(Checked { record, names, index: i, opaque }.tensor()?);
    }
    check_offsets(&parsed, payload_bytes)?;
    check_names(records, names, &mut parsed)?;
    Ok(parsed)
}

/// One record under examination.
struct Checked<'a> {
    record: &'a Record,
    names: &'a [u8],
    index: usize,
    opaque: bool,
}

impl Checked<'_> {
    fn tensor(&self) -> Result<Tensor> {
        let r = self.record;
        let role = Role::from_id(r.role.get());
        if role.is_none() && !self.opaque {
            return Err(self.invalid(rule::ROLE, "role 1 to 5", r.role.get()));
        }
        let layout_ids = self.layout_ids()?;
        let shape = self.shape()?;
        let layout = match layout_ids.map(|(encoding, order)| self.layout(encoding, order, &shape)) {
            Some(Ok(layout)) => layout,
            Some(Err(e)) if !self.opaque => return Err(e),
            _ => {
                self.reserved()?;
                Layout::Opaque { encoding: r.encoding.get(), order: r.order.get() }
            }
        };
        Ok(Tensor {
            name: String::new(),
            role: role.unwrap_or(Role::Other),
            shape,
            layout,
            offset: r.offset.get(),
            stored_bytes: r.stored_bytes.get(),
            data_bytes: r.data_bytes.get(),
            scale_count: r.scale_count.get(),
            non_zero: r.non_zero.get(),
            stored_digest: Digest(r.stored_digest),
            content_digest: Digest(r.content_digest),
        })
    }

    /// Everything that follows from a known encoding and order (R045 to R056).
    fn layout(&self, encoding: Encoding, order: Order, shape: &[u64]) -> Result<Layout> {
        let pattern = self.pattern(encoding, order, shape)?;
        let packing = Packing { encoding, order, pattern };
        self.sizes(packing, shape)?;
        self.reserved()?;
        self.counts(encoding, shape.iter().product())?;
        Ok(Layout::Known(packing))
    }

    fn reserved(&self) -> Result<()> {
        match self.record.reserved.get() {
            0 => Ok(()),
            found => Err(self.invalid(rule::RECORD_RESERVED, "a reserved field of 0", found)),
        }
    }

    fn layout_ids(&self) -> Result<Option<(Encoding, Order)>> {
        let r = self.record;
        let Some(encoding) = Encoding::from_id(r.encoding.get()) else {
            return if self.opaque {
                Ok(None)
            } else {
                Err(self.invalid(rule::ENCODING, "a known encoding", r.encoding.get()))
            };
        };
        let order = Order::from_id(r.order.get()).filter(|&order| encoding.allows(order));
        match order {
            Some(order) if r.order_version.get() == ORDER_VERSION => Ok(Some((encoding, order))),
            _ if self.opaque => Ok(None),
            _ => {
                let expected = format!("an order of {}, version 1", encoding.name());
                let found = format!("order {}, version {}", r.order.get(), r.order_version.get());
                Err(self.invalid(rule::ORDER, &expected, found))
            }
        }
    }

    fn shape(&self) -> Result<Vec<u64>> {
        let dims = self.record.shape.map(|d| d.get());
        let rank = usize::from(self.record.rank);
        let (used, unused) = dims.split_at(rank.min(MAX_RANK));
        if rank > MAX_RANK || elements(used).is_none() || unused.iter().any(|&d| d != 0) {
            let found = format!("{dims:?}, rank {rank}");
            return Err(self.invalid(rule::SHAPE, "1 to 4 dimensions of 1 to 2^31, 2^40 elements", found));
        }
        Ok(used.to_vec())
    }

    fn pattern(&self, encoding: Encoding, order: Order, shape: &[u64]) -> Result<Pattern> {
        let r = self.record;
        let has_rows = encoding.is_ternary() || encoding == Encoding::I8;
        if has_rows && shape.len() != 2 {
            return Err(self.invalid(rule::RANK_OF_ENCODING, &format!("rank 2 for {}", encoding.name()), shape.len()));
        }
        if r.role.get() == Role::Linear.id() && !encoding.is_ternary() {
            return Err(self.invalid(rule::RANK_OF_ENCODING, "a ternary encoding for a linear", encoding.name()));
        }
        let found = format!("{}:{}", r.n, r.m);
        let pattern = Pattern::from_ids(r.n, r.m).filter(|p| p.is_dense() || encoding.is_ternary());
        let Some(pattern) = pattern else {
            return Err(self.invalid(rule::PATTERN, "0:0, or N:M of a ternary tensor with 1 ≤ N < M ≤ 16", found));
        };
        if (r.group_axis == 1) == pattern.is_dense() || r.group_axis > 1 {
            return Err(self.invalid(rule::GROUP_AXIS, "group axis 1 with a pattern, else 0", r.group_axis));
        }
        let cols = shape.last().copied().unwrap_or(1);
        if !pattern.is_dense() && !cols.is_multiple_of(u64::from(r.m)) {
            return Err(self.invalid(rule::GROUPS_IN_ROW, &format!("columns a multiple of {}", r.m), cols));
        }
        if !encoding.allows_pattern(order, pattern) {
            let expected = format!("a pattern of {} in order {}", encoding.name(), order.name());
            return Err(self.invalid(rule::PATTERN_OF_ENCODING, &expected, found));
        }
        Ok(pattern)
    }

    fn sizes(&self, packing: Packing, shape: &[u64]) -> Result<()> {
        let r = self.record;
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<u64>() / cols;
        let has_scales = packing.encoding.is_ternary() || packing.encoding == Encoding::I8;
        let scales = if has_scales { rows } else { 0 };
        if r.scale_count.get() != scales {
            return Err(self.invalid(rule::SCALE_COUNT, &format!("{scales} scales"), r.scale_count.get()));
        }
        let data = packing.data_bytes(rows, cols);
        if Some(r.data_bytes.get()) != data {
            let expected = format!("{} bytes of data", data.unwrap_or(0));
            return Err(self.invalid(rule::DATA_BYTES, &expected, r.data_bytes.get()));
        }
        let stored = stored_bytes(r.data_bytes.get(), scales);
        if r.stored_bytes.get() != stored {
            return Err(self.invalid(rule::STORED_BYTES, &format!("{stored} stored bytes"), r.stored_bytes.get()));
        }
        Ok(())
    }

    fn counts(&self, encoding: Encoding, elements: u64) -> Result<()> {
        let r = self.record;
        let most = if encoding.is_ternary() { elements } else { 0 };
        if r.non_zero.get() > most {
            return Err(self.invalid(rule::COUNTS_AND_DIGESTS, &format!("at most {most} non-zeros"), r.non_zero.get()));
        }
        let is_float = !encoding.is_ternary() && encoding != Encoding::I8;
        if is_float && r.content_digest != r.stored_digest {
            return Err(self.invalid(rule::COUNTS_AND_DIGESTS, "a content digest equal to the stored one", "another"));
        }
        Ok(())
    }

    fn invalid(&self, rule: u16, expected: &str, found: impl ToString) -> FormatError {
        FormatError::invalid(rule, &subject(self.index, self.record, self.names), expected, found.to_string())
    }
}

/// The number of elements, if the format allows the shape (SBNC-R044).
pub(crate) fn elements(shape: &[u64]) -> Option<u64> {
    if !(1..=MAX_RANK).contains(&shape.len()) || shape.iter().any(|d| !(1..=MAX_DIM).contains(d)) {
        return None;
    }
    // Four dimensions of 2^31 fit 128 bits.
    let product: u128 = shape.iter().map(|&d| u128::from(d)).product();
    (product <= u128::from(MAX_ELEMENTS)).then_some(product as u64)
}

/// Length of an extent: data, and where there are scales, padding and the scales.
pub(crate) fn stored_bytes(data_bytes: u64, scales: u64) -> u64 {
    if scales == 0 { data_bytes } else { up(data_bytes, TENSOR_ALIGN) + 4 * scales }
}

/// The record's number and, if it can be had, its name: for errors.
fn subject(index: usize, record: &Record, names: &[u8]) -> String {
    let start = record.name_offset.get() as usize;
    let name = start.checked_add(record.name_bytes.get() as usize).and_then(|end| names.get(start..end));
    match name.filter(|n| n.len() <= MAX_NAME_BYTES) {
        Some(name) => format!("tensor {index} '{}'", name.escape_ascii()),
        None => format!("tensor {index}"),
    }
}

fn check_offsets(tensors: &[Tensor], payload_bytes: u64) -> Result<()> {
    let mut end = 0u128;
    for (i, t) in tensors.iter().enumerate() {
        let expected = end.next_multiple_of(u128::from(TENSOR_ALIGN));
        if u128::from(t.offset) != expected {
            let expected = format!("offset {expected}");
            return Err(FormatError::invalid(
                rule::TENSOR_OFFSET,
                &format!("tensor {i}"),
                &expected,
                t.offset.to_string(),
            ));
        }
        end = u128::from(t.offset) + u128::from(t.stored_bytes);
    }
    if end != u128::from(payload_bytes) {
        let expected = format!("an end at {payload_bytes}");
        return Err(FormatError::invalid(rule::TENSOR_END, "last tensor", &expected, end.to_string()));
    }
    Ok(())
}

fn check_names(records: &[Record], names: &[u8], tensors: &mut [Tensor]) -> Result<()> {
    let mut end = 0u64;
    for (i, record) in records.iter().enumerate() {
        let (start, bytes) = (u64::from(record.name_offset.get()), u64::from(record.name_bytes.get()));
        if start != end || start + bytes > names.len() as u64 {
            let expected = format!("a name at {end}, within {} bytes", names.len());
            let found = format!("{start} + {bytes}");
            return Err(FormatError::invalid(rule::NAME_RANGE, &format!("tensor {i}"), &expected, found));
        }
        end = start + bytes;
    }
    if end != names.len() as u64 {
        let expected = format!("an end at {}", names.len());
        return Err(FormatError::invalid(rule::NAME_RANGE, "last name", &expected, end.to_string()));
    }
    for (i, (record, tensor)) in records.iter().zip(tensors.iter_mut()).enumerate() {
        let start = record.name_offset.get() as usize;
        let name = &names[start..start + record.name_bytes.get() as usize];
        tensor.name = checked_name(name).ok_or_else(|| {
            let found = format!("{} bytes, '{}'", name.len(), name[..name.len().min(MAX_NAME_BYTES)].escape_ascii());
            let expected = "1 to 256 printable ASCII characters without quote and backslash";
            FormatError::invalid(rule::NAME_TEXT, &format!("name of tensor {i}"), expected, found)
        })?;
    }
    let mut seen = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
        Some(twice) => Err(FormatError::invalid(rule::NAME_UNIQUE, &format!("tensor '{}'", twice.name), "one", "two")),
        None => Ok(()),
    }
}

/// The name, if the format allows it (SBNC-R061).
pub fn checked_name(name: &[u8]) -> Option<String> {
    let allowed = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.iter().all(allowed);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}
