//! The structure of a file under every kind of damage: truncation, flipped bits, added bytes and numbers at their bounds; and what opening costs.
//!
//! `SBNC_FLIPS` sets how many random flips of payload bits are tried.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use sbnc_format::error::rule;
use sbnc_format::manifest::Manifest;
use sbnc_format::{Depth, Encoding, FormatError, Order, Role, Sbnc};
use support::parts::Parts;
use support::reseal::{entries, number, put, reseal};
use support::{Random, Sample};

/// Counts what the current thread allocates: bytes in use, and the most there were since the count was reset.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    IN_USE.set(IN_USE.get() + change);
    PEAK.set(PEAK.get().max(IN_USE.get()));
}

// SAFETY: every call is passed on to the system's allocator as it is, with the caller's promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller promises what `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller promises what `System` wants, and all memory comes from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller promises what `System` wants. Passed on, so that large blocks of zeros stay untouched.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use at once during `work`, more than before it.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// What opening may allocate for a file: in proportion to its tables and manifest, however large the rest.
fn allowance(file: &[u8]) -> usize {
    let small = |kind: u64| matches!(kind, 16 | 32 | 48);
    let bytes: u64 = entries(file)
        .iter()
        .filter(|e| small(e.kind) && e.offset.saturating_add(e.bytes) <= file.len() as u64)
        .map(|e| e.bytes)
        .sum();
    MULTIPLE * bytes as usize + (64 << 10)
}

/// The worst are lists of integers and maps of empty strings that the manifest keeps: two bytes of text become a number, seven a pair of strings.
const MULTIPLE: usize = 16;

/// Opens a file and checks that it took no more memory than it may.
fn open(file: &[u8]) -> Result<Sbnc<&[u8]>, FormatError> {
    let (result, peak) = peak_of(|| Sbnc::open(file));
    assert!(peak <= allowance(file), "{peak} bytes for a file that allows {}", allowance(file));
    result
}

/// The first rule that refuses the file, at any depth.
fn refusal(file: &[u8]) -> Option<u16> {
    let opened = match open(file) {
        Ok(opened) => opened,
        Err(e) => return Some(e.rule()),
    };
    opened.verify(Depth::Decoded, &|_| {}).result().err().map(|e| e.rule())
}

#[test]
fn every_truncation_is_refused() {
    let file = support::whole_of(64 << 10);
    assert_eq!(refusal(&file), None);
    for length in 0..file.len() {
        let rule = open(&file[..length]).unwrap_err().rule();
        assert_eq!(rule, if length < 96 { rule::LENGTH } else { rule::FILE_BYTES }, "cut to {length}");
    }
}

#[test]
fn added_bytes_are_refused() {
    let file = support::whole();
    for extra in [1, 2, 255, 4096, 65_536] {
        for byte in [0, 0xFF, 0xD3] {
            let more = vec![byte; extra];
            assert_eq!(open(&[&file[..], &more].concat()).unwrap_err().rule(), rule::FILE_BYTES, "{extra} after");
            let rule = open(&[&more[..], &file].concat()).unwrap_err().rule();
            assert_eq!(rule, rule::MAGIC, "{extra} before");
        }
    }
    assert_eq!(open(&[&file[..], &file].concat()).unwrap_err().rule(), rule::FILE_BYTES);
    assert_eq!(open(&[]).unwrap_err().rule(), rule::LENGTH);
    assert_eq!(open(&[0; 96]).unwrap_err().rule(), rule::MAGIC);
}

/// The bytes that opening vouches for: everything but the carried files and the payload.
fn covered_by_open(file: &[u8]) -> Vec<bool> {
    let mut covered = vec![true; file.len()];
    for e in entries(file).iter().filter(|e| matches!(e.kind, 64 | 128)) {
        covered[e.offset as usize..(e.offset + e.bytes) as usize].fill(false);
    }
    covered
}

#[test]
fn every_flipped_bit_of_header_and_tables_is_refused_when_opening() {
    let mut file = support::whole();
    let covered = covered_by_open(&file);
    for at in (0..file.len()).filter(|&at| covered[at]) {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            assert!(open(&file).is_err(), "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    assert_eq!(refusal(&file), None, "all bits are back");
}

#[test]
fn random_flipped_bits_of_payload_and_files_are_found_when_verifying() {
    let flips = std::env::var("SBNC_FLIPS").map_or(20_000, |n| n.parse().unwrap());
    let mut file = support::whole();
    let covered = covered_by_open(&file);
    let open_to_flips: Vec<usize> = (0..file.len()).filter(|&at| !covered[at]).collect();
    let mut random = Random(4);
    for _ in 0..flips {
        let (at, bit) = (open_to_flips[random.below(open_to_flips.len())], random.below(8));
        file[at] ^= 1 << bit;
        let problems = Sbnc::open(&file[..]).unwrap().verify(Depth::Stored, &|_| {}).problems;
        assert!(!problems.is_empty(), "bit {bit} of byte {at}");
        file[at] ^= 1 << bit;
    }
    assert_eq!(refusal(&file), None, "all bits are back");
}

/// Numbers near which code goes wrong, and near `value`.
fn bounds(value: u64, width: usize) -> Vec<u64> {
    let mut all = vec![0, 1, 2, 3, 4, 5, 15, 16, 17, 64, 65, 96, 160, 255, 256, 257, 4095, 4096, 4097];
    for bits in [7, 8, 15, 16, 24, 31, 32, 40, 42, 53, 63] {
        all.extend([(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
    }
    all.extend([u64::MAX, u64::MAX - 1, u64::MAX - 255, u64::MAX - 4095]);
    all.extend([value.wrapping_add(1), value.wrapping_sub(1), value.wrapping_mul(2), value / 2, value.wrapping_neg()]);
    all.retain(|&v| v != value && (width == 8 || v < 1 << (8 * width)));
    all.sort_unstable();
    all.dedup();
    all
}

/// Offsets and widths of all numeric fields (SPEC §3 to §5), with what they are called.
fn numeric_fields(file: &[u8]) -> Vec<(String, usize, usize)> {
    const PREFIX: &[(&str, usize, usize)] = &[
        ("major", 8, 2),
        ("minor", 10, 2),
        ("header_bytes", 12, 4),
        ("file_bytes", 16, 8),
        ("compatible", 24, 8),
        ("inspect_only", 32, 8),
        ("incompatible", 40, 8),
        ("section_count", 48, 4),
        ("reserved", 52, 4),
        ("reserved", 56, 8),
    ];
    const ENTRY: &[(&str, usize, usize)] =
        &[("kind", 0, 4), ("flags", 4, 4), ("offset", 8, 8), ("bytes", 16, 8), ("reserved", 24, 8)];
    const RECORD: &[(&str, usize, usize)] = &[
        ("name_offset", 0, 4),
        ("name_bytes", 4, 4),
        ("role", 8, 2),
        ("encoding", 10, 2),
        ("order", 12, 2),
        ("order_version", 14, 2),
        ("n", 16, 1),
        ("m", 17, 1),
        ("group_axis", 18, 1),
        ("rank", 19, 1),
        ("reserved", 20, 4),
        ("shape[0]", 24, 8),
        ("shape[1]", 32, 8),
        ("shape[2]", 40, 8),
        ("shape[3]", 48, 8),
        ("offset", 56, 8),
        ("stored_bytes", 64, 8),
        ("data_bytes", 72, 8),
        ("scale_count", 80, 8),
        ("non_zero", 88, 8),
    ];
    let mut fields = Vec::new();
    let mut add = |what: String, at: usize, of: &[(&str, usize, usize)]| {
        fields.extend(of.iter().map(|&(name, offset, width)| (format!("{what} {name}"), at + offset, width)));
    };
    add("prefix".to_owned(), 0, PREFIX);
    for e in entries(file) {
        add(format!("section {}", e.kind), e.at, ENTRY);
        if e.kind == 16 {
            for i in 0..e.bytes as usize / 160 {
                add(format!("tensor {i}"), e.offset as usize + 160 * i, RECORD);
            }
        }
    }
    fields
}

/// Sealed again, so that only rules can refuse it.
#[test]
fn numbers_at_their_bounds_are_refused_or_change_nothing() {
    let mut file = support::whole();
    let good = Sbnc::open(&file[..]).unwrap();
    let (content, manifest) = (good.content(), good.manifest().clone());
    let pristine = file.clone();
    let (mut accepted, mut others) = (Vec::new(), Vec::new());
    let mut tried = 0;
    for (name, at, width) in numeric_fields(&pristine) {
        let old = number(&pristine, at, width);
        for value in bounds(old, width) {
            put(&mut file, at, width, value);
            reseal(&mut file);
            tried += 1;
            if refusal(&file).is_none() {
                let found = Sbnc::open(&file[..]).unwrap();
                assert_eq!(found.manifest(), &manifest);
                if found.content() == content {
                    accepted.push(name.rsplit(' ').next().unwrap().to_owned());
                } else {
                    others.push(format!("{name} {old} → {value}"));
                }
            }
            file.copy_from_slice(&pristine);
        }
    }
    accepted.sort();
    accepted.dedup();
    // A weaker promise of sparsity, or another role, is another true description of the same weights.
    assert_eq!(accepted, ["compatible", "m", "minor", "n", "role"]);
    // f16 and bf16 have the same size, so one can be called the other; that is another content.
    assert_eq!(others, ["tensor 1 encoding 2 → 3", "tensor 2 encoding 3 → 2"]);
    assert!(tried > 10_000, "only {tried} edits");
}

#[test]
fn manifest_numbers_at_their_bounds_are_refused_or_read_as_they_are() {
    let file = support::whole();
    let mut parts = Parts::split(&file);
    let text = String::from_utf8(parts.section(48).clone()).unwrap();
    let numbers: Vec<(usize, usize)> = numbers_in(&text);
    assert!(numbers.len() >= 20, "every number of the model and of the files");
    let mut accepted = 0;
    for (start, end) in numbers {
        let old: u64 = text[start..end].parse().unwrap();
        let values = bounds(old, 8).into_iter().map(|v| v.to_string());
        let others =
            ["-1", "-0", "1.0", "1e3", "00", "null", "\"1\"", "-9007199254740992", "9007199254740993", "1e400"];
        for value in values.chain(others.map(str::to_owned)) {
            let edited = [&text[..start], &value, &text[end..]].concat();
            *parts.section(48) = edited.clone().into_bytes();
            if refusal(&parts.join()).is_none() {
                let read = Manifest::parse(edited.as_bytes()).unwrap();
                assert_eq!(String::from_utf8(read.to_bytes().unwrap()).unwrap(), edited, "{old} → {value}");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 100, "many numbers are good as they are, such as a context of 4097");
}

/// Where the bare numbers of a JSON text are.
fn numbers_in(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut in_string) = (Vec::new(), 0, false);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            in_string = !in_string;
        } else if !in_string && bytes[at].is_ascii_digit() {
            let start = at;
            while bytes[at].is_ascii_digit() {
                at += 1;
            }
            found.push((start, at));
            continue;
        }
        at += 1;
    }
    found
}

fn vectors(count: usize) -> Vec<Sample> {
    (0..count)
        .map(|i| Sample::values(&mut Random(i as u64), &format!("t{i}"), Role::Other, Encoding::I8, &[1, 1]))
        .collect()
}

#[test]
fn opening_allocates_in_proportion_to_the_tables() {
    let many = support::build_with(&vectors(20_000), &support::bare_manifest(), &[]).0;
    assert_eq!(open(&many).unwrap().tensors().len(), 20_000);
}

/// The worst that a manifest can be: the most values for its bytes, wherever a parser could keep them.
#[test]
fn opening_allocates_in_proportion_to_the_manifest() {
    let mut parts = Parts::split(&support::whole());
    let text = String::from_utf8(parts.section(48).clone()).unwrap();
    // One more than a power of two, where a growing list is twice as long as it must be.
    let list = |item: &str| format!("[{item}{}]", format!(",{item}").repeat(1 << 17));
    let pairs: Vec<String> = (0..100_000).map(|i| format!("\"{i:05}\":\"\"")).collect();
    let mut texts = vec![
        text.replacen("{\"pattern\":\"2:4\"}", &format!("{{{}}}", pairs.join(",")), 1),
        text.replacen("\"eos\":[2,3]", &format!("\"eos\":{}", list("0")), 1),
    ];
    let accepted = texts.len();
    for item in ["0", "[]", "{}", "\"\"", "[0]", "{\"\":0}", "{\"\":{\"\":[0]}}"] {
        for (place, before, after) in [
            ("\"files\":[", "\"files\":[", ","),
            ("\"factor\":\"8.0\"", "\"factor\":", ""),
            ("\"sources\":[", "\"sources\":[", ","),
            ("\"model\":{", "\"model\":{\"a\":", ","),
        ] {
            assert!(text.contains(place), "{place}");
            texts.push(text.replacen(place, &[before, &list(item), after].concat(), 1));
        }
    }
    for (i, text) in texts.into_iter().enumerate() {
        *parts.section(48) = text.into_bytes();
        let result = open(&parts.join()).map(|_| ());
        assert!(i >= accepted || result.is_ok(), "{result:?}");
    }
}

/// A file with one bf16 tensor of zeros. The memory comes zeroed and is not touched, so its size costs nothing but address space.
fn large(payload: usize) -> Vec<u8> {
    let small = support::one(Sample::values(&mut Random(1), "x", Role::Other, Encoding::Bf16, &[1]));
    let start = small.len() - 2;
    let mut file = vec![0; start + payload];
    file[..start].copy_from_slice(&small[..start]);
    let table = entries(&file);
    let length = file.len() as u64;
    put(&mut file, 16, 8, length);
    let (mut digest_at, mut record) = (0, 0);
    for e in table {
        if e.kind == 128 {
            put(&mut file, e.at + 16, 8, payload as u64);
        } else if e.kind == 16 {
            (digest_at, record) = (e.at + 32, e.offset as usize);
        }
    }
    for (offset, value) in [(24, payload as u64 / 2), (64, payload as u64), (72, payload as u64)] {
        put(&mut file, record + offset, 8, value);
    }
    let digest = *blake3::hash(&file[record..record + 160]).as_bytes();
    file[digest_at..digest_at + 32].copy_from_slice(&digest);
    support::reseal::seal_header(&mut file);
    file
}

#[test]
fn opening_takes_no_longer_for_a_larger_payload() {
    // The best of many, because other work on the machine can only add to it.
    let best = |file: &[u8]| {
        let time = || {
            let start = Instant::now();
            Sbnc::open(file).unwrap();
            start.elapsed()
        };
        (0..200).map(|_| time()).min().unwrap()
    };
    let (small, large) = (large(16 << 20), large(1 << 30));
    let (short, long) = (best(&small), best(&large));
    println!("16 MiB: {short:?}, 1 GiB: {long:?}");
    assert!(long < Duration::from_millis(5), "{long:?}");
    assert!(long < short * 3 + Duration::from_micros(200), "{long:?} against {short:?}");
}

#[test]
fn order_of_tensors_is_the_writers_choice() {
    let mut samples = support::every_encoding();
    samples.reverse();
    let manifest = support::bare_manifest();
    let reversed = support::build_with(&samples, &manifest, &[]).0;
    samples.reverse();
    let forward = support::build_with(&samples, &manifest, &[]).0;
    let (a, b) = (Sbnc::open(&forward[..]).unwrap(), Sbnc::open(&reversed[..]).unwrap());
    assert_ne!(a.root(), b.root());
    assert_eq!(a.content(), b.content(), "the same weights");
}

/// The same trits in another encoding are the same content.
#[test]
fn content_does_not_depend_on_the_encoding() {
    let (shape, pattern) = ((3, 24), support::pattern(2, 4));
    let layouts = [
        (Encoding::T2, Order::Rows),
        (Encoding::T5, Order::Rows),
        (Encoding::Nm6b, Order::Rows),
        (Encoding::NmVi, Order::Fragments),
    ];
    let content = |layout| {
        let file = support::one(Sample::trits(&mut Random(3), "w", layout, shape, pattern));
        let file = Sbnc::open(file).unwrap();
        file.verify(Depth::Decoded, &|_| {}).result().unwrap();
        file.content()
    };
    let first = content(layouts[0]);
    assert!(layouts.into_iter().all(|layout| content(layout) == first));
}
