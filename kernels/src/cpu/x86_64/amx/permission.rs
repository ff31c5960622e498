//! Whether this process may use AMX: the processor must have it, the system must save its registers, and Linux wants to be asked.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Feature bits of leaf 7: products of bf16, tiles, and products of 8-bit integers. No processor has only some of them.
const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
/// Bit of leaf 1: the system has switched on extended state.
const OSXSAVE: u32 = 1 << 27;
/// States of XCR0: the configuration and the data of tiles.
const TILE_STATES: u64 = 1 << 17 | 1 << 18;

/// `arch_prctl`, its request for permission, and the number of the state that permission is asked for.
const ARCH_PRCTL: i64 = 158;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
const XFEATURE_XTILEDATA: u64 = 18;

/// Asks once for the whole process: the permission holds for all its threads, also those that run already.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && is_permitted())
}

fn has_tiles() -> bool {
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    if __cpuid_count(7, 0).edx & TILES != TILES {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction exists and that XCR0 may be read.
    let states = unsafe { _xgetbv(0) };
    states & TILE_STATES == TILE_STATES
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    let mut result = ARCH_PRCTL;
    // SAFETY: the call takes two numbers and touches no memory of this process; a system that does not know it returns an error.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

/// Elsewhere nothing is known of how to ask.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
