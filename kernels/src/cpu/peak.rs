//! What this machine's integer units give: the ceiling beside which the speed of a prefill is measured.
//!
//! Products of 8-bit integers, added up in 32 bits, out of registers and in the instructions of the platform: no kernel can be faster, because kernels also
//! load and unpack.

use super::{Cpu, Isa};

/// Turns of the innermost loop of a task; enough that starting it does not count.
const TURNS: u32 = 20_000;

impl Cpu {
    /// Multiplies and adds on all threads for about `tasks` times 0.1 ms of each of them; the number of operations, a product and a sum being two.
    ///
    /// ```
    /// use sbnc_kernels::cpu::{Cpu, Platform};
    ///
    /// let cpu = Cpu::new(Platform::detect(), 2)?;
    /// let start = std::time::Instant::now();
    /// let operations = cpu.multiply(8);
    /// println!("{:.2} TOPS", operations as f64 / start.elapsed().as_secs_f64() / 1e12);
    /// # assert_eq!(cpu.multiply(16), 2 * operations);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn multiply(&self, tasks: usize) -> u64 {
        let tasks = tasks * self.pool().threads();
        let isa = self.platform().isa();
        self.pool().run(tasks, &|_| turns(isa));
        tasks as u64 * u64::from(TURNS) * operations(isa)
    }
}

/// Operations of a turn.
fn operations(isa: Isa) -> u64 {
    2 * match isa {
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => super::aarch64::peak::products(),
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Neon => PLAIN as u64,
        Isa::Portable => PLAIN as u64,
        // Registers of 32 products each, with AVX-VNNI as without.
        Isa::Avx2 => 12 * 32,
        // Registers of 64 products each.
        Isa::Avx512 => 12 * 64,
        // Tiles of 16 × 16 sums of 64 products each.
        Isa::Amx => 4 * 16 * 16 * 64,
    }
}

fn turns(isa: Isa) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: that the processor has AVX-VNNI is seen, AVX2 is what the platform in use proves.
        Isa::Avx2 if is_x86_feature_detected!("avxvnni") => unsafe { super::x86_64::peak::avx_vnni(TURNS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the platform that is in use is the proof that the processor has these instructions.
        Isa::Avx2 => unsafe { super::x86_64::peak::avx2(TURNS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { super::x86_64::peak::avx512(TURNS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; the platform also says that the process may use tiles.
        Isa::Amx => unsafe { super::x86_64::peak::amx(TURNS) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: every processor of this architecture has NEON.
        Isa::Neon => unsafe { super::aarch64::peak::turns(TURNS) },
        _ => plain(TURNS),
    }
}

/// Products of a turn of [`plain`].
const PLAIN: usize = 64;

/// What the compiler makes of products and sums.
fn plain(turns: u32) {
    let mut x = [3i8; PLAIN];
    let mut sums = [0i32; PLAIN];
    for turn in 0..turns {
        let y = std::hint::black_box(turn as i8);
        for (sum, x) in sums.iter_mut().zip(&mut x) {
            *sum = sum.wrapping_add(i32::from(*x) * i32::from(y));
        }
    }
    std::hint::black_box(sums);
}
