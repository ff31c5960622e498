//! Checking payload bytes: padding, digests, the rules of every encoding, and on request the decoded content.
//!
//! All tensors are cut into blocks, and the blocks are shared out to all threads; a block is hashed and its rules are checked while it is in the
//! cache, so verifying costs little more than hashing.

use rayon::prelude::*;

use crate::digest::{BLOCK_BYTES, BlockHash, Digest, hash_block, join};
use crate::encoding::{self, Encoding, Offence, Order, Packing, Pattern};
use crate::error::{FormatError, Result, rule};
use crate::file::{Sbnc, TensorView};
use crate::header::{self, section};
use crate::record::Tensor;

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Digests, padding and the rules of every encoding.
    Stored,
    /// Also decode every tensor, check declared patterns and compare the digests of the content.
    Decoded,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verification {
    /// Payload bytes that were checked.
    pub bytes: u64,
    /// Every broken rule, in the order of the file; at most one for each tensor and check.
    pub problems: Vec<FormatError>,
}

impl Verification {
    /// The first problem, if there is one.
    pub fn result(self) -> Result<()> {
        self.problems.into_iter().next().map_or(Ok(()), Err)
    }
}

/// A ternary or int8 or float tensor whose bytes were checked: what kernels take.
///
/// Only [`TensorView::validate`] makes one, so no unchecked byte reaches hardware that it could confuse.
#[derive(Clone, Copy, Debug)]
pub struct Validated<'a> {
    view: TensorView<'a>,
    packing: Packing,
}

impl<'a> Validated<'a> {
    /// A tensor that was validated before: for [`Sbnc::proven`] alone.
    pub(crate) fn proven(view: TensorView<'a>) -> Option<Self> {
        Some(Self { view, packing: view.packing().ok()? })
    }

    /// The tensor's record.
    pub fn tensor(&self) -> &'a Tensor {
        self.view.tensor()
    }

    /// The stored data without scales.
    pub fn data(&self) -> &'a [u8] {
        self.view.data()
    }

    /// One multiplier for each row of a ternary or int8 tensor.
    pub fn scales(&self) -> Vec<f32> {
        self.view.scales()
    }

    /// How the values lie in the data.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// How values are stored.
    pub fn encoding(&self) -> Encoding {
        self.packing.encoding
    }

    /// In which order.
    pub fn order(&self) -> Order {
        self.packing.order
    }

    /// The declared sparsity.
    pub fn pattern(&self) -> Pattern {
        self.packing.pattern
    }

    /// Rows and columns.
    pub fn matrix(&self) -> (usize, usize) {
        let (rows, cols) = self.tensor().matrix();
        (rows as usize, cols as usize)
    }
}

impl<B: AsRef<[u8]> + Sync> Sbnc<B> {
    /// Checks the payload and the carried files. `progress` is called from any thread with a number of bytes just done.
    pub fn verify(&self, depth: Depth, progress: &(dyn Fn(u64) + Sync)) -> Verification {
        let mut problems = Vec::new();
        self.check_cold_sections(&mut problems);
        problems.extend(self.check_gaps());
        let decodable = self.is_decodable();
        let views: Vec<_> = self.views().collect();
        for (view, outcome) in views.iter().zip(check_blocks(&views, decodable, progress)) {
            // What is damaged as it lies need not be decoded to know that it is.
            let decode = depth == Depth::Decoded && decodable;
            let outcome = outcome.and_then(|()| if decode { view.check_content() } else { Ok(()) });
            problems.extend(outcome.err());
        }
        if depth == Depth::Decoded {
            problems.extend(self.require_decodable().err());
        }
        Verification { bytes: self.payload().len() as u64, problems }
    }

    /// Carried files and sections of kinds that this reader does not know.
    pub(crate) fn check_cold_sections(&self, problems: &mut Vec<FormatError>) {
        let cold = |kind| !matches!(kind, section::TENSORS | section::NAMES | section::MANIFEST);
        for s in self.header().sections.iter().filter(|s| cold(s.kind)) {
            problems.extend(header::check_digest(s, self.bytes()).err());
        }
        for file in &self.manifest().files {
            problems.extend(self.carried(&file.name).err());
        }
    }

    /// Padding between tensors.
    fn check_gaps(&self) -> Option<FormatError> {
        let payload = self.payload();
        let starts = self.tensors().iter().skip(1).map(|t| t.offset as usize);
        self.tensors().iter().zip(starts).find_map(|(t, next)| {
            let end = (t.offset + t.stored_bytes) as usize;
            non_zero_padding(&payload[end..next], &format!("padding after tensor '{}'", t.name))
        })
    }
}

/// Cuts the extents of some tensors into blocks and shares them out; the outcome for each tensor.
fn check_blocks(views: &[TensorView<'_>], decodable: bool, progress: &(dyn Fn(u64) + Sync)) -> Vec<Result<()>> {
    let count = |view: &TensorView<'_>| view.extent().len().div_ceil(BLOCK_BYTES);
    let blocks: Vec<(usize, usize)> =
        views.iter().enumerate().flat_map(|(i, view)| (0..count(view)).map(move |block| (i, block))).collect();
    let done: Vec<(BlockHash, Result<()>)> = blocks
        .par_iter()
        .map(|&(i, index)| {
            let extent = views[i].extent();
            let block = &extent[index * BLOCK_BYTES..extent.len().min((index + 1) * BLOCK_BYTES)];
            let hash = hash_block(block, index, extent.len());
            let rules = views[i].check_block(index, decodable);
            progress(block.len() as u64);
            (hash, rules)
        })
        .collect();
    let mut done = done.into_iter();
    let mut of_tensor = |view: &TensorView<'_>| {
        let (hashes, rules): (Vec<_>, Vec<_>) = done.by_ref().take(count(view)).unzip();
        view.check_digest(join(&hashes))?;
        rules.into_iter().collect::<Result<()>>()?;
        view.check_tail()
    };
    views.iter().map(&mut of_tensor).collect()
}

impl<'a> TensorView<'a> {
    /// Checks everything about this tensor: its digest, its rules and its decoded content.
    pub fn verify(&self) -> Result<()> {
        check_blocks(&[*self], self.packing().is_ok(), &|_| {}).into_iter().collect::<Result<()>>()?;
        self.check_content()
    }

    /// Checks the rules of the tensor's encoding (not its digest) and gives the type that kernels take.
    pub fn validate(&self) -> Result<Validated<'a>> {
        let packing = self.packing()?;
        let blocks = self.extent().len().div_ceil(BLOCK_BYTES);
        (0..blocks).into_par_iter().try_for_each(|index| self.check_block(index, true))?;
        self.check_tail()?;
        Ok(Validated { view: *self, packing })
    }

    fn check_digest(&self, found: Digest) -> Result<()> {
        let expected = self.tensor().stored_digest;
        if found == expected {
            return Ok(());
        }
        Err(FormatError::integrity(
            rule::STORED_DIGEST,
            &self.subject(),
            &format!("digest {expected}"),
            found.to_string(),
        ))
    }

    /// Rules of the rows that begin in block `index`. The rows of one strip lie together, so a block's rows reach into the next block at most by one strip.
    /// Nothing is checked of a file that may only be listed.
    fn check_block(&self, index: usize, decodable: bool) -> Result<()> {
        let packing = match self.packing() {
            Err(_) if !decodable => return Ok(()),
            packing => packing?,
        };
        let (data, (rows, cols)) = (self.data(), self.tensor().matrix());
        let (start, end) = (index * BLOCK_BYTES, ((index + 1) * BLOCK_BYTES).min(data.len()));
        if start >= end {
            return Ok(());
        }
        if !packing.encoding.is_ternary() {
            return encoding::check_values(packing.encoding, &data[start..end])
                .map_err(|e| self.value_offence(&e, start));
        }
        let strip = packing.strip(cols as usize);
        let strips = start.div_ceil(strip.bytes)..end.div_ceil(strip.bytes);
        if strips.is_empty() {
            return Ok(());
        }
        let first_row = strips.start * strip.rows;
        let rows_here = (rows as usize).min(strips.end * strip.rows) - first_row;
        let bytes = &data[strips.start * strip.bytes..strips.end * strip.bytes];
        packing.validate(bytes, rows_here, cols as usize).map_err(|e| self.offence(e.below(first_row)))
    }

    /// Padding before the scales, and the scales.
    fn check_tail(&self) -> Result<()> {
        let t = self.tensor();
        if t.scale_count == 0 || self.packing().is_err() {
            return Ok(());
        }
        let padding = &self.extent()[t.data_bytes as usize..t.scales_offset() as usize];
        if let Some(problem) = non_zero_padding(padding, &format!("{} before its scales", self.subject())) {
            return Err(problem);
        }
        encoding::check_scales(self.scale_bytes()).map_err(|e| self.offence(e))
    }

    /// Decodes everything and compares with the record (SBNC-R076, R077).
    fn check_content(&self) -> Result<()> {
        let t = self.tensor();
        let packing = self.packing()?;
        if !packing.encoding.is_ternary() {
            // Floats: the record's two digests are equal. Int8: data and scales with no padding between.
            if packing.encoding == Encoding::I8 {
                let mut hasher = blake3::Hasher::new();
                hasher.update_rayon(self.data()).update(self.scale_bytes());
                return self.compare_content(hasher.finalize().into(), 0);
            }
            return Ok(());
        }
        let (rows, cols) = t.matrix();
        let content = packing
            .content(self.data(), (rows as usize, cols as usize), self.scale_bytes())
            .map_err(|e| self.offence(e))?;
        self.compare_content(content.digest, content.non_zero)
    }

    fn compare_content(&self, digest: Digest, non_zero: u64) -> Result<()> {
        let t = self.tensor();
        if digest != t.content_digest {
            let expected = format!("content digest {}", t.content_digest);
            return Err(FormatError::integrity(rule::CONTENT, &self.subject(), &expected, digest.to_string()));
        }
        if non_zero != t.non_zero {
            let expected = format!("{} non-zeros", t.non_zero);
            return Err(FormatError::integrity(rule::CONTENT, &self.subject(), &expected, non_zero.to_string()));
        }
        Ok(())
    }

    fn subject(&self) -> String {
        format!("tensor '{}'", self.tensor().name)
    }

    fn offence(&self, Offence { rule, row, col, expected, found }: Offence) -> FormatError {
        let subject = format!("{}, row {row}, column {col}", self.subject());
        FormatError::invalid(rule, &subject, &expected, found)
    }

    /// An offence of a value that was found by its place after byte `start` of the data.
    fn value_offence(&self, e: &Offence, start: usize) -> FormatError {
        let (elements, bytes) = (self.tensor().elements(), self.tensor().data_bytes);
        let element = e.col as u64 + start as u64 / (bytes / elements);
        FormatError::invalid(e.rule, &format!("{}, element {element}", self.subject()), &e.expected, e.found.clone())
    }
}

fn non_zero_padding(padding: &[u8], subject: &str) -> Option<FormatError> {
    let at = padding.iter().position(|&b| b != 0)?;
    let found = format!("{:#04x} at byte {at} of it", padding[at]);
    Some(FormatError::invalid(rule::TENSOR_PADDING, subject, "zero bytes", found))
}
