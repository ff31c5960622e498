//! Models of any shape and with any part that the format names, made with random weights and written without a checkpoint.
//!
//! What a part means is not known here: a recipe lists roles, and gives each the shape that SPEC §7 says. Large models repeat a few rows of trits, because
//! making random ones would take longer than everything that is done with them.

use std::collections::BTreeMap;
use std::path::Path;

use sbnc_format::encoding::{ContentHasher, Packing};
use sbnc_format::manifest::{Manifest, Model, Provenance, Real, Rope, RopeStyle, Tokens};
use sbnc_format::writer::{ContentDigest, TensorSpec, TensorWriter, Writer};
use sbnc_format::{Encoding, Order, Pattern, Role};

/// Rows of trits and of numbers that are made at random; the rest repeats them.
const RANDOM_ROWS: usize = 512;

/// How to make a model.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The shape. `tensors` is filled from `roles`.
    pub model: Model,
    /// The parts that the model has.
    pub roles: Vec<&'static str>,
    /// How trits are stored.
    pub packing: Packing,
    /// How the embedding is stored.
    pub embed: Encoding,
    /// How the head is stored.
    pub head: Encoding,
    /// Roles of linear weights that are left dense, in bf16.
    pub dense: Vec<&'static str>,
    /// Roles whose tensors get other dimensions than they should.
    pub odd: Vec<(&'static str, Vec<u64>)>,
    /// A tensor that is named, but left out.
    pub missing: Option<String>,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Recipe {
    /// A small llama with split projections.
    pub fn small() -> Self {
        let model = Model {
            activation: "silu".to_owned(),
            activation_bits: 8,
            context: 64,
            family: "llama".to_owned(),
            head_dim: 16,
            heads: 4,
            hidden: 48,
            intermediate: 96,
            kv_heads: 2,
            layers: 2,
            norm_eps: Real::new(1e-5),
            rope: Rope { scaling: None, style: RopeStyle::Half, theta: Real::new(10_000.0) },
            tensors: BTreeMap::new(),
            tied: false,
            tokens: Tokens { bos: Some(1), eos: Some(vec![2]), pad: None },
            vocab: 40,
            window: None,
        };
        let roles = vec!["embed", "head", "norm", "attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down"];
        let packing = Packing { encoding: Encoding::T2, order: Order::Rows, pattern: Pattern::DENSE };
        Self {
            model,
            roles,
            packing,
            embed: Encoding::F32,
            head: Encoding::F32,
            dense: Vec::new(),
            odd: Vec::new(),
            missing: None,
            seed: 1,
        }
    }

    /// The shape of BitNet b1.58 2B-4T.
    pub fn bitnet_2b4t(packing: Packing) -> Self {
        let small = Self::small();
        let model = Model {
            activation: "relu2".to_owned(),
            context: 4096,
            family: "bitnet".to_owned(),
            head_dim: 128,
            heads: 20,
            hidden: 2560,
            intermediate: 6912,
            kv_heads: 5,
            layers: 30,
            rope: Rope { scaling: None, style: RopeStyle::Half, theta: Real::new(500_000.0) },
            tied: true,
            vocab: 128_256,
            ..small.model
        };
        let roles = small.roles.into_iter().filter(|r| *r != "head").chain(["attn_sub_norm", "ffn_sub_norm"]).collect();
        Self {
            model,
            roles,
            packing,
            embed: Encoding::Bf16,
            head: Encoding::Bf16,
            dense: Vec::new(),
            odd: Vec::new(),
            missing: None,
            seed: 1,
        }
    }

    /// The same model with more parts.
    pub fn with(mut self, roles: &[&'static str]) -> Self {
        self.roles.extend(roles);
        self
    }

    /// The same model without some parts.
    pub fn without(mut self, roles: &[&str]) -> Self {
        self.roles.retain(|role| !roles.contains(role));
        self
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        let mut model = self.model.clone();
        model.tensors = self.roles.iter().map(|role| ((*role).to_owned(), name(role))).collect();
        let provenance = Provenance {
            compiler: "sbnc-tests".to_owned(),
            kind: "random".to_owned(),
            options: BTreeMap::new(),
            rules: BTreeMap::new(),
            sources: Vec::new(),
        };
        let manifest = Manifest { files: Vec::new(), model: Some(model), provenance };
        let layers = 0..self.model.layers as usize;
        let (inside, outside): (Vec<&str>, Vec<&str>) = self.roles.iter().partition(|r| !is_outside(r));
        let tensors: Vec<(&str, usize)> = outside
            .iter()
            .map(|&role| (role, 0))
            .chain(layers.flat_map(|layer| inside.iter().map(move |&role| (role, layer))))
            .collect();
        let mut specs: Vec<TensorSpec> = tensors.iter().map(|&(role, layer)| self.spec(role, layer)).collect();
        specs.retain(|spec| self.missing.as_ref() != Some(&spec.name));
        let mut writer = Writer::create(path, specs.clone(), &manifest, &[]).expect("the recipe fits the format");
        for (i, spec) in specs.iter().enumerate() {
            let tensor = writer.tensor().expect("tensors come as planned");
            self.tensor(spec, &mut Random::new(self.seed * 1_000_003 + i as u64), tensor);
        }
        writer.seal(&manifest).expect("all tensors were written").commit().expect("the file can be written");
    }

    fn spec(&self, role: &str, layer: usize) -> TensorSpec {
        let name = name(role).replace("{}", &layer.to_string());
        let shape = self.shape(role);
        let dense = |role, encoding| TensorSpec {
            name: name.clone(),
            role,
            shape: shape.clone(),
            encoding,
            order: Order::Rows,
            pattern: Pattern::DENSE,
        };
        let Packing { encoding, order, pattern } = self.packing;
        match role {
            "embed" => dense(Role::Embedding, self.embed),
            "head" => dense(Role::Head, self.head),
            _ if shape.len() == 1 => dense(Role::Other, Encoding::F32),
            _ if self.dense.contains(&role) => dense(Role::Other, Encoding::Bf16),
            _ => TensorSpec { encoding, order, pattern, ..dense(Role::Linear, encoding) },
        }
    }

    /// The dimensions of a role's tensor.
    fn shape(&self, role: &str) -> Vec<u64> {
        if let Some((_, shape)) = self.odd.iter().find(|(odd, _)| *odd == role) {
            return shape.clone();
        }
        let m = &self.model;
        let (q, kv) = (m.heads * m.head_dim, m.kv_heads * m.head_dim);
        let input = |of: &str| match of {
            "o" => q,
            "down" => m.intermediate,
            _ => m.hidden,
        };
        let output = |of: &str| match of {
            "q" => q,
            "k" | "v" => kv,
            "gate" | "up" => m.intermediate,
            _ => m.hidden,
        };
        match role {
            "embed" | "head" => vec![m.vocab, m.hidden],
            "norm" | "attn_norm" | "ffn_norm" => vec![m.hidden],
            "q_norm" | "k_norm" => vec![m.head_dim],
            "attn_sub_norm" => vec![q],
            "ffn_sub_norm" => vec![m.intermediate],
            "qkv" => vec![q + 2 * kv, m.hidden],
            "gate_up" => vec![2 * m.intermediate, m.hidden],
            _ => match role.split_once('_') {
                Some((of, "bias")) => vec![output(of)],
                Some((of, "in_norm")) => vec![input(of)],
                _ => vec![output(role), input(role)],
            },
        }
    }

    fn tensor(&self, spec: &TensorSpec, random: &mut Random, mut tensor: TensorWriter<'_>) {
        let rows = if spec.shape.len() == 1 { 1 } else { spec.shape[0] as usize };
        let cols = spec.shape[spec.shape.len() - 1] as usize;
        let made = rows.min(RANDOM_ROWS);
        // Norms are near 1, everything else is near 0 and small enough to keep the stream small.
        let centre = if spec.name.ends_with("norm") { 1.0 } else { 0.0 };
        let mut put = |bytes: &[u8]| tensor.write(bytes).expect("the file can be written");
        let runs = (0..rows).step_by(made).map(|first| made.min(rows - first));
        if !spec.encoding.is_ternary() {
            let numbers: Vec<f32> = (0..made * cols).map(|_| centre + 0.2 * random.unit()).collect();
            let bytes: Vec<u8> = numbers.iter().flat_map(|&v| stored(spec.encoding, v)).collect();
            let row = bytes.len() / made;
            runs.for_each(|here| put(&bytes[..here * row]));
            let scales = vec![0.002; if spec.encoding == Encoding::I8 { rows } else { 0 }];
            return tensor.finish(&scales, ContentDigest::AsStored).expect("the file can be written");
        }
        let trits: Vec<i8> = (0..made * cols).map(|i| random.trit(i % cols, self.packing.pattern)).collect();
        let packing = spec.packing();
        let strip = packing.strip(cols);
        let mut bytes = vec![0; made.div_ceil(strip.rows) * strip.bytes];
        packing.encode(&trits, cols, &mut bytes).expect("random trits keep the pattern");
        let mut content = ContentHasher::default();
        for here in runs {
            content.update(&trits[..here * cols]);
            put(&bytes[..here.div_ceil(strip.rows) * strip.bytes]);
        }
        let scales: Vec<f32> = (0..rows).map(|row| (1.0 + (row % 5) as f32 / 10.0) / (cols as f32).sqrt()).collect();
        let scale_bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let content = content.finish(&scale_bytes);
        let digest = ContentDigest::Trits { digest: content.digest, non_zero: content.non_zero };
        tensor.finish(&scales, digest).expect("the file can be written");
    }
}

fn is_outside(role: &str) -> bool {
    matches!(role, "embed" | "head" | "norm")
}

fn name(role: &str) -> String {
    if is_outside(role) { role.to_owned() } else { format!("layers.{{}}.{role}") }
}

/// A number as its encoding stores it.
fn stored(encoding: Encoding, value: f32) -> Vec<u8> {
    match encoding {
        Encoding::F32 => value.to_le_bytes().to_vec(),
        Encoding::Bf16 => value.to_le_bytes()[2..].to_vec(),
        Encoding::I8 => vec![(value / 0.2 * 127.0) as i8 as u8],
        other => panic!("recipes store nothing in {}", other.name()),
    }
}

/// A small generator of random numbers.
struct Random {
    state: u64,
    /// Non-zeros that are left in the group.
    left: usize,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, left: 0 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// Between −1 and 1.
    fn unit(&mut self) -> f32 {
        self.next() as f32 / 2f32.powi(31) - 1.0
    }

    /// A trit at this column, of which a pattern allows some.
    fn trit(&mut self, col: usize, pattern: Pattern) -> i8 {
        let (n, m) = if pattern.is_dense() { (1, 1) } else { (pattern.n(), pattern.m()) };
        if col.is_multiple_of(m) {
            self.left = n;
        }
        let trit = [-1, 0, 1][(self.next() % 3) as usize];
        if self.left == 0 || trit == 0 {
            return 0;
        }
        self.left -= 1;
        trit
    }
}
