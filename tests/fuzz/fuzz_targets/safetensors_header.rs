//! Any bytes as a safetensors file, or as the header of one.
#![no_main]

use sbnc_fuzz::checkpoint::{exercise, safetensors};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    match input {
        [255, file @ ..] => exercise(file, "safetensors"),
        [zeros, header @ ..] => exercise(&safetensors(header, usize::from(*zeros)), "safetensors"),
        [] => {}
    }
});
