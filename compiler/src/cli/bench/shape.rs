//! Models of a shape with random weights: a file to measure with, where nobody has to download one.
//!
//! Random trits are made for one strip of rows and written again and again from different places: kernels do not know, and two billion weights take a second.
//! The file has no name when it is used, so nothing is left behind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sbnc_format::manifest::{Manifest, Model, Provenance, Real, Rope, RopeStyle, Tokens};
use sbnc_format::writer::{ContentDigest, TensorSpec, Writer};
use sbnc_format::{Digest, Encoding, Order, Packing, Pattern, Role};
use sbnc_runtime::Options;
use sbnc_runtime::sampling::random::Random;

use super::Head;
use crate::cli::arguments::EncodingChoice;
use crate::error::{Error, Exit, Result};

/// Known shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    #[value(name = "bitnet-2b4t")]
    Bitnet2b4t,
    #[value(name = "llama3-8b")]
    Llama38b,
    #[value(name = "qwen2.5-0.5b")]
    Qwen25Half,
    /// Too small to say anything about speed
    Tiny,
}

struct Numbers {
    family: &'static str,
    activation: &'static str,
    hidden: u64,
    intermediate: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    vocab: u64,
    context: u64,
    theta: f64,
    tied: bool,
    sub_norms: bool,
}

/// How the trits of all linears are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    pub(super) pattern: Pattern,
    pub(super) encoding: EncodingChoice,
    pub(super) head: Head,
}

impl Shape {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }

    fn numbers(self) -> Numbers {
        let bitnet = Numbers {
            family: "bitnet",
            activation: "relu2",
            hidden: 2560,
            intermediate: 6912,
            layers: 30,
            heads: 20,
            kv_heads: 5,
            vocab: 128_256,
            context: 4096,
            theta: 500_000.0,
            tied: true,
            sub_norms: true,
        };
        match self {
            Self::Bitnet2b4t => bitnet,
            Self::Llama38b => Numbers {
                family: "llama",
                activation: "silu",
                hidden: 4096,
                intermediate: 14_336,
                layers: 32,
                heads: 32,
                kv_heads: 8,
                tied: false,
                sub_norms: false,
                ..bitnet
            },
            Self::Qwen25Half => Numbers {
                family: "sparse-bitnet",
                activation: "silu",
                hidden: 896,
                intermediate: 4864,
                layers: 24,
                heads: 14,
                kv_heads: 2,
                tied: false,
                sub_norms: false,
                ..bitnet
            },
            Self::Tiny => {
                Numbers { hidden: 256, intermediate: 768, layers: 2, heads: 4, kv_heads: 2, vocab: 1024, ..bitnet }
            }
        }
    }

    /// Makes a model of this shape and opens it.
    pub(super) fn open(self, weights: Weights, options: &Options) -> Result<sbnc_runtime::Model> {
        let path = std::env::temp_dir().join(format!("sbnc-bench-{}.sbnc", std::process::id()));
        let removed = Removed(path);
        self.write(weights, &removed.0)?;
        // Read, not mapped: in which pages a file is that was just written is chance, and what is measured is a model. A file that is named is mapped.
        Ok(options.clone().mmap(false).open(&removed.0)?)
    }

    fn write(self, weights: Weights, path: &Path) -> Result<()> {
        let numbers = self.numbers();
        let packing = weights.packing()?;
        let m = packing.pattern.m() as u64;
        if let Some((role, _, cols)) = numbers.layer().iter().find(|(_, _, cols)| m > 1 && cols % m != 0) {
            let message =
                format!("--nm: expected groups that fit the {cols} columns of {role}, found {}", weights.pattern);
            return Err(Error::new(Exit::Usage, message));
        }
        let specs = numbers.specs(packing, weights.head);
        let manifest = numbers.manifest();
        let mut writer = Writer::create(path, specs.clone(), &manifest, &[])?;
        let mut random = Random::new(1);
        let mut strips: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let floats = block(&mut random);
        for spec in &specs {
            crate::interrupt::check()?;
            let (rows, cols) = (spec.shape[0], spec.shape.get(1).copied().unwrap_or(1));
            let mut tensor = writer.tensor()?;
            if spec.role == Role::Linear {
                let strip = packing.strip(cols as usize);
                let strips = match strips.entry(cols) {
                    Entry::Occupied(made) => made.into_mut(),
                    Entry::Vacant(place) => place.insert(make_strips(packing, cols as usize, &mut random)?),
                };
                let mut left = rows.div_ceil(strip.rows as u64) as usize * strip.bytes;
                let mut start = random.next_u64() as usize % STRIPS * strip.bytes;
                while left > 0 {
                    let piece = left.min(strips.len() - start);
                    tensor.write(&strips[start..start + piece])?;
                    (left, start) = (left - piece, 0);
                }
                let scales = vec![0.02; rows as usize];
                // Nothing looks at this digest: the file is never verified.
                tensor.finish(&scales, ContentDigest::Trits { digest: Digest([0; 32]), non_zero: 0 })?;
                continue;
            }
            let (mut left, ones) = ((rows * cols) as usize * width(spec.encoding), spec.role == Role::Norm);
            while left > 0 {
                let piece = left.min(floats.len());
                if ones {
                    tensor.write(&1f32.to_le_bytes().repeat(piece / 4))?;
                } else {
                    tensor.write(&floats[..piece])?;
                }
                left -= piece;
            }
            let scales = if spec.encoding == Encoding::I8 { vec![2e-4; rows as usize] } else { Vec::new() };
            tensor.finish(&scales, ContentDigest::AsStored)?;
        }
        writer.seal(&manifest)?.commit()?;
        Ok(())
    }
}

/// A file that is removed when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Weights {
    fn packing(self) -> Result<Packing> {
        let pattern = self.pattern;
        let (n, m) = (pattern.n(), pattern.m());
        let encoding = match self.encoding {
            EncodingChoice::Auto if m == 4 && n <= 2 => Encoding::NmVi,
            EncodingChoice::Auto | EncodingChoice::T5 => Encoding::T5,
            EncodingChoice::T2 => Encoding::T2,
            EncodingChoice::NmVi => Encoding::NmVi,
            EncodingChoice::Nm6b => Encoding::Nm6b,
        };
        let order = match encoding {
            Encoding::NmVi if m == 4 => Order::Fragments,
            Encoding::NmVi => Order::Windows,
            _ => Order::Rows,
        };
        let packing = Packing { encoding, order, pattern };
        if packing.is_possible() {
            return Ok(packing);
        }
        let message = format!("--encoding: expected one that holds {pattern}, found {}", encoding.name());
        Err(Error::new(Exit::Usage, message))
    }
}

/// Different strips that are made of each width.
const STRIPS: usize = 8;

fn make_strips(packing: Packing, cols: usize, random: &mut Random) -> Result<Vec<u8>> {
    let strip = packing.strip(cols);
    let (n, m) = if packing.pattern.is_dense() { (1, 1) } else { (packing.pattern.n(), packing.pattern.m()) };
    let mut trits = vec![0i8; STRIPS * strip.rows * cols];
    for group in trits.chunks_mut(m) {
        let mut left = n;
        let turn = random.next_u64();
        for i in 0..group.len() {
            // Some are zero, as trained weights are; of the others no more than the pattern allows, from a random place on.
            let trit = [-1, 0, 1, -1, 1, 0, 1][(turn >> (7 * (i % 8)) & 127) as usize % 7];
            if trit != 0 && left > 0 {
                group[(i + (turn >> 59) as usize) % group.len()] = trit;
                left -= 1;
            }
        }
    }
    let mut bytes = vec![0; STRIPS * strip.bytes];
    let illegal = |e| Error::new(Exit::Invalid, format!("random weights: {e:?}"));
    packing.encode(&trits, cols, &mut bytes).map_err(illegal)?;
    Ok(bytes)
}

/// Small bf16 numbers, whose bytes are int8 numbers too: −128 is none.
fn block(random: &mut Random) -> Vec<u8> {
    let value = |bits: u64| (((bits >> 63) << 15 | (116 + (bits >> 8) % 6) << 7 | bits & 127) as u16).to_le_bytes();
    let bytes = (0..1 << 20).flat_map(|_| value(random.next_u64()));
    bytes.map(|byte| if byte == 0x80 { 0x81 } else { byte }).collect()
}

fn width(encoding: Encoding) -> usize {
    match encoding {
        Encoding::F32 => 4,
        Encoding::I8 => 1,
        _ => 2,
    }
}

impl Numbers {
    /// Roles of a layer, with rows and columns; no columns for norms.
    fn layer(&self) -> Vec<(&'static str, u64, u64)> {
        let Self { hidden, intermediate, heads, kv_heads, .. } = *self;
        let kv = hidden / heads * kv_heads;
        let mut roles = vec![
            ("attn_norm", hidden, 0),
            ("q", hidden, hidden),
            ("k", kv, hidden),
            ("v", kv, hidden),
            ("o", hidden, hidden),
            ("ffn_norm", hidden, 0),
            ("gate", intermediate, hidden),
            ("up", intermediate, hidden),
            ("down", hidden, intermediate),
        ];
        if self.sub_norms {
            roles.extend([("attn_sub_norm", hidden, 0), ("ffn_sub_norm", intermediate, 0)]);
        }
        roles
    }

    fn specs(&self, packing: Packing, head: Head) -> Vec<TensorSpec> {
        let Packing { encoding, order, pattern } = packing;
        let plain = |name: &str, role, shape: &[u64], encoding| TensorSpec {
            name: name.to_owned(),
            role,
            shape: shape.to_vec(),
            encoding,
            order: Order::Rows,
            pattern: Pattern::DENSE,
        };
        let chosen = if head == Head::Int8 { Encoding::I8 } else { Encoding::Bf16 };
        let table = [self.vocab, self.hidden];
        let mut specs = vec![plain("embed", Role::Embedding, &table, if self.tied { chosen } else { Encoding::Bf16 })];
        for layer in 0..self.layers {
            for (role, rows, cols) in self.layer() {
                let name = format!("layers.{layer}.{role}");
                specs.push(match cols {
                    0 => plain(&name, Role::Norm, &[rows], Encoding::F32),
                    _ => TensorSpec { name, role: Role::Linear, shape: vec![rows, cols], encoding, order, pattern },
                });
            }
        }
        specs.push(plain("norm", Role::Norm, &[self.hidden], Encoding::F32));
        if !self.tied {
            specs.push(plain("head", Role::Head, &table, chosen));
        }
        specs
    }

    fn manifest(&self) -> Manifest {
        let layer = self.layer().into_iter().map(|(role, ..)| (role.to_owned(), format!("layers.{{}}.{role}")));
        let whole = ["embed", "norm"].into_iter().chain((!self.tied).then_some("head"));
        let tensors = layer.chain(whole.map(|role| (role.to_owned(), role.to_owned()))).collect();
        let model = Model {
            activation: self.activation.to_owned(),
            activation_bits: 8,
            context: self.context,
            family: self.family.to_owned(),
            head_dim: self.hidden / self.heads,
            heads: self.heads,
            hidden: self.hidden,
            intermediate: self.intermediate,
            kv_heads: self.kv_heads,
            layers: self.layers,
            norm_eps: Real::new(1e-5),
            rope: Rope { scaling: None, style: RopeStyle::Half, theta: Real::new(self.theta) },
            tensors,
            tied: self.tied,
            tokens: Tokens::default(),
            vocab: self.vocab,
            window: None,
        };
        let provenance = Provenance {
            compiler: concat!("sbnc ", env!("CARGO_PKG_VERSION")).to_owned(),
            kind: "random".to_owned(),
            options: BTreeMap::new(),
            rules: BTreeMap::new(),
            sources: Vec::new(),
        };
        Manifest { files: Vec::new(), model: Some(model), provenance }
    }
}
