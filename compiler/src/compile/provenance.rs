//! What the manifest says of the origin: sources, options and rules, enough to compile to the same bytes again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use sbnc_format::Digest;
use sbnc_format::manifest::{Manifest, Provenance, Source};
use sbnc_format::writer::Carried;
use sbnc_format::{Encoding, Order, Pattern};

use super::input::file_name;
use super::{FloatForm, Input, Options, Target};
use crate::checkpoint::gguf::decode::I2sLayout;
use crate::error::{Error, Exit, Result};
use crate::family::{self, Plan, RequestedPattern, ScaleRule};

/// Name and version of this compiler.
pub(super) const COMPILER: &str = concat!("sbnc ", env!("CARGO_PKG_VERSION"));

/// Bytes of a source that are mapped and hashed at a time.
const HASH_BYTES: u64 = 32 << 20;

/// Rules of the quantiser, by name. Another rule gets another name.
const RULES: [(&str, &str); 5] = [
    ("group_axis", "inputs"),
    ("mask", "largest-latent-magnitudes-of-group"),
    ("mask_tie", "lower-index"),
    ("rounding", "half-to-even"),
    ("scale", "mean-magnitude-of-part-before-mask-f64"),
];

/// The manifest. Without `digests`, which come last, it has the same length and zeros for them.
pub(super) fn manifest(
    input: &Input,
    plan: &Plan,
    options: &Options,
    carried: &[Carried],
    digests: &[Digest],
) -> Manifest {
    let sources = input.checkpoint().sources().iter().enumerate().map(|(i, source)| Source {
        blake3: digests.get(i).copied().unwrap_or(Digest([0; 32])).to_string(),
        bytes: source.len(),
        name: file_name(source.path()),
    });
    Manifest {
        files: carried.iter().map(|c| c.entry.clone()).collect(),
        model: plan.model.clone(),
        provenance: Provenance {
            compiler: COMPILER.to_owned(),
            kind: plan.kind.name().to_owned(),
            options: option_texts(options),
            rules: RULES.iter().map(|&(key, rule)| (key.to_owned(), rule.to_owned())).collect(),
            sources: sources.collect(),
        },
    }
}

/// Digests of the source files, unless `failed` says that nobody will want them.
pub(super) fn source_digests(input: &Input, failed: &AtomicBool) -> Result<Vec<Digest>> {
    input
        .checkpoint()
        .sources()
        .iter()
        .map(|source| {
            let mut hasher = blake3::Hasher::new();
            let mut offset = 0;
            while offset < source.len() && !failed.load(Ordering::Relaxed) {
                crate::interrupt::check()?;
                let length = HASH_BYTES.min(source.len() - offset);
                hasher.update_rayon(&source.bytes(offset, length, "the file")?);
                offset += length;
            }
            Ok(hasher.finalize().into())
        })
        .collect()
}

/// Options as text, defaults left out.
fn option_texts(options: &Options) -> BTreeMap<String, String> {
    // No `..`: a new option must be recorded here, or the file could not be compiled again.
    let Options { family, target, encoding, order, embed, head, i2s_layout } = options;
    let family::Options { pattern, include, exclude, force_quantize, already_ternary, packed_scale } = family;
    let pattern = match pattern {
        RequestedPattern::Auto => None,
        RequestedPattern::None => Some("none".to_owned()),
        RequestedPattern::Nm(n, m) => Some(format!("{n}:{m}")),
    };
    let globs = |globs: &[String]| (!globs.is_empty()).then(|| globs.join("\n"));
    let flag = |set: bool| set.then(|| "yes".to_owned());
    let float = |form: FloatForm| match form {
        FloatForm::Keep => None,
        FloatForm::Bf16 => Some("bf16".to_owned()),
        FloatForm::Int8 => Some("int8".to_owned()),
    };
    let scale = packed_scale.map(|rule| match rule {
        ScaleRule::Divide => "divide".to_owned(),
        ScaleRule::Multiply => "multiply".to_owned(),
    });
    let texts = [
        ("nm", pattern),
        ("include", globs(include)),
        ("exclude", globs(exclude)),
        ("force_quantize", flag(*force_quantize)),
        ("ternary", flag(*already_ternary)),
        ("packed_scale", scale),
        ("target", (*target != Target::Auto).then(|| target.name().to_owned())),
        ("encoding", encoding.map(|e| e.name().to_owned())),
        ("order", order.map(|o| o.name().to_owned())),
        ("embed", float(*embed)),
        ("head", float(*head)),
        ("i2s_layout", i2s_layout.map(|l| l.name().to_owned())),
    ];
    texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?))).collect()
}

/// The options that a manifest records.
pub(super) fn options_of(manifest: &Manifest) -> Result<Options> {
    let recorded = &manifest.provenance.options;
    let unknown = |key: &str, value: &str| {
        let message =
            format!("the file was compiled with the option {key} = '{value}', which this version does not know");
        Error::new(Exit::Unsupported, message)
    };
    let mut options = Options::default();
    for (key, value) in recorded {
        let bad = || unknown(key, value);
        let float = || match value.as_str() {
            "bf16" => Ok(FloatForm::Bf16),
            "int8" => Ok(FloatForm::Int8),
            _ => Err(bad()),
        };
        let globs = || value.lines().map(str::to_owned).collect();
        match key.as_str() {
            "nm" if value == "none" => options.family.pattern = RequestedPattern::None,
            "nm" => {
                let (n, m) = value.parse::<Pattern>().map_err(|_| bad())?.ids();
                options.family.pattern = RequestedPattern::Nm(n, m);
            }
            "include" => options.family.include = globs(),
            "exclude" => options.family.exclude = globs(),
            "force_quantize" => options.family.force_quantize = true,
            "ternary" => options.family.already_ternary = true,
            "packed_scale" if value == "divide" => options.family.packed_scale = Some(ScaleRule::Divide),
            "packed_scale" if value == "multiply" => options.family.packed_scale = Some(ScaleRule::Multiply),
            "target" => options.target = Target::from_name(value).ok_or_else(bad)?,
            "encoding" => options.encoding = Some(Encoding::from_name(value).ok_or_else(bad)?),
            "order" => options.order = Some(Order::from_name(value).ok_or_else(bad)?),
            "embed" => options.embed = float()?,
            "head" => options.head = float()?,
            "i2s_layout" => options.i2s_layout = Some(value.parse::<I2sLayout>().map_err(|_| bad())?),
            _ => return Err(bad()),
        }
    }
    Ok(options)
}
