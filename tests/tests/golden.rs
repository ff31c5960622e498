//! Models whose trits other people's code computed, and what must not change the result: encoding, threads, another run.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::Dtype;
use sbnc_tests::{Tensors, f32s, finish, folder, golden, python, run, synthetic, workspace};

/// Compiles and gives the digest of the content.
fn compile(input: &Path, output: &Path, options: &[&str]) -> String {
    let mut arguments: Vec<OsString> =
        vec!["compile".into(), input.into(), "-o".into(), output.into(), "--json".into()];
    arguments.extend(options.iter().map(Into::into));
    let summary = run(&arguments).expect_code(0).json();
    summary["content"].as_str().unwrap().to_owned()
}

/// Compiles and exports trits.
fn trits(input: &Path, options: &[&str]) -> Tensors {
    let scratch = folder();
    let (file, exported) = (scratch.path().join("model.sbnc"), scratch.path().join("trits.safetensors"));
    compile(input, &file, options);
    export(&file, &exported);
    Tensors::read(&exported)
}

fn export(file: &Path, exported: &Path) {
    run(["export".as_ref(), "--trits".as_ref(), file.as_os_str(), "-o".as_ref(), exported.as_os_str()]).expect_code(0);
}

/// A tiny random model: the trainer's own checkpoint of the pattern 6:8.
fn tiny() -> PathBuf {
    workspace().join("tests/models/sparse-bitnet-tiny")
}

#[test]
fn golden_models_compile_and_verify() {
    let scratch = folder();
    for name in ["hf-bitnet-latent-2of4", "hf-llama-packed-bitlinear", "sparsebitnet-6of8"] {
        let Some(model) = golden(name) else { return };
        let input = model.join("model.safetensors");
        let file = scratch.path().join(name);
        compile(&input, &file, &[]);
        run(["verify".as_ref(), "--deep".as_ref(), file.as_os_str()]).expect_code(0);
        run(["verify".as_ref(), "--against".as_ref(), input.as_os_str(), file.as_os_str()]).expect_code(0);
    }
}

#[test]
fn trits_are_those_of_the_training_code() {
    let Some(model) = golden("sparsebitnet-6of8") else { return };
    let expected = Tensors::read(&model.join("golden_trits.safetensors"));
    for input in ["model.safetensors", "model_state.pt"] {
        let ours = trits(&model.join(input), &[]);
        let linears: Vec<&str> = ours.names().filter(|n| !n.ends_with(".scale")).collect();
        let mut used = 0;
        for name in &linears {
            let scales = f32s(&ours.get(&format!("{name}.scale")).2);
            let (_, shape, all) = ours.get(name);
            let mut row = 0;
            for part in 0.. {
                let (golden_trits, golden_scale) =
                    (format!("{name}.part{part}.trits"), format!("{name}.part{part}.scale"));
                if !expected.names().any(|n| n == golden_trits) {
                    break;
                }
                let (dtype, part_shape, golden) = expected.get(&golden_trits);
                assert_eq!((*dtype, part_shape[1]), (Dtype::I8, shape[1]), "{input}: {golden_trits}");
                let bytes = row * shape[1]..(row + part_shape[0]) * shape[1];
                assert!(all[bytes] == golden[..], "{input}: {golden_trits}");
                let wanted = f32s(&expected.get(&golden_scale).2)[0];
                for (i, &scale) in scales[row..row + part_shape[0]].iter().enumerate() {
                    let ulps = scale.to_bits().abs_diff(wanted.to_bits());
                    assert!(ulps <= 1, "{input}: {golden_scale}, row {i}: {scale} is {ulps} ulp from {wanted}");
                }
                row += part_shape[0];
                used += 2;
            }
            assert_eq!(row, shape[0], "{input}: parts of {name} must cover it");
        }
        assert_eq!(used, expected.names().count(), "{input}: every golden tensor must be compared");
        assert!(linears.len() >= 8, "{input}: {linears:?}");
    }
}

#[test]
fn latent_weights_compile_as_the_oracle_says() {
    let Some(model) = golden("hf-bitnet-latent-2of4") else { return };
    let Some(python) = python() else { return };
    let scratch = folder();
    let input = model.join("model.safetensors");
    for pattern in ["2:4", "none", "6:8", "1:4", "3:8"] {
        let (file, exported) = (scratch.path().join("model.sbnc"), scratch.path().join("trits.safetensors"));
        compile(&input, &file, &["--nm", pattern]);
        export(&file, &exported);
        let oracle = workspace().join("tests/oracle/quantise.py");
        let mut command = Command::new(&python);
        command.arg(oracle).arg(&input).args(["--nm", pattern, "--compare"]).arg(&exported);
        let compared = finish(&mut command);
        assert_eq!(compared.code, Some(0), "{pattern}: {}{}", compared.stdout, compared.stderr);
    }
}

#[test]
fn packed_weights_keep_their_trits_and_scale() {
    let Some(model) = golden("hf-llama-packed-bitlinear") else { return };
    let source = Tensors::read(&model.join("model.safetensors"));
    let ours = trits(&model, &[]);
    let packed: Vec<&str> = source.names().filter(|n| source.get(n).0 == Dtype::U8).collect();
    assert!(packed.len() >= 7, "{packed:?}");
    for name in &packed {
        let (_, shape, bytes) = source.get(name);
        // The first quarter of the rows is in the lowest two bits of every byte, the last in the highest.
        let unpacked: Vec<u8> =
            (0..4).flat_map(|quarter| bytes.iter().map(move |b| (b >> (2 * quarter) & 3).wrapping_sub(1))).collect();
        assert_eq!(ours.get(name), &(Dtype::I8, vec![4 * shape[0], shape[1]], unpacked), "{name}");

        let (dtype, _, scale) = source.get(&format!("{name}_scale"));
        let stored = match dtype {
            Dtype::BF16 => f32::from_bits(u32::from(u16::from_le_bytes([scale[0], scale[1]])) << 16),
            Dtype::F32 => f32s(scale)[0],
            other => panic!("{name}_scale is {other:?}"),
        };
        let scales = f32s(&ours.get(&format!("{name}.scale")).2);
        assert_eq!(scales, vec![1.0 / stored; 4 * shape[0]], "{name}");
    }
    assert_eq!(ours.names().count(), 2 * packed.len(), "nothing else is ternary");
}

/// Pattern, and the ways to store it.
const FORMS: [(&str, &[&[&str]]); 4] = [
    (
        "2:4",
        &[
            &[],
            &["--encoding", "t2"],
            &["--encoding", "t5"],
            &["--encoding", "nm-vi"],
            &["--encoding", "nm-vi", "--order", "fragments"],
            &["--encoding", "nm-6b"],
        ],
    ),
    ("6:8", &[&[], &["--encoding", "t2"], &["--encoding", "t5"], &["--encoding", "nm-vi", "--order", "windows"]]),
    ("3:8", &[&[], &["--encoding", "t2"], &["--encoding", "t5"]]),
    ("none", &[&[], &["--encoding", "t2"], &["--encoding", "t5"]]),
];

#[test]
fn content_does_not_depend_on_the_form() {
    let scratch = folder();
    let (first, other) = (scratch.path().join("first.sbnc"), scratch.path().join("other.sbnc"));
    for (pattern, forms) in FORMS {
        let content = compile(&tiny(), &first, &["--nm", pattern, "--encoding", "t2"]);
        for form in forms {
            let options = [&["--nm", pattern], *form].concat();
            assert_eq!(compile(&tiny(), &other, &options), content, "{options:?}");
            run(["verify".as_ref(), "--deep".as_ref(), other.as_os_str()]).expect_code(0);
        }
        let verdict = run(["diff".as_ref(), first.as_os_str(), other.as_os_str()]).expect_code(1);
        let same = "same model: every tensor has the same content; the files differ in form\n";
        assert!(verdict.stdout.starts_with(same), "{pattern}: {}", verdict.stdout);
    }
}

#[test]
fn content_depends_on_the_pattern() {
    let scratch = folder();
    let file = scratch.path().join("model.sbnc");
    let contents = FORMS.map(|(pattern, _)| compile(&tiny(), &file, &["--nm", pattern]));
    for (i, content) in contents.iter().enumerate() {
        assert!(!contents[..i].contains(content), "{} must differ from the patterns before it", FORMS[i].0);
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_time() {
    let scratch = folder();
    // More than one batch of trits, so that threads and batches both meet borders inside a tensor.
    let large = scratch.path().join("large.safetensors");
    synthetic(&large, 1, 4_100, 4_416);
    let cases = [(tiny(), "auto"), (tiny(), "2:4"), (large.clone(), "6:8"), (large, "2:4")];
    for (input, pattern) in cases {
        let bytes = |threads: &[&str]| {
            let file = scratch.path().join("model.sbnc");
            let _ = fs::remove_file(&file);
            compile(&input, &file, &[&["--nm", pattern], threads].concat());
            fs::read(file).unwrap()
        };
        let first = bytes(&["--threads", "1"]);
        for threads in ["1", "2", "5"] {
            assert!(bytes(&["--threads", threads]) == first, "{}: {pattern}, {threads} threads", input.display());
        }
    }
}
