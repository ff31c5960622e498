//! Logits and tokens are those of the models' own code.

use sbnc_runtime::{CacheType, Model, SessionOptions};

use crate::kit::{Golden, NAMES, best_token, distance, name, platforms};

/// The logits of a whole prompt.
fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    // The models' own code ran in f32, and these models are small and random: one rounded key would move every logit.
    let mut session = model.session(&SessionOptions::default()).unwrap();
    assert_eq!(session.cache(), CacheType::F32);
    let mut all = Vec::new();
    session.forward_all(tokens, |rows| all.extend_from_slice(rows.values)).unwrap();
    all
}

#[test]
fn logits_are_those_of_the_models_own_code() {
    for model in NAMES {
        let Some(golden) = Golden::compile(model, &[]) else { return };
        for platform in platforms() {
            let opened = golden.open(platform, 2);
            for (i, prompt) in golden.prompts.iter().enumerate() {
                let error = distance(&logits(&opened, &prompt.tokens), &prompt.logits);
                eprintln!("{model}, {}, prompt {i}: {error:.1e}", name(platform));
                assert!(error < 1e-3, "{model}, {}, prompt {i}: {error}", name(platform));
            }
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_the_models_own_code() {
    for model in NAMES {
        let Some(golden) = Golden::compile(model, &[]) else { return };
        for platform in platforms() {
            let opened = golden.open(platform, 2);
            for (i, prompt) in golden.prompts.iter().enumerate() {
                let mut session = opened.session(&SessionOptions::default()).unwrap();
                let mut found = best_token(session.forward(&prompt.tokens).unwrap());
                for (step, &(token, margin)) in prompt.greedy.iter().enumerate() {
                    let place = format!("{model}, {}, prompt {i}, step {step}", name(platform));
                    // Two tokens that are this close may change places; then both texts go on with the golden one.
                    assert!(found == token || margin < 0.02, "{place}: {found}, not {token}, margin {margin}");
                    found = best_token(session.forward(&[token]).unwrap());
                }
            }
        }
    }
}
