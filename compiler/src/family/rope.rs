//! Rotary position embedding as a `config.json` states it: `rope_theta` and `rope_scaling`, or the newer `rope_parameters`, which holds both.
//! A configuration may hold both spellings; they must agree.

use std::collections::BTreeMap;

use sbnc_format::manifest::{Real, Rope, RopeStyle, RopeValue};
use serde_json::Value;

use super::error::{FamilyError, Result, clip};
use super::json::{Object, show};

/// Scalings by their names.
const SCALINGS: [&str; 5] = ["linear", "dynamic", "llama3", "yarn", "longrope"];
/// Scalings that know the context before scaling, which some configurations state beside the scaling instead of in it.
const OF_A_CONTEXT: [&str; 3] = ["llama3", "yarn", "longrope"];
const ORIGINAL: &str = "original_max_position_embeddings";
/// Numbers of a list: pairs of a head.
const MAX_LIST: usize = 1 << 15;
/// Largest base of the frequencies.
const MAX_THETA: f64 = 1e12;

type Scaling = BTreeMap<String, RopeValue>;

/// Reads the rotary embedding of a model whose type has the base `default_theta`.
pub(super) fn read(config: &Object, default_theta: f64) -> Result<Rope> {
    let parameters = config.object("rope_parameters")?;
    let scaling = config.object("rope_scaling")?;
    for part in [Some(config), parameters.as_ref()].into_iter().flatten() {
        if part.positive("partial_rotary_factor", 1.0)?.is_some_and(|factor| factor != 1.0) {
            return Err(part.unsupported("partial_rotary_factor", "1: rotation of the whole head"));
        }
    }
    let theta_of =
        |object: &Option<Object>| object.as_ref().map_or(Ok(None), |object| object.positive("rope_theta", MAX_THETA));
    let (inner_theta, scaling_theta) = (theta_of(&parameters)?, theta_of(&scaling)?);
    let outer_theta = config.positive("rope_theta", MAX_THETA)?;
    let theta = config.agreed(("rope_theta", outer_theta), ("rope_parameters.rope_theta", inner_theta))?;
    let theta = config.agreed(("rope_theta", theta), ("rope_scaling.rope_theta", scaling_theta))?;
    let (new, old) = (parameters.as_ref().map(parse).transpose()?, scaling.as_ref().map(parse).transpose()?);
    if let (Some(new), Some(old)) = (&new, &old)
        && new != old
    {
        let expected = format!("{}, which rope_parameters says", words(new));
        return Err(FamilyError::invalid(config.subject("rope_scaling"), expected, words(old))
            .remedy("make rope_scaling and rope_parameters agree"));
    }
    let mut scaling = new.or(old).flatten();
    if let Some(scaling) = &mut scaling
        && let Some(original) = config.count(ORIGINAL, 1..=1 << 24)?
        && matches!(scaling.get("rope_type"), Some(RopeValue::Text(kind)) if OF_A_CONTEXT.contains(&kind.as_str()))
    {
        // The one beside the scaling counts, as in the models' own code.
        scaling.insert(ORIGINAL.to_owned(), RopeValue::Integer(original as i64));
    }
    Ok(Rope { scaling, style: RopeStyle::Half, theta: Real::new(theta.unwrap_or(default_theta)) })
}

/// The scaling that an object states; `None` for the plain rotation.
fn parse(object: &Object) -> Result<Option<Scaling>> {
    let kind = object.agreed(("rope_type", object.text("rope_type")?), ("type", object.text("type")?))?;
    let kind = match kind {
        None if object
            .keys()
            .all(|key| matches!(key, "rope_theta" | "partial_rotary_factor" | "rope_type" | "type")) =>
        {
            return Ok(None);
        }
        None => return Err(object.unsupported("rope_type", format!("default or one of {}", SCALINGS.join(", ")))),
        Some("default") => return Ok(None),
        Some(kind) if SCALINGS.contains(&kind) => kind,
        Some(_) => {
            let key = if object.value("rope_type").is_some() { "rope_type" } else { "type" };
            return Err(object.unsupported(key, format!("default or one of {}", SCALINGS.join(", "))));
        }
    };
    let mut scaling = Scaling::from([("rope_type".to_owned(), RopeValue::Text(kind.to_owned()))]);
    for key in
        object.keys().filter(|key| !matches!(*key, "rope_theta" | "partial_rotary_factor" | "rope_type" | "type"))
    {
        if let Some(value) = object.value(key) {
            scaling.insert(name(object, key)?, parameter(object, key, value)?);
        }
    }
    Ok(Some(scaling))
}

fn name(object: &Object, key: &str) -> Result<String> {
    let plain = key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { Ok(key.to_owned()) } else { Err(object.wrong(key, "the plain name of a parameter")) }
}

fn parameter(object: &Object, key: &str, value: &Value) -> Result<RopeValue> {
    // What the manifest can hold as a number.
    const MOST: u64 = 1 << 53;
    if let Some(integer) = value.as_i64().filter(|n| n.unsigned_abs() <= MOST) {
        return Ok(RopeValue::Integer(integer));
    }
    match value {
        Value::Number(number) => {
            let real = number.as_f64().ok_or_else(|| object.wrong(key, "a number"))?;
            Ok(RopeValue::Text(format!("{real:?}")))
        }
        Value::Bool(flag) => Ok(RopeValue::Text(flag.to_string())),
        Value::String(text) if text.len() <= 64 => Ok(RopeValue::Text(text.clone())),
        Value::Array(items) if (1..=MAX_LIST).contains(&items.len()) && items.iter().all(Value::is_number) => {
            let numbers: Vec<String> = items.iter().filter_map(Value::as_f64).map(|real| format!("{real:?}")).collect();
            Ok(RopeValue::Text(numbers.join(",")))
        }
        other => {
            let expected = "a number, a string, a boolean or a list of numbers";
            Err(FamilyError::unsupported(object.subject(key), expected, show(other)))
        }
    }
}

fn words(scaling: &Option<Scaling>) -> String {
    let Some(scaling) = scaling else { return "no scaling".to_owned() };
    let words: Vec<_> = scaling
        .iter()
        .map(|(key, value)| match value {
            RopeValue::Integer(integer) => format!("{key} {integer}"),
            RopeValue::Text(text) => format!("{key} {text}"),
        })
        .collect();
    clip(&words.join(", "))
}
