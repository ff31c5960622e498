//! The promises of `nm-vi in order windows`: decoding is total, and valid bytes are exactly those that encoding gives.
#![no_main]

use sbnc_format::{Encoding, Order};
use sbnc_fuzz::{matrix, support::pattern};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let patterns = [pattern(4, 6), pattern(6, 8), pattern(8, 10), pattern(10, 12), pattern(12, 14), pattern(14, 16)];
    let _ = matrix::check(Encoding::NmVi, Order::Windows, &patterns, input);
});
