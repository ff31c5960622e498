//! Embeddings: `cargo run --release -p sbnc-runtime --example embed MODEL.sbnc "a text" "another" …` prints how alike the texts are.
//!
//! A text's vector is the mean of the model's last states, which suits models that were trained to predict tokens better than the last state alone.

use sbnc_runtime::text::Specials;
use sbnc_runtime::{Model, Session, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = Model::open(arguments.next().ok_or("usage: embed MODEL.sbnc TEXT…")?)?;
    let tokenizer = model.tokenizer()?;
    let mut session = model.session(&SessionOptions::default())?;
    let mut texts = Vec::new();
    for text in arguments {
        let vector = embed(&mut session, &tokenizer.encode(&text, Specials::Whole)?)?;
        texts.push((text, vector));
    }
    for (text, vector) in &texts {
        let likeness: Vec<String> = texts.iter().map(|(_, other)| format!("{:6.3}", dot(vector, other))).collect();
        println!("{}  {text}", likeness.join(" "));
    }
    Ok(())
}

/// The vector of a text, of length 1.
fn embed(session: &mut Session, tokens: &[u32]) -> sbnc_runtime::Result<Vec<f32>> {
    session.truncate(0, 0);
    let mut sum = vec![0.0; session.model().config().hidden];
    session.hidden_all(tokens, |rows| {
        for (_, row) in rows.iter() {
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
    })?;
    let length = dot(&sum, &sum).sqrt();
    sum.iter_mut().for_each(|v| *v /= length);
    Ok(sum)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
