//! Models and sessions.
//!
//! Handles are only ever lent as shared references, and a session is behind a lock, so a program that uses one from two threads gets an error, not a race.

use std::ffi::c_char;
use std::sync::{Mutex, TryLockError};

use super::{Versioned, elements, give, read, reference, status, string, usage, write};
use crate::device::{Device, Interrupt};
use crate::error::{Error, Kind, Result};
use crate::model::Model;
use crate::session::{Session, SessionOptions};

/// Run where it is fastest.
pub const SBNC_DEVICE_AUTO: u32 = 0;
/// Run on the processor.
pub const SBNC_DEVICE_CPU: u32 = 1;
/// Run on the first NVIDIA GPU.
pub const SBNC_DEVICE_CUDA: u32 = 2;

/// No token.
pub const SBNC_NO_TOKEN: u32 = u32::MAX;

/// An open model. It may be used from several threads.
pub struct sbnc_model(pub(super) Model);

/// A sequence of tokens that a model has seen. One call at a time; only `sbnc_session_interrupt` may be called during another.
pub struct sbnc_session {
    session: Mutex<Session>,
    interrupt: Interrupt,
}

/// How to open a model. Zeros stand for what is usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_model_options {
    /// Size of this struct.
    pub size: usize,
    /// One of `SBNC_DEVICE_…`.
    pub device: u32,
    /// Threads that compute; 0 for all.
    pub threads: u32,
    /// Not 0: read the file into memory instead of mapping it.
    pub read: u32,
    /// Reserved; 0.
    pub reserved: u32,
    /// A folder or file to take the tokenizer from, or null.
    pub tokenizer: *const c_char,
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_model_info {
    /// Size of this struct.
    pub size: usize,
    /// Entries of the vocabulary, which is also the number of logits.
    pub vocab: u64,
    /// The longest context.
    pub context: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// The token that begins a text, or `SBNC_NO_TOKEN`.
    pub bos: u32,
    /// The first token that ends a text, or `SBNC_NO_TOKEN`.
    pub eos: u32,
    /// 1 if there is a tokenizer that can be used.
    pub has_tokenizer: u32,
    /// 1 if there is a chat template.
    pub has_chat_template: u32,
    /// The digest that names the file.
    pub root: [u8; 32],
}

/// How large a session is. Zeros stand for what is usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbnc_session_options {
    /// Size of this struct.
    pub size: usize,
    /// Most tokens of the sequence; 0 for the model's context, at most 4096.
    pub context: u64,
    /// Tokens that are run at a time; 0 for 512.
    pub chunk: u64,
    /// Most bytes that the session may take; 0 for no limit.
    pub memory: u64,
}

// SAFETY: repr(C), size first; numbers and a pointer, which is only followed on purpose.
unsafe impl Versioned for sbnc_model_options {
    fn defaults() -> Self {
        Self { size: size_of::<Self>(), device: 0, threads: 0, read: 0, reserved: 0, tokenizer: std::ptr::null() }
    }
}

// SAFETY: repr(C), size first; numbers.
unsafe impl Versioned for sbnc_model_info {
    fn defaults() -> Self {
        Self {
            size: size_of::<Self>(),
            vocab: 0,
            context: 0,
            layers: 0,
            hidden: 0,
            bos: SBNC_NO_TOKEN,
            eos: SBNC_NO_TOKEN,
            has_tokenizer: 0,
            has_chat_template: 0,
            root: [0; 32],
        }
    }
}

// SAFETY: repr(C), size first; numbers.
unsafe impl Versioned for sbnc_session_options {
    fn defaults() -> Self {
        Self { size: size_of::<Self>(), context: 0, chunk: 0, memory: 0 }
    }
}

/// Opens the model at `path`. `options` may be null. `*model` is to be freed with `sbnc_model_free`; it is null where this fails.
///
/// # Safety
///
/// `path` ends with a zero; `options` is null or has the size that it says; `model` has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_model_open(
    path: *const c_char,
    options: *const sbnc_model_options,
    model: *mut *mut sbnc_model,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let out = unsafe { out(model, "model") }?;
        // SAFETY: the caller's.
        let path = unsafe { string(path, "path") }?;
        // SAFETY: the caller's.
        let given = unsafe { read(options, "options") }?;
        let device = match given.device {
            SBNC_DEVICE_AUTO => Device::Auto,
            SBNC_DEVICE_CPU => Device::Cpu,
            SBNC_DEVICE_CUDA => Device::Cuda,
            other => return Err(usage("device", "one of SBNC_DEVICE_…", other.to_string())),
        };
        let mut options = Model::options().device(device).mmap(given.read == 0);
        if given.threads > 0 {
            options = options.threads(given.threads as usize);
        }
        if !given.tokenizer.is_null() {
            // SAFETY: the caller's.
            options = options.tokenizer(unsafe { string(given.tokenizer, "tokenizer") }?);
        }
        *out = Box::into_raw(Box::new(sbnc_model(options.open(path)?)));
        Ok(())
    })
}

/// Frees a model; sessions that were opened from it live on. Null is nothing to free.
///
/// # Safety
///
/// `model` is null or came from `sbnc_model_open`, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_model_free(model: *mut sbnc_model) {
    let _ = status(|| {
        if !model.is_null() {
            // SAFETY: it came from `Box::into_raw`, and is the caller's to free.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// Tells what a model is. `info->size` is to be set.
///
/// # Safety
///
/// `model` came from `sbnc_model_open`; `info` has the size that it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_model_describe(model: *const sbnc_model, info: *mut sbnc_model_info) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let sbnc_model(model) = unsafe { reference(model, "model") }?;
        let config = model.config();
        let tokenizer = model.tokenizer().ok();
        let (bos, eos) = match &tokenizer {
            Some(t) => (t.bos(), t.eos().first().copied()),
            None => (config.tokens.bos, config.tokens.eos.first().copied()),
        };
        let value = sbnc_model_info {
            vocab: config.vocab as u64,
            context: config.context as u64,
            layers: config.layers as u64,
            hidden: config.hidden as u64,
            bos: bos.unwrap_or(SBNC_NO_TOKEN),
            eos: eos.unwrap_or(SBNC_NO_TOKEN),
            has_tokenizer: tokenizer.is_some().into(),
            has_chat_template: tokenizer.is_some_and(|t| t.chat_template().is_some()).into(),
            root: model.root().0,
            ..sbnc_model_info::defaults()
        };
        // SAFETY: the caller's.
        unsafe { write(info, &value, "info") }
    })
}

/// Opens a session. `options` may be null. `*session` is to be freed with `sbnc_session_free`; it is null where this fails.
///
/// # Safety
///
/// `model` came from `sbnc_model_open`; `options` is null or has the size that it says; `session` has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_open(
    model: *const sbnc_model,
    options: *const sbnc_session_options,
    session: *mut *mut sbnc_session,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let out = unsafe { out(session, "session") }?;
        // SAFETY: the caller's.
        let sbnc_model(model) = unsafe { reference(model, "model") }?;
        // SAFETY: the caller's.
        let given = unsafe { read(options, "options") }?;
        let usual = SessionOptions::default();
        let options = SessionOptions {
            context: given.context as usize,
            chunk: if given.chunk == 0 { usual.chunk } else { given.chunk as usize },
            memory: (given.memory > 0).then_some(given.memory),
            ..usual
        };
        let session = model.session(&options)?;
        let interrupt = session.interrupt().clone();
        *out = Box::into_raw(Box::new(sbnc_session { session: Mutex::new(session), interrupt }));
        Ok(())
    })
}

/// Frees a session. Null is nothing to free.
///
/// # Safety
///
/// `session` is null or came from `sbnc_session_open`, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_free(session: *mut sbnc_session) {
    let _ = status(|| {
        if !session.is_null() {
            // SAFETY: it came from `Box::into_raw`, and is the caller's to free.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// Runs tokens at the end of the session's sequence and gives the logits of what follows them: `sbnc_model_info.vocab` numbers. Where `logits` has less room,
/// the call fails before it runs anything; where it is null and `capacity` 0, the tokens are run and no logits given.
///
/// # Safety
///
/// `session` came from `sbnc_session_open`; there are `count` tokens, and room for `capacity` logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_forward(
    session: *const sbnc_session,
    tokens: *const u32,
    count: usize,
    logits: *mut f32,
    capacity: usize,
) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let tokens = unsafe { elements(tokens, count, "tokens") }?;
        // SAFETY: the caller's.
        unsafe { reference(session, "session") }?.with(|session| {
            let vocab = session.model().config().vocab;
            let wanted = !(logits.is_null() && capacity == 0);
            if wanted && capacity < vocab {
                let expected = format!("room for {vocab} numbers");
                return Err(Error::new(Kind::Budget, "logits", expected, capacity.to_string()));
            }
            let computed = session.forward(tokens)?;
            if !wanted {
                return Ok(());
            }
            // SAFETY: the caller's.
            unsafe { give(computed, logits, capacity, std::ptr::null_mut(), "logits") }
        })
    })
}

/// The number of tokens that a session has seen, in `*length`.
///
/// # Safety
///
/// `session` came from `sbnc_session_open`; `length` has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_length(session: *const sbnc_session, length: *mut usize) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let out = unsafe { length.as_mut() }.ok_or_else(|| usage("length", "a pointer", "null"))?;
        // SAFETY: the caller's.
        unsafe { reference(session, "session") }?.with(|session| {
            *out = session.tokens(0).len();
            Ok(())
        })
    })
}

/// Makes a session forget all but its first `length` tokens.
///
/// # Safety
///
/// `session` came from `sbnc_session_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_truncate(session: *const sbnc_session, length: usize) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        unsafe { reference(session, "session") }?.with(|session| {
            session.truncate(0, length);
            Ok(())
        })
    })
}

/// Ends the call that another thread makes with this session with `SBNC_INTERRUPTED`, soon. If `interrupt` is 0, later calls run again; until then they end
/// at once.
///
/// # Safety
///
/// `session` came from `sbnc_session_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbnc_session_interrupt(session: *const sbnc_session, interrupt: u32) -> i32 {
    status(|| {
        // SAFETY: the caller's.
        let session = unsafe { reference(session, "session") }?;
        if interrupt == 0 {
            session.interrupt.lower()
        } else {
            session.interrupt.raise()
        }
        Ok(())
    })
}

impl sbnc_session {
    /// Works with the session, unless another call does.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        match self.session.try_lock() {
            Ok(mut session) => work(&mut session),
            Err(TryLockError::WouldBlock) => Err(usage("session", "one call at a time", "another that is running")),
            Err(TryLockError::Poisoned(_)) => {
                Err(usage("session", "one that no call failed in", "one that had an internal error; free it"))
            }
        }
    }
}

/// Where a handle goes, made null first.
///
/// # Safety
///
/// `pointer` is null or has room for a pointer, which nobody else uses until the call ends.
unsafe fn out<'a, T>(pointer: *mut *mut T, name: &str) -> Result<&'a mut *mut T> {
    // SAFETY: the caller's; a pointer that was never set is still some bytes.
    let out = unsafe { pointer.as_mut() }.ok_or_else(|| usage(name, "a pointer", "null"))?;
    *out = std::ptr::null_mut();
    Ok(out)
}
