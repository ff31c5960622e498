//! The conformance kit of `spec/vectors`: every valid file is read as its description says, every invalid one is refused for the stated rule.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use sbnc_format::encoding::decode_batches;
use sbnc_format::packed::Packed;
use sbnc_format::{Depth, FormatError, Kind, Layout, Sbnc, TensorView};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// All that opening finds out about a file, in the kit's form. Numbers of unknown roles are not kept, so they are left as described.
fn describe(bytes: &[u8], described: &Value) -> Value {
    let file = Sbnc::open(bytes).unwrap();
    let sections: Vec<_> = file
        .header()
        .sections
        .iter()
        .map(|s| json!({"kind": s.kind, "offset": s.offset, "bytes": s.bytes, "digest": s.digest.to_string()}))
        .collect();
    let tensors: Vec<_> =
        file.views().zip(described["tensors"].as_array().unwrap()).map(|(view, d)| describe_tensor(&view, d)).collect();
    json!({
        "root": file.root().to_string(),
        "file_bytes": file.file_bytes(),
        "decodable": file.require_decodable().is_ok(),
        "sections": sections,
        "tensors": tensors,
        "manifest": described["manifest"],
    })
}

fn describe_tensor(view: &TensorView<'_>, described: &Value) -> Value {
    let t = view.tensor();
    let (encoding, order, nm) = match t.layout {
        Layout::Known { encoding, order, pattern } => {
            let nm = if pattern.is_dense() { Value::Null } else { json!(pattern.to_string()) };
            (json!(encoding.name()), json!(order.name()), nm)
        }
        Layout::Opaque { encoding, order } => (json!(encoding), json!(order), Value::Null),
    };
    let role = if described["role"].is_number() { described["role"].clone() } else { json!(t.role.name()) };
    let scales: Vec<String> =
        view.scale_bytes().chunks(4).take(2).map(|b| b.iter().map(|x| format!("{x:02x}")).collect()).collect();
    json!({
        "name": t.name, "role": role, "encoding": encoding, "order": order, "shape": t.shape, "nm": nm,
        "offset": t.offset, "stored_bytes": t.stored_bytes, "data_bytes": t.data_bytes, "scale_count": t.scale_count,
        "non_zero": t.non_zero, "stored_digest": t.stored_digest.to_string(),
        "content_digest": t.content_digest.to_string(), "first_row": first_row(view), "scales_head": scales,
    })
}

fn first_row(view: &TensorView<'_>) -> Value {
    let Layout::Known { encoding, order, pattern } = view.tensor().layout else { return Value::Null };
    if !encoding.is_ternary() || view.validate().is_err() {
        return Value::Null;
    }
    let (rows, cols) = view.tensor().matrix();
    let mut row = Value::Null;
    let shape = (rows as usize, cols as usize);
    let done: Result<(), ()> = decode_batches(encoding, order, pattern, view.data(), shape, |first, trits| {
        if first == 0 {
            row = json!(trits[..shape.1]);
        }
        Ok(())
    });
    done.unwrap();
    row
}

/// The manifest as text must be the canonical form of what is described.
fn manifest_of(bytes: &[u8]) -> Value {
    let file = Sbnc::open(bytes).unwrap();
    let section = file.header().sections.iter().find(|s| s.kind == 48).unwrap();
    serde_json::from_slice(&bytes[section.range()]).unwrap()
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let packed = Packed::open(bytes)?;
    let mut whole = Vec::new();
    for index in 0..packed.chunks() {
        whole.extend(packed.chunk(index)?);
    }
    // R106 covers whatever is wrong with the unpacked file; how it is wrong stays the same.
    let root = Sbnc::open(&whole[..]).map_err(of_unpacked)?.root();
    packed.check_root(root)?;
    Ok(whole)
}

fn of_unpacked(e: FormatError) -> FormatError {
    let make = match e.kind() {
        Kind::Invalid => FormatError::invalid,
        Kind::Unsupported => FormatError::unsupported,
        Kind::Integrity => FormatError::integrity,
    };
    make(106, "unpacked file", "a valid one", e.to_string())
}

#[test]
fn every_valid_file_is_read_as_described() {
    let mut count = 0;
    for path in fs::read_dir(folder().join("valid")).unwrap().map(|e| e.unwrap().path()) {
        let Some(extension) = path.extension().filter(|e| *e == "sbnc" || *e == "sbncz") else { continue };
        let mut described = json_of(&path.with_extension("json"));
        let mut bytes = fs::read(&path).unwrap();
        if extension == "sbncz" {
            let packed = described.as_object_mut().unwrap().remove("packed").unwrap();
            assert_eq!(packed["file_bytes"], bytes.len(), "{path:?}");
            bytes = unpack(&bytes).unwrap();
            assert_eq!(packed["raw_bytes"], bytes.len(), "{path:?}");
        }
        let found = describe(&bytes, &described);
        for member in described.as_object().unwrap().keys().filter(|m| *m != "tensors") {
            assert_eq!(found[member], described[member], "{path:?}: {member}");
        }
        for (found, tensor) in found["tensors"].as_array().unwrap().iter().zip(described["tensors"].as_array().unwrap())
        {
            for (member, value) in tensor.as_object().unwrap() {
                assert_eq!(&found[member], value, "{path:?}: {member} of {}", tensor["name"]);
            }
        }
        assert_eq!(Sbnc::open(&bytes[..]).unwrap().tensors().len(), described["tensors"].as_array().unwrap().len());
        assert_eq!(manifest_of(&bytes), described["manifest"], "{path:?}");
        let file = Sbnc::open(&bytes[..]).unwrap();
        let stored = file.verify(Depth::Stored, &|_| {}).problems;
        assert!(stored.is_empty(), "{path:?}: {stored:?}");
        let decoded = file.verify(Depth::Decoded, &|_| {}).problems;
        let refused: Vec<_> = decoded.iter().map(FormatError::rule).collect();
        assert_eq!(refused, if described["decodable"] == true { vec![] } else { vec![10] }, "{path:?}: {decoded:?}");
        count += 1;
    }
    assert!(count >= 30, "only {count} valid files");
}

/// The bytes of an invalid entry: the base with edits, cut, and with bytes appended.
fn edited(entry: &Value) -> Vec<u8> {
    let hex = |v: &Value| -> Vec<u8> {
        let text = v.as_str().unwrap();
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let mut bytes = fs::read(folder().join(entry["base"].as_str().unwrap())).unwrap();
    for edit in entry["edits"].as_array().unwrap() {
        let (at, new) = (edit[0].as_u64().unwrap() as usize, hex(&edit[1]));
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    if let Some(length) = entry["truncate"].as_u64() {
        bytes.truncate(length as usize);
    }
    if !entry["append"].is_null() {
        bytes.extend(hex(&entry["append"]));
    }
    bytes
}

/// What refuses the bytes, and whether only decoding did.
fn refusal(bytes: &[u8], is_packed: bool) -> Option<(FormatError, bool)> {
    if is_packed {
        return unpack(bytes).err().map(|e| (e, false));
    }
    let file = match Sbnc::open(bytes) {
        Ok(file) => file,
        Err(e) => return Some((e, false)),
    };
    let at = |depth| file.verify(depth, &|_| {}).problems.into_iter().next();
    at(Depth::Stored).map(|e| (e, false)).or_else(|| at(Depth::Decoded).map(|e| (e, true)))
}

#[test]
fn every_invalid_file_is_refused_for_its_rule() {
    let list = json_of(&folder().join("invalid.json"));
    let mut wrong = Vec::new();
    for (name, entry) in list.as_object().unwrap() {
        let is_packed = entry["base"].as_str().unwrap().ends_with(".sbncz");
        let found = refusal(&edited(entry), is_packed).map(|(e, deep)| {
            let kind = match e.kind() {
                Kind::Invalid => "invalid",
                Kind::Unsupported => "unsupported",
                Kind::Integrity => "integrity",
            };
            (format!("SBNC-R{:03}", e.rule()), kind, deep, e.to_string())
        });
        let Some((rule, kind, deep, text)) = found else {
            wrong.push(format!("{name}: accepted, but {}", entry["why"]));
            continue;
        };
        if entry["rule"] != rule || entry["deep"] != deep || entry["kind"] != kind {
            wrong.push(format!(
                "{name}: expected {} {} deep {}, found {kind} deep {deep} {text}",
                entry["rule"], entry["kind"], entry["deep"]
            ));
        }
    }
    let count = list.as_object().unwrap().len();
    assert!(count >= 200, "only {count} invalid files");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
