//! Small real files: every encoding, order and pattern, carried files and a model, written by the crate's own writer.
//!
//! Shared by the tests of this folder and by the fuzz targets, which take these files as seeds.
#![allow(dead_code, reason = "every test binary uses its own part of this module")]
#![allow(unreachable_pub, reason = "for the fuzz targets it is part of a library")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod parts;
pub mod reseal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sbnc_format::encoding::ContentHasher;
use sbnc_format::manifest::{Manifest, Model, Provenance, Real, Rope, RopeStyle, RopeValue, Source, Tokens};
use sbnc_format::writer::{Carried, ContentDigest, TensorSpec, Writer};
use sbnc_format::{Digest, Encoding, Order, Packing, Pattern, Role};

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// Rows of trits that keep `pattern`; groups are between empty and full.
    pub fn trits(&mut self, rows: usize, cols: usize, pattern: Pattern) -> Vec<i8> {
        let mut trits = vec![0; rows * cols];
        if pattern.is_dense() {
            trits.fill_with(|| self.below(3) as i8 - 1);
            return trits;
        }
        for group in trits.chunks_exact_mut(pattern.m()) {
            for _ in 0..self.below(pattern.n() + 1) {
                group[self.below(pattern.m())] = if self.below(2) == 0 { 1 } else { -1 };
            }
        }
        trits
    }
}

/// A tensor and everything that the writer wants to know of it.
pub struct Sample {
    pub spec: TensorSpec,
    pub data: Vec<u8>,
    pub scales: Vec<f32>,
    pub content: ContentDigest,
}

impl Sample {
    /// A tensor of floats or int8 with the bytes of small finite values.
    pub fn values(random: &mut Random, name: &str, role: Role, encoding: Encoding, shape: &[u64]) -> Self {
        let elements = shape.iter().product::<u64>() as usize;
        let mut data = Vec::new();
        for _ in 0..elements {
            let value = random.below(200) as i16 - 100;
            match encoding {
                Encoding::F32 => data.extend((f32::from(value) / 8.0).to_le_bytes()),
                Encoding::Bf16 => data.extend(&(f32::from(value)).to_le_bytes()[2..]),
                // Any exponent below the highest is finite.
                Encoding::F16 => data.extend((0x3C00 | (value & 0xFF)).to_le_bytes()),
                _ => data.push(value as u8),
            }
        }
        let scales = if encoding == Encoding::I8 { shape[0] } else { 0 };
        let spec = TensorSpec {
            name: name.to_owned(),
            role,
            shape: shape.to_vec(),
            encoding,
            order: Order::Rows,
            pattern: Pattern::DENSE,
        };
        Self { spec, data, scales: scales_of(scales as usize), content: ContentDigest::AsStored }
    }

    /// A linear layer.
    pub fn trits(
        random: &mut Random,
        name: &str,
        (encoding, order): (Encoding, Order),
        (rows, cols): (usize, usize),
        pattern: Pattern,
    ) -> Self {
        let trits = random.trits(rows, cols, pattern);
        let packing = Packing { encoding, order, pattern };
        let strip = packing.strip(cols);
        let mut data = vec![0; rows.div_ceil(strip.rows) * strip.bytes];
        packing.encode(&trits, cols, &mut data).unwrap();
        let scales = scales_of(rows);
        let mut hasher = ContentHasher::default();
        hasher.update(&trits);
        let scale_bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let content = hasher.finish(&scale_bytes);
        let spec = TensorSpec {
            name: name.to_owned(),
            role: Role::Linear,
            shape: vec![rows as u64, cols as u64],
            encoding,
            order,
            pattern,
        };
        let content = ContentDigest::Trits { digest: content.digest, non_zero: content.non_zero };
        Self { spec, data, scales, content }
    }
}

fn scales_of(rows: usize) -> Vec<f32> {
    (0..rows).map(|row| 0.25 + row as f32).collect()
}

/// The pattern `n:m`.
pub fn pattern(n: u8, m: u8) -> Pattern {
    Pattern::new(n, m).unwrap()
}

/// A tensor of every encoding, order and kind of pattern, with rows and columns that do not fill strips.
pub fn every_encoding() -> Vec<Sample> {
    use Encoding::{Bf16, F16, F32, I8, Nm6b, NmVi, T2, T5};
    use Order::{Fragments, Rows, Windows};
    let r = &mut Random(1);
    let dense = Pattern::DENSE;
    vec![
        Sample::values(r, "model.norm.weight", Role::Norm, F32, &[5]),
        Sample::values(r, "model.f16", Role::Other, F16, &[3, 1, 2, 7]),
        Sample::values(r, "model.head", Role::Head, Bf16, &[2, 3, 4]),
        Sample::values(r, "model.embed_tokens.weight", Role::Embedding, I8, &[5, 9]),
        Sample::trits(r, "t2.dense", (T2, Rows), (3, 9), dense),
        Sample::trits(r, "t2.5of7", (T2, Rows), (3, 14), pattern(5, 7)),
        Sample::trits(r, "t5.dense", (T5, Rows), (4, 11), dense),
        Sample::trits(r, "t5.2of4", (T5, Rows), (2, 12), pattern(2, 4)),
        Sample::trits(r, "nm-6b.2of4", (Nm6b, Rows), (3, 20), pattern(2, 4)),
        Sample::trits(r, "nm-6b.1of4", (Nm6b, Rows), (2, 16), pattern(1, 4)),
        Sample::trits(r, "fragments.2of4", (NmVi, Fragments), (17, 132), pattern(2, 4)),
        Sample::trits(r, "fragments.1of4", (NmVi, Fragments), (9, 8), pattern(1, 4)),
        Sample::trits(r, "windows.4of6", (NmVi, Windows), (3, 12), pattern(4, 6)),
        Sample::trits(r, "windows.6of8", (NmVi, Windows), (18, 96), pattern(6, 8)),
        Sample::trits(r, "windows.8of10", (NmVi, Windows), (2, 20), pattern(8, 10)),
        Sample::trits(r, "windows.10of12", (NmVi, Windows), (2, 24), pattern(10, 12)),
        Sample::trits(r, "windows.12of14", (NmVi, Windows), (2, 14), pattern(12, 14)),
        Sample::trits(r, "windows.14of16", (NmVi, Windows), (2, 32), pattern(14, 16)),
    ]
}

/// Two carried files, one that compresses and one that does not.
pub fn carried() -> Vec<Carried> {
    let mut random = Random(2);
    let noise: Vec<u8> = (0..100).map(|_| random.number() as u8).collect();
    let text = "{\"token\":1}".repeat(50);
    vec![Carried::new("noise.bin", &noise).unwrap(), Carried::new("tokenizer.json", text.as_bytes()).unwrap()]
}

/// A manifest with every member.
pub fn manifest(carried: &[Carried]) -> Manifest {
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Manifest {
        files: carried.iter().map(|c| c.entry.clone()).collect(),
        model: Some(Model {
            activation: "relu2".to_owned(),
            activation_bits: 8,
            context: 4096,
            family: "bitnet".to_owned(),
            head_dim: 16,
            heads: 4,
            hidden: 64,
            intermediate: 128,
            kv_heads: 2,
            layers: 1,
            norm_eps: Real::new(1e-5),
            rope: Rope {
                scaling: Some(BTreeMap::from([
                    ("factor".to_owned(), RopeValue::Text("8.0".to_owned())),
                    ("original".to_owned(), RopeValue::Integer(2048)),
                ])),
                style: RopeStyle::Half,
                theta: Real::new(500_000.0),
            },
            tensors: text(&[("embed", "model.embed_tokens.weight"), ("q", "layers.{}.q")]),
            tied: false,
            tokens: Tokens { bos: Some(1), eos: Some(vec![2, 3]), pad: Some(0) },
            vocab: 5,
            window: Some(512),
        }),
        provenance: Provenance {
            compiler: "test 1".to_owned(),
            kind: "none".to_owned(),
            options: text(&[("pattern", "2:4")]),
            rules: text(&[("scale", "absmean")]),
            sources: vec![Source { blake3: "0".repeat(64), bytes: 7, name: "model.safetensors".to_owned() }],
        },
    }
}

/// The smallest manifest.
pub fn bare_manifest() -> Manifest {
    Manifest { model: None, ..manifest(&[]) }
}

/// A path in the temporary folder that no other test uses.
pub fn scratch(name: &str) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join(format!(
        "sbnc-format-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Removes a path of [`scratch`] and its folder.
pub fn sweep(path: &Path) {
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// Writes the samples to a writer that was planned for them.
pub fn write(writer: &mut Writer, samples: &[Sample]) {
    for sample in samples {
        let mut tensor = writer.tensor().unwrap();
        // In two pieces, because pieces must not matter.
        let (head, tail) = sample.data.split_at(sample.data.len() / 2);
        tensor.write(head).unwrap();
        tensor.write(tail).unwrap();
        tensor.finish(&sample.scales, sample.content).unwrap();
    }
}

pub fn specs(samples: &[Sample]) -> Vec<TensorSpec> {
    samples.iter().map(|s| s.spec.clone()).collect()
}

/// The bytes of a file, and its root digest as the writer says it.
pub fn build_with(samples: &[Sample], manifest: &Manifest, carried: &[Carried]) -> (Vec<u8>, Digest) {
    let path = scratch("built.sbnc");
    let mut writer = Writer::create(&path, specs(samples), manifest, carried).unwrap();
    write(&mut writer, samples);
    let root = writer.seal(manifest).unwrap().commit().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    sweep(&path);
    (bytes, root)
}

/// A file with everything in it.
pub fn whole() -> Vec<u8> {
    let carried = carried();
    build_with(&every_encoding(), &manifest(&carried), &carried).0
}

/// A file with everything in it that is exactly `bytes` long: a last tensor fills it up.
pub fn whole_of(bytes: usize) -> Vec<u8> {
    let carried = carried();
    let manifest = manifest(&carried);
    let filler = |elements: u64| {
        let mut samples = every_encoding();
        samples.push(Sample::values(&mut Random(3), "filler", Role::Other, Encoding::Bf16, &[elements]));
        build_with(&samples, &manifest, &carried).0
    };
    let shortest = filler(1).len();
    let file = filler(1 + (bytes.checked_sub(shortest).unwrap() / 2) as u64);
    assert_eq!(file.len(), bytes);
    file
}

/// A file of one tensor.
pub fn one(sample: Sample) -> Vec<u8> {
    build_with(&[sample], &bare_manifest(), &[]).0
}
