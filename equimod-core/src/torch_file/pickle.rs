//! Parser of pickles of protocols 0 to 5 (PEP 307, PEP 3154, PEP 574), which builds plain objects and executes nothing.

use std::collections::HashMap;

use super::fault::{Fault, Read, not_read};
use super::object::{Id, Instance, Object, Pickle, Value};

/// Largest number of objects in a pickle; a checkpoint has some thousands.
const OBJECTS: usize = 1 << 24;
/// Largest number of values on the stack and in objects: those of a list of 64 million numbers.
const VALUES: usize = 1 << 26;

/// Parses the pickle at the start of `bytes`.
///
/// # Errors
///
/// If it is truncated, is no pickle, or exceeds the largest number of objects or values.
pub fn read(bytes: &[u8]) -> Read<Pickle<'_>> {
    let mut machine = Machine {
        bytes,
        place: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
        values: 0,
    };
    while !machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickle { objects: machine.objects, root, length: machine.place })
}

struct Machine<'a> {
    bytes: &'a [u8],
    place: usize,
    stack: Vec<Value<'a>>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
    /// Number of values so far.
    values: usize,
}

impl<'a> Machine<'a> {
    /// Interprets one opcode; returns whether it was the last one.
    fn step(&mut self) -> Read<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(true),
            // Protocol and frame need no action, because all bytes are in memory.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'N' | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | 0x88 | 0x89 | b'F' | b'G' => self.number(code)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.text(code)?,
            b'(' | b'0' | b'1' | b'2' | b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.shuffle(code)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.collection(code)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(code)?,
            b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' | b'P' | b'Q' => self.construct(code)?,
            // Out-of-band buffers, which `torch.save` never writes.
            0x97 | 0x98 => return not_read("its pickle refers to buffers outside the file"),
            0x82..=0x84 => return not_read("its pickle uses the extension registry, which no file of PyTorch does"),
            other => return not_read(format!("byte {} of its pickle is no instruction: {other:#04x}", self.place - 1)),
        }
        Ok(false)
    }

    fn number(&mut self, code: u8) -> Read<()> {
        let value = match code {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(code == 0x88),
            b'K' => Value::Int(self.take(1)?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let length = self.take(1)?[0].into();
                long(self.take(length)?)
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                long(self.take(length as usize)?)
            }
            _ => digits(code, self.line()?)?,
        };
        self.push(value)
    }

    fn text(&mut self, code: u8) -> Read<()> {
        if matches!(code, b'S' | b'V') {
            let line = self.line()?;
            let quoted = if code == b'S' && line.len() >= 2 { &line[1..line.len() - 1] } else { line };
            return self.push(text(quoted));
        }
        let length = match code {
            b'U' | 0x8c | b'C' => self.take(1)?[0].into(),
            b'T' | b'X' | b'B' => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        let content = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(if matches!(code, b'B' | b'C' | 0x8e | 0x96) { Value::Bytes(content) } else { text(content) })
    }

    /// Opcodes of the stack, the marks and the memo.
    fn shuffle(&mut self, code: u8) -> Read<()> {
        match code {
            b'(' => {
                self.count(1)?;
                self.marks.push(self.stack.len());
            }
            // Python pops a mark if it is on top.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => self.push(self.top()?)?,
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'q' => {
                let number = self.take(1)?[0].into();
                self.memoize(number)?;
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.memoize(number)?;
            }
            b'p' => {
                let number = index(self.line()?)?;
                self.memoize(number)?;
            }
            _ => {
                let number = match code {
                    b'h' => self.take(1)?[0].into(),
                    b'j' => u32::from_le_bytes(self.array()?),
                    _ => index(self.line()?)?,
                };
                let Some(value) = self.memo.get(&number).copied() else {
                    return not_read("its pickle refers to an object that it does not hold");
                };
                self.push(value)?;
            }
        }
        Ok(())
    }

    fn collection(&mut self, code: u8) -> Read<()> {
        let object = match code {
            b')' => Object::Tuple(Vec::new()),
            b']' => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            0x8f => Object::Set(Vec::new()),
            b't' => Object::Tuple(self.since_mark()?),
            b'l' => Object::List(self.since_mark()?),
            0x91 => Object::Set(self.since_mark()?),
            b'd' => Object::Dict(pairs(&self.since_mark()?)?),
            _ => {
                let count = usize::from(code - 0x84);
                let Some(start) = self.stack.len().checked_sub(count) else { return empty() };
                Object::Tuple(self.stack.split_off(start))
            }
        };
        self.push_object(object)
    }

    /// Opcodes that add elements or entries to the object below them on the stack.
    fn fill(&mut self, code: u8) -> Read<()> {
        let values = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.since_mark()?,
        };
        let object = match self.top()? {
            Value::Object(Id(id)) => self.objects.get_mut(id as usize),
            _ => None,
        };
        match (object, code) {
            (Some(Object::List(items)), b'a' | b'e') | (Some(Object::Set(items)), 0x90) => items.extend(values),
            (Some(Object::Dict(entries)), b's' | b'u') => entries.extend(pairs(&values)?),
            (Some(Object::Instance(instance)), b's' | b'u') => instance.entries.extend(pairs(&values)?),
            (Some(Object::Instance(instance)), _) => instance.items.extend(values),
            _ => return not_read("its pickle puts elements into something that holds none"),
        }
        Ok(())
    }

    fn construct(&mut self, code: u8) -> Read<()> {
        match code {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return not_read("its pickle names a class by something that is no text");
                };
                self.push_object(Object::Global(module, name))
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let arguments = self.since_mark()?;
                self.push_global(module, name)?;
                self.push_object(Object::Tuple(arguments))?;
                self.make()
            }
            b'o' => {
                let mut arguments = self.since_mark()?;
                if arguments.is_empty() {
                    return empty();
                }
                let class = arguments.remove(0);
                self.push(class)?;
                self.push_object(Object::Tuple(arguments))?;
                self.make()
            }
            b'R' | 0x81 => self.make(),
            0x92 => {
                let _by_name = self.pop()?;
                self.make()
            }
            b'b' => self.build(),
            b'Q' => {
                let id = self.pop()?;
                self.push_object(Object::Outside(id))
            }
            _ => {
                let id = text(self.line()?);
                self.push_object(Object::Outside(id))
            }
        }
    }

    /// Opcodes that call a function or class: the result is recorded, and the call is not executed.
    fn make(&mut self) -> Read<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (state, items, entries) = (Value::None, Vec::new(), Vec::new());
        self.push_object(Object::Instance(Box::new(Instance { callable, arguments, state, items, entries })))
    }

    /// Sets the attributes of the object below them on the stack.
    fn build(&mut self) -> Read<()> {
        let (state, below) = (self.pop()?, self.top()?);
        let Value::Object(Id(id)) = below else { return not_read("its pickle sets attributes of a number or a text") };
        if let Some(Object::Instance(instance)) = self.objects.get_mut(id as usize) {
            instance.state = state;
            return Ok(());
        }
        // A class or an external reference, treated as the call that constructs the object.
        let (items, entries) = (Vec::new(), Vec::new());
        self.pop()?;
        let instance = Instance { callable: below, arguments: Value::None, state, items, entries };
        self.push_object(Object::Instance(Box::new(instance)))
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let found = self.place.checked_add(length).and_then(|end| self.bytes.get(self.place..end));
        let Some(found) = found else { return Err(Fault::Truncated("its pickle ends in the middle".into())) };
        self.place += length;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Bytes up to a line feed, without it.
    fn line(&mut self) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.place..];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn count(&mut self, more: usize) -> Read<()> {
        self.values += more;
        match self.values <= VALUES && self.objects.len() < OBJECTS {
            true => Ok(()),
            false => not_read(format!("beside tensors it holds more than {VALUES} values or {OBJECTS} objects")),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Read<()> {
        self.count(1)?;
        self.stack.push(value);
        Ok(())
    }

    fn push_object(&mut self, object: Object<'a>) -> Read<()> {
        self.push(Value::Object(Id(self.objects.len() as u32)))?;
        self.objects.push(object);
        Ok(())
    }

    fn push_global(&mut self, module: &'a [u8], name: &'a [u8]) -> Read<()> {
        match (std::str::from_utf8(module), std::str::from_utf8(name)) {
            (Ok(module), Ok(name)) => self.push_object(Object::Global(module, name)),
            _ => not_read("its pickle names a class by something that is no text"),
        }
    }

    /// Top of the stack, which must be above the last mark.
    fn top(&self) -> Read<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[_]>::last).copied().map_or_else(empty, Ok)
    }

    fn pop(&mut self) -> Read<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Read<Vec<Value<'a>>> {
        let Some(mark) = self.marks.pop() else { return empty() };
        if mark > self.stack.len() {
            return empty();
        }
        Ok(self.stack.split_off(mark))
    }

    fn memoize(&mut self, number: u32) -> Read<()> {
        let top = self.top()?;
        self.count(1)?;
        self.memo.insert(number, top);
        Ok(())
    }
}

fn empty<T>() -> Read<T> {
    not_read("its pickle takes more from its stack than is on it")
}

fn pairs<'a>(values: &[Value<'a>]) -> Read<Vec<(Value<'a>, Value<'a>)>> {
    match values.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()),
        _ => not_read("its pickle has a dictionary with a key but no value"),
    }
}

/// A string, or bytes if it is not UTF-8 (strings of Python 2).
fn text(content: &[u8]) -> Value<'_> {
    std::str::from_utf8(content).map_or(Value::Bytes(content), Value::Text)
}

/// A little-endian two's complement integer.
fn long(content: &[u8]) -> Value<'_> {
    if content.len() > 8 {
        return Value::Long(content);
    }
    let negative = content.last().is_some_and(|last| last & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..content.len()].copy_from_slice(content);
    Value::Int(i64::from_le_bytes(bytes))
}

/// An integer in the decimal digits of protocol 0.
fn digits(code: u8, line: &[u8]) -> Read<Value<'_>> {
    let shown = std::str::from_utf8(line).unwrap_or_default();
    let value = match (code, line) {
        (b'I', b"00") => Some(Value::Bool(false)),
        (b'I', b"01") => Some(Value::Bool(true)),
        (b'F', _) => shown.parse().ok().map(Value::Float),
        _ => {
            let digits = shown.strip_suffix('L').unwrap_or(shown);
            let is_number = digits.strip_prefix('-').unwrap_or(digits).bytes().all(|b| b.is_ascii_digit());
            let long = || (is_number && !digits.is_empty()).then_some(Value::Long(digits.as_bytes()));
            digits.parse().ok().map(Value::Int).or_else(long)
        }
    };
    value.map_or_else(|| not_read("its pickle holds a number that is none"), Ok)
}

fn index(line: &[u8]) -> Read<u32> {
    let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    number.map_or_else(|| not_read("its pickle numbers an object by something that is no number"), Ok)
}
