//! The steps of a task on 64-bit Arm.

use std::ops::Range;

use super::{Activations, Inputs, Kernel, Line, Matrix, Rows, Scratch, Shares, Slab, SumLine, Task, Way};
use crate::cpu::aarch64::{Matrices, Products, fetch_to_write, gemm, panel, rows};
use crate::cpu::gemm::{PANEL, finish};

impl Way {
    /// The ways that this processor has, the slowest first.
    pub(super) fn of_arm() -> impl DoubleEndedIterator<Item = Self> {
        let dots = Products::dots().map(|_| Self::NeonDots);
        let matrices = Matrices::found().map(|_| Self::NeonMatrices);
        [Some(Self::Neon), dots, matrices].into_iter().flatten()
    }
}

impl Kernel {
    /// `Σ x` of the tokens from `first` on.
    pub(in crate::cpu::gemm) fn totals(self, x: &Activations, first: usize, totals: &mut [i32]) {
        let rows = x.values[first * x.stride..].chunks_exact(x.stride.max(1));
        for (total, row) in totals.iter_mut().zip(rows) {
            *total = row.iter().map(|&x| i32::from(x)).sum();
        }
    }

    /// Tiles are for AMX.
    pub(in crate::cpu::gemm) fn tiles(self, _: &Activations, _: usize, _: &mut [Line], _: &mut [SumLine]) {
        unreachable!("no kernel of this processor wants tiles")
    }

    /// All ways of this processor keep sums in memory.
    pub(in crate::cpu::gemm) fn streams(
        self,
        _: &Task<'_>,
        _: (&Activations, &Inputs),
        _: &mut Scratch,
        _: (&Shares<'_, f32>, usize),
    ) -> bool {
        false
    }

    /// Rows of a matrix with two bits a trit, `stride` bytes apart. What is beyond the last column is arbitrary.
    pub(in crate::cpu::gemm) fn rows(
        self,
        weight: &Matrix<'_>,
        range: Range<usize>,
        out: &mut [u8],
        stride: usize,
        windows: &mut Vec<u8>,
    ) {
        // SAFETY: every processor of this architecture has NEON.
        unsafe { rows::unpack(weight, range, out, stride, windows) }
    }

    /// Lines of a panel from 16 rows with two bits a trit, from byte `first` of each on.
    pub(in crate::cpu::gemm) fn panel(self, rows: &[u8], stride: usize, first: usize, lines: &mut [Line]) {
        match self.way {
            // SAFETY: every processor of this architecture has NEON.
            Way::NeonMatrices => unsafe { panel::pairs(rows, stride, first, lines) },
            // SAFETY: as above.
            _ => unsafe { panel::lines(rows, stride, first, lines) },
        }
    }

    /// Multiplies panels with a slab; `sums` are added to (`add`) or written.
    pub(in crate::cpu::gemm) fn multiply(self, lines: &[Line], slab: &Slab<'_>, sums: &mut [SumLine], add: bool) {
        match (self.way, Products::dots(), Matrices::found()) {
            // SAFETY: every processor of this architecture has NEON.
            (Way::NeonMatrices, _, Some(products)) => unsafe { gemm::matrices(products, lines, slab, sums, add) },
            // SAFETY: as above.
            (Way::NeonDots, Some(products), _) => unsafe { gemm::dots(products, lines, slab, sums, add) },
            // SAFETY: as above.
            _ => unsafe { gemm::widened(lines, slab, sums, add) },
        }
    }

    /// Brings memory that will be written into a cache.
    pub(in crate::cpu::gemm) fn expect(self, out: &[f32]) {
        out.chunks(PANEL).for_each(|line| fetch_to_write(line.as_ptr().cast()));
    }

    /// Outputs of a token.
    pub(in crate::cpu::gemm) fn finish(
        self,
        rows: &Rows<'_>,
        sums: &[SumLine],
        token: (usize, usize),
        total: i32,
        scale: f32,
        out: &mut [f32],
    ) {
        finish(rows, sums, token, total, scale, out);
    }
}
