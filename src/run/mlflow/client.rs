//! Client of MLflow's REST API, version 2.0.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::process::exit::Usage;

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest number of metrics in a request, by MLflow's rules.
const METRICS: usize = 1000;
/// Largest number of parameters in a request.
const PARAMETERS: usize = 100;
/// Largest number of characters in the value of a parameter.
const VALUE: usize = 6000;
/// Error code for experiments and runs that do not exist.
const MISSING: &str = "RESOURCE_DOES_NOT_EXIST";

/// A number, as MLflow takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Name.
    pub key: String,
    /// Value.
    pub value: f64,
    /// Time in milliseconds since 1970.
    pub timestamp: u64,
    /// Number of the step.
    pub step: u64,
}

/// Reason why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// No answer, or one that may be another one later.
    Unreachable(String),
    /// The server refused the request with this error code and message.
    Refused(String, String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Unreachable(reason) => f.write_str(reason),
            Self::Refused(code, message) => write!(f, "{code}: {message}"),
        }
    }
}

/// A tracking server.
pub struct Client {
    agent: ureq::Agent,
    address: String,
    authorization: Option<String>,
}

impl Client {
    /// Client of the server at `MLFLOW_TRACKING_URI`, with the credentials that MLflow reads from the environment.
    ///
    /// # Errors
    ///
    /// If the variable is not set, or is not the address of an HTTP server.
    pub fn of_environment() -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = checked(variable("MLFLOW_TRACKING_URI"))?;
        let basic = |user: String| {
            let password = variable("MLFLOW_TRACKING_PASSWORD").unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        };
        let bearer = |token: String| format!("Bearer {token}");
        let authorization = variable("MLFLOW_TRACKING_USERNAME").map(basic);
        let authorization = authorization.or_else(|| variable("MLFLOW_TRACKING_TOKEN").map(bearer));
        Ok(Self::new(address, authorization))
    }

    /// Client of the server at `address`, with the value of the header for authorization.
    pub fn new(address: String, authorization: Option<String>) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        let config = config.user_agent(concat!("equimod/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), address, authorization }
    }

    /// Address of the server, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Identifier of the experiment `name`, which is created if there is none.
    pub fn experiment(&self, name: &str) -> Result<String, Failure> {
        let found = || {
            let request = self.agent.get(self.url("experiments/get-by-name")).query("experiment_name", name);
            let answer = answer(self.authorized(request).call())?;
            text(&answer["experiment"]["experiment_id"])
        };
        match found() {
            Err(Failure::Refused(code, _)) if code == MISSING => {
                match self.post("experiments/create", &json!({ "name": name })) {
                    // Another run has created it in the meantime.
                    Err(Failure::Refused(code, _)) if code == "RESOURCE_ALREADY_EXISTS" => found(),
                    created => text(&created?["experiment_id"]),
                }
            }
            found => found,
        }
    }

    /// Creates a run with tags, and returns its identifier. Times are in milliseconds since 1970.
    pub fn create_run(
        &self,
        experiment: &str,
        name: &str,
        start: u64,
        tags: &[(String, String)],
    ) -> Result<String, Failure> {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let run = json!({ "experiment_id": experiment, "run_name": name, "start_time": start, "tags": tags });
        text(&self.post("runs/create", &run)?["run"]["info"]["run_id"])
    }

    /// Logs the settings of a run; logging the same values again changes nothing.
    pub fn log_parameters(&self, run: &str, parameters: &[(String, String)]) -> Result<(), Failure> {
        for some in parameters.chunks(PARAMETERS) {
            let one = |(key, value): &(String, String)| json!({ "key": allowed(key), "value": value.chars().take(VALUE).collect::<String>() });
            let some: Vec<Value> = some.iter().map(one).collect();
            self.post("runs/log-batch", &json!({ "run_id": run, "params": some }))?;
        }
        Ok(())
    }

    /// Logs metrics of a run.
    pub fn log_metrics(&self, run: &str, metrics: &[Metric]) -> Result<(), Failure> {
        for some in metrics.chunks(METRICS) {
            self.post("runs/log-batch", &json!({ "run_id": run, "metrics": some }))?;
        }
        Ok(())
    }

    /// Sets the status of a run, and the time of its end.
    pub fn update(&self, run: &str, status: &str, end: Option<u64>) -> Result<(), Failure> {
        let mut update = json!({ "run_id": run, "status": status });
        if let Some(end) = end {
            update["end_time"] = end.into();
        }
        self.post("runs/update", &update).map(drop)
    }

    fn url(&self, endpoint: &str) -> String {
        format!("{}/api/2.0/mlflow/{endpoint}", self.address)
    }

    fn post(&self, endpoint: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.authorized(self.agent.post(self.url(endpoint)));
        answer(request.content_type("application/json").send(body.to_string()))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }
}

/// The address if it is one of an HTTP server. It goes into messages, so it may hold no credentials.
fn checked(address: Option<String>) -> Result<String, Usage> {
    let form = "http://HOST:PORT";
    let Some(address) = address else {
        let text = format!("log.mlflow is set, but MLFLOW_TRACKING_URI is not; set it to the server's address, {form}");
        return Err(Usage(text));
    };
    let uri: Option<Uri> = address.parse().ok();
    if uri.as_ref().is_some_and(|uri| uri.scheme_str() == Some("https")) {
        let text = "MLFLOW_TRACKING_URI begins with https, and only http is supported; forward a port of this machine \
                    to the server, for example with ssh -L, and give that";
        return Err(Usage(text.into()));
    }
    let Some(uri) = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.query().is_none()) else {
        return Err(Usage(format!("MLFLOW_TRACKING_URI is not the address of a tracking server, {form}")));
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let text = "MLFLOW_TRACKING_URI holds credentials; give them as MLFLOW_TRACKING_USERNAME and \
                    MLFLOW_TRACKING_PASSWORD instead";
        return Err(Usage(text.into()));
    }
    Ok(address.trim_end_matches('/').to_owned())
}

/// The JSON of an answer, or the reason why there is none.
fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
    let unreachable = |error: ureq::Error| Failure::Unreachable(error.to_string());
    let mut response = response.map_err(unreachable)?;
    let (status, body) = (response.status(), response.body_mut().read_to_string().map_err(unreachable)?);
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    let stated = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    match status.as_u16() {
        200..=299 => Ok(value),
        408 | 429 | 500.. => Err(Failure::Unreachable(format!("it answers with {status}"))),
        _ => {
            let (code, message) = (stated("error_code"), stated("message"));
            Err(Failure::Refused(code.unwrap_or_else(|| status.to_string()), message.unwrap_or_default()))
        }
    }
}

/// The text of a member of an answer.
fn text(value: &Value) -> Result<String, Failure> {
    let missing = || Failure::Refused("unknown answer".into(), "is this the address of an MLflow server?".into());
    value.as_str().map(str::to_owned).ok_or_else(missing)
}

/// A name of a metric or parameter, with `_` for characters that MLflow does not allow.
pub fn allowed(name: &str) -> String {
    let allow = |c: char| c.is_alphanumeric() || "_-. /".contains(c);
    name.chars().map(|c| if allow(c) { c } else { '_' }).collect()
}

/// The present in milliseconds since 1970.
pub fn now() -> u64 {
    milliseconds(SystemTime::now())
}

/// A time in milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_credentials_not_repeated() {
        let address = |text: &str| checked(Some(text.into())).map_err(|Usage(text)| text);
        assert_eq!(address("http://localhost:5000/").unwrap(), "http://localhost:5000");
        assert_eq!(address("http://lab/mlflow").unwrap(), "http://lab/mlflow");
        for (text, part) in [
            ("https://lab", "only http"),
            ("http://me:secret@lab:5000", "MLFLOW_TRACKING_USERNAME"),
            ("http://lab?key=secret", "not the address"),
            ("sqlite:///secret.db", "not the address"),
            ("secret", "not the address"),
        ] {
            let refused = address(text).unwrap_err();
            assert!(refused.contains(part) && !refused.contains("secret"), "{refused}");
        }
        assert!(checked(None).unwrap_err().0.contains("MLFLOW_TRACKING_URI is not;"));
        assert_eq!(allowed("a.b/c d-e:f[0]"), "a.b/c d-e_f_0_");
    }
}
