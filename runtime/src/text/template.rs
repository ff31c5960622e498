//! Chat templates: messages to a prompt, as the model was trained to read it.
//!
//! Templates are Jinja programs from the model's folder. They get `messages`, `add_generation_prompt`, the special tokens' texts, `tools` and `documents` (none),
//! and `raise_exception`. They do not get `strftime_now`: a prompt must not depend on the day, and templates that ask whether it is defined fall back to a
//! fixed date.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Most bytes of a template.
const MAX_SOURCE: usize = 1 << 20;
/// Most bytes of a prompt.
const MAX_OUTPUT: usize = 16 << 20;
/// Steps of the interpreter.
const FUEL: u64 = 5_000_000;
/// Depth of macros and includes.
const DEPTH: usize = 64;

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// Instructions for the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".to_owned(), content: content.into() }
    }

    /// What the person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_owned(), content: content.into() }
    }
}

/// How a model wants conversations to be written.
///
/// ```
/// use sbnc_runtime::text::{ChatTemplate, Message};
/// let template = ChatTemplate::new("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>", vec![])?;
/// assert_eq!(template.render(&[Message::user("Hello")], true)?, "<user>Hello<assistant>");
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// Names that templates use for special tokens, such as `bos_token`, and their texts.
    specials: Vec<(String, String)>,
}

impl ChatTemplate {
    /// A template, with the names and texts of special tokens. Fails where it cannot be parsed.
    pub fn new(source: impl Into<String>, specials: Vec<(String, String)>) -> Result<Self> {
        let source = source.into();
        if source.len() > MAX_SOURCE {
            let found = format!("{} bytes", source.len());
            return Err(Error::new(Kind::Invalid, "chat template", format!("at most {MAX_SOURCE} bytes"), found));
        }
        environment().template_from_named_str("chat", &source).map_err(|e| problem(&e))?;
        Ok(Self { source, specials })
    }

    /// The prompt of a conversation; with `generation`, up to where the model's answer begins.
    pub fn render(&self, messages: &[Message], generation: bool) -> Result<String> {
        let environment = environment();
        let template = environment.template_from_named_str("chat", &self.source).map_err(|e| problem(&e))?;
        let mut context: std::collections::BTreeMap<&str, Value> =
            self.specials.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))).collect();
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", Value::from(generation));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        let mut out = Bounded(Vec::new());
        template.render_captured_to(Value::from(context), &mut out).map_err(|e| problem(&e))?;
        String::from_utf8(out.0).map_err(|e| Error::new(Kind::Invalid, "chat template", "text", e.to_string()))
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // Whitespace around blocks goes away, as it does where models are trained.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", to_json);
    environment
}

/// JSON as Python writes it, nothing escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut out = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = vec![b' '; indent.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, OneLine)).map_err(failed)?,
    }
    String::from_utf8(out).map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// A space after commas and colons.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Output up to a limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the prompt is longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn problem(error: &minijinja::Error) -> Error {
    let kind = match error.kind() {
        // What the template itself refuses, such as a role that it does not know, is the caller's to change.
        ErrorKind::InvalidOperation => Kind::Usage,
        _ => Kind::Invalid,
    };
    let line = error.line().map_or(String::new(), |line| format!(" line {line}"));
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let cause = std::error::Error::source(error).map_or(String::new(), |e| format!(": {e}"));
    Error::new(kind, format!("chat template{line}: {what}{cause}"), "", "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use super::*;

    fn render(source: &str) -> Result<String> {
        let specials = vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
        let messages = [Message::system(" Be brief. "), Message::user("Hi <b>"), Message::assistant("Yes?")];
        ChatTemplate::new(source, specials)?.render(&messages, true)
    }

    #[test]
    fn what_templates_of_models_use_works() {
        let cases = [
            // Llama 3: set, loop variables, trim, concatenation.
            (
                "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi <b><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            // BitNet: capitalize, conditional expressions.
            (
                "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
                "<s>System: Be brief.<|eot_id|>User: Hi <b><|eot_id|>Assistant: Yes?<|eot_id|>Assistant: ",
            ),
            // Qwen: slices, namespaces, methods of Python's strings, tests, blocks that eat the line's whitespace.
            (
                "{%- if tools %}\n    tools\n{%- else %}\n  {% if messages[0]['role'] == 'system' %}\n{{- messages[0].content.strip() }}\n  {% endif %}\n{%- endif %}\n{%- set ns = namespace(last=0) %}\n{%- for m in messages[::-1] %}\n  {%- if m.role == 'user' and not m.content.startswith('<tool') %}{%- set ns.last = loop.index0 %}{%- endif %}\n{%- endfor %}\n{{- ns.last ~ ('</think>' in messages[1].content) ~ messages[1].content.split(' ')[-1] }}",
                "Be brief.\n1False<b>",
            ),
            (
                "{{ messages[1] | tojson }}{{ {'a': [1, 2]} | tojson(indent=2) }}",
                "{\"role\": \"user\", \"content\": \"Hi <b>\"}{\n  \"a\": [\n    1,\n    2\n  ]\n}",
            ),
            ("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}", "26 Jul 2024"),
            (
                "{% for m in messages %}{% if m.role == 'user' %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
                "system",
            ),
            ("{% macro say(m) %}[{{ m }}]{% endmacro %}{{ say('a') }}{{ undefined_name }}", "[a]"),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn templates_may_refuse() {
        let error =
            render("{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}");
        let error = error.unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains("begin with the user"), "{error}");
    }

    #[test]
    fn hostile_templates_end_in_errors() {
        let hostile = [
            "{% for",
            "{{ messages.__class__ }}{{ messages[99].content }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
            "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
            "{% include 'chat' %}",
            "{% include '/etc/passwd' %}",
            "{{ 'x' * 100000000000 }}",
            "{% set s = 'xxxxxxxxxxxxxxxx' * 65536 %}{% for a in range(100) %}{{ s }}{% endfor %}",
            "{{ strftime_now('%Y') }}",
            "{{ raise_exception() }}",
        ];
        for source in hostile {
            let error = render(source).expect_err(source);
            assert!(matches!(error.kind(), Kind::Invalid | Kind::Usage), "{source}: {error}");
        }
        assert!(ChatTemplate::new("x".repeat(MAX_SOURCE + 1), Vec::new()).is_err());
    }
}
