//! Which file of a folder is read, and what an index may say.

use std::path::Path;

use sbnc::checkpoint::{Checkpoint, ErrorKind, Format, Prefer};

use super::safetensors::{container, tensor};
use super::support::{assert_refusal, assert_refused, file, open, preferring, scratch};
use super::torch::small_checkpoint;

fn shard(names: &[&str]) -> Vec<u8> {
    let tensors: Vec<_> =
        (0..).zip(names).map(|(at, name)| format!(r#""{name}":{}"#, tensor("U8", "[1]", at, at + 1))).collect();
    let data: Vec<u8> = names.iter().map(|name| name.as_bytes()[0]).collect();
    container(&format!("{{{}}}", tensors.join(",")), &data)
}

fn index(folder: &Path, map: &[(&str, &str)]) {
    let pairs: Vec<_> = map.iter().map(|(name, shard)| format!("{name:?}:{shard:?}")).collect();
    let text = format!(r#"{{"metadata":{{"total_size":3}},"weight_map":{{{}}}}}"#, pairs.join(","));
    file(folder, "model.safetensors.index.json", text.as_bytes());
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = scratch("shards");
    file(&folder, "s2.safetensors", &shard(&["b"]));
    file(&folder, "s1.safetensors", &shard(&["c", "a"]));
    index(&folder, &[("a", "s1.safetensors"), ("b", "s2.safetensors"), ("c", "s1.safetensors")]);
    for path in [folder.clone(), folder.join("model.safetensors.index.json")] {
        let checkpoint = open(&path).unwrap();
        assert_eq!(checkpoint.format(), Format::Sharded);
        let read: Vec<_> = checkpoint
            .entries()
            .iter()
            .map(|entry| (entry.name.as_str(), entry.file, checkpoint.bytes(entry).unwrap()[0]))
            .collect();
        assert_eq!(read, [("a", 0, b'a'), ("b", 1, b'b'), ("c", 0, b'c')]);
    }
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let folder = scratch("index-disagrees");
    let (one, two) = ("s1.safetensors", "s2.safetensors");
    file(&folder, one, &shard(&["a", "c"]));
    let second = file(&folder, two, &shard(&["b"]));
    let path = folder.join("model.safetensors.index.json");

    index(&folder, &[("a", one), ("b", two), ("c", one), ("d", two)]);
    assert_refused(&path, ErrorKind::Invalid, &["`d`", "no such tensor"]);
    index(&folder, &[("a", one), ("b", two)]);
    assert_refusal(open(&path), &folder.join(one), ErrorKind::Invalid, &["`c`", "the index does not know it"]);
    index(&folder, &[("a", one), ("b", one), ("c", two)]);
    assert_refusal(open(&path), &folder.join(one), ErrorKind::Invalid, &["`c`", "the index says \"s2.safetensors\""]);
    file(&folder, two, &shard(&["b", "a"]));
    index(&folder, &[("a", one), ("b", two), ("c", one)]);
    assert_refusal(open(&path), &second, ErrorKind::Invalid, &["`a`", "the index says \"s1.safetensors\""]);
    index(&folder, &[("a", one), ("b", "gone.safetensors"), ("c", one)]);
    assert_refusal(open(&path), Path::new("gone.safetensors"), ErrorKind::Io, &["cannot open"]);
}

#[test]
fn shard_names_cannot_leave_the_folder() {
    let folder = scratch("index-escapes");
    let path = folder.join("model.safetensors.index.json");
    for name in ["../m.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:m", "./m", "m/", "m\u{0}"] {
        index(&folder, &[("a", name)]);
        assert_refused(&path, ErrorKind::Invalid, &["expected"]);
    }
    index(&folder, &[("a", "../m.safetensors")]);
    assert_refused(&path, ErrorKind::Invalid, &["plain names of files", "../m.safetensors"]);
}

#[test]
fn a_hostile_index_is_refused() {
    let folder = scratch("index-hostile");
    let cases = [
        (r#"{"weight_map":{"a":"m","a":"n"}}"#, "\"a\" occurs twice"),
        (r#"{"weight_map":{},"weight_map":{}}"#, "\"weight_map\" occurs twice"),
        (r#"{"metadata":{"x":[{"y":1,"y":2}]},"weight_map":{}}"#, "\"y\" occurs twice"),
        (r#"{"metadata":1,"metadata":2,"weight_map":{}}"#, "\"metadata\" occurs twice"),
        (r#"{"metadata":{}}"#, "missing field `weight_map`"),
        (r#"{"weight_map":{"a":1}}"#, "JSON where"),
        (r#"{"weight_map":"#, "JSON where"),
        ("", "JSON where"),
    ];
    for (text, fragment) in cases {
        let path = file(&folder, "model.safetensors.index.json", text.as_bytes());
        assert_refused(&path, ErrorKind::Invalid, &[fragment]);
    }
    let deep = format!(r#"{{"metadata":{}"#, "[".repeat(100_000));
    let path = file(&folder, "model.safetensors.index.json", deep.as_bytes());
    assert_refused(&path, ErrorKind::Invalid, &["recursion limit exceeded"]);
}

#[test]
fn the_choice_of_files_follows_the_rules_and_is_said() {
    let folder = scratch("choice");
    assert_refused(&folder, ErrorKind::Invalid, &["model.safetensors", "none of them"]);
    file(&folder, "metadata.json", b"{}");
    assert_refused(&folder, ErrorKind::Invalid, &["beside metadata.json"]);

    file(&folder, "weights.safetensors", &shard(&["w"]));
    let only = open(&folder).unwrap();
    assert_eq!(only.notes(), ["read weights.safetensors, the folder's only .safetensors file"]);
    file(&folder, "more.safetensors", &shard(&["m"]));
    assert_refused(&folder, ErrorKind::Invalid, &["more.safetensors, weights.safetensors", "name one of the files"]);
    file(&folder, "model.safetensors", &shard(&["n"]));
    assert!(open(&folder).unwrap().entry("n").is_some());
    index(&folder, &[("m", "more.safetensors")]);
    let both = open(&folder).unwrap();
    assert!(both.entry("n").is_some() && both.notes()[0].contains("was not read"), "{:?}", both.notes());

    let asked = preferring(Prefer::Torch);
    assert_refusal(Checkpoint::open(&folder, &asked), &folder, ErrorKind::Invalid, &["model_state.pt, as was asked"]);
    file(&folder, "model_state.pt", &small_checkpoint());
    assert_eq!(open(&folder).unwrap().format(), Format::Torch);
    assert_eq!(Checkpoint::open(&folder, &asked).unwrap().format(), Format::Torch);
    let other = Checkpoint::open(&folder, &preferring(Prefer::Safetensors)).unwrap();
    assert!(other.entry("n").is_some());
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = scratch("no-checkpoint");
    assert_refused(&folder.join("absent"), ErrorKind::Io, &["cannot open"]);
    assert_refused(&file(&folder, "notes.txt", b"hello"), ErrorKind::Unsupported, &["a file of another kind"]);
    std::fs::create_dir(folder.join("model.safetensors")).unwrap();
    assert_refusal(open(&folder), &folder.join("model.safetensors"), ErrorKind::Io, &["not a regular file"]);
}

#[cfg(unix)]
#[test]
fn links_in_the_folder_are_followed_but_pipes_are_not_waited_for() {
    let folder = scratch("links");
    std::fs::create_dir(folder.join("blobs")).unwrap();
    std::fs::create_dir(folder.join("snapshot")).unwrap();
    file(&folder, "blobs/0123", &shard(&["w"]));
    std::os::unix::fs::symlink("../blobs/0123", folder.join("snapshot/model.safetensors")).unwrap();
    assert!(open(&folder.join("snapshot")).unwrap().entry("w").is_some());
    assert_refused(Path::new("/dev/zero"), ErrorKind::Io, &["not a regular file"]);
}

#[test]
fn a_file_that_changes_while_it_is_open_is_an_error() {
    let folder = scratch("changes");
    let path = file(&folder, "model.safetensors", &shard(&["w", "x"]));
    let checkpoint = open(&path).unwrap();
    file(&folder, "model.safetensors", b"");
    let result = checkpoint.bytes(&checkpoint.entries()[0]);
    assert_refusal(result, &path, ErrorKind::Io, &["changed by someone else"]);
}
