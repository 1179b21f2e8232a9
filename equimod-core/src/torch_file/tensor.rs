//! Construction of a tensor from its description in a pickle and its storage.

use candle_core::Tensor;

use super::element::{self, Element};
use super::fault::{Fault, Read};
use super::object::{Object, Pickle, Value};

/// Largest nesting depth of PyTorch's rebuild functions.
const DEPTH: usize = 8;

/// Description of a tensor in a pickle.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo<'a> {
    /// Element type.
    pub element: Element,
    /// Name of the storage.
    pub storage: &'a str,
    /// Offset in the storage, in elements.
    offset: usize,
    dims: Vec<usize>,
    stride: Vec<usize>,
}

/// Classification of an object as tensor or not.
pub enum Described<'a> {
    /// A tensor.
    Tensor(TensorInfo<'a>),
    /// A tensor or array that is not supported, with the reason.
    NotRead(String),
    /// Any other object.
    Other,
}

/// Classifies a value by the object that PyTorch would construct.
pub fn describe<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Described<'a> {
    let Some(instance) = pickle.instance(value) else { return Described::Other };
    of_call(pickle, instance.callable, instance.arguments, DEPTH)
}

fn of_call<'a>(pickle: &Pickle<'a>, callable: Value<'a>, arguments: Value<'a>, depth: usize) -> Described<'a> {
    let Some((module, name)) = pickle.global(callable) else { return Described::Other };
    let arguments = pickle.tuple(arguments).unwrap_or_default();
    let inner = |value: Option<&Value<'a>>| match (value.and_then(|value| pickle.instance(*value)), depth) {
        (Some(instance), 1..) => of_call(pickle, instance.callable, instance.arguments, depth - 1),
        _ => Described::NotRead("a parameter without its tensor".into()),
    };
    match (module, name) {
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => inner(arguments.first()),
        // The arguments are a function, the class, and the function's arguments.
        ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => match (arguments, depth) {
            ([function, _, inner, ..], 1..) => of_call(pickle, *function, *inner, depth - 1),
            _ => Described::NotRead("a tensor of a class of its own".into()),
        },
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            let element = arguments.get(6).filter(|_| name.ends_with("v3")).map(|element| pickle.global(*element));
            match info(pickle, arguments, element) {
                Ok(info) if info.element.is_read() => Described::Tensor(info),
                Ok(info) => Described::NotRead(format!("its type torch.{} is not read", info.element.name)),
                Err(why) => Described::NotRead(why),
            }
        }
        ("torch._utils" | "torch._tensor" | "torch", name) if name.starts_with("_rebuild") => {
            Described::NotRead(format!("a tensor that {module}.{name} makes is not read"))
        }
        (_, "_reconstruct") if module.starts_with("numpy") => {
            Described::NotRead("an array of NumPy is not read".into())
        }
        _ => Described::Other,
    }
}

/// Description from the arguments storage, offset, size, stride, …; `element` is the element type if they name it.
fn info<'a>(
    pickle: &Pickle<'a>,
    arguments: &[Value<'a>],
    element: Option<Option<(&'a str, &'a str)>>,
) -> std::result::Result<TensorInfo<'a>, String> {
    let unknown = || "what its file says of it is not understood".to_owned();
    let [storage, offset, dims, stride, ..] = *arguments else { return Err(unknown()) };
    let (Object::Outside(storage), Value::Int(offset)) = (pickle.object(storage).ok_or_else(unknown)?, offset) else {
        return Err(unknown());
    };
    // The word "storage", its class, name, device and length, and in old files its parent storage.
    let parts = pickle.tuple(*storage).ok_or_else(unknown)?;
    let [_, class, Value::Text(storage), ..] = *parts else { return Err(unknown()) };
    let class = pickle.global(class).ok_or_else(unknown)?.1;
    let element = match element {
        Some(named) => {
            let name = named.ok_or_else(unknown)?.1;
            element::of_type(name).ok_or_else(|| format!("its type torch.{name} is not read"))?
        }
        None => element::of_storage(class).ok_or_else(|| format!("its type torch.{class} is not read"))?,
    };
    let within = match parts.get(5).and_then(|view| pickle.tuple(*view)) {
        Some([_, Value::Int(start), _]) => *start,
        _ => 0,
    };
    let number = |value: i64| usize::try_from(value).map_err(|_| unknown());
    let numbers = |value| -> std::result::Result<Vec<usize>, String> {
        let items = pickle.tuple(value).ok_or_else(unknown)?.iter();
        items.map(|item| if let Value::Int(item) = *item { number(item) } else { Err(unknown()) }).collect()
    };
    let (dims, stride) = (numbers(dims)?, numbers(stride)?);
    if dims.len() != stride.len() {
        return Err(unknown());
    }
    let offset = number(offset)?.checked_add(number(within)?).ok_or_else(unknown)?;
    Ok(TensorInfo { element, storage, offset, dims, stride })
}

impl TensorInfo<'_> {
    /// The tensor with its elements in `storage`, for any strides; `name` is used in errors.
    ///
    /// # Errors
    ///
    /// If the storage is too short, or the element type or the size is not supported.
    pub fn tensor(&self, storage: &[u8], name: &str) -> Read<Tensor> {
        let cut = || Fault::Truncated(format!("the storage of {name} is shorter than the tensor"));
        let count = self.dims.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim)).ok_or_else(cut)?;
        let bytes = match count {
            0 => Vec::new().into(),
            _ => self.elements(storage, count).ok_or_else(cut)?,
        };
        self.element.tensor(&bytes, &self.dims).map_err(|e| {
            // The lines after the first are a backtrace, if enabled.
            Fault::NotRead(format!("{name}: {}", e.to_string().lines().next().unwrap_or_default()))
        })
    }

    /// Bytes of the elements in row-major order; `None` unless all are within the storage.
    fn elements<'s>(&self, storage: &'s [u8], count: usize) -> Option<std::borrow::Cow<'s, [u8]>> {
        let size = self.element.size;
        let storage = storage.get(self.offset.checked_mul(size)?..)?;
        let steps = self.dims.iter().zip(&self.stride).map(|(dim, stride)| (dim - 1).checked_mul(*stride));
        let reach = steps.into_iter().try_fold(0usize, |all, step| all.checked_add(step?))?;
        if reach.checked_add(1)?.checked_mul(size)? > storage.len() {
            return None;
        }
        if self.is_contiguous() {
            return storage.get(..count.checked_mul(size)?).map(Into::into);
        }
        // With strides of zero, a few bytes can describe more elements than fit into memory.
        if count > storage.len().saturating_mul(64) {
            return None;
        }
        let mut bytes = Vec::with_capacity(count * size);
        for number in 0..count {
            let place = self.place(number) * size;
            bytes.extend_from_slice(&storage[place..place + size]);
        }
        Some(bytes.into())
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.dims.iter().zip(&self.stride).rev().all(|(dim, stride)| {
            let fits = *dim == 1 || *stride == expected;
            expected *= dim;
            fits
        })
    }

    /// Position in the storage, in elements, of the element with the row-major index `number`.
    fn place(&self, number: usize) -> usize {
        let (mut rest, mut place) = (number, 0);
        for (dim, stride) in self.dims.iter().zip(&self.stride).rev() {
            place += rest % dim * stride;
            rest /= dim;
        }
        place
    }
}
