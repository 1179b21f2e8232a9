//! Settings stored with the tensors in a pickle, as JSON: hyperparameters, arguments, names.

use serde_json::{Map, Value as Json};

use super::object::{Instance, Object, Pickle, Value};

/// Largest nesting depth.
const DEPTH: usize = 12;
/// Largest number of values.
const VALUES: usize = 1 << 12;
/// Largest length of a list; longer ones hold data, not settings.
const LIST: usize = 64;
/// Largest length of a string; longer ones are not settings.
const TEXT: usize = 1 << 10;

/// Settings in a pickle: dictionaries and objects as maps, lists and tuples as lists. Everything else is left out.
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
            // Internal attributes of modules and state dicts are not settings.
            if key.starts_with('_') && !key.starts_with("__") {
                continue;
            }
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
        Object::Instance(instance) => {
            if let Some(inside) = inside_omegaconf(pickle, instance) {
                return json(pickle, inside, depth, values);
            }
            let mut found = map(&instance.entries);
            if let Some(Object::Dict(state)) = pickle.object(instance.state) {
                found.append(&mut map(state));
            }
            (!found.is_empty()).then_some(Json::Object(found))
        }
        _ => None,
    }
}

/// Content of an OmegaConf node; Hydra's configurations are trees of such nodes.
fn inside_omegaconf<'a>(pickle: &Pickle<'a>, instance: &Instance<'a>) -> Option<Value<'a>> {
    let (module, _) = pickle.global(instance.callable)?;
    let Some(Object::Dict(state)) = pickle.object(instance.state).filter(|_| module.starts_with("omegaconf.")) else {
        return None;
    };
    let inside = |(key, _): &&(Value, Value)| matches!(key, Value::Text("_content" | "_val"));
    state.iter().find(inside).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::super::pickle;
    use super::*;

    #[test]
    fn settings_of_hydra_are_those_in_its_nodes() {
        // DictConfig with _content {"name": AnyNode with _val "resnet18"}, each made by copyreg.__newobj__.
        let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        let open = |class: &str| [format!("comegaconf.x\n{class}\n").as_bytes(), b")\x81}"].concat();
        let node = [open("AnyNode"), text("_val"), text("resnet18"), b"sb".to_vec()].concat();
        let content = [b"}".to_vec(), text("name"), node, b"s".to_vec()].concat();
        let config = [open("DictConfig"), text("_content"), content, b"sb".to_vec()].concat();
        let bytes = [b"\x80\x02}".to_vec(), text("cfg"), config, b"s".to_vec(), b".".to_vec()].concat();
        assert_eq!(facts(&pickle::read(&bytes).unwrap()), serde_json::json!({"cfg": {"name": "resnet18"}}));
    }
}
