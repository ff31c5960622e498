//! `sbnc verify`: whether every byte of a file is what it should be.

use std::path::Path;
use std::time::Instant;

use sbnc_format::{Depth, Verification};
use serde_json::json;

use super::terminal::{emit, emit_json, progress};
use crate::error::{Error, Exit, Result, exit_of};
use crate::numbers::bytes;

pub(crate) fn run(path: &Path, deep: bool, as_json: bool) -> Result<()> {
    let file = super::open(path)?;
    let bar = progress(file.tensors().iter().map(|t| t.stored_bytes).sum(), "verifying");
    let depth = if deep { Depth::Decoded } else { Depth::Stored };
    let started = Instant::now();
    let Verification { bytes: checked, problems } = file.verify(depth, &|n| bar.inc(n));
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();

    if as_json {
        let problems: Vec<_> = problems
            .iter()
            .map(|p| json!({ "rule": format!("SBNC-R{:03}", p.rule()), "message": p.to_string() }))
            .collect();
        emit_json(&json!({
            "file": path.display().to_string(),
            "ok": problems.is_empty(),
            "root": file.root().to_string(),
            "content": file.content().to_string(),
            "deep": deep,
            "tensors": file.tensors().len(),
            "payload_bytes": checked,
            "seconds": seconds,
            "problems": problems,
        }))?;
    }
    let Some(first) = problems.first() else {
        if as_json {
            return Ok(());
        }
        let what = if deep {
            "structure, digests, payload rules, decoded content"
        } else {
            "structure, digests, payload rules"
        };
        let rate = bytes((checked as f64 / seconds) as u64);
        return emit(&format!(
            "{}: ok\nroot       {}\nchecked    {what}\npayload    {} in {} tensors, {rate}/s\n",
            path.display(),
            file.root(),
            bytes(checked),
            file.tensors().len(),
        ));
    };
    let exit = problems.iter().map(exit_of).find(|e| *e == Exit::Integrity).unwrap_or_else(|| exit_of(first));
    let listed: Vec<String> = problems.iter().take(20).map(|p| format!("  {p}")).collect();
    let more = if problems.len() > listed.len() { "\n  …" } else { "" };
    let remedy = if exit == Exit::Integrity { "\nfetch or compile the file again" } else { "" };
    let (n, s) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
    Err(Error::new(exit, format!("{}: {n} problem{s}:\n{}{more}{remedy}", path.display(), listed.join("\n"))))
}
