//! How large a session is, and whether that can be.

use crate::cpu::{CpuEngine, Size};
use crate::device::{Device, Interrupt};
use crate::error::{Error, Kind, Result};
use crate::model::Model;

/// How large a session is. Cache and buffers are allocated when it is opened.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The most tokens of a sequence, prompt and answer together. Zero stands for the model's context, at most 4096. (Of models whose position embedding depends on the
    /// length, by `dynamic` or `longrope` scaling, it is the context before scaling: a session for longer texts treats short ones otherwise.)
    pub context: usize,
    /// Sequences that are kept at a time.
    pub sequences: usize,
    /// Tokens that are run at a time; a longer prompt takes several passes over the weights. Zero stands for what suits the device.
    pub chunk: usize,
    /// How keys and values are stored.
    pub cache: CacheType,
    /// The most bytes that the session may take, if there is a limit.
    pub memory: Option<u64>,
    /// A flag that ends running calls.
    pub interrupt: Interrupt,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// [`CacheType::F32`] where all of it is at most 16 MiB, otherwise, on a GPU, and under a stated limit of memory, [`CacheType::F16`]: rounding is for saving memory that is worth saving.
    #[default]
    Auto,
    /// binary16: more precision.
    F16,
    /// The upper half of binary32: more range.
    Bf16,
    /// binary32: twice the memory, and equal to code that rounds nothing.
    F32,
}

/// Bytes of keys and values up to which they are not rounded.
const UNROUNDED: u64 = 16 << 20;

impl CacheType {
    /// Bytes of one number.
    fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::Auto | Self::F32 => 4,
        }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: 0,
            sequences: 1,
            chunk: 0,
            cache: CacheType::Auto,
            memory: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// The default's bound on the context.
const CONTEXT: usize = 4096;
/// Logits of this many positions are computed at a time when all are wanted.
const WANTED: usize = 16;
/// Sequences of a session.
const MOST_SEQUENCES: usize = 4096;
/// Rows of a chunk.
const MOST_CHUNK: usize = 1 << 16;

impl SessionOptions {
    /// The size of a session of this model, and how it stores keys and values.
    pub(super) fn size(&self, model: &Model) -> Result<(Size, CacheType)> {
        let most = model.config().context;
        let context = if self.context == 0 { model.config().short.min(CONTEXT) } else { self.context };
        within("context", context, most, "tokens, the model's context")?;
        within("sequences", self.sequences, MOST_SEQUENCES, "sequences")?;
        let chunk = if self.chunk == 0 { model.suitable_chunk() } else { self.chunk };
        within("chunk", chunk, MOST_CHUNK, "tokens")?;
        let sequences = self.sequences;
        let chunk = chunk.min(context * sequences).max(sequences);
        let wanted = sequences.max(WANTED.min(chunk));
        let size = Size { chunk, wanted, sequences, context };
        check_budget(model, self, size)?;
        Ok((size, self.cache_of(model, size)))
    }

    /// How keys and values are stored in a session of this size.
    fn cache_of(&self, model: &Model, size: Size) -> CacheType {
        let bytes = cached_numbers(model, size) * CacheType::F32.bytes();
        match self.cache {
            CacheType::Auto if model.device() != Device::Cuda && self.memory.is_none() && bytes <= UNROUNDED => {
                CacheType::F32
            }
            CacheType::Auto => CacheType::F16,
            stated => stated,
        }
    }
}

pub(super) fn within(option: &str, value: usize, most: usize, what: &str) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, option, format!("1 to {most} {what}"), value.to_string()))
}

/// Numbers of keys and values that a session keeps.
fn cached_numbers(model: &Model, size: Size) -> u64 {
    model.config().cache_values_per_token() * (size.sequences * size.context) as u64
}

/// Refuses a session that does not fit its budget, and says what would.
fn check_budget(model: &Model, options: &SessionOptions, size: Size) -> Result<()> {
    let Some(budget) = options.memory else { return Ok(()) };
    let config = model.config();
    let bytes = |size: Size| {
        let cache = cached_numbers(model, size) * options.cache_of(model, size).bytes();
        let out = 4 * (size.wanted * config.vocab.max(config.hidden)) as u64;
        cache + out + CpuEngine::scratch_bytes(model.loaded(), size)
    };
    let needed = bytes(size);
    if needed <= budget {
        return Ok(());
    }
    let fits = |context: &usize| bytes(Size { context: *context, ..size }) <= budget;
    let remedy = match (1..size.context).rev().find(fits) {
        Some(context) => format!("a context of {context} tokens fits"),
        None => "a smaller chunk or fewer sequences take less; one token of context does not fit".to_owned(),
    };
    let expected = format!("at most {budget} bytes");
    let found = format!("{needed} bytes for {} sequences of {} tokens", size.sequences, size.context);
    Err(Error::new(Kind::Budget, "memory of the session", expected, found).remedy(remedy))
}
