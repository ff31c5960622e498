//! The conformance kit of `spec/vectors`: what must be accepted is accepted and found to be what it says, and what must be refused is refused for
//! exactly the stated rule.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use sbnc_format::packed::Packed;
use sbnc_format::{Depth, FormatError, Kind, Layout, Packing, Sbnc, Tensor};
use serde_json::Value;

fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors"))
}

/// What a reader does with a file: the first broken rule, without and with decoding. A packed file is unpacked first.
fn verdicts(bytes: &[u8], packed: bool) -> (Result<(), FormatError>, Result<(), FormatError>) {
    let unpacked = if packed { unpack(bytes) } else { Ok(bytes.to_vec()) };
    match unpacked.and_then(Sbnc::open) {
        Err(e) => (Err(e.clone()), Err(e)),
        Ok(file) => (
            file.verify(Depth::Stored, &|_| {}).result(),
            file.verify(Depth::Decoded, &|_| {}).result().and_then(|()| file.require_decodable()),
        ),
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let packed = Packed::open(bytes)?;
    let chunks = (0..packed.chunks()).map(|i| packed.chunk(i)).collect::<Result<Vec<_>, _>>()?;
    let unpacked = chunks.concat();
    packed.check_unpacked(&unpacked)?;
    Ok(unpacked)
}

#[test]
fn invalid_files_are_refused_for_the_stated_rule() {
    let index: Value = serde_json::from_slice(&fs::read(vectors().join("invalid.json")).unwrap()).unwrap();
    let index = index.as_object().unwrap();
    assert!(index.len() >= 120, "only {} vectors", index.len());
    let mut wrong = Vec::new();
    for (name, vector) in index {
        let (bytes, packed) = invalid_bytes(vector);
        let (stored, decoded) = verdicts(&bytes, packed);
        let verdict = if vector["deep"].as_bool().unwrap() {
            if let Err(e) = &stored {
                wrong.push(format!("{name}: refused without decoding: {e}"));
            }
            decoded
        } else {
            stored
        };
        let kind = match vector["kind"].as_str().unwrap() {
            "invalid" => Kind::Invalid,
            "unsupported" => Kind::Unsupported,
            "integrity" => Kind::Integrity,
            other => panic!("{name}: kind {other}"),
        };
        let rule = vector["rule"].as_str().unwrap();
        match verdict {
            Ok(()) => wrong.push(format!("{name}: accepted, though it breaks {rule}: {}", vector["why"])),
            Err(e) if format!("SBNC-R{:03}", e.rule()) != rule || e.kind() != kind => {
                wrong.push(format!("{name}: expected {rule} ({kind:?}), got {e} ({:?})", e.kind()));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), index.len(), wrong.join("\n"));
}

fn invalid_bytes(vector: &Value) -> (Vec<u8>, bool) {
    let base = vector["base"].as_str().unwrap();
    let mut bytes = fs::read(vectors().join(base)).unwrap();
    for edit in vector["edits"].as_array().unwrap() {
        let (offset, new) = (edit[0].as_u64().unwrap() as usize, hex(edit[1].as_str().unwrap()));
        bytes[offset..offset + new.len()].copy_from_slice(&new);
    }
    if let Some(length) = vector["truncate"].as_u64() {
        bytes.truncate(length as usize);
    }
    if let Some(more) = vector["append"].as_str() {
        bytes.extend(hex(more));
    }
    (bytes, base.ends_with('z'))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn valid_files_are_what_they_say() {
    let mut seen = 0;
    for entry in fs::read_dir(vectors().join("valid")).unwrap() {
        let path = entry.unwrap().path();
        let packed = path.extension().is_some_and(|e| e == "sbncz");
        if !packed && path.extension().is_none_or(|e| e != "sbnc") {
            continue;
        }
        seen += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let expected: Value = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        let decodable = expected["decodable"].as_bool().unwrap_or(true);
        let (stored, decoded) = verdicts(&bytes, packed);
        stored.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.is_ok(), decodable, "{name}: {decoded:?}");
        let file = Sbnc::open(if packed { unpack(&bytes).unwrap() } else { bytes }).unwrap();
        assert_eq!(expected["root"], file.root().to_string(), "{name}");
        assert_eq!(expected["file_bytes"], file.file_bytes(), "{name}");
        let tensors = expected["tensors"].as_array().unwrap();
        assert_eq!(tensors.len(), file.tensors().len(), "{name}");
        for (expected, tensor) in tensors.iter().zip(file.tensors()) {
            check_tensor(expected, tensor, &name);
        }
    }
    assert!(seen >= 25, "only {seen} valid files");
}

fn check_tensor(expected: &Value, tensor: &Tensor, file: &str) {
    let place = format!("{file}: {}", tensor.name);
    assert_eq!(expected["name"], tensor.name.as_str(), "{place}");
    assert_eq!(expected["shape"], Value::from(tensor.shape.clone()), "{place}");
    let numbers = [
        ("offset", tensor.offset),
        ("stored_bytes", tensor.stored_bytes),
        ("data_bytes", tensor.data_bytes),
        ("scale_count", tensor.scale_count),
        ("non_zero", tensor.non_zero),
    ];
    for (key, number) in numbers {
        assert_eq!(expected[key], number, "{place}: {key}");
    }
    assert_eq!(expected["stored_digest"], tensor.stored_digest.to_string(), "{place}");
    assert_eq!(expected["content_digest"], tensor.content_digest.to_string(), "{place}");
    if let Layout::Known(Packing { encoding, order, pattern }) = tensor.layout {
        assert_eq!(expected["encoding"], encoding.name(), "{place}");
        assert_eq!(expected["order"], order.name(), "{place}");
        let nm = if pattern.is_dense() { Value::Null } else { pattern.to_string().into() };
        assert_eq!(expected["nm"], nm, "{place}");
        assert_eq!(expected["role"], tensor.role.name(), "{place}");
    }
}
