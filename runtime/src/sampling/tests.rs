//! Against plain references that sort and sum everything, and against the distribution itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use super::random::{Random, exp};
use super::{Sampler, Sampling};
use crate::Kind;

/// Logits of a plausible shape: a few likely tokens, a long tail, some ties.
fn logits(vocab: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut value = |_| {
        let bell: f64 = (0..6).map(|_| random.next_unit()).sum::<f64>() - 3.0;
        ((bell * 4.0) * 8.0).round() as f32 / 8.0
    };
    (0..vocab).map(&mut value).collect()
}

/// What remains after all filters, by token: probability of the draw.
fn reference(scores: &[f32], s: &Sampling) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f32)> = scores.iter().enumerate().map(|(i, &v)| (i as u32, v)).collect();
    all.retain(|c| c.1 > f32::NEG_INFINITY);
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let best = all[0].1;
    let p = |v: f32, t: f64| exp(f64::from(v - best) / t);
    if s.top_k > 0 {
        all.truncate(s.top_k);
    }
    if s.top_p < 1.0 {
        let total: f64 = all.iter().map(|c| p(c.1, 1.0)).sum();
        let mut sum = 0.0;
        let last = all.iter().position(|c| {
            sum += p(c.1, 1.0);
            sum >= f64::from(s.top_p) * total
        });
        all.truncate(last.map_or(all.len(), |last| last + 1));
    }
    all.retain(|c| p(c.1, 1.0) >= f64::from(s.min_p));
    all.sort_by_key(|c| c.0);
    let total: f64 = all.iter().map(|c| p(c.1, f64::from(s.temperature))).sum();
    all.iter().map(|c| (c.0, p(c.1, f64::from(s.temperature)) / total)).collect()
}

fn reference_draw(remaining: &[(u32, f64)], unit: f64) -> u32 {
    let mut sum = 0.0;
    let found = remaining.iter().find(|(_, p)| {
        sum += p;
        sum > unit
    });
    found.unwrap_or(remaining.last().unwrap()).0
}

#[test]
fn draws_equal_those_of_the_reference() {
    let filters = [(0, 1.0, 0.0), (1, 1.0, 0.0), (40, 1.0, 0.0), (0, 0.9, 0.0), (0, 0.999_99, 0.0), (0, 1.0, 0.05)];
    let both = [(40, 0.95, 0.05), (7, 0.5, 0.2), (100_000, 0.3, 0.0), (0, 1e-6, 0.0), (0, 1.0, 1.0)];
    for vocab in [1, 2, 63, 64, 65, 1000, 5000] {
        for (i, &(top_k, top_p, min_p)) in filters.iter().chain(&both).enumerate() {
            for temperature in [0.3, 1.0, 2.5] {
                let seed = 77 * i as u64 + vocab as u64;
                let s = Sampling { temperature, top_k, top_p, min_p, seed, ..Sampling::greedy() };
                let mut sampler = Sampler::new(&s, vocab).unwrap();
                let mut random = Random::new(seed);
                for step in 0..8 {
                    let scores = logits(vocab, seed + step);
                    let remaining = reference(&scores, &s);
                    let expected = reference_draw(&remaining, random.next_unit());
                    assert_eq!(sampler.sample(&scores).unwrap(), expected, "{s:?} of {vocab}, step {step}");
                }
            }
        }
    }
}

#[test]
fn frequencies_are_those_of_the_distribution() {
    let scores = logits(200, 5);
    for s in [
        Sampling { temperature: 1.3, seed: 1, ..Sampling::greedy() },
        Sampling { temperature: 0.8, top_k: 20, top_p: 0.95, min_p: 0.01, seed: 2, ..Sampling::greedy() },
    ] {
        let expected = reference(&scores, &s);
        let mut sampler = Sampler::new(&s, scores.len()).unwrap();
        let draws = 200_000;
        let mut counts = vec![0u32; scores.len()];
        for _ in 0..draws {
            counts[sampler.sample(&scores).unwrap() as usize] += 1;
        }
        // Pearson's statistic over tokens that are expected at least ten times, the rest as one class.
        let (mut statistic, mut classes, mut rest) = (0.0, 0.0, (0.0, 0.0));
        for &(token, p) in &expected {
            let (n, e) = (f64::from(counts[token as usize]), p * f64::from(draws));
            if e < 10.0 {
                rest = (rest.0 + n, rest.1 + e);
                continue;
            }
            statistic += (n - e) * (n - e) / e;
            classes += 1.0;
        }
        if rest.1 > 0.0 {
            statistic += (rest.0 - rest.1) * (rest.0 - rest.1) / rest.1.max(1.0);
            classes += 1.0;
        }
        // Mean `degrees`, variance twice that: five standard deviations.
        let degrees: f64 = classes - 1.0;
        assert!(statistic < degrees + 5.0 * (2.0 * degrees).sqrt(), "{statistic} with {degrees} degrees of freedom");
        let possible: u32 = expected.iter().map(|c| counts[c.0 as usize]).sum();
        assert_eq!(possible, draws, "nothing that was filtered out may be drawn");
    }
}

#[test]
fn greedy_takes_the_largest_and_the_lower_of_equals() {
    let mut sampler = Sampler::new(&Sampling::greedy(), 40).unwrap();
    let mut scores = vec![-1.0; 40];
    (scores[7], scores[30]) = (2.5, 2.5);
    assert_eq!(sampler.sample(&scores).unwrap(), 7);
    scores[39] = 2.6;
    assert_eq!(sampler.sample(&scores).unwrap(), 39);
    assert_eq!(sampler.logprobs(), None);
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let scores: Vec<Vec<f32>> = (0..100).map(|i| logits(500, i)).collect();
    let run = |seed| -> Vec<u32> {
        let s = Sampling { temperature: 1.0, top_p: 0.9, seed, ..Sampling::greedy() };
        let mut sampler = Sampler::new(&s, 500).unwrap();
        scores.iter().map(|l| sampler.sample(l).unwrap()).collect()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn penalties_are_those_of_the_formula() {
    let s = Sampling {
        repeat_penalty: 2.0,
        presence_penalty: 0.25,
        frequency_penalty: 0.5,
        penalty_window: 3,
        ..Sampling::greedy()
    };
    let scores = [4.0, 3.0, -1.0, 2.0, 0.5];
    let mut sampler = Sampler::new(&s, 5).unwrap();
    // Nothing is recent: the largest.
    assert_eq!(sampler.sample(&scores).unwrap(), 0);
    // 0 twice: 4/2 − 2·0.5 − 0.25 = 0.75; 1 once: 3/2 − 0.75 = 0.75; so 3 with its 2.0.
    [0, 0, 1].into_iter().for_each(|t| sampler.accept(t));
    assert_eq!(sampler.sample(&scores).unwrap(), 3);
    // 3 once: 2/2 − 0.75 = 0.25; 0 once: 4/2 − 0.75 = 1.25; 1 once: 0.75.
    sampler.accept(3);
    assert_eq!(sampler.sample(&scores).unwrap(), 0);
    // 0 has left the window.
    [1, 3].into_iter().for_each(|t| sampler.accept(t));
    assert_eq!(sampler.sample(&scores).unwrap(), 0);
    // A negative logit moves away from zero.
    let only = Sampling { repeat_penalty: 3.0, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&only, 2).unwrap();
    sampler.accept(0);
    assert_eq!(sampler.sample(&[-1.0, -2.0]).unwrap(), 1);
    // What the vocabulary does not have is nothing to count.
    sampler.accept(9);
}

#[test]
fn bias_comes_before_everything_else() {
    let bias = vec![(0, f32::NEG_INFINITY), (2, 10.0)];
    let s = Sampling { logit_bias: bias, logprobs: Some(1), ..Sampling::greedy() };
    let mut sampler = Sampler::new(&s, 3).unwrap();
    assert_eq!(sampler.sample(&[5.0, 1.0, 0.0]).unwrap(), 2);
    // Log-probabilities are the model's own.
    assert_eq!(sampler.logprobs().unwrap().top[0].0, 0);
    for temperature in [0.0, 1.0] {
        let logit_bias = (0..3).map(|t| (t, f32::NEG_INFINITY)).collect();
        let s = Sampling { logit_bias, temperature, ..Sampling::greedy() };
        let error = Sampler::new(&s, 3).unwrap().sample(&[1.0; 3]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
    }
}

#[test]
fn logprobs_are_a_distribution() {
    let scores = logits(300, 9);
    let s = Sampling { logprobs: Some(300), temperature: 1.0, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&s, 300).unwrap();
    let token = sampler.sample(&scores).unwrap();
    let logprobs = sampler.logprobs().unwrap();
    let sum: f64 = logprobs.top.iter().map(|&(_, lp)| f64::from(lp).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    assert!(logprobs.top.is_sorted_by(|a, b| a.1 >= b.1));
    assert_eq!(logprobs.top.iter().find(|t| t.0 == token).unwrap().1, logprobs.chosen);
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = [
        Sampling { temperature: -0.1, ..Sampling::greedy() },
        Sampling { temperature: f32::NAN, ..Sampling::greedy() },
        Sampling { top_p: 0.0, ..Sampling::greedy() },
        Sampling { top_p: 1.1, ..Sampling::greedy() },
        Sampling { min_p: -0.5, ..Sampling::greedy() },
        Sampling { min_p: f32::NAN, ..Sampling::greedy() },
        Sampling { repeat_penalty: 0.0, ..Sampling::greedy() },
        Sampling { presence_penalty: f32::INFINITY, ..Sampling::greedy() },
        Sampling { frequency_penalty: f32::NAN, ..Sampling::greedy() },
        Sampling { logit_bias: vec![(10, 0.0)], ..Sampling::greedy() },
        Sampling { logit_bias: vec![(1, f32::NAN)], ..Sampling::greedy() },
        Sampling { logit_bias: vec![(1, f32::INFINITY)], ..Sampling::greedy() },
    ];
    for s in refused {
        assert_eq!(Sampler::new(&s, 10).unwrap_err().kind(), Kind::Usage, "{s:?}");
    }
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    let mut sampler = Sampler::new(&Sampling::greedy(), 4).unwrap();
    for broken in [f32::NAN, f32::INFINITY] {
        let error = sampler.sample(&[0.0, 1.0, broken, 2.0]).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("token 2"), "{error}");
    }
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -4.0, f32::NEG_INFINITY, -5.0]).unwrap(), 1);
}

/// Addresses and capacities of everything that a sampler holds stay what they were.
#[test]
fn nothing_is_allocated_after_the_sampler_was_made() {
    let vocab = 4000;
    for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (50, 0.9, 0.01), (0, 0.97, 0.0), (0, 1.0, 0.001)] {
        let s = Sampling {
            temperature: 1.5,
            top_k,
            top_p,
            min_p,
            logprobs: Some(20),
            frequency_penalty: 0.1,
            ..Sampling::greedy()
        };
        let mut sampler = Sampler::new(&s, vocab).unwrap();
        let before = sampler.rooms();
        for step in 0..200 {
            let token = sampler.sample(&logits(vocab, step)).unwrap();
            sampler.accept(token);
        }
        assert_eq!(sampler.rooms(), before, "{s:?}");
    }
}
