//! A restricted reader of Python pickles: it builds data and executes nothing.
//!
//! Only the opcodes that `torch.save` needs for a state dict exist here, and only the functions of [`Global`] can be
//! named; "calling" one of them is a match arm that builds a value. Everything else is refused by name. Containers live in
//! an arena and refer to each other by index, so cyclic or deeply nested data costs no stack.

use std::collections::HashMap;
use std::sync::Arc;

use bitc_ir::{DType, Tensor};

use super::rebuild::{self, Storage, Storages};
use crate::error::{Diagnostic, quoted};

/// A value of the pickle.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    /// None, a boolean, a float, bytes or a long integer: allowed beside the weights, of no use to them.
    Opaque,
    Text(Arc<str>),
    Container(usize),
    Global(Global),
    Storage(Arc<Storage>),
    Tensor(Arc<Tensor>),
}

/// A container of the arena.
#[derive(Debug)]
pub(super) enum Container {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// A dictionary in insertion order.
    Dict(Vec<(Value, Value)>),
}

/// The names a pickle may mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `_rebuild_tensor_v2`, and `_rebuild_tensor_v3`, which has the element type as an argument of its own.
    RebuildTensor,
    RebuildParameter,
    Size,
    /// `torch.device`, of which nothing is kept.
    Device,
    /// `torch.FloatStorage` and its kin, or the element type of a tensor.
    Typed(DType),
    /// Bytes without an element type.
    UntypedStorage,
}

/// Every allowed name.
const GLOBALS: [(&str, &str, Global); 39] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "Size", Global::Size),
    ("torch", "device", Global::Device),
    ("torch.storage", "UntypedStorage", Global::UntypedStorage),
    ("torch", "UntypedStorage", Global::UntypedStorage),
    ("torch", "BoolStorage", Global::Typed(DType::Bool)),
    ("torch", "ByteStorage", Global::Typed(DType::U8)),
    ("torch", "CharStorage", Global::Typed(DType::I8)),
    ("torch", "ShortStorage", Global::Typed(DType::I16)),
    ("torch", "IntStorage", Global::Typed(DType::I32)),
    ("torch", "LongStorage", Global::Typed(DType::I64)),
    ("torch", "HalfStorage", Global::Typed(DType::F16)),
    ("torch", "BFloat16Storage", Global::Typed(DType::BF16)),
    ("torch", "FloatStorage", Global::Typed(DType::F32)),
    ("torch", "DoubleStorage", Global::Typed(DType::F64)),
    ("torch", "bool", Global::Typed(DType::Bool)),
    ("torch", "uint8", Global::Typed(DType::U8)),
    ("torch", "int8", Global::Typed(DType::I8)),
    ("torch", "uint16", Global::Typed(DType::U16)),
    ("torch", "int16", Global::Typed(DType::I16)),
    ("torch", "uint32", Global::Typed(DType::U32)),
    ("torch", "int32", Global::Typed(DType::I32)),
    ("torch", "uint64", Global::Typed(DType::U64)),
    ("torch", "int64", Global::Typed(DType::I64)),
    ("torch", "float16", Global::Typed(DType::F16)),
    ("torch", "bfloat16", Global::Typed(DType::BF16)),
    ("torch", "float32", Global::Typed(DType::F32)),
    ("torch", "float64", Global::Typed(DType::F64)),
    ("torch", "BoolTensor", Global::Typed(DType::Bool)),
    ("torch", "ByteTensor", Global::Typed(DType::U8)),
    ("torch", "CharTensor", Global::Typed(DType::I8)),
    ("torch", "IntTensor", Global::Typed(DType::I32)),
    ("torch", "LongTensor", Global::Typed(DType::I64)),
    ("torch", "HalfTensor", Global::Typed(DType::F16)),
    ("torch", "FloatTensor", Global::Typed(DType::F32)),
    ("torch", "DoubleTensor", Global::Typed(DType::F64)),
];

/// The arena of containers.
#[derive(Debug, Default)]
pub(super) struct Heap(Vec<Container>);

impl Heap {
    /// The entries of a dictionary.
    pub(super) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match self.container(value)? {
            Container::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub(super) fn tuple(&self, value: &Value) -> Option<&[Value]> {
        match self.container(value)? {
            Container::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn container(&self, value: &Value) -> Option<&Container> {
        match value {
            Value::Container(id) => self.0.get(*id),
            _ => None,
        }
    }

    fn add(&mut self, container: Container) -> Value {
        self.0.push(container);
        Value::Container(self.0.len() - 1)
    }
}

/// Reads a whole pickle; the result refers into the arena.
pub(super) fn load(pickle: &[u8], storages: &mut Storages<'_>) -> Result<(Value, Heap), Diagnostic> {
    // Every value takes one byte of the pickle or more; real state dicts take several.
    let room = (1 << 20) + pickle.len() / 2;
    let mut machine = Machine {
        input: Input { bytes: pickle, at: 0 },
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
        storages,
        room,
    };
    loop {
        let at = machine.input.at;
        let place = |d: Diagnostic| if d.offset.is_none() { d.offset(at as u64) } else { d };
        if let Some(result) = machine.step().map_err(place)? {
            return Ok((result, machine.heap));
        }
    }
}

fn wrong(what: &str) -> Diagnostic {
    Diagnostic::wrong_input(format!("the pickle is wrong: {what}"))
}

/// Where the next opcode or operand is.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], Diagnostic> {
        let range = usize::try_from(len).ok().and_then(|len| self.bytes.get(self.at..)?.get(..len));
        let taken = range.ok_or_else(|| wrong("it ends inside a value"))?;
        self.at += taken.len();
        Ok(taken)
    }

    /// A little-endian number of `size` bytes, at most 8.
    fn number(&mut self, size: u64) -> Result<u64, Diagnostic> {
        Ok(self.take(size)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn text(&mut self, size: u64) -> Result<Value, Diagnostic> {
        let len = self.number(size)?;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| wrong("a string is not UTF-8"))?;
        Ok(Value::Text(text.into()))
    }

    fn opaque(&mut self, size: u64) -> Result<Value, Diagnostic> {
        let len = self.number(size)?;
        self.take(len)?;
        Ok(Value::Opaque)
    }

    /// A two's complement integer; one of more than 8 bytes is opaque.
    fn long(&mut self, size: u64) -> Result<Value, Diagnostic> {
        let len = self.number(size)?;
        let bytes = self.take(len)?;
        let Ok(shift) = u32::try_from(8 * 8usize.saturating_sub(bytes.len())) else { return Ok(Value::Opaque) };
        if bytes.is_empty() || bytes.len() > 8 {
            return Ok(if bytes.is_empty() { Value::Int(0) } else { Value::Opaque });
        }
        let unsigned = bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        Ok(Value::Int((unsigned << shift).cast_signed() >> shift))
    }

    fn line(&mut self) -> Result<&'a str, Diagnostic> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or_else(|| wrong("it ends inside a name"))?;
        let line = self.take(len as u64)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| wrong("a name is not UTF-8"))
    }
}

struct Machine<'a, 's> {
    input: Input<'a>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    heap: Heap,
    storages: &'a mut Storages<'s>,
    /// How many values may still be made.
    room: usize,
}

impl Machine<'_, '_> {
    /// Executes one opcode; `Some` when it was the last.
    fn step(&mut self) -> Result<Option<Value>, Diagnostic> {
        self.room = self.room.checked_sub(1).ok_or_else(|| wrong("it holds too many values for its length"))?;
        let opcode = self.input.take(1).map_err(|_| wrong("it ends before its last opcode"))?[0];
        let value = match opcode {
            // PROTO, FRAME
            0x80 => {
                let version = self.input.number(1)?;
                if version > 5 {
                    return Err(Diagnostic::unsupported(format!("a pickle of protocol {version}")));
                }
                return Ok(None);
            }
            0x95 => {
                self.input.take(8)?;
                return Ok(None);
            }
            // STOP
            b'.' => return self.pop().map(Some),
            // MARK, POP, POP_MARK, DUP
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            b'0' => {
                self.pop()?;
                return Ok(None);
            }
            b'1' => {
                self.pop_mark()?;
                return Ok(None);
            }
            b'2' => self.top()?.clone(),
            // NONE, NEWTRUE, NEWFALSE
            b'N' | 0x88 | 0x89 => Value::Opaque,
            // BININT, BININT1, BININT2, LONG1, LONG4
            b'J' => Value::Int(i64::from(self.input.number(4)?.cast_signed() as i32)),
            b'K' => Value::Int(self.input.number(1)?.cast_signed()),
            b'M' => Value::Int(self.input.number(2)?.cast_signed()),
            0x8a => self.input.long(1)?,
            0x8b => self.input.long(4)?,
            // BINFLOAT
            b'G' => {
                self.input.take(8)?;
                Value::Opaque
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.input.text(4)?,
            0x8c => self.input.text(1)?,
            0x8d => self.input.text(8)?,
            // SHORT_BINSTRING, BINSTRING, SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'U' | b'C' => self.input.opaque(1)?,
            b'T' | b'B' => self.input.opaque(4)?,
            0x8e => self.input.opaque(8)?,
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.heap.add(Container::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.heap.add(Container::Tuple(items))
            }
            b't' => {
                let items = self.pop_mark()?;
                self.heap.add(Container::Tuple(items))
            }
            // EMPTY_LIST, LIST, EMPTY_DICT, DICT
            b']' => self.heap.add(Container::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.heap.add(Container::List(items))
            }
            b'}' => self.heap.add(Container::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                let dict = self.heap.add(Container::Dict(Vec::new()));
                self.stack.push(dict);
                return self.set_items(items).map(|()| None);
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let items = self.pop_many(1)?;
                return self.append(items).map(|()| None);
            }
            b'e' => {
                let items = self.pop_mark()?;
                return self.append(items).map(|()| None);
            }
            b's' => {
                let items = self.pop_many(2)?;
                return self.set_items(items).map(|()| None);
            }
            b'u' => {
                let items = self.pop_mark()?;
                return self.set_items(items).map(|()| None);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' | 0x94 => {
                let key = match opcode {
                    b'q' => self.input.number(1)?,
                    b'r' => self.input.number(4)?,
                    _ => self.memo.len() as u64,
                };
                let value = self.top()?.clone();
                self.memo.insert(key, value);
                return Ok(None);
            }
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let key = self.input.number(if opcode == b'h' { 1 } else { 4 })?;
                self.memo.get(&key).cloned().ok_or_else(|| wrong("it refers to a value that it never stored"))?
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                global(module, name)?
            }
            0x93 => match &self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => global(module, name)?,
                _ => return Err(wrong("a name is not a string")),
            },
            // BINPERSID, REDUCE, BUILD
            b'Q' => {
                let id = self.pop()?;
                Value::Storage(Arc::new(self.storages.open(&self.heap, &id)?))
            }
            b'R' => match &self.pop_many(2)?[..] {
                [function, arguments] => self.call(function, arguments)?,
                _ => return Err(wrong("a call without arguments")),
            },
            b'b' => {
                let state = self.pop()?;
                return self.build(&state).map(|()| None);
            }
            other => return Err(refused(other)),
        };
        self.stack.push(value);
        Ok(None)
    }

    fn top(&self) -> Result<&Value, Diagnostic> {
        self.stack.last().ok_or_else(|| wrong("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Value, Diagnostic> {
        let value = self.stack.pop().ok_or_else(|| wrong("the stack is empty"))?;
        match self.marks.last() {
            Some(&height) if height > self.stack.len() => {
                Err(wrong("it takes more values than there are since the mark"))
            }
            _ => Ok(value),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, Diagnostic> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        Ok(items)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Diagnostic> {
        let height = self.marks.pop().ok_or_else(|| wrong("there is no mark"))?;
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    /// The container on top of the stack.
    fn target(&mut self) -> Result<&mut Container, Diagnostic> {
        match self.stack.last() {
            Some(Value::Container(id)) => self.heap.0.get_mut(*id).ok_or_else(|| wrong("a container is missing")),
            _ => Err(wrong("items are put into something that is no container")),
        }
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Diagnostic> {
        match self.target()? {
            Container::List(list) => list.extend(items),
            _ => return Err(wrong("items are appended to something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), Diagnostic> {
        let Container::Dict(dict) = self.target()? else {
            return Err(wrong("items are set in something that is no dictionary"));
        };
        let mut items = items.into_iter();
        while let Some(key) = items.next() {
            let value = items.next().ok_or_else(|| wrong("a dictionary has a key without a value"))?;
            dict.push((key, value));
        }
        Ok(())
    }

    /// What an allowed function makes of its arguments.
    fn call(&mut self, function: &Value, arguments: &Value) -> Result<Value, Diagnostic> {
        let Value::Global(function) = function else { return Err(wrong("it calls something that is no function")) };
        let arguments = self.heap.tuple(arguments).ok_or_else(|| wrong("the arguments of a call are no tuple"))?;
        let unexpected = || wrong(&format!("{function:?} with {} arguments of these types", arguments.len()));
        match (function, arguments) {
            (Global::OrderedDict, []) => Ok(self.heap.add(Container::Dict(Vec::new()))),
            (Global::Size, [sizes]) => Ok(sizes.clone()),
            (Global::Device, _) => Ok(Value::Opaque),
            (
                Global::RebuildTensor,
                [Value::Storage(storage), Value::Int(offset), size, stride, _grad, _hooks, rest @ ..],
            ) => {
                let dtype = match rest {
                    [Value::Global(Global::Typed(dtype)), ..] => Some(*dtype),
                    _ => None,
                };
                let numbers = |v: &Value| rebuild::numbers(&self.heap, v);
                let (size, stride) = (numbers(size), numbers(stride));
                let (Some(size), Some(stride)) = (size, stride) else { return Err(unexpected()) };
                let tensor = self.storages.tensor(storage, dtype, *offset, &size, &stride)?;
                Ok(Value::Tensor(Arc::new(tensor)))
            }
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
            _ => Err(unexpected()),
        }
    }

    /// The state of an ordered dictionary is torch's metadata and is dropped; nothing else may have a state.
    fn build(&mut self, _state: &Value) -> Result<(), Diagnostic> {
        match self.target() {
            Ok(Container::Dict(_)) => Ok(()),
            _ => Err(Diagnostic::unsupported("the pickle sets the attributes of an object").hint(SAVE_HINT)),
        }
    }
}

const SAVE_HINT: &str = "save only the weights: torch.save(model.state_dict(), file)";

fn global(module: &str, name: &str) -> Result<Value, Diagnostic> {
    let known = GLOBALS.iter().find(|(m, n, _)| *m == module && *n == name);
    known.map(|(_, _, global)| Value::Global(*global)).ok_or_else(|| {
        let full = quoted(&format!("{module}.{name}"));
        let types = ["float8", "float4", "complex", "quint", "qint", "bits"];
        if module == "torch" && (name.ends_with("Storage") || types.iter().any(|t| name.starts_with(t))) {
            return Diagnostic::unsupported(format!("the pickle names {full}, an element type that is not read"))
                .expected("bool, integers of 8 to 64 bits, float16, bfloat16, float32 or float64");
        }
        Diagnostic::unsupported(format!("the pickle names {full}, which is not allowed"))
            .expected("tensors and dictionaries only")
            .hint(SAVE_HINT)
    })
}

/// Opcodes that pickles may have and weights do not need; each is refused by its name.
fn refused(opcode: u8) -> Diagnostic {
    let name = match opcode {
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'g' => "GET",
        b'p' => "PUT",
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x82..=0x84 => "EXT",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        other => return wrong(&format!("there is no opcode 0x{other:02x}")),
    };
    Diagnostic::unsupported(format!("the pickle uses the opcode {name}, which is not allowed"))
        .expected("tensors and dictionaries only")
        .hint(SAVE_HINT)
}
