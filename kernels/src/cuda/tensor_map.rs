//! Descriptions of matrices for the hardware that copies tiles of them.

use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys;

use super::error::{DeviceError, Doing, Result};

/// A matrix in a GPU's memory, and the tile that is copied of it at a time. Elements beyond the matrix arrive as zeros.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct TensorMap([u64; 16]);

/// What a [`TensorMap`] describes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    /// Where it begins: a multiple of 16.
    pub(crate) address: u64,
    /// Elements of a row.
    pub(crate) cols: u64,
    /// Rows.
    pub(crate) rows: u64,
    /// Columns and rows of a tile.
    pub(crate) tile: (u32, u32),
    /// Elements.
    pub(crate) elements: Elements,
}

/// Elements of a matrix, and how their tiles lie in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// Bytes; the 16-byte pieces of rows of 128 bytes are swizzled, as matrix instructions want them.
    Bytes,
    /// 16-bit numbers, swizzled likewise.
    Halves,
    /// f32, swizzled likewise.
    F32,
    /// Words, as they are.
    Words,
}

impl TensorMap {
    pub(crate) fn new(matrix: &Matrix) -> Result<Self> {
        use sys::CUtensorMapDataType_enum as Type;
        use sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE as ZEROS;
        use sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE as PLAIN;
        use sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B as WHOLE_LINES;
        use sys::CUtensorMapSwizzle_enum as Swizzle;
        let (kind, bytes, swizzle) = match matrix.elements {
            Elements::Bytes => (Type::CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, Swizzle::CU_TENSOR_MAP_SWIZZLE_128B),
            Elements::Halves => (Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, Swizzle::CU_TENSOR_MAP_SWIZZLE_128B),
            Elements::F32 => (Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, Swizzle::CU_TENSOR_MAP_SWIZZLE_128B),
            Elements::Words => (Type::CU_TENSOR_MAP_DATA_TYPE_UINT32, 4, Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE),
        };
        let (sizes, strides) = ([matrix.cols, matrix.rows], [matrix.cols * bytes]);
        let (tile, steps) = ([matrix.tile.0, matrix.tile.1], [1u32; 2]);
        let mut map = Self::zeroed();
        let address = std::ptr::without_provenance_mut(
            usize::try_from(matrix.address)
                .map_err(|_| DeviceError::Misuse("an address of another kind of machine".to_owned()))?,
        );
        // SAFETY: the map has the size and alignment of the driver's, all arrays have as many elements as two dimensions need, and the driver only computes with the address.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                (&raw mut map).cast(),
                kind,
                2,
                address,
                sizes.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                PLAIN,
                swizzle,
                WHOLE_LINES,
                ZEROS,
            )
        }
        .doing("describing a matrix")?;
        Ok(map)
    }
}
