//! Numbers and names as people read them: one way for the command line and for the report.

use std::fmt::{self, Write};

/// A number of bytes: powers of ten, three digits.
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
    format!("{} {}", three(value), UNITS[unit])
}

/// A number of weights: 2.08 billion, 6.55 million, or all digits.
pub(crate) fn weights(n: u64) -> String {
    match n {
        0..1_000_000 => count(n),
        1_000_000..999_500_000 => format!("{} million", three(n as f64 / 1e6)),
        _ => format!("{} billion", three(n as f64 / 1e9)),
    }
}

/// A count, in groups of three digits.
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

/// A share of one, in percent with one decimal; `–` where there is nothing to share.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { "–".into() }
}

/// A rare share: two decimals, and what is not nothing is not shown as 0.00 %.
pub(crate) fn rare(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "–".into(),
        (0, _) => "0".into(),
        _ if (part as f64) < 5e-5 * whole as f64 => "< 0.01 %".into(),
        _ => format!("{:.2} %", 100.0 * part as f64 / whole as f64),
    }
}

/// Bits per weight.
pub(crate) fn bits(bits: f64) -> String {
    format!("{bits:.2}")
}

/// How many times smaller: 4.18×.
pub(crate) fn factor(from: u64, to: u64) -> String {
    if to == 0 { "–".into() } else { format!("{}×", three(from as f64 / to as f64)) }
}

/// A scale, to four significant digits.
pub(crate) fn scale(scale: f64) -> String {
    if scale == 0.0 || !scale.is_finite() {
        return scale.to_string();
    }
    if scale.abs() < 1e-4 || scale.abs() >= 1e4 {
        return format!("{scale:.3e}");
    }
    let digits = (3 - scale.abs().log10().floor() as i32).max(0) as usize;
    format!("{scale:.digits$}")
}

/// Three significant digits of a number from 1 to 999.
fn three(value: f64) -> String {
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$}")
}

/// Text from the input for a terminal: what would move the cursor or reverse the reading order is shown as `�`.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(visible(c)))
    }
}

/// Text for the page, in content or in a quoted attribute: [`Plain`], and nothing in it is markup.
pub(crate) struct Html<'a>(pub(crate) &'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match visible(c) {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

fn visible(c: char) -> char {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || reorders { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([999, 9_994, 99_949, 1_180_000_000].map(bytes), ["999 B", "9.99 kB", "99.9 kB", "1.18 GB"]);
        assert_eq!([999, 6_553_600, 2_084_044_800].map(weights), ["999", "6.55 million", "2.08 billion"]);
        assert_eq!([7, 1_000, 12_345_678].map(count), ["7", "1,000", "12,345,678"]);
        assert_eq!([0.02415, 1.0, 3.2e-6, 0.0].map(scale), ["0.02415", "1.000", "3.200e-6", "0"]);
        assert_eq!([factor(4_826, 1_000), factor(1, 0)], ["4.83×", "–"]);
    }

    #[test]
    fn nothing_is_not_little() {
        assert_eq!([rare(0, 9), rare(1, 1_000_000), rare(1, 100), rare(0, 0)], ["0", "< 0.01 %", "1.00 %", "–"]);
        assert_eq!([percent(0.42, 1.0), percent(0.0, 0.0)], ["42.0 %", "–"]);
    }

    #[test]
    fn text_is_only_text() {
        let hostile = "<script>'\"&\u{1b}[2J\u{202e}\n";
        assert_eq!(Html(hostile).to_string(), "&lt;script&gt;&#39;&quot;&amp;�[2J��");
        assert_eq!(Plain(hostile).to_string(), "<script>'\"&�[2J��");
    }
}
