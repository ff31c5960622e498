//! Text: tokenising, conversations, generation.

use std::ffi::{c_char, c_void};

use super::{Versioned, elements, give, read, reference, sbnc_model, sbnc_session, status, string, usage, utf8, write};
use crate::error::Result;
use crate::generate::Finish;
use crate::sampling::Sampling;
use crate::text::{Message, Specials};

/// A whole text: what begins one is added, special tokens are recognised.
pub const SBNC_TEXT_WHOLE: u32 = 0;
/// A finished prompt: nothing is added, special tokens are recognised.
pub const SBNC_TEXT_PROMPT: u32 = 1;
/// Only text: nothing in it becomes a special token.
pub const SBNC_TEXT_PLAIN: u32 = 2;

/// The model ended the text.
pub const SBNC_FINISH_EOS: u32 = 1;
/// A stop string appeared.
pub const SBNC_FINISH_STOP: u32 = 2;
/// As many tokens as were asked for.
pub const SBNC_FINISH_LENGTH: u32 = 3;
/// The context is full.
pub const SBNC_FINISH_CONTEXT: u32 = 4;
/// The callback ended it.
pub const SBNC_FINISH_CALLBACK: u32 = 5;

/// A message of a conversation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_message {
    /// `system`, `user` or `assistant`.
    pub role: *const c_char,
    /// What is said.
    pub content: *const c_char,
}

/// How tokens are chosen and when to end; `sbnc_sampling_init` fills in what is usual, which is greedy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_sampling {
    /// Size of this struct.
    pub size: usize,
    /// Decides all draws.
    pub seed: u64,
    /// Most tokens to generate; 0 for as many as fit.
    pub max_tokens: u64,
    /// Logits are divided by this; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep the most likely tokens with this probability together; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens that are this likely in relation to the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divide logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// Take this off the logits of recent tokens.
    pub presence_penalty: f32,
    /// Take this off for each time that they occurred.
    pub frequency_penalty: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// How many tokens are recent.
    pub penalty_window: u32,
    /// Not 0: go on after tokens that end a text.
    pub ignore_eos: u32,
    /// How many stop strings there are.
    pub stop_count: u32,
    /// Strings that end the text before them.
    pub stops: *const *const c_char,
}

/// A token that was chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_piece {
    /// Size of this struct.
    pub size: usize,
    /// Text that is now certain, UTF-8 without a zero at its end; valid during the callback.
    pub text: *const c_char,
    /// Its bytes, perhaps none.
    pub text_length: usize,
    /// The token.
    pub token: u32,
    /// Reserved; 0.
    pub reserved: u32,
}

/// What a generation took.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_generation {
    /// Size of this struct.
    pub size: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// How many of them the session had seen already.
    pub cached_tokens: u64,
    /// Tokens that were chosen.
    pub generated_tokens: u64,
    /// Seconds until the logits after the prompt.
    pub prompt_seconds: f64,
    /// Seconds since then.
    pub generation_seconds: f64,
    /// One of `SBNC_FINISH_…`, or 0 where it failed.
    pub finish: u32,
    /// Reserved; 0.
    pub reserved: u32,
}

/// Gets each piece; 0 ends the generation.
pub type sbnc_on_piece = Option<unsafe extern "C" fn(user: *mut c_void, piece: *const sbnc_piece) -> u32>;

// SAFETY: repr(C), size first; numbers and a pointer, which is only followed on purpose.
unsafe impl Versioned for sbnc_sampling {
    fn defaults() -> Self {
        let usual = Sampling::greedy();
        Self {
            size: size_of::<Self>(),
            seed: usual.seed,
            max_tokens: 0,
            temperature: usual.temperature,
            top_p: usual.top_p,
            min_p: usual.min_p,
            repeat_penalty: usual.repeat_penalty,
            presence_penalty: usual.presence_penalty,
            frequency_penalty: usual.frequency_penalty,
            top_k: usual.top_k as u32,
            penalty_window: usual.penalty_window as u32,
            ignore_eos: 0,
            stop_count: 0,
            stops: std::ptr::null(),
        }
    }
}

// SAFETY: repr(C), size first; numbers.
unsafe impl Versioned for sbnc_generation {
    fn defaults() -> Self {
        Self {
            size: size_of::<Self>(),
            prompt_tokens: 0,
            cached_tokens: 0,
            generated_tokens: 0,
            prompt_seconds: 0.0,
            generation_seconds: 0.0,
            finish: 0,
            reserved: 0,
        }
    }
}

/// Fills in what is usual. `sampling->size` is to be set.
///
/// # Safety
///
/// `sampling` has the size that it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_sampling_init(sampling: *mut sbnc_sampling) -> i32 {
    // SAFETY: the caller's.
    status(|| unsafe { write(sampling, &sbnc_sampling::defaults(), "sampling") })
}

/// The tokens of a text. `*count` becomes their number; where that is more than `capacity`, the call fails with `SBNC_MEMORY` and can be made again with
/// more room. `kind` is one of `SBNC_TEXT_…`.
///
/// # Safety
///
/// `model` came from `sbnc_model_open`; there are `length` bytes of text, room for `capacity` tokens, and for a number in `count` unless it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_tokenize(
    model: *const sbnc_model,
    text: *const c_char,
    length: usize,
    kind: u32,
    tokens: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let sbnc_model(model) = unsafe { reference(model, "model") }?;
        // SAFETY: the caller's.
        let text = unsafe { utf8(text, length, "text") }?;
        let specials = match kind {
            SBNC_TEXT_WHOLE => Specials::Whole,
            SBNC_TEXT_PROMPT => Specials::Prompt,
            SBNC_TEXT_PLAIN => Specials::Text,
            other => return Err(usage("kind of text", "one of SBNC_TEXT_…", other.to_string())),
        };
        let found = model.tokenizer()?.encode(text, specials)?;
        // SAFETY: the caller's.
        unsafe { give(&found, tokens, capacity, count, "tokens") }
    })
}

/// The tokens of a conversation, written as the model's chat template says, up to where the answer begins. Room and count as for `sbnc_tokenize`.
///
/// # Safety
///
/// As for `sbnc_tokenize`; there are `message_count` messages, whose texts end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_tokenize_chat(
    model: *const sbnc_model,
    messages: *const sbnc_message,
    message_count: usize,
    tokens: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let sbnc_model(model) = unsafe { reference(model, "model") }?;
        // SAFETY: the caller's.
        let given = unsafe { elements(messages, message_count, "messages") }?;
        let mut messages = Vec::with_capacity(given.len());
        for message in given {
            // SAFETY: the caller's.
            let role = unsafe { string(message.role, "role") }?.to_owned();
            // SAFETY: the caller's.
            let content = unsafe { string(message.content, "content") }?.to_owned();
            messages.push(Message { role, content });
        }
        let found = model.tokenizer()?.encode_chat(&messages)?;
        // SAFETY: the caller's.
        unsafe { give(&found, tokens, capacity, count, "tokens") }
    })
}

/// The text of some tokens, without special ones, in UTF-8 without a zero at its end. `*length` becomes its number of bytes; where that is more than
/// `capacity`, the call fails with `SBNC_MEMORY` and can be made again with more room.
///
/// # Safety
///
/// `model` came from `sbnc_model_open`; there are `count` tokens, room for `capacity` bytes, and for a number in `length` unless it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_detokenize(
    model: *const sbnc_model,
    tokens: *const u32,
    count: usize,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let sbnc_model(model) = unsafe { reference(model, "model") }?;
        // SAFETY: the caller's.
        let tokens = unsafe { elements(tokens, count, "tokens") }?;
        let found = model.tokenizer()?.decode(tokens);
        // SAFETY: the caller's; bytes are bytes, whatever their sign.
        unsafe { give(found.as_bytes(), text.cast::<u8>(), capacity, length, "text") }
    })
}

/// Generates what follows a prompt, which is the whole text so far: what the session has seen of it is not computed again. `on_piece` gets each token as it is
/// chosen, in this thread, and may not use the session. `sampling`, `on_piece` and `result` may be null.
///
/// # Safety
///
/// `session` came from `sbnc_session_open`; there are `count` tokens; structs have the sizes that they say, and stop strings end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_generate(
    session: *const sbnc_session,
    prompt: *const u32,
    count: usize,
    sampling: *const sbnc_sampling,
    on_piece: sbnc_on_piece,
    user: *mut c_void,
    result: *mut sbnc_generation,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let prompt = unsafe { elements(prompt, count, "prompt") }?;
        // SAFETY: the caller's.
        let given = unsafe { read(sampling, "sampling") }?;
        // SAFETY: the caller's.
        let stops = unsafe { stops(&given) }?;
        // SAFETY: the caller's.
        unsafe { reference(session, "session") }?.with(|session| {
            let most = if given.max_tokens == 0 { usize::MAX } else { given.max_tokens as usize };
            let generation = session.generate(prompt, &choose(&given))?;
            let mut generation = generation.ignore_eos(given.ignore_eos != 0).stop(&stops)?.max_tokens(most);
            let (mut ended, mut went_on) = (Ok(()), true);
            while went_on && let Some(piece) = generation.next() {
                match piece {
                    Ok(piece) => went_on = call(on_piece, user, piece.token, &piece.text),
                    Err(error) => ended = Err(error),
                }
            }
            let usage = generation.usage();
            let told = sbnc_generation {
                prompt_tokens: usage.prompt_tokens as u64,
                cached_tokens: usage.cached_tokens as u64,
                generated_tokens: usage.generated_tokens as u64,
                prompt_seconds: usage.prompt_time.as_secs_f64(),
                generation_seconds: usage.generation_time.as_secs_f64(),
                finish: match generation.finish() {
                    Some(Finish::Eos) => SBNC_FINISH_EOS,
                    Some(Finish::Stop) => SBNC_FINISH_STOP,
                    Some(Finish::Length) => SBNC_FINISH_LENGTH,
                    Some(Finish::Context) => SBNC_FINISH_CONTEXT,
                    Some(Finish::Error) => 0,
                    None => SBNC_FINISH_CALLBACK,
                },
                ..sbnc_generation::defaults()
            };
            if !result.is_null() {
                // SAFETY: the caller's.
                unsafe { write(result, &told, "result") }?;
            }
            ended
        })
    })
}

fn call(on_piece: sbnc_on_piece, user: *mut c_void, token: u32, text: &str) -> bool {
    let Some(on_piece) = on_piece else { return true };
    let piece = sbnc_piece {
        size: size_of::<sbnc_piece>(),
        text: text.as_ptr().cast(),
        text_length: text.len(),
        token,
        reserved: 0,
    };
    // SAFETY: the caller gave a function of this type and a pointer for it; the piece and its text live until it returns.
    unsafe { on_piece(user, &raw const piece) != 0 }
}

fn choose(given: &sbnc_sampling) -> Sampling {
    Sampling {
        temperature: given.temperature,
        top_k: given.top_k as usize,
        top_p: given.top_p,
        min_p: given.min_p,
        repeat_penalty: given.repeat_penalty,
        presence_penalty: given.presence_penalty,
        frequency_penalty: given.frequency_penalty,
        penalty_window: given.penalty_window as usize,
        logit_bias: Vec::new(),
        seed: given.seed,
        logprobs: None,
    }
}

/// # Safety
///
/// The list has as many strings as the struct says, and they end with a zero.
unsafe fn stops(given: &sbnc_sampling) -> Result<Vec<String>> {
    // SAFETY: the caller's.
    let list = unsafe { elements(given.stops, given.stop_count as usize, "stop strings") }?;
    let mut stops = Vec::with_capacity(list.len());
    for &stop in list {
        // SAFETY: the caller's.
        stops.push(unsafe { string(stop, "stop string") }?.to_owned());
    }
    Ok(stops)
}
