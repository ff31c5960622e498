//! The safetensors header: what is legal in the wild, and each way to lie in it.

use sbnc::checkpoint::{Dtype, ErrorKind, MAX_RANK};

use super::support::{
    assert_every_bit_flip_survived, assert_every_truncation_refused, assert_refused, file, open, scratch,
};

pub(crate) fn container(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

pub(crate) fn tensor(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn misaligned_and_empty_tensors_are_read() {
    let folder = scratch("safetensors-misaligned");
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"b":{},"a":{},"empty":{},"scalar":{}}}   "#,
        tensor("F32", "[1,2]", 1, 9),
        tensor("U8", "[1]", 0, 1),
        tensor("I64", "[0,7]", 1, 1),
        tensor("BF16", "[]", 9, 11),
    );
    let data = [&[7][..], &1.5f32.to_le_bytes(), &(-2f32).to_le_bytes(), &[0x80, 0x3f]].concat();
    let checkpoint = open(&file(&folder, "m.safetensors", &container(&header, &data))).unwrap();
    let names: Vec<_> = checkpoint.entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "empty", "scalar"]);
    let b = checkpoint.entry("b").unwrap();
    let mut out = [0.0; 2];
    Dtype::F32.to_f32(&checkpoint.bytes(b).unwrap(), &mut out).unwrap();
    assert_eq!(out, [1.5, -2.0]);
    assert_eq!(checkpoint.entry("scalar").unwrap().shape, [0u64; 0]);
    let empty = checkpoint.entry("empty").unwrap();
    assert!(checkpoint.bytes(empty).unwrap().is_empty());
    assert_eq!((empty.rows(), empty.row_runs(1).count()), (0, 0));
    assert!(checkpoint.entry("none").is_none());
}

#[test]
fn rows_are_the_bytes_they_should_be() {
    let folder = scratch("safetensors-rows");
    let data: Vec<u8> = (0..60).collect();
    let header = format!(r#"{{"w":{}}}"#, tensor("I16", "[2,3,5]", 0, 60));
    let checkpoint = open(&file(&folder, "m.safetensors", &container(&header, &data))).unwrap();
    let entry = &checkpoint.entries()[0];
    assert_eq!((entry.rows(), entry.cols(), entry.row_bytes()), (6, 5, 10));
    for budget in [0, 1, 10, 25, 60, u64::MAX] {
        let joined: Vec<u8> =
            entry.row_runs(budget).flat_map(|rows| checkpoint.rows(entry, rows).unwrap().to_vec()).collect();
        assert_eq!(joined, data, "budget {budget}");
    }
}

#[test]
fn truncation_and_damage_at_every_byte() {
    let folder = scratch("safetensors-truncated");
    let header = format!(r#"{{"a":{},"b":{}}}"#, tensor("F32", "[2]", 0, 8), tensor("BOOL", "[3]", 8, 11));
    let bytes = container(&header, &[0; 11]);
    assert_every_truncation_refused(&folder, "m.safetensors", &bytes);
    assert_every_bit_flip_survived(&folder, "m.safetensors", &bytes);
}

#[test]
fn lies_in_the_header_are_refused() {
    let folder = scratch("safetensors-lies");
    let two = |a: &str, b: &str| format!(r#"{{"a":{a},"b":{b}}}"#);
    let ok = tensor("U8", "[4]", 0, 4);
    let deep = format!("[{}1]", "1,".repeat(MAX_RANK as usize));
    let cases: &[(&str, String, &str)] = &[
        ("duplicate tensor", format!(r#"{{"a":{ok},"a":{ok}}}"#), "\"a\" occurs twice"),
        ("duplicate by escape", format!(r#"{{"a":{ok},"\u0061":{ok}}}"#), "\"a\" occurs twice"),
        ("duplicate metadata", format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},"a":{ok}}}"#), "occurs twice"),
        ("duplicate in metadata", format!(r#"{{"__metadata__":{{"x":"1","x":"2"}},"a":{ok}}}"#), "occurs twice"),
        (
            "duplicate field",
            r#"{"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#.into(),
            "duplicate field",
        ),
        ("unknown field", r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}"#.into(), "unknown field"),
        ("leading space", format!(r#" {{"a":{ok}}}"#), "a JSON object"),
        ("trailing newline", format!("{{\"a\":{ok}}}\n"), "a JSON object"),
        ("overlap", two(&tensor("U8", "[3]", 0, 3), &tensor("U8", "[2]", 2, 4)), "overlap or a hole"),
        ("same range", two(&ok, &ok), "overlap or a hole"),
        ("hole", two(&tensor("U8", "[1]", 0, 1), &tensor("U8", "[2]", 2, 4)), "overlap or a hole"),
        ("late start", format!(r#"{{"a":{}}}"#, tensor("U8", "[3]", 1, 4)), "overlap or a hole"),
        ("reversed", format!(r#"{{"a":{}}}"#, tensor("U8", "[4]", 4, 0)), "data_offsets in order"),
        ("trailing bytes", format!(r#"{{"a":{}}}"#, tensor("U8", "[3]", 0, 3)), "as the header says"),
        ("past the end", format!(r#"{{"a":{}}}"#, tensor("U8", "[5]", 0, 5)), "truncated?"),
        (
            "far past the end",
            format!(r#"{{"a":{}}}"#, tensor("U8", &format!("[{}]", u64::MAX), 0, u64::MAX)),
            "truncated?",
        ),
        (
            "shape",
            format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 0, 4)),
            "expected 8 bytes for F32 of shape [2], found a range of 4",
        ),
        ("overflow", format!(r#"{{"a":{}}}"#, tensor("F64", "[4294967296,4294967296]", 0, 4)), "fits 64 bits"),
        ("rank", format!(r#"{{"a":{}}}"#, tensor("U8", &deep, 0, 4)), "a rank of at most 8, found 9"),
        ("negative", format!(r#"{{"a":{}}}"#, tensor("U8", "[-4]", 0, 4)), "invalid value"),
        ("control character", format!(r#"{{"a\u001b[2J":{ok}}}"#), "control characters"),
        ("empty name", format!(r#"{{"":{ok}}}"#), "a tensor name"),
        ("long name", format!(r#"{{"{}":{ok}}}"#, "n".repeat(1025)), "a tensor name in bytes of at most 1024"),
        ("no object", "[]".into(), "a JSON object"),
        ("not JSON", "{oops}".into(), "JSON where"),
    ];
    for (name, header, fragment) in cases {
        let path = file(&folder, &format!("{name}.safetensors"), &container(header, &[0; 4]));
        assert_refused(&path, ErrorKind::Invalid, &[fragment]);
    }
}

#[test]
fn an_unsupported_dtype_names_the_tensor() {
    let folder = scratch("safetensors-dtype");
    let header = format!(r#"{{"layers.0.w":{}}}"#, tensor("F8_E4M3", "[4]", 0, 4));
    let path = file(&folder, "m.safetensors", &container(&header, &[0; 4]));
    assert_refused(&path, ErrorKind::Unsupported, &["`layers.0.w`", "unsupported dtype \"F8_E4M3\""]);
}

#[test]
fn a_header_length_costs_nothing_before_it_is_believed() {
    let folder = scratch("safetensors-length");
    for length in [100_000_001, 1 << 40, u64::MAX] {
        let path = file(&folder, "m.safetensors", &[&u64::to_le_bytes(length)[..], b"{}"].concat());
        assert_refused(&path, ErrorKind::Invalid, &["at most 100000000"]);
    }
    let path = file(&folder, "m.safetensors", &[&u64::to_le_bytes(100_000_000)[..], b"{}"].concat());
    assert_refused(&path, ErrorKind::Invalid, &["the header", "truncated?"]);
}
