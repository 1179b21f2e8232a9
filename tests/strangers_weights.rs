//! Files of weights in every form that other code bases write, and the output of PyTorch, torchvision and timm for
//! them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use equimod_core::{Mode, Model, torch_file};
use serde::Deserialize;
use serde_json::Value;

use common::python::{python, run};
use common::{Scratch, text};

/// Largest difference of a feature, relative to the largest feature if that is above 1: f32 sums in another order.
const TOLERANCE: f32 = 1e-5;

/// PyTorch's output for the files that `tests/python/make_weights.py` wrote.
#[derive(Deserialize)]
struct Said {
    torch: String,
    timm: bool,
    networks: BTreeMap<String, Network>,
    tensors: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

#[derive(Deserialize)]
struct Network {
    side: usize,
    options: Vec<String>,
    features: Vec<f32>,
}

/// The files, if there is a Python that can make them.
fn made(scratch: &Scratch) -> Option<Said> {
    let Some(python) = python() else {
        eprintln!("left out: no Python with torch and torchvision; set EQUIMOD_PYTHON");
        return None;
    };
    let script = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/make_weights.py"));
    let output = run(&python, &[&script, &text(scratch.folder())], &[]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Said = serde_json::from_slice(&fs::read(scratch.path("said.json")).unwrap()).unwrap();
    eprintln!("torch {}, timm {}, {} files", said.torch, said.timm, said.networks.len() + said.tensors.len());
    Some(said)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Features of the image to which `make_weights.py` applies the same network.
fn features(model: &Model, side: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7) % 23) as f32 / 11.5 - 1.0;
    let image = Tensor::from_vec((0..3 * side * side).map(value).collect(), (1, 3, side, side), &Device::Cpu).unwrap();
    model.backbone().infer(&image, Mode::Eval).unwrap().pooled.flatten_all().unwrap().to_vec1().unwrap()
}

fn imported(scratch: &Scratch, file: &str, options: &[String]) -> (PathBuf, Value) {
    let out = format!("{file}.safetensors");
    let mut arguments = vec!["import", file, "--out", &out, "--json"];
    arguments.extend(options.iter().map(String::as_str));
    let report = scratch.done(&arguments);
    (scratch.path(&out), serde_json::from_str(&report).unwrap())
}

fn assumption<'a>(report: &'a Value, what: &str) -> (&'a str, &'a str) {
    let all = report["imported"]["assumptions"].as_array().unwrap();
    let found = all.iter().find(|assumption| assumption["what"] == what).unwrap();
    (found["value"].as_str().unwrap(), found["certainty"].as_str().unwrap())
}

#[test]
fn files_of_pytorch_hold_what_pytorch_says() {
    let scratch = Scratch::new();
    let Some(said) = made(&scratch) else { return };
    for (name, expected) in &said.tensors {
        let path = scratch.path(name);
        let file = torch_file::read(&fs::read(&path).unwrap(), &path).unwrap();
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (key, expected) in expected {
            assert_eq!(&values(&file.tensors[key]), expected, "{name}: {key}");
        }
        let unread: &[&str] = match name.as_str() {
            "unread.pt" => &["complex: its type torch.complex64 is not read"],
            _ => &[],
        };
        assert_eq!(file.not_read, unread, "{name}");
    }
    assert!(said.tensors.len() > 250, "{}", said.tensors.len());

    for (name, network) in &said.networks {
        let (path, report) = imported(&scratch, name, &network.options);
        let model = Model::load(&path, &Device::Cpu).unwrap();
        let ours = features(&model, network.side);
        assert_eq!(ours.len(), network.features.len(), "{name}");
        let worst = ours.iter().zip(&network.features).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = network.features.iter().copied().fold(1.0, f32::max);
        assert!(worst <= TOLERANCE * largest, "{name}: {worst} of {largest}\n{report:#}");
        assert!(network.features.iter().any(|value| *value > 0.1), "{name}: nothing to compare");
    }
    let large: Value = parsed(&scratch.done(&["inspect", "large.ckpt", "--json"]));
    assert_eq!(large["report"]["not_read"], serde_json::json!(["bank: an array of NumPy is not read"]));
    assert_eq!(large["report"]["beside"], serde_json::json!(["epoch (3)", "losses (a list of 400000)"]));
    what_was_assumed_is_reported(&scratch);
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn what_was_assumed_is_reported(scratch: &Scratch) {
    let report = parsed(&scratch.done(&["inspect", "solo.ckpt", "--json"]));
    assert_eq!(report["imported"]["code"], "solo-learn");
    assert_eq!(assumption(&report, "stem padding"), ("2", "recognized"));
    assert_eq!(assumption(&report, "mean"), ("0.5071, 0.4865, 0.4409", "recognized"));
    assert_eq!(assumption(&report, "pooling").0, "global average");
    let report = parsed(&scratch.done(&["inspect", "apart.pth", "--json"]));
    assert_eq!(assumption(&report, "ReLU after the stem").0, "no");
    // Without evidence, properties are assumed and reported; given ones are written into the file and its exports.
    let before = scratch.said().len();
    scratch.done(&["import", "padded.pth", "--out", "assumed.safetensors"]);
    let printed = scratch.said()[before..].to_owned();
    assert!(printed.contains("assumed: stem padding 1 (--stem-padding)"), "{printed}");
    // To write them down does not make them certain.
    let before = scratch.said().len();
    scratch.done(&["export", "assumed.safetensors", "--out", "uncertain"]);
    scratch.done(&["inspect", "uncertain"]);
    let printed = scratch.said()[before..].to_owned();
    assert_eq!(printed.matches("assumed: stem padding 1 (--stem-padding); ").count(), 2, "{printed}");
    let card = fs::read_to_string(scratch.path("uncertain/README.md")).unwrap();
    assert!(card.contains("it was assumed: stem padding 1; ") && card.contains("input size 32."), "{card}");
    let options = "--stem-padding 2 --no-stem-max-pool --stem-relu --input-size 48 --mean 0.5,0.4,0.3";
    let given: Vec<&str> = options.split(' ').collect();
    scratch.done(&[&["import", "padded.pth", "--out", "given.safetensors"], &given[..]].concat());
    scratch.done(&["export", "given.safetensors", "--out", "exported", "--verify"]);
    for model in ["given.safetensors", "exported"] {
        let report = parsed(&scratch.done(&["inspect", model, "--json"]));
        assert_eq!(assumption(&report, "stem padding"), ("2", "recorded"), "{model}");
        assert_eq!(report["backbone"]["stem_padding"], 2, "{model}");
        assert_eq!(report["preprocessing"]["size"], 48, "{model}");
        assert_eq!(assumption(&report, "mean"), ("0.5, 0.4, 0.3", "recorded"), "{model}");
        let shown = scratch.done(&["inspect", model]);
        assert!(shown.contains("stem padding") && shown.contains("given when it was imported"), "{shown}");
    }
    let config: Value = parsed(&fs::read_to_string(scratch.path("exported/config.json")).unwrap());
    assert!(config.get("architecture").is_none() && config["resnet"]["stem_padding"] == 2, "{config}");
    let card = fs::read_to_string(scratch.path("exported/README.md")).unwrap();
    assert!(card.contains("stem padding 2") && card.contains("padding=2, bias=False"), "{card}");
    assert!(!card.contains("input size 48") && card.contains("it was assumed: standard deviation"), "{card}");
    // solo-learn's arguments in a separate file.
    let arguments = r#"{"encoder": "resnet18", "dataset": "cifar10", "method": "simclr"}"#;
    scratch.write("run/args.json", arguments);
    fs::copy(scratch.path("padded.pth"), scratch.path("run/padded.pth")).unwrap();
    let report = parsed(&scratch.done(&["inspect", "run/padded.pth", "--json"]));
    assert_eq!(assumption(&report, "stem padding"), ("2", "recognized"));
    // A network with a ResNet's names, identified by its file's name and by a separate description.
    fs::copy(scratch.path("tuple.pth"), scratch.path("resnetblur50-84f4748f.pth")).unwrap();
    scratch.refused(&["import", "resnetblur50-84f4748f.pth"], 1, &["resnetblur50", "blurs before it subsamples"]);
    fs::create_dir(scratch.path("blur")).unwrap();
    fs::copy(scratch.path("given.safetensors"), scratch.path("blur/model.safetensors")).unwrap();
    scratch.write("blur/config.json", r#"{"architecture": "resnetblur18"}"#);
    scratch.refused(&["inspect", "blur"], 1, &["resnetblur18", "not built here"]);
}

#[test]
fn what_is_no_network_is_named_for_what_it_is() {
    let scratch = Scratch::new();
    let detectron = b"\x80\x02}(X\x0a\x00\x00\x00__author__X\x0a\x00\x00\x00Detectron2u.";
    let empty_archive = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    let cases: [(&str, &[u8], &str); 8] = [
        ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        ("page.pth", b"<!DOCTYPE html><html>404</html>", "web page"),
        ("packed.pth.gz", b"\x1f\x8b\x08\0\0\0\0\0", "gunzip"),
        ("model.pkl", detectron, "plain pickle by Detectron2"),
        ("archive.zip", &empty_archive, "neither a safetensors file nor one of PyTorch"),
        ("empty.pth", b"", "empty"),
        ("index.json", b"{\"weight_map\": {}}", "JSON"),
        ("words.pth", b"no weights at all, but words", "neither a safetensors file nor one of PyTorch"),
    ];
    for (name, bytes, words) in cases {
        scratch.write(name, bytes);
        for command in ["import", "inspect"] {
            let output = scratch.run(&[command, name]);
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && printed.contains(words), "{command} {name}: {printed}");
            assert!(!printed.contains("damaged") && !printed.contains("panicked"), "{printed}");
        }
    }
    // A folder of transformers with only a PyTorch file.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("equimod-core/tests/fixtures/torch/plain.pth");
    fs::create_dir(scratch.path("folder")).unwrap();
    fs::copy(&fixture, scratch.path("folder/pytorch_model.bin")).unwrap();
    scratch.refused(&["eval", "knn", "folder", "--data", "folder"], 1, &["equimod import folder/pytorch_model.bin"]);
    scratch.refused(&["import", "folder"], 2, &["give folder/pytorch_model.bin"]);
    scratch.done(&["import", "folder/pytorch_model.bin"]);
    // Reported as truncated if lengths prove it, and as damaged if a checksum does.
    let whole = fs::read(&fixture).unwrap();
    scratch.write("cut.pth", &whole[..whole.len() / 2]);
    scratch.refused(&["import", "cut.pth"], 1, &["truncated"]);
    let mut damaged = whole.clone();
    // Within the storage of a convolution.
    damaged[30_000] ^= 0x40;
    scratch.write("damaged.pth", damaged);
    scratch.refused(&["import", "damaged.pth"], 1, &["is damaged", "checksum"]);
    let weights = fs::read(scratch.path("pytorch_model.safetensors")).unwrap();
    scratch.write("cut.safetensors", &weights[..weights.len() / 2]);
    scratch.refused(&["inspect", "cut.safetensors"], 1, &["truncated"]);
}

#[test]
fn other_networks_are_named() {
    let scratch = Scratch::new();
    let tensor = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    type Tensors<'a> = &'a [(&'a str, &'a [usize])];
    let cases: [(&str, Tensors, &str); 4] = [
        ("se.safetensors", &[("layer1.0.se.fc1.weight", &[4, 4])], "squeeze-and-excitation"),
        ("vit.safetensors", &[("patch_embed.proj.weight", &[4, 3, 4, 4])], "vision transformer"),
        ("v2.safetensors", &[("stages.0.blocks.0.conv1.weight", &[4, 4, 1, 1])], "activations first"),
        ("hf.safetensors", &[("resnet.embedder.embedder.convolution.weight", &[4, 3, 7, 7])], "transformers"),
    ];
    for (name, tensors, words) in cases {
        let mut tensors: BTreeMap<String, Tensor> =
            tensors.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect();
        if name.starts_with("se") {
            for stage in 1..=4 {
                for block in 0..2 {
                    tensors.insert(format!("layer{stage}.{block}.conv1.weight"), tensor(&[4, 4, 3, 3]));
                }
            }
        }
        let bytes = equimod_core::checkpoint::to_torch_bytes(&tensors).unwrap();
        scratch.write(name, bytes);
        let output = scratch.run(&["inspect", name]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && printed.contains(words), "{name}: {printed}");
    }
}

#[test]
fn types_that_are_not_read_are_named_and_other_tensors_are_used() {
    let scratch = Scratch::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("equimod-core/tests/fixtures/torch/plain.pth");
    scratch.done(&["import", &text(&fixture), "--out", "plain.safetensors"]);
    let bytes = fs::read(scratch.path("plain.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let eight = safetensors::tensor::TensorView::new(safetensors::Dtype::F8_E5M2, vec![2], &[0, 0]).unwrap();
    let tensors = file.tensors().into_iter().chain([("queue".to_owned(), eight)]);
    scratch.write("more.safetensors", safetensors::serialize(tensors, None).unwrap());
    let report = parsed(&scratch.done(&["inspect", "more.safetensors", "--json"]));
    assert_eq!(report["report"]["not_read"], serde_json::json!(["queue: its type F8_E5M2 is not read"]));
}

#[test]
fn weights_of_another_function_do_not_begin_a_run() {
    let scratch = Scratch::new();
    scratch.images("images", 12);
    scratch.write("tiny.toml", common::TINY);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("equimod-core/tests/fixtures/torch/lightning.ckpt");
    scratch.done(&["import", &text(&fixture), "--out", "padded.safetensors", "--stem-padding", "2"]);
    let train = |more: &[&str]| -> Vec<String> {
        let all =
            ["pretrain", "--recipe", "tiny.toml", "--data", "images", "--from", "padded.safetensors", "--no-eval"];
        let set = ["--set", "data.batch=8", "--set", "schedule.epochs=1", "--set", "backbone.width=2"];
        [&all[..], &set[..], more].concat().into_iter().map(str::to_owned).collect()
    };
    let refused = train(&["--out", "refused"]);
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    scratch.refused(&refused, 2, &["stem padding 2", "[backbone]"]);
    let taken = train(&["--out", "taken", "--set", "backbone.stem_padding=2"]);
    scratch.done(&taken.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn settings_of_the_same_network_are_trained_like_any() {
    let scratch = Scratch::new();
    scratch.images("images", 12);
    scratch.write("tiny.toml", common::TINY);
    let settings = [
        "data.batch=8",
        "schedule.epochs=1",
        "backbone.architecture=resnet50",
        "backbone.stem=deep",
        "backbone.groups=2",
        "backbone.width_per_group=32",
        "backbone.average_shortcut=true",
        "augmentation.size=32",
    ];
    let mut arguments = vec!["pretrain", "--recipe", "tiny.toml", "--data", "images", "--out", "run", "--no-eval"];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    scratch.done(&arguments);
    let printed = scratch.done(&["export", "run", "--out", "exported", "--verify"]);
    assert!(printed.contains("fixed images: 0e0"), "{printed}");
    let shown = scratch.done(&["inspect", "exported"]);
    assert!(shown.contains("deep stem") && shown.contains("average-pool shortcuts"), "{shown}");
}
