//! A reader for the pickles that `torch.save(state_dict)` writes. It is not an unpickler: nothing is imported, called or executed.
//!
//! A pickle is a program for a small stack machine. This machine knows only the instructions that a state dict needs, treats the few
//! permitted names as words (`Global`), and stops at anything else with its name. Every resource is bounded, so a hostile
//! pickle costs at most a fixed amount of memory and one pass over its bytes.

use std::collections::HashMap;

use super::super::error::{CheckpointError, Result};
use super::super::source::Source;
use super::opcode;
use super::value::{Global, Heap, Span, Storage, Tensor, Value};

/// Bytes in the pickle.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Values on the stack: writers flush every thousand.
pub const MAX_STACK: u64 = 1 << 16;
/// Values kept, in tuples, dicts and the memo, all together.
pub const MAX_OBJECTS: u64 = 1 << 23;
/// Bytes in a string, or in the name of a global.
pub const MAX_STRING_BYTES: u64 = 4096;

const REMEDY: &str = "save the weights alone: torch.save(model.state_dict(), path), or convert them to safetensors";

/// Runs the pickle and returns what it leaves: the heap, and the value at the top.
pub(super) fn read(source: &Source, pickle: &[u8]) -> Result<(Heap, Value)> {
    source.at_most("data.pkl in bytes", pickle.len() as u64, MAX_PICKLE_BYTES)?;
    let mut machine = Machine {
        source,
        pickle,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
        objects: 0,
    };
    let root = machine.run()?;
    Ok((machine.heap, root))
}

struct Machine<'a> {
    source: &'a Source,
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Stack heights at which a MARK stands.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Heap,
    objects: u64,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        if self.array::<2>()? != [0x80, 2] {
            return Err(self
                .source
                .unsupported("a pickle of protocol 2, torch.save's default", "another protocol")
                .remedy(REMEDY));
        }
        loop {
            let at = self.at;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.stop(),
                b'(' => self.mark()?,
                b'}' => self.new_dict()?,
                b']' => self.push(Value::List)?,
                b')' => self.push(Value::Tuple(Span { start: 0, end: 0 }))?,
                b't' => self.tuple_to_mark()?,
                0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
                b'N' => self.push(Value::None)?,
                0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88))?,
                b'J' => self
                    .array()
                    .map(|bytes| Value::Int(i32::from_le_bytes(bytes).into()))
                    .and_then(|int| self.push(int))?,
                b'K' => self.array().map(|[byte]| Value::Int(byte.into())).and_then(|int| self.push(int))?,
                b'M' => self
                    .array()
                    .map(|bytes| Value::Int(u16::from_le_bytes(bytes).into()))
                    .and_then(|int| self.push(int))?,
                0x8a => self.long()?,
                b'G' => self.array::<8>().and_then(|_float| self.push(Value::Opaque))?,
                b'X' => self.string()?,
                b'q' => self.array().map(|[index]| u32::from(index)).and_then(|index| self.put(index))?,
                b'r' => self.array().map(u32::from_le_bytes).and_then(|index| self.put(index))?,
                b'h' => self.array().map(|[index]| u32::from(index)).and_then(|index| self.get(index))?,
                b'j' => self.array().map(u32::from_le_bytes).and_then(|index| self.get(index))?,
                b'a' => self.append()?,
                b'e' => self.appends()?,
                b's' => self.set_item()?,
                b'u' => self.set_items()?,
                b'c' => self.global()?,
                b'Q' => self.persistent_id()?,
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                _ => {
                    return Err(self.foreign(format!("instruction {} at byte {at}", opcode::name(opcode))));
                }
            }
        }
    }

    fn stop(&mut self) -> Result<Value> {
        let root = self.pop()?;
        if !(self.stack.is_empty() && self.marks.is_empty()) {
            return Err(self.broken("one value left at STOP", "more"));
        }
        if self.at != self.pickle.len() {
            return Err(self.broken("STOP as the pickle's last byte", "bytes after it"));
        }
        Ok(root)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.source.at_most("a pickle stack", self.stack.len() as u64 + 1, MAX_STACK)?;
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top value; what lies under a mark is out of reach.
    fn pop(&mut self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => Err(self.broken("a value on the stack", "none")),
        }
    }

    fn mark(&mut self) -> Result<()> {
        self.source.at_most("a number of pickle marks", self.marks.len() as u64 + 1, MAX_STACK)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Takes the values above the last mark, and the mark.
    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let Some(height) = self.marks.pop() else {
            return Err(self.broken("a MARK", "none"));
        };
        Ok(self.stack.split_off(height))
    }

    fn count(&mut self, objects: usize) -> Result<()> {
        self.objects += objects as u64;
        self.source.at_most("a number of pickled objects", self.objects, MAX_OBJECTS)
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let value = self.pop()?;
        self.push(value)?;
        self.count(1)?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        match self.memo.get(&index) {
            Some(&value) => self.push(value),
            None => Err(self.broken("a memo entry that was put before", format!("index {index}"))),
        }
    }

    fn long(&mut self) -> Result<()> {
        let [len] = self.array()?;
        let bytes = self.take(len.into())?;
        if bytes.len() > 8 {
            return Err(self.broken("integers of at most 64 bits", format!("one of {len} bytes")));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn string(&mut self) -> Result<()> {
        let len = u32::from_le_bytes(self.array()?);
        self.source.at_most("a pickled string in bytes", len.into(), MAX_STRING_BYTES)?;
        let start = self.at;
        if std::str::from_utf8(self.take(len as usize)?).is_err() {
            return Err(self.broken("strings in UTF-8", "other bytes"));
        }
        self.push(Value::Str(Span { start, end: self.at }))
    }

    fn new_dict(&mut self) -> Result<()> {
        self.count(1)?;
        self.heap.dicts.push(Vec::new());
        self.push(Value::Dict(self.heap.dicts.len() - 1))
    }

    fn push_tuple(&mut self, items: &[Value]) -> Result<()> {
        self.count(items.len())?;
        let start = self.heap.items.len();
        self.heap.items.extend_from_slice(items);
        self.push(Value::Tuple(Span { start, end: self.heap.items.len() }))
    }

    fn tuple_to_mark(&mut self) -> Result<()> {
        let items = self.pop_to_mark()?;
        self.push_tuple(&items)
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let mut items = [Value::None; 3];
        for item in items[..len].iter_mut().rev() {
            *item = self.pop()?;
        }
        self.push_tuple(&items[..len])
    }

    fn append(&mut self) -> Result<()> {
        let _item = self.pop()?;
        self.top_is_list()
    }

    fn appends(&mut self) -> Result<()> {
        let _items = self.pop_to_mark()?;
        self.top_is_list()
    }

    fn top_is_list(&mut self) -> Result<()> {
        match self.pop()? {
            Value::List => self.push(Value::List),
            _ => Err(self.broken("a list to append to", "another value")),
        }
    }

    fn set_item(&mut self) -> Result<()> {
        let (value, key) = (self.pop()?, self.pop()?);
        self.extend_dict(&[key, value])
    }

    fn set_items(&mut self) -> Result<()> {
        let items = self.pop_to_mark()?;
        self.extend_dict(&items)
    }

    fn extend_dict(&mut self, items: &[Value]) -> Result<()> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.broken("keys and values in pairs", "an odd number"));
        };
        let Value::Dict(dict) = self.pop()? else {
            return Err(self.broken("a dict to put items into", "another value"));
        };
        self.count(items.len())?;
        self.heap.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        self.push(Value::Dict(dict))
    }

    fn global(&mut self) -> Result<()> {
        let module = self.line()?;
        let name = self.line()?;
        match Global::of(&module, &name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(self.foreign(format!("the global {module}.{name}"))),
        }
    }

    /// `('storage', storage type, key, device, elements)`: the only outside reference there is.
    fn persistent_id(&mut self) -> Result<()> {
        let id = self.pop()?;
        if let Value::Tuple(span) = id
            && let &[
                Value::Str(kind),
                Value::Global(Global::Storage(dtype)),
                Value::Str(key),
                Value::Str(_device),
                Value::Int(elements),
            ] = self.heap.tuple(span)
            && &self.pickle[kind.start..kind.end] == b"storage"
        {
            self.count(1)?;
            self.heap.storages.push(Storage { dtype, key, elements });
            return self.push(Value::Storage(self.heap.storages.len() - 1));
        }
        Err(self.broken("a persistent id ('storage', type, key, device, elements)", "another one"))
    }

    fn reduce(&mut self) -> Result<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Tuple(span), Value::Global(global)) = (arguments, callable) else {
            return Err(self.broken("REDUCE of a known name and a tuple", "other values"));
        };
        match (global, self.heap.tuple(span)) {
            (Global::OrderedDict, []) => self.new_dict(),
            (
                Global::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    Value::Bool(_gradient),
                    Value::Dict(_hooks),
                    ref metadata @ ..,
                ],
            ) if matches!(metadata, [] | [Value::Dict(_) | Value::None]) => {
                self.count(1)?;
                self.heap.tensors.push(Tensor { storage, offset, shape, strides });
                self.push(Value::Tensor(self.heap.tensors.len() - 1))
            }
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), Value::Bool(_gradient), Value::Dict(_hooks)]) => {
                self.push(tensor)
            }
            _ => Err(self.broken(format!("the arguments that {global:?} takes"), "others")),
        }
    }

    /// Attributes of a dict: torch keeps the modules' versions in `_metadata`, which says nothing of the weights.
    fn build(&mut self) -> Result<()> {
        let (state, object) = (self.pop()?, self.pop()?);
        match (object, state) {
            (Value::Dict(_), Value::Dict(_)) => self.push(object),
            _ => Err(self.foreign("BUILD on something other than a dict".to_owned())),
        }
    }

    fn take(&mut self, len: usize) -> Result<&[u8]> {
        let rest = &self.pickle[self.at..];
        let Some(taken) = rest.get(..len) else {
            return Err(
                self.broken(format!("{len} more bytes"), format!("{} (truncated, or STOP is missing)", rest.len()))
            );
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        let taken = self.take(LEN)?;
        Ok(std::array::from_fn(|index| taken[index]))
    }

    /// A line of a GLOBAL, without its end.
    fn line(&mut self) -> Result<String> {
        let rest = &self.pickle[self.at..];
        let window = &rest[..rest.len().min(MAX_STRING_BYTES as usize)];
        let Some(len) = window.iter().position(|&byte| byte == b'\n') else {
            return Err(self.broken("a name that ends with its line", "no end of line"));
        };
        let line = String::from_utf8_lossy(&rest[..len]).into_owned();
        self.at += len + 1;
        Ok(line)
    }

    fn broken(&self, expected: impl Into<String>, found: impl Into<String>) -> CheckpointError {
        let (expected, found) = (expected.into(), found.into());
        self.source.malformed(format!("{expected} in data.pkl"), format!("{found}, before byte {}", self.at))
    }

    fn foreign(&self, found: String) -> CheckpointError {
        self.source
            .unsupported("a pickle of tensors only (nothing in it is executed)", found.escape_debug().to_string())
            .remedy(REMEDY)
    }
}
