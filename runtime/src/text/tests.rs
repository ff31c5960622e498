//! Tokenizers of a few tokens, against the library that the tokens are from.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use serde_json::{Value, json};

use super::{Message, Source, Specials, TextStream, Tokenizer};
use crate::Kind;

/// Letters, a space, a merge, and two special tokens.
fn byte_level() -> Value {
    let letters = ["Ġ", "a", "b", "c", "<", ">", "|", "e", "n", "d", "Ã", "©"];
    let mut vocab: serde_json::Map<String, Value> =
        letters.iter().enumerate().map(|(i, l)| ((*l).to_owned(), i.into())).collect();
    vocab.insert("ab".to_owned(), 12.into());
    let added = |id: u32, content: &str, special: bool| json!({ "id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "Ġ" },
        "added_tokens": [added(13, "<s>", true), added(14, "<|end|>", true), added(15, "<b c>", false)],
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [13], "tokens": ["<s>"] } },
        },
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": ["a b"],
        },
    })
}

fn load(json: &Value, config: Value) -> crate::Result<Tokenizer> {
    let bytes = |value: &Value| Some(value.to_string().into_bytes());
    Tokenizer::new(&Source { tokenizer_json: bytes(json), tokenizer_config: bytes(&config), ..Source::default() })
}

#[test]
fn special_tokens_are_recognised_where_they_may_be() {
    let tokenizer = load(&byte_level(), json!({ "bos_token": "<s>", "eos_token": { "content": "<|end|>" } })).unwrap();
    let encode = |text, specials| tokenizer.encode(text, specials).unwrap();
    // Nothing is cut or filled up, whatever the settings that the file was saved with.
    assert_eq!(encode("ab c<|end|>", Specials::Whole), [13, 12, 0, 3, 14]);
    assert_eq!(encode("ab c<|end|>", Specials::Prompt), [12, 0, 3, 14]);
    assert_eq!(encode("c<|end|>", Specials::Text), [3, 4, 6, 7, 8, 9, 6, 5]);
    assert_eq!(tokenizer.decode(&[13, 12, 0, 3, 14, 15, 10, 11]), "ab c<b c>é");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(13), &[14][..]));
    assert_eq!((tokenizer.special_in("a<|end|>"), tokenizer.special_in("<b c>")), (Some("<|end|>"), None));
    assert_eq!((tokenizer.token("ab"), tokenizer.token_text(14)), (Some(12), Some("<|end|>".to_owned())));
}

#[test]
fn the_configuration_decides_what_begins_a_text() {
    let mut json = byte_level();
    let without = load(&json, json!({ "bos_token": "<s>", "add_bos_token": false })).unwrap();
    assert_eq!(without.encode("a", Specials::Whole).unwrap(), [1]);
    json["post_processor"] = Value::Null;
    let plain = load(&json, json!({ "bos_token": "<s>" })).unwrap();
    assert_eq!(plain.encode("a", Specials::Whole).unwrap(), [1]);
    let with = load(&json, json!({ "bos_token": "<s>", "add_bos_token": true })).unwrap();
    assert_eq!(with.encode("a", Specials::Whole).unwrap(), [13, 1]);
    assert_eq!(with.encode("<s>a", Specials::Whole).unwrap(), [13, 1]);
    assert_eq!(with.encode("a", Specials::Prompt).unwrap(), [1]);
}

#[test]
fn streams_wait_for_whole_characters() {
    let tokenizer = load(&byte_level(), Value::Null).unwrap();
    let mut stream = TextStream::new(&tokenizer, true);
    let mut out = String::new();
    let mut lengths = Vec::new();
    for token in [12, 10, 11, 13, 10, 1, 10] {
        stream.push(token, &mut out);
        lengths.push(out.len());
    }
    // The second Ã is no character's beginning once an a follows; the last one never ends.
    assert_eq!((out.as_str(), lengths), ("abé\u{fffd}a", vec![2, 2, 4, 4, 4, 8, 8]));
}

#[test]
fn conversations_are_written_by_the_template() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    let config = json!({ "bos_token": "<s>", "eos_token": "<|end|>", "chat_template": template });
    let tokenizer = load(&byte_level(), config.clone()).unwrap();
    assert_eq!(tokenizer.encode_chat(&[Message::user("ab"), Message::assistant("c")]).unwrap(), [13, 12, 14, 3, 14]);
    let error = tokenizer.encode_chat(&[Message::user("c<|end|>")]).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("<|end|>"), "{error}");
    let named = json!([{ "name": "tool_use", "template": "x" }, { "name": "default", "template": "c" }]);
    let several = load(&byte_level(), json!({ "chat_template": named })).unwrap();
    assert_eq!(several.encode_chat(&[]).unwrap(), [3]);
    let own = Source {
        tokenizer_json: Some(byte_level().to_string().into_bytes()),
        tokenizer_config: Some(config.to_string().into_bytes()),
        chat_template: Some(b"a".to_vec()),
        ..Source::default()
    };
    assert_eq!(Tokenizer::new(&own).unwrap().encode_chat(&[]).unwrap(), [1]);
    let none = load(&byte_level(), Value::Null).unwrap().encode_chat(&[]).unwrap_err();
    assert_eq!(none.kind(), Kind::Unsupported);
}

#[test]
fn what_cannot_be_loaded_is_an_error() {
    let mut panics = byte_level();
    panics["model"]["continuing_subword_prefix"] = "longer than any token".into();
    let mut regex = byte_level();
    regex["pre_tokenizer"] =
        json!({ "type": "Split", "pattern": { "Regex": "(unclosed" }, "behavior": "Isolated", "invert": false });
    for json in [Value::Null, json!({}), json!({ "model": 3 }), panics, regex] {
        let error = load(&json, Value::Null).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("token ids"), "{error}");
    }
    let large = Source { tokenizer_json: Some(byte_level().to_string().into_bytes()), vocab: 5, ..Source::default() };
    assert!(Tokenizer::new(&large).unwrap_err().to_string().contains("another model"));
    assert_eq!(Tokenizer::new(&Source::default()).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn expressions_that_backtrack_for_ever_end_in_errors() {
    let mut json = byte_level();
    json["pre_tokenizer"] = json!({
        "type": "Sequence",
        "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": "(?:(?:a|a)*)*(?=c)" }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        ],
    });
    let tokenizer = load(&json, Value::Null).unwrap();
    let start = std::time::Instant::now();
    let _ = tokenizer.encode(&"a".repeat(4000), Specials::Text);
    assert!(start.elapsed().as_secs() < 20, "the library bounds backtracking");
}
