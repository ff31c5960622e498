//! A way of choosing tokens that the library does not have: only tokens whose text begins with a letter, the likeliest of them.
//! `cargo run --release -p sbnc-runtime --example sampling MODEL.sbnc PROMPT`.

use sbnc_runtime::text::{Specials, TextStream};
use sbnc_runtime::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (path, prompt) = arguments.next().zip(arguments.next()).ok_or("usage: sampling MODEL.sbnc PROMPT")?;
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?;
    let letters: Vec<bool> = (0..model.config().vocab as u32)
        .map(|token| tokenizer.decode(&[token]).trim_start().starts_with(char::is_alphabetic))
        .collect();
    let mut session = model.session(&SessionOptions::default())?;
    let mut stream = TextStream::new(&tokenizer, false);
    let mut text = prompt.clone();
    let mut tokens = tokenizer.encode(&prompt, Specials::Whole)?;
    for _ in 0..20 {
        let logits = session.forward(&tokens)?;
        let allowed = logits.iter().enumerate().filter(|(token, _)| letters[*token]);
        let Some((token, _)) = allowed.max_by(|a, b| a.1.total_cmp(b.1)) else { break };
        tokens = vec![token as u32];
        stream.push(token as u32, &mut text);
    }
    println!("{text}");
    Ok(())
}
