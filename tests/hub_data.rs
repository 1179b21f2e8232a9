//! Data sets of the Hub, tested against a stand-in that speaks its protocol on this machine.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use common::hub::{Hub, TOKEN, sum};
use common::{Scratch, TINY, text};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONVERTED: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// A Hub with the data sets of these tests.
fn hub() -> Hub {
    let hub = Hub::start();
    let asset =
        |name: &str| fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/emoji").join(name)).unwrap();
    let (main, converted) = (("main", COMMIT), ("refs/convert/parquet", CONVERTED));
    for (repository, at, path, name) in [
        ("lab/emoji", main, "data/train-00000-of-00002.parquet", "noto-test.parquet"),
        ("lab/emoji", main, "data/train-00001-of-00002.parquet", "twemoji-test.parquet"),
        ("lab/emoji", main, "data/test-00000-of-00001.parquet", "twemoji-test.parquet"),
        ("lab/emoji", main, "README.md", "NOTICE.md"),
        ("lab/gated", main, "train.parquet", "noto-test.parquet"),
        ("lab/two", main, "one/train-0.parquet", "noto-test.parquet"),
        ("lab/two", main, "other/train-0.parquet", "noto-test.parquet"),
        ("lab/escape", main, "../../../train.parquet", "noto-test.parquet"),
        ("lab/scripted", converted, "default/train/0000.parquet", "noto-test.parquet"),
        ("lab/scripted", main, "script.py", "NOTICE.md"),
    ] {
        let bytes = asset(name);
        hub.put(&format!("datasets/{repository}"), at, path, bytes.clone(), sum(&bytes));
    }
    hub.put("datasets/lab/damaged", main, "data/train-0.parquet", asset("noto-test.parquet"), sum(b"another"));
    hub.gate("datasets/lab/gated");
    hub
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_data_set_is_fetched_once_pinned_and_used_without_a_network() {
    let hub = hub();
    let scratch = hub.scratch();
    let fetched = parsed(&scratch.done(&["data", "fetch", "hf:lab/emoji", "--json"]));
    let pinned = format!("hf:lab/emoji@{COMMIT}");
    assert_eq!(fetched["source"], pinned.as_str());
    assert_eq!(fetched["splits"]["train"].as_array().unwrap().len(), 2);
    assert_eq!(fetched["splits"]["test"].as_array().unwrap().len(), 1);
    let requests = hub.requests();
    assert!(
        requests.iter().any(|a| a.starts_with("GET") && a.contains("train-00000-of-00002.parquet")),
        "{requests:?}"
    );
    // Files with the same content are downloaded once.
    assert_eq!(requests.iter().filter(|a| a.starts_with("GET") && a.contains("/resolve/")).count(), 2);
    // A pinned and complete data set needs no request.
    let stats = parsed(&scratch.done(&["data", "stats", &pinned, "--json"]));
    assert_eq!(stats["images"], 2 * 697);
    assert!(hub.requests().is_empty());
    // A branch is resolved again, but no file is downloaded again.
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/emoji", "--test", "--json"]))["images"], 697);
    assert!(hub.requests().iter().all(|a| !a.contains("/resolve/")));
    // The requested split and column are used.
    let part = parsed(&scratch.done(&["data", "stats", "hf:lab/emoji:test#image", "--json"]));
    assert_eq!(part["images"], 697);
    scratch.refused(&["data", "stats", "hf:lab/emoji#photo"], 3, &["no column called photo", "image"]);
    scratch.refused(&["data", "stats", "hf:lab/emoji:extra"], 3, &["no split called extra", "test, train"]);
    // Offline, cached data are used.
    let (address, folder) = (hub.address(), scratch.path("hf"));
    drop(hub);
    let alone = Scratch::new().with("HF_ENDPOINT", &address).with("HF_HOME", &text(&folder));
    let offline = alone.with("HF_HUB_OFFLINE", "1");
    assert_eq!(parsed(&offline.done(&["data", "stats", "hf:lab/emoji", "--json"]))["images"], 2 * 697);
    offline.refused(&["data", "stats", "hf:lab/other"], 3, &["HF_HUB_OFFLINE", "equimod data fetch hf:lab/other"]);
}

#[test]
fn a_run_is_pinned_to_the_commit_that_it_started_from() {
    let hub = hub();
    let scratch = hub.scratch();
    scratch.write("tiny.toml", TINY);
    let arguments = ["pretrain", "--recipe", "tiny.toml", "--data", "hf:lab/emoji", "--out", "run", "--no-eval"];
    scratch.done(&[&arguments[..], &["--epochs", "1"]].concat());
    // Training downloads only the training split.
    assert!(hub.requests().iter().all(|a| !a.contains("test-00000")));
    let resolved = fs::read_to_string(scratch.path("run/recipe.resolved.toml")).unwrap();
    assert!(resolved.contains(&format!("source = \"hf:lab/emoji@{COMMIT}\"")), "{resolved}");
    let knn = scratch.done(&["eval", "knn", "run", "--data", "hf:lab/emoji", "--task", "category", "--json"]);
    assert!(knn.contains("hf:lab/emoji@"), "{knn}");
    scratch.done(&["export", "run", "--out", "export"]);
    let results = fs::read_to_string(scratch.path("export/.eval_results/lab_emoji-category-knn.yaml")).unwrap();
    let value = parsed(&knn)["rows"].as_array().unwrap().iter().find(|row| row["metric"] == "top-1 accuracy").unwrap()
        ["value"]
        .as_f64()
        .unwrap();
    for part in ["id: \"lab/emoji\"", "task_id: \"category\"", COMMIT, &format!("value: {:.2}", 100.0 * value)] {
        assert!(results.contains(part), "{part} in {results}");
    }
    assert!(fs::read_to_string(scratch.path("export/SHA256SUMS")).unwrap().contains(".eval_results/lab_emoji"));
    assert!(hub.requests().iter().any(|a| a.contains("test-00000")));
}

#[test]
fn a_fetched_folder_is_a_source_elsewhere() {
    let hub = hub();
    let scratch = hub.scratch();
    let output = scratch.done(&["data", "fetch", "hf:lab/emoji", "--to", "carried"]);
    assert!(output.contains("--data carried") && output.contains("train 2"), "{output}");
    let mut names: Vec<String> = fs::read_dir(scratch.path("carried"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
    assert_eq!(names, expected);
    scratch.refused(&["data", "fetch", "hf:lab/emoji", "--to", "carried"], 2, &["carried", "not an empty folder"]);
    let elsewhere = Scratch::new().with("HF_HUB_OFFLINE", "1");
    let folder = text(&scratch.path("carried"));
    assert_eq!(parsed(&elsewhere.done(&["data", "stats", &folder, "--json"]))["images"], 2 * 697);
    assert_eq!(parsed(&elsewhere.done(&["data", "stats", &folder, "--test", "--json"]))["images"], 697);
}

#[test]
fn damaged_files_are_detected_removed_and_reported() {
    let hub = hub();
    let scratch = hub.scratch();
    scratch.refused(
        &["data", "fetch", "hf:lab/damaged"],
        3,
        &["train-0.parquet", "does not match the Hub's checksum", "download it again"],
    );
    let left = walk(&scratch.path("hf")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "parquet"));
    assert_eq!(left.count(), 0);
    // A cached file that was truncated later.
    scratch.done(&["data", "fetch", "hf:lab/emoji:test"]);
    let blob = walk(&scratch.path("hf")).into_iter().find(|path| text(path).contains("test-00000")).unwrap();
    fs::write(blob.canonicalize().unwrap(), b"PAR1").unwrap();
    scratch.refused(&["data", "stats", "hf:lab/emoji:test"], 3, &["has 4 bytes instead of"]);
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/emoji:test", "--json"]))["images"], 697);
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn errors_say_what_to_do() {
    let hub = hub();
    let scratch = hub.scratch();
    scratch.refused(&["data", "fetch", "hf:lab/none"], 3, &["no data set lab/none"]);
    scratch.refused(&["data", "fetch", "hf:lab/emoji@v9"], 3, &["no revision v9"]);
    scratch.refused(&["data", "fetch", "hf:lab/two"], 3, &["several configurations", "one, other"]);
    scratch.done(&["data", "fetch", "hf:lab/two/other"]);
    scratch.refused(&["data", "fetch", "hf:lab/escape"], 3, &["no parquet files"]);
    scratch.refused(&["data", "fetch", "emoji"], 2, &["hf:OWNER/NAME"]);
    scratch.refused(&["data", "fetch", "hf:lab/gated"], 3, &["gated", "HF_TOKEN"]);
    let wrong = hub.scratch().with("HF_TOKEN", "hf_other");
    wrong.refused(&["data", "fetch", "hf:lab/gated"], 3, &["gated", "the current token has none"]);
    let output = hub.scratch().with("HF_TOKEN", TOKEN).done(&["data", "fetch", "hf:lab/gated"]);
    assert!(output.contains(&format!("hf:lab/gated@{COMMIT}")) && !output.contains(TOKEN), "{output}");
    // The Hub's own conversion of a data set in another format.
    let output = scratch.done(&["data", "fetch", "hf:lab/scripted"]);
    assert!(output.contains(CONVERTED), "{output}");
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/scripted", "--json"]))["images"], 697);
    // A server that accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let waiting = Scratch::new().with("HF_ENDPOINT", &address).with("HF_HUB_DOWNLOAD_TIMEOUT", "0.3");
    waiting.refused(&["data", "fetch", "hf:lab/emoji"], 3, &["did not answer for 0.3 s", "with network access"]);
    // No server at all.
    let address = hub.address();
    drop(hub);
    let lost = Scratch::new().with("HF_ENDPOINT", &address);
    lost.refused(&["data", "fetch", "hf:lab/emoji"], 3, &["cannot be reached", "with network access"]);
}
