//! The promises of `nm-6b`: decoding is total, and valid bytes are exactly those that encoding gives.
#![no_main]

use sbnc_format::{Encoding, Order};
use sbnc_fuzz::{matrix, support::pattern};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let patterns = [pattern(2, 4), pattern(1, 4)];
    let _ = matrix::check(Encoding::Nm6b, Order::Rows, &patterns, input);
});
