//! Models of the Hub, published, loaded and evaluated against a stand-in that speaks its protocol on this machine.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use common::hub::{Fault, Hub, READER, TOKEN, sum};
use common::{Scratch, TINY, text};

const NET: &str = "models/lab/net";

/// A run on images of two colors, and its export.
fn exported(scratch: &Scratch) {
    scratch.images("images", 40);
    scratch.write("tiny.toml", TINY);
    let arguments = ["pretrain", "--recipe", "tiny.toml", "--data", "images", "--out", "run", "--no-eval"];
    scratch.done(&[&arguments[..], &["--set", "data.batch=16", "--epochs", "1"]].concat());
    scratch.done(&["eval", "knn", "run", "--data", "images", "--k", "5"]);
    scratch.done(&["export", "run", "--out", "export", "--verify"]);
}

/// A folder in which the binary uses the Hub with write access.
fn writer(hub: &Hub) -> Scratch {
    hub.scratch().with("HF_TOKEN", TOKEN)
}

fn publish(scratch: &Scratch, more: &[&str]) -> Value {
    parsed(&scratch.done(&[&["publish", "export", "--repo", "lab/net", "--json"], more].concat()))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn accuracy(results: &str) -> f64 {
    let results = parsed(results);
    let rows = results["rows"].as_array().unwrap();
    rows.iter().find(|row| row["metric"] == "top-1 accuracy").unwrap()["value"].as_f64().unwrap()
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Checks that no file in the folder and no output of the binary contains a token.
fn keeps_the_token(scratch: &Scratch) {
    let holds = |bytes: &[u8], token: &str| bytes.windows(token.len()).any(|window| window == token.as_bytes());
    for token in [TOKEN, READER] {
        for path in walk(scratch.folder()) {
            assert!(!holds(&fs::read(&path).unwrap(), token), "{}", path.display());
        }
        assert!(!holds(scratch.said().as_bytes(), token), "{}", scratch.said());
    }
}

#[test]
fn published_models_load_and_give_the_same_results() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    let published = publish(&scratch, &["--message", "First weights"]);
    let commit = hub.head(NET, "main").unwrap();
    assert_eq!(published["commit"], commit.as_str());
    assert_eq!(published["model"], format!("hf:lab/net@{commit}").as_str());
    assert!(!hub.is_private(NET));
    // One commit on top of the Hub's initial one, with the files of the export.
    let commits = hub.requests().iter().filter(|line| line.contains("/commit/main")).count();
    assert_eq!(commits, 1);
    let there = hub.files(NET, &commit);
    for path in walk(&scratch.path("export")) {
        let name = text(path.strip_prefix(scratch.path("export")).unwrap());
        if name != "README.md" {
            assert_eq!(there[&name], fs::read(&path).unwrap(), "{name}");
        }
    }
    let card = String::from_utf8(there["README.md"].clone()).unwrap();
    assert!(card.contains("hf_hub_download(\"lab/net\"") && card.contains("equimod embed hf:lab/net"), "{card}");

    // On another machine, without a token.
    let other = hub.scratch();
    let images = text(&scratch.path("images"));
    let evaluate =
        |scratch: &Scratch, model: &str| scratch.done(&["eval", "knn", model, "--data", &images, "--k", "5", "--json"]);
    let here = accuracy(&evaluate(&scratch, "run"));
    let there = evaluate(&other, "hf:lab/net");
    assert_eq!(accuracy(&there), here);
    assert!(parsed(&there)["models"][0]["path"].as_str().unwrap().starts_with(&format!("hf:lab/net@{commit}")));
    // The heads are published, too.
    let of = |scratch: &Scratch, model: &str| {
        let found = parsed(&scratch.done(&["eval", "equivariance", model, "--data", &images, "--json"]));
        found["rows"].as_array().unwrap().iter().map(|row| row["value"].as_f64()).collect::<Vec<_>>()
    };
    assert_eq!(of(&other, "hf:lab/net"), of(&scratch, "run"));
    // Another training can start from the published weights; they are pinned.
    other.write("tiny.toml", TINY);
    let arguments = ["pretrain", "--recipe", "tiny.toml", "--data", &images, "--out", "next", "--no-eval"];
    other.done(&[&arguments[..], &["--set", "data.batch=16", "--epochs", "1", "--from", "hf:lab/net"]].concat());
    let info = fs::read_to_string(other.path("next/run.json")).unwrap();
    assert!(info.contains(&format!("hf:lab/net@{commit}")), "{info}");

    // A pinned and complete model needs no request. Offline, a branch is the commit that it was last resolved to.
    hub.requests();
    let pinned = format!("hf:lab/net@{commit}");
    assert_eq!(accuracy(&evaluate(&other, &pinned)), here);
    assert!(hub.requests().is_empty());
    let (address, folder) = (hub.address(), other.path("hf"));
    drop(hub);
    let offline =
        Scratch::new().with("HF_ENDPOINT", &address).with("HF_HOME", &text(&folder)).with("HF_HUB_OFFLINE", "1");
    assert_eq!(accuracy(&evaluate(&offline, "hf:lab/net")), here);
    // Another program leaves the files, and which commit a branch is, without an index of ours.
    let cached = folder.join("hub/models--lab--net");
    fs::remove_file(cached.join("equimod.json")).unwrap();
    fs::create_dir_all(cached.join("refs")).unwrap();
    fs::write(cached.join("refs/main"), &commit).unwrap();
    assert_eq!(accuracy(&evaluate(&offline, "hf:lab/net")), here);
    offline.refused(&["inspect", "hf:lab/other"], 1, &["HF_HUB_OFFLINE", "equimod inspect hf:lab/other"]);
    offline.refused(&["publish", &text(&scratch.path("export")), "--repo", "lab/net"], 1, &["token"]);
    let lost = Scratch::new().with("HF_ENDPOINT", &address);
    lost.refused(&["inspect", "hf:lab/net"], 1, &["cannot be reached", "with network access"]);
    keeps_the_token(&scratch);
    keeps_the_token(&other);
}

#[test]
fn errors_of_authorization_say_what_to_do() {
    let hub = Hub::start();
    let scratch = hub.scratch();
    exported(&scratch);
    let arguments = ["publish", "export", "--repo", "lab/net"];
    scratch.refused(&arguments, 1, &["needs a token", "HF_TOKEN"]);
    assert!(hub.requests().is_empty());
    let unknown = scratch.again_with("HF_TOKEN", "hf_nobody");
    unknown.refused(&arguments, 1, &["does not accept the token", "HF_TOKEN"]);
    let reader = scratch.again_with("HF_TOKEN", READER);
    reader.refused(&arguments, 1, &["may not write to lab/net", "--create-pr"]);
    assert!(hub.head(NET, "main").is_none());
    // The token may be in a file.
    let writer = scratch.again_with("HF_TOKEN_PATH", &text(&scratch.path("token")));
    scratch.write("token", format!("{TOKEN}\n"));
    writer.done(&arguments);
    fs::remove_file(scratch.path("token")).unwrap();
    for bad in ["net", "lab/net/more", "lab/net@main", "/net", "../net"] {
        scratch.refused(&["publish", "export", "--repo", bad], 2, &["OWNER/NAME"]);
    }
    scratch.refused(&["publish", "run", "--repo", "lab/net"], 1, &["not an export", "equimod export"]);
    keeps_the_token(&scratch);
    keeps_the_token(&unknown);
    keeps_the_token(&reader);
}

#[test]
fn transient_faults_are_retried_and_permanent_ones_reported() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    let arguments = ["publish", "export", "--repo", "lab/net"];
    // Each request fails once, in every transient way.
    for (part, fault) in [
        ("POST /api/repos/create", Fault::Status(500)),
        ("POST /api/repos/create", Fault::Cut),
        ("/preupload/", Fault::Status(429)),
        ("/preupload/", Fault::Cut),
        ("/lfs/objects/batch", Fault::Status(500)),
        ("/commit/main", Fault::Cut),
        ("/commit/main", Fault::Status(503)),
        ("GET /api/models/lab/net/tree", Fault::Status(500)),
    ] {
        hub.fault(part, fault, 1);
    }
    scratch.done(&arguments);
    let first = hub.head(NET, "main").unwrap();

    // A permanent fault is reported, and nothing changes.
    for (part, fault, message) in [
        ("/commit/main", Fault::Status(500), "answered every attempt with status 500"),
        ("/commit/main", Fault::Status(429), "limits the rate of requests"),
        ("/commit/main", Fault::Cut, "try again later"),
        ("/commit/main", Fault::Status(403), "may not write"),
        ("/preupload/", Fault::Status(401), "does not accept the token"),
    ] {
        hub.fault(part, fault, 4);
        scratch.refused(&arguments, 1, &[message]);
        hub.clear_faults();
        assert_eq!(hub.head(NET, "main").unwrap(), first, "{fault:?}");
    }

    // The branch moves between reading and writing.
    fs::remove_dir_all(scratch.path("run/eval")).unwrap();
    scratch.done(&["export", "run", "export"]);
    hub.fault("/commit/main", Fault::Moved, 1);
    scratch.refused(&arguments, 1, &["main of lab/net was changed", "publish again"]);
    let theirs = hub.head(NET, "main").unwrap();
    assert!(hub.files(NET, &theirs).contains_key("their-file.txt"));
    hub.fault("/commit/main", Fault::Status(412), 1);
    scratch.refused(&arguments, 1, &["main of lab/net was changed"]);

    // The commit succeeds but its answer is lost: the second attempt finds its own commit.
    hub.requests();
    hub.fault("/commit/main", Fault::LostAnswer, 1);
    scratch.done(&arguments);
    let now = hub.head(NET, "main").unwrap();
    assert_ne!(now, theirs);
    assert!(hub.files(NET, &now).contains_key("their-file.txt"));
    keeps_the_token(&scratch);
}

#[test]
fn damaged_weights_are_detected_removed_and_reported() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    publish(&scratch, &[]);
    let other = hub.scratch();
    hub.fault("/resolve/", Fault::Damaged, 20);
    other.refused(&["inspect", "hf:lab/net"], 1, &["does not match the Hub's checksum", "download it again"]);
    hub.clear_faults();
    other.done(&["inspect", "hf:lab/net"]);
    // A cached file is damaged later.
    let weights = walk(&other.path("hf")).into_iter().find(|path| path.ends_with("model.safetensors")).unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights.canonicalize().unwrap(), bytes).unwrap();
    other.refused(&["inspect", "hf:lab/net"], 1, &["SHA-256 differs"]);
}

#[test]
fn edited_cards_are_kept_and_old_files_deleted() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    publish(&scratch, &["--private"]);
    assert!(hub.is_private(NET));
    let card =
        |hub: &Hub| String::from_utf8(hub.files(NET, &hub.head(NET, "main").unwrap())["README.md"].clone()).unwrap();
    let made = card(&hub);
    hub.commit(NET, "main", "README.md", b"# Our model\n");
    hub.commit(NET, "main", "notes.txt", b"ours");
    // A new export with fewer files.
    fs::remove_dir_all(scratch.path("run/eval")).unwrap();
    scratch.done(&["export", "run", "--out", "export"]);
    let output = scratch.run(&["publish", "export", "--repo", "lab/net"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("edited by hand") && log.contains("--force-card"), "{log}");
    assert!(log.contains("deleting eval/knn-images-k-5/results.json"), "{log}");
    assert_eq!(card(&hub), "# Our model\n");
    let files = hub.files(NET, &hub.head(NET, "main").unwrap());
    assert!(files.contains_key("notes.txt") && !files.contains_key("eval/knn-images-k-5/results.json"));
    publish(&scratch, &["--force-card"]);
    assert!(card(&hub).contains("made by equimod") && card(&hub) != made);
    // A card edited in the export is published as it is, and kept by a new export.
    scratch.write("export/README.md", "# Mine\n");
    scratch.done(&["export", "run", "--out", "export"]);
    publish(&scratch, &[]);
    assert_eq!(card(&hub), "# Mine\n");
    scratch.done(&["export", "run", "--out", "export", "--force-card"]);
    assert!(fs::read_to_string(scratch.path("export/README.md")).unwrap().contains("made by equimod"));
}

#[test]
fn branches_pull_requests_and_dry_runs() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    let output = scratch.done(&["publish", "export", "hf:lab/net", "--dry-run"]);
    assert!(output.contains("model.safetensors") && output.contains("nothing was published"), "{output}");
    assert!(hub.requests().is_empty());
    scratch.refused(&["publish", "export", "--repo", "lab/net", "--create-pr"], 1, &["no repository lab/net"]);
    publish(&scratch, &[]);
    let main = hub.head(NET, "main").unwrap();
    let branch = publish(&scratch, &["--revision", "v2"]);
    assert_eq!(branch["commit"], hub.head(NET, "v2").unwrap().as_str());
    let card = String::from_utf8(hub.files(NET, branch["commit"].as_str().unwrap())["README.md"].clone()).unwrap();
    assert!(card.contains("revision=\"v2\"") && card.contains("hf:lab/net@v2"), "{card}");
    for bad in ["a b", "../x", "x..y", "-x", "x/", "x.lock"] {
        let revision = format!("--revision={bad}");
        scratch.refused(&["publish", "export", "--repo", "lab/net", &revision], 2, &["not a valid branch name"]);
    }
    let proposed = publish(&scratch, &["--create-pr"]);
    assert_eq!(proposed["pull_request"], "http://hub/discussions/1");
    assert_eq!(hub.head(NET, "main").unwrap(), main);
    scratch.done(&["inspect", "hf:lab/net@v2"]);
    scratch.done(&["inspect", "hf:lab/net@refs/pr/1"]);
}

#[test]
fn secrets_and_paths_are_not_published() {
    let hub = Hub::start();
    let scratch = writer(&hub);
    exported(&scratch);
    // Files of the run contain absolute paths of images and binary; those of the export do not.
    let info = fs::read_to_string(scratch.path("run/run.json")).unwrap();
    assert!(info.contains(env!("CARGO_BIN_EXE_equimod")));
    for path in walk(&scratch.path("export")) {
        let bytes = fs::read(&path).unwrap();
        let folder = text(scratch.folder());
        assert!(!String::from_utf8_lossy(&bytes).contains(&folder), "{}", path.display());
    }
    let card = fs::read_to_string(scratch.path("export/README.md")).unwrap();
    let edited = |line: &str| drop(scratch.write("export/README.md", format!("{card}\n{line}\n")));
    let last = card.lines().count() + 2;
    for (line, found) in [
        (format!("My token is {TOKEN}."), "your own token"),
        (format!("hf_{}", "aB3".repeat(12)), "a token of the Hugging Face Hub"),
        ("See /home/me/private/notes.txt.".to_owned(), "the path /home/me/private/notes.txt"),
    ] {
        edited(&line);
        let place = format!("line {last}");
        let at: &[&str] = if found.contains("your own") { &["README.md"] } else { &["README.md", &place] };
        scratch.refused(&["publish", "export", "--repo", "lab/net"], 1, &[&[found], at].concat());
    }
    assert!(hub.requests().is_empty());
    scratch.write("export/README.md", &card);
    // A file that was changed after the export, and one that is not part of it.
    let recipe = fs::read(scratch.path("export/recipe.toml")).unwrap();
    scratch.write("export/recipe.toml", "seed = 1\n");
    scratch.refused(&["publish", "export", "--repo", "lab/net"], 1, &["recipe.toml", "SHA256SUMS"]);
    scratch.write("export/recipe.toml", recipe);
    scratch.write("export/passwords.txt", "secret");
    publish(&scratch, &[]);
    assert!(!hub.files(NET, &hub.head(NET, "main").unwrap()).contains_key("passwords.txt"));
    keeps_the_token(&scratch);
}

#[test]
fn models_of_other_libraries_load_with_a_report() {
    let hub = Hub::start();
    let scratch = hub.scratch();
    let fixture = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("equimod-core/tests/fixtures/torch").join(name);
        fs::read(path).unwrap()
    };
    let at = ("main", "0123456789abcdef0123456789abcdef01234567");
    let put = |repository: &str, path: &str, bytes: Vec<u8>| hub.put(repository, at, path, bytes.clone(), sum(&bytes));
    put("models/lab/pytorch", "pytorch_model.bin", fixture("plain.pth"));
    put("models/lab/pytorch", "config.json", b"{}".to_vec());
    let embed = ["embed", "hf:lab/pytorch", "emoji", "--out", "features.npy"];
    scratch.refused(&embed, 1, &["PyTorch files", "equimod import hf:lab/pytorch"]);
    assert!(scratch.done(&["inspect", "hf:lab/pytorch"]).contains("120 matched"));
    let imported = parsed(&scratch.done(&["import", "hf:lab/pytorch", "--json"]));
    assert_eq!(imported["out"], "pytorch.safetensors");
    // The same tensors with timm's preprocessing configuration.
    let config = r#"{"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 48, 48],
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 0.95}}"#;
    let imported = fs::read(scratch.path("pytorch.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&imported).unwrap().tensors();
    put("models/lab/timm", "model.safetensors", safetensors::serialize(tensors, None).unwrap());
    put("models/lab/timm", "config.json", config.as_bytes().to_vec());
    let inspected = parsed(&scratch.done(&["inspect", "hf:lab/timm", "--json"]));
    assert_eq!(inspected["preprocessing"]["size"], 48);
    assert_eq!(
        (&inspected["preprocessing_guessed"], &inspected["report"]["missing"]),
        (&false.into(), &Value::Array(vec![]))
    );
    // Several files of weights, of which one is named; no weights at all.
    put("models/lab/two", "a.safetensors", fs::read(scratch.path("pytorch.safetensors")).unwrap());
    put("models/lab/two", "b/b.safetensors", fs::read(scratch.path("pytorch.safetensors")).unwrap());
    scratch.refused(&["inspect", "hf:lab/two"], 1, &["a.safetensors, b/b.safetensors", "hf:lab/two/FILE"]);
    scratch.done(&["inspect", "hf:lab/two/b/b.safetensors"]);
    scratch.refused(&["inspect", "hf:lab/two/c.safetensors"], 1, &["no c.safetensors", "a.safetensors"]);
    put("models/lab/none", "README.md", b"# Soon\n".to_vec());
    scratch.refused(&["inspect", "hf:lab/none"], 1, &["no weights"]);
    scratch.refused(&["inspect", "hf:lab/nobody"], 1, &["no model lab/nobody"]);
    scratch.refused(&["inspect", "hf:lab/two@v9"], 1, &["no revision v9"]);
    scratch.refused(&["inspect", "hf:lab"], 2, &["hf:OWNER/NAME"]);
    put("models/lab/gated", "model.safetensors", b"x".to_vec());
    hub.gate("models/lab/gated");
    scratch.refused(&["inspect", "hf:lab/gated"], 1, &["gated", "HF_TOKEN"]);
}
