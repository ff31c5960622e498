//! The manifest: one canonical JSON object that says what model a file holds, where it came from and which files it carries.
//!
//! This module holds the typed form and its checks (SPEC §7, §8); the canonical text form is in [`canonical`](crate::canonical).
//! It does not know how the manifest is stored, nor which tensors exist.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RopeValue {
    /// An integer.
    Integer(i64),
    /// A string, or a real number in decimal form.
    Text(String),
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

    /// The number, or `None` if the text is not that of a finite JSON number.
    pub fn value(&self) -> Option<f64> {
        let bare = !self.0.contains(|c: char| c.is_ascii_whitespace());
        bare.then(|| serde_json::from_str(&self.0).ok()).flatten().filter(|v: &f64| v.is_finite())
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
        let mut value = canonical::parse(bytes)?;
        let files = match value.get_mut("files") {
            Some(Value::Array(files)) => std::mem::take(files),
            _ => return Err(FormatError::invalid(rule::MANIFEST_MEMBERS, "manifest files", "an array", "none")),
        };
        require_objects(&value)?;
        let mut manifest: Self = serde_json::from_value(value).map_err(|e| {
            FormatError::invalid(rule::MANIFEST_MEMBERS, "manifest", "the members of SPEC §7", e.to_string())
        })?;
        manifest.check()?;
        manifest.files = files.into_iter().map(FileEntry::parse).collect::<Result<_>>()?;
        manifest.check_files()?;
        Ok(manifest)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        self.check_files()?;
        let value = serde_json::to_value(self)
            .map_err(|e| FormatError::invalid(rule::MANIFEST_JSON, "manifest", "a JSON object", e.to_string()))?;
        let bytes = canonical::to_bytes(&value);
        canonical::parse(&bytes)?;
        Ok(bytes)
    }

    fn check(&self) -> Result<()> {
        for source in &self.provenance.sources {
            require(
                is_hex_digest(&source.blake3),
                "provenance.sources.blake3",
                "64 hexadecimal digits",
                &source.blake3,
            )?;
        }
        if let Some(model) = &self.model {
            model.check()?;
        }
        Ok(())
    }

    fn check_files(&self) -> Result<()> {
        let bad = |what: &str, found: String| Err(FormatError::invalid(rule::FILE_ENTRY, "files", what, found));
        if self.files.len() > MAX_FILES {
            return bad("at most 64 files", self.files.len().to_string());
        }
        for (i, file) in self.files.iter().enumerate() {
            if !is_file_name(&file.name) {
                return bad("a plain file name", format!("{:?}", file.name));
            }
            if i > 0 && self.files[i - 1].name >= file.name {
                return bad("names in ascending order", format!("{:?}", file.name));
            }
            if !is_hex_digest(&file.blake3) {
                return bad("64 hexadecimal digits", format!("{:?}", file.blake3));
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

impl FileEntry {
    /// Members and types first (R067), then their values (R068).
    fn parse(value: Value) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Members {
            blake3: String,
            codec: String,
            name: String,
            raw: i64,
            stored: i64,
        }
        let invalid =
            |rule, expected: &str, found: String| FormatError::invalid(rule, "manifest files", expected, found);
        if !value.is_object() {
            return Err(invalid(rule::FILE_ENTRY, "objects", value.to_string()));
        }
        let Members { blake3, codec, name, raw, stored } = serde_json::from_value(value)
            .map_err(|e| invalid(rule::FILE_ENTRY, "the members of SPEC §8", e.to_string()))?;
        let codec = match codec.as_str() {
            "raw" => Codec::Raw,
            "zstd" => Codec::Zstd,
            other => return Err(invalid(rule::FILE_SIZES, "codec raw or zstd", other.to_owned())),
        };
        match (u64::try_from(raw), u64::try_from(stored)) {
            (Ok(raw), Ok(stored)) => Ok(Self { blake3, codec, name, raw, stored }),
            _ => Err(invalid(rule::FILE_SIZES, "sizes of at least 0", format!("{stored} stored, {raw} decoded"))),
        }
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

fn require(holds: bool, member: &str, expected: &str, found: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(FormatError::invalid(rule::MANIFEST_MEMBERS, &format!("manifest {member}"), expected, found.to_owned()))
}

/// What is a record here is an object there; without this a list of the members' values would do.
fn require_objects(manifest: &Value) -> Result<()> {
    let places = ["/provenance", "/provenance/options", "/provenance/rules", "/model", "/model/rope", "/model/tokens"];
    let sources = manifest.pointer("/provenance/sources").and_then(Value::as_array).into_iter().flatten();
    let named = places.iter().filter_map(|&place| Some((place, manifest.pointer(place)?)));
    for (place, value) in named.chain(sources.map(|source| ("/provenance/sources", source))) {
        require(value.is_object(), place, "an object", &value.to_string())?;
    }
    Ok(())
}

/// Reads a member that may be absent, but is what it should be if it is there: not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(member: D) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(member).map(Some)
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `name` is a plain file name: never a path, never hidden.
pub fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
