//! Prefix and section table: what a file is, whether this reader may use it, and where its sections are (SPEC §3, §4).
//!
//! Checks run in the order of the specification and touch only the header, the padding between sections and the small sections. What the sections
//! hold is not looked at here.

use std::ops::Range;

use crate::digest::Digest;
use crate::error::{FormatError, Result, rule};
use crate::limits::{
    MAGIC, MAJOR, MAX_BYTES, MAX_SECTIONS, PACKED_MAGIC, PREFIX_BYTES, SECTION_ALIGN, SECTION_ENTRY_BYTES,
};
use crate::wire::{self, Prefix, SectionEntry};

/// Kinds of sections.
pub mod section {
    /// Tensor records.
    pub const TENSORS: u32 = 16;
    /// Names of the tensors.
    pub const NAMES: u32 = 32;
    /// The manifest.
    pub const MANIFEST: u32 = 48;
    /// Carried files.
    pub const FILES: u32 = 64;
    /// Bytes of the tensors.
    pub const PAYLOAD: u32 = 128;

    /// The name of a kind, for people.
    pub fn name(kind: u32) -> &'static str {
        match kind {
            TENSORS => "TENSORS",
            NAMES => "NAMES",
            MANIFEST => "MANIFEST",
            FILES => "FILES",
            PAYLOAD => "PAYLOAD",
            _ => "unknown",
        }
    }
}

/// The bit of a section's flags that forbids a reader to skip it.
pub(crate) const REQUIRED: u32 = 1;

/// A section: what it is and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// One of [`section`], or a kind that this reader does not know and may skip.
    pub kind: u32,
    /// Whether a reader that does not know the kind must refuse the file.
    pub required: bool,
    /// First byte in the file.
    pub offset: u64,
    /// Length without padding.
    pub bytes: u64,
    /// Digest of the bytes; zero for the payload, which the records cover.
    pub digest: Digest,
}

impl Section {
    /// The bytes of the section as a range of the file.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..(self.offset + self.bytes) as usize
    }
}

/// A checked prefix and section table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Informational version.
    pub minor: u16,
    /// Feature bits that may be ignored.
    pub compatible: u64,
    /// Feature bits that forbid decoding; not 0 only when this reader knows none of them.
    pub inspect_only: u64,
    /// Digest that names the file.
    pub root: Digest,
    /// The sections, in file order.
    pub sections: Vec<Section>,
}

impl Header {
    /// Parses and checks the header of a file whose bytes are `file`.
    pub(crate) fn parse(file: &[u8]) -> Result<Self> {
        let prefix = check_prefix(file)?;
        let header_bytes = prefix.header_bytes.get() as usize;
        let entries: &[SectionEntry] = wire::slice(&file[PREFIX_BYTES..header_bytes]);
        let sections = check_sections(entries, file)?;
        Ok(Self {
            minor: prefix.minor.get(),
            compatible: prefix.compatible.get(),
            inspect_only: prefix.inspect_only.get(),
            root: Digest(prefix.root),
            sections,
        })
    }

    /// The section of a kind that `check_sections` found to be present, or `None` for one that may be absent.
    pub fn section(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == kind)
    }
}

/// The root digest of a header: its digest with the slot for the digest itself taken as zero.
pub(crate) fn root_of(header: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..PREFIX_BYTES - 32]).update(&[0; 32]).update(&header[PREFIX_BYTES..]);
    Digest(*hasher.finalize().as_bytes())
}

fn check_prefix(file: &[u8]) -> Result<Prefix> {
    let length = file.len() as u64;
    let Some(prefix) = wire::read::<Prefix>(file) else {
        return Err(FormatError::invalid(rule::LENGTH, "file", "at least 96 bytes", format!("{length}")));
    };
    if prefix.magic != MAGIC {
        return Err(FormatError::invalid(rule::MAGIC, "magic", "the magic of an sbnc file", diagnose_magic(file)));
    }
    if prefix.major.get() != MAJOR {
        let found = format!("{}; use a newer reader", prefix.major.get());
        return Err(FormatError::unsupported(rule::MAJOR, "prefix", "major version 1", found));
    }
    let count = prefix.section_count.get();
    if !(1..=MAX_SECTIONS).contains(&count) {
        return Err(FormatError::invalid(rule::SECTION_COUNT, "section_count", "1 to 64", count.to_string()));
    }
    let header_bytes = prefix.header_bytes.get();
    let expected = PREFIX_BYTES as u32 + SECTION_ENTRY_BYTES as u32 * count;
    if header_bytes != expected {
        let expected = expected.to_string();
        return Err(FormatError::invalid(rule::HEADER_BYTES, "header_bytes", &expected, header_bytes.to_string()));
    }
    let file_bytes = prefix.file_bytes.get();
    if file_bytes != length || file_bytes > MAX_BYTES || u64::from(header_bytes) > file_bytes {
        let expected = format!("{file_bytes} bytes, as the prefix says");
        let found = format!("{length} bytes: {}", diagnose_length(file_bytes, length));
        return Err(FormatError::invalid(rule::FILE_BYTES, "file", &expected, found));
    }
    let root = root_of(&file[..header_bytes as usize]);
    if root.0 != prefix.root {
        let expected = Digest(prefix.root).to_string();
        return Err(FormatError::integrity(rule::ROOT, "root digest", &expected, root.to_string()));
    }
    if prefix.reserved_a.get() != 0 || prefix.reserved_b.get() != 0 {
        return Err(FormatError::invalid(rule::PREFIX_RESERVED, "prefix", "reserved fields of 0", "another value"));
    }
    let incompatible = prefix.incompatible.get();
    if incompatible != 0 {
        let found = format!("bit {}; use a newer reader", incompatible.trailing_zeros());
        return Err(FormatError::unsupported(rule::INCOMPATIBLE, "prefix", "known features", found));
    }
    Ok(prefix)
}

fn diagnose_magic(file: &[u8]) -> String {
    let head = &file[..8];
    let hint = if head == PACKED_MAGIC {
        "a packed file: unpack it first with `sbnc unpack`"
    } else if head == b"SBNC\r\n\x1a\n" {
        "a mangled transfer: bit 7 was cleared"
    } else if head[..4] == MAGIC[..4] {
        "a mangled transfer: line ends were changed"
    } else if head[..4] == *b"GGUF" {
        "a GGUF file: compile it with `sbnc compile`"
    } else if head[..2] == *b"PK" {
        "a zip archive"
    } else if file.get(8) == Some(&b'{') {
        "what looks like a safetensors file: compile it with `sbnc compile`"
    } else {
        "something else"
    };
    format!("{} ({hint})", head.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "))
}

fn diagnose_length(declared: u64, length: u64) -> &'static str {
    if length < declared {
        "the file is truncated"
    } else if length > declared {
        "bytes follow the end of the file"
    } else {
        "over the limit of the format"
    }
}

fn check_sections(entries: &[SectionEntry], file: &[u8]) -> Result<Vec<Section>> {
    for pair in entries.windows(2) {
        let (before, kind) = (pair[0].kind.get(), pair[1].kind.get());
        if before >= kind {
            let found = format!("kind {kind} after {before}");
            return Err(FormatError::invalid(rule::SECTION_KINDS, "section table", "ascending kinds", found));
        }
    }
    let sections = entries.iter().map(check_flags).collect::<Result<Vec<_>>>()?;
    for s in &sections {
        check_known(s)?;
    }
    for kind in [section::TENSORS, section::NAMES, section::MANIFEST, section::PAYLOAD] {
        if !sections.iter().any(|s| s.kind == kind) {
            return Err(FormatError::invalid(rule::SECTION_MISSING, "section table", section::name(kind), "none"));
        }
    }
    check_extents(entries, &sections, file)?;
    Ok(sections)
}

fn check_flags(entry: &SectionEntry) -> Result<Section> {
    let (kind, flags) = (entry.kind.get(), entry.flags.get());
    let subject = format!("section {} ({kind})", section::name(kind));
    let required = flags & REQUIRED != 0;
    let flags_fit = match kind {
        section::TENSORS | section::NAMES | section::MANIFEST | section::PAYLOAD => flags == REQUIRED,
        section::FILES => flags == 0,
        _ => flags & !REQUIRED == 0,
    };
    if !flags_fit {
        return Err(FormatError::invalid(
            rule::SECTION_FLAGS,
            &subject,
            "the flags of its kind",
            format!("{flags:#x}"),
        ));
    }
    let (offset, bytes) = (entry.offset.get(), entry.bytes.get());
    Ok(Section { kind, required, offset, bytes, digest: Digest(entry.digest) })
}

fn check_known(s: &Section) -> Result<()> {
    if is_known(s.kind) || !s.required {
        return Ok(());
    }
    let subject = format!("section of kind {}", s.kind);
    Err(FormatError::unsupported(rule::SECTION_UNKNOWN, &subject, "a known kind", "a required one; use a newer reader"))
}

fn check_extents(entries: &[SectionEntry], sections: &[Section], file: &[u8]) -> Result<()> {
    let subject = |s: &Section| format!("section {} ({})", section::name(s.kind), s.kind);
    if let Some(empty) = sections.iter().find(|s| s.bytes == 0) {
        return Err(FormatError::invalid(rule::SECTION_EMPTY, &subject(empty), "at least 1 byte", "0"));
    }
    // In 128 bits, because nothing has bounded these numbers yet; once the last end is the file's length, all of them lie within the file.
    let header_end = (PREFIX_BYTES + entries.len() * SECTION_ENTRY_BYTES) as u64;
    let mut end = u128::from(header_end);
    for s in sections {
        let expected = end.next_multiple_of(u128::from(SECTION_ALIGN));
        if u128::from(s.offset) != expected {
            let expected = format!("offset {expected}");
            return Err(FormatError::invalid(rule::SECTION_OFFSET, &subject(s), &expected, s.offset.to_string()));
        }
        end = u128::from(s.offset) + u128::from(s.bytes);
    }
    if end != file.len() as u128 {
        let expected = format!("an end at {}", file.len());
        return Err(FormatError::invalid(rule::SECTION_END, "last section", &expected, end.to_string()));
    }
    if entries.iter().any(|e| e.reserved.get() != 0) {
        return Err(FormatError::invalid(
            rule::SECTION_RESERVED,
            "section table",
            "a reserved field of 0",
            "another value",
        ));
    }
    let mut gap = header_end;
    for s in sections {
        let padding = &file[gap as usize..s.offset as usize];
        if let Some(at) = padding.iter().position(|&b| b != 0) {
            let subject = format!("padding before section {}", section::name(s.kind));
            let found = format!("{:#04x} at offset {}", padding[at], gap + at as u64);
            return Err(FormatError::invalid(rule::SECTION_PADDING, &subject, "zero bytes", found));
        }
        gap = s.offset + s.bytes;
    }
    // Carried files and unknown sections may be large and cold: their digests wait until they are used or verified.
    sections.iter().filter(|s| is_known(s.kind) && s.kind != section::FILES).try_for_each(|s| check_digest(s, file))
}

fn is_known(kind: u32) -> bool {
    matches!(kind, section::TENSORS | section::NAMES | section::MANIFEST | section::FILES | section::PAYLOAD)
}

/// Checks the digest of a section's bytes (SBNC-R029).
pub(crate) fn check_digest(s: &Section, file: &[u8]) -> Result<()> {
    let expected = s.digest;
    let found = if s.kind == section::PAYLOAD { Digest([0; 32]) } else { Digest::of(&file[s.range()]) };
    if found == expected {
        return Ok(());
    }
    let subject = format!("section {} ({})", section::name(s.kind), s.kind);
    Err(FormatError::integrity(rule::SECTION_DIGEST, &subject, &expected.to_string(), found.to_string()))
}
