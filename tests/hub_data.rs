//! Data sets of the Hub, against a stand-in that speaks its protocol on this machine.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiny_http::{Header, Method, Request, Response, Server};

use common::{Scratch, TINY, text};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONVERTED: &str = "fedcba9876543210fedcba9876543210fedcba98";
const TOKEN: &str = "hf_secret";

/// A file of the stand-in.
#[derive(Clone)]
struct Remote {
    repository: &'static str,
    commit: &'static str,
    path: &'static str,
    bytes: Vec<u8>,
    /// Differs from the content's where the transfer is damaged.
    sum: String,
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn remote(repository: &'static str, path: &'static str, asset: &str) -> Remote {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/emoji").join(asset);
    let bytes = fs::read(file).unwrap();
    Remote { repository, commit: COMMIT, path, sum: sum(&bytes), bytes }
}

/// What the stand-in holds.
fn holdings() -> Vec<Remote> {
    let damaged = remote("lab/damaged", "data/train-0.parquet", "noto-test.parquet");
    let converted = remote("lab/scripted", "default/train/0000.parquet", "noto-test.parquet");
    vec![
        remote("lab/emoji", "data/train-00000-of-00002.parquet", "noto-test.parquet"),
        remote("lab/emoji", "data/train-00001-of-00002.parquet", "twemoji-test.parquet"),
        remote("lab/emoji", "data/test-00000-of-00001.parquet", "twemoji-test.parquet"),
        remote("lab/emoji", "README.md", "NOTICE.md"),
        remote("lab/gated", "train.parquet", "noto-test.parquet"),
        remote("lab/two", "one/train-0.parquet", "noto-test.parquet"),
        remote("lab/two", "other/train-0.parquet", "noto-test.parquet"),
        remote("lab/escape", "../../../train.parquet", "noto-test.parquet"),
        Remote { sum: sum(b"another"), ..damaged },
        Remote { commit: CONVERTED, ..converted },
        remote("lab/scripted", "script.py", "NOTICE.md"),
    ]
}

/// A server on this machine, and what it was asked.
struct StandIn {
    server: Arc<Server>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn start() -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (serving, log, holdings) = (server.clone(), asked.clone(), holdings());
        std::thread::spawn(move || {
            for request in serving.incoming_requests() {
                log.lock().unwrap().push(format!("{} {}", request.method(), request.url()));
                answer(request, &holdings);
            }
        });
        Self { server, asked }
    }

    fn address(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// The requests since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn scratch(&self) -> Scratch {
        Scratch::new().with("HF_ENDPOINT", &self.address())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

fn answer(request: Request, holdings: &[Remote]) {
    let url = request.url().split('?').next().unwrap().replace("%2F", "/");
    let token = request.headers().iter().find(|header| header.field.equiv("authorization"));
    let token = token.map(|header| header.value.as_str().to_owned());
    let refused = |code: u16| Response::from_string("{}").with_status_code(code);
    let parts: Vec<&str> = url.split('/').skip(1).collect();
    let response = match parts.as_slice() {
        ["api", "datasets", owner, name, ..] | ["datasets", owner, name, ..]
            if format!("{owner}/{name}") == "lab/gated" && token.as_deref() != Some(&format!("Bearer {TOKEN}")) =>
        {
            refused(if token.is_some() { 403 } else { 401 })
        }
        ["api", "datasets", owner, name, "revision", revision @ ..] => {
            let repository = format!("{owner}/{name}");
            let commit = match revision.join("/").as_str() {
                "main" | COMMIT => COMMIT,
                "refs/convert/parquet" => CONVERTED,
                _ => "",
            };
            let known = holdings.iter().any(|file| file.repository == repository && file.commit == commit);
            match known {
                true => Response::from_string(json!({ "id": repository, "sha": commit }).to_string()),
                false => refused(404),
            }
        }
        ["api", "datasets", owner, name, "tree", commit] => {
            let repository = format!("{owner}/{name}");
            let files = holdings.iter().filter(|file| file.repository == repository && file.commit == *commit);
            let entry = |file: &Remote| {
                let lfs = json!({ "oid": file.sum, "size": file.bytes.len(), "pointerSize": 130 });
                json!({ "type": "file", "oid": "1", "size": file.bytes.len(), "path": file.path, "lfs": lfs })
            };
            Response::from_string(Value::Array(files.map(entry).collect()).to_string())
        }
        ["datasets", owner, name, "resolve", commit, path @ ..] => {
            let (repository, path) = (format!("{owner}/{name}"), path.join("/"));
            let file = |file: &&Remote| file.repository == repository && file.commit == *commit && file.path == path;
            match holdings.iter().find(file) {
                Some(file) => {
                    let header = |name: &str, value: &str| Header::from_bytes(name, value).unwrap();
                    let response = Response::from_data(file.bytes.clone())
                        .with_header(header("ETag", &format!("\"{}\"", file.sum)))
                        .with_header(header("X-Repo-Commit", commit))
                        .with_chunked_threshold(usize::MAX);
                    return respond(request, response);
                }
                None => refused(404),
            }
        }
        _ => refused(404),
    };
    respond(request, response);
}

fn respond<R: std::io::Read>(request: Request, response: Response<R>) {
    let head = *request.method() == Method::Head;
    // A client that went away is its own affair.
    let _ = if head { request.respond(response.with_data(std::io::empty(), None)) } else { request.respond(response) };
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_data_set_is_fetched_once_pinned_and_used_without_a_network() {
    let hub = StandIn::start();
    let scratch = hub.scratch();
    let fetched = parsed(&scratch.done(&["data", "fetch", "hf:lab/emoji", "--json"]));
    let pinned = format!("hf:lab/emoji@{COMMIT}");
    assert_eq!(fetched["source"], pinned.as_str());
    assert_eq!(fetched["splits"]["train"].as_array().unwrap().len(), 2);
    assert_eq!(fetched["splits"]["test"].as_array().unwrap().len(), 1);
    let asked = hub.asked();
    assert!(asked.iter().any(|a| a.starts_with("GET") && a.contains("train-00000-of-00002.parquet")), "{asked:?}");
    // Two files of the same content are fetched once.
    assert_eq!(asked.iter().filter(|a| a.starts_with("GET") && a.contains("/resolve/")).count(), 2);
    // Pinned and complete: nothing is asked.
    let stats = parsed(&scratch.done(&["data", "stats", &pinned, "--json"]));
    assert_eq!(stats["pictures"], 2 * 697);
    assert!(hub.asked().is_empty());
    // A branch is asked for, but nothing is fetched again.
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/emoji", "--test", "--json"]))["pictures"], 697);
    assert!(hub.asked().iter().all(|a| !a.contains("/resolve/")));
    // The part and the column that are asked for.
    let part = parsed(&scratch.done(&["data", "stats", "hf:lab/emoji:test#image", "--json"]));
    assert_eq!(part["pictures"], 697);
    scratch.refused(&["data", "stats", "hf:lab/emoji#photo"], 3, &["no column called photo", "image"]);
    scratch.refused(&["data", "stats", "hf:lab/emoji:extra"], 3, &["no split called extra", "test, train"]);
    // Without the Hub: what was fetched is taken, and it is said.
    let (address, folder) = (hub.address(), scratch.path("hf"));
    drop(hub);
    let alone = Scratch::new().with("HF_ENDPOINT", &address).with("HF_HOME", &text(&folder));
    let offline = alone.with("HF_HUB_OFFLINE", "1");
    assert_eq!(parsed(&offline.done(&["data", "stats", "hf:lab/emoji", "--json"]))["pictures"], 2 * 697);
    offline.refused(&["data", "stats", "hf:lab/other"], 3, &["HF_HUB_OFFLINE", "equimod data fetch hf:lab/other"]);
}

#[test]
fn a_run_is_pinned_to_the_commit_that_it_began_with() {
    let hub = StandIn::start();
    let scratch = hub.scratch();
    scratch.write("tiny.toml", TINY);
    let arguments = ["pretrain", "--recipe", "tiny.toml", "--data", "hf:lab/emoji", "--out", "run", "--no-eval"];
    scratch.done(&[&arguments[..], &["--epochs", "1"]].concat());
    // Training fetches what it trains on alone.
    assert!(hub.asked().iter().all(|a| !a.contains("test-00000")));
    let resolved = fs::read_to_string(scratch.path("run/recipe.resolved.toml")).unwrap();
    assert!(resolved.contains(&format!("source = \"hf:lab/emoji@{COMMIT}\"")), "{resolved}");
    let knn = scratch.done(&["eval", "knn", "run", "--data", "hf:lab/emoji", "--task", "category", "--json"]);
    assert!(knn.contains("hf:lab/emoji@"), "{knn}");
    assert!(hub.asked().iter().any(|a| a.contains("test-00000")));
}

#[test]
fn a_fetched_folder_is_a_source_elsewhere() {
    let hub = StandIn::start();
    let scratch = hub.scratch();
    let told = scratch.done(&["data", "fetch", "hf:lab/emoji", "--to", "carried"]);
    assert!(told.contains("--data carried") && told.contains("train 2"), "{told}");
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
    assert_eq!(parsed(&elsewhere.done(&["data", "stats", &folder, "--json"]))["pictures"], 2 * 697);
    assert_eq!(parsed(&elsewhere.done(&["data", "stats", &folder, "--test", "--json"]))["pictures"], 697);
}

#[test]
fn damage_is_found_removed_and_told() {
    let hub = StandIn::start();
    let scratch = hub.scratch();
    scratch.refused(
        &["data", "fetch", "hf:lab/damaged"],
        3,
        &["train-0.parquet", "another checksum", "fetch it again"],
    );
    let left = walk(&scratch.path("hf")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "parquet"));
    assert_eq!(left.count(), 0);
    // A file that was damaged on this disk later, in length.
    scratch.done(&["data", "fetch", "hf:lab/emoji:test"]);
    let blob = walk(&scratch.path("hf")).into_iter().find(|path| text(path).contains("test-00000")).unwrap();
    fs::write(blob.canonicalize().unwrap(), b"PAR1").unwrap();
    scratch.refused(&["data", "stats", "hf:lab/emoji:test"], 3, &["has 4 bytes in place of"]);
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/emoji:test", "--json"]))["pictures"], 697);
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn what_cannot_be_had_is_told_with_what_to_do() {
    let hub = StandIn::start();
    let scratch = hub.scratch();
    scratch.refused(&["data", "fetch", "hf:lab/none"], 3, &["no data set lab/none"]);
    scratch.refused(&["data", "fetch", "hf:lab/emoji@v9"], 3, &["no revision v9"]);
    scratch.refused(&["data", "fetch", "hf:lab/two"], 3, &["several configurations", "one, other"]);
    scratch.done(&["data", "fetch", "hf:lab/two/other"]);
    scratch.refused(&["data", "fetch", "hf:lab/escape"], 3, &["no parquet files"]);
    scratch.refused(&["data", "fetch", "emoji"], 2, &["hf:OWNER/NAME"]);
    scratch.refused(&["data", "fetch", "hf:lab/gated"], 3, &["gated", "HF_TOKEN"]);
    let wrong = hub.scratch().with("HF_TOKEN", "hf_other");
    wrong.refused(&["data", "fetch", "hf:lab/gated"], 3, &["gated", "this token may not"]);
    let told = hub.scratch().with("HF_TOKEN", TOKEN).done(&["data", "fetch", "hf:lab/gated"]);
    assert!(told.contains(&format!("hf:lab/gated@{COMMIT}")) && !told.contains(TOKEN), "{told}");
    // What the Hub made of a data set in another format.
    let told = scratch.done(&["data", "fetch", "hf:lab/scripted"]);
    assert!(told.contains(CONVERTED), "{told}");
    assert_eq!(parsed(&scratch.done(&["data", "stats", "hf:lab/scripted", "--json"]))["pictures"], 697);
    // Somebody who takes calls and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let waiting = Scratch::new().with("HF_ENDPOINT", &address).with("HF_HUB_DOWNLOAD_TIMEOUT", "0.3");
    waiting.refused(&["data", "fetch", "hf:lab/emoji"], 3, &["no answer for 0.3 s", "where there is a network"]);
    // Nobody there.
    let address = hub.address();
    drop(hub);
    let lost = Scratch::new().with("HF_ENDPOINT", &address);
    lost.refused(&["data", "fetch", "hf:lab/emoji"], 3, &["cannot be reached", "where there is a network"]);
}
