//! The manifest: one canonical JSON object that says what model a file holds, where it came from and which files it carries.
//!
//! This module holds the typed form and its checks (SPEC §7, §8); the canonical text form is in the module `canonical`.
//! It does not know how the manifest is stored, nor which tensors exist.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::canonical;
use crate::error::{FormatError, Result, rule};
use crate::limits::{MAX_FILE_RAW_BYTES, MAX_FILES, MAX_MANIFEST_BYTES, MAX_NAME_BYTES};

/// Everything the file says about itself besides the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The carried files, in ascending order of name.
    pub files: Vec<FileEntry>,
    /// The model, or `None` for a file of weights without one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// Where the file came from: enough to compile it again to the same bytes.
    pub provenance: Provenance,
}

/// A manifest whose files are not looked at yet.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    files: &'a RawValue,
    #[serde(default, deserialize_with = "present")]
    model: Option<Model>,
    provenance: Provenance,
}

/// What was understood of a manifest; members in the order of the canonical form.
#[derive(Serialize)]
struct Known<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: &'a Option<Model>,
    provenance: &'a Provenance,
}

/// A carried file, such as `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// BLAKE3 of the decoded bytes, in hexadecimal.
    pub blake3: String,
    /// How the bytes are stored.
    pub codec: Codec,
    /// A plain file name.
    pub name: String,
    /// Decoded bytes.
    pub raw: u64,
    /// Stored bytes.
    pub stored: u64,
}

/// How a carried file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// As it is.
    Raw,
    /// One zstd frame that declares its size.
    Zstd,
}

/// What was compiled, by what, with which options and rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name and version of the writer.
    pub compiler: String,
    /// The kind of source, such as `hf-latent`.
    pub kind: String,
    /// The options that decide the bytes.
    pub options: BTreeMap<String, String>,
    /// The rules used for scale, rounding, mask and ties.
    pub rules: BTreeMap<String, String>,
    /// The source files.
    pub sources: Vec<Source>,
}

/// A source file and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
    /// Length of the file.
    pub bytes: u64,
    /// Its name, without folders.
    pub name: String,
}

/// The shape of a decoder-only transformer and the names of its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// `silu`, `relu2` or `gelu`.
    pub activation: String,
    /// Bits of quantised activations: 8, or 4 where the inputs of attention and feed-forward are 4 bits wide.
    pub activation_bits: u32,
    /// Longest context the model was made for.
    pub context: u64,
    /// The family, such as `bitnet`; decides what the tensor roles mean.
    pub family: String,
    /// Width of one attention head.
    pub head_dim: u64,
    /// Attention heads.
    pub heads: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the feed-forward layer.
    pub intermediate: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Epsilon of the RMS norms.
    pub norm_eps: Real,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Role in the graph → tensor name, `{}` standing for the layer.
    pub tensors: BTreeMap<String, String>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Special tokens.
    pub tokens: Tokens,
    /// Entries of the vocabulary.
    pub vocab: u64,
    /// Sliding window of the attention, if any.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// Rotary position embedding: which elements pair up, and how fast they turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Scaling of the frequencies, as the source's configuration names it: integers, and everything else as strings.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub scaling: Option<BTreeMap<String, RopeValue>>,
    /// How elements pair up.
    pub style: RopeStyle,
    /// Base of the frequencies.
    pub theta: Real,
}

/// A parameter of a rope scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RopeValue {
    /// An integer.
    Integer(i64),
    /// A string, a real number in decimal form, or several with commas between.
    Text(String),
}

/// By hand, because what is derived keeps a copy of any value before it looks at it.
impl<'de> Deserialize<'de> for RopeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = RopeValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<RopeValue, E> {
                Ok(RopeValue::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<RopeValue, E> {
                i64::try_from(value).map(RopeValue::Integer).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<RopeValue, E> {
                Ok(RopeValue::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeStyle {
    /// Element i with element i + half.
    Half,
    /// Element 2i with element 2i + 1.
    Interleaved,
}

/// Special tokens, where the source names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Begin of sequence.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub bos: Option<u64>,
    /// Tokens that end a sequence.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub eos: Option<Vec<u64>>,
    /// Padding.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub pad: Option<u64>,
}

/// A real number, held as a decimal string: JSON numbers of the manifest are integers, so that its canonical form has no rounding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Real(String);

impl Real {
    /// The shortest decimal form of `value` that reads back as the same number.
    pub fn new(value: f64) -> Self {
        Self(format!("{value:?}"))
    }

    /// The number, or `None` if the text is no finite decimal number.
    pub fn value(&self) -> Option<f64> {
        // The grammar is that of JSON numbers, without the space that a parser of JSON allows around them.
        let around = |b: u8| b.is_ascii_whitespace();
        if self.0.bytes().any(around) || serde_json::from_str::<serde_json::Number>(&self.0).is_err() {
            return None;
        }
        self.0.parse().ok().filter(|v: &f64| v.is_finite())
    }
}

/// Families that this version of the format names. Others are unsupported, not invalid.
pub const FAMILIES: [&str; 6] = ["bitnet", "llama", "mistral", "qwen2", "qwen3", "sparse-bitnet"];

/// Activation functions of the feed-forward layer.
pub const ACTIVATIONS: [&str; 3] = ["silu", "relu2", "gelu"];

impl Manifest {
    /// Reads the canonical form and checks every rule of SPEC §7 and §8 that needs no other section.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(FormatError::invalid(
                rule::MANIFEST_JSON,
                "manifest",
                "at most 4 MiB",
                format!("{} bytes", bytes.len()),
            ));
        }
        let text = canonical::check(bytes)?;
        let bad = |found| FormatError::invalid(rule::MANIFEST_MEMBERS, "manifest", "the members of SPEC §7", found);
        let Outer { files, model, provenance } = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        // The parser also takes an array for an object with these members in order, and an object for the name of a choice.
        let known = serde_json::to_string(&Known { model: &model, provenance: &provenance });
        if !known.is_ok_and(|known| canonical::has(text, &known)) || !files.get().starts_with('[') {
            return Err(bad("a member of another type".to_owned()));
        }
        let mut manifest = Self { files: Vec::new(), model, provenance };
        manifest.check_members()?;
        // The entries of files have rules of their own, which come after those of all other members.
        manifest.files = FileEntry::parse_all(files.get())?;
        manifest.check_files()?;
        Ok(manifest)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let value = serde_json::to_value(self)
            .map_err(|e| FormatError::invalid(rule::MANIFEST_JSON, "manifest", "a JSON object", e.to_string()))?;
        let bytes = canonical::to_bytes(&value);
        canonical::check(&bytes)?;
        Ok(bytes)
    }

    fn check(&self) -> Result<()> {
        self.check_members()?;
        self.check_files()
    }

    fn check_members(&self) -> Result<()> {
        for source in &self.provenance.sources {
            require(
                is_hex_digest(&source.blake3),
                "provenance.sources.blake3",
                "64 hexadecimal digits",
                &source.blake3,
            )?;
        }
        self.model.as_ref().map_or(Ok(()), Model::check)
    }

    fn check_files(&self) -> Result<()> {
        let bad = |what: &str, found: String| Err(FormatError::invalid(rule::FILE_ENTRY, "files", what, found));
        if self.files.len() > MAX_FILES {
            return bad("at most 64 files", self.files.len().to_string());
        }
        for (i, file) in self.files.iter().enumerate() {
            FileEntry::check_text(&file.name, &file.blake3)?;
            if i > 0 && self.files[i - 1].name >= file.name {
                return bad("names in ascending order", format!("{:?}", file.name));
            }
            let sizes_fit = match file.codec {
                Codec::Raw => file.stored == file.raw,
                Codec::Zstd => file.stored >= 1,
            };
            if file.raw > MAX_FILE_RAW_BYTES || !sizes_fit {
                let found = format!("{} stored, {} decoded", file.stored, file.raw);
                return Err(FormatError::invalid(rule::FILE_SIZES, &file.name, "sizes of SPEC §8", found));
            }
        }
        Ok(())
    }
}

/// Text of an entry of the longest name and the largest numbers, and some more: what is longer is no entry.
const MAX_ENTRY_TEXT: usize = 1024;

impl FileEntry {
    /// Reads the list of files. Text is measured before it is parsed, because a parsed value can take a hundred times the memory of its text.
    fn parse_all(text: &str) -> Result<Vec<Self>> {
        let bad = |what: &str, found: String| FormatError::invalid(rule::FILE_ENTRY, "files", what, found);
        if text.len() > MAX_FILES * MAX_ENTRY_TEXT {
            return Err(bad("at most 64 entries of five members", format!("{} bytes", text.len())));
        }
        let entries: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|e| bad("a list of entries", e.to_string()))?;
        let parse = |entry: &&RawValue| {
            if entry.get().len() > MAX_ENTRY_TEXT {
                return Err(bad("an entry of five members", format!("{} bytes", entry.get().len())));
            }
            let value = serde_json::from_str(entry.get()).map_err(|e| bad("an entry", e.to_string()))?;
            Self::parse(&value)
        };
        entries.iter().map(parse).collect()
    }

    /// The members and their types (R067), then what no [`FileEntry`] can hold (R068).
    fn parse(value: &Value) -> Result<Self> {
        let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key| value.get(key).filter(|v| v.is_number());
        let members = (text("blake3"), text("codec"), text("name"), number("raw"), number("stored"));
        let (Some(blake3), Some(codec), Some(name), Some(raw), Some(stored)) = members else {
            let expected = "objects of name, codec, stored, raw and blake3";
            return Err(FormatError::invalid(rule::FILE_ENTRY, "files", expected, "another"));
        };
        if value.as_object().is_none_or(|members| members.len() != 5) {
            return Err(FormatError::invalid(rule::FILE_ENTRY, "files", "no members but five", "others"));
        }
        Self::check_text(&name, &blake3)?;
        let sizes = |expected: &str, found: String| FormatError::invalid(rule::FILE_SIZES, &name, expected, found);
        let codec = match codec.as_str() {
            "raw" => Codec::Raw,
            "zstd" => Codec::Zstd,
            _ => return Err(sizes("codec raw or zstd", format!("{codec:?}"))),
        };
        let (Some(raw), Some(stored)) = (raw.as_u64(), stored.as_u64()) else {
            return Err(sizes("sizes of at least 0", format!("{stored} stored, {raw} decoded")));
        };
        Ok(Self { blake3, codec, name, raw, stored })
    }

    fn check_text(name: &str, blake3: &str) -> Result<()> {
        let bad = |what: &str, found: &str| FormatError::invalid(rule::FILE_ENTRY, "files", what, format!("{found:?}"));
        if !is_file_name(name) {
            return Err(bad("a plain file name", name));
        }
        if is_hex_digest(blake3) { Ok(()) } else { Err(bad("64 hexadecimal digits", blake3)) }
    }
}

impl Model {
    fn check(&self) -> Result<()> {
        let dimensions = [
            ("layers", self.layers, 1024),
            ("hidden", self.hidden, 1 << 24),
            ("intermediate", self.intermediate, 1 << 24),
            ("heads", self.heads, 1024),
            ("kv_heads", self.kv_heads, 1024),
            ("head_dim", self.head_dim, 1 << 24),
            ("vocab", self.vocab, 1 << 24),
            ("context", self.context, 1 << 24),
        ];
        for (name, value, max) in dimensions {
            require((1..=max).contains(&value), name, &format!("1 to {max}"), &value.to_string())?;
        }
        require(self.heads.is_multiple_of(self.kv_heads), "heads", "a multiple of kv_heads", &self.heads.to_string())?;
        require(
            ACTIVATIONS.contains(&self.activation.as_str()),
            "activation",
            "silu, relu2 or gelu",
            &self.activation,
        )?;
        require(matches!(self.activation_bits, 4 | 8), "activation_bits", "4 or 8", &self.activation_bits.to_string())?;
        let positive = |r: &Real| r.value().is_some_and(|v| v > 0.0);
        require(positive(&self.norm_eps), "norm_eps", "a real above 0", &self.norm_eps.0)?;
        require(positive(&self.rope.theta), "rope.theta", "a real above 0", &self.rope.theta.0)
    }

    /// The name of the tensor that has `role` in layer `layer` (ignored for roles outside the layers), if the model has one.
    pub fn tensor(&self, role: &str, layer: usize) -> Option<String> {
        self.tensors.get(role).map(|template| template.replace("{}", &layer.to_string()))
    }
}

/// An optional member that is there: `null` is not the same as leaving it out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn require(holds: bool, member: &str, expected: &str, found: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(FormatError::invalid(rule::MANIFEST_MEMBERS, &format!("manifest {member}"), expected, found.to_owned()))
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `name` is a plain file name: never a path, never hidden.
pub fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
