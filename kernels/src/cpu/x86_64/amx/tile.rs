//! The instructions on tiles: stable Rust has no intrinsics for them, so they are written in assembly. The compiler never uses tile registers itself, so what
//! one piece of assembly leaves in them the next one finds.

use std::arch::asm;
use std::marker::PhantomData;

use crate::cpu::gemm::{Line, SumLine, TILE};

/// What `ldtilecfg` reads: the first palette, then bytes a row and rows of each tile.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 lines.
static WHOLE: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Lines of two tiles.
pub(super) const PAIR: usize = 2 * TILE;

/// All eight tiles have 16 lines while this lives, on the thread that made it.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    ///
    /// The processor has AMX and the process may use it; no other `Tiles` of this thread lives.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's; 64 bytes are read, as palette 1 wants them.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Four tiles of sums become zero.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        // SAFETY: `self` is the proof that tiles may be used.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags)
            );
        }
    }

    /// Adds the products of 64 columns of 32 tokens and two panels.
    ///
    /// Loads say that the data is not used again soon: what is streamed pushes less of the rest out of the first cache.
    #[inline(always)]
    pub(super) fn add_int8(&mut self, x: &[Line; PAIR], panels: &[Line; PAIR]) {
        // SAFETY: `self` is the proof that tiles may be used; 32 lines are read from each of both.
        unsafe {
            asm!(
                "tileloaddt1 tmm6, [{panels} + {line}]",
                "tileloaddt1 tmm4, [{x} + {line}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloaddt1 tmm7, [{panels} + {line} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloaddt1 tmm5, [{x} + {line} + 1024]",
                "tdpbsud tmm2, tmm5, tmm6",
                "tdpbsud tmm3, tmm5, tmm7",
                x = in(reg) x.as_ptr(),
                panels = in(reg) panels.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// As [`Tiles::add_int8`], for 16 tokens.
    #[inline(always)]
    pub(super) fn add_int8_half(&mut self, x: &[Line; TILE], panels: &[Line; PAIR]) {
        // SAFETY: `self` is the proof that tiles may be used; 16 lines are read from `x` and 32 from `panels`.
        unsafe {
            asm!(
                "tileloaddt1 tmm6, [{panels} + {line}]",
                "tileloaddt1 tmm4, [{x} + {line}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloaddt1 tmm7, [{panels} + {line} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7",
                x = in(reg) x.as_ptr(),
                panels = in(reg) panels.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Writes the four tiles of sums: those of the first 16 tokens and the first panel, of the second panel, then of the other tokens.
    #[inline(always)]
    pub(super) fn store(&mut self, sums: &mut [SumLine; 2 * PAIR]) {
        // SAFETY: `self` is the proof that tiles may be used; 64 lines are written.
        unsafe {
            asm!(
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + 1024], tmm1",
                "tilestored [{sums} + {line} + 2048], tmm2",
                "tilestored [{sums} + {line} + 3072], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                line = in(reg) 64usize,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Drop for Tiles {
    /// Tiles are empty again, so that the system need not save them.
    fn drop(&mut self) {
        // SAFETY: `self` is the proof that tiles may be used.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}
