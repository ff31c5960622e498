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

/// A number of bytes for people: powers of ten, three digits.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count for people, in groups of three digits.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown: Vec<_> = [999, 1000, 9_994, 99_949, 999_499, 1_180_000_000].into_iter().map(bytes).collect();
        assert_eq!(shown, ["999 B", "1.00 kB", "9.99 kB", "99.9 kB", "999 kB", "1.18 GB"]);
        assert_eq!([count(7), count(1_000), count(12_345_678)], ["7", "1,000", "12,345,678"]);
    }
}
