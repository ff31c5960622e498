#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use sbnc_format::manifest::RopeValue;

use super::*;
use crate::error::Kind;

fn scaling_of(members: &[(&str, &str)], context: usize, dim: usize) -> Result<Scaling> {
    let member = |(key, value): &(&str, &str)| match value.parse() {
        Ok(integer) => ((*key).to_owned(), RopeValue::Integer(integer)),
        Err(_) => ((*key).to_owned(), RopeValue::Text((*value).to_owned())),
    };
    Scaling::new(Some(&members.iter().map(member).collect::<BTreeMap<_, _>>()), context, dim)
}

fn scaling(members: &[(&str, &str)]) -> Result<Scaling> {
    scaling_of(members, 8192, 8)
}

#[track_caller]
fn assert_near(found: f32, expected: f64) {
    assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs(), "{found}, not {expected}");
}

/// What the transformers library computes for the same parameters: `tests/oracle/rope.py` wrote the numbers.
#[test]
fn frequencies_are_those_of_the_transformers_library() {
    let mut kinds = BTreeMap::new();
    for line in include_str!("transformers.txt").lines().filter(|line| !line.starts_with('#')) {
        let (numbers, parameters) = line.split_once(" = ").unwrap();
        let (name, numbers) = numbers.split_once(' ').unwrap();
        let numbers: Vec<f64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
        let (&[theta, context, positions, attention], expected) = numbers.split_first_chunk().unwrap();
        let members: Vec<_> = parameters.split("; ").map(|member| member.split_once(' ').unwrap()).collect();
        let scaling = scaling_of(&members, context as usize, 2 * expected.len()).unwrap();
        assert!(positions as usize <= scaling.context(context as usize), "{name}: within reach");
        assert!((scaling.attention() - attention).abs() < 1e-12, "{name}: {}, not {attention}", scaling.attention());
        let found = scaling.frequencies(theta, 2 * expected.len(), positions as usize);
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected, "{name}: {found}, not {expected}");
        }
        *kinds.entry(members[0].1).or_insert(0) += 1;
    }
    let expected = [("dynamic", 2), ("linear", 1), ("llama3", 2), ("longrope", 4), ("yarn", 5)];
    assert_eq!(kinds, BTreeMap::from(expected), "cases of each kind");
}

#[test]
fn plain_frequencies_fall_from_one() {
    let plain = Scaling::None.frequencies(10_000.0, 8, 8192);
    for (found, expected) in plain.into_iter().zip([1.0, 0.1, 0.01, 0.001]) {
        assert_near(found, expected);
    }
}

#[test]
fn a_scaling_says_how_far_it_reaches_and_what_is_short() {
    let linear = scaling(&[("rope_type", "linear"), ("factor", "2.5")]).unwrap();
    assert_eq!((linear.context(8192), linear.short(8192)), (8192, 8192));
    let dynamic = scaling(&[("rope_type", "dynamic"), ("factor", "4")]).unwrap();
    assert_eq!((dynamic.context(8192), dynamic.short(8192)), (32768, 8192));
    let plain = Scaling::None.frequencies(10_000.0, 8, 100);
    assert_eq!(dynamic.frequencies(10_000.0, 8, 100), plain);
    assert_eq!(dynamic.frequencies(10_000.0, 8, 8192), plain);
    assert!(dynamic.frequencies(10_000.0, 8, 8193)[3] < plain[3]);
    let yarn =
        scaling(&[("rope_type", "yarn"), ("factor", "4.0"), ("original_max_position_embeddings", "32768")]).unwrap();
    assert_eq!((yarn.context(32768), yarn.short(32768)), (131_072, 131_072));
    let lists = [("rope_type", "longrope"), ("short_factor", "1,1,1,1"), ("long_factor", "2,2,2,2.5")];
    let long = scaling(&[&lists[..], &[("original_max_position_embeddings", "2048")]].concat()).unwrap();
    assert_eq!((long.context(8192), long.short(8192)), (8192, 2048));
    assert_eq!(long.frequencies(10_000.0, 8, 2048), plain);
    assert_near(long.frequencies(10_000.0, 8, 2049)[3], 0.001 / 2.5);
}

#[test]
fn sines_and_cosines_carry_the_factor_of_attention() {
    let yarn = scaling(&[("rope_type", "yarn"), ("factor", "4.0"), ("original_max_position_embeddings", "32768")]);
    let rotation = yarn.unwrap().rotation(Pairing::Half, 1e6, 128, 2).unwrap();
    assert_near(rotation.cos[0], 1.138_629_436);
    assert_near(rotation.sin[64], 1.138_629_436 * 1f64.sin());
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let unread = scaling(&[("rope_type", "linear"), ("factor", "2"), ("alpha", "1")]).unwrap_err();
    assert_eq!((unread.kind(), unread.subject()), (Kind::Unsupported, "model.rope.scaling.alpha"));
    let unknown = scaling(&[("rope_type", "proportional")]).unwrap_err();
    assert_eq!((unknown.kind(), unknown.found()), (Kind::Unsupported, "proportional"));
    assert_eq!(scaling(&[("rope_type", "default")]).unwrap(), Scaling::None);
    let truncate = scaling(&[("rope_type", "yarn"), ("factor", "2"), ("truncate", "perhaps")]).unwrap_err();
    assert_eq!((truncate.kind(), truncate.found()), (Kind::Invalid, "perhaps"));
    let shrinking = scaling(&[("rope_type", "dynamic"), ("factor", "0.5")]).unwrap_err();
    assert_eq!((shrinking.kind(), shrinking.found()), (Kind::Invalid, "0.5"));
    for (short, found) in [("1,1,1", "3 of them"), ("1,1,1,-1", "1,1,1,-1"), ("1,,1,1", "1,,1,1"), ("", "")] {
        let lists = [("rope_type", "longrope"), ("short_factor", short), ("long_factor", "2,2,2,2")];
        let error = scaling(&lists).unwrap_err();
        let expected = (Kind::Invalid, "model.rope.scaling.short_factor", found);
        assert_eq!((error.kind(), error.subject(), error.found()), expected);
    }
    let missing = scaling(&[("rope_type", "longrope"), ("short_factor", "1,1,1,1")]).unwrap_err();
    assert_eq!((missing.subject(), missing.found()), ("model.rope.scaling.long_factor", "nothing"));
}

#[test]
fn angles_are_products_in_f32() {
    let rotation = Scaling::None.rotation(Pairing::Interleaved, 10_000.0, 4, 1001).unwrap();
    let angle = 1000f32 * 0.01;
    assert_near(rotation.cos[2001], f64::from(angle).cos());
    assert_eq!((rotation.pairs, rotation.cos.len()), (2, 2002));
}
