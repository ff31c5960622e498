//! Which instructions multiply: one `match` for each step of a task.

#[cfg(target_arch = "aarch64")]
mod aarch64;

use std::ops::Range;

use super::finish::Rows;
use super::{Inputs, Scratch, Task};
use crate::cpu::activations::BLOCK;
use crate::cpu::pool::Shares;
#[cfg(target_arch = "x86_64")]
use crate::cpu::x86_64::{Avx512, amx, avx2, avx512};
use crate::cpu::{Activations, Isa, Matrix, Platform};

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;

/// Bytes of activations that a task with AMX reads again and again: less than half of the smallest second cache of such processors. With two thirds of it
/// a third of the rate was lost.
const SLAB: usize = 900_000;

/// Four columns of the rows of a panel, trit + 1.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// Sums of the rows of a panel for one token.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct SumLine(pub(crate) [i32; PANEL]);

impl Default for Line {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Tokens of a tile of AMX.
pub(crate) const TILE: usize = 16;

/// Tokens that are multiplied side by side with AMX.
pub(crate) const PAIR: usize = 2 * TILE;

/// Some tokens and columns of the activations. Columns are whole blocks: beyond the last they are zero.
pub(crate) struct Slab<'a> {
    pub(crate) x: &'a Activations,
    pub(crate) tokens: Range<usize>,
    pub(crate) cols: Range<usize>,
}

impl<'a> Slab<'a> {
    /// Tokens in the slab.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The columns of token `token` of the slab.
    pub(crate) fn row(&self, token: usize) -> &'a [i8] {
        let start = (self.tokens.start + token) * self.x.stride;
        &self.x.values[start + self.cols.start..start + self.cols.end]
    }
}

/// A way to multiply that this processor has: the value is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    way: Way,
    platform: Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Pairs of products in 16 bits.
    Avx2,
    /// [`Way::Avx2`] with the dot products of AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    Avx512,
    Amx,
    /// Products in 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Dot products of 64-bit Arm.
    #[cfg(target_arch = "aarch64")]
    NeonDots,
    /// Matrix products of 64-bit Arm.
    #[cfg(target_arch = "aarch64")]
    NeonMatrices,
}

impl Kernel {
    /// The one for a platform, if there is one.
    pub fn of(platform: Platform) -> Option<Self> {
        let way = match platform.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("avxvnni") => Way::AvxVnni,
            Isa::Avx2 => Way::Avx2,
            Isa::Avx512 => Way::Avx512,
            Isa::Amx => Way::Amx,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Way::of_arm().next_back()?,
            _ => return None,
        };
        Some(Self { way, platform })
    }

    /// All that this processor has, the slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "aarch64")]
        return {
            let platform = Platform::new(Isa::Neon).ok();
            platform.into_iter().flat_map(|platform| Way::of_arm().map(move |way| Self { way, platform }))
        };
        #[cfg(not(target_arch = "aarch64"))]
        {
            let plain = Platform::new(Isa::Avx2).ok().map(|platform| Self { way: Way::Avx2, platform });
            let best = Platform::available().filter_map(Self::of).filter(move |&kernel| Some(kernel) != plain);
            plain.into_iter().chain(best)
        }
    }

    /// The platform that it is of.
    pub(super) fn platform(self) -> Platform {
        self.platform
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self.way {
            Way::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Way::AvxVnni => "avx-vnni",
            Way::Avx512 => "avx512",
            Way::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Way::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Way::NeonDots => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Way::NeonMatrices => "neon-i8mm",
        }
    }

    /// Tokens from which on unpacking pays, where there is a kernel for few tokens: measured on x86-64, assumed on 64-bit Arm.
    pub(crate) fn pays_from(self) -> usize {
        match self.way {
            Way::Avx512 => 13,
            _ => 9,
        }
    }

    /// Whether it pays to finish what reads the outputs next before they are written: measured.
    pub(crate) fn gains_from_fusing(self) -> bool {
        self.way == Way::Amx
    }

    /// Columns of a block at most.
    pub(super) fn block(self) -> usize {
        match self.way {
            Way::Avx512 => 576,
            Way::Amx => unreachable!("tiles take all columns"),
            _ => 1024,
        }
    }

    /// Tokens of a task at most. Their sums and a block of their columns share the second cache; with AMX, which has no such sums, their columns do.
    pub(super) fn most_tokens(self, cols: usize) -> usize {
        match self.way {
            Way::Amx => (SLAB / cols.next_multiple_of(BLOCK) / PAIR * PAIR).clamp(PAIR, 1024),
            _ => 512,
        }
    }

    /// Tasks begin with a multiple of so many tokens.
    pub(super) fn token_step(self) -> usize {
        match self.way {
            Way::Amx => PAIR,
            _ => 6,
        }
    }

    /// Whether it multiplies tiles of activations rather than rows.
    pub(super) fn wants_tiles(self) -> bool {
        self.way == Way::Amx
    }

    /// The least rows of a task, and the most: of one layer, or of each of two.
    pub(super) fn row_steps(self, two: bool) -> (usize, usize) {
        let (least, most) = match self.way {
            Way::Avx512 => (64, 64),
            Way::Amx => (2 * PANEL, 512),
            _ => (2 * PANEL, 64),
        };
        if two { (least / 2, most / 2) } else { (least, most) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Kernel {
    /// `Σ x` of the tokens from `first` on.
    pub(super) fn totals(self, x: &Activations, first: usize, totals: &mut [i32]) {
        for (i, total) in totals.iter_mut().enumerate() {
            let row = &x.values[(first + i) * x.stride..][..x.cols.next_multiple_of(BLOCK)];
            *total = match self.way {
                // SAFETY: the value proves that the processor has the instructions.
                Way::Avx2 | Way::AvxVnni => unsafe { avx2::gemm::total(row) },
                // SAFETY: as above.
                Way::Avx512 | Way::Amx => unsafe { avx512::gemm::total(row) },
            };
        }
    }

    /// Lines of up to 32 tokens from `first` on, and what their sums begin with. Each 16 columns, looked at as four times four, are transposed.
    pub(super) fn tiles(self, x: &Activations, first: usize, lines: &mut [Line], begins: &mut [SumLine]) {
        match self.way {
            // SAFETY: the value proves that the processor has the instructions.
            Way::Amx => unsafe { amx::inputs::bring_together(x, first, lines, begins) },
            Way::Avx2 | Way::AvxVnni | Way::Avx512 => unreachable!("only AMX wants tiles"),
        }
    }

    /// Computes a task without sums in memory, if that is its way.
    pub(super) fn streams(
        self,
        task: &Task<'_>,
        x: (&Activations, &Inputs),
        scratch: &mut Scratch,
        out: (&Shares<'_, f32>, usize),
    ) -> bool {
        match self.way {
            Way::Avx2 | Way::AvxVnni | Way::Avx512 => return false,
            Way::Amx => {}
        }
        let Some(simd) = Avx512::new(self.platform) else { return false };
        // SAFETY: the value proves that the processor has the instructions; tasks of a call have different outputs.
        unsafe { amx::gemm::run(simd, task, x, scratch, out) };
        true
    }

    /// Rows of a matrix with two bits a trit, `stride` bytes apart. What is beyond the last column is arbitrary.
    pub(super) fn rows(
        self,
        weight: &Matrix<'_>,
        range: Range<usize>,
        out: &mut [u8],
        stride: usize,
        windows: &mut Vec<u8>,
    ) {
        match self.way {
            // SAFETY: the value proves that the processor has the instructions.
            Way::Avx2 | Way::AvxVnni => unsafe { avx2::rows::unpack(weight, range, out, stride, windows) },
            // SAFETY: as above.
            Way::Avx512 | Way::Amx => unsafe { avx512::rows::unpack(weight, range, out, stride, windows) },
        }
    }

    /// Lines of a panel from 16 rows with two bits a trit, from byte `first` of each on.
    pub(super) fn panel(self, rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
        match self.way {
            // SAFETY: the value proves that the processor has the instructions.
            Way::Avx2 | Way::AvxVnni => unsafe { avx2::panel::panel(rows, stride, first, lines) },
            // SAFETY: as above.
            Way::Avx512 | Way::Amx => unsafe { avx512::panel::panel(rows, stride, first, lines) },
        }
    }

    /// Multiplies panels with a slab; `sums` are added to (`add`) or written.
    pub(super) fn multiply(self, lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
        match self.way {
            // SAFETY: the value proves that the processor has the instructions.
            Way::Avx2 => unsafe { avx2::gemm::multiply(lines, slab, sums, add) },
            // SAFETY: as above.
            Way::AvxVnni => unsafe { avx2::vnni::multiply(lines, slab, sums, add) },
            // SAFETY: as above.
            Way::Avx512 => unsafe { avx512::gemm::multiply(lines, slab, sums, add) },
            Way::Amx => unreachable!("tiles are not multiplied block by block"),
        }
    }

    /// Brings memory that will be written into a cache.
    pub(super) fn expect(self, out: &[f32]) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        for line in out.chunks(PANEL) {
            // SAFETY: the instruction changes nothing that a program can see, and the address is that of a value.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
        }
    }

    /// Outputs of a token.
    pub(super) fn finish(
        self,
        rows: &Rows<'_>,
        sums: &[SumLine],
        token: (usize, usize),
        total: i32,
        scale: f32,
        out: &mut [f32],
    ) {
        match self.way {
            // SAFETY: the value proves that the processor has the instructions.
            Way::Avx2 | Way::AvxVnni => unsafe { avx2::gemm::finish(rows, sums, token, total, scale, out) },
            // SAFETY: as above.
            Way::Avx512 | Way::Amx => unsafe { avx512::gemm::finish(rows, sums, token, total, scale, out) },
        }
    }
}

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
impl Kernel {
    pub(super) fn totals(self, _: &Activations, _: usize, _: &mut [i32]) {
        unreachable!("no kernel is available")
    }

    pub(super) fn expect(self, _: &[f32]) {
        unreachable!("no kernel is available")
    }

    pub(super) fn tiles(self, _: &Activations, _: usize, _: &mut [Line], _: &mut [SumLine]) {
        unreachable!("no kernel is available")
    }

    pub(super) fn streams(
        self,
        _: &Task<'_>,
        _: (&Activations, &Inputs),
        _: &mut Scratch,
        _: (&Shares<'_, f32>, usize),
    ) -> bool {
        unreachable!("no kernel is available")
    }

    pub(super) fn rows(self, _: &Matrix<'_>, _: Range<usize>, _: &mut [u8], _: usize, _: &mut Vec<u8>) {
        unreachable!("no kernel is available")
    }

    pub(super) fn panel(self, _: &[u8], _: usize, _: usize, _: &mut [Line]) {
        unreachable!("no kernel is available")
    }

    pub(super) fn multiply(self, _: &[Line], _: &Slab<'_>, _: &mut [SumLine], _: bool) {
        unreachable!("no kernel is available")
    }

    pub(super) fn finish(self, _: &Rows<'_>, _: &[SumLine], _: (usize, usize), _: i32, _: f32, _: &mut [f32]) {
        unreachable!("no kernel is available")
    }
}
