//! How likely a model finds a text: `cargo run --release -p sbnc-runtime --example score MODEL.sbnc TEXT`.

use sbnc_runtime::text::Specials;
use sbnc_runtime::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (path, text) = arguments.next().zip(arguments.next()).ok_or("usage: score MODEL.sbnc TEXT")?;
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?;
    let tokens = tokenizer.encode(&text, Specials::Whole)?;
    let mut session = model.session(&SessionOptions::default())?;
    let mut total = 0.0;
    session.forward_all(&tokens, |rows| {
        for (position, logits) in rows.iter() {
            let Some(&next) = tokens.get(position + 1) else { continue };
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|&v| f64::from(v - best).exp()).sum();
            let logprob = f64::from(logits[next as usize] - best) - sum.ln();
            println!("{logprob:8.3}  {}", tokenizer.token_text(next).unwrap_or_default());
            total += logprob;
        }
    })?;
    println!("{total:8.3}  in all");
    Ok(())
}
