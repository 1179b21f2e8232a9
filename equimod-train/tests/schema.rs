//! The schema of recipe files accepts what `resolve` accepts, and describes every setting.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use equimod_core::{EquivarianceConfig, ObjectiveConfig};
use equimod_train::{BuiltIn, Recipe, recipe_schema, resolve};
use serde_json::Value;

const BUILT_IN: [BuiltIn; 1] =
    [BuiltIn { name: "small", text: "[backbone]\nwidth = 8\n[equivariance.equimod]\nweight = 0.5" }];

/// A schema that is itself valid.
struct Validator(Schemas, SchemaIndex);

impl Validator {
    fn new(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("recipe.schema.json", schema).unwrap();
        let index = compiler.compile("recipe.schema.json", &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn problem(&self, recipe: &Value) -> Option<String> {
        self.0.validate(recipe, self.1).err().map(|problem| problem.to_string())
    }
}

/// TOML as JSON.
fn json(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

/// Calls `f` with every schema inside this one, and its path.
fn walk(path: &str, schema: &Value, f: &mut impl FnMut(&str, &Value)) {
    f(path, schema);
    match schema {
        // The value there is data, not a schema.
        Value::Object(parts) => {
            for (key, part) in
                parts.iter().filter(|(key, _)| !["default", "enum", "const", "examples"].contains(&key.as_str()))
            {
                walk(&format!("{path}/{key}"), part, f);
            }
        }
        Value::Array(parts) => {
            parts.iter().enumerate().for_each(|(k, part)| walk(&format!("{path}/{k}"), part, f));
        }
        _ => {}
    }
}

#[test]
fn every_setting_is_described_and_no_other_is_taken() {
    let mut settings = 0;
    walk("", &recipe_schema(&BUILT_IN), &mut |path, schema| {
        let Some(properties) = schema["properties"].as_object() else { return };
        assert_eq!(schema["additionalProperties"], false, "{path} takes unknown names");
        for (name, setting) in properties {
            let about = setting["description"].as_str().unwrap_or_default();
            assert!(!about.is_empty(), "{path} {name} has no description: give its field a doc comment");
            assert!(!about.contains("[`") && !about.contains('\n'), "{path} {name}: {about:?} is not for editors");
            assert!(setting.get("default") != Some(&Value::Null), "{path} {name}: TOML has no null");
            settings += 1;
        }
    });
    assert!(settings > 100, "{settings}");
}

#[test]
fn whole_recipes_of_every_kind_are_taken_and_defaults_are_those_of_the_recipe() {
    let schema = recipe_schema(&BUILT_IN);
    let validator = Validator::new(schema.clone());
    let mut kinds = Vec::new();
    for section in ["objective", "optimizer", "backbone"] {
        for variant in schema["properties"][section]["anyOf"].as_array().unwrap() {
            let properties = variant["properties"].as_object().unwrap();
            let kind = properties["kind"]["const"].as_str().unwrap();
            kinds.push(kind.to_owned());
            let recipe = resolve(&BUILT_IN, "test", "", &[format!("{section}.kind={kind}")]).unwrap();
            let whole = Recipe { equivariance: EquivarianceConfig::all(), ..recipe };
            let whole = json(&whole.to_toml());
            assert_eq!(validator.problem(&whole), None, "{section} {kind}");
            for (name, value) in whole[section].as_object().unwrap().iter().filter(|(name, _)| *name != "kind") {
                assert_eq!(&properties[name]["default"], value, "{section} {kind} {name}");
            }
        }
    }
    assert_eq!(
        kinds[..ObjectiveConfig::LIST.len()],
        ObjectiveConfig::LIST.iter().map(|entry| entry.name).collect::<Vec<_>>()
    );
    let head = schema["properties"]["objective"]["anyOf"][0]["properties"]["projection_head"]["description"].as_str();
    let parts = ["g_inv, the projection head from the features", "widths joined by `-`", "e.g. `2048-2048-128 bn-`"];
    assert!(parts.iter().all(|part| head.unwrap().contains(part)), "{head:?}");
    let normalization = &schema["properties"]["normalization"]["default"];
    assert_eq!(normalization["std"].to_string(), "[0.247,0.243,0.261]");
}

#[test]
fn files_of_built_in_recipes_are_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/recipes");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned().leak() as &str);
    let built_in: Vec<_> = names.map(|name| BuiltIn { name, text: "" }).collect();
    let validator = Validator::new(recipe_schema(&built_in));
    for path in &files {
        let recipe = json(&fs::read_to_string(path).unwrap());
        assert_eq!(validator.problem(&recipe), None, "{}", path.display());
    }
    assert!(files.len() >= 18);
}

const POLICY: &str = r#"
[augmentation.policy]
name = "mine"
clean = { resize = 32, crop = 32, filter = "bilinear" }
views = [
  [{ kind = "resize", size = 32, filter = "bicubic" }, { kind = "quarter-turns" }],
  [{ kind = "resize", size = 32, filter = "bicubic" },
   { kind = "gaussian-blur", probability = 0.5, kernel = 3, sigma = [0.1, 2.0] }],
]
"#;

/// Asserts that the schema and `resolve` agree on every text.
fn agree(texts: &[String], taken: bool) {
    let validator = Validator::new(recipe_schema(&BUILT_IN));
    for text in texts {
        let resolved = resolve(&BUILT_IN, "test", text, &[]);
        assert_eq!(resolved.is_ok(), taken, "resolve: {resolved:?} of {text}");
        let problem = validator.problem(&json(text));
        assert_eq!(problem.is_none(), taken, "schema: {problem:?} of {text}");
    }
}

/// Texts with each of `values` for one setting of the module `module`.
fn settings(module: &str, key: &str, values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("[equivariance.{module}]\n{key} = {value}")).collect()
}

#[test]
fn parts_of_recipes_are_taken() {
    let texts = [
        "",
        "base = \"small\"",
        "base = \"small\"\n[equivariance]\nequimod = false",
        "[equivariance]\naugself = true",
        "[objective]\nweight = 2",
        "[objective]\nkind = \"vicreg\"\nvariance = 10",
        "[normalization]\nmean = [0.5, 0.5, 0.5]",
        "[augmentation]\npolicy = \"simclr-imagenet\"\nencoding = \"size-normalized\"\nparameters = [\"brightness\"]",
        POLICY,
    ];
    agree(&texts.map(String::from), true);
    agree(&settings("equimod", "weight", &["0", "0.5", "\"2\"", "\"0 to 1e-1 until .5\""]), true);
    agree(&settings("equimod", "tap", &["\"pooled\"", "\"stage4\""]), true);
    let predictors = ["128", "\"512-128\"", "\"128 bn-\"", "\"residual 512-128\"", "\"hypernetwork\""];
    agree(&settings("equimod", "predictor", &predictors), true);
    agree(&settings("stl", "predictor", &["\"hypernetwork 256-64\""]), true);
    agree(&settings("equimod", "parameter_head", &["64", "\"none\"", "\" 64-32  bias \""]), true);
    agree(&settings("augself", "predictions", &["[]", "[\"random-resized-crop 0.5\", \"color-jitter\"]"]), true);
}

#[test]
fn mistakes_are_reported() {
    let texts = [
        "base = \"smal\"",
        "about = 3",
        "[data]\nbatsch = 3",
        "[data]\nbatch = -1",
        "[schedule]\nepochs = \"many\"",
        "[objective]\nkind = \"vicrag\"",
        "[objective]\nkind = \"vicreg\"\ntemperature = 0.1",
        "[objective]\nkind = \"byol\"\ntarget = { momentun = 0.9 }",
        "[optimizer]\nmomentun = 0.9",
        "[equivariance]\nequimood = false",
        "[equivariance]\nequimod = 1",
        "[normalization]\nmean = [0.5]",
        "[augmentation]\npolicy = \"simclr\"",
        "[augmentation]\nencoding = \"size\"",
        "[augmentation]\nstatistics = \"measured\"",
    ];
    agree(&texts.map(String::from), false);
    let policies =
        [("probability", "probablity"), ("quarter-turns", "turns"), ("name = \"mine\"", ""), ("2.0", "\"2\"")];
    agree(&policies.map(|(right, wrong)| POLICY.replacen(right, wrong, 1)), false);
    agree(&settings("equimod", "weight", &["-1", "true", "\"0 to 1\"", "\"0 to 1 until\"", "\"much\""]), false);
    agree(&settings("equimod", "tap", &["\"stem\"", "1"]), false);
    let predictors = ["0", "\"residual\"", "\"hypernetwork 256 bn\"", "\"hypernetwork none\"", "\"linear\""];
    agree(&settings("equimod", "predictor", &predictors), false);
    agree(&settings("equimod", "parameter_head", &["0", "\"0\"", "\"64-\"", "\"64 norm\"", "[64]"]), false);
    agree(&settings("augself", "predictions", &["\"color-jitter\"", "[\"color-jitter much\"]"]), false);
}
