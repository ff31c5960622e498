//! The fixed-width records as they lie in the file, and the only casts of this crate.
//!
//! Every field is a little-endian byte array, so the records have alignment 1, no padding and one meaning on every host. Nothing here is checked:
//! [`header`](crate::header) and [`record`](crate::record) turn these into types that cannot be invalid.

use bytemuck::{Pod, Zeroable};

use crate::limits::{PREFIX_BYTES, RECORD_BYTES, SECTION_ENTRY_BYTES};

macro_rules! little_endian {
    ($name:ident, $int:ty, $bytes:literal) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        #[repr(transparent)]
        pub(crate) struct $name([u8; $bytes]);

        impl $name {
            pub(crate) const fn get(self) -> $int {
                <$int>::from_le_bytes(self.0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value.to_le_bytes())
            }
        }
    };
}

little_endian!(U16, u16, 2);
little_endian!(U32, u32, 4);
little_endian!(U64, u64, 8);

/// SPEC §3.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Prefix {
    pub(crate) magic: [u8; 8],
    pub(crate) major: U16,
    pub(crate) minor: U16,
    pub(crate) header_bytes: U32,
    pub(crate) file_bytes: U64,
    pub(crate) compatible: U64,
    pub(crate) inspect_only: U64,
    pub(crate) incompatible: U64,
    pub(crate) section_count: U32,
    pub(crate) reserved_a: U32,
    pub(crate) reserved_b: U64,
    pub(crate) root: [u8; 32],
}

/// SPEC §4.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SectionEntry {
    pub(crate) kind: U32,
    pub(crate) flags: U32,
    pub(crate) offset: U64,
    pub(crate) bytes: U64,
    pub(crate) reserved: U64,
    pub(crate) digest: [u8; 32],
}

/// SPEC §5.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) name_offset: U32,
    pub(crate) name_bytes: U32,
    pub(crate) role: U16,
    pub(crate) encoding: U16,
    pub(crate) order: U16,
    pub(crate) order_version: U16,
    pub(crate) n: u8,
    pub(crate) m: u8,
    pub(crate) group_axis: u8,
    pub(crate) rank: u8,
    pub(crate) reserved: U32,
    pub(crate) shape: [U64; 4],
    pub(crate) offset: U64,
    pub(crate) stored_bytes: U64,
    pub(crate) data_bytes: U64,
    pub(crate) scale_count: U64,
    pub(crate) non_zero: U64,
    pub(crate) stored_digest: [u8; 32],
    pub(crate) content_digest: [u8; 32],
}

/// SPEC §11.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PackedPrefix {
    pub(crate) magic: [u8; 8],
    pub(crate) major: U16,
    pub(crate) minor: U16,
    pub(crate) chunk_bytes: U32,
    pub(crate) file_bytes: U64,
    pub(crate) raw_bytes: U64,
    pub(crate) chunk_count: U32,
    pub(crate) reserved_a: U32,
    pub(crate) reserved_b: [u8; 24],
    pub(crate) root: [u8; 32],
    pub(crate) digest: [u8; 32],
}

/// SPEC §11, the chunk table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) stored_bytes: U32,
    pub(crate) codec: U32,
    pub(crate) digest: [u8; 32],
}

const _: () = {
    assert!(size_of::<Prefix>() == PREFIX_BYTES);
    assert!(size_of::<SectionEntry>() == SECTION_ENTRY_BYTES);
    assert!(size_of::<Record>() == RECORD_BYTES);
    assert!(size_of::<PackedPrefix>() == 128);
    assert!(size_of::<Chunk>() == 40);
};

/// Reads one record from the start of `bytes`, or `None` if they are too few.
pub(crate) fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// The bytes as records. Every record here has alignment 1, so only the length can be wrong; then the rest is left out.
pub(crate) fn slice<T: Pod>(bytes: &[u8]) -> &[T] {
    const { assert!(align_of::<T>() == 1) };
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    bytemuck::cast_slice(&bytes[..whole])
}

/// The bytes of a record.
#[cfg(feature = "writer")]
pub(crate) fn bytes_of<T: Pod>(record: &T) -> &[u8] {
    bytemuck::bytes_of(record)
}
