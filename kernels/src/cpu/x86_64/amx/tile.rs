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

/// A tile of 16 lines of floats, or of pairs of bf16.
pub(super) type FloatTile = [f32; 256];
/// Four tiles: those of two times two sums; or two of upper parts and two of lower parts.
pub(super) type Quad = [FloatTile; 4];

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

    /// Sums of 16 tokens and two panels become what they begin with.
    #[inline(always)]
    pub(super) fn begin_half(&mut self, begins: &[SumLine; TILE]) {
        // SAFETY: `self` is the proof that tiles may be used; 16 lines are read.
        unsafe {
            asm!(
                "tileloadd tmm0, [{begins} + {line}]",
                "tileloadd tmm1, [{begins} + {line}]",
                begins = in(reg) begins.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// As [`Tiles::begin_half`], of 32 tokens.
    #[inline(always)]
    pub(super) fn begin(&mut self, begins: &[SumLine; PAIR]) {
        let [first, second] = begins.as_chunks().0 else { return };
        self.begin_half(first);
        // SAFETY: `self` is the proof that tiles may be used; 16 lines are read.
        unsafe {
            asm!(
                "tileloadd tmm2, [{begins} + {line}]",
                "tileloadd tmm3, [{begins} + {line}]",
                begins = in(reg) second.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
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

    /// # Safety
    ///
    /// 4 KiB from `sums` on may be written.
    #[inline(always)]
    unsafe fn store_at(&mut self, sums: *mut u8) {
        // SAFETY: `self` is the proof that tiles may be used; four tiles are written, as the caller allows.
        unsafe {
            asm!(
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + 1024], tmm1",
                "tilestored [{sums} + {line} + 2048], tmm2",
                "tilestored [{sums} + {line} + 3072], tmm3",
                sums = in(reg) sums,
                line = in(reg) 64usize,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Writes the four tiles of sums: those of the first 16 tokens and the first panel, of the second panel, then of the other tokens.
    #[inline(always)]
    pub(super) fn store(&mut self, sums: &mut [SumLine; 2 * PAIR]) {
        // SAFETY: these are 64 lines.
        unsafe { self.store_at(sums.as_mut_ptr().cast()) };
    }

    /// Reads the four tiles of sums.
    #[inline(always)]
    pub(super) fn load_floats(&mut self, sums: &Quad) {
        // SAFETY: `self` is the proof that tiles may be used; four tiles are read.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {line}]",
                "tileloadd tmm1, [{sums} + {line} + 1024]",
                "tileloadd tmm2, [{sums} + {line} + 2048]",
                "tileloadd tmm3, [{sums} + {line} + 3072]",
                sums = in(reg) sums.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Writes the four tiles of sums: those of the first tile of `a` and the first of `b`, then the second of `b`, then those of the second of `a`.
    #[inline(always)]
    pub(super) fn store_floats(&mut self, sums: &mut Quad) {
        // SAFETY: these are four tiles.
        unsafe { self.store_at(sums.as_mut_ptr().cast()) };
    }

    /// Adds the products of numbers that are sums of upper and lower parts, without those of two lower parts.
    #[inline(always)]
    pub(super) fn add_bf16(&mut self, a: &Quad, b: &Quad) {
        self.add_bf16_upper(a, b);
        // The upper parts of `b` are still there.
        // SAFETY: `self` is the proof that tiles may be used; the last two tiles of `a` are read.
        unsafe {
            asm!(
                "tileloadd tmm4, [{a} + {line} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 3072]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                a = in(reg) a.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// As [`Tiles::add_bf16`] for an `a` that has no lower parts.
    #[inline(always)]
    pub(super) fn add_bf16_upper(&mut self, a: &Quad, b: &Quad) {
        // SAFETY: `self` is the proof that tiles may be used; the first two tiles of `a` and all of `b` are read.
        unsafe {
            asm!(
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm6, [{b} + {line} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 3072]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {line} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{b} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                a = in(reg) a.as_ptr(),
                b = in(reg) b.as_ptr(),
                line = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
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
