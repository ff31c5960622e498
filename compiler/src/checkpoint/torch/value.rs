//! What a pickle of a state dict can hold, as plain data.
//!
//! Values are small and copyable; whatever has a size lives in the [`Heap`]'s flat lists and is named by index. So a pickle that nests or
//! contains itself a million times costs no recursion, here or when it is dropped.

use super::super::dtype::Dtype;

/// A value on the interpreter's stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Text, as a range of the pickle itself.
    Str(Span),
    /// Items `start..end` of [`Heap::items`].
    Tuple(Span),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    Global(Global),
    /// A float, or a list: data that trainers put beside the tensors, and no tensor is made of.
    Opaque,
    List,
}

/// A range of the pickle, or of the heap's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The only names a pickle may mention. None is ever looked up or called: they are words with a meaning given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    pub(super) fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "BoolStorage") => Self::Storage(Dtype::Bool),
            _ => return None,
        })
    }
}

/// A storage: the record `data/<key>` of the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    pub(super) key: Span,
    pub(super) elements: i64,
}

/// A tensor as the pickle states it; nothing is checked but the kinds of its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    pub(super) offset: i64,
    pub(super) shape: Span,
    pub(super) strides: Span,
}

/// Everything the pickle made.
#[derive(Debug, Default)]
pub(super) struct Heap {
    pub(super) items: Vec<Value>,
    pub(super) dicts: Vec<Vec<(Value, Value)>>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Tensor>,
}

impl Heap {
    pub(super) fn tuple(&self, span: Span) -> &[Value] {
        &self.items[span.start..span.end]
    }
}
