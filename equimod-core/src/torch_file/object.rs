//! Content of a pickle as plain objects that refer to each other by index. Shared and circular references are cheap,
//! and no nesting depth overflows the stack.

/// Index of an object in its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub(super) u32);

/// A value: small ones inline, others by index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// An integer beyond 64 bits, as stored: little-endian two's complement, or digits.
    Long(&'a [u8]),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Any other object.
    Object(Id),
}

/// An object that contains or refers to others.
#[derive(Clone, Debug, PartialEq)]
pub enum Object<'a> {
    /// A list.
    List(Vec<Value<'a>>),
    /// A tuple.
    Tuple(Vec<Value<'a>>),
    /// A set or a frozen set.
    Set(Vec<Value<'a>>),
    /// A dictionary, with its entries in the order of the file.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A class or function, by module and name.
    Global(&'a str, &'a str),
    /// The result of a call, which is never executed.
    Instance(Box<Instance<'a>>),
    /// A reference to something outside the pickle: a storage.
    Outside(Value<'a>),
}

/// An object that a call would construct; the call is never executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance<'a> {
    /// Class or function.
    pub callable: Value<'a>,
    /// Arguments of the call.
    pub arguments: Value<'a>,
    /// Attributes of the object, if any were set.
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
    /// Outermost value.
    pub root: Value<'a>,
    /// Length of the pickle, in bytes.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    /// Object that a value refers to; `None` for inline values.
    pub fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(Id(id)) => self.objects.get(id as usize),
            _ => None,
        }
    }

    /// All objects in the order of the file.
    pub fn objects(&self) -> impl Iterator<Item = &Object<'a>> {
        self.objects.iter()
    }

    /// Elements of a tuple; `None` for any other value.
    pub fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a class or function; `None` for any other value.
    pub fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        match self.object(value)? {
            Object::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// Call that would construct a value; `None` for any other value.
    pub fn instance(&self, value: Value<'a>) -> Option<&Instance<'a>> {
        match self.object(value)? {
            Object::Instance(instance) => Some(instance),
            _ => None,
        }
    }
}
