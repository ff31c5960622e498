//! Made-up reports of a model of the shape of BitNet b1.58 2B-4T, for looking at the page and for its tests. The weights are random;
//! what is said of them comes from the real quantiser.

use super::quantize::{Dtype, Latent, Nm, PartScale, QuantizeError, Stats, Ternariser, part_scale};
use super::{PartReport, PatternCost, Report, Size, TensorReport};

const LAYERS: u64 = 30;
const HIDDEN: u64 = 2560;
const KEYS: u64 = 640;
const FEED: u64 = 6912;
const VOCABULARY: u64 = 128_256;
/// Weights that stand for a tensor: a divisor of the number of weights of each.
const SAMPLED: (usize, usize) = (32, 2560);

/// What is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Latent weights, with a mask or without.
    Latent(Option<(usize, usize)>),
    /// Trits, of which only the zeros are counted.
    Packed,
}

/// The report; `layers` of it, at most 30.
pub(super) fn report(source: Source, layers: u64) -> Result<Report, QuantizeError> {
    let mut random = Random(0x5eed);
    let (mut tensors, mut would) =
        (vec![kept("model.embed_tokens.weight", "embed", None, &[VOCABULARY, HIDDEN])], Would::default());
    for layer in 0..layers.min(LAYERS) {
        let vector = |name: &str, role: &str, extent| {
            kept(&format!("model.layers.{layer}.{name}.weight"), role, Some(layer), &[extent])
        };
        tensors.push(vector("input_layernorm", "attn_norm", HIDDEN));
        let linears = [
            ("self_attn.q_proj", "q", [HIDDEN, HIDDEN], 1.18),
            ("self_attn.k_proj", "k", [KEYS, HIDDEN], 1.24),
            ("self_attn.v_proj", "v", [KEYS, HIDDEN], 1.06),
            ("self_attn.o_proj", "o", [HIDDEN, HIDDEN], 1.0),
            ("mlp.gate_proj", "gate", [FEED, HIDDEN], 1.12),
            ("mlp.up_proj", "up", [FEED, HIDDEN], 1.06),
            ("mlp.down_proj", "down", [HIDDEN, FEED], 1.03),
        ];
        for (name, role, shape, peak) in linears {
            let depth = layer as f64 / LAYERS as f64;
            let latent = latents(&mut random, peak + 0.5 * (depth - 0.5).powi(2), 0.02 * (1.0 + depth));
            let name = format!("model.layers.{layer}.{name}.weight");
            let tensor = TensorReport { role: role.into(), layer: Some(layer), ..ternary(name, &shape, source) };
            tensors.push(quantised(tensor, &latent, source, &mut would)?);
        }
        tensors.push(vector("self_attn.attn_sub_norm", "attn_sub_norm", HIDDEN));
        tensors.push(vector("post_attention_layernorm", "ffn_norm", HIDDEN));
        tensors.push(vector("mlp.ffn_sub_norm", "ffn_sub_norm", FEED));
    }
    tensors.push(kept("model.norm.weight", "norm", None, &[HIDDEN]));
    Ok(whole(source, tensors, &would))
}

fn whole(source: Source, tensors: Vec<TensorReport>, would: &Would) -> Report {
    let sum = |of: &dyn Fn(&TensorReport) -> f64| tensors.iter().map(of).sum::<f64>() as u64;
    let at = |bits: f64| sum(&|t| t.weights() as f64 / 8.0 * if t.is_ternary() { bits } else { t.stored_bits });
    let output_bytes = sum(&|t| t.stored_bytes as f64) + 9_400_000;
    let size = |form: &str, bytes| Size { form: form.into(), bytes };
    Report {
        input: "model.safetensors".into(),
        output: "bitnet-2b4t.sbnc".into(),
        compiler: "sbnc 0.1.0".into(),
        kind: if source == Source::Packed { "hf-packed" } else { "hf-latent" }.into(),
        model: Some(
            "bitnet: 30 layers, hidden 2560, feed-forward 6912, heads 20/5, vocabulary 128256, tied head".into(),
        ),
        pattern: match source {
            Source::Latent(Some((n, m))) => format!("{n}:{m}"),
            _ => "dense".into(),
        },
        root: "9f3a61c07d52e84bb1d06c9a27f4438e5ab0c1d2e3f405162738495a6b7c8d9e".into(),
        content: "27c18e5f90ab34d6721fce08b59a6d43c0ffee11d2b3a4958677869504f3e2d1".into(),
        input_bytes: sum(&|t| t.weights() as f64 * t.source_bits / 8.0),
        output_bytes,
        sizes: vec![
            size(Size::HERE, output_bytes),
            size("GGUF TQ1_0", at(1.6875)),
            size("GGUF TQ2_0", at(2.0625)),
            size("I2_S", at(2.0)),
            size("bf16", at(16.0).max(sum(&|t| t.weights() as f64 * 2.0))),
        ],
        costs: would.costs(),
        notes: vec![
            "lm_head.weight equals model.embed_tokens.weight byte for byte and is stored once".into(),
            "the embedding was quantised to int8, one scale per row: relative RMS error 0.7 %".into(),
        ],
        tensors,
    }
}

fn kept(name: &str, role: &str, layer: Option<u64>, shape: &[u64]) -> TensorReport {
    let weights: u64 = shape.iter().product();
    let int8 = role == "embed";
    let stored_bits = if int8 { 8.0 + 32.0 / HIDDEN as f64 } else { 16.0 };
    TensorReport {
        name: name.into(),
        role: role.into(),
        layer,
        shape: shape.into(),
        source_dtype: "BF16".into(),
        encoding: if int8 { "i8/rows" } else { "bf16/rows" }.into(),
        pattern: None,
        source_bits: 16.0,
        stored_bits,
        stored_bytes: (weights as f64 * stored_bits / 8.0) as u64,
        left: Some(if int8 { "rows are looked up, not multiplied" } else { "a norm's weight is a vector" }.into()),
        int8_error: int8.then_some([0.0071, 0.0132]),
        zeros: None,
        parts: Vec::new(),
    }
}

fn ternary(name: String, shape: &[u64; 2], source: Source) -> TensorReport {
    let (encoding, bits) = match source {
        Source::Latent(Some((2, 4))) => ("nm-6b/fragments", 1.5),
        Source::Latent(Some(_)) => ("t5/rows", 1.6),
        _ => ("t2/rows", 2.0),
    };
    let pattern = match source {
        Source::Latent(Some((n, m))) => format!("{n}:{m}"),
        _ => "dense".into(),
    };
    let stored_bits = bits + 32.0 / shape[1] as f64;
    TensorReport {
        source_dtype: if source == Source::Packed { "U8" } else { "BF16" }.into(),
        source_bits: if source == Source::Packed { 2.0 } else { 16.0 },
        encoding: encoding.into(),
        pattern: Some(pattern),
        stored_bits,
        stored_bytes: (shape.iter().product::<u64>() as f64 * stored_bits / 8.0) as u64,
        left: None,
        ..kept(&name, "linear", None, shape)
    }
}

fn quantised(
    tensor: TensorReport,
    bytes: &[u8],
    source: Source,
    would: &mut Would,
) -> Result<TensorReport, QuantizeError> {
    let latent = Latent::new(bytes, SAMPLED.0, SAMPLED.1, Dtype::Bf16)?;
    let PartScale::Scale(scale) = part_scale(&latent, 0..SAMPLED.0)? else { return Ok(tensor) };
    let times = tensor.weights() / latent_weights();
    let stats = |nm: Option<(usize, usize)>| -> Result<Stats, QuantizeError> {
        let nm = nm.map(|(n, m)| Nm::new(n, m)).transpose()?;
        let mut trits = vec![0; SAMPLED.0 * SAMPLED.1];
        let one = Ternariser::new(Dtype::Bf16, scale, nm)?.part_with_stats(&latent, 0..SAMPLED.0, &mut trits)?;
        // Doubling, to repeat the sample as often as the tensor holds it.
        let (mut sum, mut power) = (Stats::default(), one);
        for bit in 0..u64::BITS - times.leading_zeros() {
            if times >> bit & 1 == 1 {
                sum.merge(&power);
            }
            power.merge(&power.clone());
        }
        Ok(sum)
    };
    let nm = if let Source::Latent(nm) = source { nm } else { None };
    if source == Source::Latent(None) {
        would.add(&stats(Some((2, 4)))?, &stats(Some((6, 8)))?);
    }
    let stats = stats(nm)?;
    let zeros = Some(stats.after.zero as f64 / stats.weights() as f64);
    let parts = match source {
        Source::Packed => Vec::new(),
        Source::Latent(_) => vec![PartReport::new(0, tensor.shape[0], scale, &stats)],
    };
    Ok(TensorReport { zeros, parts, ..tensor })
}

const fn latent_weights() -> u64 {
    (SAMPLED.0 * SAMPLED.1) as u64
}

/// What 2:4 and 6:8 would do to a model without a pattern.
#[derive(Default)]
struct Would([Stats; 2]);

impl Would {
    fn add(&mut self, two_of_four: &Stats, six_of_eight: &Stats) {
        self.0[0].merge(two_of_four);
        self.0[1].merge(six_of_eight);
    }

    fn costs(&self) -> Vec<PatternCost> {
        let measured = ["2:4", "6:8"].into_iter().zip(&self.0).filter(|(_, stats)| stats.groups > 0);
        measured
            .map(|(pattern, stats)| PatternCost {
                pattern: pattern.into(),
                removed: stats.removed() as f64 / stats.weights() as f64,
                natural_groups: 1.0 - stats.violated_groups as f64 / stats.groups as f64,
            })
            .collect()
    }
}

/// Weights about as peaked as a Laplace distribution, which is where trained ones lie; the higher `peak`, the more zeros.
fn latents(random: &mut Random, peak: f64, deviation: f64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * SAMPLED.0 * SAMPLED.1);
    for _ in 0..SAMPLED.0 * SAMPLED.1 {
        let size = (-random.uniform().ln()).powf(peak);
        let normal = (-2.0 * random.uniform().ln()).sqrt() * (std::f64::consts::TAU * random.uniform()).cos();
        let signed = if random.uniform() < 0.5 { size } else { -size };
        // bf16 is the upper half of f32; truncation is good enough here.
        let word = ((deviation * (signed + 0.12 * normal)) as f32).to_bits() >> 16;
        bytes.extend((word as u16).to_le_bytes());
    }
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
}
