//! How alike two texts are to a model, by the states after their last tokens:
//! `cargo run --release -p sbnc-runtime --example embed MODEL.sbnc TEXT TEXT`.

use sbnc_runtime::text::Specials;
use sbnc_runtime::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, a, b] = arguments.as_slice() else { return Err("usage: embed MODEL.sbnc TEXT TEXT".into()) };
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?;
    let mut session = model.session(&SessionOptions::default())?;
    let mut embed = |text: &str| -> Result<Vec<f32>, sbnc_runtime::Error> {
        session.truncate(0, 0);
        Ok(session.hidden(&tokenizer.encode(text, Specials::Whole)?)?.to_vec())
    };
    let (a, b) = (embed(a)?, embed(b)?);
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    println!("{:.4}", dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt());
    Ok(())
}
