//! GGUF: the header's fields, its ternary blocks, and files that lie in them.

use std::path::Path;

use half::f16;
use sbnc::checkpoint::gguf::Value;
use sbnc::checkpoint::gguf::decode::I2sLayout;
use sbnc::checkpoint::{Checkpoint, CheckpointError, Dtype, ErrorKind};

use super::support::{
    assert_every_bit_flip_survived, assert_every_truncation_refused, assert_refusal, assert_refused, file, open,
    scratch,
};

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name)[..], &kind.to_le_bytes(), value].concat()
}

/// A tensor's description; dimensions innermost first, as the file has them.
fn describe(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dims: Vec<u8> =
        [&(dims.len() as u32).to_le_bytes()[..], &dims.iter().flat_map(|dim| dim.to_le_bytes()).collect::<Vec<_>>()]
            .concat();
    [&string(name)[..], &dims, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// A whole file: keys, descriptions, and data at the next multiple of 32.
fn container(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    let counts = [tensors.len() as u64, keys.len() as u64].map(u64::to_le_bytes).concat();
    let mut out = [b"GGUF", &3u32.to_le_bytes()[..], &counts, &keys.concat(), &tensors.concat()].concat();
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

fn one(folder: &Path, kind: u32, dims: &[u64], data: &[u8]) -> Checkpoint {
    open(&file(folder, "m.gguf", &container(&[], &[describe("w", dims, kind, 0)], data))).unwrap()
}

/// Trits that repeat with no short period.
fn trits(len: usize) -> Vec<i8> {
    (0..len).map(|i| (i * i / 3 + i / 7) as i8 % 3).map(|digit| digit.rem_euclid(3) - 1).collect()
}

fn tq1_0(trits: &[i8], scale: f32) -> Vec<u8> {
    let digit = |at: usize| (trits[at] + 1) as u32;
    let byte = |number: u32| (number * 256).div_ceil(243) as u8;
    let run = |start: usize, stride: usize| {
        (0..stride).map(move |i| byte((0..5).fold(0, |number, n| number * 3 + digit(start + n * stride + i))))
    };
    let last = (0..4).map(|i| byte((0..4).fold(0, |number, n| number * 3 + digit(240 + n * 4 + i)) * 3));
    run(0, 32).chain(run(160, 16)).chain(last).chain(f16::from_f32(scale).to_le_bytes()).collect()
}

fn tq2_0(trits: &[i8], scale: f32) -> Vec<u8> {
    let run = |start: usize| {
        (0..32).map(move |i| (0..4).fold(0, |byte, n| byte | ((trits[start + 32 * n + i] + 1) as u8) << (2 * n)))
    };
    run(0).chain(run(128)).chain(f16::from_f32(scale).to_le_bytes()).collect()
}

fn i2s(trits: &[i8], cols: usize, layout: I2sLayout, scale: f32) -> Vec<u8> {
    let stride = match layout {
        I2sLayout::X86 => 32,
        I2sLayout::Arm => 16,
        I2sLayout::Rows4 => cols,
    };
    let mut out = vec![0u8; trits.len() / 4];
    for (at, trit) in trits.iter().enumerate() {
        let (block, within) = (at / (4 * stride), at % (4 * stride));
        out[block * stride + within % stride] |= ((trit + 1) as u8) << (6 - 2 * (within / stride));
    }
    out.extend(scale.to_le_bytes());
    out.extend([0; 28]);
    out
}

#[test]
fn metadata_is_typed_and_shapes_are_row_major() {
    let folder = scratch("gguf-metadata");
    let names = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &string("a"), &string("")].concat();
    let keys = [
        key("general.architecture", 8, &string("bitnet-b1.58")),
        key("general.alignment", 4, &64u32.to_le_bytes()),
        key("names", 9, &names),
        key("eps", 6, &1e-5f32.to_le_bytes()),
        key("tied", 7, &[1]),
        key("layers", 10, &30u64.to_le_bytes()),
    ];
    let tensors = [describe("w", &[3, 2], 0, 0), describe("v", &[5], 1, 64)];
    let mut bytes = container(&keys, &tensors, &[]);
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend([vec![1; 24], vec![0; 40], vec![2; 10], vec![0; 54]].concat());
    let checkpoint = open(&file(&folder, "m.gguf", &bytes)).unwrap();
    let metadata = checkpoint.gguf_metadata();
    assert_eq!(metadata["general.architecture"], Value::String("bitnet-b1.58".into()));
    assert_eq!(metadata["names"], Value::Array(vec![Value::String("a".into()), Value::String(String::new())]));
    assert_eq!((metadata["layers"].as_u64(), &metadata["tied"]), (Some(30), &Value::Bool(true)));
    let w = checkpoint.entry("w").unwrap();
    assert_eq!((w.dtype, w.shape.as_slice()), (Dtype::F32, &[2, 3][..]));
    assert_eq!(checkpoint.bytes(w).unwrap()[..], [1; 24]);
    assert_eq!(checkpoint.bytes(checkpoint.entry("v").unwrap()).unwrap()[..], [2; 10]);
}

#[test]
fn ternary_blocks_decode_to_what_was_encoded() {
    let folder = scratch("gguf-ternary");
    let trits = trits(4 * 512);
    type Encode = fn(&[i8], f32) -> Vec<u8>;
    for (kind, encode) in [(34, tq1_0 as Encode), (35, tq2_0 as Encode)] {
        let data: Vec<u8> = trits
            .chunks(256)
            .enumerate()
            .flat_map(|(block, trits)| encode(trits, 0.25 * (1 + block / 2) as f32))
            .collect();
        let checkpoint = one(&folder, kind, &[512, 4], &data);
        let entry = checkpoint.entry("w").unwrap();
        let all = checkpoint.ternary_rows(entry, 0..4, None).unwrap();
        assert_eq!((all.trits, all.scales), (trits.clone(), vec![0.25, 0.5, 0.75, 1.0]));
        let some = checkpoint.ternary_rows(entry, 1..3, None).unwrap();
        assert_eq!((&some.trits[..], some.scales), (&trits[512..1536], vec![0.5, 0.75]));
    }
    for layout in [I2sLayout::X86, I2sLayout::Arm, I2sLayout::Rows4] {
        assert_eq!(layout.name().parse(), Ok(layout));
        let checkpoint = one(&folder, 36, &[256, 8], &i2s(&trits, 256, layout, 1.5));
        let entry = checkpoint.entry("w").unwrap();
        let all = checkpoint.ternary_rows(entry, 0..8, Some(layout)).unwrap();
        assert_eq!((&all.trits, all.scales), (&trits, vec![1.5; 8]), "{}", layout.name());
        let some = checkpoint.ternary_rows(entry, 4..8, Some(layout)).unwrap();
        assert_eq!(some.trits, trits[4 * 256..], "{}", layout.name());
    }
    assert!("ARM64".parse::<I2sLayout>().unwrap_err().to_string().contains("x86, arm or rows4"));
}

#[test]
fn a_row_has_one_scale_or_none() {
    let folder = scratch("gguf-scales");
    let path = folder.join("m.gguf");
    let (some, none) = (trits(256), [0; 256]);
    let decode = |blocks: [Vec<u8>; 2]| {
        let checkpoint = one(&folder, 35, &[512], &blocks.concat());
        checkpoint.ternary_rows(&checkpoint.entries()[0], 0..1, None)
    };
    assert_eq!(decode([tq2_0(&none, 0.0), tq2_0(&some, 0.5)]).unwrap().scales, [0.5]);
    assert_eq!(decode([tq2_0(&some, 0.5), tq2_0(&none, f32::NAN)]).unwrap().scales, [0.5]);
    assert_eq!(decode([tq2_0(&none, 1.0), tq2_0(&none, 2.0)]).unwrap().scales, [0.0]);
    let groups = decode([tq2_0(&some, 0.5), tq2_0(&some, 0.25)]);
    assert!(matches!(groups, Err(CheckpointError::GroupScales(_))));
    assert_refusal(
        groups,
        &path,
        ErrorKind::Unsupported,
        &["`w`", "group scales are unsupported", "block scales 0.5 and 0.25 (block 1)"],
    );
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_refusal(
            decode([tq2_0(&some, scale), tq2_0(&none, 0.0)]),
            &path,
            ErrorKind::Invalid,
            &["`w`", "finite one above zero"],
        );
    }
    let mut three = tq2_0(&some, 0.5);
    three[5] |= 0b11 << 4;
    assert_refusal(decode([tq2_0(&some, 0.5), three]), &path, ErrorKind::Invalid, &["code 3 at column 325"]);
}

#[test]
fn i2_s_is_never_guessed() {
    let folder = scratch("gguf-i2s");
    let path = folder.join("m.gguf");
    let checkpoint = one(&folder, 36, &[64, 2], &i2s(&trits(128), 64, I2sLayout::Arm, 1.0));
    let entry = &checkpoint.entries()[0];
    assert_refusal(
        checkpoint.ternary_rows(entry, 0..2, None),
        &path,
        ErrorKind::Unsupported,
        &["the I2_S layout", "x86, arm or rows4"],
    );
    for layout in [I2sLayout::X86, I2sLayout::Rows4] {
        assert_refusal(
            checkpoint.ternary_rows(entry, 0..2, Some(layout)),
            &path,
            ErrorKind::Unsupported,
            &["rows in whole blocks", "[2, 64]"],
        );
    }
    let mut bad = i2s(&trits(128), 64, I2sLayout::Arm, 1.0);
    bad[17] |= 0b11; // row 1, part 3, position 1
    let checkpoint = one(&folder, 36, &[64, 2], &bad);
    assert_refusal(
        checkpoint.ternary_rows(&checkpoint.entries()[0], 0..2, Some(I2sLayout::Arm)),
        &path,
        ErrorKind::Invalid,
        &["code 3 at column 49"],
    );
}

#[test]
fn truncation_and_damage_at_every_byte() {
    let folder = scratch("gguf-truncated");
    let keys =
        [key("a", 8, &string("text")), key("b", 9, &[&0u32.to_le_bytes()[..], &3u64.to_le_bytes(), b"xyz"].concat())];
    let bytes = container(&keys, &[describe("w", &[2], 0, 0), describe("v", &[16], 24, 32)], &[7; 48]);
    assert_every_truncation_refused(&folder, "m.gguf", &bytes);
    assert_every_bit_flip_survived(&folder, "m.gguf", &bytes);
    for (kind, data) in
        [(34, tq1_0(&trits(256), 0.5)), (35, tq2_0(&trits(256), 0.5)), (36, i2s(&trits(256), 256, I2sLayout::X86, 0.5))]
    {
        let bytes = container(&[], &[describe("w", &[256], kind, 0)], &data);
        assert_every_bit_flip_survived(&folder, "m.gguf", &bytes);
    }
}

#[test]
fn lies_in_the_header_are_refused() {
    let folder = scratch("gguf-lies");
    let w = |dims: &[u64], kind, offset| container(&[], &[describe("w", dims, kind, offset)], &[0; 64]);
    let with = |keys: &[Vec<u8>]| container(keys, &[], &[]);
    let array = |kind: u32, len: u64| with(&[key("k", 9, &[&kind.to_le_bytes()[..], &len.to_le_bytes()].concat())]);
    let pair = |a: Vec<u8>, b: Vec<u8>| container(&[], &[a, b], &[0; 64]);
    let header = |tensors: u64, keys: u64| {
        [b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    let alignment = |value: u32| with(&[key("general.alignment", 4, &value.to_le_bytes())]);
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("tensor count", header(u64::MAX, 0), "a number of tensors of at most 262144"),
        ("key count", header(0, u64::MAX), "a number of metadata keys of at most 65536"),
        (
            "string length",
            [header(0, 1), u64::MAX.to_le_bytes().to_vec()].concat(),
            "a metadata key in bytes of at most 1024",
        ),
        ("value length", with(&[key("k", 8, &(1u64 << 60).to_le_bytes())]), "a metadata string in bytes"),
        ("array length", array(4, u64::MAX), "a number of array items of at most 4194304"),
        ("array past the end", array(4, 1 << 20), "truncated?"),
        ("array type", array(13, 1), "a known type"),
        ("value type", with(&[key("k", 99, &[])]), "a known type of key \"k\", found type 99"),
        ("truth value", with(&[key("k", 7, &[2])]), "a truth value of key \"k\", found byte 2"),
        ("UTF-8", with(&[key("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])]), "strings in UTF-8"),
        ("duplicate key", with(&[key("k", 7, &[1]), key("k", 7, &[1])]), "two of \"k\""),
        ("alignment 0", alignment(0), "general.alignment: a power of two"),
        ("alignment 12", alignment(12), "general.alignment: a power of two"),
        ("alignment 2^31", alignment(1 << 31), "general.alignment: a power of two"),
        ("alignment type", with(&[key("general.alignment", 8, &string("32"))]), "general.alignment: a power of two"),
        ("duplicate tensor", pair(describe("w", &[8], 0, 0), describe("w", &[8], 0, 32)), "one tensor of this name"),
        ("overlap", pair(describe("w", &[16], 0, 0), describe("v", &[8], 0, 32)), "an overlap or a hole"),
        ("hole", w(&[8], 0, 32), "an overlap or a hole"),
        ("misaligned", w(&[8], 0, 4), "a multiple of the alignment"),
        (
            "offset overflow",
            pair(describe("w", &[16], 0, 0), describe("v", &[1], 0, u64::MAX - 31)),
            "an overlap or a hole",
        ),
        ("past the end", w(&[17], 0, 0), "truncated?"),
        ("trailing", w(&[8], 0, 0), "a file that ends with its last tensor"),
        ("overflow", w(&[1 << 32, 1 << 32], 0, 0), "fits 64 bits"),
        ("negative dimension", w(&[u64::MAX, 2], 1, 0), "fits 64 bits"),
        ("rank", w(&[1; 5], 0, 0), "a number of dimensions of at most 4"),
        (
            "rank far out",
            container(&[], &[[string("w"), vec![0xff; 4]].concat()], &[]),
            "a number of dimensions of at most 4",
        ),
        ("part of a block", w(&[100], 35, 0), "rows of whole TQ2_0 blocks (256 elements)"),
        ("control character", container(&[], &[describe("w\n", &[16], 0, 0)], &[0; 64]), "control characters"),
    ];
    for (name, bytes, fragment) in cases {
        assert_refused(&file(&folder, &format!("{name}.gguf"), bytes), ErrorKind::Invalid, &[fragment]);
    }
}

#[test]
fn what_is_not_read_is_named() {
    let folder = scratch("gguf-unsupported");
    let start = |version: u32| [b"GGUF", &version.to_le_bytes()[..], &[0; 16]].concat();
    let kind = |kind| container(&[], &[describe("blk.0.w", &[256], kind, 0)], &[0; 256]);
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("v1", start(1), &["version 1", "convert it again"]),
        ("v4", start(4), &["version 4"]),
        ("big", start(3u32.swap_bytes()), &["a big-endian one"]),
        ("nested", container(&[key("k", 9, &nested)], &[], &[]), &["an array of arrays in key \"k\""]),
        ("split", container(&[key("split.count", 2, &[5, 0])], &[], &[]), &["one of 5 parts", "merge"]),
        ("Q4_K", kind(12), &["`blk.0.w`", "unsupported dtype Q4_K (type 12)"]),
        ("Q2_0", kind(42), &["unsupported dtype Q2_0 (type 42)"]),
        ("other", kind(77), &["unsupported dtype unknown (type 77)"]),
    ];
    for (name, bytes, fragments) in cases {
        assert_refused(&file(&folder, &format!("{name}.gguf"), bytes), ErrorKind::Unsupported, fragments);
    }
}
