//! `sbnc doctor`: what this machine has and what sbnc makes of it, for a person who wonders and for reports of problems.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sbnc_format::Depth;
use sbnc_kernels::cpu::{Platform, VARIABLE, available_threads};
use sbnc_kernels::cuda::{Device, DeviceError};
use sbnc_runtime::{Kind, Model};
use serde_json::{Value, json};

use super::terminal::{emit, emit_json, progress};
use crate::error::{Error, Exit, Result};
use crate::numbers::bytes;

/// What was found.
struct Findings {
    /// Names and values, in the order in which they are told.
    machine: Vec<(&'static str, Value)>,
    platforms: Vec<&'static str>,
    chosen: std::result::Result<&'static str, String>,
    files: Vec<FileFindings>,
}

struct FileFindings {
    path: PathBuf,
    /// Name of the check, and what is wrong or what was seen.
    checks: Vec<(&'static str, std::result::Result<String, Error>)>,
}

pub(crate) fn run(files: &[PathBuf], as_json: bool) -> Result<()> {
    let findings = Findings::new(files);
    if as_json {
        emit_json(&findings.json())?
    } else {
        emit(&findings.text())?
    }
    let broken = findings.files.iter().flat_map(|f| &f.checks).filter_map(|(_, result)| result.as_ref().err());
    // What is worst decides: bytes that changed before what is not supported.
    let exits = [Exit::Integrity, Exit::Invalid, Exit::Io, Exit::Unsupported, Exit::Memory, Exit::Device];
    let found: Vec<Exit> = broken.map(Error::exit).collect();
    match exits.into_iter().find(|exit| found.contains(exit)) {
        // Everything has been said.
        Some(exit) => Err(Error::new(exit, "")),
        None if findings.chosen.is_err() => Err(Error::new(Exit::Device, "")),
        None => Ok(()),
    }
}

impl Findings {
    fn new(files: &[PathBuf]) -> Self {
        let chosen = Platform::from_env().map(|p| p.isa().name()).map_err(|e| e.to_string());
        Self {
            machine: machine(),
            platforms: Platform::available().map(|p| p.isa().name()).collect(),
            chosen,
            files: files.iter().map(|path| FileFindings::new(path)).collect(),
        }
    }

    fn json(&self) -> Value {
        let mut all = serde_json::Map::new();
        all.extend(self.machine.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        all.insert("platforms".to_owned(), json!(self.platforms));
        let chosen = match &self.chosen {
            Ok(name) => json!({ "platform": name }),
            Err(problem) => json!({ "platform": null, "problem": problem }),
        };
        all.insert("kernels".to_owned(), chosen);
        all.insert("files".to_owned(), self.files.iter().map(FileFindings::json).collect());
        Value::Object(all)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:16} {value}");
        };
        for (name, value) in &self.machine {
            line(&name.replace('_', " "), &shown(name, value));
        }
        line("platforms", &self.platforms.join(", "));
        match &self.chosen {
            Ok(name) => line("kernels", name),
            Err(problem) => line("kernels", &format!("none: {problem}")),
        }
        for file in &self.files {
            line("file", &file.path.display().to_string());
            for (name, result) in &file.checks {
                let told = match result {
                    Ok(seen) => format!("ok: {seen}"),
                    Err(problem) => format!("PROBLEM: {problem}"),
                };
                line(&format!("  {name}"), &told);
            }
        }
        text
    }
}

impl FileFindings {
    /// Checks a file from its structure to its tokenizer; what follows a failure is left out.
    fn new(path: &Path) -> Self {
        let mut checks = Vec::new();
        if let Err(problem) = check_file(path, &mut checks) {
            let name = ["structure", "digests", "model", "tokenizer"][checks.len()];
            checks.push((name, Err(problem)));
        }
        Self { path: path.to_owned(), checks }
    }

    fn json(&self) -> Value {
        let checks = self.checks.iter().map(|(name, result)| match result {
            Ok(seen) => json!({ "check": name, "ok": true, "found": seen }),
            Err(problem) => json!({ "check": name, "ok": false, "problem": problem.to_string() }),
        });
        json!({
            "file": self.path.display().to_string(),
            "ok": self.checks.iter().all(|(_, result)| result.is_ok()),
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}

type Checks = Vec<(&'static str, Result<String>)>;

fn check_file(path: &Path, checks: &mut Checks) -> Result<()> {
    let file = super::open(path)?;
    checks.push(("structure", Ok(format!("{} tensors, {}", file.tensors().len(), bytes(file.file_bytes())))));
    let bar = progress(file.tensors().iter().map(|t| t.stored_bytes).sum(), "verifying");
    let verification = file.verify(Depth::Stored, &|n| bar.inc(n));
    bar.finish_and_clear();
    verification.result().map_err(|e| Error::format(path, &e))?;
    checks.push(("digests", Ok(format!("root {}", file.root()))));
    let model = match Model::open(path) {
        Ok(model) => model,
        // Weights without a model are a good file.
        Err(e) if e.kind() == Kind::Unsupported && file.manifest().model.is_none() => {
            checks.push(("model", Ok("none: weights only".to_owned())));
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    let c = model.config();
    let seen = format!("{}, {} layers, context {}", c.family.name(), c.layers, c.context);
    checks.push(("model", Ok(seen)));
    let seen = match model.tokenizer() {
        Ok(t) if t.chat_template().is_some() => "there is one, with a chat template".to_owned(),
        Ok(_) => "there is one, without a chat template".to_owned(),
        Err(e) if e.kind() == Kind::Unsupported => format!("none that can be used: token ids only ({e})"),
        Err(e) => return Err(e.into()),
    };
    checks.push(("tokenizer", Ok(seen)));
    Ok(())
}

/// What the system says of itself; what it does not say is null.
fn machine() -> Vec<(&'static str, Value)> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let memory = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, n)| n));
    // The choice is the word in brackets.
    let huge = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge = huge.as_deref().and_then(|t| Some(t.split_once('[')?.1.split_once(']')?.0));
    let (gpus, gpu_problem) = gpus();
    vec![
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH).into()),
        ("cpu", json!(cpu)),
        ("threads", available_threads().into()),
        ("features", features().into()),
        ("memory", json!(memory("MemTotal:"))),
        ("memory_available", json!(memory("MemAvailable:"))),
        ("huge_pages", json!(huge)),
        ("gpus", gpus.into()),
        ("gpu_problem", json!(gpu_problem)),
        ("forced", std::env::var(VARIABLE).ok().into()),
    ]
}

/// GPUs, and why there are no more of them: none, or one that cannot be used.
fn gpus() -> (Vec<Value>, Option<String>) {
    let mut found = Vec::new();
    loop {
        match Device::open(found.len()) {
            Ok(gpu) => {
                let (major, minor) = gpu.capability();
                let memory = gpu.memory().ok().map(|(free, all)| json!({ "free": free, "all": all }));
                found.push(json!({
                    "name": gpu.name(),
                    "capability": format!("{major}.{minor}"),
                    "multiprocessors": gpu.multiprocessors(),
                    "code": if gpu.is_hopper() { "sm_90a" } else { "PTX for sm_80" },
                    "memory": memory,
                }));
            }
            Err(DeviceError::NoDevice { .. }) if !found.is_empty() => return (found, None),
            Err(problem) => return (found, Some(problem.to_string())),
        }
    }
}

/// Features of the processor that kernels look for.
fn features() -> Vec<&'static str> {
    macro_rules! found {
        ($ask:ident, $($name:tt),*) => { [$(($name, std::arch::$ask!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    let all = found!(
        is_x86_feature_detected,
        "avx2",
        "fma",
        "f16c",
        "bmi2",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vbmi",
        "avx512vnni",
        "gfni"
    );
    #[cfg(target_arch = "aarch64")]
    let all = found!(is_aarch64_feature_detected, "neon", "dotprod", "i8mm");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

fn shown(name: &str, value: &Value) -> String {
    match (name, value) {
        ("memory" | "memory_available", Value::Number(n)) => bytes(n.as_u64().unwrap_or(0)),
        ("gpus", Value::Array(list)) if list.is_empty() => "none".to_owned(),
        ("gpus", Value::Array(list)) => {
            let told = |gpu: &Value| {
                let text = |name: &str| gpu[name].as_str().unwrap_or_default().to_owned();
                let all = gpu["memory"]["all"].as_u64().map_or_else(String::new, |n| format!(", {}", bytes(n)));
                format!("{} ({}, runs {}{all})", text("name"), text("capability"), text("code"))
            };
            list.iter().map(told).collect::<Vec<_>>().join(", ")
        }
        ("gpu_problem", Value::Null) => "none".to_owned(),
        ("forced", Value::Null) => format!("nothing ({VARIABLE} is not set)"),
        (_, Value::Null) => "unknown".to_owned(),
        (_, Value::Array(list)) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use sbnc_kernels::cpu::Isa;

    use super::*;

    #[test]
    fn every_platform_of_this_machine_has_its_name() {
        let findings = Findings::new(&[]);
        assert!(findings.platforms.iter().all(|name| Isa::ALL.iter().any(|isa| isa.name() == *name)));
        assert!(findings.platforms.contains(&"portable"));
    }
}
