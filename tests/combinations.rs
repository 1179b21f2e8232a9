//! Every objective with every equivariance module: two steps of a tiny network, or a refusal that gives the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;

use common::{Scratch, text};
use equimod::core::{EquivarianceConfig, ObjectiveConfig};
use serde_json::Value;

/// Sizes that train within a moment; the heads of each objective are set below.
const RECIPE: &str = r#"
[data]
source = "images"
batch = 16
[backbone]
width = 2
[augmentation]
size = 16
[schedule]
epochs = 1
warmup_epochs = 0
learning_rate = 0.1
"#;

/// Settings of each objective.
const OBJECTIVES: [(&str, &[&str]); 7] = [
    ("simclr", &["projection_head=8-4 bn-"]),
    ("byol", &["projection_head=8-4 bias", "predictor=8-4 bias"]),
    ("barlow-twins", &["projection_head=8-4"]),
    ("vicreg", &["projection_head=8-4"]),
    ("simsiam", &["projection_head=8-4 bn-", "predictor=8-4 bias"]),
    ("moco-v3", &["projection_head=8-4 bn-", "predictor=8-4", "target.buffers=ema"]),
    ("none", &[]),
];

const EQUIMOD: &str = "equimod.projection_head=8-4 bn-|equimod.parameter_head=4 bn|equimod.predictor=4 bn-";

/// Settings of `equivariance`, a metric of theirs, and the reason and objectives of an expected refusal.
type ModuleCase = (&'static str, &'static str, Option<(&'static str, &'static [&'static str])>);

/// Cases of each module.
const MODULES: [ModuleCase; 15] = [
    (EQUIMOD, "equimod.loss", None),
    ("EQUIMOD|equimod.predictor=residual 4", "equimod.loss", None),
    ("EQUIMOD|equimod.predictor=hypernetwork|equimod.parameter_head=none", "equimod.loss", None),
    ("EQUIMOD|equimod.loss=cosine|equimod.tap=stage2", "equimod.loss", None),
    ("EQUIMOD|equimod.loss=vicreg|equimod.start=view", "equimod.covariance", None),
    (
        "EQUIMOD|equimod.loss=cosine-target",
        "equimod.loss",
        Some(("target network", &["simclr", "barlow-twins", "vicreg", "simsiam", "none"])),
    ),
    ("EQUIMOD|equimod.weight=0 to 1 until 0.5", "equimod.weight", None),
    ("augself.hidden=[4]", "augself.color-jitter_loss", None),
    ("augself.hidden=[4]|augself.predictions=['horizontal-flip 0.5']", "augself.horizontal-flip_loss", None),
    ("essl.hidden=4|essl.size=8", "essl.accuracy", None),
    ("split.projection_head=8-4", "split.distance", None),
    (
        "conditional.parameter_head=4 bn",
        "invariance_loss",
        Some(("predictor", &["simclr", "barlow-twins", "vicreg", "none"])),
    ),
    ("care.projection_head=8-4|care.chunk=4", "care.loss", None),
    ("stl.projection_head=8-4|stl.code_head=4", "stl.transformation_loss", None),
    (
        "EQUIMOD|augself.hidden=[4]|essl.hidden=4|essl.size=8|split.projection_head=8-4|\
         care.chunk=4|care.projection_head=4",
        "care.loss",
        None,
    ),
];

#[test]
fn every_objective_with_every_module() {
    let objectives = OBJECTIVES.map(|(name, _)| name);
    assert!(objectives.into_iter().eq(ObjectiveConfig::LIST.iter().map(|entry| entry.name)));
    for name in EquivarianceConfig::LIST.iter().map(|entry| entry.name) {
        let tested = |settings: &str| settings.replace("EQUIMOD", EQUIMOD).contains(&format!("{name}."));
        assert!(MODULES.iter().any(|(settings, ..)| tested(settings)), "{name} is not tested");
    }
    let scratch = Scratch::new();
    scratch.images("images", 16);
    let recipe = text(&scratch.write("recipe.toml", RECIPE));
    for (number, (modules, metric, unfit)) in MODULES.into_iter().enumerate() {
        for (objective, settings) in OBJECTIVES {
            let modules = modules.replace("EQUIMOD", EQUIMOD);
            let modules = modules.split('|').map(|setting| format!("equivariance.{setting}"));
            let own = settings.iter().map(|setting| format!("objective.{setting}"));
            let settings = [format!("objective.kind={objective}")].into_iter().chain(own).chain(modules);
            let out = format!("{objective}-{number}");
            let mut arguments = vec!["pretrain".into(), "--recipe".into(), recipe.clone(), "--no-eval".into()];
            arguments.extend(["--out".into(), out.clone()]);
            arguments.extend(settings.flat_map(|setting| ["--set".into(), setting]));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match unfit {
                Some((reason, unfit)) if unfit.contains(&objective) => scratch.refused(&arguments, 2, &[reason]),
                _ => {
                    scratch.done(&arguments);
                    let metrics = fs::read_to_string(scratch.path(&out).join("metrics.jsonl")).unwrap();
                    let steps: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                    assert_eq!(steps.len(), 2, "{arguments:?}");
                    let finite = |step: &Value| step["loss"].is_f64() && step[metric].is_f64();
                    assert!(steps.iter().all(finite), "{arguments:?}: {metrics}");
                }
            }
        }
    }
}

#[test]
fn invalid_settings_are_refused_by_name() {
    let scratch = Scratch::new();
    scratch.images("images", 16);
    let recipe = text(&scratch.write("recipe.toml", RECIPE));
    let refused = |settings: &[&str], parts: &[&str]| {
        let mut arguments = vec!["pretrain", "--recipe", &recipe, "--dry-run"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        scratch.refused(&arguments, 2, parts);
    };
    refused(&["objective.kind=none"], &["nothing to train for", "equivariance.equimod"]);
    refused(&["objective.kind=none", "equivariance.equimod.weight=0"], &["nothing to train for"]);
    refused(&["equivariance.care.chunk=4", "equivariance.stl.temperature=0.1"], &["care and stl"]);
    refused(&["equivariance.care.chunk=5"], &["data.batch is 16", "multiple of 5"]);
    refused(&["equivariance.equimod.weight=fast"], &["fast", "is no weight"]);
    refused(&["equivariance.equimod.tap=layer1"], &["layer1", "stage1"]);
    refused(&["equivariance.equimod.start=there"], &["there", "view"]);
    refused(&["augmentation.encoding=pairwise", "equivariance.equimod.weight=1"], &["size-normalized"]);
    refused(&["equivariance.augself.predictions=['blur']"], &["augself.predictions is \"blur\"", "color-jitter"]);
    refused(&["equivariance.equimod.tap=stage9"], &["4 stages"]);
    refused(&["equivariance.split.invariant_share=0.001"], &["without features"]);
    let subset = ["equivariance.equimod.start=view", "augmentation.parameters=['crop_top']"];
    refused(&subset, &["from one view to the other", "augmentations' names"]);
    let conditional = ["objective.kind=byol", "objective.predictor=none", "equivariance.conditional.parameter_head=4"];
    refused(&conditional, &["objective.predictor is \"none\"", "end it in 256"]);
    refused(&["equivariance.augself=1"], &["equivariance.augself", "table"]);
    refused(&["equivariance.augsel=false"], &["equivariance.augself?"]);
    refused(&["equivariance.augsel.weight=1"], &["equivariance.augself?"]);
    refused(&["objective.kind=byol", "objective.target.momentun=0.9"], &["objective.target.momentum?"]);
    refused(&["objective.kind=byol", "objective.target.momentum=1.5"], &["1.5"]);
    refused(&["objective.kind=moco-v3", "objective.temperature=0"], &["temperature is 0"]);
}

/// A module of the base recipe is turned off, another one is added, and one value of the policy never varies.
#[test]
fn modules_can_be_replaced() {
    let scratch = Scratch::new();
    scratch.images("images", 16);
    let jitter = "{ kind = \"color-jitter\", \
        probability = 0.8, brightness = 0.4, contrast = 0.4, saturation = 0.0, hue = 0.0 }";
    let crop =
        "{ kind = \"random-resized-crop\", size = 16, scale = [0.2, 1.0], ratio = [0.75, 1.33], filter = \"bicubic\" }";
    let clean = "{ resize = 16, crop = 16, filter = \"bilinear\" }";
    let text_of = format!(
        "base = \"quick\"\n[data]\nsource = \"images\"\nbatch = 16\n[backbone]\nwidth = 2\n[schedule]\nepochs = 1\n\
         [equivariance]\nequimod = false\n[equivariance.augself]\nhidden = [4]\n[augmentation]\nsize = 16\n\
         policy = {{ name = \"mine\", clean = {clean}, views = [[{crop}, {jitter}], [{crop}, {jitter}]] }}\n"
    );
    let recipe = text(&scratch.write("recipe.toml", text_of));
    scratch.done(&["pretrain", "--recipe", &recipe, "--out", "run", "--no-eval"]);
    let metrics = fs::read_to_string(scratch.path("run/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["augself.color-jitter_loss"].is_f64() && last.get("equimod.loss").is_none(), "{metrics}");
    // Numbers are restored exactly from a checkpoint.
    let odd = ["pretrain", "--recipe", &recipe, "--out", "odd", "--no-eval", "--set"];
    scratch.done(&[&odd[..], &["schedule.learning_rate=0.061538366549328004"]].concat());
    let folder =
        scratch.path("odd/checkpoints").join(fs::read_to_string(scratch.path("odd/checkpoints/latest")).unwrap());
    assert!(folder.is_dir());
    scratch.done(&["pretrain", "--out", "odd", "--resume", "--no-eval"]);
}

#[test]
fn a_target_network_is_saved_and_resumed_exactly() {
    let scratch = Scratch::new();
    scratch.images("images", 40);
    let recipe = text(&scratch.write("recipe.toml", RECIPE));
    for buffers in ["own", "copy", "ema"] {
        let set = format!("objective.target.buffers={buffers}");
        let heads = ["--set", "objective.kind=byol", "--set", "objective.projection_head=8-4 bias"];
        let more = ["--set", "objective.predictor=8-4 bias", "--set", &set, "--set", "checkpoint.every_epochs=1"];
        let train = |out: &str, threads: &str| {
            let arguments = ["pretrain", "--recipe", &recipe, "--no-eval", "--epochs", "3", "--out", out];
            scratch.done(&[&arguments[..], &heads, &more, &["--threads", threads]].concat());
        };
        let (one, two) = (format!("{buffers}-1"), format!("{buffers}-2"));
        train(&one, "1");
        train(&two, "2");
        let state = |out: &str| {
            let folder = scratch.path(out).join("checkpoints");
            let newest = folder.join(fs::read_to_string(folder.join("latest")).unwrap());
            ["model", "target", "optimizer"].map(|name| fs::read(newest.join(format!("{name}.safetensors"))).unwrap())
        };
        let whole = state(&one);
        assert!(whole == state(&two), "{buffers}: 2 threads give a different result than 1");
        let checkpoints = scratch.path(&two).join("checkpoints");
        fs::remove_dir_all(checkpoints.join(fs::read_to_string(checkpoints.join("latest")).unwrap())).unwrap();
        scratch.done(&["pretrain", "--out", &two, "--resume", "--no-eval"]);
        assert!(whole == state(&two), "{buffers}: a resumed run ends differently");
        let target = text(&checkpoints.join("step-00000015/target.safetensors"));
        let inspected: Value = serde_json::from_str(&scratch.done(&["inspect", &target, "--json"])).unwrap();
        assert_eq!(inspected["features"], 16);
        scratch.done(&["eval", "knn", &target, "--data", "images"]);
    }
}
