//! `pretrain` and `bench step` with several ranks, as the real binary.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Scratch, TINY};
use serde_json::Value;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.images("photographs", 40);
    scratch.write("tiny.toml", TINY.replace("batch = 32", "batch = 16\nsource = \"photographs\""));
    scratch
}

fn lines(scratch: &Scratch, out: &str) -> Vec<Value> {
    let text = fs::read_to_string(scratch.path(out).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn info(scratch: &Scratch, out: &str) -> Value {
    serde_json::from_slice(&fs::read(scratch.path(out).join("run.json")).unwrap()).unwrap()
}

const ARGUMENTS: [&str; 6] = ["pretrain", "--recipe", "tiny.toml", "--set", "schedule.learning_rate=0.001", "--out"];

#[test]
fn two_ranks_train_and_report_one_run() {
    let scratch = scratch();
    for (out, device) in [("one", "cpu"), ("two", "cpu:2")] {
        let more = [out, "--device", device, "--threads", "2", "--set", "log.csv=true"];
        scratch.done(&[&ARGUMENTS[..], &more].concat());
        let table = fs::read_to_string(scratch.path(out).join("metrics.csv")).unwrap();
        let steps: Vec<&str> = table.lines().filter_map(|line| line.split(',').next()).collect();
        assert_eq!(steps, ["step", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    }
    let (one, two) = (lines(&scratch, "one"), lines(&scratch, "two"));
    assert_eq!((one.len(), two.len()), (10, 10));
    for (one, two) in one.iter().zip(&two) {
        for (name, want) in one.as_object().unwrap() {
            let (want, got) = (want.as_f64().unwrap(), two[name].as_f64().unwrap());
            let tolerance = if name == "gradient_norm" { 1e-2 } else { 1e-4 };
            assert!((want - got).abs() <= tolerance * want.abs().max(0.1), "{name}: {want} and {got}");
        }
    }
    let log = fs::read_to_string(scratch.path("two/train.log")).unwrap();
    assert_eq!(log.matches("images/s over 10 steps").count(), 1, "{log}");
    for out in ["one", "two"] {
        let log = fs::read_to_string(scratch.path(out).join("train.log")).unwrap();
        let named = log.lines().filter(|line| line.contains("slowest rank ") && line.contains(" % for data, ")).count();
        // At the beginning of each epoch, at the end, and in the summary.
        assert_eq!(named, if out == "two" { 4 } else { 0 }, "{log}");
    }
    assert_eq!(info(&scratch, "two")["device"], "cpu, 2 ranks, 1 thread each");
    assert!(scratch.path("two/report.html").is_file());
}

#[test]
fn a_signal_stops_all_ranks_and_another_number_resumes() {
    let scratch = scratch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
    command.args(ARGUMENTS).args(["run", "--no-eval", "--device", "cpu:2", "--epochs", "400"]);
    let mut child = command.current_dir(scratch.folder()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !scratch.path("run/checkpoints/latest").is_file() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(info(&scratch, "run")["status"], "interrupted");
    let steps = lines(&scratch, "run").len();
    // An image that cannot be read any more ends the run, and the checkpoint before it stays good.
    let checkpoint = fs::read_to_string(scratch.path("run/checkpoints/latest")).unwrap();
    assert_eq!(checkpoint, format!("step-{steps:08}"));
    for device in ["cpu:4", "cpu"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
        command.args(["pretrain", "--out", "run", "--resume", "--no-eval", "--device", device]);
        let mut child =
            command.current_dir(scratch.folder()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let before = lines(&scratch, "run").len();
        while lines(&scratch, "run").len() < before + 2 {
            assert!(child.try_wait().unwrap().is_none(), "{device}: the run ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75), "{device}");
        let numbers: Vec<u64> = lines(&scratch, "run").iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{device}");
    }
    assert_eq!(info(&scratch, "run")["resumed_at"].as_array().unwrap().len(), 2);
}

#[test]
fn a_dry_run_says_what_each_rank_holds() {
    let scratch = scratch();
    let of = |device: &str| {
        let output = scratch.run(&["pretrain", "--recipe", "tiny.toml", "--dry-run", "--device", device]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let (one, two) = (of("cpu"), of("cpu:2"));
    assert!(one.contains("\na step of 16 images has") && !one.contains("to exchanges"), "{one}");
    assert!(two.contains("\non each of 2 ranks, a step of 8 images has"), "{two}");
    let (_, exchanged) = two.split_once(" gives ").unwrap();
    let exchanged: f64 = exchanged.split(' ').next().unwrap().parse().unwrap();
    let (parameters, _) = two.split_once(" parameters, ").unwrap();
    let parameters: f64 = parameters.rsplit(['\n', ' ']).next().unwrap().parse().unwrap();
    // Gradients of 4 bytes, and sums of batch norm and embeddings, which are small.
    let gradients = parameters * 4.0 / f64::from(1 << 20);
    assert!((0.9..2.0).contains(&(exchanged / gradients)), "{exchanged} MiB of {gradients} MiB gradients");
}

#[test]
fn devices_that_do_not_fit_are_refused_in_one_sentence() {
    let scratch = scratch();
    let out = [&ARGUMENTS[..], &["run", "--device"]].concat();
    scratch.refused(&[&out[..], &["cpu:3"]].concat(), 2, &["data.batch is 16", "3 ranks", "multiple of 3"]);
    scratch.refused(&[&out[..], &["cpu:0"]].concat(), 2, &["cpu:0", "cpu:2"]);
    scratch.refused(&[&out[..], &["cuda:2-1"]].concat(), 2, &["cuda:2-1"]);
    scratch.refused(&["bench", "eval", "--device", "cpu:2"], 2, &["cpu:2 names several devices"]);
    assert!(!scratch.path("run").exists());
}

#[test]
fn processes_that_cannot_be_connected_are_refused_in_one_sentence() {
    let scratch = scratch();
    let out = [&ARGUMENTS[..], &["run"]].concat();
    let torchrun = scratch.again_with("RANK", "0").with("WORLD_SIZE", "2").with("MASTER_ADDR", "localhost");
    torchrun.refused(&out, 2, &["2 processes, which this build cannot connect", "--device cuda:all"]);
    #[cfg(not(feature = "mpi"))]
    for (variable, launcher) in [("OMPI_COMM_WORLD_SIZE", "mpirun"), ("SLURM_STEP_NUM_TASKS", "srun")] {
        let parts = [&format!("{launcher} started 3 processes, but this build lacks MPI"), "--features mpi"];
        scratch.again_with(variable, "3").refused(&out, 2, &parts);
    }
    assert!(!scratch.path("run").exists());
    // A shell in an allocation of several tasks.
    let allocation = scratch.again_with("SLURM_JOB_ID", "7").with("SLURM_NTASKS", "4");
    allocation.done(&[&ARGUMENTS[..], &["run", "--no-eval"]].concat());
}

#[test]
fn an_image_that_vanishes_ends_all_ranks_and_keeps_the_checkpoint() {
    let scratch = scratch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
    command.args(ARGUMENTS).args(["run", "--no-eval", "--device", "cpu:2", "--epochs", "4000"]);
    command.args(["--set", "data.skip_share=0"]);
    let child = command.current_dir(scratch.folder()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !scratch.path("run/checkpoints/latest").is_file() {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(scratch.path("photographs/class1/7.png"), b"no image").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(text.contains("do not decode") && text.contains("7.png"), "{text}");
    assert_eq!(info(&scratch, "run")["status"], "failed");
    fs::remove_dir_all(scratch.path("photographs")).unwrap();
    scratch.images("photographs", 40);
    let inspected = scratch.done(&["inspect", "run"]);
    assert!(inspected.contains("resnet18"), "{inspected}");
}

#[test]
fn bench_step_measures_ranks_together() {
    let scratch = scratch();
    let shape = ["bench", "step", "--batch", "8", "--width", "4", "--size", "16", "--hidden", "16", "--steps", "2"];
    let text = scratch.done(&[&shape[..], &["--device", "cpu:2", "--threads", "2", "--json"]].concat());
    let result: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (result["ranks"].as_u64(), result["batch"].as_u64(), result["threads"].as_u64()),
        (Some(2), Some(8), Some(2))
    );
    let product = result["images_per_s"].as_f64().unwrap() * result["step_s"].as_f64().unwrap();
    assert!((product - 8.0).abs() < 1e-6);
    scratch.refused(&[&shape[..], &["--device", "cpu:3"]].concat(), 2, &["3 ranks cannot share 8 images"]);
}

#[test]
fn features_are_those_of_one_device_whatever_the_number() {
    let scratch = scratch();
    // Four batches of features.
    scratch.images("many", 200);
    scratch.done(&[&ARGUMENTS[..], &["run", "--no-eval", "--epochs", "1"]].concat());
    for device in ["cpu", "cpu:2", "cpu:3"] {
        let name = device.replace(':', "-");
        let (file, folder) = (format!("{name}.npy"), format!("{name}-cache"));
        let embed = ["embed", "run", "many", "--out", &file, "--cache", &folder, "--device", device];
        scratch.done(&embed);
        let compare = ["eval", "knn", "run", "many", "--json", "--untrained", "--cache", &folder, "--device", device];
        scratch.write(&format!("{name}.json"), scratch.done(&compare));
    }
    let rows =
        |name: &str| serde_json::from_slice::<Value>(&fs::read(scratch.path(name)).unwrap()).unwrap()["rows"].clone();
    assert!(rows("cpu.json").as_array().is_some_and(|rows| !rows.is_empty()));
    for name in ["cpu-2", "cpu-3"] {
        assert_eq!(fs::read(scratch.path("cpu.npy")).unwrap(), fs::read(scratch.path(&format!("{name}.npy"))).unwrap());
        assert_eq!(rows("cpu.json"), rows(&format!("{name}.json")));
    }
}
