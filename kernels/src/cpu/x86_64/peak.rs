//! Products and sums out of registers, as fast as each set of instructions has them. See [`peak`](crate::cpu::peak).

use std::arch::asm;
use std::arch::x86_64::{
    _mm256_set1_epi8, _mm256_setzero_si256, _mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
};
use std::hint::black_box;

/// A loop of instructions on registers that are 1 (15) and 2 (14) in every byte.
macro_rules! repeat {
    ($turns:ident, [$($instruction:literal),*]) => {
        // SAFETY: only the registers that are named here are written; the caller has the instructions.
        unsafe {
            asm!(
                "2:",
                $($instruction,)*
                "dec {turns:e}",
                "jnz 2b",
                turns = inout(reg) $turns => _,
                inout("ymm0") _mm256_setzero_si256() => _, inout("ymm1") _mm256_setzero_si256() => _,
                inout("ymm2") _mm256_setzero_si256() => _, inout("ymm3") _mm256_setzero_si256() => _,
                inout("ymm4") _mm256_setzero_si256() => _, inout("ymm5") _mm256_setzero_si256() => _,
                inout("ymm6") _mm256_setzero_si256() => _, inout("ymm7") _mm256_setzero_si256() => _,
                inout("ymm8") _mm256_setzero_si256() => _, inout("ymm9") _mm256_setzero_si256() => _,
                inout("ymm10") _mm256_setzero_si256() => _, inout("ymm11") _mm256_setzero_si256() => _,
                out("ymm12") _, out("ymm13") _,
                in("ymm14") _mm256_set1_epi8(2), in("ymm15") _mm256_set1_epi8(1),
                options(nostack, nomem),
            );
        }
    };
}

/// Twelve registers of 16-bit sums a turn: what a kernel does before it widens them, which it does rarely. In assembly, because the compiler would
/// multiply only once what is multiplied again and again.
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(turns: u32) {
    repeat!(
        turns,
        [
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm0, ymm0, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm1, ymm1, ymm13",
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm2, ymm2, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm3, ymm3, ymm13",
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm4, ymm4, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm5, ymm5, ymm13",
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm6, ymm6, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm7, ymm7, ymm13",
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm8, ymm8, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm9, ymm9, ymm13",
            "vpmaddubsw ymm12, ymm15, ymm14",
            "vpaddw ymm10, ymm10, ymm12",
            "vpmaddubsw ymm13, ymm15, ymm14",
            "vpaddw ymm11, ymm11, ymm13"
        ]
    );
}

/// Twelve registers of 32-bit sums a turn.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn avx_vnni(turns: u32) {
    repeat!(
        turns,
        [
            "{{vex}} vpdpbusd ymm0, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm1, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm2, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm3, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm4, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm5, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm6, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm7, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm8, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm9, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm10, ymm15, ymm14",
            "{{vex}} vpdpbusd ymm11, ymm15, ymm14"
        ]
    );
}

/// Twelve registers of 32-bit sums a turn.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) fn avx512(turns: u32) {
    let (x, y) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(2)));
    let mut sums = [_mm512_set1_epi32(0); 12];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, y);
        }
    }
    black_box(sums);
}

/// What `ldtilecfg` reads: the first palette, then bytes a row and rows of each tile.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Four tiles of sums a turn.
///
/// # Safety
///
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn amx(turns: u32) {
    let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    shapes.row_bytes[..8].fill(64);
    shapes.rows[..8].fill(16);
    // SAFETY: the caller's. 64 bytes are read from `shapes`, which are as palette 1 wants; nothing else is read or written, and tiles are released.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "tilezero tmm6",
            "tilezero tmm7",
            "2:",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm1, tmm4, tmm7",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "dec {turns:e}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            turns = inout(reg) turns => _,
            options(nostack),
        );
    }
}
