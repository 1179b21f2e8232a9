//! Tables and shards written by other programs, as a user uses them. The fixtures were written by pyarrow and by
//! Python's tarfile, and read by pyarrow and webdataset: tests/fixtures/strangers/make_tables.py.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use common::{Scratch, TINY, text};
use equimod::data::{Dataset, ParquetDataset, ShardsDataset};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/strangers").join(name)
}

/// Values that pyarrow and webdataset read.
fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Red value of each image, which identifies it.
fn reds(dataset: &dyn Dataset) -> Vec<u64> {
    (0..dataset.len()).map(|index| u64::from(dataset.image(index).unwrap().pixels()[0])).collect()
}

/// A copy of a fixture of shards in the scratch folder, because indexing writes next to the shards.
fn shard(scratch: &Scratch, name: &str) -> String {
    let file = format!("{name}.tar");
    scratch.write(&file, fs::read(fixture("shards").join(&file)).unwrap());
    file
}

fn indexed(scratch: &Scratch, arguments: &[&str]) -> Value {
    parsed(&scratch.done(&[&["data", "index"], arguments, &["--json"]].concat()))
}

#[test]
fn tables_of_every_codec_hold_what_pyarrow_reads() {
    let expected = &expected()["tables"];
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"] {
        for version in [1, 2] {
            let path = fixture("tables").join(format!("{codec}-{version}.parquet"));
            let table = ParquetDataset::open(&path, None).unwrap_or_else(|error| panic!("{codec}: {error}"));
            assert_eq!(json!(reds(&table)), expected["red"], "{codec}");
            assert_eq!(table.columns(), ["id", "species", "tame", "year"], "{codec}");
            for row in 0..table.len() {
                assert_eq!(json!(table.text("species", row)), expected["species"][row], "{codec}");
                let year = table.text("year", row).map(|year| year.parse::<u64>().unwrap());
                assert_eq!(json!(year), expected["year"][row], "{codec}");
            }
        }
    }
}

#[test]
fn columns_of_words_and_numbers_are_offered_and_taken_as_labels() {
    let scratch = Scratch::new();
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let table = text(&fixture("tables/gzip-1.parquet"));
    scratch.images("images", 20);
    let train = ["pretrain", "--recipe", &recipe, "--data", "images", "--out", "run", "--no-eval"];
    scratch.done(&[&train[..], &["--set", "data.batch=16", "--epochs", "1"]].concat());
    let eval = ["eval", "knn", "run", "--k", "1", "--data", &table];
    scratch.refused(
        &eval,
        3,
        &["no labels; --task takes as labels: species (3 values), tame (2 values), year (3 values)"],
    );
    let report = |more: &[&str]| parsed(&scratch.done(&[&eval[..], more, &["--json"]].concat()));
    for task in ["species", "year"] {
        let rows = report(&["--task", task])["rows"].clone();
        assert!(rows.as_array().unwrap().iter().all(|row| row["task"] == task), "{rows}");
    }
    scratch.refused(
        &[&eval[..], &["--task", "color"]].concat(),
        3,
        &["no labels called \"color\"", "species (3 values)"],
    );
    // Columns of different sources are separate; their classes are matched by name.
    let other = text(&fixture("tables/zstd-2.parquet"));
    assert!(
        report(&["--task", "species", "--test", &other])["rows"][0]["detail"].as_str().unwrap().contains("12 test")
    );

    let stats = |more: &[&str]| parsed(&scratch.done(&[&["data", "stats"], more, &["--json"]].concat()));
    assert_eq!(stats(&[&table])["likely_labels"][0], json!({ "column": "species", "values": 3 }));
    let classes =
        json!([{"class": "ant", "images": 6}, {"class": "lynx", "images": 3}, {"class": "zebra", "images": 3}]);
    assert_eq!(stats(&[&table, "--task", "species"])["labels"][0]["classes"], classes);
    // A missing number means no label.
    assert_eq!(stats(&[&table, "--task", "year"])["labels"][0]["without"], 1);
    scratch.refused(&["data", "stats", &table, "--task", "color"], 3, &["no labels called \"color\""]);
    scratch.done(&["data", "pack", &table, "--task", "species", "--out", "x.equimod"]);
    assert_eq!(stats(&["x.equimod"])["labels"][0]["classes"], classes);
}

#[test]
fn images_in_structures_are_found_by_their_path_and_others_are_named() {
    let scratch = Scratch::new();
    let expected = &expected()["tables"]["red"];
    let table = |name: &str| text(&fixture("tables").join(format!("{name}.parquet")));
    let red = |name: &str, path: &str| json!(reds(&ParquetDataset::open(Path::new(&table(name)), Some(path)).unwrap()));
    assert_eq!(red("nested", "sample.view.image"), *expected);
    assert_eq!(red("nested", "sample.view.image.bytes"), *expected);
    assert_eq!(red("snappy-1", "image.bytes"), *expected);
    assert_eq!(red("other-field", "image.data"), *expected);
    let source = format!("{}#sample.view.image", table("nested"));
    assert_eq!(parsed(&scratch.done(&["data", "verify", &source, "--json"]))["decoded"], 12);
    let refused = |source: &str, parts: &[&str]| scratch.refused(&["data", "stats", source], 3, parts);
    refused(&table("nested"), &["no column called image; it has sample, label", "#sample.view.image"]);
    refused(&table("lists"), &["no column called image", "frames.list.element holds lists of bytes"]);
    refused(&format!("{}#frames", table("lists")), &["frames holds lists, not one image a row"]);
    refused(&table("other-field"), &["image is a structure of data, format", "#image.data"]);
    refused(&table("paths"), &["image holds texts", "not followed"]);
}

#[test]
fn members_that_stand_apart_keep_their_labels() {
    let scratch = Scratch::new();
    let expected = expected();
    for name in ["adjacent", "apart"] {
        let file = shard(&scratch, name);
        let report = indexed(&scratch, &[&file]);
        assert_eq!((&report["samples"], &report["labeled"]), (&json!(8), &json!(8)), "{report}");
        assert_eq!(report["columns"], json!({ "species": 3 }));
        let shards = ShardsDataset::open(&scratch.path(&file)).unwrap();
        let classes = (0..8).map(|k| shards.label(0, k)).collect::<Vec<_>>();
        let species = (0..8).map(|k| shards.text("species", k)).collect::<Vec<_>>();
        let found: Vec<Value> = (0..8).map(|k| json!([reds(&shards)[k], classes[k], species[k]])).collect();
        assert_eq!(json!(found), expected["shards"]["adjacent"], "{name}");
        let stats = parsed(&scratch.done(&["data", "stats", &file, "--task", "species", "--json"]));
        assert_eq!(stats["labels"][1]["classes"][0], json!({ "class": "ant", "images": 4 }));
    }
    assert!(scratch.done(&["data", "index", "apart.tar"]).contains("for --task: species (3 values)"));
}

#[test]
fn longer_endings_and_dotted_keys_are_read_or_named() {
    let scratch = Scratch::new();
    let (one, two, dotted) = (shard(&scratch, "one-side"), shard(&scratch, "two-sides"), shard(&scratch, "dotted"));
    let reds_of = |file: &str| reds(&ShardsDataset::open(&scratch.path(file)).unwrap());
    let tens: Vec<u64> = (0..8).map(|k| 10 * k).collect();
    let report = indexed(&scratch, &[&one]);
    assert_eq!((&report["images"], &report["labeled"]), (&json!({ "input.png": 8 }), &json!(8)));
    assert_eq!(reds_of(&one), tens);
    let sides = ["8 KEY.left.png, 8 KEY.right.png", "--image left.png", "--dotted-keys"];
    scratch.refused(&["data", "index", &two], 3, &sides);
    let report = indexed(&scratch, &[&two, "--image", "right.png"]);
    assert_eq!((&report["left_alone"], &report["labeled"]), (&json!({ "left.png": 8 }), &json!(8)));
    assert_eq!(reds_of(&two), tens.iter().map(|red| red + 1).collect::<Vec<_>>());
    scratch.refused(&["data", "index", &dotted], 3, &["1 KEY.000.png, 1 KEY.001.png", "and 2 more", "--dotted-keys"]);
    assert_eq!(indexed(&scratch, &[&dotted, "--dotted-keys"])["labeled"], 8);
    assert_eq!(reds_of(&dotted), tens);
    scratch.refused(&["data", "index", &dotted, "--image", "gif"], 3, &["hold no images; they hold"]);
}

#[test]
fn compressed_shards_are_refused_with_the_remedy() {
    let scratch = Scratch::new();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00";
    let zstd = b"\x28\xb5\x2f\xfd\x00\x00\x00\x00";
    scratch.write("set/a.tar.gz", gzip);
    scratch.write("set/about.txt", b"text");
    for source in ["set", "set/a.tar.gz"] {
        scratch.refused(&["data", "stats", source], 3, &["a.tar.gz", "gzip", "gunzip", "equimod data index"]);
    }
    scratch.write("b.tar.zst", zstd);
    scratch.refused(&["data", "index", "b.tar.zst"], 3, &["zstd", "unzstd"]);
    // Compressed, whatever the name.
    scratch.write("c.tar", gzip);
    scratch.refused(&["data", "index", "c.tar"], 3, &["c.tar", "compressed by gzip"]);
    // An archive next to images is ignored as a leftover.
    scratch.images("set/images", 2);
    assert!(scratch.done(&["data", "stats", "set"]).contains("4 images"));
}

#[test]
fn an_index_of_an_earlier_version_still_opens_with_the_same_fingerprint() {
    let scratch = Scratch::new();
    let file = shard(&scratch, "adjacent");
    let report = indexed(&scratch, &[&file]);
    let index = scratch.path("adjacent.tar.index.json");
    assert_eq!(Path::new(report["index"].as_str().unwrap()).file_name(), index.file_name());
    let fingerprint = || parsed(&scratch.done(&["data", "verify", &file, "--json"]))["fingerprint"].clone();
    let new = fingerprint();
    let mut old = parsed(&fs::read_to_string(&index).unwrap());
    old.as_object_mut().unwrap().remove("columns").unwrap();
    fs::write(&index, old.to_string()).unwrap();
    assert_eq!(fingerprint(), new);
    scratch.refused(
        &["data", "stats", &file, "--task", "species"],
        3,
        &["no labels called \"species\"", "it has class"],
    );
    old["version"] = json!(1);
    fs::write(&index, old.to_string()).unwrap();
    scratch.refused(&["data", "stats", &file], 3, &["version 1", "equimod data index"]);
}

#[test]
fn classes_without_their_images_are_refused_and_named() {
    let scratch = Scratch::new();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    let image = fs::read(scratch.images("images", 1).join("class0/0.png")).unwrap();
    add("images/1.png", &image);
    add("labels/1.cls", b"3");
    add("labels/2.cls", b"4");
    scratch.write("x.tar", builder.into_inner().unwrap());
    let parts = ["none of its 2 classes", "labels/1.cls", "images/1", "first dot"];
    scratch.refused(&["data", "index", "x.tar"], 3, &parts);
    assert!(!scratch.path("x.tar.index.json").exists());
}
