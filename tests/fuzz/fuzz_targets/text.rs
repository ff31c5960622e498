//! What a model's folder says of text: tokenizers, chat templates and recommended settings, and a text for them.
//!
//! The input is these files, one after another, with a byte between them that is in no UTF-8 text; an empty one is absent.
#![no_main]

use sbnc_runtime::sampling::{Sampler, Sampling};
use sbnc_runtime::text::{ChatTemplate, Message, Source, Specials, TextStream, Tokenizer};

/// The byte between two files.
const END: u8 = 0xFF;

libfuzzer_sys::fuzz_target!(
    // The crate `tokenizers` panics, and the runtime makes an error of that: only a panic that arrives here is a finding.
    init: std::panic::set_hook(Box::new(|_| ())),
    |input: &[u8]| {
        let mut files = input.split(|&byte| byte == END).map(<[u8]>::to_vec);
        let mut file = || files.next().filter(|file| !file.is_empty());
        let (tokenizer_json, tokenizer_model, tokenizer_config) = (file(), file(), file());
        let (template, settings, text) = (file(), file(), file());
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        if let Ok(sampling) = Sampling::recommended(&settings.unwrap_or_default()) {
            let mut sampler = Sampler::new(&sampling, 3).expect("what is recommended is within its range");
            assert!(sampler.sample(&[0.5, -1.0, 2.0]).expect("finite logits have a token") < 3);
        }
        let messages = [Message::system(&text), Message::user("a"), Message::assistant(&text)];
        let template = String::from_utf8_lossy(&template.unwrap_or_default()).into_owned();
        if let Ok(template) = ChatTemplate::new(template, vec![("bos_token".to_owned(), "<s>".to_owned())]) {
            let _ = template.render(&messages, true);
        }
        let source = Source { tokenizer_json, tokenizer_model, tokenizer_config, ..Source::default() };
        let Ok(tokenizer) = Tokenizer::new(&source) else { return };
        for specials in [Specials::Whole, Specials::Prompt, Specials::Text] {
            let Ok(tokens) = tokenizer.encode(&text, specials) else { continue };
            let _ = tokenizer.decode(&tokens);
            let (mut stream, mut out) = (TextStream::new(&tokenizer, false), String::new());
            tokens.iter().for_each(|&token| stream.push(token, &mut out));
        }
    }
);
