//! What is refused, in which words, and that a refusal changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

use sbnc_format::manifest::RopeValue;
use sbnc_runtime::{Check, Device, Error, Interrupt, Kind, Model, SessionOptions, Weights};
use sbnc_tests::{Recipe, folder};
use tempfile::TempDir;

/// A recipe's file.
fn write(recipe: &Recipe) -> (TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join("model.sbnc");
    recipe.write(&path);
    (folder, path)
}

/// What opening a recipe's file ends in.
#[track_caller]
fn refusal(recipe: &Recipe) -> Error {
    let (_folder, path) = write(recipe);
    let error = Model::open(&path).unwrap_err();
    assert_eq!(error.file(), Some(&*path), "{error}");
    error
}

/// Checks the kind and that the text has these parts.
#[track_caller]
fn assert_says(error: &Error, kind: Kind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} must say {part:?}");
    }
}

#[test]
fn tensors_that_do_not_fit_the_shape() {
    let odd = |role, shape: &[u64]| Recipe { odd: vec![(role, shape.to_vec())], ..Recipe::small() };
    let shape = refusal(&odd("o", &[48, 32]));
    assert_says(&shape, Kind::Invalid, &["tensor 'layers.0.o'", "expected shape 48x64", "found shape 48x32"]);
    assert_says(&refusal(&odd("attn_norm", &[47])), Kind::Invalid, &["'layers.0.attn_norm'", "48 numbers", "shape 47"]);
    assert_says(&refusal(&odd("embed", &[39, 48])), Kind::Invalid, &["tensor 'embed'", "40x48", "39x48"]);
    let biased = odd("k_bias", &[1, 32]).with(&["k_bias"]);
    assert_says(&refusal(&biased), Kind::Invalid, &["'layers.0.k_bias'", "32 numbers", "shape 1x32"]);
}

#[test]
fn roles_that_are_missing_or_unknown() {
    for role in ["embed", "head", "norm", "attn_norm", "v", "o", "ffn_norm", "gate", "down"] {
        let error = refusal(&Recipe::small().without(&[role]));
        assert_says(&error, Kind::Invalid, &[&format!("model.tensors.{role}:"), "found none"]);
    }
    assert_says(&refusal(&Recipe::small().with(&["router"])), Kind::Unsupported, &["model.tensors", "found router"]);
    let both = refusal(&Recipe::small().with(&["qkv"]));
    assert_says(&both, Kind::Invalid, &["model.tensors.q:", "'layers.0.qkv'"]);
    let mut tied = Recipe::small();
    tied.model.tied = true;
    assert_says(&refusal(&tied), Kind::Invalid, &["model.tensors.head", "model.tied is true"]);
    let error = refusal(&Recipe { missing: Some("layers.1.k".to_owned()), ..Recipe::small() });
    assert_says(&error, Kind::Invalid, &["tensor 'layers.1.k'", "no tensor of that name"]);
}

#[test]
fn models_of_other_kinds() {
    let changed = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe::small();
        change(&mut recipe);
        refusal(&recipe)
    };
    let family = changed(|r| r.model.family = "mamba".to_owned());
    assert_says(&family, Kind::Unsupported, &["model.family", "llama", "found mamba"]);
    let odd = changed(|r| r.model.head_dim = 15);
    assert_says(&odd, Kind::Invalid, &["model.head_dim", "even", "15"]);
    let window = changed(|r| r.model.window = Some(0));
    assert_says(&window, Kind::Invalid, &["model.window"]);
    let eos = changed(|r| r.model.tokens.eos = Some(vec![3, 40]));
    assert_says(&eos, Kind::Invalid, &["model.tokens.eos", "below 40", "found 40"]);
    let ternary = changed(|r| (r.embed, r.head) = (r.packing.encoding, r.packing.encoding));
    assert_says(&ternary, Kind::Unsupported, &["model.tensors.embed", "trits"]);
}

#[test]
fn scalings_that_nobody_implements() {
    let scaled = |members: &[(&str, &str)]| {
        let mut recipe = Recipe::small();
        let member = |(key, value): &(&str, &str)| ((*key).to_owned(), RopeValue::Text((*value).to_owned()));
        recipe.model.rope.scaling = Some(members.iter().map(member).collect::<BTreeMap<_, _>>());
        refusal(&recipe)
    };
    let proportional = scaled(&[("rope_type", "proportional"), ("factor", "2.0")]);
    assert_says(&proportional, Kind::Unsupported, &["model.rope.scaling.rope_type", "yarn", "found proportional"]);
    let lists = scaled(&[("rope_type", "longrope"), ("short_factor", "1.0,2.0"), ("long_factor", "1.0")]);
    assert_says(&lists, Kind::Invalid, &["model.rope.scaling.short_factor", "one for each pair", "found 2 of them"]);
    let unread = scaled(&[("rope_type", "linear"), ("factor", "2.0"), ("beta_fast", "3.0")]);
    assert_says(&unread, Kind::Unsupported, &["model.rope.scaling.beta_fast"]);
    assert_says(&scaled(&[("rope_type", "linear")]), Kind::Invalid, &["model.rope.scaling.factor", "found nothing"]);
    let negative = scaled(&[("rope_type", "yarn"), ("factor", "-2.0")]);
    assert_says(&negative, Kind::Invalid, &["model.rope.scaling.factor", "above 0", "found -2.0"]);
}

#[test]
fn files_that_are_none_or_damaged() {
    let (folder, path) = write(&Recipe::small());
    assert_says(&Model::open(folder.path()).unwrap_err(), Kind::Io, &["not a regular file"]);
    assert_says(&Model::open(folder.path().join("no")).unwrap_err(), Kind::Io, &["no: cannot open it"]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_says(&Model::open(&path).unwrap_err(), Kind::Invalid, &["SBNC-R006"]);
    fs::write(&path, b"GGUF").unwrap();
    assert_says(&Model::open(&path).unwrap_err(), Kind::Invalid, &["SBNC-R001"]);

    // A code that is none, and a code that is another.
    let file = sbnc_format::Sbnc::open(bytes.clone()).unwrap();
    let weight = file.range_of(file.tensor("layers.1.up").unwrap().tensor()).start;
    let with = |byte| {
        let mut bytes = bytes.clone();
        bytes[weight] = byte;
        fs::write(&path, bytes).unwrap();
    };
    with(0xFF);
    assert_says(&Model::open(&path).unwrap_err(), Kind::Invalid, &["SBNC-R080", "'layers.1.up', row 0"]);
    with(if bytes[weight] == 0b0001_1010 { 0b0110_1000 } else { 0b0001_1010 });
    Model::open(&path).unwrap();
    for mmap in [true, false] {
        let error = Model::options().mmap(mmap).check(Check::Digests).open(&path).unwrap_err();
        assert_says(&error, Kind::Integrity, &["SBNC-R072", "'layers.1.up'"]);
    }
    with(bytes[weight]);
    Model::options().check(Check::Digests).open(&path).unwrap();
}

#[test]
fn options_that_cannot_be() {
    let (_folder, path) = write(&Recipe::small());
    assert_says(&Model::options().threads(0).open(&path).unwrap_err(), Kind::Usage, &["threads", "found 0"]);
    let model = Model::open(&path).unwrap();
    let refused = |change: fn(&mut SessionOptions)| {
        let mut options = SessionOptions::default();
        change(&mut options);
        model.session(&options).unwrap_err()
    };
    assert_says(&refused(|o| o.context = 65), Kind::Usage, &["context", "1 to 64", "found 65"]);
    assert_says(&refused(|o| o.sequences = 0), Kind::Usage, &["sequences"]);
    let budget = refused(|o| o.memory = Some(100_000));
    assert_says(&budget, Kind::Budget, &["at most 100000 bytes", "64 tokens", "chunk"]);
    assert_says(&refused(|o| (o.sequences, o.chunk) = (4096, 1 << 17)), Kind::Usage, &["chunk"]);
}

#[test]
fn a_budget_says_what_fits() {
    let (_folder, path) = write(&Recipe::small());
    let model = Model::open(&path).unwrap();
    let with = |context, memory| SessionOptions { context, chunk: 8, memory, ..SessionOptions::default() };
    let least = (1..).map(|k| k * 1000).find(|&bytes| model.session(&with(32, Some(bytes))).is_ok()).unwrap();
    let error = model.session(&with(64, Some(least))).unwrap_err();
    assert_says(&error, Kind::Budget, &["memory of the session", "a context of 3"]);
    let text = error.to_string();
    let fits = text.rsplit_once("a context of ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(fits >= 32 && model.session(&with(fits, Some(least))).is_ok(), "{text}");
    assert_eq!(model.session(&with(fits + 1, Some(least))).unwrap_err().kind(), Kind::Budget);
}

#[test]
fn calls_that_cannot_be_leave_a_session_as_it_was() {
    let (_folder, path) = write(&Recipe::small());
    let model = Model::open(&path).unwrap();
    let options = SessionOptions { context: 10, sequences: 2, chunk: 3, ..SessionOptions::default() };
    let mut session = model.session(&options).unwrap();
    session.batch(&[(0, &[1, 2, 3]), (1, &[4])]).unwrap();
    let mut refused = |work: &[(usize, &[u32])], kind, parts: &[&str]| {
        assert_says(&session.batch(work).unwrap_err(), kind, parts);
        assert_eq!((session.tokens(0), session.tokens(1)), (&[1, 2, 3][..], &[4][..]));
    };
    refused(&[], Kind::Usage, &["at least one entry"]);
    refused(&[(0, &[])], Kind::Usage, &["sequence 0", "at least one token"]);
    refused(&[(2, &[1])], Kind::Usage, &["sequence", "below 2", "found 2"]);
    refused(&[(1, &[1]), (1, &[2])], Kind::Usage, &["at most once"]);
    refused(&[(1, &[1, 39, 40])], Kind::Usage, &["token 2", "at most 39", "found 40"]);
    refused(
        &[(1, &[1]), (0, &[7; 8])],
        Kind::Usage,
        &["sequence 0", "at most 7 more", "context of 10", "found 8", "64"],
    );
    assert_says(&session.copy_prefix(0, 1, 4).unwrap_err(), Kind::Usage, &["at most 3", "found 4"]);
    assert_says(&session.copy_prefix(0, 2, 1).unwrap_err(), Kind::Usage, &["below 2"]);
}

#[test]
fn a_raised_flag_ends_a_call_and_nothing_else() {
    let (_folder, path) = write(&Recipe::small());
    let model = Model::open(&path).unwrap();
    let interrupt = Interrupt::default();
    let options = SessionOptions { chunk: 4, interrupt: interrupt.clone(), ..SessionOptions::default() };
    let mut session = model.session(&options).unwrap();
    session.forward(&[1, 2]).unwrap();
    let text: Vec<u32> = (3..30).collect();
    // From within: after the first chunk.
    let error = session.forward_all(&text, |_| interrupt.raise()).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Interrupted, 130));
    assert_eq!(session.tokens(0), [1, 2]);
    assert_eq!(session.forward(&text).unwrap_err().kind(), Kind::Interrupted);
    interrupt.lower();
    let again = session.forward(&text).unwrap().to_vec();
    let mut fresh = model.session(&options).unwrap();
    fresh.forward(&[1, 2]).unwrap();
    assert_eq!(fresh.forward(&text).unwrap(), again);
}

#[test]
fn a_file_that_changes_under_the_map_is_noticed() {
    let (_folder, path) = write(&Recipe::small());
    let (mapped, read) = (Model::open(&path).unwrap(), Model::options().mmap(false).open(&path).unwrap());
    let mut sessions = [&mapped, &read].map(|model| model.session(&SessionOptions::default()).unwrap());
    let first = sessions.each_mut().map(|session| session.forward(&[1, 2]).unwrap().to_vec());
    assert_eq!(first[0], first[1]);
    let len = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
    let error = sessions[0].forward(&[3]).unwrap_err();
    assert_says(&error, Kind::Integrity, &["model.sbnc", "changed while it was in use", "open the model again"]);
    assert_eq!(sessions[0].tokens(0), [1, 2]);
    sessions[1].forward(&[3]).unwrap();
}

#[test]
fn devices_that_are_not_there() {
    let (_folder, path) = write(&Recipe::small());
    Model::options().device(Device::Auto).open(&path).unwrap();
    Model::options().device(Device::Cpu).open(&path).unwrap();
    // Where there is a GPU, the model opens.
    if let Err(error) = Model::options().device(Device::Cuda).open(&path) {
        assert_says(&error, Kind::Device, &["cuda"]);
        assert_eq!(error.kind().exit_code(), 8);
    }
}

#[test]
fn weights_without_a_model() {
    let folder = folder();
    let (checkpoint, path) = (folder.path().join("in.safetensors"), folder.path().join("weights.sbnc"));
    sbnc_tests::synthetic(&checkpoint, 2, 64, 128);
    let arguments = ["compile".as_ref(), checkpoint.as_os_str(), "-o".as_ref(), path.as_os_str()];
    sbnc_tests::run(arguments).expect_code(0);
    let error = Model::open(&path).unwrap_err();
    assert_says(&error, Kind::Unsupported, &["weights.sbnc", "weights alone", "open_weights"]);
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["layers.00.weight", "layers.01.weight"]);
    let error = weights.linear("layers.02.weight").unwrap_err();
    assert_says(&error, Kind::Invalid, &["weights.sbnc", "'layers.02.weight'", "no tensor of that name"]);
    let mut linear = weights.linear("layers.01.weight").unwrap();
    assert_eq!((linear.rows(), linear.cols()), (64, 128));
    let error = linear.forward(&[0.0; 256], &mut [0.0; 127]).unwrap_err();
    assert_says(&error, Kind::Usage, &["128 numbers", "outputs of 64", "256 and 127"]);
}
