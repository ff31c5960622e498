//! The model that comes with the repository, from its checkpoint to text: what a newcomer runs first, on every kernel of this machine.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use sbnc_tests::{Place, finish, workspace};
use serde_json::Value;

/// Perplexity of `models/demo/held-out.txt`, as PyTorch computes it from the checkpoint with the forward pass of training:
/// `sbnc-train ppl --checkpoint models/demo --text models/demo/held-out.txt --float64`.
const PERPLEXITY: f64 = 13.8812;

/// A folder with the model, compiled as `d.sbnc`.
fn place() -> Place {
    let place = Place::new();
    place.ok(&format!("compile {} -o d.sbnc", workspace().join("models/demo").display()));
    place
}

/// The kernels of this machine.
fn platforms(place: &Place) -> Vec<String> {
    let told = place.run("doctor --json").expect_code(0).json();
    told["platforms"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn perplexity_is_that_of_training_on_every_kernel() {
    let place = place();
    let text = workspace().join("models/demo/held-out.txt");
    let platforms = platforms(&place);
    assert!(platforms.iter().any(|name| name == "portable"), "{platforms:?}");
    for platform in platforms {
        let line = format!("ppl d.sbnc --device cpu --json --text {}", text.display());
        let told = finish(place.command(&line).env("SBNC_CPU", &platform)).expect_code(0).json();
        let found = told["perplexity"].as_f64().unwrap();
        eprintln!("{platform}: {found} of {} tokens", told["targets"]);
        // Three digits.
        assert!((found / PERPLEXITY - 1.0).abs() < 5e-4, "{platform}: {found}, not {PERPLEXITY}");
    }
}

#[test]
fn greedy_text_is_the_same_on_every_kernel() {
    let place = place();
    let texts: Vec<Value> = platforms(&place)
        .iter()
        .map(|platform| {
            let mut command = place.command("run d.sbnc --device cpu --json --max-tokens 24 --prompt Returns");
            finish(command.env("SBNC_CPU", platform)).expect_code(0).json()["text"].clone()
        })
        .collect();
    assert!(texts[0].as_str().unwrap().len() > 24 && texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn the_demo_makes_what_compile_makes() {
    let place = Place::new();
    let demo = place.run("demo Returns --tokens 24 --temperature 0 --device cpu --keep kept").expect_code(0);
    for step in ["checkpoint", "compile", "verify", "run", "kept"] {
        assert!(demo.stderr.lines().any(|line| line.starts_with(step)), "{step} in {}", demo.stderr);
    }
    // The program carries the files of the repository.
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let repository = workspace().join("models/demo").join(name);
        assert!(
            place.read(&format!("kept/checkpoint/{name}")) == fs::read(repository).unwrap(),
            "{name}: build sbnc again"
        );
    }
    place.ok("verify kept/demo.sbnc --against kept/checkpoint");
    assert!(String::from_utf8(place.read("kept/report.html")).unwrap().contains("<html"));
    let text = place.ok("run kept/demo.sbnc --device cpu --max-tokens 24 --prompt Returns");
    assert_eq!(demo.stdout, format!("Returns{text}"));
    // It overwrites nothing.
    let again = place.run("demo Returns --tokens 1 --keep kept").expect_code(2);
    assert!(again.stderr.contains("kept") && again.stdout.is_empty(), "{again:?}");
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let place = Place::new();
    let temporary = place.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let run = |line: &str| finish(place.command(line).env("TMPDIR", &temporary));
    let texts =
        ["0", "0", "1"].map(|seed| run(&format!("demo --tokens 12 --device cpu --seed {seed}")).expect_code(0).stdout);
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
    run("demo --temperature -1").expect_code(2);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
