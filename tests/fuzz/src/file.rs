//! Using a file in every way that the crate offers.

use sbnc_format::packed::Packed;
use sbnc_format::{Depth, Layout, Sbnc};

/// Opens, verifies at both depths, and uses every tensor whether or not it verified.
pub fn exercise(bytes: &[u8]) {
    let Ok(file) = Sbnc::open(bytes) else { return };
    let stored = file.verify(Depth::Stored, &|_| {}).problems;
    let decoded = file.verify(Depth::Decoded, &|_| {}).problems;
    assert!(decoded.len() >= stored.len(), "checking more finds no less");
    assert!(stored.iter().chain(&decoded).all(|problem| (1..=106).contains(&problem.rule())));
    let _ = (file.content(), file.require_decodable());
    for entry in &file.manifest().files {
        let _ = file.carried(&entry.name);
    }
    let again = file.manifest().to_bytes().expect("a manifest that was read can be written");
    assert_eq!(&sbnc_format::manifest::Manifest::parse(&again).expect("and read again"), file.manifest());
    for view in file.views() {
        let tensor = view.tensor();
        assert!(file.tensor(&tensor.name).is_some_and(|found| found.tensor() == tensor), "names lead to tensors");
        let _ = (tensor.bits_per_weight(), tensor.zero_fraction(), tensor.matrix(), view.scales());
        assert!(view.data().len() <= view.extent().len());
        let verified = view.verify();
        assert!(verified.is_err() || view.validate().is_ok(), "what verifies is valid");
        assert!(verified.is_err() || file.require_decodable().is_ok(), "what cannot be decoded does not verify");
        let Layout::Known(packing) = tensor.layout else { continue };
        if !packing.encoding.is_ternary() {
            continue;
        }
        let (rows, cols) = tensor.matrix();
        let mut elements = 0;
        let done: Result<(), ()> =
            packing.decode_batches(view.data(), (rows as usize, cols as usize), |_, trits| {
                assert!(trits.iter().all(|t| (-1..=1).contains(t)), "decoding stays in range, whatever the bytes");
                elements += trits.len() as u64;
                Ok(())
            });
        assert!(done.is_ok() && elements == tensor.elements());
    }
}

/// Opens a packed file and unpacks it in memory, if it claims to be small.
pub fn exercise_packed(bytes: &[u8]) {
    let Ok(packed) = Packed::open(bytes) else { return };
    assert!(packed.raw_bytes() <= 1024 * bytes.len() as u64);
    let mut whole = Vec::new();
    for index in 0..packed.chunks() {
        match packed.chunk(index) {
            Ok(chunk) if whole.len() < 16 << 20 => whole.extend(chunk),
            _ => return,
        }
    }
    assert_eq!(whole.len() as u64, packed.raw_bytes());
    exercise(&whole);
    let checked = packed.check_unpacked(&whole);
    assert!(checked.is_err() || Sbnc::open(&whole[..]).is_ok_and(|file| file.root() == packed.root()));
}

/// Puts the sizes and digests of a packed file right (SPEC §11), where they can be.
pub fn reseal_packed(bytes: &mut [u8]) {
    use crate::support::reseal::{number, part, put};
    if bytes.len() < 128 {
        return;
    }
    let length = bytes.len() as u64;
    put(bytes, 16, 8, length);
    let count = number(bytes, 32, 4).min(1 << 16) as usize;
    let table_end = 128 + 40 * count;
    let mut offset = table_end as u64;
    for at in (0..count).map(|i| 128 + 40 * i) {
        let stored = number(bytes, at, 4);
        let Some(digest) = part(bytes, offset, stored).map(blake3::hash) else { break };
        bytes[at + 8..at + 40].copy_from_slice(digest.as_bytes());
        offset += stored;
    }
    let Some(table) = bytes.get(128..table_end) else { return };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..96]).update(&[0; 32]).update(table);
    let digest = hasher.finalize();
    bytes[96..128].copy_from_slice(digest.as_bytes());
}
