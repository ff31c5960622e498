//! A valid model, mutated with regard for its structure and sealed again, opened and run.
#![no_main]

use sbnc_fuzz::{model, mutate};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(file) = mutate::mutated_from(model::seeds(), input) {
        model::run(&file);
    }
});
