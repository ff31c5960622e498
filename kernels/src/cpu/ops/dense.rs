//! Matrices that are not ternary: the output head.

use crate::cpu::pool::Shares;
use crate::cpu::{Cpu, Dense};

/// Rows of a task.
const ROWS: usize = 64;

impl Cpu {
    /// `out[token · rows + row] = weight · x`, with `cols` values a row of `x` and of the matrix.
    pub fn dense(&self, weight: &Dense<'_>, cols: usize, x: &[f32], out: &mut [f32]) {
        let rows = weight.len() / cols;
        let out = Shares::new(out);
        self.pool.run(rows.div_ceil(ROWS), &|task| {
            let mut values = vec![0.0; cols];
            for row in task * ROWS..rows.min((task + 1) * ROWS) {
                weight.read_row(row, &mut values);
                for (token, x) in x.chunks_exact(cols).enumerate() {
                    // SAFETY: every row is handed out once.
                    let out = unsafe { out.range(token * rows + row, 1) };
                    out[0] = values.iter().zip(x).map(|(w, x)| w * x).sum();
                }
            }
        });
    }
}
