//! A valid file, mutated with regard for its structure and sealed again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(file) = sbnc_fuzz::mutate::mutated(input) {
        sbnc_fuzz::file::exercise(&file);
    }
});
