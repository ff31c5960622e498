//! A checkpoint of the shape of BitNet b1.58 2B-4T with random latent weights, as a model folder.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const HIDDEN: u64 = 2560;
const INTERMEDIATE: u64 = 6912;
const KEYS: u64 = 640;
const VOCABULARY: u64 = 128_256;

/// Where the checkpoint of this many layers is.
pub(crate) fn folder(layers: u64) -> PathBuf {
    super::scratch().join(format!("bitnet-2b4t-{layers}"))
}

/// Makes the checkpoint unless it is there; the bytes of its tensors.
pub(crate) fn make(folder: &Path, layers: u64) -> u64 {
    let tensors = tensors(layers);
    let total = tensors.iter().map(|(_, shape)| 2 * shape.iter().product::<u64>()).sum();
    let header = header(&tensors);
    let path = folder.join("model.safetensors");
    let complete = fs::metadata(&path).is_ok_and(|m| m.len() == header.len() as u64 + total);
    if complete {
        return total;
    }
    fs::create_dir_all(folder).expect("the scratch folder can be written");
    fs::write(folder.join("config.json"), config(layers)).expect("the configuration can be written");
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(&path).expect("the checkpoint can be written"));
    file.write_all(&header).expect("the checkpoint can be written");
    // A block of bell-shaped values, each tensor starting elsewhere in it: random bits cost more than compiling.
    let block = random_block(1 << 22);
    let mut start = 0;
    for (_, shape) in &tensors {
        let mut left = 2 * shape.iter().product::<u64>() as usize;
        start = (start + 7_919 * 2) % (block.len() / 2);
        let mut from = start;
        while left > 0 {
            let piece = left.min(block.len() - from);
            file.write_all(&block[from..from + piece]).expect("the checkpoint can be written");
            left -= piece;
            from = 0;
        }
    }
    file.flush().expect("the checkpoint can be written");
    total
}

fn tensors(layers: u64) -> Vec<(String, Vec<u64>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN])];
    for layer in 0..layers {
        let of_layer = [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.attn_sub_norm", vec![HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.ffn_sub_norm", vec![INTERMEDIATE]),
            ("mlp.down_proj", vec![HIDDEN, INTERMEDIATE]),
        ];
        all.extend(of_layer.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    all
}

fn header(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let mut end = 0;
    let members: Vec<String> = tensors
        .iter()
        .map(|(name, shape)| {
            let start = end;
            end += 2 * shape.iter().product::<u64>();
            format!("\"{name}\":{{\"dtype\":\"BF16\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}")
        })
        .collect();
    let mut text = format!("{{{}}}", members.join(",")).into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

fn config(layers: u64) -> String {
    format!(
        r#"{{"architectures":["BitNetForCausalLM"],"model_type":"bitnet","hidden_size":{HIDDEN},"intermediate_size":{INTERMEDIATE},
"num_hidden_layers":{layers},"num_attention_heads":20,"num_key_value_heads":5,"vocab_size":{VOCABULARY},"hidden_act":"relu2",
"max_position_embeddings":4096,"rms_norm_eps":1e-05,"rope_theta":500000.0,"tie_word_embeddings":true,"bos_token_id":128000,"eos_token_id":128001,
"quantization_config":{{"quant_method":"bitnet","linear_class":"autobitlinear","quantization_mode":"online"}}}}"#
    )
}

/// bf16 values whose distribution is near a Gaussian of deviation 0.02: sums of four uniform numbers.
fn random_block(values: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut block = Vec::with_capacity(2 * values);
    for _ in 0..values {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let sum: i64 = (0..4).map(|i| i64::from((state >> (16 * i)) as u16)).sum();
        let value = (sum as f32 - 131_070.0) / 37_837.0 * 0.02;
        block.extend(((value.to_bits() >> 16) as u16).to_le_bytes());
    }
    block
}
