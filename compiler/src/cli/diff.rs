//! `sbnc diff`: which tensors of two files differ, and in what.

use std::collections::BTreeSet;
use std::path::Path;

use sbnc_format::{Layout, Packing, Sbnc, TensorView};
use sbnc_runtime::map::Map;
use serde_json::json;

use super::terminal::{emit, emit_json};
use crate::error::{Error, Exit, Result};
use crate::numbers::count;

pub(crate) fn run(a: &Path, b: &Path, as_json: bool) -> Result<()> {
    let (first, second) = (super::open(a)?, super::open(b)?);
    let mut lines: Vec<(String, String)> = Vec::new();
    if first.manifest() != second.manifest() {
        let parts = manifest_differences(&first, &second);
        lines.push(("manifest".to_owned(), format!("differs in {}", parts.join(", "))));
    }
    let names: BTreeSet<&str> = first.tensors().iter().chain(second.tensors()).map(|t| t.name.as_str()).collect();
    for name in names {
        let difference = match (first.tensor(name), second.tensor(name)) {
            (Some(x), Some(y)) => tensor_difference(&x, &y)?,
            (Some(_), None) => Some(format!("only in {}", a.display())),
            _ => Some(format!("only in {}", b.display())),
        };
        lines.extend(difference.map(|d| (name.to_owned(), d)));
    }
    let same_bytes = first.root() == second.root();
    let same_content = first.content() == second.content();
    if as_json {
        let differences: Vec<_> = lines.iter().map(|(what, how)| json!({ "what": what, "how": how })).collect();
        emit_json(&json!({ "identical": same_bytes, "same_content": same_content, "differences": differences }))?;
    } else {
        let verdict = match (same_bytes, same_content) {
            (true, _) => "identical: same root digest",
            (false, true) => "same model: every tensor has the same content; the files differ in form",
            (false, false) => "different models",
        };
        let listed: String = lines.iter().map(|(what, how)| format!("  {what}: {how}\n")).collect();
        emit(&format!("{verdict}\n{listed}"))?;
    }
    if same_bytes { Ok(()) } else { Err(Error::new(Exit::Differs, String::new())) }
}

fn manifest_differences(a: &Sbnc<Map>, b: &Sbnc<Map>) -> Vec<&'static str> {
    let (a, b) = (a.manifest(), b.manifest());
    let parts = [
        ("model", a.model != b.model),
        ("files", a.files != b.files),
        ("compiler", a.provenance.compiler != b.provenance.compiler),
        ("sources", a.provenance.sources != b.provenance.sources),
        ("kind", a.provenance.kind != b.provenance.kind),
        ("options", a.provenance.options != b.provenance.options),
        ("rules", a.provenance.rules != b.provenance.rules),
    ];
    parts.into_iter().filter(|p| p.1).map(|p| p.0).collect()
}

fn tensor_difference(a: &TensorView<'_>, b: &TensorView<'_>) -> Result<Option<String>> {
    let (x, y) = (a.tensor(), b.tensor());
    let mut differences = Vec::new();
    if x.shape != y.shape {
        return Ok(Some(format!("shape {:?} against {:?}", x.shape, y.shape)));
    }
    if x.role != y.role {
        differences.push(format!("role {} against {}", x.role.name(), y.role.name()));
    }
    if x.layout != y.layout {
        differences.push(format!("stored as {} against {}", layout(&x.layout), layout(&y.layout)));
    }
    if x.content_digest != y.content_digest {
        differences.push(content_difference(a, b)?);
    }
    Ok((!differences.is_empty()).then(|| differences.join("; ")))
}

fn layout(layout: &Layout) -> String {
    match layout {
        Layout::Known(Packing { encoding, order, pattern }) => {
            format!("{} {} {pattern}", encoding.name(), order.name())
        }
        Layout::Opaque { encoding, order } => format!("unknown encoding {encoding}, order {order}"),
    }
}

/// How much of two tensors of the same shape differs.
fn content_difference(a: &TensorView<'_>, b: &TensorView<'_>) -> Result<String> {
    let (Some(x), Some(y)) = (decoded(a)?, decoded(b)?) else {
        return Ok("content differs".to_owned());
    };
    let trits = x.iter().zip(&y).filter(|(a, b)| a != b).count();
    let (s, t) = (a.scales(), b.scales());
    let scales = s.iter().zip(&t).filter(|(a, b)| a != b).count();
    let mut parts = Vec::new();
    if trits > 0 {
        parts.push(format!("{} of {} trits differ", count(trits as u64), count(x.len() as u64)));
    }
    if scales > 0 {
        let largest = s.iter().zip(&t).map(|(a, b)| f64::from((a - b).abs() / b)).fold(0.0, f64::max);
        let share = 100.0 * largest;
        parts.push(format!(
            "{} of {} scales differ, by {share:.2e} % at most",
            count(scales as u64),
            count(s.len() as u64)
        ));
    }
    if parts.is_empty() {
        parts.push("the digests of the content differ, the content does not: verify both files".to_owned());
    }
    Ok(parts.join(", "))
}

fn decoded(view: &TensorView<'_>) -> Result<Option<Vec<i8>>> {
    let Layout::Known(packing) = view.tensor().layout else { return Ok(None) };
    if !packing.encoding.is_ternary() {
        return Ok(None);
    }
    let (rows, cols) = view.tensor().matrix();
    let mut all = Vec::with_capacity((rows * cols) as usize);
    let shape = (rows as usize, cols as usize);
    packing.decode_batches(view.data(), shape, |_, trits| {
        crate::interrupt::check()?;
        all.extend_from_slice(trits);
        Ok::<_, Error>(())
    })?;
    Ok(Some(all))
}
