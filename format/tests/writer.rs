//! The writer: calls that do not fit the plan, names and shapes that no file may have, and what it promises of its output. Packing too.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use sbnc_format::error::rule;
use sbnc_format::packed::{self, Packed};
use sbnc_format::writer::{ContentDigest, TensorSpec, WriteError, Writer};
use sbnc_format::{Depth, Encoding, Order, Pattern, Role, Sbnc};
use support::reseal::{number, put};
use support::{Random, Sample};

fn t2(name: &str) -> Sample {
    Sample::trits(&mut Random(7), name, (Encoding::T2, Order::Rows), (2, 6), Pattern::DENSE)
}

fn plan(samples: &[Sample]) -> Result<Writer, WriteError> {
    Writer::dry(support::specs(samples), &support::bare_manifest(), &[])
}

/// The rule that a plan of one tensor breaks.
fn broken_rule(change: impl FnOnce(&mut TensorSpec)) -> u16 {
    let mut sample = t2("w");
    change(&mut sample.spec);
    match plan(&[sample]) {
        Err(WriteError::Format(e)) => e.rule(),
        other => panic!("expected a broken rule, found {other:?}"),
    }
}

fn assert_misuse<T: std::fmt::Debug>(result: Result<T, WriteError>, part: &str) {
    match result {
        Err(e @ WriteError::Misuse { .. }) => assert!(e.to_string().contains(part), "{e}"),
        other => panic!("expected misuse with {part:?}, found {other:?}"),
    }
}

#[test]
fn output_opens_and_verifies_with_every_encoding() {
    let bytes = support::whole();
    let file = Sbnc::open(&bytes[..]).unwrap();
    file.verify(Depth::Decoded, &|_| {}).result().unwrap();
    assert_eq!(file.tensors().len(), support::every_encoding().len());
    for (sample, view) in support::every_encoding().iter().zip(file.views()) {
        assert_eq!((view.data(), view.scales()), (&sample.data[..], sample.scales.clone()), "{}", sample.spec.name);
        view.verify().unwrap();
        view.validate().unwrap();
    }
    assert_eq!(file.manifest(), &support::manifest(&support::carried()));
    assert_eq!(file.carried("tokenizer.json").unwrap().unwrap(), "{\"token\":1}".repeat(50).as_bytes());
    assert_eq!(file.carried("absent").unwrap(), None);
}

#[test]
fn a_proof_gives_its_tensor_back_and_no_other_openings() {
    let bytes = support::whole();
    let (file, other) = (Sbnc::open(&bytes).unwrap(), Sbnc::open(&bytes).unwrap());
    for tensor in file.tensors() {
        let proof = file.prove(&tensor.name).unwrap().unwrap();
        assert_eq!(file.proven(proof).unwrap().tensor().name, tensor.name);
        assert!(other.proven(proof).is_none());
    }
    assert!(file.prove("no such tensor").is_none());
}

#[test]
fn writing_twice_or_dry_gives_the_same_root_and_bytes() {
    let carried = support::carried();
    let manifest = support::manifest(&carried);
    let samples = support::every_encoding();
    let (first, root) = support::build_with(&samples, &manifest, &carried);
    let (second, _) = support::build_with(&samples, &manifest, &carried);
    assert!(first == second, "the output must not depend on anything but the input");
    let mut dry = Writer::dry(support::specs(&samples), &manifest, &carried).unwrap();
    support::write(&mut dry, &samples);
    assert_eq!(dry.file_bytes(), first.len() as u64);
    let sealed = dry.seal(&manifest).unwrap();
    assert_eq!((sealed.root(), sealed.path()), (root, None));
    assert_eq!(Sbnc::open(first).unwrap().root(), root);
}

#[test]
fn too_many_and_too_few_bytes_and_scales_are_misuse() {
    let sample = t2("w");
    let mut writer = plan(std::slice::from_ref(&sample)).unwrap();
    assert_misuse(writer.tensor().unwrap().write(&[0; 5]), "4 bytes were planned");

    let finish = |bytes: usize, scales: &[f32]| {
        let mut writer = plan(std::slice::from_ref(&sample)).unwrap();
        let mut tensor = writer.tensor().unwrap();
        tensor.write(&sample.data[..bytes]).unwrap();
        tensor.finish(scales, sample.content)
    };
    finish(4, &sample.scales).unwrap();
    assert_misuse(finish(3, &sample.scales), "4 bytes and 2 scales were planned, 3 and 2 came");
    assert_misuse(finish(4, &[1.0]), "2 scales were planned, 4 and 1 came");
    assert_misuse(finish(4, &[1.0; 3]), "2 scales were planned, 4 and 3 came");
}

#[test]
fn tensors_that_are_missing_unfinished_or_too_many_are_misuse() {
    let samples = [t2("a"), t2("b")];
    let mut writer = plan(&samples).unwrap();
    support::write(&mut writer, &samples[..1]);
    assert_misuse(writer.seal(&support::bare_manifest()), "'b': was planned and never written");

    let mut writer = plan(&samples).unwrap();
    support::write(&mut writer, &samples[..1]);
    writer.tensor().unwrap().write(&samples[1].data).unwrap();
    assert_misuse(writer.seal(&support::bare_manifest()), "'b': was planned and never written");

    let mut writer = plan(&samples).unwrap();
    support::write(&mut writer, &samples);
    assert_misuse(writer.tensor(), "no more tensors");
}

/// A tensor that was begun and dropped is begun again, and the file is as if nothing had happened.
#[test]
fn an_abandoned_tensor_can_be_written_again() {
    let sample = t2("w");
    let (expected, root) = support::build_with(std::slice::from_ref(&sample), &support::bare_manifest(), &[]);
    let path = support::scratch("again.sbnc");
    let manifest = support::bare_manifest();
    let mut writer = Writer::create(&path, vec![sample.spec.clone()], &manifest, &[]).unwrap();
    writer.tensor().unwrap().write(&[0xFF; 4]).unwrap();
    support::write(&mut writer, &[sample]);
    assert_eq!(writer.seal(&manifest).unwrap().commit().unwrap(), root);
    assert!(std::fs::read(&path).unwrap() == expected);
    support::sweep(&path);
}

#[test]
fn manifest_may_change_its_values_but_not_its_length_or_files() {
    let sample = t2("w");
    let manifest = support::bare_manifest();
    let written = || {
        let mut writer = plan(std::slice::from_ref(&sample)).unwrap();
        support::write(&mut writer, std::slice::from_ref(&sample));
        writer
    };
    let mut other = manifest.clone();
    other.provenance.compiler = "test 2".to_owned();
    assert_ne!(written().seal(&other).unwrap().root(), written().seal(&manifest).unwrap().root());
    other.provenance.compiler.push('0');
    assert_misuse(written().seal(&other), "the manifest grew");

    let carried = support::carried();
    let with_files = support::manifest(&carried);
    assert_misuse(Writer::dry(vec![sample.spec.clone()], &with_files, &[]), "other files");
    assert_misuse(Writer::dry(vec![sample.spec.clone()], &with_files, &carried[..1]), "other files");
    let mut renamed = with_files.clone();
    renamed.files[0].name = "aoise.bin".to_owned();
    let mut writer = Writer::dry(vec![sample.spec.clone()], &with_files, &carried).unwrap();
    support::write(&mut writer, std::slice::from_ref(&sample));
    assert_misuse(writer.seal(&renamed), "other files");
}

#[test]
fn names_that_no_file_may_have_are_refused() {
    let long = "n".repeat(257);
    for name in ["", " ", "a b", "a\0b", "a\n", "\"", "\\", "ä", "\u{7F}", long.as_str()] {
        assert_eq!(broken_rule(|s| s.name = name.to_owned()), rule::NAME_TEXT, "{name:?}");
    }
    assert!(plan(&[t2(&"n".repeat(256))]).is_ok());
    // A name is never a path, so this is a name like any other.
    assert!(plan(&[t2("../../etc/passwd")]).is_ok());
    match plan(&[t2("w"), t2("w")]) {
        Err(WriteError::Format(e)) => assert_eq!(e.rule(), rule::NAME_UNIQUE),
        other => panic!("{other:?}"),
    }
}

#[test]
fn shapes_that_no_file_may_have_are_refused() {
    let huge: [&[u64]; 9] = [
        &[],
        &[0],
        &[2, 0],
        &[1, 1, 1, 1, 1],
        &[u64::MAX, u64::MAX],
        &[1 << 63, 2],
        &[1 << 32, 1 << 32],
        &[(1 << 31) + 1, 1],
        &[1 << 21, 1 << 20],
    ];
    for shape in huge {
        assert_eq!(broken_rule(|s| s.shape = shape.to_vec()), rule::SHAPE, "{shape:?}");
    }
    assert_eq!(broken_rule(|s| s.shape = vec![6]), rule::RANK_OF_ENCODING);
    assert_eq!(broken_rule(|s| s.pattern = support::pattern(2, 4)), rule::PATTERN_OF_ENCODING);
    assert_eq!(broken_rule(|s| s.encoding = Encoding::I8), rule::RANK_OF_ENCODING);
    assert!(matches!(plan(&[]), Err(WriteError::Format(e)) if e.rule() == rule::RECORD_COUNT));
    let many = (0..65_537).map(|i| TensorSpec { name: i.to_string(), ..t2("w").spec }).collect();
    let result = Writer::dry(many, &support::bare_manifest(), &[]);
    assert!(matches!(result, Err(WriteError::Format(e)) if e.rule() == rule::RECORD_COUNT));
    // Each fits the format, together they do not fit a file.
    let large = |i: usize| TensorSpec {
        name: i.to_string(),
        role: Role::Other,
        shape: vec![1 << 20, 1 << 20],
        encoding: Encoding::F32,
        order: Order::Rows,
        pattern: Pattern::DENSE,
    };
    let result = Writer::dry((0..2).map(large).collect(), &support::bare_manifest(), &[]);
    assert!(matches!(result, Err(WriteError::Format(e)) if e.rule() == rule::FILE_BYTES));
}

/// The writer takes the caller's word for trits and scales; verification does not.
#[test]
fn wrong_content_is_written_and_found() {
    let mut sample = t2("w");
    sample.scales[1] = 0.0;
    let file = support::one(sample);
    let problems = Sbnc::open(&file[..]).unwrap().verify(Depth::Stored, &|_| {}).problems;
    assert_eq!(problems.iter().map(|p| p.rule()).collect::<Vec<_>>(), [rule::SCALE_VALUE]);

    let mut sample = t2("w");
    let ContentDigest::Trits { digest, non_zero } = sample.content else { panic!("trits have a digest") };
    sample.content = ContentDigest::Trits { digest, non_zero: non_zero - 1 };
    let file = support::one(sample);
    let file = Sbnc::open(&file[..]).unwrap();
    file.verify(Depth::Stored, &|_| {}).result().unwrap();
    assert_eq!(file.verify(Depth::Decoded, &|_| {}).result().unwrap_err().rule(), rule::CONTENT);
}

fn pack(raw: &[u8]) -> Vec<u8> {
    let path = support::scratch("packed.sbncz");
    let length = packed::pack(raw, &path, 3, &|_| true).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(length, bytes.len() as u64);
    support::sweep(&path);
    bytes
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, WriteError> {
    let packed = Packed::open(bytes)?;
    let path = support::scratch("unpacked.sbnc");
    let result = packed::unpack(&packed, &path, &|_| true, |temporary| {
        packed.check_unpacked(&std::fs::read(temporary).unwrap()).map_err(WriteError::from)
    });
    let bytes = result.map(|()| std::fs::read(&path).unwrap());
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, usize::from(bytes.is_ok()), "nothing but a whole file may be left");
    support::sweep(&path);
    bytes
}

#[test]
fn packing_and_unpacking_gives_the_identical_file() {
    let small = support::whole();
    assert!(unpack(&pack(&small)).unwrap() == small);
    // Two chunks, the first compressible and the second not a whole one.
    let mut random = Random(5);
    let large = support::one(Sample {
        data: (0..5 << 20).map(|i| if i < 3 << 20 { 1 } else { random.number() as u8 & 0x3F }).collect(),
        ..Sample::values(&mut Random(6), "x", Role::Other, Encoding::Bf16, &[(5 << 20) / 2])
    });
    let packed = pack(&large);
    assert_eq!(Packed::open(&packed).unwrap().chunks(), 2);
    assert!(packed.len() < large.len());
    assert!(unpack(&packed).unwrap() == large);
}

#[test]
fn every_damage_to_a_packed_file_is_refused() {
    let good = pack(&support::one(t2("w")));
    assert!(good.len() < 4096, "the file is small enough to try everything");
    for length in 0..good.len() {
        assert!(unpack(&good[..length]).is_err(), "cut to {length}");
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = Packed::open(&bad).and_then(|packed| packed.chunk(0)).is_err();
        assert!(refused, "bit {bit} flipped");
    }
    assert!(unpack(&[&good[..], &[0]].concat()).is_err());
    assert!(unpack(&[&[0], &good[..]].concat()).is_err());
}

/// Sizes are compared before anything is decoded or allocated: none of these reaches the decoder, whose digests are right.
#[test]
fn packed_files_that_claim_too_much_are_refused() {
    let good = pack(&support::one(t2("w")));
    let sealed = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        edit(&mut bad);
        let stored = number(&bad, 128, 4) as usize;
        if let Some(chunk) = bad.get(168..168 + stored).map(|c| *blake3::hash(c).as_bytes()) {
            bad[136..168].copy_from_slice(&chunk);
        }
        bad[96..128].fill(0);
        let digest = *blake3::hash(&bad[..168]).as_bytes();
        bad[96..128].copy_from_slice(&digest);
        match Packed::open(&bad).and_then(|packed| packed.chunk(0)) {
            Ok(_) => None,
            Err(e) => Some(e.rule()),
        }
    };
    assert_eq!(sealed(&|_| {}), None, "sealing a good file leaves it good");
    let length = good.len() as u64;
    assert_eq!(sealed(&|b| put(b, 24, 8, 1024 * length + 1)), Some(rule::PACKED_FIELDS));
    assert_eq!(sealed(&|b| put(b, 24, 8, 1 << 42)), Some(rule::PACKED_FIELDS));
    assert_eq!(sealed(&|b| put(b, 24, 8, u64::MAX)), Some(rule::PACKED_FIELDS));
    assert_eq!(sealed(&|b| put(b, 24, 8, 95)), Some(rule::PACKED_FIELDS));
    assert_eq!(sealed(&|b| put(b, 32, 4, u64::from(u32::MAX))), Some(rule::PACKED_FIELDS));
    assert_eq!(sealed(&|b| put(b, 12, 4, 1 << 30)), Some(rule::PACKED_FIELDS));
    // One chunk that claims more than its frame declares, and a frame that declares more than its chunk may hold.
    assert_eq!(sealed(&|b| put(b, 24, 8, 16_385)), Some(rule::PACKED_FRAME));
    let bomb = zstd_frame_declaring(1 << 40);
    let replaced = |b: &mut Vec<u8>| {
        b.truncate(168);
        b.extend(&bomb);
        put(b, 128, 4, bomb.len() as u64);
        let whole = b.len() as u64;
        put(b, 16, 8, whole);
        put(b, 24, 8, 8192);
    };
    assert_eq!(sealed(&replaced), Some(rule::PACKED_FRAME));
}

/// The head of a single-segment frame with an 8-byte content size (RFC 8878, 3.1.1), and an empty last block.
fn zstd_frame_declaring(size: u64) -> Vec<u8> {
    [&[0x28, 0xB5, 0x2F, 0xFD, 0xE0][..], &size.to_le_bytes(), &[1, 0, 0]].concat()
}
