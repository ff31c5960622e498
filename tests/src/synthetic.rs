//! Large checkpoints: finite bf16 weights from a small generator, in a file without a configuration.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `count` matrices of `rows` × `cols` bf16 weights to a .safetensors file.
pub fn synthetic(path: &Path, count: usize, rows: usize, cols: usize) {
    let size = 2 * rows * cols;
    let members: Vec<String> = (0..count)
        .map(|i| {
            let (start, end) = (i * size, (i + 1) * size);
            format!("\"layers.{i:02}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{cols}],\"data_offsets\":[{start},{end}]}}")
        })
        .collect();
    let mut header = format!("{{{}}}", members.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("the checkpoint can be created"));
    let mut put = |bytes: &[u8]| out.write_all(bytes).expect("the checkpoint can be written");
    put(&(header.len() as u64).to_le_bytes());
    put(&header);
    // The same block again and again, from another place each time: making random bytes would take longer than compiling them.
    let block = block(1 << 20);
    for i in 0..count {
        let mut left = size;
        let mut from = (2 * 7_919 * (i + 1)) % block.len();
        while left > 0 {
            let piece = left.min(block.len() - from);
            put(&block[from..from + piece]);
            (left, from) = (left - piece, 0);
        }
    }
    out.flush().expect("the checkpoint can be written");
}

/// bf16 values of both signs with magnitudes between 2^-9 and 1.
fn block(values: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..values)
        .flat_map(|_| {
            let random = next();
            let (sign, exponent, fraction) = (random >> 63, 118 + (random >> 8) % 9, random & 0x7F);
            ((sign << 15 | exponent << 7 | fraction) as u16).to_le_bytes()
        })
        .collect()
}
