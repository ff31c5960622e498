//! What a model's folder says of text: tokenizers, chat templates and recommended settings, and a text for them.
#![no_main]

use arbitrary::Arbitrary;
use sbnc_runtime::sampling::{Sampler, Sampling};
use sbnc_runtime::text::{ChatTemplate, Message, Source, Specials, TextStream, Tokenizer};

#[derive(Arbitrary, Debug)]
struct Input {
    tokenizer_json: Option<String>,
    tokenizer_model: Option<Vec<u8>>,
    tokenizer_config: Option<String>,
    template: String,
    settings: String,
    text: String,
}

libfuzzer_sys::fuzz_target!(
    // The crate `tokenizers` panics, and the runtime makes an error of that: only a panic that arrives here is a finding.
    init: std::panic::set_hook(Box::new(|_| ())),
    |input: Input| {
        let Input { tokenizer_json, tokenizer_model, tokenizer_config, template, settings, text } = input;
        if let Ok(sampling) = Sampling::recommended(settings.as_bytes()) {
            let mut sampler = Sampler::new(&sampling, 3).expect("what is recommended is within its range");
            assert!(sampler.sample(&[0.5, -1.0, 2.0]).expect("finite logits have a token") < 3);
        }
        let messages = [Message::system(&text), Message::user("a"), Message::assistant(&text)];
        if let Ok(template) = ChatTemplate::new(template, vec![("bos_token".to_owned(), "<s>".to_owned())]) {
            let _ = template.render(&messages, true);
        }
        let bytes = |text: String| text.into_bytes();
        let source = Source {
            tokenizer_json: tokenizer_json.map(bytes),
            tokenizer_model,
            tokenizer_config: tokenizer_config.map(bytes),
            ..Source::default()
        };
        let Ok(tokenizer) = Tokenizer::new(&source) else { return };
        for specials in [Specials::Whole, Specials::Prompt, Specials::Text] {
            let Ok(tokens) = tokenizer.encode(&text, specials) else { continue };
            let _ = tokenizer.decode(&tokens);
            let (mut stream, mut out) = (TextStream::new(&tokenizer, false), String::new());
            tokens.iter().for_each(|&token| stream.push(token, &mut out));
        }
    }
);
