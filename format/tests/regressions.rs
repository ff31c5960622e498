//! Faults that were found by tests, fuzzing or reading, each pinned down here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use sbnc_format::error::rule;
use sbnc_format::manifest::Manifest;
use sbnc_format::{Depth, Digest, Encoding, Layout, Order, Pattern, Role, Sbnc};
use support::parts::Parts;
use support::reseal::put;
use support::{Random, Sample};

/// The manifest with every member, with `old` replaced.
fn manifest_with(old: &str, new: &str) -> Result<Manifest, u16> {
    let text = String::from_utf8(support::manifest(&support::carried()).to_bytes().unwrap()).unwrap();
    assert!(text.contains(old), "{old} in {text}");
    Manifest::parse(text.replacen(old, new, 1).as_bytes()).map_err(|e| e.rule())
}

#[test]
fn an_array_is_no_object_and_an_object_no_name() {
    let members = Err(rule::MANIFEST_MEMBERS);
    let tokens = "{\"bos\":1,\"eos\":[2,3],\"pad\":0}";
    assert_eq!(manifest_with(tokens, "[1,[2,3],0]"), members);
    assert_eq!(manifest_with("\"style\":\"half\"", "\"style\":{\"half\":null}"), members);
    let text = String::from_utf8(support::bare_manifest().to_bytes().unwrap()).unwrap();
    let (_, provenance) = text.split_once("\"provenance\":").unwrap();
    let provenance = &provenance[..provenance.len() - 1];
    assert_eq!(manifest_with(provenance, "[\"test 1\",\"none\",{},{},[]]"), members);
    assert_eq!(manifest_with("\"bos\":1", "\"bos\":null"), members);
    assert_eq!(manifest_with("\"files\":[", "\"files\":{}, \"g\":["), Err(rule::MANIFEST_CANONICAL));
    assert!(manifest_with(tokens, "{\"bos\":1,\"new\":[{}],\"pad\":0}").is_ok(), "other members are ignored");
}

#[test]
fn canonical_form_is_told_from_other_json() {
    for (old, new, expected) in [
        ("\"test 1\"", "\"test\\u00201\"", rule::MANIFEST_CANONICAL),
        ("\"test 1\"", "\"test\\/1\"", rule::MANIFEST_CANONICAL),
        ("\"test 1\"", "\"\\u000a\"", rule::MANIFEST_CANONICAL),
        ("\"test 1\"", "\"\\u001F\"", rule::MANIFEST_CANONICAL),
        ("\"test 1\"", "\"\\ud800\"", rule::MANIFEST_CANONICAL),
        ("\"test 1\"", "\"\u{1}\"", rule::MANIFEST_JSON),
        ("\"test 1\"", " \"test 1\"", rule::MANIFEST_CANONICAL),
        ("{\"pattern\":\"2:4\"}", "{\"b\":\"\",\"a\":\"\"}", rule::MANIFEST_CANONICAL),
        ("{\"pattern\":\"2:4\"}", "{\"a\":\"\",\"a\":\"\"}", rule::MANIFEST_CANONICAL),
        // A line feed comes before a letter, its escape's backslash after "A".
        ("{\"pattern\":\"2:4\"}", "{\"A\":\"\",\"\\n\":\"\"}", rule::MANIFEST_CANONICAL),
        ("\"bos\":1", "\"bos\":-0", rule::MANIFEST_NUMBER),
        ("\"bos\":1", "\"bos\":1e400", rule::MANIFEST_NUMBER),
        ("\"bos\":1", "\"bos\":9007199254740993", rule::MANIFEST_NUMBER),
        ("\"bos\":1", "\"bos\":01", rule::MANIFEST_JSON),
    ] {
        assert_eq!(manifest_with(old, new), Err(expected), "{new}");
    }
    for (old, new) in [
        ("\"test 1\"", "\"\\u0000\\b\\f\\n\\r\\t\\u001f\\\"\\\\/\u{7F}ä\u{10FFFF}\""),
        ("{\"pattern\":\"2:4\"}", "{\"\\n\":\"\",\"\\u001f\":\"\",\"A\":\"\",\"\\\\\":\"\",\"a\":\"\"}"),
    ] {
        assert!(manifest_with(old, new).is_ok(), "{new}");
    }
}

#[test]
fn skippable_frames_are_not_files() {
    let carried = support::carried();
    let mut parts = Parts::split(&support::whole());
    let hidden = [&[0x50, 0x2A, 0x4D, 0x18, 20, 0, 0, 0][..], &[0xAA; 20]].concat();
    assert_eq!(hidden.len() as u64, carried[1].entry.stored, "as long as the frame in its place");
    let files = parts.section(64);
    let start = files.len() - hidden.len();
    files[start..].copy_from_slice(&hidden);
    let mut manifest = support::manifest(&carried);
    manifest.files[1].raw = 0;
    manifest.files[1].blake3 = Digest::of(&[]).to_string();
    *parts.section(48) = manifest.to_bytes().unwrap();
    let file = parts.join();
    let file = Sbnc::open(&file[..]).unwrap();
    assert_eq!(file.carried("tokenizer.json").unwrap_err().rule(), rule::FILE_CONTENT);
    assert_eq!(file.verify(Depth::Stored, &|_| {}).result().unwrap_err().rule(), rule::FILE_CONTENT);
}

/// In a file that may only be listed, sizes of a record bind nobody; they used to be sliced by.
#[test]
fn tensors_of_unknown_layout_are_never_read_by_their_sizes() {
    let sample = Sample::trits(&mut Random(7), "w", (Encoding::T2, Order::Rows), (2, 6), Pattern::DENSE);
    let mut parts = Parts::split(&support::one(sample));
    parts.prefix[32] = 1;
    for (field, value) in [(72, u64::MAX), (72, 1 << 40), (80, u64::MAX), (80, 0), (88, u64::MAX), (16, 3)] {
        let mut edited = parts.clone();
        put(edited.section(16), field, if field == 16 { 1 } else { 8 }, value);
        let file = edited.join();
        let file = Sbnc::open(&file[..]).unwrap();
        let view = file.views().next().unwrap();
        assert!(matches!(view.tensor().layout, Layout::Opaque { encoding: 16, order: 0 }), "field {field}");
        assert_eq!((view.data(), view.scales()), (view.extent(), vec![]));
        file.verify(Depth::Stored, &|_| {}).result().unwrap();
        let decoded = file.verify(Depth::Decoded, &|_| {}).result();
        for refused in [decoded, view.verify(), view.validate().map(|_| ())] {
            assert_eq!(refused.unwrap_err().rule(), rule::INSPECT_ONLY, "field {field}");
        }
    }
    // A record that breaks nothing keeps its layout, and still must not be decoded.
    let file = parts.join();
    let file = Sbnc::open(&file[..]).unwrap();
    let view = file.views().next().unwrap();
    assert!(matches!(view.tensor().layout, Layout::Known(_)));
    assert_eq!(view.validate().unwrap_err().rule(), rule::INSPECT_ONLY);
}

#[test]
fn a_section_after_the_payload_is_not_payload() {
    let mut parts = Parts::split(&support::whole());
    let payload = parts.section(128).len() as u64;
    parts.sections.push((200, 0, vec![1; 5000]));
    let file = parts.join();
    let found = Sbnc::open(&file[..]).unwrap().verify(Depth::Decoded, &|_| {});
    assert_eq!((found.bytes, found.problems), (payload, vec![]));
}

#[test]
fn floats_of_another_type_are_other_content() {
    let content = |encoding| {
        let mut sample = Sample::values(&mut Random(1), "x", Role::Other, Encoding::Bf16, &[4]);
        sample.spec.encoding = encoding;
        Sbnc::open(support::one(sample)).unwrap().content()
    };
    assert_ne!(content(Encoding::Bf16), content(Encoding::F16));
}
