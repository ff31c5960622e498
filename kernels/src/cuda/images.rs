//! The compiled kernels, embedded: machine code for Hopper and PTX that the driver compiles for every other GPU.
//!
//! `cargo xtask kernels` makes them from `src/`; `images/DIGESTS` says from which sources, and a test fails when they are stale.

/// One source's images.
#[derive(Debug)]
pub(crate) struct Image {
    /// The source's name without extension.
    pub(crate) name: &'static str,
    hopper: Option<&'static [u8]>,
    /// PTX, with a zero byte after it.
    any: Option<&'static str>,
}

impl Image {
    /// What the driver loads: machine code where there is some for this GPU, else PTX.
    pub(crate) fn bytes(&self, hopper: bool) -> &'static [u8] {
        let machine_code = if hopper { self.hopper } else { None };
        machine_code.or(self.any.map(str::as_bytes)).unwrap_or_default()
    }
}

macro_rules! cubin {
    ($name:literal) => {
        Some(include_bytes!(concat!("images/", $name, ".sm_90a.cubin")).as_slice())
    };
}

macro_rules! ptx {
    ($name:literal) => {
        Some(concat!(include_str!(concat!("images/", $name, ".compute_80.ptx")), "\0"))
    };
}

/// Linear layers of few tokens.
pub(crate) static DECODE: Image = Image { name: "decode", hopper: cubin!("decode"), any: ptx!("decode") };

/// Linear layers of few tokens, on Hopper.
pub(crate) static STREAM: Image = Image { name: "stream", hopper: cubin!("stream"), any: None };

/// Linear layers of many tokens, on Hopper.
pub(crate) static PREFILL: Image = Image { name: "prefill", hopper: cubin!("prefill"), any: None };

/// Linear layers of many tokens, on GPUs that are not Hopper.
pub(crate) static TILES: Image = Image { name: "tiles", hopper: None, any: ptx!("tiles") };

/// Repacking of dense weights when a layer is loaded.
pub(crate) static REPACK: Image = Image { name: "repack", hopper: cubin!("repack"), any: ptx!("repack") };

/// Rows of an embedding.
pub(crate) static EMBED: Image = Image { name: "embed", hopper: cubin!("embed"), any: ptx!("embed") };

/// Norms and quantisation.
pub(crate) static QUANTISE: Image = Image { name: "quantise", hopper: cubin!("quantise"), any: ptx!("quantise") };

/// Rotation, and filling the cache.
pub(crate) static ROPE: Image = Image { name: "rope", hopper: cubin!("rope"), any: ptx!("rope") };

/// Attention of one token a sequence.
pub(crate) static ATTENTION_DECODE: Image =
    Image { name: "attention_decode", hopper: cubin!("attention_decode"), any: ptx!("attention_decode") };

/// Attention of many tokens.
pub(crate) static ATTENTION_PREFILL: Image =
    Image { name: "attention_prefill", hopper: cubin!("attention_prefill"), any: ptx!("attention_prefill") };

/// Attention of many tokens, on Hopper.
pub(crate) static ATTENTION_HOPPER: Image =
    Image { name: "attention_hopper", hopper: cubin!("attention_hopper"), any: None };

/// Attention of any shape.
pub(crate) static ATTENTION_PLAIN: Image =
    Image { name: "attention_plain", hopper: cubin!("attention_plain"), any: ptx!("attention_plain") };

/// The output head.
pub(crate) static HEAD: Image = Image { name: "head", hopper: cubin!("head"), any: ptx!("head") };

/// Choosing tokens.
pub(crate) static SAMPLE: Image = Image { name: "sample", hopper: cubin!("sample"), any: ptx!("sample") };
