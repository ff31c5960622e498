//! The command line as people and scripts meet it: every text, every exit code, and nothing on a stream where it does not belong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use sbnc_tests::{Place, Tensors, golden_text as golden};

const COMMANDS: [&str; 12] =
    ["demo", "compile", "inspect", "verify", "diff", "export", "pack", "unpack", "run", "ppl", "bench", "doctor"];
const LINEAR: &str = "layers.0.attention.wqkv.weight";

/// Figures that differ between two runs, masked: seconds and rates.
fn masked(text: &str) -> String {
    let mask = |line: &str| match line.split_once(' ') {
        Some(("time", _)) => "time     (masked)".to_owned(),
        Some(("payload", _)) => line.rsplit_once(", ").map_or(line.to_owned(), |(rest, _)| format!("{rest}, (masked)")),
        _ if line.trim_start().starts_with("\"seconds\":") => "  \"seconds\": \"(masked)\",".to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| mask(line) + "\n").collect()
}

#[test]
fn texts_are_as_recorded() {
    let place = Place::with_model();
    golden("compile.txt", &masked(&place.ok("compile model -o b.sbnc --nm 2:4")));
    golden(
        "compile-report.txt",
        &masked(&place.ok("compile model -o c.sbnc --embed int8 --head int8 --report c.html")),
    );
    golden("compile.json", &masked(&place.ok("compile model -o d.sbnc --json")));
    golden("inspect.txt", &place.ok("inspect a.sbnc"));
    golden("inspect-int8.txt", &place.ok("inspect c.sbnc"));
    golden("inspect.json", &place.ok("inspect a.sbnc --json"));
    golden("inspect-tensor.txt", &place.ok(&format!("inspect a.sbnc --tensor {LINEAR}")));
    golden("inspect-tensor-kept.txt", &place.ok("inspect a.sbnc --tensor norm.weight"));
    golden("inspect-tensor.json", &place.ok(&format!("inspect a.sbnc --json --tensor {LINEAR}")));
    golden("verify.txt", &masked(&place.ok("verify a.sbnc")));
    golden("verify-deep.txt", &masked(&place.ok("verify a.sbnc --deep")));
    golden("verify.json", &masked(&place.ok("verify a.sbnc --json")));
    golden("verify-against.txt", &place.ok("verify a.sbnc --against model"));
    golden("verify-against.json", &place.ok("verify a.sbnc --against model --json"));
    golden("diff-same.txt", &place.ok("diff a.sbnc d.sbnc"));
    golden("diff.txt", &place.run("diff a.sbnc b.sbnc").expect_code(1).stdout);
    golden("diff.json", &place.run("diff a.sbnc b.sbnc --json").expect_code(1).stdout);
    golden("export.txt", &place.ok("export a.sbnc -o a.safetensors"));
    golden("pack.txt", &place.ok("pack a.sbnc"));
    golden("unpack.txt", &place.ok("unpack a.sbncz -o e.sbnc"));
}

#[test]
fn help_is_as_recorded() {
    let place = Place::new();
    golden("help.txt", &place.ok("--help"));
    for name in COMMANDS {
        golden(&format!("help-{name}.txt"), &place.ok(&format!("{name} --help")));
    }
    assert_eq!(place.ok("--version"), concat!("sbnc ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_target_decides_how_trits_are_stored() {
    let place = Place::with_model();
    let choices = [
        ("cpu", "2:4", "nm-6b", "rows"),
        ("cpu", "6:8", "t5", "rows"),
        ("cuda", "2:4", "nm-vi", "fragments"),
        ("cuda", "6:8", "nm-vi", "windows"),
        ("cuda", "none", "t2", "rows"),
    ];
    for (target, nm, encoding, order) in choices {
        let said = place.ok(&format!("compile model -o t.sbnc --nm {nm} --target {target}"));
        assert!(said.contains(&format!("for the target {target}")), "{said}");
        let shown = place.run(&format!("inspect t.sbnc --tensor {LINEAR} --json")).expect_code(0).json();
        assert_eq!((shown["encoding"].as_str(), shown["order"].as_str()), (Some(encoding), Some(order)), "{shown}");
        // The file says what it was compiled for, so its source proves it.
        place.ok("verify t.sbnc --against model");
    }
    place.ok("compile model -o t.sbnc --nm 2:4 --target cpu --encoding t2");
    let shown = place.run(&format!("inspect t.sbnc --tensor {LINEAR} --json")).expect_code(0).json();
    assert_eq!(shown["encoding"], "t2", "what is asked for comes first");
}

#[test]
fn wrong_command_lines_exit_with_2() {
    let place = Place::with_model();
    let lines = [
        "",
        "frobnicate",
        "--frobnicate",
        "compile",
        "compile model",
        "compile -o b.sbnc",
        "compile model model -o b.sbnc",
        "compile model -o b.sbnc --ternary --force-quantize",
        "compile model -o b.sbnc --threads 0",
        "compile model -o b.sbnc --threads 1025",
        "compile model -o b.sbnc --max-memory 2X",
        "compile model -o b.sbnc --report report.pdf",
        "compile model -o b.sbnc --nm 3:2",
        "inspect",
        "inspect a.sbnc --tensor",
        "verify a.sbnc --deep --against model",
        "diff a.sbnc",
        "export a.sbnc",
        "export a.sbnc -o b.safetensors --trits --dtype f32",
        "export a.sbnc -o b.safetensors --dtype f64",
        "pack a.sbnc --level 0",
        "pack a.sbnc --level 20",
        "unpack",
    ];
    for line in lines {
        let said = place.fails(line, 2, &[]);
        assert!(!said.is_empty() && !said.contains("panicked"), "sbnc {line}: {said}");
    }
    place.fails("inspect a.sbnc --tensor wqkv", 2, &["a.sbnc", "no tensor 'wqkv'", LINEAR]);
}

/// Lines that read `x.sbnc` in every way that there is.
const READERS: [&str; 8] = [
    "inspect x.sbnc",
    "inspect x.sbnc --json",
    "verify x.sbnc",
    "verify x.sbnc --against model",
    "diff x.sbnc a.sbnc",
    "diff a.sbnc x.sbnc",
    "export x.sbnc -o out.safetensors",
    "pack x.sbnc -o out.sbncz",
];

#[test]
fn files_that_cannot_be_read_exit_with_6() {
    let place = Place::with_model();
    let readers = || READERS.into_iter().chain(["unpack x.sbnc -o out.sbnc", "compile x.sbnc -o out.sbnc"]);
    for line in readers() {
        place.fails(line, 6, &["x.sbnc", "No such file"]);
    }
    place.fails("verify a.sbnc --against x", 6, &["x", "No such file"]);
    fs::create_dir(place.path("x.sbnc")).unwrap();
    for line in READERS.into_iter().chain(["unpack x.sbnc -o out.sbnc"]) {
        place.fails(line, 6, &["x.sbnc", "not a regular file"]);
    }
}

#[test]
fn files_of_another_kind_exit_with_3() {
    let place = Place::with_model();
    place.ok("pack a.sbnc");
    let others = [Vec::new(), b"SB".to_vec(), vec![0; 4096], b"not a model".repeat(1000), place.read("a.sbncz")];
    for bytes in others {
        place.write("x.sbnc", &bytes);
        for line in READERS {
            place.fails(line, 3, &["x.sbnc"]);
        }
    }
    for name in ["a.sbnc", "model/model_state.pt"] {
        place.fails(&format!("unpack {name} -o out.sbnc"), 3, &[name]);
    }
    place.fails("compile a.sbnc -o out.sbnc", 5, &["a.sbnc"]);
}

#[test]
fn cut_and_longer_files_exit_with_3() {
    let place = Place::with_model();
    let whole = place.read("a.sbnc");
    for length in [1, 7, 8, 100, 4095, 4096, 4097, 20_000, whole.len() / 2, whole.len() - 1] {
        place.write("x.sbnc", &whole[..length]);
        place.fails("verify x.sbnc", 3, &["x.sbnc", "SBNC-R"]);
    }
    place.write("x.sbnc", &[&whole[..], b"\0"].concat());
    place.fails("verify x.sbnc", 3, &["x.sbnc", "SBNC-R"]);
}

#[test]
fn a_flipped_bit_names_its_tensor() {
    let place = Place::with_model();
    let whole = place.read("a.sbnc");
    let inspected = place.run("inspect a.sbnc --json").expect_code(0).json();
    let sections = inspected["sections"].as_array().unwrap();
    let payload = sections.iter().find(|s| s["name"] == "PAYLOAD").unwrap()["offset"].as_u64().unwrap();
    for tensor in inspected["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let offset = (payload + tensor["offset"].as_u64().unwrap()) as usize;
        let last = offset + tensor["stored_bytes"].as_u64().unwrap() as usize - 1;
        for (at, bit) in [(offset, 0), ((offset + last) / 2, 3), (last, 6)] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            place.write("x.sbnc", &damaged);
            place.fails("verify x.sbnc", 4, &["x.sbnc", name]);
        }
    }
    // What decodes it refuses it as well, and what only lists it does not.
    place.fails("export x.sbnc -o out.safetensors", 4, &["x.sbnc"]);
    place.fails("verify x.sbnc --against model", 4, &["x.sbnc"]);
    place.ok("inspect x.sbnc");

    let told = place.run("verify x.sbnc --json").expect_code(4).json();
    assert_eq!((&told["ok"], told["problems"].as_array().unwrap().len()), (&false.into(), 1), "{told}");

    // A flip in the head is found by opening.
    let mut damaged = whole;
    damaged[4096 + 70] ^= 1;
    place.write("x.sbnc", &damaged);
    for line in READERS {
        place.fails(line, 4, &["x.sbnc", "SBNC-R"]);
    }
}

#[test]
fn another_source_is_not_what_the_file_was_compiled_from() {
    let place = Place::with_model();
    let mut state = place.read("model/model_state.pt");
    let at = state.len() / 2;
    fs::create_dir(place.path("other")).unwrap();
    fs::copy(place.path("model/metadata.json"), place.path("other/metadata.json")).unwrap();
    state[at] ^= 0x10;
    place.write("other/model_state.pt", &state);
    let said = place.run("verify a.sbnc --against other").expect_code(4).stderr;
    assert!(said.contains("a.sbnc") && said.contains("other"), "{said}");
}

#[test]
fn packed_files_come_back_byte_for_byte() {
    let place = Place::with_model();
    for level in ["1", "9", "19"] {
        place.ok(&format!("pack a.sbnc -o p.sbncz --level {level}"));
        place.ok("unpack p.sbncz -o back.sbnc");
        assert!(place.read("back.sbnc") == place.read("a.sbnc"), "level {level}");
        assert!(place.read("p.sbncz").len() < place.read("a.sbnc").len(), "level {level}");
        fs::remove_file(place.path("back.sbnc")).unwrap();
    }
    let packed = place.read("p.sbncz");
    for at in (0..packed.len()).step_by(packed.len() / 40) {
        let mut damaged = packed.clone();
        damaged[at] ^= 4;
        place.write("x.sbncz", &damaged);
        let before = place.names();
        let output = place.run("unpack x.sbncz -o back.sbnc");
        assert!(matches!(output.code, Some(3..=5)), "byte {at}: {output:?}");
        assert!(output.stderr.contains("x.sbncz") || output.stderr.contains("back.sbnc"), "byte {at}: {output:?}");
        assert_eq!(place.names(), before, "byte {at}: nothing may be left");
    }
}

#[test]
fn exported_weights_compile_to_the_same_trits() {
    let place = Place::with_model();
    place.ok("export a.sbnc -o a.safetensors --trits");
    let trits = Tensors::read(&place.path("a.safetensors"));
    for (dtype, exact) in [("bf16", false), ("f32", true)] {
        place.ok(&format!("export a.sbnc -o weights.safetensors --dtype {dtype}"));
        place.ok(
            "compile weights.safetensors -o b.sbnc --ternary --nm 6:8 --include *attention.w* --include *feed_forward*",
        );
        place.ok("export b.sbnc -o b.safetensors --trits");
        let again = Tensors::read(&place.path("b.safetensors"));
        let differences: Vec<String> =
            again.differences(&trits).into_iter().filter(|d| exact || !d.contains(".scale")).collect();
        assert!(differences.is_empty(), "{dtype}: {differences:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::with_model();
    for line in ["inspect a.sbnc", "inspect a.sbnc --json", "verify a.sbnc", "compile model -o b.sbnc", "--help"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(line).stdout(writer).output().unwrap();
        assert!(output.status.success(), "sbnc {line}: {output:?}");
        assert!(output.stderr.is_empty(), "sbnc {line}: {output:?}");
    }
}

#[test]
fn outputs_that_cannot_be_written_exit_with_6() {
    let place = Place::with_model();
    place.write("file", b"");
    place.ok("pack a.sbnc");
    fs::create_dir(place.path("taken")).unwrap();
    for output in ["absent/out", "file/out", "taken"] {
        let lines = [
            format!("compile model -o {output}"),
            format!("export a.sbnc -o {output}"),
            format!("pack a.sbnc -o {output}"),
            format!("unpack a.sbncz -o {output}"),
        ];
        for line in lines {
            place.fails(&line, 6, &[output]);
        }
    }
    place.fails("compile model -o b.sbnc --report absent/report.html", 6, &["absent/report.html"]);
}

#[test]
fn inputs_are_never_overwritten() {
    let place = Place::with_model();
    place.ok("pack a.sbnc");
    fs::create_dir(place.path("other")).unwrap();
    let before = |name: &str| (name.to_owned(), place.read(name));
    let files: Vec<_> = ["a.sbnc", "a.sbncz", "model/model_state.pt", "model/metadata.json"].map(before).into();
    for line in [
        "compile model -o model",
        "compile model -o model/model_state.pt",
        "compile model -o other/../model/model_state.pt",
        "compile model -o model/metadata.json",
        "compile model -o b.sbnc --report model/metadata.json",
        "compile model/model_state.pt -o model/model_state.pt",
        "export a.sbnc -o a.sbnc",
        "export a.sbnc -o ./a.sbnc --trits",
        "pack a.sbnc -o a.sbnc",
        "unpack a.sbncz -o a.sbncz",
    ] {
        place.fails(line, 2, &["overwritten"]);
    }
    place.fails("compile model -o b.json --report b.json", 2, &["b.json", "two outputs"]);
    for (name, bytes) in files {
        assert!(place.read(&name) == bytes, "{name} must be what it was");
    }
}

#[test]
fn json_is_one_document() {
    let place = Place::with_model();
    place.ok("compile model -o b.sbnc --nm 2:4");
    let lines = [
        ("compile model -o c.sbnc --json", 0),
        ("inspect a.sbnc --json", 0),
        ("inspect a.sbnc --json --tensor norm.weight", 0),
        ("verify a.sbnc --json", 0),
        ("verify a.sbnc --json --deep", 0),
        ("verify a.sbnc --json --against model", 0),
        ("diff a.sbnc b.sbnc --json", 1),
        ("diff a.sbnc a.sbnc --json", 0),
    ];
    for (line, code) in lines {
        let output = place.run(line).expect_code(code);
        assert!(output.json().is_object(), "sbnc {line}");
        assert_eq!(output.stderr, "", "sbnc {line}");
    }
}

#[test]
fn reports_are_written_beside_the_output() {
    let place = Place::with_model();
    place.ok("compile model -o b.sbnc --report b.html");
    place.ok("compile model -o b.sbnc --report b.json");
    let page = String::from_utf8(place.read("b.html")).unwrap();
    assert!(page.starts_with("<!") && page.contains(LINEAR), "the page must tell of every tensor");
    let report: serde_json::Value = serde_json::from_slice(&place.read("b.json")).unwrap();
    assert_eq!(report["tensors"].as_array().unwrap().len(), 15);
    assert!(place.read("b.sbnc") == place.read("a.sbnc"), "a report must not change the output");
}

#[test]
fn the_default_name_of_packed_files_is_beside_the_file() {
    let place = Place::with_model();
    place.ok("pack a.sbnc");
    fs::rename(place.path("a.sbnc"), place.path("first.sbnc")).unwrap();
    place.ok("unpack a.sbncz");
    assert!(place.read("a.sbnc") == place.read("first.sbnc"));
    assert!(Path::new(&place.path("a.sbncz")).exists());
}
