//! Runs of the real binary that are killed, stopped, damaged and resumed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use common::{Scratch, TINY, text};

/// BYOL + EquiMod, so that there is a target network to restore, with probes during training.
const RECIPE: &str = r#"
[objective]
kind = "byol"
projection_head = "32-16 bias"
predictor = "8-16 bias"
[probe]
every_epochs = 2
k = 3
[log]
csv = true
"#;

/// Default number of kills, overridden by `EQUIMOD_KILLS`.
const KILLS: u64 = 20;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.images("photographs", 40);
    let (sizes, rest) = TINY.split_once("[objective]").unwrap();
    let (_, rest) = rest.split_once("[equivariance.equimod]").unwrap();
    let recipe = format!("{sizes}[equivariance.equimod]{rest}{RECIPE}");
    scratch.write("tiny.toml", recipe.replace("batch = 32", "batch = 16\nsource = \"photographs\""));
    scratch
}

const ARGUMENTS: [&str; 6] = ["pretrain", "--recipe", "tiny.toml", "--epochs", "8", "--no-eval"];

fn train(scratch: &Scratch, out: &str, more: &[&str]) {
    scratch.done(&[&ARGUMENTS[..], &["--out", out], more].concat());
}

/// Starts a run, or resumes it if it exists.
fn start(scratch: &Scratch, out: &str, threads: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
    match scratch.path(out).join("run.json").is_file() {
        true => command.args(["pretrain", "--resume", "--no-eval"]),
        false => command.args(ARGUMENTS),
    };
    command.args(["--out", out, "--threads", threads]).current_dir(scratch.folder());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn checkpoints(scratch: &Scratch, out: &str) -> PathBuf {
    scratch.path(out).join("checkpoints")
}

fn newest(scratch: &Scratch, out: &str) -> PathBuf {
    let folder = checkpoints(scratch, out);
    folder.join(fs::read_to_string(folder.join("latest")).unwrap())
}

const FILES: [&str; 4] = ["model.safetensors", "target.safetensors", "optimizer.safetensors", "state.json"];

/// Content that must be identical bit for bit, whatever interrupted the run.
fn outcome(scratch: &Scratch, out: &str) -> Vec<(String, Vec<u8>)> {
    let checkpoint = newest(scratch, out);
    let mut files: Vec<PathBuf> = FILES.iter().map(|file| checkpoint.join(file)).collect();
    files.extend(["metrics.jsonl", "metrics.csv"].map(|file| scratch.path(out).join(file)));
    files.extend([checkpoints(scratch, out).join("best")]);
    files
        .iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

fn assert_same(want: &[(String, Vec<u8>)], got: &[(String, Vec<u8>)], what: &str) {
    for ((name, want), (_, got)) in want.iter().zip(got) {
        assert!(want == got, "{what}: {name} differs");
    }
}

/// Whether a checkpoint is being written.
fn is_saving(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".saving-"))
}

/// Waits until a checkpoint is being written or some time has passed; returns false if the process ended before.
fn wait(child: &mut Child, saving: Option<&Path>, time: Duration) -> bool {
    let start = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        match saving {
            Some(folder) if is_saving(folder) => return true,
            None if start.elapsed() >= time => return true,
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_equals_an_uninterrupted_one() {
    let kills = std::env::var("EQUIMOD_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let scratch = scratch();
    train(&scratch, "whole", &[]);
    let want = outcome(&scratch, "whole");
    assert!(want.iter().any(|(name, bytes)| name == "metrics.jsonl" && bytes.windows(9).any(|w| w == b"probe.knn")));
    let (mut killed, mut ended, mut while_saving) = (0, 0, 0);
    let mut draw = 88_172_645_463_325_252u64;
    while killed < kills || ended == 0 {
        // Xorshift: arbitrary but reproducible times.
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        let out = format!("killed-{ended}");
        let folder = checkpoints(&scratch, &out);
        let mut child = start(&scratch, &out, if killed % 2 == 0 { "1" } else { "2" });
        let saving = (killed < kills && killed % 3 == 0).then_some(folder.as_path());
        let time = if killed < kills { Duration::from_millis(100 + draw % 300) } else { Duration::from_secs(600) };
        if wait(&mut child, saving, time) {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            while_saving += u64::from(is_saving(&folder));
            continue;
        }
        assert!(child.wait().unwrap().success(), "{out}");
        assert_same(&want, &outcome(&scratch, &out), &format!("{out} after {killed} kills"));
        assert!(!is_saving(&folder), "{out}: leftovers of a crash remain");
        ended += 1;
    }
    eprintln!(
        "{killed} kills, {while_saving} while a checkpoint was written, {ended} runs \
         equal to the uninterrupted one"
    );
    assert!(while_saving > 0, "no kill hit a checkpoint");
}

/// Probes do not change weights, and a collapse is reported without ending the run.
#[test]
fn probes_and_warnings_change_nothing() {
    let scratch = scratch();
    train(&scratch, "probed", &[]);
    let quiet = ["--set", "probe.every_epochs=0", "--set", "guard.least_rank=1000", "--set", "guard.patience=3"];
    train(&scratch, "quiet", &quiet);
    let weights =
        |out: &str| FILES[..3].iter().map(|file| fs::read(newest(&scratch, out).join(file)).unwrap()).collect();
    let (probed, quiet): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (weights("probed"), weights("quiet"));
    assert!(probed == quiet, "probes change weights");
    let log = fs::read_to_string(scratch.path("quiet/train.log")).unwrap();
    assert_eq!(log.matches("embeddings have collapsed").count(), 1, "{log}");
    assert!(!fs::read_to_string(scratch.path("probed/train.log")).unwrap().contains("collapsed"));
    assert!(log.contains("images/s over 40 steps; of a step: data") && log.contains("MiB of memory"), "{log}");
}

/// Neither weights nor the log depend on how often losses and metrics are read from the device.
#[test]
fn the_interval_of_log_steps_changes_nothing() {
    let scratch = scratch();
    train(&scratch, "each", &[]);
    train(&scratch, "seldom", &["--set", "log_every_steps=7"]);
    let found =
        |out: &str| -> Vec<_> { outcome(&scratch, out).into_iter().filter(|(name, _)| name != "state.json").collect() };
    assert_same(&found("each"), &found("seldom"), "log_every_steps = 7");
}

#[test]
fn a_damaged_checkpoint_is_detected_and_the_previous_one_resumed() {
    let scratch = scratch();
    train(&scratch, "whole", &[]);
    let want = outcome(&scratch, "whole");
    for file in FILES.iter().chain(&["MANIFEST.json"]) {
        let path = newest(&scratch, "whole").join(file);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let output = scratch.run(&["pretrain", "--out", "whole", "--resume", "--no-eval"]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && log.contains("skipped: ") && log.contains("after step 35"), "{log}");
        assert_same(&want, &outcome(&scratch, "whole"), file);
    }
    // Only people read `latest`; damage to it does not matter.
    fs::write(checkpoints(&scratch, "whole").join("latest"), "step-9").unwrap();
    scratch.done(&["pretrain", "--out", "whole", "--resume", "--no-eval"]);
}

#[test]
fn a_full_disk_keeps_the_previous_checkpoint_and_the_run_resumes_later() {
    let scratch = scratch();
    train(&scratch, "whole", &[]);
    let want = outcome(&scratch, "whole");
    // Some checkpoints are removed, as if the run had stopped earlier.
    train(&scratch, "full", &["--set", "checkpoint.keep=9"]);
    for step in [25, 30, 35, 40] {
        fs::remove_dir_all(checkpoints(&scratch, "full").join(format!("step-{step:08}"))).unwrap();
    }
    // Metrics and events fit in the limit of 120 KiB; weights do not.
    let binary = env!("CARGO_BIN_EXE_equimod");
    let script = format!("trap '' XFSZ; ulimit -f 120; exec {binary} pretrain --out full --resume --no-eval");
    let output = Command::new("bash").args(["-c", &script]).current_dir(scratch.folder()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("after step 20") && log.contains("cannot write") && log.contains("checkpoints"), "{log}");
    assert!(!is_saving(&checkpoints(&scratch, "full")));
    scratch.done(&["pretrain", "--out", "full", "--resume", "--no-eval"]);
    let got = outcome(&scratch, "full");
    for ((name, want), (_, got)) in want.iter().zip(&got).filter(|((name, _), _)| name != "state.json") {
        assert!(want == got, "{name} differs");
    }
}

#[test]
fn a_second_process_is_refused_and_each_signal_stops_after_a_checkpoint() {
    let scratch = scratch();
    for signal in ["TERM", "INT", "USR1"] {
        let out = format!("run-{signal}");
        let arguments = [&ARGUMENTS[..3], &["--epochs", "4000", "--no-eval", "--out", &out]].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
        command.args(&arguments).current_dir(scratch.folder()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait(&mut child, Some(&checkpoints(&scratch, &out)), Duration::ZERO);
        scratch.refused(&["pretrain", "--out", &out, "--resume"], 2, &["another process", &out]);
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75), "{signal}");
        let info: Value = serde_json::from_slice(&fs::read(scratch.path(&out).join("run.json")).unwrap()).unwrap();
        assert_eq!(info["status"], "interrupted");
        assert!(info["seconds"].as_f64().unwrap() > 0.0 && info["peak_memory"].as_u64().unwrap() > 0);
    }
}

#[test]
fn non_finite_values_end_the_run_and_can_be_replayed() {
    let [(at_once, want), (later, got)] = ["1", "7"].map(|every| diverge(&scratch(), every));
    assert_eq!(at_once, later);
    assert_same(&want, &got, "evidence at log_every_steps = 7");
}

/// Trains until the run diverges, replays the step, and gives the name and the files of the evidence.
fn diverge(scratch: &Scratch, log_every_steps: &str) -> (String, Vec<(String, Vec<u8>)>) {
    let every = format!("log_every_steps={log_every_steps}");
    let broken =
        ["--set", "optimizer.kind=sgd", "--set", "schedule.learning_rate=1e25", "--set", "schedule.warmup_epochs=0"];
    let arguments = [&ARGUMENTS[..], &["--out", "run", "--set", &every], &broken].concat();
    scratch.refused(&arguments, 4, &["diverged at step", "equimod replay"]);
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "diverged");
    let bundle = fs::read_dir(scratch.path("run/diverged")).unwrap().next().unwrap().unwrap().path();
    let name = bundle.file_name().unwrap().to_string_lossy().into_owned();
    let files =
        ["model.safetensors", "target.safetensors", "optimizer.safetensors", "batch.safetensors", "diverged.json"];
    let files = files.into_iter().filter(|file| !file.starts_with("optimizer") || bundle.join(file).is_file());
    let files = files.map(|file| (file.to_owned(), fs::read(bundle.join(file)).unwrap())).collect();
    let bundle = text(&bundle);
    let replayed: Value = serde_json::from_str(&scratch.done(&["replay", &bundle, "--json"])).unwrap();
    assert_eq!(replayed["metrics"][0], replayed["evidence"]["metrics"][0], "the replayed loss differs");
    assert!(replayed["gradient_norms"].to_string().contains("NaN"));
    assert!(scratch.done(&["replay", &bundle, "--double"]).contains("gradient norms"));
    scratch.refused(&["replay", &text(&scratch.path("run"))], 1, &["run"]);
    (name, files)
}

#[test]
fn settings_that_affect_weights_are_fixed_and_others_may_change() {
    let scratch = scratch();
    train(&scratch, "run", &["--set", "checkpoint.keep_every_epochs=3"]);
    train(&scratch, "steps", &["--set", "checkpoint.every_steps=7", "--set", "checkpoint.keep=99"]);
    let of_steps = |step: u64| checkpoints(&scratch, "steps").join(format!("step-{step:08}")).is_dir();
    assert_eq!([5, 6, 7, 14, 20, 28].map(of_steps), [true, false, true, true, true, true]);
    train(&scratch, "clipped", &["--set", "gradient.clip_norm=0.01"]);
    let [plain, clipped] = ["steps", "clipped"].map(|out| fs::read(newest(&scratch, out).join(FILES[0])).unwrap());
    assert!(plain != clipped, "gradients are not clipped");
    let kept = |step: u64| checkpoints(&scratch, "run").join(format!("step-{step:08}")).is_dir();
    assert_eq!([15, 20, 30, 35, 40].map(kept), [true, kept(20), true, true, true]);
    let best = fs::read_to_string(checkpoints(&scratch, "run").join("best")).unwrap();
    assert!(checkpoints(&scratch, "run").join(best).is_dir());
    let resume = ["pretrain", "--out", "run", "--resume", "--no-eval"];
    let refused = [&resume[..], &["--set", "optimizer.momentum=0.5", "--epochs", "9"]].concat();
    scratch.refused(&refused, 2, &["optimizer.momentum", "schedule.epochs", "--from"]);
    // The images were moved.
    fs::rename(scratch.path("photographs"), scratch.path("moved")).unwrap();
    scratch.refused(&resume, 3, &["photographs"]);
    scratch.done(&[&resume[..], &["--data", "moved", "--set", "checkpoint.keep=4"]].concat());
    assert!(fs::read_to_string(scratch.path("run/recipe.resolved.toml")).unwrap().contains("keep = 4"));
    // Another format is refused before any field that it may lack is read.
    fs::write(scratch.path("run/run.json"), r#"{"format": 0, "state": "old"}"#).unwrap();
    scratch.refused(&[&resume[..], &["--data", "moved"]].concat(), 2, &["format 0", "older version"]);
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let scratch = scratch();
    train(&scratch, "first", &[]);
    let from = [&ARGUMENTS[..3], &["--epochs", "1", "--no-eval", "--from", "first", "--out", "second"]].concat();
    let output = scratch.run(&[&from[..], &["--set", "objective.predictor=12-16 bias"]].concat());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("tensors of the backbone loaded") && log.contains("objective.predictor"), "{log}");
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("second/run.json")).unwrap()).unwrap();
    assert_eq!((info["from"]["model"].as_str(), info["from"]["sha256"].as_str().unwrap().len()), (Some("first"), 64));
    let other = [&from[..6], &["--from", "first", "--out", "third", "--set", "backbone.width=8"]].concat();
    scratch.refused(&other, 2, &["backbone", "first"]);
}

#[test]
fn range_tests_reports_and_traces_work() {
    let scratch = scratch();
    train(&scratch, "one", &["--profile", "4"]);
    train(&scratch, "two", &["--seed", "1", "--set", "optimizer.kind=adamw", "--set", "schedule.learning_rate=0.001"]);
    let trace: Value = serde_json::from_slice(&fs::read(scratch.path("one/trace.json")).unwrap()).unwrap();
    let named = |name: &str| {
        let begun = |e: &&Value| e["name"] == name && e["ph"] == "B";
        trace.as_array().unwrap().iter().filter(begun).count()
    };
    assert_eq!([named("step"), named("optimizer")], [4, 4]);
    assert!(named("stage backward") >= 4 && named("make a piece of a batch") >= 4);
    for run in ["one", "two"] {
        scratch.done(&["eval", "knn", run, "--k", "3"]);
    }
    scratch.done(&["eval", "equivariance", "one", "--images", "16", "--overall"]);
    assert!(scratch.done(&["report", "one", "two"]).contains("report.html"));
    let page = fs::read_to_string(scratch.path("report.html")).unwrap();
    for part in ["optimizer.kind", "&quot;adamw&quot;", "probe: knn", "Settings that differ", "<svg"] {
        assert!(page.contains(part), "{part}");
    }
    for part in ["two − one", " points</td>", "<summary><h2>Results of some runs only"] {
        assert!(page.contains(part), "{part}");
    }
    scratch.refused(&["report", "one", "photographs"], 2, &["photographs", "run.json"]);
    scratch.refused(&["report", "one", "--out", "one/report.html"], 2, &["one/report.html", "--out"]);
    let search = ["find-lr", "--recipe", "tiny.toml", "--steps", "30", "--json"];
    let found: Value = serde_json::from_str(&scratch.done(&search)).unwrap();
    assert!(found["tried"].as_array().unwrap().len() > 10 && found["steepest"].as_f64().unwrap() > 1e-4);
    assert!(fs::read_to_string(scratch.path("find-lr.html")).unwrap().contains("smoothed"));
    let continued = scratch.done(&[&search[..], &["--from", "one"]].concat());
    let continued: Value = serde_json::from_str(&continued).unwrap();
    assert!(scratch.said().contains("from one/checkpoints"));
    assert_ne!(continued["tried"][0], found["tried"][0], "other weights have another loss");
    let search = ["find-lr", "--recipe", "tiny.toml", "--steps", "30", "--max-lr", "0.001"];
    let printed = scratch.done(&search);
    for part in [
        "No clear rise of the smoothed loss",
        "--max-lr 0.01",
        "Provisional suggestion: --lr 0.",
        "before judging the recipe's 1",
        "find-lr.html",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let page = fs::read_to_string(scratch.path("find-lr.html")).unwrap();
    assert!(page.contains(">steepest</text>") && page.contains(">0.001</text>"), "the axis is logarithmic, with marks");
    scratch.refused(&["find-lr", "--min-lr", "1", "--max-lr", "0.1"], 2, &["--min-lr", "--max-lr"]);
}

/// Tests the SLURM script with a scheduler that only records its calls.
#[test]
fn the_slurm_script_starts_resumes_and_requeues() {
    let scratch = scratch();
    let bin = Path::new(env!("CARGO_BIN_EXE_equimod")).parent().unwrap();
    scratch.write("bin/scontrol", "#!/bin/sh\necho \"$@\" >> requeued\n");
    scratch.write("bin/srun", "#!/bin/sh\nexec \"$@\"\n");
    let all = "chmod +x bin/*";
    assert!(Command::new("sh").args(["-c", all]).current_dir(scratch.folder()).status().unwrap().success());
    let path = format!("{}:{}:{}", text(&scratch.path("bin")), bin.display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pretrain.sbatch");
    let run = |epochs: &str| {
        let mut command = Command::new("bash");
        command.arg(&script).current_dir(scratch.folder()).env("PATH", &path).env("SLURM_JOB_ID", "7");
        command.env("OUT", "run").env("ARGUMENTS", format!("--recipe tiny.toml --epochs {epochs} --no-eval"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut child = run("400");
    wait(&mut child, Some(&checkpoints(&scratch, "run")), Duration::ZERO);
    Command::new("kill").args(["-USR1", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(scratch.path("requeued")).unwrap(), "requeue 7\n");
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "interrupted");
    let resumptions = || {
        let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
        info["resumed_at"].as_array().unwrap().len()
    };
    let mut child = run("400");
    while resumptions() == 0 && child.try_wait().unwrap().is_none() {
        wait(&mut child, None, Duration::from_millis(100));
    }
    Command::new("kill").args(["-USR1", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
    assert_eq!(resumptions(), 1);
}
