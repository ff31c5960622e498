//! Any bytes as a manifest: what is read can be written and is then the same.
#![no_main]

use sbnc_format::manifest::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let written = manifest.to_bytes().expect("a manifest that was read can be written");
    assert_eq!(Manifest::parse(&written).expect("and read again"), manifest);
    assert_eq!(manifest.to_bytes().expect("twice"), written);
});
