//! The numbers that the format promises never to change, and its limits. SPEC §2 holds the same table; a test compares the two.

/// First eight bytes of a file: "S" with bit 7 set, "BNC", CR LF, ^Z, LF. Any text-mode or 7-bit transfer damages it.
pub const MAGIC: [u8; 8] = [0xD3, 0x42, 0x4E, 0x43, 0x0D, 0x0A, 0x1A, 0x0A];
/// First eight bytes of a packed (compressed) file.
pub const PACKED_MAGIC: [u8; 8] = [0xD3, 0x42, 0x4E, 0x5A, 0x0D, 0x0A, 0x1A, 0x0A];
/// The only major version.
pub const MAJOR: u16 = 1;
/// Size of the prefix.
pub const PREFIX_BYTES: usize = 96;
/// Size of a section table entry.
pub const SECTION_ENTRY_BYTES: usize = 64;
/// Size of a tensor record.
pub const RECORD_BYTES: usize = 160;
/// Alignment of sections: a page.
pub const SECTION_ALIGN: u64 = 4096;
/// Alignment of tensors and of their scales: what device copies and the widest vectors want.
pub const TENSOR_ALIGN: u64 = 256;
/// Entries of the section table.
pub const MAX_SECTIONS: u32 = 64;
/// Tensor records.
pub const MAX_TENSORS: usize = 65_536;
/// Length of a tensor's or a carried file's name.
pub const MAX_NAME_BYTES: usize = 256;
/// Dimensions of a tensor.
pub const MAX_RANK: usize = 4;
/// Largest dimension.
pub const MAX_DIM: u64 = 1 << 31;
/// Elements of a tensor.
pub const MAX_ELEMENTS: u64 = 1 << 40;
/// Length of the manifest.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Nesting of the manifest.
pub const MAX_MANIFEST_DEPTH: usize = 16;
/// Carried files.
pub const MAX_FILES: usize = 64;
/// Decoded length of a carried file.
pub const MAX_FILE_RAW_BYTES: u64 = 256 << 20;
/// Length of the whole file.
pub const MAX_BYTES: u64 = 1 << 42;
/// Largest scale.
pub const MAX_SCALE: f32 = 10_000.0;
/// Decoded length of a chunk of a packed file.
pub const CHUNK_BYTES: usize = 4 << 20;
/// Decoded bytes per stored byte of a packed file.
pub const MAX_PACKED_RATIO: u64 = 1024;

/// The smallest multiple of `align` that is at least `value`. Callers stay far below the range of u64: every size is under [`MAX_BYTES`].
pub const fn up(value: u64, align: u64) -> u64 {
    value.div_ceil(align) * align
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_change_these_constants() {
        assert_eq!(MAGIC, *b"\xD3BNC\r\n\x1a\n");
        assert_eq!(PACKED_MAGIC, *b"\xD3BNZ\r\n\x1a\n");
        assert_eq!((MAJOR, PREFIX_BYTES, SECTION_ENTRY_BYTES, RECORD_BYTES), (1, 96, 64, 160));
        assert_eq!((SECTION_ALIGN, TENSOR_ALIGN, CHUNK_BYTES), (4096, 256, 4 << 20));
    }
}
