//! Golden models, compiled and opened, and how numbers are compared.

use std::fs;
use std::path::PathBuf;

use sbnc_runtime::{Isa, Model, Platform};
use sbnc_tests::{Tensors, f32s, folder, golden, run};
use tempfile::TempDir;

/// A golden model, compiled.
pub(crate) struct Golden {
    pub(crate) file: PathBuf,
    pub(crate) prompts: Vec<Prompt>,
    _folder: TempDir,
}

/// A prompt and what the model's own code says to it.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    /// Rows of the vocabulary, one for each token.
    pub(crate) logits: Vec<f32>,
    /// The tokens that follow greedily, each with the margin between the best and the second logit.
    pub(crate) greedy: Vec<(u32, f64)>,
}

pub(crate) const NAMES: [&str; 3] = ["hf-bitnet-latent-2of4", "hf-llama-packed-bitlinear", "sparsebitnet-6of8"];

impl Golden {
    /// Compiles the golden model `name`; `None` where the machine has none.
    pub(crate) fn compile(name: &str, options: &[&str]) -> Option<Self> {
        let source = golden(name)?;
        let folder = folder();
        let file = folder.path().join("model.sbnc");
        let mut arguments = vec!["compile".into(), source.clone().into_os_string()];
        arguments.extend(["-o".into(), file.clone().into_os_string()]);
        // What the checkpoint of this model does not say.
        let pattern: &[&str] = if name == "hf-bitnet-latent-2of4" { &["--nm", "2:4"] } else { &[] };
        arguments.extend(pattern.iter().chain(options).map(Into::into));
        run(&arguments).expect_code(0);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(source.join("golden.json")).unwrap()).unwrap();
        let logits = Tensors::read(&source.join("golden_logits.safetensors"));
        let prompts = json["prompts"].as_array().unwrap().iter().enumerate();
        let prompts = prompts
            .map(|(i, tokens)| {
                let greedy = &json["greedy"][i];
                let margins = greedy["margins"].as_array().unwrap().iter().map(|m| m.as_f64().unwrap());
                Prompt {
                    tokens: ids(tokens),
                    logits: f32s(&logits.get(&format!("logits.{i}")).2),
                    greedy: ids(&greedy["ids"]).into_iter().zip(margins).collect(),
                }
            })
            .collect();
        Some(Self { file, prompts, _folder: folder })
    }

    pub(crate) fn open(&self, platform: Platform, threads: usize) -> Model {
        Model::options().platform(platform).threads(threads).open(&self.file).unwrap()
    }
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The platforms of this machine, the plainest first.
pub(crate) fn platforms() -> Vec<Platform> {
    Platform::available().collect()
}

/// The best platform, which stands for all where the platform does not matter.
pub(crate) fn best() -> Platform {
    Platform::detect()
}

/// The name of a platform.
pub(crate) fn name(platform: Platform) -> &'static str {
    Isa::name(platform.isa())
}

/// `|a − b| / |b|`.
#[track_caller]
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

/// The token with the largest logit.
pub(crate) fn best_token(logits: &[f32]) -> u32 {
    (0..logits.len() as u32).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize])).unwrap()
}

/// Checks that rows of `width` numbers, of consecutive positions, are the same but for the order of sums in f32. Where an input lies between two
/// integers, that order decides, and moves this row and, through the cache, those after it by up to a hundredth (the weights are random; which rows it hits
/// depends on the processor). The rows before are equal, and anything that is wrong moves rows by more.
#[track_caller]
pub(crate) fn assert_same(found: &[f32], expected: &[f32], width: usize, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let rows = found.chunks_exact(width).zip(expected.chunks_exact(width));
    let errors: Vec<f64> = rows.map(|(found, expected)| distance(found, expected)).collect();
    let most = errors.iter().copied().fold(0.0, f64::max);
    assert!(errors[0] < 1e-5 && most < 0.05, "{what}: {:.1e} in the first row, at most {most:.1e}", errors[0]);
}
