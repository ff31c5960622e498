//! How fast the multiplying instructions are on registers alone: operations a second, on all threads of a pool.

use std::arch::asm;
use std::sync::Mutex;
use std::time::Instant;

use sbnc_kernels::cpu::Pool;
use sbnc_kernels::cpu::gemm::Kernel;

/// The rate of the instructions that a kernel multiplies with. It exists, so the processor has them.
pub(crate) fn of(kernel: Kernel, pool: &Pool) -> f64 {
    let (ops, run): (u64, fn(u64)) = match kernel.name() {
        "avx2" => (12 * 64, maddubs),
        "avx-vnni" => (12 * 64, vnni_256),
        "avx512" => (24 * 128, vnni_512),
        "amx" => (4 * 2 * 16 * 16 * 64, tiles),
        name => unreachable!("{name} has no ceiling"),
    };
    let turns = 3_000_000_000_000 / 20 / ops / 8;
    let mut best = 0f64;
    for _ in 0..5 {
        let slowest = Mutex::new(0f64);
        pool.run(pool.threads(), &|_| {
            let start = Instant::now();
            run(turns);
            let seconds = start.elapsed().as_secs_f64();
            let mut slowest = slowest.lock().unwrap();
            *slowest = slowest.max(seconds);
        });
        best = best.max((ops * turns * pool.threads() as u64) as f64 / slowest.into_inner().unwrap());
    }
    best
}

macro_rules! repeat {
    ($turns:expr, [$($instruction:literal),*], [$($clobber:tt),*]) => {
        // SAFETY: only registers named here are written, and the processor has the instructions, as `of` says.
        unsafe {
            asm!("2:", $($instruction,)* "dec {turns}", "jnz 2b", turns = inout(reg) $turns => _,
                $(out($clobber) _,)* options(nostack, nomem))
        }
    };
}

/// Products of pairs in 16 bits, each added to a sum.
fn maddubs(turns: u64) {
    repeat!(
        turns,
        [
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm0, ymm0, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm1, ymm1, ymm13",
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm2, ymm2, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm3, ymm3, ymm13",
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm4, ymm4, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm5, ymm5, ymm13",
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm6, ymm6, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm7, ymm7, ymm13",
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm8, ymm8, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm9, ymm9, ymm13",
            "vpmaddubsw ymm12, ymm14, ymm15",
            "vpaddw ymm10, ymm10, ymm12",
            "vpmaddubsw ymm13, ymm14, ymm15",
            "vpaddw ymm11, ymm11, ymm13"
        ],
        [
            "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12",
            "ymm13"
        ]
    );
}

fn vnni_256(turns: u64) {
    repeat!(
        turns,
        [
            "{{vex}} vpdpbusd ymm0, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm1, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm2, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm3, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm4, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm5, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm6, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm7, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm8, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm9, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm10, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm11, ymm14, ymm15"
        ],
        ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11"]
    );
}

fn vnni_512(turns: u64) {
    repeat!(
        turns,
        [
            "vpdpbusd zmm0, zmm30, zmm31",
            "vpdpbusd zmm1, zmm30, zmm31",
            "vpdpbusd zmm2, zmm30, zmm31",
            "vpdpbusd zmm3, zmm30, zmm31",
            "vpdpbusd zmm4, zmm30, zmm31",
            "vpdpbusd zmm5, zmm30, zmm31",
            "vpdpbusd zmm6, zmm30, zmm31",
            "vpdpbusd zmm7, zmm30, zmm31",
            "vpdpbusd zmm8, zmm30, zmm31",
            "vpdpbusd zmm9, zmm30, zmm31",
            "vpdpbusd zmm10, zmm30, zmm31",
            "vpdpbusd zmm11, zmm30, zmm31",
            "vpdpbusd zmm12, zmm30, zmm31",
            "vpdpbusd zmm13, zmm30, zmm31",
            "vpdpbusd zmm14, zmm30, zmm31",
            "vpdpbusd zmm15, zmm30, zmm31",
            "vpdpbusd zmm16, zmm30, zmm31",
            "vpdpbusd zmm17, zmm30, zmm31",
            "vpdpbusd zmm18, zmm30, zmm31",
            "vpdpbusd zmm19, zmm30, zmm31",
            "vpdpbusd zmm20, zmm30, zmm31",
            "vpdpbusd zmm21, zmm30, zmm31",
            "vpdpbusd zmm22, zmm30, zmm31",
            "vpdpbusd zmm23, zmm30, zmm31"
        ],
        [
            "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12",
            "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23"
        ]
    );
}

/// All eight tiles of 16 rows of 64 bytes, four of them sums.
fn tiles(turns: u64) {
    #[repr(C, align(64))]
    struct Shapes([u8; 64]);
    let mut shapes = Shapes([0; 64]);
    shapes.0[0] = 1;
    for tile in 0..8 {
        shapes.0[16 + 2 * tile] = 64;
        shapes.0[48 + tile] = 16;
    }
    // SAFETY: AMX exists and is permitted, because its kernel exists; 64 bytes are read; the compiler uses no tiles.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "2:",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm4, tmm7",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "dec {turns}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) &shapes,
            turns = inout(reg) turns => _,
            options(nostack),
        );
    }
}
