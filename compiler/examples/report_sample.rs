//! A report of a made-up model of the shape of BitNet b1.58 2B-4T, for looking at the page.
//!
//! `cargo run -p sbnc --example report_sample -- OUT.html [dense|2:4|6:8|packed]`

use sbnc::quantize;
use sbnc::report::{PartReport, PatternCost, Report, Size, TensorReport, html, text};

#[path = "../src/report/sample.rs"]
mod sample;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("usage: report_sample OUT.html [dense|2:4|6:8|packed]")?;
    let source = match arguments.next().as_deref() {
        None | Some("2:4") => sample::Source::Latent(Some((2, 4))),
        Some("6:8") => sample::Source::Latent(Some((6, 8))),
        Some("dense") => sample::Source::Latent(None),
        Some("packed") => sample::Source::Packed,
        Some(other) => return Err(format!("'{other}' is none of dense, 2:4, 6:8, packed").into()),
    };
    let report = sample::report(source, 30)?;
    std::fs::write(out, html::page(&report))?;
    print!("{}", text::summary(&report));
    Ok(())
}
