//! Opening a model that the format accepts, and running it.

use std::path::PathBuf;
use std::sync::OnceLock;

use sbnc_format::encoding::Packing;
use sbnc_format::manifest::RopeValue;
use sbnc_format::{Encoding, Order, Pattern};
use sbnc_runtime::{Model, SessionOptions};
use sbnc_tests::Recipe;

/// Valid models with different parts.
pub fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let fused = Recipe::small().without(&["q", "k", "v", "gate", "up"]).with(&["qkv", "gate_up", "q_bias"]);
        let mut tied = Recipe::small().without(&["head"]).with(&["attn_sub_norm", "ffn_sub_norm", "q_norm", "k_norm"]);
        tied.model.tied = true;
        tied.model.window = Some(5);
        tied.packing = Packing { encoding: Encoding::Nm6b, order: Order::Rows, pattern: Pattern::new(2, 4).expect("2:4") };
        let mut long = Recipe { dense: vec!["v"], embed: Encoding::I8, ..Recipe::small() };
        let text = |key: &str, value: &str| (key.to_owned(), RopeValue::Text(value.to_owned()));
        let scaling = [
            text("rope_type", "longrope"),
            text("short_factor", "1.0,1.5,2.0,2.5,3.0,3.5,4.0,4.5"),
            text("long_factor", "2.0,3.0,4.0,6.0,8.0,16.0,24.0,32.0"),
            text("factor", "2.0"),
        ];
        long.model.rope.scaling = Some(scaling.into());
        [Recipe::small(), fused, tied, long]
            .map(|recipe| {
                recipe.write(&path());
                std::fs::read(path()).expect("it was written")
            })
            .into()
    })
}

/// Opens a file and runs some tokens through it, if it can be a model of little memory.
pub fn run(bytes: &[u8]) {
    std::fs::write(path(), bytes).expect("a temporary file can be written");
    let Ok(model) = Model::options().threads(1).open(path()) else { return };
    let (vocab, context) = (model.config().vocab, model.config().context);
    let _ = (model.cost(), model.root(), model.sampling());
    let options = SessionOptions { context: context.min(9), chunk: 4, memory: Some(64 << 20), ..SessionOptions::default() };
    let Ok(mut session) = model.session(&options) else { return };
    let tokens = [0, vocab as u32 - 1, 0, 1 % vocab as u32, 0];
    for tokens in [&tokens[..tokens.len().min(context)], &[vocab as u32]] {
        if let Ok(logits) = session.forward(tokens) {
            assert_eq!(logits.len(), vocab);
            assert!(tokens[0] < vocab as u32, "a token that the vocabulary does not have is refused");
        }
    }
}

/// A file of this process.
fn path() -> PathBuf {
    std::env::temp_dir().join(format!("sbnc-fuzz-{}.sbnc", std::process::id()))
}
