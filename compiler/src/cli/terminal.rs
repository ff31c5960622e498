//! What a person sees: results on stdout, progress on stderr and only if that is a terminal, and tables that line up.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Exit, Result};

/// Writes a result to stdout. A reader that has seen enough (`| head`) is not an error.
pub(crate) fn emit(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(Exit::Io, format!("stdout: {e}"))),
        _ => Ok(()),
    }
}

/// Writes one JSON document to stdout.
pub(crate) fn emit_json(value: &serde_json::Value) -> Result<()> {
    emit(&format!("{value:#}\n"))
}

/// A progress bar over bytes, invisible where stderr is no terminal.
pub(crate) fn progress(bytes: u64, doing: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_message(doing);
    bar
}

/// A progress bar over steps, invisible where stderr is no terminal.
pub(crate) fn progress_steps(steps: u64, doing: &'static str) -> ProgressBar {
    let bar = progress(steps, doing);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta} left") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

/// Lines up rows of cells: the first column and those named are set flush left, numbers flush right.
pub(crate) fn table(head: &[&str], left: &[usize], rows: &[Vec<String>]) -> String {
    let width = |col: usize| {
        let cells = rows.iter().map(|row| row[col].chars().count());
        cells.chain([head[col].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head = head.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (col, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[col] - cell.chars().count());
            let cell = if left.contains(&col) { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
            line.push_str(if col == 0 { "" } else { "  " });
            line.push_str(&cell);
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
