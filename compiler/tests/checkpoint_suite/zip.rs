//! A writer of stored zip archives for the torch tests, and archives that lie.

use sbnc::checkpoint::ErrorKind;

use super::support::{assert_refused, file, open, scratch};
use super::torch::{small_checkpoint, small_records};

const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// How much of zip64 and of streaming a written archive uses.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    Plain,
    /// Sizes after the data, in 16 bytes.
    Descriptor,
    /// All sizes and offsets in zip64 fields, and zip64 end records.
    Wide,
}

pub(crate) fn archive(records: &[(&str, Vec<u8>)], style: Style) -> Vec<u8> {
    let flags: u16 = if style == Style::Descriptor { 1 << 3 } else { 0 };
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in records {
        let offset = out.len() as u64;
        let size = bytes.len() as u64;
        let (narrow, narrow_offset) =
            if style == Style::Wide { (u32::MAX, u32::MAX) } else { (size as u32, offset as u32) };
        let field = |values: &[u64]| {
            if style != Style::Wide {
                return Vec::new();
            }
            let content = values.iter().flat_map(|value| value.to_le_bytes());
            [&1u16.to_le_bytes()[..], &(8 * values.len() as u16).to_le_bytes()]
                .concat()
                .into_iter()
                .chain(content)
                .collect()
        };
        let common = |sizes: u32, extra: &[u8]| {
            [
                &flags.to_le_bytes()[..],
                &[0; 6], // method, time, date
                &[0; 4], // checksum
                &sizes.to_le_bytes(),
                &sizes.to_le_bytes(),
                &(name.len() as u16).to_le_bytes(),
                &(extra.len() as u16).to_le_bytes(),
            ]
            .concat()
        };
        let local_extra = field(&[size, size]);
        let local_sizes = if style == Style::Descriptor { 0 } else { narrow };
        out.extend([LOCAL, &[0; 2], &common(local_sizes, &local_extra), name.as_bytes(), &local_extra, bytes].concat());
        if style == Style::Descriptor {
            out.extend([b"PK\x07\x08", &[0; 4][..], &narrow.to_le_bytes(), &narrow.to_le_bytes()].concat());
        }
        let extra = field(&[size, size, offset]);
        let tail = [&[0; 10][..], &narrow_offset.to_le_bytes()].concat(); // comment, disk, attributes
        directory.extend([CENTRAL, &[0; 4], &common(narrow, &extra), &tail, name.as_bytes(), &extra].concat());
    }
    let (offset, count) = (out.len() as u64, records.len() as u64);
    out.extend(&directory);
    let size = directory.len() as u64;
    if style == Style::Wide {
        let end64 = out.len() as u64;
        let numbers: Vec<u8> = [count, count, size, offset].iter().flat_map(|value| value.to_le_bytes()).collect();
        out.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[0; 12], &numbers].concat());
        out.extend([b"PK\x06\x07", &[0; 4][..], &end64.to_le_bytes(), &1u32.to_le_bytes()].concat());
    }
    let count = (count as u16).to_le_bytes();
    out.extend(
        [
            b"PK\x05\x06",
            &[0; 4][..],
            &count,
            &count,
            &(size as u32).to_le_bytes(),
            &(offset as u32).to_le_bytes(),
            &[0; 2],
        ]
        .concat(),
    );
    out
}

fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).unwrap()
}

/// Overwrites bytes at a distance from the first occurrence of a pattern.
fn patched(mut bytes: Vec<u8>, pattern: &[u8], distance: usize, value: &[u8]) -> Vec<u8> {
    let at = find(&bytes, pattern) + distance;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn every_style_of_archive_reads_the_same() {
    let folder = scratch("zip-styles");
    for (name, style) in [("plain.pt", Style::Plain), ("streamed.pt", Style::Descriptor), ("wide.pt", Style::Wide)] {
        let checkpoint = open(&file(&folder, name, &archive(&small_records(), style))).unwrap();
        let entry = checkpoint.entry("w").unwrap();
        assert_eq!(checkpoint.bytes(entry).unwrap()[..], [1, 2, 3, 4, 5, 6, 7, 8], "{name}");
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let folder = scratch("zip-lies");
    let good = small_checkpoint();
    let end = good.len() - 22;
    let with_end = |distance: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[end + distance..end + distance + value.len()].copy_from_slice(value);
        bytes
    };
    let streamed = archive(&small_records(), Style::Descriptor);
    let mut twice = small_records();
    twice.push(("m/data/0", vec![0; 8]));
    let mut outside = small_records();
    outside.push(("n/data/0", vec![0; 8]));
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("duplicate", archive(&twice, Style::Plain), "two named \"m/data/0\""),
        ("two folders", archive(&outside, Style::Plain), "in one folder"),
        ("prefix", [b"PK\x03\x04....", &good[..]].concat(), "a zip directory that ends at byte"),
        ("suffix", [&good[..], b"x"].concat(), "other bytes (truncated, or something was appended?)"),
        ("comment", with_end(20, &[1, 0]), "comment of 1 bytes"),
        ("disks", with_end(4, &[1, 0]), "one disk"),
        ("count too large", with_end(8, &[9, 0, 9, 0]), "4 more bytes in the zip directory"),
        ("count too small", with_end(8, &[1, 0, 1, 0]), "bytes more"),
        ("directory moved", with_end(16, &[0; 4]), "a zip directory that ends at byte"),
        ("local name", patched(good.clone(), LOCAL, 30, b"x"), "a header that disagrees"),
        ("local size", patched(good.clone(), LOCAL, 22, &[9]), "a header that disagrees"),
        ("local method", patched(good.clone(), LOCAL, 8, &[8]), "a header that disagrees"),
        ("overlap", patched(good.clone(), CENTRAL, 42, &[1]), "an overlap or a gap"),
        ("sizes differ", patched(good.clone(), CENTRAL, 20, &[1]), "whose two sizes are equal"),
        ("descriptor", patched(streamed, b"PK\x07\x08", 8, &[1]), "a data descriptor after record"),
        ("control character", patched(good.clone(), CENTRAL, 46, b"\n"), "printable UTF-8"),
        (
            "size past the directory",
            patched(patched(good.clone(), CENTRAL, 20, &[0xfe; 8]), LOCAL, 18, &[0xfe; 8]),
            "zip records before the zip directory",
        ),
    ];
    for (name, bytes, fragment) in cases {
        assert_refused(&file(&folder, &format!("{name}.pt"), bytes), ErrorKind::Invalid, &[fragment]);
    }
}

#[test]
fn compressed_and_encrypted_records_are_unsupported() {
    let folder = scratch("zip-unsupported");
    let good = small_checkpoint();
    for (name, distance, value, fragment) in [
        ("compressed.pt", 10, 8, "compressed (method 8)"),
        ("encrypted.pt", 8, 1, "encrypted"),
        ("masked.pt", 9, 0x20, "general purpose flags 0x2000"),
    ] {
        let path = file(&folder, name, &patched(good.clone(), CENTRAL, distance, &[value]));
        assert_refused(&path, ErrorKind::Unsupported, &[fragment, "torch.save"]);
    }
}

#[test]
fn absurd_counts_cost_nothing() {
    let folder = scratch("zip-absurd");
    let wide = archive(&small_records(), Style::Wide);
    let end64 = find(&wide, b"PK\x06\x06");
    let mut many = wide.clone();
    many[end64 + 24..end64 + 40].copy_from_slice(&[0xfe; 16]);
    let at = many.len() - 22;
    many[at + 8..at + 12].copy_from_slice(&[0xff; 4]);
    assert_refused(
        &file(&folder, "many.pt", &many),
        ErrorKind::Invalid,
        &["a number of zip records of at most 524288"],
    );
    let mut disagree = wide;
    disagree[end64 + 24..end64 + 40].copy_from_slice(&[[9, 0, 0, 0, 0, 0, 0, 0]; 2].concat());
    assert_refused(&file(&folder, "disagree.pt", &disagree), ErrorKind::Invalid, &["two zip end records to agree"]);
}
