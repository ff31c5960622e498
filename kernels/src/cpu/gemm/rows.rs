//! Rows with two bits a trit (trit + 1, as `t2` has them): the first step of unpacking, whatever the encoding.
//!
//! This form is small, row-major and a whole byte for every four columns, so that one routine makes panels of it. How stored rows become such rows is
//! the business of each set of instructions; here is what they share: the tables, and the joining of windows in plain code.

/// Vector kernels write so far beyond the last byte of a row.
const SLACK: usize = 128;

/// Distance between rows: an odd number of 64-byte lines, so that 16 rows do not meet in one set of the cache.
pub(crate) fn stride(cols: usize) -> usize {
    ((cols / 4 + SLACK).div_ceil(64) | 1) * 64
}

/// Joins the windows of a row, whose zeros have the code 0.
pub(crate) fn contract(windows: &[u8], each: usize, blocks: usize, out: &mut [u8]) {
    out[..(blocks * (each + 1)).div_ceil(2)].fill(0x55);
    for (block, windows) in windows.chunks_exact(each).take(blocks).enumerate() {
        let bits = windows.iter().rev().fold(0u64, |bits, &window| bits << 4 | u64::from(window));
        for nibble in 0..=each {
            let at = block * (each + 1) + nibble;
            out[at / 2] ^= ((bits >> (4 * nibble) & 15) << (4 * (at % 2))) as u8;
        }
    }
}

/// What codes stand for, worked out from SPEC §10.
pub(crate) mod tables {
    /// Codes of five trits, 10 bits, for every byte of `t5`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) static T5: [u16; 256] = t5();
    /// Codes of four trits for every code of `nm-6b`.
    pub(crate) static NM6B: [u8; 64] = nm6b();
    /// In the 64 bytes of four lanes: where the pair codes and the index nibble of group q of row g and g + 8 are.
    pub(crate) static PLACES: [[(u8, u8); 32]; 2] = places();

    /// States of the rows g and g + 8 for a pair code.
    pub(crate) const PAIRS: [[u8; 16]; 2] =
        [[1, 1, 0, 1, 2, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 2, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]];

    const ZEROS: u8 = 0x55;

    #[cfg(target_arch = "x86_64")]
    const fn t5() -> [u16; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut rest, mut i) = (byte as u16, 0);
            while i < 5 {
                table[byte] |= (rest % 3) << (2 * i);
                rest /= 3;
                i += 1;
            }
            byte += 1;
        }
        table
    }

    /// `ZEROS` with the trit of a state (1 for +1, 2 for −1) at a position.
    pub(crate) const fn with(codes: u8, position: usize, state: u8) -> u8 {
        let flip = match state {
            1 => 3,
            2 => 1,
            _ => 0,
        };
        codes ^ flip << (2 * position)
    }

    const fn nm6b() -> [u8; 64] {
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        let mut table = [ZEROS; 64];
        let mut code = 1;
        while code < 33 {
            table[code] = if code < 9 {
                with(ZEROS, (code - 1) / 2, 1 + ((code - 1) % 2) as u8)
            } else {
                let (i, j) = pairs[(code - 9) / 4];
                with(with(ZEROS, i, 1 + ((code - 9) % 2) as u8), j, 1 + ((code - 9) / 2 % 2) as u8)
            };
            code += 1;
        }
        table
    }

    const fn places() -> [[(u8, u8); 32]; 2] {
        let mut table = [[(0, 0); 32]; 2];
        let mut i = 0;
        while i < 64 {
            let (row, q) = (i / 32, i % 32);
            let (half, q) = (q / 16, q % 16);
            let pair = 16 * (q % 8 / 2) + 8 * half + q % 2 + 2 * (q / 8);
            let index = 16 * (2 * (q / 8) + row) + 8 * half + 4 + q % 8 / 2;
            table[row][16 * half + q] = (pair as u8, index as u8);
            i += 1;
        }
        table
    }
}
