//! Panels times activations with AMX: two panels and two times 16 tokens, four tiles of sums in registers.
//!
//! ```text
//!              B0 = 16 lines of panel 0    B1 = panel 1            64 columns a step
//! A0 = 16 tokens     C00                      C01
//! A1 = 16 tokens     C10                      C11
//! ```
//!
//! A tile of activations is read from the rows as they are, 64 columns of each; a tile of weights is 16 lines of a panel. The last tokens are tiles with
//! fewer rows, the last panel of an odd number of panels goes to the kernel of AVX-512.

use std::arch::asm;

use crate::cpu::gemm::{Line, Slab, SumLine};
use crate::cpu::x86_64::avx512;

/// Tokens of a tile.
const TILE: usize = 16;

/// What `ldtilecfg` reads: the first palette, then bytes a row and rows of each tile.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Tiles for `first` and `second` tokens: C00 C01 C10 C11 A0 A1 B0 B1. No tile is empty, whether it is used or not.
    fn new(first: usize, second: usize) -> Self {
        let (first, second) = (first as u8, second.max(1) as u8);
        let mut rows = [0; 16];
        rows[..8].copy_from_slice(&[first, first, second, second, first, second, TILE as u8, TILE as u8]);
        let mut row_bytes = [0; 16];
        row_bytes[..8].fill(64);
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }

    /// Shapes and clears the tiles of this thread.
    ///
    /// # Safety
    ///
    /// The processor has AMX and the process may use it.
    unsafe fn load(&self) {
        // SAFETY: the caller's; 64 bytes are read from `self`, which `new` filled as palette 1 wants.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly)) }
    }
}

/// Multiplies panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
///
/// # Safety
///
/// The processor has AMX and the process may use it.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn multiply(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    let (each, tokens) = (slab.cols.len() / 4, slab.tokens());
    let pairs = lines.len() / (2 * each);
    let (lines, last_lines) = lines.split_at(2 * each * pairs);
    let (sums, last_sums) = sums.split_at_mut(2 * tokens * pairs);
    let whole = tokens / (2 * TILE) * (2 * TILE);
    if whole > 0 {
        // SAFETY: the caller's.
        unsafe { Shapes::new(TILE, TILE).load() };
        for (lines, sums) in lines.chunks_exact(2 * each).zip(sums.chunks_exact_mut(2 * tokens)) {
            for token in (0..whole).step_by(2 * TILE) {
                // SAFETY: the caller's, and tiles are shaped for these tokens.
                unsafe { block(lines, slab, token..token + 2 * TILE, sums, add) };
            }
        }
    }
    if whole < tokens {
        let left = tokens - whole;
        // SAFETY: the caller's.
        unsafe { Shapes::new(left.min(TILE), left.saturating_sub(TILE)).load() };
        for (lines, sums) in lines.chunks_exact(2 * each).zip(sums.chunks_exact_mut(2 * tokens)) {
            // SAFETY: the caller's, and tiles are shaped for these tokens.
            unsafe { block(lines, slab, whole..tokens, sums, add) };
        }
    }
    // SAFETY: the caller's. Tiles are empty again, so that the system need not save them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
    avx512::gemm::multiply(last_lines, slab, last_sums, add);
}

/// Two panels times up to 32 tokens.
///
/// # Safety
///
/// The processor has AMX, the process may use it, and tiles have the shapes of `tokens`.
unsafe fn block(lines: &[Line], slab: &Slab<'_>, tokens: std::ops::Range<usize>, sums: &mut [SumLine], add: bool) {
    let second = tokens.len() > TILE;
    let (panel0, panel1) = lines.split_at(lines.len() / 2);
    let (sums0, sums1) = sums.split_at_mut(slab.tokens());
    let (sums0, sums1) = (&mut sums0[tokens.clone()], &mut sums1[tokens.clone()]);
    // Slicing checks that all rows that tiles read are there: they are `stride` bytes apart.
    let (x0, x1) = (slab.row(tokens.start), slab.row(if second { tokens.start + TILE } else { tokens.start }));
    let last = slab.row(tokens.end - 1);
    assert!(last.len() == panel0.len() * 4 && panel0.len() == panel1.len(), "as many columns as lines hold");
    assert!(panel0.len().is_multiple_of(16), "whole tiles");
    let steps = panel0.len() / 16;
    let (c00, c01) = (sums0.as_mut_ptr(), sums1.as_mut_ptr());
    // SAFETY: the caller's. Every step reads 64 columns of rows of the slab, `stride` bytes apart and all within it, and 16 lines of each panel; sums
    // are read and written for the tokens that the tiles have rows for. The second tiles are only touched where `second` says so.
    unsafe {
        asm!(
            "test {add:l}, {add:l}",
            "jz 2f",
            "tileloadd tmm0, [{c00} + {line}]",
            "tileloadd tmm1, [{c01} + {line}]",
            "test {second:l}, {second:l}",
            "jz 5f",
            "tileloadd tmm2, [{c00} + {line} + 1024]",
            "tileloadd tmm3, [{c01} + {line} + 1024]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {second:l}, {second:l}",
            "jz 5f",
            ".p2align 5",
            "3:",
            "tileloadd tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{x0} + {stride}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {line}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x1} + {stride}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "add {x0}, 64",
            "add {x1}, 64",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c00} + {line} + 1024], tmm2",
            "tilestored [{c01} + {line} + 1024], tmm3",
            "jmp 7f",
            ".p2align 5",
            "5:",
            "tileloadd tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{x0} + {stride}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {line}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "add {x0}, 64",
            "dec {steps}",
            "jnz 5b",
            "7:",
            "tilestored [{c00} + {line}], tmm0",
            "tilestored [{c01} + {line}], tmm1",
            add = in(reg) u64::from(add),
            second = in(reg) u64::from(second),
            c00 = in(reg) c00,
            c01 = in(reg) c01,
            line = in(reg) 64usize,
            stride = in(reg) slab.x.stride,
            b0 = inout(reg) panel0.as_ptr() => _,
            b1 = inout(reg) panel1.as_ptr() => _,
            x0 = inout(reg) x0.as_ptr() => _,
            x1 = inout(reg) x1.as_ptr() => _,
            steps = inout(reg) steps => _,
            options(nostack),
        );
    }
}
