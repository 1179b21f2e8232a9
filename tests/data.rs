//! `equimod data` and the sources, as a user calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::PathBuf;

use equimod::data::{Image, ViewParams};
use serde_json::{Value, json};

use common::{Scratch, TINY, text};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_preview_draws_what_training_sees_and_writes_its_parameters_down() {
    let scratch = Scratch::new();
    let arguments = ["data", "preview", "--images", "3", "--policy", "byol-cifar10", "--out", "sheet.png", "--json"];
    let report = parsed(&scratch.done(&arguments));
    let sheet = Image::decode(&fs::read(scratch.path("sheet.png")).unwrap(), "sheet").unwrap();
    assert!(sheet.size().height > 3 * 32 && sheet.size().width > 3 * 32);
    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    // The parameters can be deserialized: crop, flip, jitter, grayscale, blur, solarize.
    for view in images.iter().flat_map(|image| image["views"].as_array().unwrap()) {
        let params: ViewParams = serde_json::from_value(view.clone()).unwrap();
        assert_eq!(params.0.len(), 6);
    }
    assert_eq!(report, parsed(&scratch.done(&arguments)));
    let other = parsed(&scratch.done(&[&arguments[..], &["--seed", "1"]].concat()));
    assert_ne!(report["images"], other["images"]);
    scratch.refused(&["data", "preview", "--policy", "simclr-cifar"], 2, &["simclr-cifar10"]);
}

#[test]
fn statistics_are_those_of_the_images() {
    let scratch = Scratch::new();
    for (name, shade) in [("a/1", 0u8), ("a/2", 255), ("b/1", 51)] {
        let size = equimod::data::Size { height: 2, width: 3 };
        let image = Image::new(size, [shade, 51, 102].repeat(6)).unwrap();
        scratch.write(&format!("images/{name}.png"), image.encode_png().unwrap());
    }
    let report = parsed(&scratch.done(&["data", "stats", "images", "--json"]));
    let value = |at: &str| report.pointer(at).unwrap().as_f64().unwrap();
    // The red values are 0, 1 and 0.2.
    assert!((value("/channels/mean/0") - 0.4).abs() < 1e-12);
    assert!((value("/channels/std/0") - (1.04f64 / 3.0 - 0.16).sqrt()).abs() < 1e-12);
    assert!((value("/channels/mean/2") - 0.4).abs() < 1e-12 && value("/channels/std/2") < 1e-9);
    assert_eq!(report["labels"][0]["classes"], json!([{"class": "a", "images": 2}, {"class": "b", "images": 1}]));
    assert_eq!(
        (report["sizes"]["height"]["median"].as_u64(), report["sizes"]["width"]["largest"].as_u64()),
        (Some(2), Some(3))
    );
    assert!(scratch.done(&["data", "stats"]).contains("6168 images"));
}

#[test]
fn parameters_are_measured_beside_their_analytic_statistics() {
    let scratch = Scratch::new();
    for encoding in ["published", "size-normalized", "pairwise"] {
        let setting = format!("augmentation.encoding={encoding:?}");
        let report = parsed(&scratch.done(&["data", "params", "--set", &setting, "--draws", "20000", "--json"]));
        let values = report["values"].as_array().unwrap();
        assert_eq!((values.len(), report["encoding"].as_str()), (15, Some(encoding)));
        for value in values.iter().filter(|value| !value["analytic"].is_null()) {
            let of = |kind: &str, what: &str| value[kind][what].as_f64().unwrap();
            // Five standard errors.
            let off = (of("measured", "mean") - of("analytic", "mean")).abs();
            assert!(off <= 5.0 * of("analytic", "std") / 20_000f64.sqrt(), "{value}");
        }
    }
    // A subset by the value's name, and by the augmentation's.
    let subset = "augmentation.parameters=[\"grayscale\", \"horizontal_flip\", \"random-resized-crop\"]";
    let report = parsed(&scratch.done(&["data", "params", "--set", subset, "--draws", "100", "--json"]));
    let names: Vec<&str> = report["values"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["crop_top", "crop_left", "crop_height", "crop_width", "horizontal_flip", "grayscale"]);
    let unknown = ["data", "params", "--set", "augmentation.parameters=[\"blur\"]"];
    scratch.refused(&unknown, 2, &["no parameter \"blur\"", "color-jitter"]);
    let preset =
        ["data", "params", "--policy", "byol-cifar10", "--set", "augmentation.statistics=published-byol-cifar10"];
    assert!(scratch.done(&preset).contains("published-byol-cifar10"));
    let misfit =
        ["data", "params", "--policy", "byol-cifar10", "--set", "augmentation.statistics=published-simclr-cifar10"];
    scratch.refused(&misfit, 2, &["18", "augmentation.statistics = \"computed\""]);
}

#[test]
fn verify_finds_images_that_occur_twice() {
    let scratch = Scratch::new();
    scratch.images("split/train", 6);
    scratch.images("more", 8);
    for class in ["class0", "class1"] {
        for number in [6, 7] {
            let image = fs::read(scratch.path(&format!("more/{class}/{number}.png"))).unwrap();
            scratch.write(&format!("split/test/{class}/{number}.png"), image);
        }
    }
    let found = parsed(&scratch.done(&["data", "verify", "split", "--json"]));
    assert_eq!((found["identical"].as_array().unwrap().len(), &found["in_test"]), (0, &json!([])));
    for copy in ["train/class1/copy.png", "test/class1/copy.png"] {
        fs::copy(scratch.path("split/train/class0/4.png"), scratch.path("split").join(copy)).unwrap();
    }
    let printed = scratch.done(&["data", "verify", "split"]);
    for (title, copy) in [
        ("With the pixels of an earlier image: 1\n", "train/class1/copy.png"),
        ("Test images with the pixels of a training image: 1\n", "test/class1/copy.png"),
    ] {
        let line = printed.split_once(title).unwrap().1.lines().next().unwrap();
        assert!(line.contains(copy) && line.ends_with("train/class0/4.png"), "{line}");
    }
}

#[test]
fn verify_lists_what_fails_and_training_replaces_it() {
    let scratch = Scratch::new();
    scratch.images("images", 30);
    let fine = parsed(&scratch.done(&["data", "verify", "images", "--json"]));
    assert_eq!((fine["decoded"].as_u64(), fine["failed"].as_array().unwrap().len()), (Some(60), 0));
    assert_eq!((fine["identical"].as_array().unwrap().len(), &fine["in_test"]), (0, &Value::Null));
    scratch.write("images/class1/cut.png", b"\x89PNG\r\n\x1a\n cut");
    let output = scratch.run(&["data", "verify", "images", "--out", "found.json"]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(report.contains("cut.png") && report.contains("60 of 61 images decode"), "{report}");
    let found = parsed(&fs::read_to_string(scratch.path("found.json")).unwrap());
    assert!(found["failed"][0]["path"].as_str().unwrap().ends_with("cut.png"));
    assert_ne!(found["fingerprint"], fine["fingerprint"]);
    // Allowed by the recipe: replaced, and listed with path and reason.
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let train = |out: &str| {
        let settings = ["--set", "data.batch=16", "--set", "data.skip_share=0.05", "--no-eval"];
        let arguments = ["pretrain", "--recipe", &recipe, "--data", "images", "--out", out];
        scratch.done(&[&arguments[..], &settings].concat());
        let lines = fs::read_to_string(scratch.path(out).join("skipped.jsonl")).unwrap();
        lines.lines().map(parsed).collect::<Vec<Value>>()
    };
    let skipped = train("run");
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0]["path"].as_str().unwrap().ends_with("cut.png") && !skipped[0]["reason"].is_null());
    assert_eq!(skipped, train("again"));
    // The evaluation skips it and reports it.
    let output = scratch.run(&["eval", "knn", "run", "--data", "images", "--k", "3"]);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && report.contains("1 image does not decode") && report.contains("cut.png"),
        "{report}"
    );
    scratch.done(&["eval", "equivariance", "run", "--data", "images"]);
    scratch.done(&["data", "preview", "images", "--images", "64"]);
    // The time that training waited for images is reported next to its speed.
    let log = fs::read_to_string(scratch.path("run/train.log")).unwrap();
    assert!(log.contains("wait ") && log.contains("images/s"), "{log}");
}

#[test]
fn folders_of_splits_and_of_sets_are_reported_by_their_names() {
    let scratch = Scratch::new();
    for (split, each) in [("train", 6), ("val", 3)] {
        scratch.images(&format!("imagenet/{split}"), each);
        scratch.images(&format!("three/{split}"), each);
    }
    scratch.images("three/other", 2);
    let stats = |arguments: &[&str]| parsed(&scratch.done(&[&["data", "stats"], arguments, &["--json"]].concat()));
    assert_eq!(stats(&["imagenet"])["images"], 12);
    assert_eq!(stats(&["imagenet"])["labels"][0]["classes"].as_array().unwrap().len(), 2);
    assert_eq!(stats(&["imagenet", "--test"])["images"], 6);
    scratch.images("twice/val", 1);
    scratch.images("twice/dev", 1);
    scratch.refused(&["data", "stats", "twice"], 3, &["several of its folders are the split validation"]);
    // With a folder that is not a split, all three may be classes.
    scratch.refused(&["data", "stats", "three"], 3, &["as splits (train, val)", "3 classes"]);
    assert_eq!(stats(&["three#classes"])["labels"][0]["classes"].as_array().unwrap().len(), 3);
    scratch.refused(&["data", "stats", "imagenet/train/class0/1.png"], 3, &["one image", "folder that it is in"]);
    scratch.refused(&["data", "index", "nothing"], 3, &["no such tar file"]);
    // Tables whose image column has another name, alone and in a folder.
    let table = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables/photo.parquet");
    scratch.write("tables/train-0.parquet", fs::read(&table).unwrap());
    scratch.write("tables/test-0.parquet", fs::read(table).unwrap());
    assert_eq!(stats(&["tables#photo"])["images"], 2);
    assert_eq!(stats(&["tables/test-0.parquet#photo"])["images"], 2);
    scratch.refused(&["data", "stats", "tables"], 3, &["no column called image", "photo"]);
}

#[test]
fn packed_images_train_as_the_ones_they_were_made_of() {
    let scratch = Scratch::new();
    scratch.images("images", 20);
    let report = parsed(&scratch.done(&["data", "pack", "images", "--out", "x.equimod", "--json"]));
    assert_eq!(report["summary"]["images"], 40);
    assert!(scratch.done(&["data", "verify", "x.equimod"]).contains("40 of 40"));
    let output = scratch.run(&["data", "stats", "x.equimod", "--background", "white"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("keeps the pixels that it was packed with"));
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let metrics = |data: &str, out: &str| {
        let settings = ["--set", "data.batch=16", "--set", "data.shuffle_window=20", "--no-eval"];
        let arguments = ["pretrain", "--recipe", &recipe, "--data", data, "--out", out];
        scratch.done(&[&arguments[..], &settings].concat());
        let lines = fs::read_to_string(scratch.path(out).join("metrics.jsonl")).unwrap();
        lines.lines().map(|line| parsed(line)["loss"].as_f64().unwrap()).collect::<Vec<f64>>()
    };
    assert_eq!(metrics("images", "one"), metrics("x.equimod", "other"));
    // A flipped bit is found by the checksum.
    let mut bytes = fs::read(scratch.path("x.equimod")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    scratch.write("x.equimod", bytes);
    scratch.refused(&["data", "verify", "x.equimod"], 3, &["checksum does not match"]);
    let small = ["data", "pack", "images", "--out", "small.equimod", "--resize", "8", "--storage", "jpeg"];
    scratch.done(&small);
    let stats = parsed(&scratch.done(&["data", "stats", "small.equimod", "--json"]));
    assert_eq!(stats["sizes"]["width"]["least"], 8);
    scratch.refused(&["data", "pack", "none", "--out", "y.equimod"], 3, &["none", "no such file or folder"]);
    assert!(!scratch.path("y.equimod").exists());
}

#[test]
fn a_stream_without_an_index_is_refused_with_the_command_that_makes_one() {
    let scratch = Scratch::new();
    scratch.images("images", 20);
    for shard in 0..2 {
        let mut builder = tar::Builder::new(fs::File::create(scratch.path(&format!("x-{shard:03}.tar"))).unwrap());
        for k in 0..10 {
            let image = scratch.path(&format!("images/class{shard}/{k}.png"));
            builder.append_path_with_name(&image, format!("{shard}{k}.png")).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("{shard}{k}.cls"), shard.to_string().as_bytes()).unwrap();
        }
        builder.finish().unwrap();
    }
    let source = "x-{000..001}.tar";
    let command = format!("equimod data index {source}");
    scratch.refused(&["data", "stats", source], 3, &["without an index", &command]);
    assert!(scratch.done(&["data", "index", source]).contains("20 images in 2 shards"));
    let stats = parsed(&scratch.done(&["data", "stats", source, "--json"]));
    assert_eq!(stats["labels"][0]["classes"], json!([{"class": "0", "images": 10}, {"class": "1", "images": 10}]));
    // A shard that changed since it was indexed.
    fs::write(scratch.path("x-001.tar"), [0; 1024]).unwrap();
    scratch.refused(&["data", "stats", source], 3, &["changed since it was indexed", &command]);
}

/// An idx file: `magic`, the sizes, the bytes.
#[cfg(feature = "mnist")]
fn idx(magic: u32, sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let header: Vec<u8> = [&[magic], sizes].concat().iter().flat_map(|number| number.to_be_bytes()).collect();
    [&header, bytes].concat()
}

#[cfg(feature = "mnist")]
#[test]
fn mnist_is_read_by_way_of_candle_datasets() {
    let scratch = Scratch::new();
    for (split, count) in [("train", 12u32), ("t10k", 6)] {
        let pixels: Vec<u8> = (0..count * 28 * 28).map(|k| (k % 251) as u8).collect();
        let labels: Vec<u8> = (0..count).map(|k| (k % 10) as u8).collect();
        scratch.write(&format!("mnist/{split}-images-idx3-ubyte"), idx(2051, &[count, 28, 28], &pixels));
        scratch.write(&format!("mnist/{split}-labels-idx1-ubyte"), idx(2049, &[count], &labels));
    }
    let stats = parsed(&scratch.done(&["data", "stats", "mnist", "--json"]));
    assert_eq!((stats["images"].as_u64(), stats["sizes"]["height"]["least"].as_u64()), (Some(12), Some(28)));
    let mean = (0..12 * 28 * 28).map(|k| f64::from(k % 251)).sum::<f64>() / f64::from(12 * 28 * 28) / 255.0;
    assert!((stats["channels"]["mean"][1].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(parsed(&scratch.done(&["data", "stats", "mnist", "--test", "--json"]))["images"], 6);
    // A header that declares four billion images.
    scratch.write("mnist/train-images-idx3-ubyte", idx(2051, &[u32::MAX, 28, 28], &[0; 784]));
    scratch.refused(&["data", "stats", "mnist"], 3, &["train-images-idx3-ubyte", "not a complete idx file"]);
}

#[test]
fn the_augmentation_benchmark_prints_one_object() {
    let scratch = Scratch::new();
    scratch.images("images", 3);
    // Only whole batches are measured: of twenty, and of the three that exist.
    for (what, images) in [(&["cifar"][..], 40), (&["folder", "images"], 42)] {
        let arguments = [&["bench", "augment"], what, &["--images", "40", "--threads", "1", "--json"]].concat();
        let report = parsed(&scratch.done(&arguments));
        assert!(report["images_per_s"].as_f64().unwrap() > 0.0);
        assert_eq!((report["images"].as_u64(), report["threads"].as_u64()), (Some(images), Some(1)));
    }
    scratch.refused(&["bench", "augment", "folder", "none"], 3, &["none", "no such folder"]);
}

/// A square PNG file of one color with alpha.
fn transparent_png(side: u32, alpha: u8) -> Vec<u8> {
    png(side, |_, _| [10, 20, 30, alpha])
}

/// A square PNG file with alpha, by row and column.
fn png(side: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend([&kind[..], data].concat());
        bytes.extend(crc.sum().to_be_bytes());
    };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    chunk(b"IHDR", &header);
    let mut rows = Vec::new();
    for y in 0..side {
        rows.push(0);
        (0..side).for_each(|x| rows.extend(pixel(y, x)));
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &rows).unwrap();
    chunk(b"IDAT", &packed.finish().unwrap());
    chunk(b"IEND", b"");
    bytes
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn init_writes_a_recipe_that_runs_and_pretrain_chooses_the_same() {
    let scratch = Scratch::new();
    scratch.images("images", 20);
    for i in 0..4 {
        scratch.write(&format!("images/class0/clear{i}.png"), transparent_png(40, 128));
    }
    let printed = scratch.done(&["init", "images"]);
    let next = ["pretrain --recipe recipe.toml", "eval logistic out/recipe-1 --untrained", "2 classes"];
    holds(&printed, &[&["44 images", "written to recipe.toml", "expected time: "][..], &next].concat());
    let recipe = fs::read_to_string(scratch.path("recipe.toml")).unwrap();
    let settings =
        ["size = 32 # median short side 18 px", "stem = \"cifar\"", "background = \"white\" # 4 of 44 images"];
    holds(&recipe, &[&settings[..], &["batch = 16 # at most half of the 44 images", "44 PNG"]].concat());
    scratch.refused(&["init", "images"], 2, &["recipe.toml exists already", "--out", "--force"]);
    let smaller =
        ["init", "images", "--size", "64", "--batch", "8", "--lr", "0.5", "--epochs", "3", "--out", "small.toml"];
    holds(&scratch.done(&smaller), &["64 px (as given; an image takes about 4 times as long", "batch 8 (as given)"]);
    let small = fs::read_to_string(scratch.path("small.toml")).unwrap();
    holds(&small, &["learning_rate = 0.5 # as given", "epochs = 3 # as given"]);
    let problems = ["augmentation.size is 3", "data.batch is 100, more than the 44 images"];
    scratch.refused(&["init", "images", "--size", "3", "--batch", "100", "--out", "none.toml"], 2, &problems);
    let warmup = ["--batch", "100", "--set", "schedule.warmup_epochs=500"];
    let problems = ["2 problems", "schedule.warmup_epochs is 500", "data.batch is 100, more than the 44 images"];
    scratch.refused(&[&["pretrain", "images"], &warmup[..]].concat(), 2, &problems);
    // A dry run finds what the run would find: a task that is not there, and weights to start from.
    let task = ["--set", "probe.every_epochs=1", "--set", "probe.task=shape"];
    let both = [&["pretrain", "images", "--recipe", "quick", "--batch", "100"], &task[..]].concat();
    scratch.refused(&both, 2, &["2 problems", "data.batch is 100", "probe: ", "shape"]);
    scratch.refused(&[&["pretrain", "images", "--dry-run"], &task[..]].concat(), 3, &["shape"]);
    scratch.refused(&["pretrain", "images", "--dry-run", "--from", "nowhere"], 1, &["nowhere"]);
    // A short run of a recipe has a warm-up of its length.
    scratch.done(&["init", "images", "--epochs", "100", "--size", "16", "--out", "long.toml"]);
    let short = |more: &[&str]| -> Vec<String> {
        let arguments = [&["pretrain", "--recipe", "long.toml", "--epochs", "4"], more].concat();
        arguments.into_iter().map(str::to_owned).collect()
    };
    let arguments = short(&["--dry-run"]);
    let output = scratch.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let [said, printed] = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned());
    holds(&said, &["the warm-up of 10 epochs becomes 0.4, because the run has 4"]);
    holds(&printed, &["epochs = 4", "warmup_epochs = 0.4"]);
    let arguments = short(&["--set", "schedule.warmup_epochs=10"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    scratch.refused(&arguments, 2, &["schedule.warmup_epochs is 10 but schedule.epochs is 4"]);
    // What is looked at is what `pretrain images` does.
    let preview = scratch.run(&["data", "preview", "images", "--images", "2"]);
    let said = String::from_utf8_lossy(&preview.stderr).into_owned();
    holds(&said, &["views of 32 px (median short side 18 px)", "white background (4 of 44 images"]);
    scratch.done(&["init", "images", "--force", "--threads", "1"]);
    assert_eq!(fs::read_to_string(scratch.path("recipe.toml")).unwrap(), recipe);
    let dry = scratch.done(&["pretrain", "--recipe", "recipe.toml", "--dry-run"]);
    let mean = recipe.lines().find_map(|line| line.strip_prefix("mean = ")?.split(" #").next()).unwrap();
    let mean: Vec<f64> = serde_json::from_str(mean).unwrap();
    let resolved = |text: &str| text.parse::<toml::Table>().unwrap();
    let of = |table: &toml::Table, section: &str, key: &str| table[section][key].clone();
    let first = of(&resolved(&dry), "normalization", "mean")[0].as_float().unwrap();
    assert!((first - mean[0]).abs() < 1e-6, "{dry}");

    let output = scratch.run(&["pretrain", "images", "--epochs", "1", "--no-eval"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    holds(&said, &["chosen for 44 images", "views of 32 px (median short side 18 px)", "epochs 1 (as given)"]);
    let kept = fs::read_to_string(scratch.path("out/images-1/recipe.resolved.toml")).unwrap();
    let (mut kept_table, asked) = (resolved(&kept), resolved(&dry));
    for (section, key) in [("schedule", "epochs"), ("schedule", "warmup_epochs"), ("checkpoint", "every_epochs")] {
        assert_ne!(of(&kept_table, section, key), of(&asked, section, key), "{key}");
        kept_table[section][key] = of(&asked, section, key);
    }
    kept_table["about"] = asked["about"].clone();
    assert_eq!(kept_table, asked);
    holds(&fs::read_to_string(scratch.path("out/images-1/recipe.toml")).unwrap(), &["# median short side", "# --set"]);
    // Named or not, images are decoded as in training.
    scratch.done(&["embed", "out/images-1", "--out", "of-run.csv"]);
    scratch.done(&["embed", "out/images-1", "images", "--out", "named.csv"]);
    let features = |file: &str| fs::read_to_string(scratch.path(file)).unwrap();
    assert_eq!(features("of-run.csv"), features("named.csv"));
    let named = scratch.run(&["eval", "knn", "out/images-1", "images", "--k", "3"]);
    holds(&String::from_utf8_lossy(&named.stderr), &["data: images, transparent pixels on white"]);
    // A background that is missing is named by everything that reads images.
    scratch.write("tiny.toml", TINY);
    scratch.write("suite.toml", "about = 'one'\n[[task]]\nname = 'color'\ndata = 'images'\nprotocol = 'knn'\n");
    scratch.done(&["pretrain", "images", "--recipe", "tiny.toml", "--no-eval", "--out", "plain"]);
    for command in [
        "eval knn plain images --k 3",
        "eval compare plain plain --data images --by knn",
        "eval transfer plain --suite suite.toml",
        "embed plain images --out plain.csv",
    ] {
        let output = scratch.run(&command.split(' ').collect::<Vec<_>>());
        holds(&String::from_utf8_lossy(&output.stderr), &["transparent pixels; their transparency is ignored"]);
    }
    let again = scratch.run(&["pretrain", "--out", "out/images-1", "--resume", "--no-eval"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && !said.contains("chosen"), "{said}");
    assert_eq!(fs::read_to_string(scratch.path("out/images-1/recipe.resolved.toml")).unwrap(), kept);
}

#[test]
fn init_refuses_images_that_it_cannot_use_in_one_sentence() {
    let scratch = Scratch::new();
    scratch.images("few", 3);
    scratch.images("some", 4);
    for i in 0..10 {
        scratch.write(&format!("broken/{i}.png"), b"\x89PNG\r\n\x1a\n cut");
        scratch.write(&format!("some/class0/bad{i}.png"), b"\x89PNG\r\n\x1a\n cut");
    }
    fs::create_dir(scratch.path("empty")).unwrap();
    scratch.refused(&["init", "few"], 3, &["few", "6 images", "at least 8"]);
    scratch.refused(&["init", "empty"], 3, &["empty", "holds no images"]);
    scratch.refused(&["init", "missing"], 3, &["missing", "no such file or folder"]);
    scratch.refused(&["init", "broken"], 3, &["does not decode"]);
    scratch.refused(&["init", "some"], 3, &["10 of 18 images", "`equimod data verify some`"]);
    scratch.refused(&["pretrain", "few"], 3, &["6 images"]);
    assert!(!scratch.path("recipe.toml").exists() && !scratch.path("out").exists());
}

#[test]
fn white_shapes_get_a_background_on_which_they_are_seen() {
    let scratch = Scratch::new();
    for i in 0..8u32 {
        let shape = png(24, |y, x| [255, 255, 255, if (x + i) / 4 % 2 == y / 4 % 2 { 255 } else { 0 }]);
        scratch.write(&format!("icons/{i}.png"), shape);
    }
    let printed = scratch.done(&["init", "--data", "icons", "--out", "new/icons.toml"]);
    holds(&printed, &["black background (8 of 8 images have transparent pixels; 8 of them blank on white)"]);
    let stats = scratch.done(&["data", "stats", "icons", "--background", "white"]);
    holds(&stats, &["8 of them are blank so: their shapes are in the alpha alone"]);
    let verified = scratch.done(&["data", "verify", "icons", "--background", "White"]);
    holds(&verified, &["on white, it has only one color"]);
    assert!(!scratch.done(&["data", "verify", "icons", "--background", "#000"]).contains("only one color"));
    // A given color is that of the statistics, and other given settings are said to be.
    let given = ["--set", "data.background=gray", "--set", "backbone.stem=imagenet", "--size", "32", "--dry-run"];
    let output = scratch.run(&[&["pretrain", "icons"], &given[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    holds(&said, &["#808080 background (as given; 8 of 8", "imagenet stem (as given)", "recipe.toml"]);
    holds(&String::from_utf8_lossy(&output.stdout), &["background = \"#808080\"", "stem = \"imagenet\""]);
    let white = ["pretrain", "icons", "--recipe", "quick", "--set", "data.batch=8", "--set", "data.background=white"];
    let output = scratch.run(&[&white[..], &["--dry-run"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    holds(&said, &["8 of 8 sampled images are blank on white: their shapes are in the alpha alone; set another"]);
}

#[test]
fn images_of_one_class_train_and_are_reported() {
    let scratch = Scratch::new();
    scratch.images("images", 10);
    fs::create_dir(scratch.path("one")).unwrap();
    fs::rename(scratch.path("images/class0"), scratch.path("one/photos")).unwrap();
    let printed = scratch.done(&["init", "one"]);
    holds(&printed, &["class (1 class, which no evaluation can tell from others)", "# class has one class alone"]);
    let arguments = ["pretrain", "one", "--size", "16", "--width", "4", "--epochs", "1", "--out", "run"];
    let output = scratch.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    holds(&said, &["no accuracy is measured: ", "all its training images have the same class"]);
    holds(
        &String::from_utf8_lossy(&output.stdout),
        &["equivariance equimod", "report run/report.html", "eval params run"],
    );
    for (file, part) in [("recipe.toml", "it is a recipe or a study"), ("labels.csv", "Labels in a CSV file")] {
        scratch.write(file, "a,b");
        scratch.refused(&["pretrain", file], 3, &[part]);
    }
}

#[test]
fn contradictions_with_the_images_are_reported_beside_those_of_the_recipe() {
    let scratch = Scratch::new();
    scratch.images("few", 3);
    let too_few = "data.batch is 64, more than the 6 images";
    let pretrain = |setting: &str, part: &str| {
        let arguments = ["pretrain", "--recipe", "quick", "--data", "few", "--set", setting];
        scratch.refused(&arguments, 2, &["2 problems", part, too_few]);
    };
    pretrain("schedule.warmup_epochs=9", "schedule.warmup_epochs is 9");
    pretrain("augmentation.encoding=pairwise", "augmentation.encoding");
    assert!(!scratch.path("out").exists());
}
