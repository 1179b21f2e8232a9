//! The content of a pickle as plain objects that refer to each other by number: shared and circular references cost
//! nothing, and no depth overflows a stack.

/// Number of an object among those of its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub(super) u32);

/// A value: small ones as they are, others by number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// An integer beyond 64 bits, as it is stored: little-endian two's complement, or digits.
    Long(&'a [u8]),
    /// A number.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Anything else.
    Object(Id),
}

/// An object that holds others.
#[derive(Clone, Debug, PartialEq)]
pub enum Object<'a> {
    /// A list.
    List(Vec<Value<'a>>),
    /// A tuple.
    Tuple(Vec<Value<'a>>),
    /// A set or a frozen set.
    Set(Vec<Value<'a>>),
    /// A dictionary, its entries in the order of the file.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A class or a function by its name.
    Global(&'a str, &'a str),
    /// The product of a call that never happens.
    Made(Box<Made<'a>>),
    /// A reference to something outside the pickle: a storage.
    Outside(Value<'a>),
}

/// An object that would be made by a call, which never happens here.
#[derive(Clone, Debug, PartialEq)]
pub struct Made<'a> {
    /// The class or function.
    pub callable: Value<'a>,
    /// Its arguments.
    pub arguments: Value<'a>,
    /// Its attributes, if any were set.
    pub state: Value<'a>,
    /// Elements that were appended.
    pub items: Vec<Value<'a>>,
    /// Entries that were set.
    pub entries: Vec<(Value<'a>, Value<'a>)>,
}

/// A whole pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub(super) objects: Vec<Object<'a>>,
    /// The outermost value.
    pub root: Value<'a>,
    /// Bytes that the pickle takes.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    /// The object that a value refers to, if it does.
    pub fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(Id(id)) => self.objects.get(id as usize),
            _ => None,
        }
    }

    /// Every object, in the order of the file.
    pub fn objects(&self) -> impl Iterator<Item = &Object<'a>> {
        self.objects.iter()
    }

    /// The elements of a tuple.
    pub fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        match self.object(value)? {
            Object::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// The call that would make a value.
    pub fn made(&self, value: Value<'a>) -> Option<&Made<'a>> {
        match self.object(value)? {
            Object::Made(made) => Some(made),
            _ => None,
        }
    }
}
