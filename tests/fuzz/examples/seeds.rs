//! Writes the seed corpora to `seeds/`: `cargo run --example seeds`. They are checked in; this says where they come from.

use std::fs;
use std::path::{Path, PathBuf};

use sbnc_format::{Encoding, Order, Pattern};
use sbnc_fuzz::checkpoint::torch_archive;
use sbnc_fuzz::support::{self, Random, Sample};

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::write(folder.join(name), bytes).expect("a seed can be written");
}

fn main() {
    let t2 = |name| Sample::trits(&mut Random(7), name, (Encoding::T2, Order::Rows), (2, 6), Pattern::DENSE);
    let small = support::one(t2("w"));
    put("open", "whole", &support::whole());
    put("open", "small", &small);
    put("packed", "zstd", &packed(&small));
    put("manifest", "whole", &support::manifest(&support::carried()).to_bytes().expect("a good manifest"));
    put("manifest", "bare", &support::bare_manifest().to_bytes().expect("a good manifest"));

    // Programs for mutations and matrices: bytes that nothing interprets but the targets' own decisions.
    let mut random = Random(9);
    for (i, length) in [16usize, 64, 200].into_iter().enumerate() {
        let program: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
        put("open_resealed", &format!("program-{i}"), &program);
        put("model", &format!("program-{i}"), &program);
    }
    // Programs that change nothing: each of the valid models as it is.
    for model in 0..4 {
        put("model", &format!("whole-{model}"), &[model]);
    }
    text();
    for target in ["decode_t2", "decode_t5", "decode_nm6b", "decode_fragments", "decode_windows"] {
        for (i, length) in [40usize, 400, 2000].into_iter().enumerate() {
            let bytes: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
            put(target, &format!("matrix-{i}"), &bytes);
        }
    }

    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"b":{"dtype":"BF16","shape":[8],"data_offsets":[32,48]}}"#;
    put("safetensors_header", "two", &[&[48], &header[..]].concat());
    put("pickle", "state", &[&[1], &pickle()[..]].concat());
    put("pickle", "archive", &[&[255], &torch_archive(&pickle(), 1)[..]].concat());
    put("gguf", "f32", &gguf(0, &[4, 2], 32));
    put("gguf", "tq2_0", &gguf(35, &[256, 1], 66));
    put("gguf", "i2_s", &gguf(36, &[128, 4], 128 + 32));
}

/// The files of a model that can talk, with a tokenizer of each kind.
fn text() {
    let folder = support::scratch("seed-talker");
    fs::create_dir_all(&folder).expect("a folder can be made");
    sbnc_tests::talker::talker(&folder);
    let read = |name: &str| fs::read(folder.join(name)).expect("the talker has this file");
    let (json, config, settings) =
        (read("tokenizer.json"), read("tokenizer_config.json"), read("generation_config.json"));
    support::sweep(&folder);
    // The bytes that a tokenizer must have, then some words, each with its rank.
    let words = ["th", "the", " the", "hello"].map(|word| word.as_bytes().to_vec());
    let tokens = (0..=255u8).map(|byte| vec![byte]).chain(words);
    let lines: Vec<String> = tokens.enumerate().map(|(rank, bytes)| format!("{} {rank}\n", base64(&bytes))).collect();
    let template = b"{% for m in messages %}{{ bos_token ~ m.role.upper() }}: {{ m['content'] | trim }}{% endfor %}";
    let drawn = br#"{"do_sample": true, "temperature": 0.7, "top_k": 2, "top_p": 0.9, "repetition_penalty": 1.1}"#;
    let text = "hello the <|user|> caf\u{e9} \u{65e5}\u{672c}\n\n".as_bytes();
    let end = &[0xFFu8][..];
    put("text", "byte-level", &[&json, end, end, &config, end, template, end, &settings, end, text].concat());
    put("text", "ranks", &[end, lines.concat().as_bytes(), end, &config, end, template, end, drawn, end, text].concat());
    put("text", "no-tokenizer", &[end, end, end, template, end, drawn, end, text].concat());
}

/// Bytes in base64, as a tokenizer.model has them.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| -> String {
        let bits = three.iter().enumerate().fold(0u32, |bits, (i, &byte)| bits | u32::from(byte) << (16 - 8 * i));
        let digit = |i: usize| if i <= three.len() { DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char } else { '=' };
        (0..4).map(digit).collect()
    };
    bytes.chunks(3).map(group).collect()
}

fn packed(file: &[u8]) -> Vec<u8> {
    let path: PathBuf = support::scratch("seed.sbncz");
    sbnc_format::packed::pack(file, &path, 3, &|_| true).expect("a valid file can be packed");
    let bytes = fs::read(&path).expect("and read back");
    support::sweep(&path);
    bytes
}

/// `{"w": tensor of float32, 4×4}` in protocol 2, as torch writes it.
fn pickle() -> Vec<u8> {
    let mut p = b"\x80\x02}q\x00(X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((".to_vec();
    p.extend(b"X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x10tq\x07Q");
    p.extend(b"K\x00K\x04K\x04\x86q\x08K\x04K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0du.");
    p
}

/// One tensor "w" of a type and a size, version 3.
fn gguf(kind: u32, shape: &[u64], bytes: usize) -> Vec<u8> {
    let text = |t: &str| [&(t.len() as u64).to_le_bytes()[..], t.as_bytes()].concat();
    let mut file = [&b"GGUF\x03\0\0\0"[..], &1u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
    file.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("bitnet")].concat());
    file.extend([text("general.alignment"), 4u32.to_le_bytes().to_vec(), 32u32.to_le_bytes().to_vec()].concat());
    file.extend([text("w"), (shape.len() as u32).to_le_bytes().to_vec()].concat());
    shape.iter().for_each(|d| file.extend(d.to_le_bytes()));
    file.extend(kind.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.resize(file.len() + bytes.next_multiple_of(32), 0);
    if kind == 36 {
        let tail = file.len() - 32;
        file[tail..tail + 4].copy_from_slice(&1f32.to_le_bytes());
    }
    file
}
