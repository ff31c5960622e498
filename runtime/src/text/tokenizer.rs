//! The tokenizer of a model, as its folder describes it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::pieces::Pieces;
use super::template::{ChatTemplate, Message};
use super::tiktoken;
use crate::error::{Error, Kind, Result};

/// Text to tokens and back. Clones share everything.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inner: tokenizers::Tokenizer,
    /// The same, but special tokens are text to it: that is a setting of the tokenizer, not of the call. Made when it is first needed.
    literal: OnceLock<tokenizers::Tokenizer>,
    pieces: Pieces,
    /// Tokens that are not text.
    special: BTreeSet<u32>,
    /// Their texts.
    special_texts: Vec<String>,
    bos: Option<u32>,
    eos: Vec<u32>,
    /// What the configuration says of the first token; the tokenizer's own rule if it says nothing.
    add_bos: Option<bool>,
    template: Option<ChatTemplate>,
    vocab: usize,
}

/// Files that describe a tokenizer, and what the model says of its special tokens.
///
/// ```no_run
/// use sbnc_runtime::text::{Source, Specials, Tokenizer};
/// let json = std::fs::read("tokenizer.json")?;
/// let tokenizer = Tokenizer::new(&Source { tokenizer_json: Some(json), ..Source::default() })?;
/// println!("{:?}", tokenizer.encode("Hello", Specials::Text)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `tokenizer.json`, which all newer models have.
    pub tokenizer_json: Option<Vec<u8>>,
    /// `tokenizer.model`: used where there is no `tokenizer.json`, if it has Llama 3's form.
    pub tokenizer_model: Option<Vec<u8>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `chat_template.jinja`, which goes before the template of `tokenizer_config.json`.
    pub chat_template: Option<Vec<u8>>,
    /// The token that begins a text, where the model names one.
    pub bos: Option<u32>,
    /// The tokens that end a text, where the model names some.
    pub eos: Vec<u32>,
    /// Entries of the model's vocabulary; zero if that is not known.
    pub vocab: usize,
}

/// What to make of the text of special tokens, such as `<|eot_id|>`, and of the tokens that begin a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// A text of its own: what begins a text is added, and special tokens are recognised.
    Whole,
    /// A text that is complete, such as that of a chat template: nothing is added, special tokens are recognised.
    Prompt,
    /// Only text: nothing is added, and nothing in it becomes a special token.
    Text,
}

impl Tokenizer {
    /// Loads a tokenizer. Fails with [`Kind::Unsupported`] where there is none, or none that can be used; token ids still can.
    pub fn new(source: &Source) -> Result<Self> {
        let config = match &source.tokenizer_config {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| invalid("tokenizer_config.json", "JSON", e))?,
            None => Value::Null,
        };
        let inner = match (&source.tokenizer_json, &source.tokenizer_model) {
            (Some(json), _) => guarded("tokenizer.json", || load(json))?,
            (None, Some(model)) => guarded("tokenizer.model", || tiktoken::load(model))?,
            (None, None) => return Err(none()),
        };
        let decoder = serde_json::to_value(inner.get_decoder()).unwrap_or_default();
        let pieces = Pieces::of_decoder(&decoder)?;
        let size = inner.get_vocab_size(true);
        if source.vocab > 0 && inner.get_vocab_size(false) > source.vocab {
            let expected = format!("at most {} tokens, as the model has", source.vocab);
            let error = Error::new(Kind::Invalid, "tokenizer", expected, inner.get_vocab_size(false).to_string());
            return Err(error.remedy("it belongs to another model"));
        }
        let added = inner.get_added_tokens_decoder();
        let special: BTreeSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let mut special_texts: Vec<String> =
            added.into_values().filter(|token| token.special).map(|token| token.content).collect();
        special_texts.sort();
        let named = |name: &str| special_text(&config[name]).and_then(|text| inner.token_to_id(&text));
        let mut eos = source.eos.clone();
        eos.extend(named("eos_token").filter(|token| !source.eos.contains(token)));
        let bos = named("bos_token").or(source.bos);
        let template = match template_source(source.chat_template.as_deref(), &config)? {
            Some(text) => {
                let text_of = |id: Option<u32>| id.and_then(|id| inner.id_to_token(id));
                let ids = [("bos_token", bos), ("eos_token", eos.first().copied())];
                let mut specials: Vec<(String, String)> = ["pad_token", "unk_token", "sep_token", "cls_token"]
                    .into_iter()
                    .filter_map(|name| Some((name.to_owned(), special_text(&config[name])?)))
                    .collect();
                for (name, id) in ids {
                    let text = special_text(&config[name]).or_else(|| text_of(id));
                    specials.push((name.to_owned(), text.unwrap_or_default()));
                }
                Some(ChatTemplate::new(text, specials)?)
            }
            None => None,
        };
        let add_bos = config["add_bos_token"].as_bool();
        let vocab = if source.vocab > 0 { source.vocab } else { size };
        Ok(Self(Arc::new(Inner {
            inner,
            literal: OnceLock::new(),
            pieces,
            special,
            special_texts,
            bos,
            eos,
            add_bos,
            template,
            vocab,
        })))
    }

    /// The tokens of a text. All of them are below the size of the model's vocabulary.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let Inner { add_bos, bos, vocab, .. } = *self.0;
        let adds = specials == Specials::Whole && add_bos != Some(false);
        let mut tokens = guarded("tokenizer", || {
            if specials == Specials::Text {
                let literal = self.0.literal.get_or_init(|| {
                    let mut literal = self.0.inner.clone();
                    literal.set_encode_special_tokens(true);
                    literal
                });
                return Ok(literal.encode_fast(text, false)?.get_ids().to_vec());
            }
            Ok(self.0.inner.encode_fast(text, adds)?.get_ids().to_vec())
        })?;
        if let (Specials::Whole, Some(true), Some(bos)) = (specials, add_bos, bos)
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            let expected = format!("tokens below {vocab}, as the model has");
            return Err(Error::new(Kind::Invalid, "tokenizer", expected, token.to_string()));
        }
        Ok(tokens)
    }

    /// The tokens of a conversation, written as the chat template says, up to where the answer begins. The text of special tokens may not occur in messages: it
    /// would let whoever wrote one speak for others.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.chat_template().ok_or_else(|| {
            let error = Error::new(Kind::Unsupported, "chat template", "one in the file", "none");
            error.remedy("write the prompt as the model was trained to read it, and generate from that")
        })?;
        for message in messages {
            if let Some(special) = self.special_in(&message.content) {
                let subject = format!("message of {}", message.role);
                return Err(Error::new(Kind::Usage, subject, "text", format!("the special token {special}")));
            }
        }
        self.encode(&template.render(messages, true)?, Specials::Prompt)
    }

    /// The text of some tokens, without special ones. Bytes that are no characters are shown as `�`.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::new();
        let mut at_start = true;
        for &token in tokens {
            at_start &= !self.piece(token, at_start, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of one token as the vocabulary has it, special ones included.
    pub fn token_text(&self, token: u32) -> Option<String> {
        self.0.inner.id_to_token(token)
    }

    /// The token whose text in the vocabulary is this.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.0.inner.token_to_id(text)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The tokens that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.0.eos
    }

    /// How conversations are written, if the model says so.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.template.as_ref()
    }

    /// The special token whose text occurs in `text`, if one does.
    pub fn special_in(&self, text: &str) -> Option<&str> {
        self.0.special_texts.iter().find(|special| text.contains(special.as_str())).map(String::as_str)
    }

    /// Appends the bytes of a token; whether it has any. Special tokens have none.
    pub(super) fn piece(&self, token: u32, at_start: bool, out: &mut Vec<u8>) -> bool {
        if self.0.special.contains(&token) {
            return false;
        }
        let Some(text) = self.0.inner.id_to_token(token) else { return false };
        self.0.pieces.append(&text, at_start, out);
        true
    }
}

/// What may go wrong inside the library, panics included, as an error about `subject`.
fn guarded<T>(subject: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => invalid(subject, "a tokenizer", other),
        }),
        Err(_) => Err(invalid(subject, "a tokenizer", "one that its library fails on")),
    }
}

fn load(json: &[u8]) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
    // Settings of whoever saved it: cutting a prompt, or filling it up, would change it in silence.
    inner.with_truncation(None)?;
    inner.with_padding(None);
    Ok(inner)
}

fn invalid(subject: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, subject, expected, found.to_string()).remedy("token ids can be used without it")
}

fn none() -> Error {
    let expected = "tokenizer.json, or tokenizer.model of Llama 3";
    Error::new(Kind::Unsupported, "tokenizer", expected, "neither").remedy("use token ids, or name a tokenizer file")
}

/// The text of a special token, which is a string or an object that has one.
fn special_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

fn template_source(file: Option<&[u8]>, config: &Value) -> Result<Option<String>> {
    if let Some(bytes) = file {
        let text = std::str::from_utf8(bytes).map_err(|e| invalid("chat_template.jinja", "UTF-8", e))?;
        return Ok(Some(text.to_owned()));
    }
    Ok(match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        // Several, by name.
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| entry["template"].as_str()).map(str::to_owned)
        }
        _ => None,
    })
}
