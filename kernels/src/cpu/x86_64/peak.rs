//! Products and sums out of registers, as fast as each set of instructions has them. See [`peak`](crate::cpu::peak).

use std::arch::asm;
use std::arch::x86_64::{
    _mm256_add_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm512_dpbusd_epi32, _mm512_set1_epi8,
    _mm512_set1_epi32,
};
use std::hint::black_box;

/// Eight registers of 16-bit sums a turn: what a kernel does before it widens them, which it does rarely.
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(turns: u32) {
    let (x, y) = (black_box(_mm256_set1_epi8(1)), black_box(_mm256_set1_epi8(2)));
    let mut sums = [_mm256_set1_epi16(0); 8];
    let mut values = [y; 8];
    for _ in 0..turns {
        for (sum, y) in sums.iter_mut().zip(&mut values) {
            // What the compiler cannot see through is multiplied anew each time.
            *y = black_box_256(*y);
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(x, *y));
        }
    }
    black_box(sums);
}

/// Hides where a value came from, leaving it in its register.
#[target_feature(enable = "avx2")]
fn black_box_256(mut value: std::arch::x86_64::__m256i) -> std::arch::x86_64::__m256i {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(ymm_reg) value, options(nomem, nostack, preserves_flags, pure)) };
    value
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
