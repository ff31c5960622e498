//! Stored rows to rows with two bits a trit (trit + 1, as `t2` has them), by tables: the first step of unpacking, in plain code.
//!
//! Every encoding goes through this form because it is small, row-major and a whole byte for every four columns, so that one routine makes panels of it.

use std::ops::Range;

use sbnc_format::{Encoding, Order};

use crate::cpu::Matrix;

/// Vector kernels write so far beyond the last byte of a row.
const SLACK: usize = 128;

/// Distance between rows: an odd number of 64-byte lines, so that 16 rows do not meet in one set of the cache.
pub(crate) fn stride(cols: usize) -> usize {
    ((cols / 4 + SLACK).div_ceil(64) | 1) * 64
}

/// Unpacks some rows; the first is a multiple of 16.
pub(crate) fn unpack(weight: &Matrix<'_>, range: Range<usize>, out: &mut [u8], stride: usize, windows: &mut Vec<u8>) {
    let strip = weight.packing.strip(weight.cols);
    let strips = &weight.data[range.start / strip.rows * strip.bytes..range.end.div_ceil(strip.rows) * strip.bytes];
    for (bytes, out) in strips.chunks_exact(strip.bytes).zip(out.chunks_mut(strip.rows * stride)) {
        match (weight.packing.encoding, weight.packing.order) {
            (Encoding::T2, _) => out[..bytes.len()].copy_from_slice(bytes),
            (Encoding::T5, _) => t5(bytes, out),
            (Encoding::Nm6b, _) => nm6b(bytes, out),
            (_, Order::Windows) => {
                let width = strip.bytes / 512 * 32;
                windows.resize(width * 16, 0);
                fragments::<0x55>(bytes, windows, width);
                let blocks = weight.cols / weight.packing.pattern.m();
                for (windows, out) in windows.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                    contract(windows, weight.packing.pattern.m() / 2 - 1, blocks, out);
                }
            }
            _ => fragments::<0>(bytes, out, stride),
        }
    }
}

fn t5(bytes: &[u8], out: &mut [u8]) {
    let ten_bits = |byte: u8| u64::from(tables::T5[usize::from(byte)]);
    for (four, out) in bytes.chunks(4).zip(out.as_chunks_mut::<5>().0) {
        let bits = four.iter().rev().fold(0, |bits, &byte| bits << 10 | ten_bits(byte));
        out.copy_from_slice(&bits.to_le_bytes()[..5]);
    }
}

fn nm6b(bytes: &[u8], out: &mut [u8]) {
    for (three, out) in bytes.chunks(3).zip(out.as_chunks_mut::<4>().0) {
        let codes = three.iter().rev().fold(0, |codes, &byte| codes << 8 | u32::from(byte));
        for (i, out) in out.iter_mut().enumerate() {
            *out = tables::NM6B[(codes >> (6 * i) & 63) as usize];
        }
    }
}

/// One strip of 16 rows. `FLIP` 0x55 gives zeros the code 0, so that windows can be joined with "or".
fn fragments<const FLIP: u8>(bytes: &[u8], out: &mut [u8], stride: usize) {
    for (tile, bytes) in bytes.as_chunks::<512>().0.iter().enumerate() {
        for (row, quad) in bytes.as_chunks::<64>().0.iter().enumerate() {
            for (half, row) in [row, row + 8].into_iter().enumerate() {
                let out = &mut out[row * stride + 32 * tile..][..32];
                for (q, out) in out.iter_mut().enumerate() {
                    let (pair, index) = tables::PLACES[half][q];
                    let pairs = usize::from(quad[usize::from(pair)]);
                    let nibble = quad[usize::from(index)] >> (4 * (q % 2)) & 15;
                    *out = tables::SLOTS[usize::from(tables::STATES[half][pairs] | nibble)] ^ FLIP;
                }
            }
        }
    }
}

/// Joins the windows of a row, whose zeros have the code 0.
fn contract(windows: &[u8], each: usize, blocks: usize, out: &mut [u8]) {
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
    pub(crate) static T5: [u16; 256] = t5();
    /// Codes of four trits for every code of `nm-6b`.
    pub(crate) static NM6B: [u8; 64] = nm6b();
    /// Codes of four trits for an index nibble and the states (0, 1 for +1, 2 for −1) of two slots in the bits above.
    pub(super) static SLOTS: [u8; 256] = slots();
    /// States of two slots, in bits 4 to 7, of row g and row g + 8 for two pair codes.
    pub(super) static STATES: [[u8; 256]; 2] = states();
    /// In the 64 bytes of four lanes: where the pair codes and the index nibble of group q of row g and g + 8 are.
    pub(crate) static PLACES: [[(u8, u8); 32]; 2] = places();

    /// States of the rows g and g + 8 for a pair code.
    pub(crate) const PAIRS: [[u8; 16]; 2] =
        [[1, 1, 0, 1, 2, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 2, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]];

    const ZEROS: u8 = 0x55;

    const fn t5() -> [u16; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut rest, mut i) = (byte as u16, 0);
            while i < 5 {
                table[byte] |= rest % 3 << (2 * i);
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

    const fn slots() -> [u8; 256] {
        let mut table = [ZEROS; 256];
        let mut slots = 0;
        while slots < 256 {
            let (i, j) = (slots & 3, slots >> 2 & 3);
            if i < j {
                table[slots] = with(with(ZEROS, i, slots as u8 >> 4 & 3), j, slots as u8 >> 6);
            }
            slots += 1;
        }
        table
    }

    const fn states() -> [[u8; 256]; 2] {
        let mut table = [[0; 256]; 2];
        let mut codes = 0;
        while codes < 256 {
            table[0][codes] = PAIRS[0][codes & 15] << 4 | PAIRS[0][codes >> 4] << 6;
            table[1][codes] = PAIRS[1][codes & 15] << 4 | PAIRS[1][codes >> 4] << 6;
            codes += 1;
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
