//! How a `config.json` says its linear weights are stored, and whether they were trained to be ternary at all.
//!
//! | `linear_class` | `quantization_mode` | stored | a weight is |
//! |---|---|---|---|
//! | absent, `bitlinear` | `offline` | packed | trit ÷ `weight_scale` |
//! | `autobitlinear` | `offline` | packed, or dense trits | trit × `weight_scale` |
//! | `autobitlinear` | `online` | latent | quantised on the fly |
//!
//! A type or a tensor name that exists in ternary models only stands in for an absent `quantization_config`.

use sbnc_format::manifest::Model;

use super::assemble::Features;
use super::config::ModelType;
use super::error::{FamilyError, Result};
use super::facts::{Dtype, Options, ScaleRule};
use super::inventory::Inventory;
use super::json::Object;
use super::names::ModulePattern;
use super::roles::FOLDER;
use super::storage::{Plain, Storage};

/// Longest list of module patterns, in bytes: matching them all stays quick.
const MAX_PATTERNS_BYTES: usize = 16_384;

/// What the quantization of a model amounts to.
pub(super) struct Quantization {
    pub(super) storage: Storage,
    /// Linear modules left unquantised.
    pub(super) dense: Vec<ModulePattern>,
}

/// Reads the quantization of a configuration, and completes `features` with the norms that it adds.
pub(super) fn read(
    config: &Object,
    model_type: &ModelType,
    model: &Model,
    stock: &Inventory<'_>,
    options: &Options,
    features: &mut Features,
    notes: &mut Vec<String>,
) -> Result<Quantization> {
    let Some(quantization) = config.object("quantization_config")? else {
        if config.value("sparsity_config").is_some() {
            notes.push("sparsity_config is not followed: pass --nm to impose or check a pattern".to_owned());
        }
        return Ok(Quantization { storage: undeclared(config, model_type, stock, options, notes)?, dense: Vec::new() });
    };
    if quantization.text("quant_method")? != Some("bitnet") {
        return Err(quantization
            .unsupported("quant_method", "the string \"bitnet\"")
            .remedy("compile the original weights"));
    }
    let storage = declared(&quantization, stock, options, notes)?;
    features.input_norms = quantization.boolean("use_rms_norm")?;
    if let Some(eps) = quantization.positive("rms_norm_eps", 1.0)?
        && features.input_norms == Some(true)
        && model.norm_eps.value() != Some(eps)
    {
        let norm_eps = model.norm_eps.value().unwrap_or_default();
        let expected = format!("{norm_eps:?}, as rms_norm_eps of the model: one epsilon is kept for all norms");
        return Err(quantization.unsupported("rms_norm_eps", expected));
    }
    let dense = dense_modules(&quantization, model.tied, &storage, notes)?;
    Ok(Quantization { storage, dense })
}

/// The storage that a `quantization_config` declares.
fn declared(
    quantization: &Object,
    stock: &Inventory<'_>,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Storage> {
    let class = quantization.text("linear_class")?.unwrap_or("bitlinear");
    let stated = quantization.text("quantization_mode")?;
    let older = quantization.boolean("offline_quantization")?.map(|offline| if offline { "offline" } else { "online" });
    let mode = quantization.agreed(("quantization_mode", stated), ("offline_quantization", older))?;
    if !matches!(mode, None | Some("online" | "offline")) {
        return Err(quantization.unsupported("quantization_mode", "online or offline"));
    }
    let rule = match class {
        "bitlinear" => ScaleRule::Divide,
        "autobitlinear" => ScaleRule::Multiply,
        _ => return Err(quantization.unsupported("linear_class", "bitlinear or autobitlinear")),
    };
    if options.packed_scale.is_some_and(|asked| asked != rule) {
        let expected = format!("{rule:?}, because linear_class is {class}").to_lowercase();
        let found = format!("{:?}", options.packed_scale.unwrap_or(rule)).to_lowercase();
        return Err(FamilyError::invalid("--packed-scale", expected, found).remedy("leave --packed-scale out"));
    }
    let online = mode == Some("online");
    // Online and `bitlinear` contradict each other: the class only exists packed. The tensors decide.
    let packed = match class {
        "bitlinear" if online => has_packed(stock),
        _ => !online,
    };
    if class == "bitlinear" && online {
        let stored = if packed { "packed" } else { "latent" };
        notes.push(format!(
            "quantization_mode is online, but linear_class bitlinear is packed: the tensors are {stored}"
        ));
    }
    if packed && options.force_quantize {
        notes.push("linear weights of floating-point numbers are taken as latent, as --force-quantize asks".to_owned());
    }
    let plain = match (packed, options.force_quantize, options.already_ternary) {
        (_, _, true) => Plain::Ternary,
        (true, false, _) => Plain::Refused,
        _ => Plain::Latent,
    };
    let mode = if packed { "offline" } else { "online" };
    Ok(Storage {
        authority: format!("quantization_config: linear_class {class}, {mode}"),
        rule: Some(rule),
        packed,
        blocks: false,
        scaled: packed && class == "autobitlinear",
        plain,
    })
}

/// The storage where no `quantization_config` declares one: tensors and type must show that the weights are ternary.
fn undeclared(
    config: &Object,
    model_type: &ModelType,
    stock: &Inventory<'_>,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Storage> {
    let scaled = stock.any(|name| name.ends_with(".weight_scale"));
    let input_norms = FOLDER.layer.iter().filter(|slot| slot.role.key().ends_with("_in_norm"));
    let input_norms = input_norms.flat_map(|slot| slot.names).any(|name| stock.has(&name.replace("{}", "0")));
    let trained = model_type.ternary || input_norms || config.boolean("is_bitnet_config")? == Some(true);
    let plain = match () {
        () if options.already_ternary => Plain::Ternary,
        () if trained || options.force_quantize => Plain::Latent,
        () if scaled => Plain::Refused,
        () => {
            let expected = "a sign that the weights were trained to be ternary, such as quantization_config with quant_method bitnet";
            let found = format!("an ordinary {} model", model_type.name);
            return Err(FamilyError::unsupported("config.json: quantization_config", expected, found).remedy(
                "quantising it would ruin it; pass --force-quantize to do so all the same, or --ternary if its values are three-valued",
            ));
        }
    };
    if plain == Plain::Latent && !trained {
        notes.push("the weights were not trained to be ternary: --force-quantize ruins the model".to_owned());
    }
    Ok(Storage {
        authority: "config.json without quantization_config".to_owned(),
        rule: options.packed_scale,
        packed: true,
        blocks: false,
        scaled: true,
        plain,
    })
}

fn has_packed(stock: &Inventory<'_>) -> bool {
    stock.any(|name| {
        let weight = name.strip_suffix("_scale").and_then(|weight| stock.get(weight));
        weight.is_some_and(|fact| fact.dtype == Dtype::U8)
    })
}

/// Which linear weights of the layers stay dense; the head always does.
fn dense_modules(
    quantization: &Object,
    tied: bool,
    storage: &Storage,
    notes: &mut Vec<String>,
) -> Result<Vec<ModulePattern>> {
    let key = "modules_to_not_convert";
    // The default is the head alone.
    let Some(texts) = quantization.texts(key)? else { return Ok(Vec::new()) };
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if bytes > MAX_PATTERNS_BYTES {
        let subject = quantization.subject(key);
        return Err(FamilyError::invalid(subject, format!("at most {MAX_PATTERNS_BYTES} bytes"), bytes.to_string()));
    }
    let subject = quantization.subject(key);
    let patterns: Vec<_> = texts.iter().map(|text| ModulePattern::parse(&subject, text)).collect::<Result<_>>()?;
    if patterns.iter().any(|pattern| pattern.matches("lm_head")) {
        return Ok(patterns);
    }
    // The list replaces the default, so the training framework would quantise the head as well.
    if storage.plain == Plain::Latent {
        return Err(quantization
            .unsupported(key, "lm_head in the list: without it the head is ternary too, which is not compiled")
            .remedy("add lm_head if the head was not trained to be ternary"));
    }
    if !tied {
        notes.push("modules_to_not_convert does not name lm_head, but the head stays as it is stored".to_owned());
    }
    Ok(patterns)
}
