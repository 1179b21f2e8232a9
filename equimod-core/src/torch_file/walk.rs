//! Search for the named tensors of a pickle, and for its other content.

use super::object::{Object, Pickle, Value};
use super::tensor::{Described, TensorInfo, describe};

/// Attributes of a module that do not appear in the names of its tensors.
const INSIDE_MODULES: [&str; 3] = ["_modules", "_parameters", "_buffers"];
/// Largest nesting depth.
const DEPTH: usize = 200;
/// Largest number of visited objects: circular references would make the search endless.
const VISITS: usize = 1 << 21;

/// Content of a pickle.
#[derive(Default)]
pub struct PickleContent<'a> {
    /// Tensors by name.
    pub tensors: Vec<(String, TensorInfo<'a>)>,
    /// Tensors and arrays that are not supported, each with the reason.
    pub not_read: Vec<String>,
    /// Content of the outermost dictionary or tuple other than tensors, in words.
    pub beside: Vec<String>,
}

/// Searches dictionaries, lists, tuples and modules for tensors. The name of a tensor is prefixed by the keys of the
/// objects around it; elements of lists and tuples are named by their index.
pub fn walk<'a>(pickle: &Pickle<'a>) -> PickleContent<'a> {
    let mut walk = Walk { pickle, found: PickleContent::default(), visits: VISITS, cut: false };
    walk.outermost();
    if walk.cut {
        walk.found.not_read.push("what is nested too deep, or refers to itself too often".into());
    }
    walk.found
}

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    found: PickleContent<'a>,
    visits: usize,
    /// Whether some objects were not visited.
    cut: bool,
}

impl<'a> Walk<'_, 'a> {
    fn outermost(&mut self) {
        let parts = parts(self.pickle, self.pickle.root);
        for (key, value) in parts {
            let before = self.found.tensors.len() + self.found.not_read.len();
            let name = name("", &key);
            self.value(value, &name, DEPTH);
            if self.found.tensors.len() + self.found.not_read.len() == before && !name.is_empty() {
                self.found.beside.push(format!("{name} ({})", kind(self.pickle, value)));
            }
        }
    }

    fn value(&mut self, value: Value<'a>, name: &str, depth: usize) {
        if self.pickle.object(value).is_none() {
            return;
        }
        let (Some(depth), Some(visits)) = (depth.checked_sub(1), self.visits.checked_sub(1)) else {
            self.cut = true;
            return;
        };
        self.visits = visits;
        match describe(self.pickle, value) {
            // A tensor on its own has no name.
            Described::Tensor(info) if !name.is_empty() => self.found.tensors.push((name.to_owned(), info)),
            Described::NotRead(why) if !name.is_empty() => self.found.not_read.push(format!("{name}: {why}")),
            Described::Tensor(_) | Described::NotRead(_) => {}
            Described::Other => {
                for (key, inner) in parts(self.pickle, value) {
                    if self.pickle.object(inner).is_some() {
                        self.value(inner, &self::name(name, &key), depth);
                    }
                }
            }
        }
    }
}

/// Name of a part within its container.
enum Key<'a> {
    Text(&'a str),
    Number(usize),
    /// The attribute of a module that holds all others.
    Transparent,
}

fn name(before: &str, key: &Key) -> String {
    match (before, key) {
        (before, Key::Transparent) => before.to_owned(),
        ("", Key::Text(key)) => (*key).to_owned(),
        ("", Key::Number(number)) => number.to_string(),
        (before, Key::Text(key)) => format!("{before}.{key}"),
        (before, Key::Number(number)) => format!("{before}.{number}"),
    }
}

/// Parts of a dictionary, list, tuple or module. Entries whose keys are not strings are skipped (those of an
/// optimizer's state are numbers).
fn parts<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Vec<(Key<'a>, Value<'a>)> {
    let of_entries = |entries: &[(Value<'a>, Value<'a>)]| -> Vec<(Key<'a>, Value<'a>)> {
        let keyed = entries.iter().filter_map(|(key, value)| match key {
            Value::Text(key) if INSIDE_MODULES.contains(key) => Some((Key::Transparent, *value)),
            Value::Text(key) => Some((Key::Text(key), *value)),
            _ => None,
        });
        keyed.collect()
    };
    match pickle.object(value) {
        Some(Object::Dict(entries)) => of_entries(entries),
        Some(Object::List(items) | Object::Tuple(items)) => {
            items.iter().enumerate().map(|(number, item)| (Key::Number(number), *item)).collect()
        }
        Some(Object::Instance(instance)) => {
            let mut parts = of_entries(&instance.entries);
            parts.extend(paired(pickle, instance.arguments));
            match pickle.object(instance.state) {
                Some(Object::Dict(entries)) => parts.extend(of_entries(entries)),
                // Attributes of a class with slots: first those in its `__dict__`, then those in its slots.
                Some(Object::Tuple(both)) => parts.extend(both.iter().map(|state| (Key::Transparent, *state))),
                _ => {}
            }
            parts
        }
        _ => Vec::new(),
    }
}

/// Entries of an `OrderedDict` of Python 2, which is constructed from a list of pairs.
fn paired<'a>(pickle: &Pickle<'a>, arguments: Value<'a>) -> Vec<(Key<'a>, Value<'a>)> {
    let Some([list]) = pickle.tuple(arguments) else { return Vec::new() };
    let Some(Object::List(pairs)) = pickle.object(*list) else { return Vec::new() };
    let pair = |pair: &Value<'a>| match pickle.object(*pair) {
        Some(Object::List(pair) | Object::Tuple(pair)) => match pair.as_slice() {
            [Value::Text(key), value] => Some((Key::Text(key), *value)),
            _ => None,
        },
        _ => None,
    };
    pairs.iter().filter_map(pair).collect()
}

/// Description of a value in words.
fn kind(pickle: &Pickle, value: Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(value) => if value { "True" } else { "False" }.into(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Long(_) => "a number".into(),
        Value::Text(text) if text.len() <= 40 => format!("{text:?}"),
        Value::Text(_) => "a text".into(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Object(_) => match pickle.object(value) {
            Some(Object::List(items)) => format!("a list of {}", items.len()),
            Some(Object::Tuple(items)) => format!("a tuple of {}", items.len()),
            Some(Object::Set(items)) => format!("a set of {}", items.len()),
            Some(Object::Dict(entries)) => format!("a dictionary of {}", entries.len()),
            Some(Object::Global(module, name)) => format!("{module}.{name}"),
            Some(Object::Instance(instance)) => match pickle.global(instance.callable) {
                Some((module, name)) => format!("an object of {module}.{name}"),
                None => "an object".into(),
            },
            Some(Object::Outside(_)) | None => "a storage".into(),
        },
    }
}
