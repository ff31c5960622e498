//! Panels times activations with AMX: two panels and two times 16 tokens, four tiles of sums in registers.
//!
//! ```text
//!              B0 = 16 lines of panel 0    B1 = panel 1            64 columns a step
//! A0 = 16 tokens     C00                      C01
//! A1 = 16 tokens     C10                      C11
//! ```
//!
//! A tile of weights is 16 lines of a panel. A tile of activations is 16 lines too, which were brought together once for the whole call: rows of the
//! activations as they lie begin anywhere in a line, which halves the rate of loads. All tiles are whole: tokens and panels that only fill them up are
//! multiplied and ignored.

use std::arch::asm;

use crate::cpu::gemm::{Line, Slab, SumLine, TILE};

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

/// Multiplies an even number of panels with a slab of activations; `sums`, token by token for each panel, are added to (`add`) or written.
///
/// # Safety
///
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn multiply(lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
    let (each, tiles) = (slab.cols.len() / 4, slab.tokens().div_ceil(TILE));
    // SAFETY: the caller's; 64 bytes are read, as palette 1 wants them.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly)) };
    for (lines, sums) in lines.chunks_exact(2 * each).zip(sums.chunks_exact_mut(2 * TILE * tiles)) {
        let (panels, (sums0, sums1)) = (lines.split_at(each), sums.split_at_mut(TILE * tiles));
        let tokens = (0..tiles).step_by(2).zip(sums0.chunks_mut(2 * TILE).zip(sums1.chunks_mut(2 * TILE)));
        for (tile, sums) in tokens {
            if tile + 1 < tiles {
                // SAFETY: the caller's, and tiles are shaped.
                unsafe { two_by_two([slab.tile(tile), slab.tile(tile + 1)], panels, sums, add) };
            } else {
                // SAFETY: the caller's, and tiles are shaped.
                unsafe { one_by_two(slab.tile(tile), panels, sums, add) };
            }
        }
    }
    // SAFETY: the caller's. Tiles are empty again, so that the system need not save them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Fetches 16 lines, four steps ahead.
macro_rules! ahead {
    ($tile:literal) => {
        concat!(
            "prefetcht0 [{",
            $tile,
            "} + 4096]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4160]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4224]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4288]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4352]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4416]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4480]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4544]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4608]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4672]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4736]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4800]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4864]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4928]\n",
            "prefetcht0 [{",
            $tile,
            "} + 4992]\n",
            "prefetcht0 [{",
            $tile,
            "} + 5056]\n",
        )
    };
}

/// Two panels times 32 tokens.
///
/// # Safety
///
/// The processor has AMX, the process may use it, and all tiles have 16 lines.
unsafe fn two_by_two(
    [x0, x1]: [&[Line]; 2],
    (panel0, panel1): (&[Line], &[Line]),
    (sums0, sums1): (&mut [SumLine], &mut [SumLine]),
    add: bool,
) {
    let steps = panel0.len() / TILE;
    assert!(steps > 0 && panel1.len() == panel0.len(), "panels of the same length");
    assert!(x0.len() == TILE * steps && x1.len() == TILE * steps, "as many tiles of activations");
    assert!(sums0.len() == 2 * TILE && sums1.len() == 2 * TILE, "sums of all tokens");
    // SAFETY: the caller's. Each step reads 16 lines of both panels and of both tiles of tokens, which have `16 · steps`; 32 lines of both sums are
    // read and written, as was checked. Fetching ahead does nothing where there is no memory.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jz 2f",
            "tileloadd tmm0, [{c0} + {line}]",
            "tileloadd tmm1, [{c1} + {line}]",
            "tileloadd tmm2, [{c0} + {line} + 1024]",
            "tileloadd tmm3, [{c1} + {line} + 1024]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            ".p2align 5",
            "3:",
            "tileloadd tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{x0} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {line}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x1} + {line}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            ahead!("x0"),
            ahead!("x1"),
            "add {b0}, 1024",
            "add {b1}, 1024",
            "add {x0}, 1024",
            "add {x1}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c0} + {line}], tmm0",
            "tilestored [{c1} + {line}], tmm1",
            "tilestored [{c0} + {line} + 1024], tmm2",
            "tilestored [{c1} + {line} + 1024], tmm3",
            add = in(reg) u32::from(add),
            c0 = in(reg) sums0.as_mut_ptr(),
            c1 = in(reg) sums1.as_mut_ptr(),
            line = in(reg) 64usize,
            b0 = inout(reg) panel0.as_ptr() => _,
            b1 = inout(reg) panel1.as_ptr() => _,
            x0 = inout(reg) x0.as_ptr() => _,
            x1 = inout(reg) x1.as_ptr() => _,
            steps = inout(reg) steps => _,
            options(nostack),
        );
    }
}

/// Two panels times 16 tokens.
///
/// # Safety
///
/// The processor has AMX, the process may use it, and all tiles have 16 lines.
unsafe fn one_by_two(
    x0: &[Line],
    (panel0, panel1): (&[Line], &[Line]),
    (sums0, sums1): (&mut [SumLine], &mut [SumLine]),
    add: bool,
) {
    let steps = panel0.len() / TILE;
    assert!(steps > 0 && panel1.len() == panel0.len(), "panels of the same length");
    assert!(x0.len() == TILE * steps, "as many tiles of activations");
    assert!(sums0.len() == TILE && sums1.len() == TILE, "sums of all tokens");
    // SAFETY: the caller's. Each step reads 16 lines of both panels and of the tile of tokens, which have `16 · steps`; 16 lines of both sums are read
    // and written, as was checked.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jz 2f",
            "tileloadd tmm0, [{c0} + {line}]",
            "tileloadd tmm1, [{c1} + {line}]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            ".p2align 5",
            "3:",
            "tileloadd tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{x0} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {line}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "add {x0}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c0} + {line}], tmm0",
            "tilestored [{c1} + {line}], tmm1",
            add = in(reg) u32::from(add),
            c0 = in(reg) sums0.as_mut_ptr(),
            c1 = in(reg) sums1.as_mut_ptr(),
            line = in(reg) 64usize,
            b0 = inout(reg) panel0.as_ptr() => _,
            b1 = inout(reg) panel1.as_ptr() => _,
            x0 = inout(reg) x0.as_ptr() => _,
            steps = inout(reg) steps => _,
            options(nostack),
        );
    }
}
