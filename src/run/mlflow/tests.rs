//! Runs that are sent to a stand-in for MLflow.

use std::time::Instant;

use equimod_train::{GitState, JsonLines};

use super::stand_in::{Mode, StandIn, StoredRun};
use super::*;

/// A run directory and its server.
struct Case {
    scratch: tempfile::TempDir,
    server: StandIn,
}

impl Case {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), server: StandIn::start() }
    }

    fn folder(&self) -> PathBuf {
        self.scratch.path().join("mine")
    }

    /// Starts to send the run, which is created unless it exists.
    fn start(&self) -> (Mlflow, MlflowSink) {
        let mut recipe = Recipe::default();
        recipe.log.mlflow = "two words".into();
        let git = GitState { commit: "c0ffee".into(), branch: None, dirty: false };
        let started = Some("2026-01-02T03:04:05Z".into());
        let info = RunInfo { version: "1.2.3".into(), started, git: Some(git), ..RunInfo::default() };
        let run = match self.folder().exists() {
            true => RunDirectory::open(&self.folder()).unwrap().0,
            false => RunDirectory::create(&self.folder(), &info, "", &recipe).unwrap(),
        };
        let client = Client::new(self.server.address(), Some("Bearer token".into()));
        Mlflow::start(client, &run, &info, &recipe).unwrap()
    }

    /// Logs the steps as a run does.
    fn log(&self, steps: std::ops::RangeInclusive<u64>) {
        let mut sink = JsonLines::open(&self.folder().join("metrics.jsonl")).unwrap();
        for step in steps {
            let metrics = vec![("equimod.loss".into(), 0.5)];
            sink.step(&StepReport { step, epoch: 1, loss: step as f64, metrics, ..StepReport::default() }).unwrap();
        }
    }

    /// The only run on the server.
    fn stored(&self) -> StoredRun {
        let state = self.server.state();
        assert_eq!(state.runs.len(), 1);
        state.runs.values().next().unwrap().clone()
    }

    /// Steps whose loss the server has, in the order of arrival.
    fn steps(&self) -> Vec<u64> {
        let stored = self.stored();
        let losses = stored.metrics.iter().filter(|(_, name, _)| name == "loss");
        losses.map(|(step, _, loss)| Some(*step).filter(|step| *step as f64 == *loss).unwrap()).collect()
    }
}

/// The warning of a sink, once it has one.
fn warning(sink: &mut MlflowSink) -> String {
    let start = Instant::now();
    loop {
        if let Some(warning) = sink.warning() {
            return warning;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no warning");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_is_sent_in_batches_and_a_resumed_one_goes_on() {
    let case = Case::new();
    let (mlflow, mut sink) = case.start();
    let pace = equimod_train::Pace { images_per_second: 40.0, ..Default::default() };
    sink.step(&StepReport { pace, ..StepReport::default() }).unwrap();
    case.log(1..=700);
    assert_eq!(mlflow.finish(Status::Interrupted), None);
    let stored = case.stored();
    assert_eq!((stored.status.as_str(), stored.end.is_some()), ("KILLED", true));
    assert_eq!(stored.created["run_name"], "mine");
    assert_eq!(stored.created["start_time"], 1_767_323_045_000_u64);
    assert!(stored.created["tags"].to_string().contains("c0ffee"), "{}", stored.created);
    assert_eq!(stored.parameters["schedule.epochs"], "800");
    assert_eq!(stored.parameters["objective.kind"], "simclr");
    assert!(stored.metrics.contains(&(7, "equimod.loss".into(), 0.5)));
    assert!(stored.metrics.iter().any(|(_, name, value)| name == "images_per_second" && *value == 40.0));
    assert_eq!(case.server.state().experiments, ["two words"]);
    assert_eq!(case.server.state().authorization.as_deref(), Some("Bearer token"));
    assert_eq!(sink.warning(), None);
    // Resumed after step 600: the run writes the lines after it again.
    equimod_train::metrics::cut(&case.folder().join("metrics.jsonl"), 600).unwrap();
    case.log(601..=800);
    let (mlflow, _sink) = case.start();
    assert_eq!(mlflow.finish(Status::Finished), None);
    assert_eq!(case.stored().status, "FINISHED");
    assert_eq!(case.steps(), (1..=800).collect::<Vec<_>>());
}

#[test]
fn what_an_unreachable_server_lacks_is_named_and_sent_by_the_next_call() {
    let case = Case::new();
    let (mlflow, _sink) = case.start();
    case.log(1..=3);
    assert_eq!(mlflow.finish(Status::Interrupted), None);
    case.server.state().mode = Mode::Unwell;
    let (mlflow, mut sink) = case.start();
    case.log(4..=6);
    let warned = warning(&mut sink);
    assert!(warned.contains("503") && warned.ends_with("training goes on"), "{warned}");
    let lacking = mlflow.finish(Status::Finished).unwrap();
    assert!(lacking.contains("after step 3 (") && lacking.contains("--resume"), "{lacking}");
    assert_eq!((sink.warning(), case.steps()), (None, vec![1, 2, 3]));
    // The server is well again before the next run ends.
    let (mlflow, mut sink) = case.start();
    warning(&mut sink);
    case.server.state().mode = Mode::Well;
    assert_eq!(mlflow.finish(Status::Finished), None);
    assert_eq!(case.steps(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_run_that_the_server_refuses_is_reported_once_and_asked_for_no_more() {
    let case = Case::new();
    let (mlflow, _sink) = case.start();
    case.log(1..=3);
    assert_eq!(mlflow.finish(Status::Interrupted), None);
    case.server.state().runs.clear();
    let (mlflow, mut sink) = case.start();
    let warned = warning(&mut sink);
    assert!(warned.contains("RESOURCE_DOES_NOT_EXIST: for this reason"), "{warned}");
    let before = case.server.state().requests;
    assert!(mlflow.finish(Status::Finished).unwrap().contains("RESOURCE_DOES_NOT_EXIST"));
    assert_eq!(case.server.state().requests, before);
    std::fs::write(case.folder().join("mlflow.json"), "{").unwrap();
    let damaged = Sent::read(&case.folder()).unwrap_err().to_string();
    assert!(damaged.contains("mlflow.json cannot be read") && damaged.contains("remove it"), "{damaged}");
}

#[test]
fn steps_do_not_wait_for_a_silent_server() {
    let case = Case::new();
    case.server.state().mode = Mode::Silent;
    let (_mlflow, mut sink) = case.start();
    let start = Instant::now();
    for step in 1..=10_000 {
        sink.step(&StepReport { step, ..StepReport::default() }).unwrap();
        sink.flush().unwrap();
        assert_eq!(sink.warning(), None);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
