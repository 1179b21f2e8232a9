//! `equimod import`, `export` and `inspect`, as a user calls them, and the use of exports in other libraries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use serde_json::Value;

use common::hub::{Hub, TOKEN};
use common::python::{python, run};
use common::{Scratch, TINY, text};

/// Side of the images for standard networks; 8/7 of it is an integer, too.
const SIDE: usize = 56;
/// Largest difference of a feature between libraries, relative to the largest feature if that is above 1.
const TOLERANCE: f32 = 1e-5;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> String {
    text(&root().join("equimod-core/tests/fixtures/torch").join(name))
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn json_of(path: PathBuf) -> Value {
    parsed(&fs::read(path).unwrap())
}

/// Images of the network's input size, so that none is resized.
fn squares(scratch: &Scratch, side: usize) {
    let size = equimod::data::Size { height: 90, width: 123 };
    let odd = equimod::data::Image::new(size, (0..90 * 123 * 3).map(|i| (i * 29 % 253) as u8).collect()).unwrap();
    scratch.write("odd/image.png", odd.encode_png().unwrap());
    for number in 0..3usize {
        let size = equimod::data::Size::square(side);
        let pixels = (0..side * side * 3).map(|i| (i * (13 + number) % 251) as u8).collect();
        let image = equimod::data::Image::new(size, pixels).unwrap();
        scratch.write(&format!("squares/{number}.png"), image.encode_png().unwrap());
    }
}

/// A run of a few steps, and its export `NAME-export`.
fn exported(scratch: &Scratch, name: &str, settings: &[&str]) {
    scratch.images("images", 12);
    scratch.write("tiny.toml", TINY);
    let mut arguments = vec!["pretrain", "--recipe", "tiny.toml", "--data", "images", "--out", name, "--no-eval"];
    for setting in ["data.batch=8", "schedule.epochs=1"].iter().chain(settings) {
        arguments.extend(["--set", *setting]);
    }
    scratch.done(&arguments);
    let printed = scratch.done(&["export", name, "--out", &format!("{name}-export"), "--verify", "--license", "mit"]);
    assert!(printed.contains("0 missing, 0 unexpected") && printed.contains("fixed images: 0e0"), "{printed}");
}

fn standard(scratch: &Scratch) {
    let size = format!("augmentation.size={SIDE}");
    exported(scratch, "standard", &["backbone.stem=imagenet", "backbone.width=64", &size]);
}

/// Features of images as a NumPy file, and their values.
fn features(scratch: &Scratch, export: &str, data: &str) -> (PathBuf, Vec<f32>) {
    let out = format!("{export}-{data}.npy");
    scratch.done(&["embed", export, "--data", data, "--out", &out]);
    let path = scratch.path(&out);
    let values = Tensor::read_npy(&path).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (path, values)
}

#[test]
fn names_and_shapes_are_torchvisions_word_for_word() {
    let scratch = Scratch::new();
    standard(&scratch);
    let size = format!("augmentation.size={SIDE}");
    let deep = ["backbone.architecture=resnet50", "backbone.stem=imagenet", "backbone.width=64", &size];
    exported(&scratch, "deep", &deep);
    for (export, name) in [("standard-export", "resnet18"), ("deep-export", "resnet50")] {
        let bytes = fs::read(scratch.path(export).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ours: BTreeMap<String, Vec<usize>> =
            file.tensors().iter().map(|(name, view)| (name.clone(), view.shape().to_vec())).collect();
        let theirs = json_of(root().join(format!("tests/fixtures/torchvision/{name}.json")));
        let theirs: BTreeMap<String, Vec<usize>> = serde_json::from_value(theirs).unwrap();
        assert_eq!(ours, theirs, "{name}");
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata.into_iter().collect::<Vec<_>>(), [("format".to_owned(), "pt".to_owned())]);
        let config = json_of(scratch.path(export).join("config.json"));
        assert_eq!((&config["architecture"], &config["num_classes"]), (&name.into(), &0.into()));
        let pretrained = &config["pretrained_cfg"];
        assert_eq!(pretrained["input_size"], serde_json::json!([3, SIDE, SIDE]));
        assert_eq!(pretrained["mean"], serde_json::json!([0.4914, 0.4822, 0.4465]));
        assert_eq!(pretrained["license"], "mit");
    }
}

#[test]
fn other_libraries_give_the_same_features() {
    let hub = Hub::start();
    let scratch = hub.scratch().with("HF_TOKEN", TOKEN);
    squares(&scratch, SIDE);
    standard(&scratch);
    let (npy, ours) = features(&scratch, "standard-export", "squares");

    // candle's own ResNet, as the card describes.
    let card = fs::read_to_string(scratch.path("standard-export/README.md")).unwrap();
    assert!(
        card.contains("resnet::resnet18_no_final_layer(weights)")
            && card.contains("from_buffered_safetensors(weights, ")
    );
    let weights = fs::read(scratch.path("standard-export/model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
    let model = candle_transformers::models::resnet::resnet18_no_final_layer(weights).unwrap();
    let theirs: Vec<f32> = model.forward(&inputs(&scratch)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let largest = ours.iter().copied().fold(1.0, f32::max);
    assert!(ours.len() == theirs.len() && worst <= TOLERANCE * largest, "{worst} of {largest}");

    // PyTorch's libraries, if they are installed.
    let Some(python) = python() else {
        eprintln!("left out: no Python with torch, torchvision and safetensors; set EQUIMOD_PYTHON");
        return;
    };
    scratch.done(&["publish", "standard-export", "--repo", "lab/net"]);
    let script = text(&root().join("tests/python/load_export.py"));
    let folders = |export: &str| [text(&scratch.path(export)), text(&scratch.path("squares"))];
    let environment = [("HF_ENDPOINT", hub.address()), ("HF_HOME", text(&scratch.path("python-hub")))];
    let load = |export: &str, of_squares: &Path, more: &[&str]| {
        let ([folder, images], of_squares) = (folders(export), text(of_squares));
        let (odd, of_odd) = (text(&scratch.path("odd/image.png")), text(&features(&scratch, export, "odd").0));
        let arguments = [&[script.as_str(), &folder, &images, &of_squares, &odd, &of_odd], more].concat();
        let output = run(&python, &arguments, &environment).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        eprint!("{said}");
        said
    };
    let said = load("standard-export", &npy, &["lab/net"]);
    assert!(said.contains("torchvision: features of 3 images"), "{said}");

    // Stems and widths without a name in any library: the card's snippet builds them.
    for (name, settings) in [
        ("cifar", &["backbone.width=64"][..]),
        ("narrow", &["backbone.width=4"]),
        ("bottleneck", &["backbone.architecture=resnet50", "backbone.stem=imagenet", "backbone.width=8"]),
    ] {
        exported(&scratch, name, &[settings, &[&format!("augmentation.size={SIDE}")]].concat());
        let export = format!("{name}-export");
        let config = json_of(scratch.path(&export).join("config.json"));
        assert!(config.get("architecture").is_none() && config.get("pretrained_cfg").is_none(), "{config}");
        let (npy, _) = features(&scratch, &export, "squares");
        let said = load(&export, &npy, &[]);
        assert!(said.contains("snippet of torch: features of 3 images"), "{said}");
    }
}

#[test]
fn the_notebook_reads_an_export_and_its_features() {
    let Some(python) = python() else {
        eprintln!("left out: no Python with torch, torchvision and safetensors; set EQUIMOD_PYTHON");
        return;
    };
    let [script, notebook] =
        ["tests/python/run_notebook.py", "examples/python.ipynb"].map(|name| text(&root().join(name)));
    let scratch = Scratch::new();
    let size = format!("augmentation.size={SIDE}");
    let network = ["backbone.stem=imagenet", "backbone.width=64", &size];
    let reading = ["data.background=white", "data.apply_orientation=true"];
    exported(&scratch, "run", &[&network[..], &reading].concat());
    fs::rename(scratch.path("run-export"), scratch.path("mine")).unwrap();
    scratch.done(&["embed", "mine", "--data", "images", "--out", "features.parquet"]);
    let run_notebook = || {
        let output = run(&python, &[&script, &notebook, &text(scratch.folder())], &[]).unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (succeeded, said) = run_notebook();
    eprintln!("{said}");
    assert!(succeeded, "{said}");
    if said.contains("left out") {
        return;
    }
    assert!(said.contains("10 cells were run") && said.contains("16 images, largest difference"), "{said}");
    // Images without labels have features and a map.
    fs::create_dir(scratch.path("unlabeled")).unwrap();
    let files = walkdir::WalkDir::new(scratch.path("images")).into_iter().flatten().filter(|it| it.path().is_file());
    for (number, image) in files.take(6).enumerate() {
        fs::copy(image.path(), scratch.path(&format!("unlabeled/{number}.png"))).unwrap();
    }
    scratch.done(&["embed", "mine", "--data", "unlabeled", "--out", "features.parquet"]);
    let (succeeded, said) = run_notebook();
    assert!(succeeded && said.contains("the images have no labels") && said.contains("6 images, largest"), "{said}");
    // Features of another network are not those of the export.
    exported(&scratch, "other", &[&network[..], &["seed=1"]].concat());
    scratch.done(&["embed", "other-export", "--data", "images", "--out", "features.parquet"]);
    let (succeeded, said) = run_notebook();
    assert!(!succeeded && said.contains("AssertionError"), "{said}");
}

/// The squares as input of the network.
fn inputs(scratch: &Scratch) -> Tensor {
    let config = json_of(scratch.path("standard-export/config.json"));
    let list = |key: &str| -> Vec<f32> { serde_json::from_value(config["pretrained_cfg"][key].clone()).unwrap() };
    let (mean, std) = (list("mean"), list("std"));
    let mut values = Vec::new();
    for number in 0..3 {
        let bytes = fs::read(scratch.path(&format!("squares/{number}.png"))).unwrap();
        let image = equimod::data::Image::decode(&bytes, "square").unwrap();
        for channel in 0..3 {
            let pixels = image.pixels().iter().skip(channel).step_by(3);
            values.extend(pixels.map(|&pixel| (f32::from(pixel) / 255.0 - mean[channel]) / std[channel]));
        }
    }
    Tensor::from_vec(values, (3, 3, SIDE, SIDE), &Device::Cpu).unwrap()
}

#[test]
fn an_export_is_the_same_byte_for_byte_and_complete() {
    let scratch = Scratch::new();
    exported(&scratch, "run", &[]);
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "3"]);
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "3", "--out", "elsewhere"]);
    for out in ["one", "two"] {
        scratch.done(&["export", "run", "--out", out, "--results", "elsewhere"]);
    }
    let names = |folder: &str| -> Vec<String> {
        let sums = fs::read_to_string(scratch.path(folder).join("SHA256SUMS")).unwrap();
        sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect()
    };
    let events = names("one").into_iter().find(|name| name.starts_with("events.out.tfevents")).unwrap();
    let expected = [
        "config.json",
        "eval/elsewhere/results.json",
        "eval/elsewhere/results.md",
        "eval/knn-images-k-3/results.json",
        "eval/knn-images-k-3/results.md",
        events.as_str(),
        "heads.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.toml",
    ];
    assert_eq!(names("one"), expected);
    for name in names("one").iter().map(String::as_str).chain(["README.md", "SHA256SUMS"]) {
        let bytes = |folder: &str| fs::read(scratch.path(folder).join(name)).unwrap();
        assert_eq!(bytes("one"), bytes("two"), "{name}");
    }
    // The checksums match those of sha256sum.
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(scratch.path("one"));
    if let Ok(output) = check.output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The recipe can be trained again.
    scratch.done(&["pretrain", "--recipe", "one/recipe.toml", "--dry-run"]);
    let config = json_of(scratch.path("one/config.json"));
    let ours = &config["equimod"];
    assert_eq!((&ours["training"]["epochs"], &ours["seed"]), (&1.into(), &0.into()));
    let first = &ours["parameter_vector"][0];
    assert_eq!((&first["name"], &first["unit"]), (&"crop_top".into(), &"pixels".into()));
    assert!(first["mean"].is_f64() && first["std"].is_f64());
    // Results of other weights are not exported.
    exported(&scratch, "other", &["seed=1"]);
    let output = scratch.run(&["export", "other", "--out", "three", "--results", "elsewhere"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("which is for other weights"));
    assert!(!scratch.path("three/eval").exists());
}

#[test]
fn the_card_has_front_matter_that_is_yaml_with_the_numbers_of_the_results() {
    let scratch = Scratch::new();
    exported(&scratch, "run", &[]);
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "3", "--untrained"]);
    scratch.done(&[
        "export",
        "run",
        "--out",
        "run-export",
        "--license",
        "cc-by-4.0",
        "--data-license",
        "CC0: drawn by us",
    ]);
    let card = fs::read_to_string(scratch.path("run-export/README.md")).unwrap();
    let (front_matter, text) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let front_matter: Value = serde_saphyr::from_str(front_matter).unwrap();
    assert_eq!(front_matter["license"], "cc-by-4.0");
    assert_eq!(front_matter["pipeline_tag"], "image-feature-extraction");
    let results = json_of(scratch.path("run/eval/knn-images-k-3/results.json"));
    let row = &results["rows"][0];
    let entry = &front_matter["model-index"][0]["results"][0];
    assert_eq!(
        (&entry["task"]["type"], &entry["metrics"][0]["type"]),
        (&"image-classification".into(), &"accuracy".into())
    );
    let rounded = (row["value"].as_f64().unwrap() * 1e4).round() / 1e4;
    assert_eq!(entry["metrics"][0]["value"].as_f64(), Some(rounded));
    let percent = format!("**{:.1} % top-1 accuracy**", 100.0 * row["value"].as_f64().unwrap());
    for part in [
        percent.as_str(),
        "SimCLR + EquiMod",
        "with random weights",
        "## Model stats",
        "- Image size: 16 × 16",
        "| crop_top | random-resized-crop | pixels |",
        "equimod pretrain --recipe recipe.toml",
        "Images: CC0: drawn by us.",
        "devillers2023equimod",
        "eval/knn-images-k-3/results.md",
        "the run is too short.",
        "held-out ones were kept from classifiers only",
        "was trained to predict",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn the_target_network_is_exported_where_there_is_one() {
    let scratch = Scratch::new();
    scratch.images("images", 12);
    let small = [
        "data.batch=8",
        "backbone.width=4",
        "augmentation.size=16",
        "objective.projection_head=\"16-8 bn-\"",
        "objective.predictor=\"16-8 bn-\"",
    ];
    let mut arguments =
        vec!["pretrain", "--recipe", "quick-byol", "--data", "images", "--out", "byol", "--no-eval", "--epochs", "1"];
    small.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    scratch.done(&arguments);
    scratch.done(&["export", "byol", "--out", "online"]);
    scratch.done(&["export", "byol", "--out", "target", "--target", "--verify"]);
    let weights = |name: &str| fs::read(scratch.path(name).join("model.safetensors")).unwrap();
    assert_ne!(weights("online"), weights("target"));
    assert!(scratch.path("online/heads.safetensors").is_file() && !scratch.path("target/heads.safetensors").exists());
    let printed = scratch.done(&["inspect", "target"]);
    assert!(printed.contains("target network"), "{printed}");
    let checkpoint = fs::read_dir(scratch.path("byol/checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let target = checkpoint.map(|folder| folder.join("target.safetensors")).find(|file| file.is_file()).unwrap();
    squares(&scratch, 16);
    let trained = text(&target.with_file_name("model.safetensors"));
    scratch.refused(&["export", &trained, "--out", "none", "--target"], 1, &["no target network"]);
    let (_, of_export) = features(&scratch, "target", "squares");
    scratch.done(&["embed", &text(&target), "--data", "squares", "--out", "checkpoint.npy"]);
    let of_checkpoint: Vec<f32> =
        Tensor::read_npy(scratch.path("checkpoint.npy")).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(of_export, of_checkpoint);
    scratch.refused(&["eval", "equivariance", "target", "--data", "images"], 3, &["without heads"]);
    exported(&scratch, "plain", &[]);
    scratch.refused(&["export", "plain", "--out", "none", "--target"], 2, &["no target network"]);
}

#[test]
fn weights_of_other_codes_are_imported_with_a_report() {
    let scratch = Scratch::new();
    let several = fixture("moco.pth.tar");
    scratch.refused(&["import", &several], 1, &["several networks", "encoder_k", "--prefix"]);
    let printed =
        scratch.done(&["import", &several, "--prefix", "state_dict.module.encoder_q", "--out", "moco.safetensors"]);
    for part in [
        "resnet18",
        "prefix",
        "state_dict.module.encoder_q.",
        "state_dict.module.queue",
        "encoder_k.…  122 tensors",
        "fixed images: 0e0",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    scratch.refused(&["import", &several, "--out", "moco.safetensors"], 2, &["is there already"]);
    let printed = parsed(scratch.done(&["import", &fixture("lightning.ckpt"), "--json"]).as_bytes());
    assert_eq!(
        (&printed["out"], &printed["report"]["prefix"]),
        (&"lightning.safetensors".into(), &"state_dict.backbone.".into())
    );
    // A valid MODEL, a valid start of training, and a valid input of export.
    let printed = scratch.done(&["inspect", "lightning.safetensors"]);
    assert!(
        printed.contains("120 matched, 0 missing, 0 unexpected") && printed.contains("assumed     --"),
        "{printed}"
    );
    scratch.images("images", 12);
    scratch.done(&["eval", "knn", "lightning.safetensors", "--data", "images", "--k", "3"]);
    scratch.write("tiny.toml", TINY);
    let arguments =
        ["pretrain", "--recipe", "tiny.toml", "--data", "images", "--no-eval", "--from", "lightning.safetensors"];
    let output = scratch
        .run(&[&arguments[..], &["--set", "backbone.width=2", "--set", "data.batch=8", "--epochs", "1"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("120 tensors of the backbone loaded"), "{said}");
    scratch.done(&["export", "lightning.safetensors", "--out", "again", "--verify"]);
    // Files that are not networks, damaged, or missing.
    scratch.write("broken.pth", &fs::read(fixture("plain.pth")).unwrap()[..5000]);
    scratch.refused(&["import", "broken.pth", "--out", "x.safetensors"], 1, &["broken.pth", "truncated"]);
    for (content, printed) in [
        ("hello there, this is text", "neither a safetensors file nor one of PyTorch"),
        ("", "it is empty"),
        ("version https://git-lfs.github.com/spec/v1\noid", "pointer of Git LFS"),
        ("<!DOCTYPE html><html>", "a web page"),
    ] {
        scratch.write("text.pth", content);
        scratch.refused(&["import", "text.pth", "--out", "x.safetensors"], 1, &["text.pth", printed]);
    }
    scratch.refused(&["import", &several, "--out", "x.pth"], 2, &[".safetensors"]);
    scratch.refused(&["import", "images", "--out", "x.safetensors"], 2, &["is a folder"]);
    scratch.refused(&["import", "nothing.pth", "--out", "x.safetensors"], 1, &["nothing.pth"]);
    assert!(!scratch.path("x.safetensors").exists());
}

#[test]
fn keys_that_do_not_fit_are_listed_one_by_one() {
    let scratch = Scratch::new();
    scratch.done(&["import", &fixture("plain.pth")]);
    let bytes = fs::read(scratch.path("plain.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, _> =
        file.tensors().into_iter().map(|(name, view)| (format!("module.{name}"), view)).collect();
    let moved = tensors.remove("module.layer4.1.conv2.weight").unwrap();
    tensors.insert("module.layer4.1.conv9.weight".into(), moved);
    let changed = tensors["module.layer4.1.bn2.bias"].clone();
    tensors.insert("module.bn1.bias".into(), changed);
    scratch.write("odd.safetensors", safetensors::serialize(tensors, None).unwrap());
    let output = scratch.run(&["inspect", "odd.safetensors"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "1 missing, 1 unexpected, 1 of another shape",
        "missing\n  layer4.1.conv2.weight",
        "unexpected\n  layer4.1.conv9.weight",
        "bn1.bias: [16] in the file, [2] here",
        "prefix      module. taken off the names",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    let printed = parsed(&scratch.run(&["inspect", "odd.safetensors", "--json"]).stdout);
    assert_eq!((&printed["loads"], &printed["report"]["missing"][0]), (&false.into(), &"layer4.1.conv2.weight".into()));
    // Without its first tensor, or a whole block; and with non-finite values.
    let of = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors: BTreeMap<String, Tensor> =
            candle_core::safetensors::load(scratch.path("plain.safetensors"), &Device::Cpu)
                .unwrap()
                .into_iter()
                .collect();
        change(&mut tensors);
        let bytes = safetensors::serialize(tensors.iter(), None).unwrap();
        scratch.write("odd.safetensors", bytes);
        String::from_utf8(scratch.run(&["inspect", "odd.safetensors"]).stdout).unwrap()
    };
    let printed = of(&|tensors| drop(tensors.remove("conv1.weight")));
    assert!(printed.contains("119 matched, 1 missing") && printed.contains("missing\n  conv1.weight"), "{printed}");
    let printed = of(&|tensors| tensors.retain(|name, _| !name.starts_with("layer2.1.")));
    assert!(printed.contains("10 missing") && printed.contains("layer2.1.bn2.weight"), "{printed}");
    let printed = of(&|tensors| {
        let broken = tensors["layer3.0.conv1.weight"].affine(f64::NAN, 0.0).unwrap();
        tensors.insert("layer3.0.conv1.weight".into(), broken);
    });
    assert!(printed.contains("not finite in layer3.0.conv1.weight"), "{printed}");
    scratch.refused(&["export", "odd.safetensors", "--out", "x"], 1, &["non-finite values in layer3.0.conv1.weight"]);
    scratch.refused(&["import", "odd.safetensors", "--out", "x.safetensors"], 1, &["non-finite values"]);
    assert!(!scratch.path("x").exists() && !scratch.path("x.safetensors").exists());
    // A PyTorch file can be inspected directly.
    let printed = scratch.done(&["inspect", &fixture("whole.pt")]);
    assert!(printed.contains("120 matched") && printed.contains("fc.weight"), "{printed}");
}

#[test]
fn what_else_is_in_the_folder_stays() {
    let scratch = Scratch::new();
    exported(&scratch, "run", &[]);
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "3"]);
    scratch.done(&["export", "run", "--out", "one"]);
    scratch.write("one/.git/config", "mine");
    scratch.write("one/eval/mine/results.txt", "mine");
    // The run is in the folder of its export: all of it stays.
    fs::rename(scratch.path("run"), scratch.path("one/run")).unwrap();
    fs::remove_dir_all(scratch.path("one/run/eval")).unwrap();
    scratch.done(&["export", "one/run", "--out", "one/../one", "--verify"]);
    for kept in ["one/.git/config", "one/eval/mine/results.txt", "one/run/run.json", "one/SHA256SUMS"] {
        assert!(scratch.path(kept).is_file(), "{kept}");
    }
    assert!(!scratch.path("one/eval/knn-images-k-3").exists());
    // A file of an earlier export that was edited since is not removed.
    scratch.done(&["eval", "knn", "one/run", "--data", "images", "--k", "3"]);
    scratch.done(&["export", "one/run", "--out", "one"]);
    scratch.write("one/eval/knn-images-k-3/results.md", "mine");
    fs::remove_dir_all(scratch.path("one/run/eval")).unwrap();
    scratch.done(&["export", "one/run", "--out", "one"]);
    assert_eq!(fs::read_to_string(scratch.path("one/eval/knn-images-k-3/results.md")).unwrap(), "mine");
    assert!(!scratch.path("one/eval/knn-images-k-3/results.json").exists());
}

#[test]
fn an_export_of_an_export_carries_everything_over() {
    let scratch = Scratch::new();
    exported(&scratch, "run", &[]);
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "3"]);
    scratch.done(&["export", "run", "--out", "one", "--license", "mit", "--data-license", "ours"]);
    scratch.done(&["export", "one", "--out", "two"]);
    scratch.done(&["export", "two", "--out", "two"]);
    let sums = |folder: &str| fs::read_to_string(scratch.path(folder).join("SHA256SUMS")).unwrap();
    assert_eq!(sums("one"), sums("two"));
    let card = |folder: &str| fs::read_to_string(scratch.path(folder).join("README.md")).unwrap();
    assert_eq!(card("one"), card("two"));
    // With the results of the export itself.
    scratch.done(&["eval", "knn", "two", "--data", "images", "--k", "3", "--out", "more"]);
    scratch.done(&["export", "two", "--out", "three", "--results", "more"]);
    assert!(scratch.path("three/eval/more/results.json").is_file());
    scratch.done(&["eval", "knn", "two", "--data", "images", "--k", "5", "--out", "other/more"]);
    let twice = ["export", "two", "--out", "four", "--results", "more", "--results", "other/more"];
    scratch.done(&twice);
    assert!(
        scratch.path("four/eval/more/results.json").is_file()
            && scratch.path("four/eval/more-2/results.json").is_file()
    );
}

#[test]
fn cards_say_what_they_are_not() {
    let scratch = Scratch::new();
    // Images under a path with a space; training that starts from other weights and stops early.
    let images = text(&scratch.images("some where/birds of mine", 12));
    scratch.write("tiny.toml", TINY);
    let train = |out: &str, more: &[&str]| {
        let arguments = ["pretrain", "--recipe", "tiny.toml", "--data", &images, "--out", out, "--no-eval"];
        scratch.done(&[&arguments[..], &["--set", "data.batch=8", "--set", "schedule.epochs=2"], more].concat());
    };
    train("first", &[]);
    train("second", &["--from", &text(&scratch.path("first"))]);
    scratch.done(&["eval", "knn", "second", "--data", &images, "--k", "3"]);
    let others = text(&scratch.images("some where/others of mine", 10));
    scratch.done(&["eval", "knn", "second", "--data", &images, "--test", &others]);
    let info = fs::read_to_string(scratch.path("second/run.json")).unwrap();
    scratch.write("second/run.json", info.replace("\"finished\"", "\"interrupted\""));
    scratch.done(&["export", "second", "--out", "out"]);
    let card = fs::read_to_string(scratch.path("out/README.md")).unwrap();
    // Of our own weights, nothing is assumed.
    assert!(!card.contains("assumed"), "{card}");
    for part in [
        "--data IMAGES --from MODEL",
        "Training started from the weights of first (sha256",
        "before the end of training",
        "`birds of mine`",
        "eval/knn-birds-of-mine-k-3/results.md",
        "eval/knn-birds-of-mine-test-others-of-mine/results.md",
    ] {
        assert!(card.contains(part), "{part} is not in {card}");
    }
    assert!(!card.contains("gives the same weights"));
    let folder = scratch.folder().file_name().unwrap().to_string_lossy().into_owned();
    let names = fs::read_to_string(scratch.path("out/SHA256SUMS")).unwrap();
    for name in names.lines().map(|line| line.split_once("  ").unwrap().1).chain(["README.md", "SHA256SUMS"]) {
        let bytes = fs::read(scratch.path("out").join(name)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("some where") && !name.contains("some-where"), "{name}");
        assert!(!String::from_utf8_lossy(&bytes).contains(&folder), "{name}");
    }
    scratch.done(&["publish", "out", "--repo", "lab/net", "--dry-run"]);
    scratch.refused(&["publish", "lab/net", "out", "--dry-run"], 2, &["equimod publish out lab/net"]);
    // Images of another folder with the same last part, and a quote in a name.
    scratch.images("else where/birds of mine", 14);
    scratch.images("a \"b\"", 12);
    for data in ["else where/birds of mine", "a \"b\""] {
        scratch.done(&["eval", "knn", "first", "--data", data]);
    }
    scratch.done(&["eval", "knn", "first", "--data", &images]);
    scratch.done(&["export", "first", "--out", "first-out"]);
    let card = fs::read_to_string(scratch.path("first-out/README.md")).unwrap();
    for part in ["| knn | birds of mine (2) |", "| knn | birds of mine |", "| knn | a \"b\" |"] {
        assert!(card.contains(part), "{part} is not in {card}");
    }
    // An export knows its images by their fingerprint, and their folder by its name alone.
    scratch.done(&["eval", "compare", "out", "second", "--by", "knn"]);
    scratch.refused(&["eval", "knn", "out"], 3, &["birds of mine", "an export keeps the name alone", "--data"]);
    // A checkpoint of the run is exported with what is known of its training, and is named as the run.
    let step = fs::read_to_string(scratch.path("second/checkpoints/latest")).unwrap();
    scratch.done(&["export", "second/checkpoints/latest", "--out", "newest"]);
    scratch.done(&["export", &format!("second/checkpoints/{}", step.trim()), "--out", "step"]);
    let card = |folder: &str| fs::read_to_string(scratch.path(folder).join("README.md")).unwrap();
    assert!(card("newest") == card("out") && card("step") == card("out"), "{}", card("newest"));
    train("fifth", &["--from", "second/checkpoints/latest"]);
    scratch.done(&["export", "fifth", "--out", "fifth-out"]);
    let chain = "from the weights of `second`, which was itself trained from `first`";
    assert!(card("fifth-out").contains(chain), "{}", card("fifth-out"));
    // Images of an earlier training that are others are named.
    let other = [
        "pretrain",
        "else where/birds of mine",
        "--recipe",
        "tiny.toml",
        "--from",
        "first",
        "--no-eval",
        "--out",
        "sixth",
    ];
    scratch.done(&[&other[..], &["--set", "data.batch=8", "--set", "schedule.epochs=1"]].concat());
    scratch.done(&["export", "sixth", "--out", "sixth-out"]);
    let text_of = card("sixth-out");
    assert!(text_of.contains("from the weights of `first` (trained on `birds of mine (2)`)."), "{text_of}");
    assert!(text_of.contains("; images birds of mine (2), fingerprint "), "{text_of}");
    // A third run names both, whether it starts from the run or from its export.
    for (from, out) in [("second", "third"), ("out", "fourth")] {
        train(out, &["--from", &text(&scratch.path(from))]);
        scratch.done(&["export", out, "--out", &format!("{out}-out")]);
        let card = fs::read_to_string(scratch.path(&format!("{out}-out/README.md"))).unwrap();
        let chain = format!("from the weights of `{from}`, which was itself trained from `first`");
        assert!(card.contains(&chain) && card.contains(", which started from first (sha256"), "{card}");
        assert!(!card.contains(&folder), "{card}");
    }
    // Weights of other code bases: there is no record of their training.
    scratch.done(&["import", &fixture("plain.pth")]);
    scratch.done(&["export", "plain.safetensors", "--out", "plain-first", "--license", "Apache-2.0"]);
    scratch.done(&["export", "plain-first", "--out", "plain"]);
    let card = fs::read_to_string(scratch.path("plain/README.md")).unwrap();
    assert!(card.contains("Weights: apache-2.0") && card.contains("license: apache-2.0"), "{card}");
    assert!(
        card.contains("have not been evaluated") && !card.contains("self-supervised") && !card.contains("learned"),
        "{card}"
    );
}

#[test]
fn nothing_is_overwritten_and_damage_is_reported() {
    let scratch = Scratch::new();
    exported(&scratch, "run", &[]);
    scratch.write("mine/notes.txt", "mine");
    scratch.refused(&["export", "run", "--out", "mine"], 2, &["neither empty nor an export"]);
    scratch.write("file", "mine");
    scratch.refused(&["export", "run", "--out", "file"], 2, &["is a file"]);
    for (option, bad) in [("--license", "MIT License"), ("--license", ""), ("--data-license", "a\n# b")] {
        scratch.refused(&["export", "run", "--out", "x", option, bad], 2, &[option]);
    }
    let weights = scratch.path("run-export/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&weights, damaged).unwrap();
    scratch.refused(&["inspect", "run-export"], 1, &["model.safetensors", "SHA-256 differs"]);
    fs::write(&weights, whole).unwrap();
    fs::remove_file(scratch.path("run-export/heads.safetensors")).unwrap();
    scratch.refused(&["inspect", "run-export"], 1, &["heads.safetensors"]);
}
