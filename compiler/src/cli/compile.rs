//! `sbnc compile`, and `sbnc verify --against`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sbnc_format::atomic::AtomicFile;
use sbnc_format::{Encoding, Order};
use serde_json::json;

use super::arguments::{Compile, EncodingChoice, FloatChoice, OrderChoice, PackedScale, RequestedPattern};
use super::paths::check_outputs;
use super::terminal::{emit, emit_json, progress};
use crate::compile::{Conduct, FloatForm, Input, Options, against, compile};
use crate::error::{Error, Exit, Result};
use crate::family;
use crate::numbers::bytes;
use crate::report::{Report, html, text};

pub(crate) fn run(arguments: &Compile) -> Result<()> {
    check_report(arguments)?;
    if let Some(threads) = arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global();
        pool.map_err(|e| Error::new(Exit::Io, format!("cannot start {threads} threads: {e}")))?;
    }
    let started = Instant::now();
    let input = Input::open(&arguments.input)?;
    let outputs: Vec<&Path> =
        std::iter::once(&arguments.output).chain(&arguments.report).map(PathBuf::as_path).collect();
    check_outputs(&outputs, &input.files())?;
    let bar = progress(input.bytes(), "compiling");
    let conduct = Conduct {
        statistics: arguments.report.is_some(),
        max_memory: arguments.max_memory,
        progress: &|done| bar.inc(done),
    };
    let outcome = compile(&input, &arguments.output, &options(arguments), &conduct);
    bar.finish_and_clear();
    let outcome = outcome?;
    if let Some(path) = &arguments.report {
        write_report(path, &outcome.report)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        emit_json(&summary_json(&outcome.report, seconds))
    } else {
        emit(&summary(&outcome.report, seconds))
    }
}

/// Finds mistakes before the work, not after it: a report that cannot be written would leave an output behind a failure.
fn check_report(arguments: &Compile) -> Result<()> {
    let Some(report) = &arguments.report else { return Ok(()) };
    if !matches!(report.extension().and_then(|e| e.to_str()), Some("html" | "json")) {
        let message = format!("{}: a report is an .html or a .json file", report.display());
        return Err(Error::new(Exit::Usage, message));
    }
    AtomicFile::create(report).map(drop).map_err(|e| Error::io(report, "write", &e))
}

fn options(arguments: &Compile) -> Options {
    let pattern = match arguments.nm {
        RequestedPattern::Auto => family::RequestedPattern::Auto,
        RequestedPattern::Given(pattern) if pattern.is_dense() => family::RequestedPattern::None,
        RequestedPattern::Given(pattern) => family::RequestedPattern::Nm(pattern.ids().0, pattern.ids().1),
    };
    Options {
        family: family::Options {
            pattern,
            include: arguments.include.clone(),
            exclude: arguments.exclude.clone(),
            force_quantize: arguments.force_quantize,
            already_ternary: arguments.ternary,
            packed_scale: arguments.packed_scale.map(|scale| match scale {
                PackedScale::Divide => family::ScaleRule::Divide,
                PackedScale::Multiply => family::ScaleRule::Multiply,
            }),
        },
        target: arguments.target,
        encoding: match arguments.encoding {
            EncodingChoice::Auto => None,
            EncodingChoice::T2 => Some(Encoding::T2),
            EncodingChoice::T5 => Some(Encoding::T5),
            EncodingChoice::NmVi => Some(Encoding::NmVi),
            EncodingChoice::Nm6b => Some(Encoding::Nm6b),
        },
        order: match arguments.order {
            OrderChoice::Auto => None,
            OrderChoice::Rows => Some(Order::Rows),
            OrderChoice::Fragments => Some(Order::Fragments),
            OrderChoice::Windows => Some(Order::Windows),
        },
        embed: float_form(arguments.embed),
        head: float_form(arguments.head),
        i2s_layout: arguments.i2s_layout.map(Into::into),
    }
}

fn float_form(choice: FloatChoice) -> FloatForm {
    match choice {
        FloatChoice::Keep => FloatForm::Keep,
        FloatChoice::Bf16 => FloatForm::Bf16,
        FloatChoice::Int8 => FloatForm::Int8,
    }
}

fn write_report(path: &Path, report: &Report) -> Result<()> {
    let text = if path.extension().is_some_and(|e| e == "json") {
        serde_json::to_string_pretty(report).map_err(|e| Error::new(Exit::Io, e.to_string()))? + "\n"
    } else {
        html::page(report)
    };
    super::write_whole(path, text.as_bytes())
}

fn summary(report: &Report, seconds: f64) -> String {
    let rate = bytes((report.input_bytes as f64 / seconds) as u64);
    format!("{}\n{}{:<9}{seconds:.2} s, {rate}/s of input\n", report.output, text::summary(report), "time")
}

fn summary_json(report: &Report, seconds: f64) -> serde_json::Value {
    json!({
        "output": report.output,
        "root": report.root,
        "content": report.content,
        "kind": report.kind,
        "pattern": report.pattern,
        "input_bytes": report.input_bytes,
        "output_bytes": report.output_bytes,
        "tensors": report.tensors.len(),
        "seconds": seconds,
        "sizes": report.sizes,
        "notes": report.notes,
    })
}

/// `sbnc verify FILE --against INPUT`.
pub(crate) fn verify_against(path: &Path, input: &Path, as_json: bool) -> Result<()> {
    let file = super::open(path)?;
    let source = Input::open(input)?;
    let bar = progress(source.bytes(), "compiling");
    let conduct = Conduct { statistics: false, max_memory: None, progress: &|done| bar.inc(done) };
    let comparison = against(&file, &source, &conduct);
    bar.finish_and_clear();
    let comparison = comparison?;
    // The digests of the file's own content are what was compared: they must be true.
    file.verify(sbnc_format::Depth::Decoded, &|_| {}).result().map_err(|e| Error::format(path, &e))?;
    if as_json {
        emit_json(&json!({
            "file": path.display().to_string(),
            "same_bytes": comparison.same_bytes,
            "same_content": comparison.differences.is_empty(),
            "differences": comparison.differences,
        }))?;
    }
    if !comparison.differences.is_empty() {
        let lines: Vec<String> = comparison.differences.iter().take(20).map(|d| format!("  {d}")).collect();
        let message = format!("{}: is not what {} compiles to:\n{}", path.display(), input.display(), lines.join("\n"));
        return Err(Error::new(Exit::Integrity, message));
    }
    if as_json {
        return Ok(());
    }
    let how = match (&comparison.same_bytes, &comparison.compiler) {
        (true, _) => "every byte is what this source compiles to".to_owned(),
        (false, Some(other)) => format!("same content; the form differs, as it was written by {other}"),
        (false, None) => "same content; the files carried along or the source's names differ".to_owned(),
    };
    emit(&format!("{}: {how}\nroot       {}\n", path.display(), file.root()))
}
