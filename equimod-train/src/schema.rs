//! JSON Schema of recipe files, for editors, derived from the settings: doc comments become descriptions.
//!
//! A recipe file differs from a resolved recipe in three ways, which are added here as [`resolve`](mod@crate::resolve)
//! reads them: it may name a `base`, it may leave out any setting, and it may turn a module on
//! with `true` and off with `false`.

use equimod_core::EquivarianceConfig;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use crate::recipe::Recipe;
use crate::resolve::BuiltIn;

/// JSON Schema (draft 2020-12) of recipe files that may build on the recipes `built_in`.
pub fn recipe_schema(built_in: &[BuiltIn]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(tidy));
    // Editors show either the text beside a reference or the text of its target, rarely both.
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Recipe>();
    schema.insert("title".into(), "equimod recipe".into());
    schema.insert(
        "description".into(),
        "Settings that a recipe leaves out come from its base, or else have their defaults.".into(),
    );
    if let Some(Value::Object(sections)) = schema.get_mut("properties") {
        sections.values_mut().filter_map(Value::as_object_mut).for_each(make_partial);
        sections.get_mut("equivariance").into_iter().for_each(add_registered_modules);
        sections.get_mut("equivariance").into_iter().for_each(let_modules_be_off);
        sections.insert("base".into(), base(built_in));
    }
    schema.to_value()
}

fn base(built_in: &[BuiltIn]) -> Value {
    let names: Vec<&str> = built_in.iter().map(|recipe| recipe.name).collect();
    let about = "Built-in recipe that this one builds on; if absent, the defaults. See `equimod list recipes`.";
    json!({ "type": "string", "enum": names, "description": about })
}

/// Lets a section without `kind` hold the settings of any variant, since the base decides which one it is.
fn make_partial(section: &mut Map<String, Value>) {
    section.remove("required");
    if let Some(mut variants) = section.remove("oneOf") {
        let each = variants.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        each.for_each(|variant| _ = variant.remove("required"));
        section.insert("anyOf".into(), variants);
    }
}

/// Adds the modules that this program registers. They check their settings when they read them.
fn add_registered_modules(section: &mut Value) {
    let Some(modules) = section.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for entry in EquivarianceConfig::list() {
        let settings = || json!({ "type": "object", "description": entry.line() });
        modules.entry(entry.name).or_insert_with(settings);
    }
}

/// Lets a module be a table, `true` for its defaults, or `false` to turn off one that the base turns on. TOML has no null.
fn let_modules_be_off(section: &mut Value) {
    let modules = section.get_mut("properties").and_then(Value::as_object_mut);
    for module in modules.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        module.remove("default");
        module.insert("type".into(), json!(["object", "boolean"]));
        let comment = "`true` turns a module on with its defaults, and `false` turns off one that the base turns on.";
        module.insert("$comment".into(), comment.into());
        describe(module);
    }
}

/// Rewrites a schema for editors: one-line descriptions, choices as an `enum`, and defaults with the digits of the
/// source.
fn tidy(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else { return };
    describe(schema);
    if let Some(about) = schema.get("description").cloned()
        && let Some(kind) = schema.get_mut("properties").and_then(|properties| properties.get_mut("kind"))
    {
        kind["description"] = about;
    }
    if let Some((names, docs)) = choices(schema) {
        schema.remove("oneOf");
        schema.insert("type".into(), "string".into());
        schema.insert("enum".into(), names);
        schema.insert("x-taplo".into(), json!({ "docs": { "enumValues": docs } }));
    }
    schema.get_mut("default").into_iter().for_each(shorten);
}

/// Appends the schema's comment to its description.
fn describe(schema: &mut Map<String, Value>) {
    let parts = ["description", "$comment"].map(|key| schema.get(key).and_then(Value::as_str));
    let about = parts.into_iter().flatten().collect::<Vec<_>>().join(" ").replace('\n', " ");
    schema.remove("$comment");
    if !about.is_empty() {
        schema.insert("description".into(), about.into());
    }
}

/// Names and descriptions of the options, if the schema is a choice.
fn choices(schema: &Map<String, Value>) -> Option<(Value, Value)> {
    let one_of = schema.get("oneOf")?.as_array()?;
    let part = |key: &str| one_of.iter().map(|choice| choice.get(key).cloned()).collect::<Option<Value>>();
    Some((part("const")?, part("description")?))
}

/// Shortens single-precision defaults, which serialize with the digits of double precision.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(values) => values.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let double = number.as_f64().unwrap_or_default();
            let single = double as f32;
            if f64::from(single) == double
                && let Ok(short) = single.to_string().parse::<f64>()
            {
                *value = short.into();
            }
        }
        _ => {}
    }
}
