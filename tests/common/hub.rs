//! A stand-in for the Hub on this machine: repositories with branches and commits behind the Hub's HTTP protocol, with
//! faults on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Scratch;

/// Token with access to read and write everything.
pub const TOKEN: &str = "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";
/// Token with read access.
pub const READER: &str = "hf_standInTokenThatMayOnlyReadThings";

/// Size in bytes from which files are uploaded as LFS files.
const LARGE: u64 = 100_000;

/// Fault of the requests whose `METHOD path` contains a given text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server answers with this status and does nothing.
    Status(u16),
    /// The connection is closed in the middle of the request, and nothing is done.
    Cut,
    /// The request is carried out, but the connection is closed before the answer.
    LostAnswer,
    /// One byte of the answer is flipped.
    Damaged,
    /// The branch moves before the commit is checked.
    Moved,
}

#[derive(Clone)]
struct Blob {
    bytes: Vec<u8>,
    /// SHA-256 that the server reports; differs from the content's if the transfer is damaged.
    sum: String,
}

type Tree = BTreeMap<String, Blob>;

#[derive(Clone, Default)]
struct Repository {
    branches: BTreeMap<String, String>,
    commits: BTreeMap<String, Tree>,
    gated: bool,
    private: bool,
}

#[derive(Default)]
struct State {
    /// Repositories by `models/OWNER/NAME` or `datasets/OWNER/NAME`.
    repositories: BTreeMap<String, Repository>,
    faults: Vec<(&'static str, Fault, usize)>,
    requests: Vec<String>,
    commits: usize,
}

/// A server on this machine with a record of its requests.
pub struct Hub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

pub fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, stopped): (Arc<Mutex<State>>, Arc<AtomicBool>) = Default::default();
        let (shared, stop) = (state.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A client that disconnected is not an error.
                std::thread::spawn(move || stream.ok().and_then(|stream| serve(stream, &shared)));
            }
        });
        Self { address, state, stopped }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// A folder in which the binary uses this Hub, without a token.
    pub fn scratch(&self) -> Scratch {
        Scratch::new().with("HF_ENDPOINT", &self.address())
    }

    /// From now on, `times` requests whose `METHOD path` contains `part` fail.
    pub fn fault(&self, part: &'static str, fault: Fault, times: usize) {
        self.state().faults.push((part, fault, times));
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Puts a file into a repository, at a commit that becomes the head of a branch.
    pub fn put(&self, repository: &str, (branch, commit): (&str, &str), path: &str, bytes: Vec<u8>, sum: String) {
        let mut state = self.state();
        let repository = state.repositories.entry(repository.into()).or_default();
        repository.branches.insert(branch.into(), commit.into());
        repository.commits.entry(commit.into()).or_default().insert(path.into(), Blob { bytes, sum });
    }

    /// Restricts a repository to requests with a token.
    pub fn gate(&self, repository: &str) {
        self.state().repositories.get_mut(repository).unwrap().gated = true;
    }

    /// The head of a branch.
    pub fn head(&self, repository: &str, branch: &str) -> Option<String> {
        self.state().repositories.get(repository)?.branches.get(branch).cloned()
    }

    /// Files of a commit.
    pub fn files(&self, repository: &str, commit: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let tree = &state.repositories[repository].commits[commit];
        tree.iter().map(|(path, blob)| (path.clone(), blob.bytes.clone())).collect()
    }

    pub fn is_private(&self, repository: &str) -> bool {
        self.state().repositories[repository].private
    }

    /// Commits a file as another user would.
    pub fn commit(&self, repository: &str, branch: &str, path: &str, bytes: &[u8]) {
        self.state().commit_as_another_user(repository, branch, path, bytes);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
    }
}

struct Request {
    method: String,
    url: String,
    token: Option<String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn json(value: &Value) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type", "application/json".into())],
            body: value.to_string().into_bytes(),
        }
    }

    fn refused(status: u16, token: Option<&str>) -> Self {
        // Like a careless server, it repeats the token.
        let error = format!("no, {}", token.unwrap_or("stranger"));
        Self { status, ..Self::json(&json!({ "error": error })) }
    }
}

/// Answers one request and closes the connection.
fn serve(stream: TcpStream, shared: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, url) = (words.next()?, words.next()?.replace("%2F", "/"));
    let (mut length, mut token) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let line = format!("{method} {url}");
    let fault = shared.lock().unwrap().fault(&line);
    let mut body = vec![0; if fault == Some(Fault::Cut) { length / 2 } else { length }];
    reader.read_exact(&mut body).ok()?;
    if fault == Some(Fault::Cut) {
        return None;
    }
    let request = Request { method, url, token, body };
    let mut answer = {
        let mut state = shared.lock().unwrap();
        state.requests.push(line);
        match fault {
            Some(Fault::Status(status)) => Answer::refused(status, request.token.as_deref()),
            _ => state.answer(&request, fault == Some(Fault::Moved)),
        }
    };
    match fault {
        Some(Fault::LostAnswer) => return None,
        Some(Fault::Damaged) if request.method == "GET" => answer.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body).ok()?;
    }
    stream.flush().ok()
}

impl State {
    fn fault(&mut self, line: &str) -> Option<Fault> {
        let found = self.faults.iter_mut().find(|(part, _, times)| *times > 0 && line.contains(part))?;
        found.2 -= 1;
        Some(found.1)
    }

    fn answer(&mut self, request: &Request, moved: bool) -> Answer {
        let url = request.url.split('?').next().unwrap().to_owned();
        let parts: Vec<&str> = url.split('/').skip(1).collect();
        let token = request.token.as_deref();
        let refused = |status| Answer::refused(status, token);
        if request.method == "POST" && token != Some(TOKEN) {
            return refused(if token == Some(READER) { 403 } else { 401 });
        }
        let (key, rest) = match parts.as_slice() {
            ["api", "repos", "create"] => return self.create(request),
            ["api", kind @ ("models" | "datasets"), owner, name, rest @ ..] => (format!("{kind}/{owner}/{name}"), rest),
            ["datasets", owner, name, rest @ ..] => (format!("datasets/{owner}/{name}"), rest),
            [owner, name, rest @ ..] => (format!("models/{owner}/{}", name.trim_end_matches(".git")), rest),
            _ => return refused(404),
        };
        let Some(repository) = self.repositories.get(&key) else { return refused(404) };
        if repository.gated && token.is_none_or(|token| ![TOKEN, READER].contains(&token)) {
            return refused(if token.is_some() { 403 } else { 401 });
        }
        let commit_of = |revision: &str| match repository.commits.contains_key(revision) {
            true => Some(revision.to_owned()),
            false => repository.branches.get(revision).cloned(),
        };
        match (request.method.as_str(), rest) {
            ("GET", []) => self.info(&key, "main", token),
            ("GET", ["revision", revision @ ..]) => self.info(&key, &revision.join("/"), token),
            ("GET", ["tree", revision @ ..]) => match commit_of(&revision.join("/")) {
                Some(commit) => Answer::json(&tree(&repository.commits[&commit])),
                None => refused(404),
            },
            ("GET" | "HEAD", ["resolve", revision, path @ ..]) => {
                let found = commit_of(revision).and_then(|commit| {
                    let blob = repository.commits[&commit].get(&path.join("/"))?;
                    Some((commit, blob))
                });
                match found {
                    Some((commit, blob)) => Answer {
                        status: 200,
                        headers: vec![("ETag", format!("\"{}\"", blob.sum)), ("X-Repo-Commit", commit)],
                        body: blob.bytes.clone(),
                    },
                    None => refused(404),
                }
            }
            ("POST", ["preupload", ..]) => preupload(&parsed(&request.body)),
            ("POST", ["info", "lfs", "objects", "batch"]) => {
                Answer::json(&json!({ "transfer": "basic", "objects": [] }))
            }
            ("POST", ["branch", name @ ..]) => {
                let start = parsed(&request.body)["startingPoint"].as_str().map(str::to_owned);
                let start = start.or_else(|| repository.branches.get("main").cloned()).unwrap();
                self.repositories.get_mut(&key).unwrap().branches.insert(name.join("/"), start);
                Answer::json(&json!({}))
            }
            ("POST", ["commit", branch @ ..]) => {
                let branch = branch.join("/");
                if moved {
                    self.commit_as_another_user(&key, &branch, "their-file.txt", b"theirs");
                }
                self.apply_commit(&key, &branch, request)
            }
            _ => refused(404),
        }
    }

    fn info(&self, key: &str, revision: &str, token: Option<&str>) -> Answer {
        let repository = &self.repositories[key];
        let known = repository.commits.contains_key(revision).then(|| revision.to_owned());
        match known.or_else(|| repository.branches.get(revision).cloned()) {
            Some(commit) => Answer::json(&json!({ "id": key.split_once('/').unwrap().1, "sha": commit })),
            None => Answer::refused(404, token),
        }
    }

    fn create(&mut self, request: &Request) -> Answer {
        let options = parsed(&request.body);
        let text = |key: &str| options[key].as_str().unwrap();
        let id = format!("{}/{}", text("organization"), text("name"));
        let key = format!("{}s/{id}", text("type"));
        if self.repositories.contains_key(&key) {
            return Answer::refused(409, request.token.as_deref());
        }
        let private = options["private"].as_bool().unwrap();
        self.repositories.insert(key.clone(), Repository { private, ..Default::default() });
        let attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n";
        self.commit_as_another_user(&key, "main", ".gitattributes", attributes);
        Answer::json(&json!({ "url": format!("http://hub/{id}"), "name": id }))
    }

    fn new_commit(&mut self) -> String {
        self.commits += 1;
        sum(&self.commits.to_le_bytes())[..40].to_owned()
    }

    fn commit_as_another_user(&mut self, key: &str, branch: &str, path: &str, bytes: &[u8]) {
        let commit = self.new_commit();
        let repository = self.repositories.get_mut(key).unwrap();
        let before = repository.branches.get(branch);
        let mut tree = before.map(|head| repository.commits[head].clone()).unwrap_or_default();
        tree.insert(path.into(), Blob { bytes: bytes.to_vec(), sum: sum(bytes) });
        repository.branches.insert(branch.into(), commit.clone());
        repository.commits.insert(commit, tree);
    }

    /// Applies all operations of a commit, or none.
    fn apply_commit(&mut self, key: &str, branch: &str, request: &Request) -> Answer {
        let lines: Vec<Value> =
            request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parsed).collect();
        let pull_request = request.url.contains("create_pr=1");
        let head = self.repositories[key].branches[branch].clone();
        let header = lines.iter().find(|line| line["key"] == "header").unwrap();
        if header["value"]["parentCommit"].as_str().is_some_and(|parent| parent != head) {
            return Answer::refused(409, request.token.as_deref());
        }
        let mut tree = self.repositories[key].commits[&head].clone();
        for line in &lines {
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_owned();
            match line["key"].as_str().unwrap() {
                "file" => {
                    let content = value["content"].as_str().unwrap();
                    let bytes = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
                    tree.insert(path, Blob { sum: sum(&bytes), bytes });
                }
                "deletedFile" => drop(tree.remove(&path)),
                _ => {}
            }
        }
        let commit = self.new_commit();
        let repository = self.repositories.get_mut(key).unwrap();
        repository.commits.insert(commit.clone(), tree);
        let branch = if pull_request { "refs/pr/1" } else { branch };
        repository.branches.insert(branch.into(), commit.clone());
        let address = pull_request.then_some("http://hub/discussions/1");
        Answer::json(&json!({
            "success": true, "commitOid": commit, "commitUrl": "http://hub/commit", "prUrl": address, "prNum": 1,
        }))
    }
}

fn parsed(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Value {
    serde_json::from_slice(bytes.as_ref()).unwrap()
}

fn tree(files: &Tree) -> Value {
    let entry = |(path, blob): (&String, &Blob)| {
        let size = blob.bytes.len();
        let lfs = json!({ "oid": blob.sum, "size": size, "pointerSize": 130 });
        json!({ "type": "file", "oid": "1", "size": size, "path": path, "lfs": lfs })
    };
    files.iter().map(entry).collect()
}

fn preupload(body: &Value) -> Answer {
    let mode = |file: &Value| {
        let large = file["size"].as_u64().unwrap() >= LARGE;
        json!({ "path": file["path"], "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false })
    };
    let files: Vec<Value> = body["files"].as_array().unwrap().iter().map(mode).collect();
    Answer::json(&json!({ "files": files }))
}
