//! State dicts that `torch.save` could have written, and pickles that it could not.

use sbnc::checkpoint::{Checkpoint, Dtype, ErrorKind};

use super::support::{
    COPYING, assert_every_bit_flip_survived, assert_every_truncation_refused, assert_refused, file, open, scratch,
};
use super::zip::{Style, archive};

fn text(value: &str) -> Vec<u8> {
    [b"X", &(value.len() as u32).to_le_bytes()[..], value.as_bytes()].concat()
}

fn int(value: i32) -> Vec<u8> {
    [b"J", &value.to_le_bytes()[..]].concat()
}

fn tuple(items: &[i32]) -> Vec<u8> {
    [b"(", &items.iter().flat_map(|&item| int(item)).collect::<Vec<_>>()[..], b"t"].concat()
}

const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";

/// The instructions that push a tensor, like torch's own.
struct Tensor<'a> {
    storage: &'a str,
    key: &'a str,
    elements: i32,
    offset: i32,
    shape: &'a [i32],
    strides: &'a [i32],
}

const SMALL: Tensor =
    Tensor { storage: "HalfStorage", key: "0", elements: 4, offset: 0, shape: &[2, 2], strides: &[2, 1] };

impl Tensor<'_> {
    fn pickle(&self) -> Vec<u8> {
        let storage = [
            text("storage"),
            format!("ctorch\n{}\n", self.storage).into_bytes(),
            text(self.key),
            text("cpu"),
            int(self.elements),
        ];
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            storage.concat(),
            b"tQ".to_vec(),
            int(self.offset),
            tuple(self.shape),
            tuple(self.strides),
            b"\x89".to_vec(),
            ORDERED_DICT.to_vec(),
            b"tR".to_vec(),
        ]
        .concat()
    }
}

/// A whole pickle of a dict with these keys and instructions for their values.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [b"\x80\x02".to_vec(), nested(items), b".".to_vec()].concat()
}

fn nested(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [ORDERED_DICT, b"(", &items, b"u"].concat()
}

fn records(pickle: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("m/data.pkl", pickle), ("m/byteorder", b"little".to_vec()), ("m/data/0", (1..9).collect())]
}

pub(crate) fn small_records() -> Vec<(&'static str, Vec<u8>)> {
    records(dict(&[("w", SMALL.pickle())]))
}

pub(crate) fn small_checkpoint() -> Vec<u8> {
    archive(&small_records(), Style::Plain)
}

fn checkpoint(pickle: Vec<u8>) -> Vec<u8> {
    archive(&records(pickle), Style::Plain)
}

#[test]
fn tied_and_partial_tensors_share_a_storage() {
    let folder = scratch("torch-tied");
    let second = Tensor { offset: 2, shape: &[1, 2], strides: &[99, 1], ..SMALL };
    let scalar = Tensor { offset: 3, shape: &[], strides: &[], ..SMALL };
    let parameter = [
        b"ctorch._utils\n_rebuild_parameter\n(".to_vec(),
        SMALL.pickle(),
        b"\x88".to_vec(),
        ORDERED_DICT.to_vec(),
        b"tR".to_vec(),
    ];
    let pickle = dict(&[
        ("w", SMALL.pickle()),
        ("tied", parameter.concat()),
        ("row", second.pickle()),
        ("last", scalar.pickle()),
    ]);
    let checkpoint = Checkpoint::open(&file(&folder, "m.pt", &checkpoint(pickle)), &COPYING).unwrap();
    let bytes = |name: &str| checkpoint.bytes(checkpoint.entry(name).unwrap()).unwrap().to_vec();
    assert_eq!(bytes("w"), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes("tied"), bytes("w"));
    assert_eq!(bytes("row"), [5, 6, 7, 8]);
    assert_eq!(bytes("last"), [7, 8]);
    assert_eq!(checkpoint.entry("w").unwrap().dtype, Dtype::F16);
    assert!(checkpoint.notes().is_empty(), "{:?}", checkpoint.notes());
}

#[test]
fn weights_one_level_down_are_found_and_said() {
    let folder = scratch("torch-nested");
    for key in ["model", "state_dict"] {
        let pickle = dict(&[
            ("step", int(7)),
            ("rate", [b"G".to_vec(), vec![0; 8]].concat()),
            ("rng", SMALL.pickle()),
            (key, nested(&[("w", SMALL.pickle())])),
        ]);
        let checkpoint = open(&file(&folder, "m.pt", &checkpoint(pickle))).unwrap();
        let names: Vec<_> = checkpoint.entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["w"]);
        assert!(checkpoint.notes()[0].contains(&format!("under key {key:?}")), "{:?}", checkpoint.notes());
        assert_eq!(checkpoint.notes()[1], "not tensors of the model, ignored: rate, rng, step");
    }
    let two_down = dict(&[("model", nested(&[("model", nested(&[("w", SMALL.pickle())]))]))]);
    assert_refused(&file(&folder, "deep.pt", &checkpoint(two_down)), ErrorKind::Unsupported, &["one level down"]);
}

#[test]
fn module_versions_are_data() {
    let folder = scratch("torch-metadata");
    let versions = nested(&[("", nested(&[("version", int(1))]))]);
    let attributes = [b"}".to_vec(), text("_metadata"), versions, b"sb".to_vec()].concat();
    let pickle = [b"\x80\x02".to_vec(), nested(&[("w", SMALL.pickle())]), attributes, b".".to_vec()].concat();
    assert_eq!(open(&file(&folder, "m.pt", &checkpoint(pickle))).unwrap().entries().len(), 1);
}

#[test]
fn truncation_and_damage_at_every_byte() {
    let folder = scratch("torch-truncated");
    for (name, style) in [("plain.pt", Style::Plain), ("streamed.pt", Style::Descriptor), ("wide.pt", Style::Wide)] {
        let bytes = archive(&small_records(), style);
        assert_every_truncation_refused(&folder, name, &bytes);
        assert_every_bit_flip_survived(&folder, name, &bytes);
    }
}

#[test]
fn a_pickle_cut_anywhere_is_refused() {
    let folder = scratch("torch-cut-pickle");
    let pickle = dict(&[("w", SMALL.pickle())]);
    for len in 0..pickle.len() {
        let path = file(&folder, "m.pt", &checkpoint(pickle[..len].to_vec()));
        assert_refused(&path, ErrorKind::Invalid, &["data.pkl"]);
    }
    let path = file(&folder, "m.pt", &checkpoint(pickle[..pickle.len() - 1].to_vec()));
    assert_refused(&path, ErrorKind::Invalid, &["STOP is missing"]);
}

#[test]
fn nothing_is_executed() {
    let folder = scratch("torch-code");
    let witness = folder.join("witness");
    let command = format!("touch {}", witness.display());
    let call = |global: &str| [global.as_bytes(), b"(", &text(&command), b"tR"].concat();
    for (global, named) in [
        ("cposix\nsystem\n", "the global posix.system"),
        ("cos\nsystem\n", "the global os.system"),
        ("cbuiltins\neval\n", "the global builtins.eval"),
        ("c__builtin__\nexec\n", "the global __builtin__.exec"),
        ("ctorch.storage\n_load_from_bytes\n", "the global torch.storage._load_from_bytes"),
        ("ctorch._utils\n_rebuild_tensor_v3\n", "the global torch._utils._rebuild_tensor_v3"),
        ("ccollections\nOrderedDict.fromkeys\n", "the global collections.OrderedDict.fromkeys"),
        ("cargparse\nNamespace\n", "the global argparse.Namespace"),
        ("ca\u{1b}[2J\nb\n", "the global a\\u{1b}[2J.b"),
    ] {
        let pickle = dict(&[("w", SMALL.pickle()), ("x", call(global))]);
        let path = file(&folder, "m.pt", &checkpoint(pickle));
        assert_refused(
            &path,
            ErrorKind::Unsupported,
            &[named, "nothing in it is executed", "torch.save(model.state_dict(), path)"],
        );
    }
    assert!(!witness.exists());
}

#[test]
fn instructions_that_no_state_dict_needs_are_named() {
    let folder = scratch("torch-opcodes");
    let known = b".(})]t\x85\x86\x87N\x88\x89JKM\x8aGXqrhjaesucQRb";
    for opcode in (0..=255).filter(|opcode| !known.contains(opcode)) {
        let pickle = [b"\x80\x02", &[opcode][..], b"."].concat();
        assert_refused(&file(&folder, "m.pt", &checkpoint(pickle)), ErrorKind::Unsupported, &["instruction "]);
    }
    for (opcode, name) in [(b'i', "INST"), (b'o', "OBJ"), (0x81, "NEWOBJ"), (0x93, "STACK_GLOBAL"), (b'P', "PERSID")] {
        let pickle = [b"\x80\x02", &[opcode][..], b"."].concat();
        let fragment = format!("instruction {name} at byte 2");
        assert_refused(&file(&folder, "m.pt", &checkpoint(pickle)), ErrorKind::Unsupported, &[&fragment]);
    }
    let path = file(&folder, "m.pt", &checkpoint(b"\x80\x04}.".to_vec()));
    assert_refused(&path, ErrorKind::Unsupported, &["protocol 2"]);
}

#[test]
fn misuse_of_the_stack_is_refused() {
    let folder = scratch("torch-stack");
    let cases: &[(&str, &[u8])] = &[
        ("a value on the stack", b"."),
        ("a value on the stack", b"(."),
        ("a value on the stack", b"K\x01(\x85."),
        ("a MARK", b"t."),
        ("one value left", b"NN."),
        ("one value left", b"}(N."),
        ("STOP as the pickle's last byte", b"}.}"),
        ("a memo entry", b"h\x00."),
        ("keys and values in pairs", b"}(Nu."),
        ("a dict to put items into", b"N(NNu."),
        ("a list to append to", b"}Na."),
        ("REDUCE of a known name and a tuple", b"N)R."),
        ("a persistent id", b")Q."),
        ("the arguments that RebuildTensor takes", b"ctorch._utils\n_rebuild_tensor_v2\n)R."),
        ("integers of at most 64 bits", b"\x8a\x09123456789."),
        ("strings in UTF-8", b"X\x01\x00\x00\x00\xff."),
        ("end of line", b"ctorch"),
    ];
    for (fragment, program) in cases {
        let path = file(&folder, "m.pt", &checkpoint([b"\x80\x02", *program].concat()));
        assert_refused(&path, ErrorKind::Invalid, &[fragment, "data.pkl"]);
    }
    let path = file(&folder, "m.pt", &checkpoint(b"\x80\x02N}b.".to_vec()));
    assert_refused(&path, ErrorKind::Unsupported, &["BUILD on something other than a dict"]);
}

#[test]
fn resources_are_bounded() {
    let folder = scratch("torch-bounds");
    let program = |body: Vec<u8>| checkpoint([b"\x80\x02".to_vec(), body, b".".to_vec()].concat());
    let cases = [
        ("a pickle stack of at most 65536", b"N".repeat(70_000)),
        ("a number of pickle marks of at most 65536", b"(".repeat(70_000)),
        ("a number of pickled objects of at most 8388608", [b"N".to_vec(), b"q\x00".repeat(8_400_000)].concat()),
        ("a pickled string in bytes of at most 4096", [b"X".to_vec(), u32::MAX.to_le_bytes().to_vec()].concat()),
    ];
    for (fragment, body) in cases {
        assert_refused(&file(&folder, "m.pt", &program(body)), ErrorKind::Invalid, &[fragment]);
    }
    // A memo index far out costs one entry, not a table; doubling tuples through the memo is counted item by item.
    let far = [b"\x80\x02}r".to_vec(), vec![0xff; 4], b".".to_vec()].concat();
    assert_refused(&file(&folder, "m.pt", &checkpoint(far)), ErrorKind::Unsupported, &["found none"]);
    let doubled = [b"N".to_vec(), b"q\x00h\x00\x86".repeat(60_000)].concat();
    assert_refused(&file(&folder, "m.pt", &program(doubled)), ErrorKind::Unsupported, &["a dict of tensors"]);
}

#[test]
fn a_dict_that_contains_itself_ends() {
    let folder = scratch("torch-recursion");
    let pickle = [b"\x80\x02}q\x00".to_vec(), text("model"), b"h\x00s.".to_vec()].concat();
    assert_refused(&file(&folder, "m.pt", &checkpoint(pickle)), ErrorKind::Unsupported, &["found none"]);
    let nested = [b"\x80\x02N".to_vec(), b"\x85".repeat(1_000_000), b".".to_vec()].concat();
    assert_refused(&file(&folder, "m.pt", &checkpoint(nested)), ErrorKind::Unsupported, &["another pickled object"]);
}

#[test]
fn tensors_that_are_no_range_of_their_storage_are_refused() {
    let folder = scratch("torch-tensors");
    let refuse = |tensor: Tensor, kind, fragments: &[&str]| {
        let path = file(&folder, "m.pt", &checkpoint(dict(&[("layers.0.w", tensor.pickle())])));
        assert_refused(&path, kind, &[fragments, &["`layers.0.w`"]].concat());
    };
    let (invalid, unsupported) = (ErrorKind::Invalid, ErrorKind::Unsupported);
    refuse(Tensor { strides: &[1, 2], ..SMALL }, unsupported, &["non-contiguous", "strides [1, 2]", ".contiguous()"]);
    refuse(Tensor { strides: &[0, 0], ..SMALL }, unsupported, &["non-contiguous"]);
    refuse(Tensor { strides: &[1], ..SMALL }, unsupported, &["non-contiguous"]);
    refuse(Tensor { strides: &[-2, 1], ..SMALL }, invalid, &["strides of at least zero"]);
    refuse(Tensor { shape: &[-2, 2], ..SMALL }, invalid, &["a shape of sizes"]);
    refuse(Tensor { offset: 1, ..SMALL }, invalid, &["a tensor within storage \"0\" of 4 elements", "from element 1"]);
    refuse(Tensor { offset: -1, ..SMALL }, invalid, &["from element -1"]);
    refuse(Tensor { shape: &[3, 2], ..SMALL }, invalid, &["a tensor within storage"]);
    refuse(Tensor { shape: &[i32::MAX; 3], strides: &[1; 3], ..SMALL }, unsupported, &["non-contiguous"]);
    refuse(Tensor { elements: 5, ..SMALL }, invalid, &["of 5 F16 elements", "found 8 bytes"]);
    refuse(Tensor { elements: -1, ..SMALL }, invalid, &["of -1 F16 elements"]);
    refuse(Tensor { storage: "DoubleStorage", ..SMALL }, invalid, &["of 4 F64 elements"]);
    refuse(Tensor { key: "1", ..SMALL }, invalid, &["a zip record \"m/data/1\""]);
    refuse(Tensor { key: "../../secret", ..SMALL }, invalid, &["a zip record"]);
    refuse(Tensor { shape: &[1; 9], strides: &[1; 9], elements: 4, ..SMALL }, invalid, &["a rank of at most 8"]);
}

#[test]
fn other_archives_and_dicts_are_refused() {
    let folder = scratch("torch-others");
    let mut big = small_records();
    big[1].1 = b"big".to_vec();
    assert_refused(
        &file(&folder, "m.pt", &archive(&big, Style::Plain)),
        ErrorKind::Unsupported,
        &["byteorder little", "\"big\""],
    );
    let mut script = small_records();
    script.push(("m/constants.pkl", Vec::new()));
    assert_refused(&file(&folder, "m.pt", &archive(&script, Style::Plain)), ErrorKind::Unsupported, &["TorchScript"]);
    assert_refused(&file(&folder, "m.pt", b"\x80\x02}."), ErrorKind::Unsupported, &["a bare pickle", "save it again"]);
    let none = archive(&small_records()[1..], Style::Plain);
    assert_refused(&file(&folder, "m.pt", &none), ErrorKind::Invalid, &["a zip record \"m/data.pkl\""]);
    let twice = dict(&[("w", SMALL.pickle()), ("w", SMALL.pickle())]);
    assert_refused(&file(&folder, "m.pt", &checkpoint(twice)), ErrorKind::Invalid, &["`w`", "one value of this name"]);
    let keyed = [b"\x80\x02}".to_vec(), int(1), SMALL.pickle(), b"s.".to_vec()].concat();
    assert_refused(&file(&folder, "m.pt", &checkpoint(keyed)), ErrorKind::Unsupported, &["a key that is no string"]);
    assert_refused(&file(&folder, "m.pt", &checkpoint(dict(&[]))), ErrorKind::Unsupported, &["found none"]);
}
