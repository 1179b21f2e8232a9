//! Files of PyTorch, against what PyTorch says the networks in them make of one image (`fixtures/torch/make.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use equimod_core::model::Choices;
use equimod_core::nn::Mode;
use equimod_core::{Error, Model, torch_file};

/// Largest difference of a feature, from f32 sums in another order.
const TOLERANCE: f32 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)
}

fn import(name: &str, prefix: Option<&str>) -> Result<Model, Error> {
    Model::import(&fixture(name), prefix, &Choices::default(), &Device::Cpu)
}

fn features(model: &Model, side: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7) % 23) as f32 / 11.5 - 1.0;
    let image: Vec<f32> = (0..3 * side * side).map(value).collect();
    let image = Tensor::from_vec(image, (1, 3, side, side), &Device::Cpu).unwrap();
    model.backbone().infer(&image, Mode::Eval).unwrap().pooled.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn networks_give_the_features_that_pytorch_gives() {
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    for (name, case) in expected.as_object().unwrap() {
        let model = Model::import(&fixture(name), case["prefix"].as_str(), &Choices::default(), &Device::Cpu).unwrap();
        let ours = features(&model, case["side"].as_u64().unwrap() as usize);
        let theirs: Vec<f32> =
            case["features"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{name}: {worst}");
        assert!(theirs.iter().any(|value| *value > 0.1), "{name}: nothing to compare");
        let counted = model.params().iter().filter(|(name, _)| name.ends_with("num_batches_tracked"));
        assert!(counted.map(|(_, slot)| slot.var.to_scalar::<i64>().unwrap()).all(|count| count == 7), "{name}");
    }
}

#[test]
fn every_form_of_the_same_numbers_is_read() {
    for (name, prefix) in [("stem-of-21-characters.pth", ""), ("protocol-4.pth", "0."), ("protocol-5-old.pth", "0.")] {
        let path = fixture(name);
        let file = torch_file::read(&fs::read(&path).unwrap(), &path).unwrap();
        assert_eq!(file.tensors.len(), 2, "{name}");
        let numbers: Vec<f32> = file.tensors[&format!("{prefix}weights")].to_vec1().unwrap();
        assert_eq!(numbers, [0.0, 1.0, 2.0, 3.0, 4.0], "{name}");
        let half = &file.tensors[&format!("{prefix}half")];
        let half: Vec<f32> = half.to_dtype(candle_core::DType::F32).unwrap().to_vec1().unwrap();
        assert_eq!(half, [0.0, 1.0, 2.0], "{name}");
        assert!(file.not_read.is_empty(), "{:?}", file.not_read);
    }
}

#[test]
fn what_was_taken_off_and_left_out_is_told() {
    let model = import("moco.pth.tar", Some("state_dict.module.encoder_k.")).unwrap();
    assert_eq!(model.report.prefix, "state_dict.module.encoder_k.");
    assert_eq!(model.report.matched.len(), model.params().iter().count());
    // The other network, the classifier of this one, and the queue are left out.
    assert!(model.report.left_out.contains(&"state_dict.module.queue".to_owned()));
    assert!(model.report.left_out.contains(&"state_dict.module.encoder_k.fc.weight".to_owned()));
    // MoCo is recognized by the names of its encoders, and its preprocessing with it.
    assert!(!model.guessed);
    let lightning = import("lightning.ckpt", None).unwrap();
    assert_eq!(lightning.report.prefix, "state_dict.backbone.");
    assert_eq!(lightning.report.left_out, ["state_dict.projector.0.weight"]);
}

#[test]
fn several_networks_are_named() {
    let text = import("moco.pth.tar", None).err().unwrap().to_string();
    assert!(text.contains("state_dict.module.encoder_k, state_dict.module.encoder_q"), "{text}");
    assert!(text.contains("--prefix"), "{text}");
}

#[test]
fn a_file_of_pytorch_is_no_model_before_it_is_imported() {
    let text = Model::load(&fixture("plain.pth"), &Device::Cpu).err().unwrap().to_string();
    assert!(text.contains("`equimod import`"), "{text}");
}

#[test]
fn damaged_files_are_errors() {
    let read = |bytes: &[u8]| torch_file::read(bytes, Path::new("damaged.pth"));
    for name in ["plain.pth", "moco.pth.tar"] {
        let whole = fs::read(fixture(name)).unwrap();
        for length in [0, 3, 30, 200, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let text = read(&whole[..length]).err().unwrap().to_string();
            assert!(text.contains("damaged.pth") && text.lines().count() == 1, "{name} cut at {length}: {text}");
        }
        // For any wrong byte near the start, the reader returns a result and does not panic.
        for place in (0..4000).step_by(3) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x41;
            let _ = read(&bytes);
        }
    }
}

#[test]
fn objects_may_be_nested_to_any_depth() {
    // Deeply nested tuples, memoized, and deeply nested dictionaries.
    let tuples = |depth: usize| [b"\x80\x02N".to_vec(), vec![0x85; depth], b"q\x00.".to_vec()].concat();
    let dictionaries = |depth: usize| {
        let (open, close) = (b"}X\x01\x00\x00\x00a".repeat(depth), vec![b's'; depth]);
        [b"\x80\x02".to_vec(), open, b"N".to_vec(), close, b"q\x00.".to_vec()].concat()
    };
    for object in [tuples(2_000_000), dictionaries(230_000), tuples(3_000_000)] {
        let read = torch_file::read(&legacy(&object), Path::new("deep.pth")).unwrap();
        assert!(read.tensors.is_empty() && read.not_read[0].contains("nested too deep"), "{:?}", read.not_read);
    }
    // Too many objects are rejected with a sentence.
    let text = torch_file::read(&legacy(&tuples(17 << 20)), Path::new("deep.pth")).err().unwrap().to_string();
    assert!(text.contains("objects") && !text.contains("damaged"), "{text}");
}

#[test]
fn objects_that_hold_themselves_end() {
    // A list that contains itself twice, and ten lists each of which contains the previous one ten times.
    let itself = b"\x80\x02]q\x00(h\x00h\x00e.".to_vec();
    let mut tenfold = b"\x80\x02]q\x00".to_vec();
    for number in 1..40u8 {
        tenfold.extend([b']', b'q', number, b'(']);
        (0..10).for_each(|_| tenfold.extend([b'h', number - 1]));
        tenfold.push(b'e');
    }
    tenfold.push(b'.');
    for object in [itself, tenfold] {
        assert!(torch_file::read(&legacy(&object), Path::new("loop.pth")).unwrap().tensors.is_empty());
    }
}

/// A file in the older layout: pickles of the system information, the object, and the list of storages.
fn legacy(object: &[u8]) -> Vec<u8> {
    let magic: &[u8] = &fs::read(fixture("moco.pth.tar")).unwrap()[..21];
    [magic, b"\x80\x02}.", object, b"\x80\x02]."].concat()
}
