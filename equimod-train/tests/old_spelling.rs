//! Recipes and descriptions of models in the British spelling of earlier versions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use equimod_core::objective::SimClrConfig;
use equimod_core::{
    Description, MethodConfig, Normalization, ObjectiveConfig, PairValue, Parameters, Preprocessing, ViewValue,
};
use equimod_data::{LayoutConfig, ParamLayout, Policy, Size};
use equimod_train::recipe::{AugmentationRecipe, Recipe};
use equimod_train::resolve::resolve;

const NEW: &str = r#"
[normalization]
mean = [0.5, 0.5, 0.5]
[guard]
least_std = 0.01
[augmentation]
encoding = "size-normalized"
parameters = ["color-jitter", "crop_center_x", "equalize"]
[augmentation.policy]
name = "mine"
clean = { resize = 32, crop = 32, filter = "bilinear" }
views = [[
    { kind = "random-resized-crop", size = 32, scale = [0.2, 1.0], ratio = [0.75, 1.3], filter = "bilinear" },
    { kind = "color-jitter", probability = 0.8, brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 },
    { kind = "equalize", probability = 0.1 },
], [
    { kind = "resize", size = 36, filter = "bilinear" },
    { kind = "center-crop", size = 32 },
    { kind = "color-jitter", probability = 0.8, brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 },
    { kind = "equalize", probability = 0.1 },
]]
[equivariance.augself]
predictions = ["color-jitter 0.5"]
"#;

/// Every name as earlier versions spelled it.
fn old(text: &str) -> String {
    let names = [
        ("normalization", "normalisation"),
        ("least_std", "least_deviation"),
        ("size-normalized", "size-normalised"),
        ("color-jitter", "colour-jitter"),
        ("center-crop", "centre-crop"),
        ("crop_center", "crop_centre"),
        ("erasing_center", "erasing_centre"),
        ("equalize", "equalise"),
    ];
    names.into_iter().fold(text.to_owned(), |text, (new, old)| text.replace(new, old))
}

fn recipe(text: &str, settings: &[&str]) -> Recipe {
    let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    resolve(&[], "a recipe", text, &settings).unwrap()
}

#[test]
fn recipes_in_the_old_spelling_are_the_same_recipes() {
    assert_ne!(old(NEW), NEW);
    let (before, now) = (recipe(&old(NEW), &[]), recipe(NEW, &[]));
    assert_eq!(before.to_toml().matches("color-jitter").count(), 4, "{}", before.to_toml());
    let layout = |recipe: &Recipe| {
        let (policy, config) = (recipe.augmentation.policy().unwrap(), recipe.augmentation.layout().unwrap());
        ParamLayout::new(&policy, &config, &[Size::square(40)]).unwrap()
    };
    assert_eq!(layout(&before), layout(&now));
    assert_eq!(before, now);
    let set = |key: &str| recipe("", &[key]);
    assert_eq!(set("normalisation.std=[0.5, 0.5, 0.5]"), set("normalization.std=[0.5, 0.5, 0.5]"));
    assert_eq!(set("guard.least_deviation=0.5"), set("guard.least_std=0.5"));
    // A new key overrides its old spelling.
    let both = recipe("[guard]\nleast_deviation = 0.5\nleast_std = 0.25", &[]);
    assert_eq!(both.guard.least_std, 0.25);
}

/// A checkpoint holds the recipe as JSON, which is compared with that of a resumed run.
#[test]
fn recipes_in_checkpoints_are_the_same_recipes() {
    let now = recipe(NEW, &[]);
    let text = serde_json::to_string(&now).unwrap();
    assert_ne!(old(&text), text);
    assert_eq!(serde_json::from_str::<Recipe>(&old(&text)).unwrap(), now);
}

/// The crates of networks and of data do not know each other, and each reads the names of both spellings.
#[test]
fn both_crates_know_the_same_names() {
    let names = ["color-jitter", "center-crop", "equalize", "crop_center_x", "crop_center_y", "erasing_center_x"];
    for name in names.into_iter().chain(["erasing_center_y", "blur_sigma"]) {
        let written = old(name);
        let value = format!(r#"{{"name": "{written}", "augmentation": "", "mean": 0, "std": 1, "flag": false}}"#);
        assert_eq!(serde_json::from_str::<ViewValue>(&value).unwrap().name, name);
        let list = format!(r#"{{"parameters": ["{written}"]}}"#);
        assert_eq!(serde_json::from_str::<AugmentationRecipe>(&list).unwrap().parameters, [name]);
    }
}

#[test]
fn descriptions_of_models_in_the_old_spelling_are_read() {
    let recipe = recipe(NEW, &[]);
    let policy: Policy = recipe.augmentation.policy().unwrap();
    let config: LayoutConfig = recipe.augmentation.layout().unwrap();
    let layout = ParamLayout::new(&policy, &config, &[Size::square(40)]).unwrap();
    let (name, augmentation) = ("crop_center_x".to_owned(), "color-jitter".to_owned());
    let view = ViewValue { name: name.clone(), augmentation: augmentation.clone(), mean: 0.5, std: 1.0, flag: false };
    let pair = PairValue { name, augmentation, mean: 0.0, std: 1.0, reach: 1.0, flag: false };
    let description = Description {
        version: "0.1.0".into(),
        method: MethodConfig { objective: ObjectiveConfig::SimClr(SimClrConfig::default()), ..recipe.method() },
        preprocessing: Preprocessing { size: 32, normalization: Normalization::CIFAR10 },
        parameters: Parameters { view: vec![view], pair: vec![pair] },
        augmentation: serde_json::json!({ "policy": policy, "layout": layout }),
        target: false,
        step: 3,
        seed: 0,
    };
    let text = serde_json::to_string(&description).unwrap();
    assert_ne!(old(&text), text);
    let read: Description = serde_json::from_str(&old(&text)).unwrap();
    assert_eq!((&read.method, read.preprocessing), (&description.method, description.preprocessing));
    assert_eq!(read.parameters, description.parameters);
    let part = |name: &str| read.augmentation[name].clone();
    assert_eq!(serde_json::from_value::<Policy>(part("policy")).unwrap(), policy);
    assert_eq!(serde_json::from_value::<ParamLayout>(part("layout")).unwrap(), layout);
}
