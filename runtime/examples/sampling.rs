//! A sampler of one's own: `cargo run --release -p sbnc-runtime --example sampling MODEL.sbnc "Once upon a time"`.
//!
//! Any rule that turns logits into a token will do. This one is the typical sampling of Meister et al.: it prefers tokens that are about as surprising as the
//! model expects the next one to be.

use std::io::{Write, stdout};

use sbnc_runtime::sampling::random::Random;
use sbnc_runtime::text::{Specials, TextStream};
use sbnc_runtime::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: sampling MODEL.sbnc PROMPT";
    let model = Model::open(arguments.next().ok_or(usage)?)?;
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.encode(&arguments.next().ok_or(usage)?, Specials::Whole)?;
    let mut session = model.session(&SessionOptions::default())?;
    let mut stream = TextStream::new(&tokenizer, false);
    let mut random = Random::new(1);
    let mut token = typical(session.forward(&prompt)?, 0.9, &mut random);
    for _ in 0..100 {
        if tokenizer.eos().contains(&token) || session.room(0) == 0 {
            break;
        }
        let mut text = String::new();
        stream.push(token, &mut text);
        print!("{text}");
        stdout().flush()?;
        token = typical(session.forward(&[token])?, 0.9, &mut random);
    }
    println!();
    Ok(())
}

/// A token at random among the most typical ones that together have the probability `mass`.
fn typical(logits: &[f32], mass: f64, random: &mut Random) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&v| f64::from(v - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let surprise = |p: f64| if p > 0.0 { -p.ln() } else { f64::INFINITY };
    let expected: f64 = weights.iter().map(|w| w / sum).filter(|&p| p > 0.0).map(|p| p * surprise(p)).sum();
    let mut tokens: Vec<(u32, f64)> = (0..).zip(weights.iter().map(|w| w / sum)).collect();
    let distance = |p: f64| (surprise(p) - expected).abs();
    tokens.sort_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    let mut left = 0.0;
    let kept = tokens.iter().take_while(|(_, p)| {
        let open = left < mass;
        left += p;
        open
    });
    let kept: Vec<_> = kept.copied().collect();
    let mut draw = random.next_unit() * kept.iter().map(|(_, p)| p).sum::<f64>();
    let chosen = kept.iter().find(|(_, p)| {
        draw -= p;
        draw <= 0.0
    });
    chosen.or(kept.last()).map_or(0, |(token, _)| *token)
}
