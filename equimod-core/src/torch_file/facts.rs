//! What a pickle says beside its tensors, as JSON: hyper-parameters, arguments, names.

use serde_json::{Map, Value as Json};

use super::object::{Object, Pickle, Value};

/// Objects in objects.
const DEPTH: usize = 6;
/// Most values.
const VALUES: usize = 1 << 12;
/// Longer lists are of numbers, not of settings.
const LIST: usize = 64;
/// Longer texts are none of settings.
const TEXT: usize = 1 << 10;

/// The settings in a pickle, whatever is no setting left out: dictionaries and objects as maps, lists and tuples as
/// lists.
pub fn facts(pickle: &Pickle) -> Json {
    json(pickle, pickle.root, DEPTH, &mut VALUES.clone()).unwrap_or(Json::Null)
}

fn json(pickle: &Pickle, value: Value, depth: usize, values: &mut usize) -> Option<Json> {
    (*values, _) = (values.checked_sub(1)?, depth.checked_sub(1)?);
    let simple = match value {
        Value::Bool(value) => Json::Bool(value),
        Value::Int(value) => value.into(),
        Value::Float(value) => serde_json::Number::from_f64(value)?.into(),
        Value::Text(text) if text.len() <= TEXT => text.into(),
        Value::Object(_) => return of_object(pickle, pickle.object(value)?, depth - 1, values),
        _ => return None,
    };
    Some(simple)
}

fn of_object(pickle: &Pickle, object: &Object, depth: usize, values: &mut usize) -> Option<Json> {
    let mut map = |entries: &[(Value, Value)]| {
        let mut map = Map::new();
        for (key, value) in entries {
            let Value::Text(key) = key else { continue };
            if let Some(value) = json(pickle, *value, depth, values) {
                map.insert((*key).to_owned(), value);
            }
        }
        map
    };
    match object {
        Object::List(items) | Object::Tuple(items) if items.len() <= LIST => {
            Some(items.iter().filter_map(|item| json(pickle, *item, depth, values)).collect())
        }
        Object::Dict(entries) => Some(Json::Object(map(entries))),
        Object::Made(made) => {
            let mut found = map(&made.entries);
            if let Some(Object::Dict(state)) = pickle.object(made.state) {
                found.append(&mut map(state));
            }
            (!found.is_empty()).then_some(Json::Object(found))
        }
        _ => None,
    }
}
