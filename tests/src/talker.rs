//! A tiny model that can talk: random weights, a byte-level tokenizer, a chat template, everything that a model's folder has.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

/// Entries of the vocabulary; the tokenizer knows fewer, as with real models.
pub const VOCAB: usize = 320;
/// The token that begins a text.
pub const BEGIN: u32 = 280;
/// The token that ends a text.
pub const END: u32 = 281;

const HIDDEN: usize = 128;
const INTERMEDIATE: usize = 256;
const LAYERS: usize = 2;
const SPECIALS: [&str; 4] = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"];
/// Pairs that are joined, in this order; the tokens from 256 on.
const MERGES: [(&str, &str); 24] = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "t"),
    ("Ġt", "he"),
    ("h", "e"),
    ("i", "n"),
    ("e", "r"),
    ("o", "n"),
    ("a", "n"),
    ("an", "d"),
    ("Ġ", "and"),
    ("Ġ", "a"),
    ("l", "l"),
    ("o", "u"),
    ("Ġ", "w"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġw", "or"),
    ("o", "r"),
    ("Ġ", "o"),
    ("Ã", "©"),
    ("æ", "Ĺ"),
    ("Ċ", "Ċ"),
    ("Ġ", "Ġ"),
];
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n' }}{% elif m.role in ['user', 'assistant'] %}{{ '<|' + m.role + '|>' + m.content + '\n' }}{% else %}{{ raise_exception('unknown role ' + m.role) }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Writes the model's folder.
pub fn talker(folder: &Path) {
    let write = |name: &str, value: &Value| {
        fs::write(folder.join(name), format!("{value:#}\n")).expect("the folder can be written");
    };
    write("config.json", &config());
    write("generation_config.json", &json!({ "bos_token_id": BEGIN, "eos_token_id": [END], "do_sample": false }));
    write("tokenizer.json", &tokenizer());
    write(
        "tokenizer_config.json",
        &json!({ "bos_token": SPECIALS[0], "eos_token": { "content": SPECIALS[1] }, "chat_template": TEMPLATE }),
    );
    weights(&folder.join("model.safetensors"));
}

fn config() -> Value {
    json!({
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_act": "relu2",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "vocab_size": VOCAB,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "torch_dtype": "bfloat16",
        "quantization_config": { "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online" },
    })
}

fn tokenizer() -> Value {
    // The alphabet in which tokenizers of this kind write bytes: printable ones as they are, the others from U+0100 on.
    let mut shifted = 0x100;
    let mut vocab = Map::new();
    for byte in 0..=255u32 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte } else { shifted };
        shifted += u32::from(!printable);
        let character = char::from_u32(code).expect("a character");
        vocab.insert(character.to_string(), byte.into());
    }
    for (i, (a, b)) in MERGES.iter().enumerate() {
        vocab.insert(format!("{a}{b}"), (256 + i).into());
    }
    let added = SPECIALS.iter().enumerate().map(|(i, content)| {
        json!({ "id": BEGIN as usize + i, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": SPECIALS[0], "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { SPECIALS[0]: { "id": SPECIALS[0], "ids": [BEGIN], "tokens": [SPECIALS[0]] } },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab,
            "merges": MERGES.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>(),
        },
    })
}

fn weights(path: &Path) {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let parts: [(&str, &[usize]); 11] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.attn_sub_norm", &[HIDDEN]),
            ("mlp.ffn_sub_norm", &[INTERMEDIATE]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", &[HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", &[HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("mlp.gate_proj", &[INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", &[INTERMEDIATE, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, INTERMEDIATE]),
        ];
        for (name, shape) in parts {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        }
    }
    let mut state = 0x0005_DEEC_E66D_u64;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let norm = shape.len() == 1;
            let value = |bits: u64| if norm { 1.0 } else { bits as f32 / (1 << 23) as f32 - 1.0 };
            let upper = |v: f32| ((v.to_bits() >> 16) as u16).to_le_bytes();
            let bytes = (0..count).flat_map(|_| upper(value(bits()))).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("bytes of this shape"))
    });
    let bytes = safetensors::serialize(views, None).expect("tensors can be written");
    fs::write(path, bytes).expect("the folder can be written");
}
