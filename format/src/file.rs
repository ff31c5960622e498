//! An open file: typed views of everything it holds.
//!
//! Opening validates the structure and copies it, so nothing that steers control flow is read from the map again; payload bytes are neither read nor
//! checked. [`verify`](crate::verify) checks them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::encoding::Packing;
use crate::error::{FormatError, Result, rule};
use crate::header::{Header, Section, section};
use crate::manifest::{Codec, FileEntry, Manifest};
use crate::record::{self, Layout, Tensor};
use crate::verify::Validated;

/// An sbnc file over bytes that are mapped, borrowed or owned.
///
/// ```no_run
/// let bytes = std::fs::read("model.sbnc")?;
/// let file = sbnc_format::Sbnc::open(bytes)?;
/// for tensor in file.tensors() {
///     println!("{} {:?} {:.2} bits per weight", tensor.name, tensor.shape, tensor.bits_per_weight());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sbnc<B> {
    bytes: B,
    header: Header,
    tensors: Vec<Tensor>,
    /// Indices into `tensors`, in ascending order of name.
    by_name: Vec<u32>,
    manifest: Manifest,
    payload: usize,
    /// Tells this opening from all others of this process.
    opening: u64,
}

/// Counts openings.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// That a tensor of one open file was checked, see [`Sbnc::prove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    opening: u64,
    index: usize,
}

/// A tensor of an open file and its bytes, unchecked.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    tensor: &'a Tensor,
    extent: &'a [u8],
    /// Whether the file needs nothing for decoding that this reader lacks.
    decodable: bool,
}

impl<B: AsRef<[u8]>> Sbnc<B> {
    /// Checks the structure of a file: every rule of SPEC §3 to §8 that needs no payload byte and no carried file. It reads the header, the
    /// tables and the manifest, whatever the size of the rest, and allocates in proportion to them.
    pub fn open(bytes: B) -> Result<Self> {
        let file = bytes.as_ref();
        let header = Header::parse(file)?;
        let part = |kind| header.section(kind).map_or(&[][..], |s| &file[s.range()]);
        let payload = header.section(section::PAYLOAD).map_or(0..0, Section::range);
        let opaque = header.inspect_only != 0;
        let tensors = record::parse(part(section::TENSORS), part(section::NAMES), payload.len() as u64, opaque)?;
        let manifest = Manifest::parse(part(section::MANIFEST))?;
        check_files_length(&manifest, header.section(section::FILES))?;
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        by_name.sort_unstable_by_key(|&i| tensors[i as usize].name.as_str());
        let opening = OPENINGS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { header, tensors, by_name, manifest, payload: payload.start, opening, bytes })
    }

    /// The digest that names the file.
    pub fn root(&self) -> Digest {
        self.header.root
    }

    /// Prefix and section table.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let at = self.by_name.binary_search_by_key(&name, |&i| self.tensors[i as usize].name.as_str()).ok()?;
        Some(self.view(&self.tensors[self.by_name[at] as usize]))
    }

    /// Checks the rules of a tensor's encoding ([`TensorView::validate`]) and gives a proof that outlives the view: what keeps an open file can have
    /// the checked tensor back at any time, without a second check. `None` if there is no tensor of this name.
    pub fn prove(&self, name: &str) -> Option<Result<Proof>> {
        let view = self.tensor(name)?;
        let index = self.tensors.partition_point(|t| t.offset < view.tensor.offset);
        Some(view.validate().map(|_| Proof { opening: self.opening, index }))
    }

    /// The tensor that was proved valid, or `None` for a proof of another opening.
    pub fn proven(&self, proof: Proof) -> Option<Validated<'_>> {
        let tensor = self.tensors.get(proof.index).filter(|_| proof.opening == self.opening)?;
        Validated::proven(self.view(tensor))
    }

    /// Views of all tensors, in the order of their bytes.
    pub fn views(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|t| self.view(t))
    }

    /// The decoded bytes of a carried file, checked against its digest, or `None` if the file carries none of that name.
    pub fn carried(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut offset = 0usize;
        for entry in &self.manifest.files {
            let stored = entry.stored as usize;
            if entry.name == name {
                let files = self.header.section(section::FILES).map_or(&[][..], |s| &self.bytes.as_ref()[s.range()]);
                return decode_carried(entry, &files[offset..offset + stored]).map(Some);
            }
            offset += stored;
        }
        Ok(None)
    }

    /// A digest of the model itself: names, shapes and content of all tensors, whatever their encoding, order and file. Two files with the same one
    /// hold the same weights.
    pub fn content(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for &i in &self.by_name {
            let tensor = &self.tensors[i as usize];
            hasher.update(tensor.name.as_bytes()).update(&[0, tensor.shape.len() as u8]);
            for dim in &tensor.shape {
                hasher.update(&dim.to_le_bytes());
            }
            hasher.update(&tensor.element_kind().to_le_bytes());
            hasher.update(&tensor.content_digest.0);
        }
        hasher.finalize().into()
    }

    /// Fails if the file needs a feature that this reader lacks to decode it.
    pub fn require_decodable(&self) -> Result<()> {
        if self.is_decodable() {
            return Ok(());
        }
        let found = format!("bit {}; use a newer reader", self.header.inspect_only.trailing_zeros());
        Err(FormatError::unsupported(rule::INSPECT_ONLY, "prefix", "features known for decoding", found))
    }

    /// What holds the bytes.
    pub fn storage(&self) -> &B {
        &self.bytes
    }

    /// The bytes of the file that a tensor takes.
    pub fn range_of(&self, tensor: &Tensor) -> std::ops::Range<usize> {
        let start = self.payload + tensor.offset as usize;
        start..start + tensor.stored_bytes as usize
    }

    pub(crate) fn is_decodable(&self) -> bool {
        self.header.inspect_only == 0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    pub(crate) fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        TensorView { tensor, extent: &self.bytes()[self.range_of(tensor)], decodable: self.is_decodable() }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.header.section(section::PAYLOAD).map_or(&[], |s| &self.bytes()[s.range()])
    }
}

impl<'a> TensorView<'a> {
    /// What the record says.
    pub fn tensor(&self) -> &'a Tensor {
        self.tensor
    }

    /// All stored bytes: data, padding, scales.
    pub fn extent(&self) -> &'a [u8] {
        self.extent
    }

    /// The data without padding and scales. Of a layout that this reader does not know it is all bytes.
    pub fn data(&self) -> &'a [u8] {
        match self.tensor.layout {
            Layout::Known(_) => &self.extent[..self.tensor.data_bytes as usize],
            Layout::Opaque { .. } => self.extent,
        }
    }

    /// The bytes of the scales, four for each; none of a layout that this reader does not know.
    pub fn scale_bytes(&self) -> &'a [u8] {
        match self.tensor.layout {
            Layout::Known(_) if self.tensor.scale_count > 0 => &self.extent[self.tensor.scales_offset() as usize..],
            _ => &[],
        }
    }

    /// The layout, if the file may be decoded.
    pub(crate) fn packing(&self) -> Result<Packing> {
        match self.tensor.layout {
            Layout::Known(packing) if self.decodable => Ok(packing),
            _ => {
                let subject = format!("tensor '{}'", self.tensor.name);
                let expected = "a file of known features";
                Err(FormatError::unsupported(rule::INSPECT_ONLY, &subject, expected, "others; use a newer reader"))
            }
        }
    }

    /// The scales: one multiplier for each row, or none.
    pub fn scales(&self) -> Vec<f32> {
        self.scale_bytes().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

fn check_files_length(manifest: &Manifest, files: Option<&Section>) -> Result<()> {
    // At most 64 entries, each bounded only by its type here: sum in 128 bits.
    let sum: u128 = manifest.files.iter().map(|f| u128::from(f.stored)).sum();
    let length = files.map_or(0, |s| u128::from(s.bytes));
    if sum == length {
        return Ok(());
    }
    let expected = format!("{sum} bytes, as the manifest says");
    Err(FormatError::invalid(rule::FILES_LENGTH, "section FILES", &expected, length.to_string()))
}

fn decode_carried(entry: &FileEntry, stored: &[u8]) -> Result<Vec<u8>> {
    let subject = format!("file '{}'", entry.name);
    let raw = entry.raw as usize;
    let decoded = match entry.codec {
        Codec::Raw => stored.to_vec(),
        Codec::Zstd => crate::frame::decode(stored, raw).map_err(|found| {
            FormatError::invalid(rule::FILE_CONTENT, &subject, &format!("a frame of {raw} bytes"), found)
        })?,
    };
    let digest = Digest::of(&decoded).to_string();
    if digest != entry.blake3 {
        return Err(FormatError::integrity(rule::FILE_CONTENT, &subject, &entry.blake3, digest));
    }
    Ok(decoded)
}
