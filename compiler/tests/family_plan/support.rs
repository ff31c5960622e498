//! Descriptions of checkpoints to plan, and to spoil.

use sbnc::family::{Dtype, Facts, FamilyError, Options, Plan, TensorFact, plan};
use serde_json::{Value, json};

/// A checkpoint that owns its texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) config: Option<Value>,
    pub(crate) metadata: Option<Value>,
    pub(crate) generation: Option<Value>,
    pub(crate) tensors: Vec<TensorFact>,
    pub(crate) options: Options,
}

/// How the linear weights of a folder are stored.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stored {
    Latent,
    Packed,
    /// Dense trits, with a scale.
    Scaled,
}

impl Checkpoint {
    pub(crate) fn plan(&self) -> Result<Plan, FamilyError> {
        let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        let (config, metadata, generation) = (text(&self.config), text(&self.metadata), text(&self.generation));
        let facts = Facts {
            config: config.as_deref(),
            metadata: metadata.as_deref(),
            generation_config: generation.as_deref(),
            tensors: &self.tensors,
        };
        plan(&facts, &self.options)
    }

    /// Sets a key of `config.json`; the key is a path with dots.
    pub(crate) fn set(mut self, path: &str, value: Value) -> Self {
        *at(self.config.as_mut().unwrap(), path) = value;
        self
    }

    /// Sets an argument in `metadata.json`.
    pub(crate) fn set_arg(mut self, key: &str, value: Value) -> Self {
        self.metadata.as_mut().unwrap()["modelargs"][key] = value;
        self
    }

    pub(crate) fn remove(mut self, key: &str) -> Self {
        self.config.as_mut().unwrap().as_object_mut().unwrap().remove(key).unwrap();
        self
    }

    pub(crate) fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }

    pub(crate) fn with(mut self, name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        self.tensors.push(tensor(name, dtype, shape));
        self
    }

    /// Replaces a tensor.
    pub(crate) fn change(mut self, name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        let found = self.tensors.iter_mut().find(|fact| fact.name == name).unwrap();
        *found = tensor(name, dtype, shape);
        self
    }

    pub(crate) fn drop(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|fact| fact.name != name);
        assert_eq!(self.tensors.len() + 1, before, "{name}");
        self
    }

    pub(crate) fn rename(mut self, from: &str, to: &str) -> Self {
        self.tensors.iter_mut().for_each(|fact| fact.name = fact.name.replace(from, to));
        self
    }
}

fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, key| &mut value[key])
}

pub(crate) fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> TensorFact {
    TensorFact { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

/// Sizes of a model.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) hidden: u64,
    pub(crate) intermediate: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) head_dim: u64,
    pub(crate) vocab: u64,
}

pub(crate) const SMALL: Sizes =
    Sizes { hidden: 256, intermediate: 640, layers: 2, heads: 4, kv_heads: 2, head_dim: 64, vocab: 384 };

/// A folder of `model_type` with an untied head and no `quantization_config`.
pub(crate) fn folder(model_type: &str, sizes: Sizes, stored: Stored) -> Checkpoint {
    let Sizes { hidden, intermediate, layers, heads, kv_heads, head_dim, vocab } = sizes;
    let config = json!({
        "model_type": model_type, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "torch_dtype": "bfloat16", "tie_word_embeddings": false,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    let bf16 = |name: String, shape: &[u64]| tensor(&name, Dtype::BF16, shape);
    let mut tensors = vec![
        bf16("lm_head.weight".into(), &[vocab, hidden]),
        bf16("model.embed_tokens.weight".into(), &[vocab, hidden]),
        bf16("model.norm.weight".into(), &[hidden]),
    ];
    for layer in 0..layers {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        for norm in ["input_layernorm.weight", "post_attention_layernorm.weight"] {
            tensors.push(bf16(name(norm), &[hidden]));
        }
        for (projection, rows, cols) in [
            ("self_attn.q_proj", queries, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, queries),
            ("mlp.gate_proj", intermediate, hidden),
            ("mlp.up_proj", intermediate, hidden),
            ("mlp.down_proj", hidden, intermediate),
        ] {
            let weight = name(&format!("{projection}.weight"));
            match stored {
                Stored::Packed => tensors.push(tensor(&weight, Dtype::U8, &[rows / 4, cols])),
                Stored::Latent | Stored::Scaled => tensors.push(bf16(weight, &[rows, cols])),
            }
            if stored != Stored::Latent {
                tensors.push(bf16(name(&format!("{projection}.weight_scale")), &[1]));
            }
        }
        if model_type == "bitnet" {
            tensors.push(bf16(name("self_attn.attn_sub_norm.weight"), &[queries]));
            tensors.push(bf16(name("mlp.ffn_sub_norm.weight"), &[intermediate]));
        }
        if model_type == "qwen2" {
            for (projection, rows) in [("q", queries), ("k", keys), ("v", keys)] {
                tensors.push(bf16(name(&format!("self_attn.{projection}_proj.bias")), &[rows]));
            }
        }
        if model_type == "qwen3" {
            tensors.push(bf16(name("self_attn.q_norm.weight"), &[head_dim]));
            tensors.push(bf16(name("self_attn.k_norm.weight"), &[head_dim]));
        }
    }
    Checkpoint { config: Some(config), tensors, ..Checkpoint::default() }
}

/// A small llama, packed, as `bitlinear` stores it.
pub(crate) fn packed_llama() -> Checkpoint {
    folder("llama", SMALL, Stored::Packed).set("quantization_config", json!({"quant_method": "bitnet"}))
}

/// A small llama of latent weights.
pub(crate) fn online_llama() -> Checkpoint {
    let quantization =
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    folder("llama", SMALL, Stored::Latent).set("quantization_config", quantization)
}

/// A checkpoint of the Sparse-BitNet trainer with the pattern 6:8.
pub(crate) fn trainer(sizes: Sizes, fused: bool) -> Checkpoint {
    let Sizes { hidden, intermediate, layers, heads, kv_heads, head_dim, vocab } = sizes;
    let metadata = json!({"updates": 1, "modelargs": {
        "d_model": hidden, "d_ffn": intermediate, "head": heads, "kv_head": kv_heads, "n_layers": layers, "vocab_size": vocab,
        "max_seq_len": 4096, "norm_eps": 1e-5, "rope_theta": 500000.0, "weight_tying": false, "cross_entropy_chunk": 0,
        "bitlinear": true, "srelu": false, "a4": false, "universal_n_group": -1, "universal_group_size": -1,
        "universal_repeat_time": -1, "use_weight_semi_sparse": true, "sparse_n": 6, "sparse_m": 8,
    }});
    let keys = kv_heads * head_dim;
    let bf16 = |name: String, shape: &[u64]| tensor(&name, Dtype::BF16, shape);
    let mut tensors = vec![
        bf16("tok_embeddings.weight".into(), &[vocab, hidden]),
        bf16("norm.weight".into(), &[hidden]),
        bf16("output.weight".into(), &[vocab, hidden]),
    ];
    let attention: &[_] = match fused {
        true => &[("wqkv", hidden + 2 * keys)],
        false => &[("wq", hidden), ("wk", keys), ("wv", keys)],
    };
    let feed_forward: &[_] = match fused {
        true => &[("w13", 2 * intermediate)],
        false => &[("w1", intermediate), ("w3", intermediate)],
    };
    for layer in 0..layers {
        for (name, rows) in attention {
            tensors.push(bf16(format!("layers.{layer}.attention.{name}.weight"), &[*rows, hidden]));
        }
        for (name, rows) in feed_forward {
            tensors.push(bf16(format!("layers.{layer}.feed_forward.{name}.weight"), &[*rows, hidden]));
        }
        tensors.push(bf16(format!("layers.{layer}.attention.wo.weight"), &[hidden, hidden]));
        tensors.push(bf16(format!("layers.{layer}.feed_forward.w2.weight"), &[hidden, intermediate]));
        tensors.push(bf16(format!("layers.{layer}.attention_norm.weight"), &[hidden]));
        tensors.push(bf16(format!("layers.{layer}.ffn_norm.weight"), &[hidden]));
    }
    Checkpoint { metadata: Some(metadata), tensors, ..Checkpoint::default() }
}
