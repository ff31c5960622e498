//! Every checkpoint of `tests/fixtures` through the built command: what compiles, to what, and what is refused, with which words.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sbnc_tests::{Output, Tensors, folder, names, run, sbnc, workspace};
use serde_json::Value;

/// Cases that run at the same time.
const THREADS: usize = 2;

/// Everything that is wrong with a case, in sentences.
type Problems = Vec<String>;

#[test]
fn every_case_ends_as_it_must() {
    let scratch = folder();
    let cases = make(scratch.path());
    assert!(cases.len() > 280, "only {} cases", cases.len());
    sbnc();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(BTreeMap::new());
    let contents = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (problems, content) = check(case, scratch.path());
                    let name = text(&case["name"]).to_owned();
                    if !problems.is_empty() {
                        failures.lock().unwrap().insert(name.clone(), problems);
                    }
                    contents.lock().unwrap().extend(content.map(|c| (name, c)));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    let contents = contents.into_inner().unwrap();
    for case in &cases {
        if let (Some(other), Some(mine)) = (case["check"]["same_as"].as_str(), contents.get(text(&case["name"])))
            && contents.get(other) != Some(mine)
        {
            let problem = format!("the content must be that of {other}");
            failures.entry(text(&case["name"]).to_owned()).or_default().push(problem);
        }
    }
    let listed: Vec<String> =
        failures.iter().map(|(name, all)| format!("{name}\n    {}", all.join("\n    "))).collect();
    assert!(listed.is_empty(), "{} of {} cases:\n{}", listed.len(), cases.len(), listed.join("\n"));
}

/// Makes the checkpoints and gives the list of cases.
fn make(into: &Path) -> Vec<Value> {
    let script = workspace().join("tests/fixtures/make.py");
    let status = Command::new("python3").arg(script).arg(into).status();
    let status = status.expect("python3 is needed to make the checkpoints");
    assert!(status.success(), "make.py: {status}");
    let listing: Value = serde_json::from_slice(&fs::read(into.join("expected.json")).unwrap()).unwrap();
    listing["cases"].as_array().unwrap().clone()
}

/// Compiles a case. For one that must compile, the digests of the content of its tensors come back too.
fn check(case: &Value, root: &Path) -> (Problems, Option<BTreeMap<String, String>>) {
    let own = root.join("out").join(text(&case["name"]));
    fs::create_dir_all(&own).unwrap();
    let (input, output) = (root.join(text(&case["input"])), own.join("model.sbnc"));
    let mut arguments = vec!["compile".into(), input.clone().into_os_string(), "-o".into(), output.clone().into()];
    arguments.extend(texts(&case["args"]).map(Into::into));
    let result = run(&arguments);

    let mut problems = Problems::new();
    let mut allowed = vec![case["exit"].as_i64().unwrap()];
    allowed.extend(case["exit_also"].as_array().into_iter().flatten().filter_map(Value::as_i64));
    if !result.code.is_some_and(|code| allowed.contains(&i64::from(code))) {
        problems.push(format!("exit code {:?}, expected {allowed:?}: {}", result.code, result.stderr.trim_end()));
        return (problems, None);
    }
    if result.code != Some(0) {
        problems.extend(refusal(case, &result, &own));
        return (problems, None);
    }
    let found = accepted(case, root, &input, &output, &result);
    let content = found.unwrap_or_else(|problem| {
        problems.push(problem);
        (Problems::new(), BTreeMap::new())
    });
    problems.extend(content.0);
    (problems, Some(content.1))
}

/// What must hold after a refusal: the words, and nothing left behind.
fn refusal(case: &Value, result: &Output, own: &Path) -> Problems {
    let said = result.stderr.to_lowercase();
    let mut problems = Problems::new();
    for fragment in texts(&case["message"]).filter(|f| !said.contains(&f.to_lowercase())) {
        problems.push(format!("the message must contain {fragment:?}: {}", result.stderr.trim_end()));
    }
    for (word, what) in [("panicked", "a panic"), ("stack backtrace", "a panic")] {
        if said.contains(word) {
            problems.push(format!("{what}: {}", result.stderr));
        }
    }
    if !result.stdout.is_empty() {
        problems.push(format!("stdout of a failure must be empty: {}", result.stdout));
    }
    let left = names(own);
    if !left.is_empty() {
        problems.push(format!("files left behind: {}", left.join(", ")));
    }
    problems
}

/// What must hold of a file that was compiled; an error where the rest cannot be looked at.
fn accepted(
    case: &Value,
    root: &Path,
    input: &Path,
    output: &Path,
    result: &Output,
) -> Result<(Problems, BTreeMap<String, String>), String> {
    let mut problems = Problems::new();
    let own = output.parent().unwrap();
    if names(own) != ["model.sbnc"] {
        problems.push(format!("expected one file, found {}", names(own).join(", ")));
    }
    if !result.stderr.is_empty() {
        problems.push(format!("stderr of a success must be empty: {}", result.stderr));
    }
    succeed(&["verify".as_ref(), "--deep".as_ref(), output.as_os_str()])?;
    succeed(&["verify".as_ref(), "--against".as_ref(), input.as_os_str(), output.as_os_str()])?;

    let inspected = succeed(&["inspect".as_ref(), "--json".as_ref(), output.as_os_str()])?.json();
    let tensors = inspected["tensors"].as_array().ok_or("inspect --json lists no tensors")?;
    let linear: Vec<&Value> = tensors.iter().filter(|t| t["role"] == "linear").collect();
    if linear.is_empty() {
        problems.push("no linear tensor".to_owned());
    }
    for tensor in tensors {
        problems.extend(fields(tensor));
    }
    let declared = &case["check"]["nm"];
    problems.extend(
        linear
            .iter()
            .filter(|t| t["nm"] != *declared)
            .map(|t| format!("{}: expected the pattern {declared}, found {}", text(&t["name"]), t["nm"])),
    );

    if let Some(expected) = case["check"]["trits"].as_str() {
        let exported = own.join("trits.safetensors");
        succeed(&["export".as_ref(), "--trits".as_ref(), output.as_os_str(), "-o".as_ref(), exported.as_os_str()])?;
        problems.extend(Tensors::read(&exported).differences(&Tensors::read(&root.join(expected))));
    }
    problems.extend(carried(case, input, output));
    let said = format!("{}{}", result.stdout, result.stderr).to_lowercase();
    for note in texts(&case["check"]["note"]).filter(|n| !said.contains(&n.to_lowercase())) {
        problems.push(format!("the summary must mention {note:?}: {}", result.stdout));
    }
    let content = tensors.iter().map(|t| (text(&t["name"]).to_owned(), text(&t["content_digest"]).to_owned()));
    Ok((problems, content.collect()))
}

fn succeed(arguments: &[&std::ffi::OsStr]) -> Result<Output, String> {
    let output = run(arguments);
    let shown = || arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if output.code == Some(0) && output.stderr.is_empty() {
        return Ok(output);
    }
    Err(format!("sbnc {}: exit code {:?}: {}", shown(), output.code, output.stderr.trim_end()))
}

/// What scripts read of every tensor.
fn fields(tensor: &Value) -> Problems {
    let mut problems = Problems::new();
    let ternary = tensor["role"] == "linear";
    let bits = tensor["bits_per_weight"].as_f64();
    let sound = [
        ("name", tensor["name"].as_str().is_some_and(|n| !n.is_empty())),
        ("shape", tensor["shape"].as_array().is_some_and(|s| s.iter().all(Value::is_u64))),
        ("encoding", tensor["encoding"].is_string()),
        ("nm", tensor["nm"].is_null() || ternary && tensor["nm"].is_string()),
        ("bits_per_weight", bits.is_some_and(|b| b > 0.0)),
        ("zero_fraction", tensor["zero_fraction"].as_f64().is_some_and(|z| (0.0..=1.0).contains(&z)) == ternary),
        ("digest", tensor["digest"].as_str().is_some_and(|d| d.len() == 64)),
    ];
    for (key, _) in sound.iter().filter(|s| !s.1) {
        problems.push(format!("inspect --json: {key} of {} is {}", tensor["name"], tensor[*key]));
    }
    problems
}

/// Files of the folder that the output must hold, byte for byte.
fn carried(case: &Value, input: &Path, output: &Path) -> Problems {
    let bytes = fs::read(output).unwrap();
    let file = sbnc_format::Sbnc::open(&bytes[..]).unwrap();
    let folder: PathBuf = if input.is_dir() { input.to_owned() } else { input.parent().unwrap().to_owned() };
    let wanted = texts(&case["check"]["carried"]);
    wanted
        .filter_map(|name| match file.carried(name) {
            Ok(Some(held)) if held == fs::read(folder.join(name)).unwrap() => None,
            Ok(Some(_)) => Some(format!("{name} is carried with other bytes")),
            Ok(None) => Some(format!("{name} is not carried")),
            Err(e) => Some(format!("{name}: {e}")),
        })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}
