//! Any bytes as a torch checkpoint, or as the pickle of one.
#![no_main]

use sbnc_fuzz::checkpoint::{exercise, torch_archive};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    match input {
        [255, file @ ..] => exercise(file, "pt"),
        [storages, pickle @ ..] => exercise(&torch_archive(pickle, usize::from(storages % 8)), "pt"),
        [] => {}
    }
});
