//! A stand-in for an MLflow server on this machine: the endpoints that runs use, with MLflow's limits.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

/// What the server does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Answer them.
    #[default]
    Well,
    /// Answer with status 503.
    Unwell,
    /// Never answer.
    Silent,
}

/// A run on the server.
#[derive(Clone, Debug, Default)]
pub struct StoredRun {
    pub created: Value,
    pub status: String,
    pub end: Option<u64>,
    pub parameters: BTreeMap<String, String>,
    /// Step, name and value, in the order of arrival.
    pub metrics: Vec<(u64, String, f64)>,
}

#[derive(Default)]
pub struct State {
    pub mode: Mode,
    /// Names of the experiments; their identifiers are their numbers.
    pub experiments: Vec<String>,
    pub runs: BTreeMap<String, StoredRun>,
    pub requests: usize,
    pub authorization: Option<String>,
}

/// A server that runs until the process ends.
pub struct StandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // A client that disconnects is no error.
                std::thread::spawn(move || stream.ok().and_then(|stream| serve(stream, &shared)));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Answers the requests of a connection; `None` when it is closed.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        let header = |name: &str| {
            let found = lines.iter().filter_map(|line| line.split_once(": "));
            found.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let mode = state.lock().unwrap().mode;
        let (status, answer) = match mode {
            Mode::Silent => {
                std::thread::sleep(std::time::Duration::from_secs(60));
                return None;
            }
            Mode::Unwell => (503, json!({})),
            Mode::Well => {
                let mut state = state.lock().unwrap();
                state.authorization = header("authorization");
                let path = lines[0].split(' ').nth(1).unwrap();
                state.answer(path, &serde_json::from_slice(&body).unwrap_or_default())
            }
        };
        state.lock().unwrap().requests += 1;
        let answer = answer.to_string();
        write!(stream, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).ok()?;
    }
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!({ "error_code": code, "message": "for this reason" }))
}

impl State {
    fn answer(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let endpoint = path.strip_prefix("/api/2.0/mlflow/").unwrap();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        match endpoint {
            "experiments/create" => {
                if self.experiments.contains(&text("name")) {
                    return refused(400, "RESOURCE_ALREADY_EXISTS");
                }
                self.experiments.push(text("name"));
                (200, json!({ "experiment_id": (self.experiments.len() - 1).to_string() }))
            }
            "runs/create" => {
                let id = format!("run{}", self.runs.len());
                let run = StoredRun { created: body.clone(), status: "RUNNING".into(), ..Default::default() };
                self.runs.insert(id.clone(), run);
                (200, json!({ "run": { "info": { "run_id": id } } }))
            }
            "runs/log-batch" | "runs/update" => match self.runs.get_mut(&text("run_id")) {
                Some(run) if endpoint == "runs/update" => {
                    (run.status, run.end) = (text("status"), body["end_time"].as_u64());
                    (200, json!({}))
                }
                Some(run) => run.log(body),
                None => refused(404, "RESOURCE_DOES_NOT_EXIST"),
            },
            other => match other.strip_prefix("experiments/get-by-name?experiment_name=") {
                Some(name) => match self.experiments.iter().position(|known| *known == name.replace("%20", " ")) {
                    Some(id) => (200, json!({ "experiment": { "experiment_id": id.to_string() } })),
                    None => refused(404, "RESOURCE_DOES_NOT_EXIST"),
                },
                None => refused(404, "ENDPOINT_NOT_FOUND"),
            },
        }
    }
}

impl StoredRun {
    fn log(&mut self, body: &Value) -> (u16, Value) {
        let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        let (metrics, parameters) = (list("metrics"), list("params"));
        if metrics.len() > 1000 || parameters.len() > 100 {
            return refused(400, "INVALID_PARAMETER_VALUE");
        }
        for parameter in &parameters {
            let [key, value] = ["key", "value"].map(|name| parameter[name].as_str().unwrap().to_owned());
            if self.parameters.get(&key).is_some_and(|before| *before != value) {
                return refused(400, "INVALID_PARAMETER_VALUE");
            }
            self.parameters.insert(key, value);
        }
        for metric in &metrics {
            assert!(metric["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
            let (step, key) = (metric["step"].as_u64().unwrap(), metric["key"].as_str().unwrap());
            self.metrics.push((step, key.to_owned(), metric["value"].as_f64().unwrap()));
        }
        (200, json!({}))
    }
}
