//! Scoring: `cargo run --release -p sbnc-runtime --example score MODEL.sbnc "The capital of France is" " Paris" " Rome" …` says which continuation the model
//! finds most likely.
//!
//! The beginning is computed once; every continuation starts from a copy of it.

use sbnc_runtime::text::Specials;
use sbnc_runtime::{Model, Session, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: score MODEL.sbnc BEGINNING CONTINUATION…";
    let model = Model::open(arguments.next().ok_or(usage)?)?;
    let tokenizer = model.tokenizer()?;
    let beginning = tokenizer.encode(&arguments.next().ok_or(usage)?, Specials::Whole)?;
    let mut session = model.session(&SessionOptions { sequences: 2, ..SessionOptions::default() })?;
    let first = session.forward(&beginning)?.to_vec();
    for text in arguments {
        let tokens = tokenizer.encode(&text, Specials::Text)?;
        let score = score(&mut session, &first, &tokens)?;
        println!("{score:9.3}  {:9.3} a token  {text}", score / tokens.len() as f64);
    }
    Ok(())
}

/// The log-probability of some tokens after what sequence 0 has seen, whose logits are `first`.
fn score(session: &mut Session, first: &[f32], tokens: &[u32]) -> sbnc_runtime::Result<f64> {
    let Some(&token) = tokens.first() else { return Ok(0.0) };
    session.copy_prefix(0, 1, session.tokens(0).len())?;
    let mut sum = log_probability(first, token);
    let start = session.tokens(1).len();
    // The logits after a token are about the one that follows it.
    session.batch_all(&[(1, tokens)], |rows| {
        for (position, logits) in rows.iter() {
            if let Some(&next) = tokens.get(position - start + 1) {
                sum += log_probability(logits, next);
            }
        }
    })?;
    Ok(sum)
}

fn log_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&v| f64::from(v - largest).exp()).sum();
    f64::from(logits[token as usize] - largest) - sum.ln()
}
