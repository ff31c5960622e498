//! Any bytes as a packed file, as they are and with sizes and digests put right.
#![no_main]

use sbnc_fuzz::file::{exercise_packed, reseal_packed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise_packed(bytes);
    let mut sealed = bytes.to_vec();
    reseal_packed(&mut sealed);
    exercise_packed(&sealed);
});
