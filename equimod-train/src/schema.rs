//! A JSON Schema of recipe files, for editors. It is derived from the settings: their doc comments are descriptions.
//!
//! A file says less than a recipe: `base`, no setting that may stay as it is, and `false` for a module. Those three are
//! added here, as [`resolve`](mod@crate::resolve) reads them.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use crate::recipe::Recipe;
use crate::resolve::BuiltIn;

/// The schema (draft 2020-12) of recipe files that may build on these recipes.
pub fn recipe_schema(built_in: &[BuiltIn]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(tidy));
    // Editors show what stands beside a reference or what it leads to, seldom both.
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Recipe>();
    schema.insert("title".into(), "equimod recipe".into());
    schema.insert("description".into(), "What a recipe does not say is as in its base, or has its default.".into());
    if let Some(Value::Object(sections)) = schema.get_mut("properties") {
        sections.values_mut().filter_map(Value::as_object_mut).for_each(make_partial);
        sections.get_mut("equivariance").into_iter().for_each(let_modules_be_off);
        sections.insert("base".into(), base(built_in));
    }
    schema.to_value()
}

fn base(built_in: &[BuiltIn]) -> Value {
    let names: Vec<&str> = built_in.iter().map(|recipe| recipe.name).collect();
    let about = "The built-in recipe that this one builds on; without it, the defaults. See `equimod list recipes`.";
    json!({ "type": "string", "enum": names, "description": about })
}

/// Without `kind` a section may hold the settings of any variant: those of the base's.
fn make_partial(section: &mut Map<String, Value>) {
    section.remove("required");
    if let Some(mut variants) = section.remove("oneOf") {
        let each = variants.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        each.for_each(|variant| _ = variant.remove("required"));
        section.insert("anyOf".into(), variants);
    }
}

/// A module is a table, or `false` where the base has it on. TOML has no null.
fn let_modules_be_off(section: &mut Value) {
    let modules = section.get_mut("properties").and_then(Value::as_object_mut);
    for module in modules.into_iter().flat_map(Map::values_mut) {
        let mut table = module.take();
        let about = table["description"].clone();
        if let Some(table) = table.as_object_mut() {
            table.remove("default");
            table.insert("type".into(), "object".into());
        }
        let off = json!({ "const": false, "description": "Turns the module off that the base has on." });
        *module = json!({ "description": about, "anyOf": [table, off] });
    }
}

/// Descriptions in one line each, also for `kind`; defaults as they are written.
fn tidy(schema: &mut Schema) {
    if let Some(Value::String(about)) = schema.get_mut("description") {
        *about = about.replace('\n', " ");
    }
    let about = schema.get("description").cloned();
    if let (Some(about), Some(kind)) = (about, schema.pointer_mut("/properties/kind")) {
        kind["description"] = about;
    }
    schema.get_mut("default").into_iter().for_each(shorten);
}

/// Numbers of single precision come with the digits of double precision, which nobody wrote.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(values) => values.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let single = number.as_f64().map(|double| (double, double as f32));
            let written = single.filter(|&(double, single)| f64::from(single) == double);
            if let Some(Ok(short)) = written.map(|(_, single)| single.to_string().parse::<f64>()) {
                *value = short.into();
            }
        }
        _ => {}
    }
}
