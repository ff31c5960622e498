//! A conversation: `cargo run --release -p sbnc-runtime --example chat MODEL.sbnc`.
//!
//! Lines of standard input are what the user says; answers appear as they are made, chosen as the model's makers recommend. What the session has seen of the
//! conversation is not computed again.

use std::io::{BufRead, Write, stdin, stdout};

use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::text::Message;
use sbnc_runtime::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: chat MODEL.sbnc")?;
    let model = Model::open(path)?;
    let mut session = model.session(&SessionOptions::default())?;
    let sampling = Sampling { seed: 1, ..model.sampling()? };
    let mut messages = Vec::new();
    for line in stdin().lock().lines() {
        messages.push(Message::user(line?));
        let mut answer = String::new();
        for piece in session.chat(&messages, &sampling)?.max_tokens(400) {
            let piece = piece?;
            print!("{piece}");
            stdout().flush()?;
            answer.push_str(&piece.text);
        }
        println!();
        messages.push(Message::assistant(answer));
    }
    Ok(())
}
