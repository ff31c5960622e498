//! The promises of `t5`: decoding is total, and valid bytes are exactly those that encoding gives.
#![no_main]

use sbnc_format::{Encoding, Order, Pattern};
use sbnc_fuzz::{matrix, support::pattern};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let patterns = [Pattern::DENSE, pattern(2, 4), pattern(3, 5)];
    let _ = matrix::check(Encoding::T5, Order::Rows, &patterns, input);
});
