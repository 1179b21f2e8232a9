//! Runs of several processes that `mpirun` starts; skipped where it is not installed.
#![cfg(all(unix, feature = "mpi"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;
#[path = "../equimod-core/tests/common/mod.rs"]
mod golden;
#[path = "../equimod-core/tests/ranks/mod.rs"]
mod ranks;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use common::{Scratch, TINY};
use equimod::core::{CollectiveError, RankThreads, Reduction, SharedCollective, SingleProcess, run_ranks};
use equimod::mpi::Processes;
use golden::parts::{EQUIMOD, MODULES, OBJECTIVES};
use ranks::{Case, Found, WIDE, distance};
use serde_json::Value;

/// Time limit for exchanges and for the end of a run that fails.
const LIMIT: Duration = Duration::from_secs(60);

/// `mpirun` with `number` processes of a program, also on fewer cores and as root; `None` if it is not installed.
fn mpirun(number: usize, program: &str) -> Option<Command> {
    if !Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped, because mpirun is not installed");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    // Containers forbid reading the memory of another process.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command.args(["-n", &number.to_string(), program]).stdin(Stdio::null());
    Some(command)
}

/// Runs an ignored test of this file on every rank.
fn on_ranks(number: usize, test: &str) {
    let program = std::env::current_exe().unwrap();
    let Some(mut command) = mpirun(number, &program.to_string_lossy()) else { return };
    let output = command.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("1 passed").count(), number, "{text}");
}

#[test]
fn exchanges_give_every_rank_the_same_bits() {
    on_ranks(2, "a_rank_exchanges");
    on_ranks(4, "a_rank_exchanges");
    on_ranks(2, "a_rank_disagrees");
}

#[test]
fn several_processes_equal_one_and_threads() {
    on_ranks(2, "a_rank_compares");
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Results of exchanges of small and large tensors of several types.
fn exchanged(ranks: &SharedCollective) -> Result<Vec<Vec<f64>>, CollectiveError> {
    let rank = ranks.rank() as f64;
    let wave = |length: f64| -> candle_core::Result<Tensor> {
        (Tensor::arange(0f64, length, &Device::Cpu)? * (0.37 + rank))?.sin()? * 10f64.powf(3.0 * rank)
    };
    let large = wave(100_003.0)?.to_dtype(DType::F32)?;
    let mixed = [
        large.clone(),
        wave(3.0)?.to_dtype(DType::BF16)?,
        wave(20_000.0)?.reshape((2, 10_000))?.t()?,
        Tensor::new(rank as f32, &Device::Cpu)?,
        Tensor::new(u8::from(rank > 0.0), &Device::Cpu)?,
    ];
    let started = (0..3).map(|i| ranks.start_all_reduce(vec![(&large * f64::from(i))?], Reduction::Sum));
    let mut started = started.collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
        for part in [&mixed[..], &mixed[3..]] {
            let reduced = ranks.all_reduce(part, reduction)?;
            for (before, after) in part.iter().zip(&reduced) {
                assert_eq!((before.dims(), before.dtype()), (after.dims(), after.dtype()));
            }
            all.extend(reduced.iter().map(numbers));
        }
    }
    started.reverse();
    for exchange in started {
        all.push(numbers(&exchange.finish()?[0]));
    }
    ranks.wait_for_all()?;
    let rows = mixed[2].narrow(0, 1, 3)?;
    let gathered = ranks.all_gather(&rows)?;
    assert_eq!(gathered.dims(), [3 * ranks.size(), 2]);
    all.push(numbers(&gathered));
    all.extend(ranks.broadcast(&mixed[1..3], ranks.size() - 1)?.iter().map(numbers));
    Ok(all)
}

#[test]
#[ignore = "mpirun starts it on every rank"]
fn a_rank_exchanges() {
    let processes = Processes::join().unwrap();
    let collective = processes.collective(LIMIT);
    let found = exchanged(&collective).unwrap();
    let threads = RankThreads { ranks: processes.size(), threads: 1, timeout: LIMIT };
    let want = run_ranks(threads, |ranks| exchanged(&ranks)).unwrap();
    assert!(found == want[processes.rank()]);
    let place = processes.place();
    assert_eq!(
        (place.local_rank, place.local_size, place.sharing),
        (processes.rank(), processes.size(), processes.size())
    );
    processes.leave().unwrap();
}

#[test]
#[ignore = "mpirun starts it on every rank"]
fn a_rank_disagrees() {
    let processes = Processes::join().unwrap();
    let tensor = Tensor::zeros(2 + processes.rank(), DType::F32, &Device::Cpu).unwrap();
    let error = processes.collective(LIMIT).all_reduce_sum(&tensor).unwrap_err();
    assert!(matches!(error, CollectiveError::Mismatch { operation: "all-reduce", .. }), "{error}");
    assert!(error.to_string().contains("AllReduce(Sum) of 1 tensors: [3] of f32"), "{error}");
    processes.leave().unwrap();
}

#[test]
#[ignore = "mpirun starts it on every rank"]
fn a_rank_compares() {
    let processes = Processes::join().unwrap();
    let (rank, collective) = (processes.rank(), processes.collective(LIMIT));
    let threads = RankThreads { ranks: processes.size(), threads: 1, timeout: LIMIT };
    let with_byol = ["{}"].into_iter().chain(MODULES).map(|modules| Case::new(OBJECTIVES[1], modules));
    for case in OBJECTIVES.map(|objective| Case::new(objective, EQUIMOD)).into_iter().chain(with_byol) {
        let found: Found = case.run(collective.clone()).unwrap().unwrap();
        let reference = case.run(SingleProcess::shared()).unwrap().unwrap();
        let (off, name) = distance(&format!("{case:?}"), &reference, &found, WIDE);
        assert!(off <= 1.0, "{case:?}, rank {rank}: {name} is off by {off:.1} times what is allowed");
        let case = Case { dtype: DType::F32, ..case };
        let found = case.run(collective.clone()).unwrap().unwrap();
        let of_threads = run_ranks(threads, move |collective| case.run(collective)).unwrap().swap_remove(rank).unwrap();
        assert!(found == of_threads, "{case:?}, rank {rank}: other bits than with threads");
    }
    processes.leave().unwrap();
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.images("photographs", 40);
    scratch.write("tiny.toml", TINY.replace("batch = 32", "batch = 16\nsource = \"photographs\""));
    scratch
}

const ARGUMENTS: [&str; 6] = ["pretrain", "--recipe", "tiny.toml", "--no-eval", "--threads", "1"];

/// The command on several ranks in a folder; `None` without `mpirun`.
fn equimod(scratch: &Scratch, number: usize, arguments: &[&str]) -> Option<Command> {
    let mut command = mpirun(number, env!("CARGO_BIN_EXE_equimod"))?;
    command.args(arguments).current_dir(scratch.folder()).stdout(Stdio::null()).stderr(Stdio::piped());
    Some(command)
}

/// Starts a long run in the folder `run`, and waits for its first checkpoint.
fn started(scratch: &Scratch, number: usize, more: &[&str]) -> Option<Child> {
    let arguments = [&ARGUMENTS[..], &["--out", "run", "--epochs", "4000"], more].concat();
    let mut child = equimod(scratch, number, &arguments)?.spawn().unwrap();
    while !scratch.path("run/checkpoints/latest").is_file() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(child)
}

/// Waits for the end of a run that fails; returns its code and its only error.
fn ended(child: Child, limit: Duration) -> (Option<i32>, String) {
    let start = Instant::now();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert!(start.elapsed() < limit, "{:?}: {text}", start.elapsed());
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("error: ")).collect();
    let [error] = errors[..] else { panic!("not one error: {text}") };
    (status.code(), error.to_owned())
}

/// The process number of a rank of `mpirun`.
fn process_of(mpirun: u32, rank: usize) -> String {
    let parent = format!(" {mpirun} ");
    let is_rank = |folder: &std::path::Path| {
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
        stat.rsplit(')').next().is_some_and(|rest| rest.get(2..).is_some_and(|rest| rest.starts_with(&parent)))
            && environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let mut folders = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.find(|folder| is_rank(folder)).unwrap();
    found.file_name().unwrap().to_string_lossy().into_owned()
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

fn info(scratch: &Scratch) -> Value {
    serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap()
}

fn steps(scratch: &Scratch) -> Vec<u64> {
    let text = fs::read_to_string(scratch.path("run/metrics.jsonl")).unwrap();
    // A line may be half written where it crosses a page of the file.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect()
}

/// Resumes the run on several ranks, and stops it after some steps.
fn resumes(scratch: &Scratch, number: usize) {
    let arguments = ["pretrain", "--out", "run", "--resume", "--no-eval", "--threads", "1"];
    let mut child = equimod(scratch, number, &arguments).unwrap().spawn().unwrap();
    let before = steps(scratch).len();
    while steps(scratch).len() < before + 5 {
        assert!(child.try_wait().unwrap().is_none(), "{number} ranks: the run ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal("-TERM", &process_of(child.id(), number - 1));
    assert_eq!(child.wait().unwrap().code(), Some(75), "{number} ranks");
    assert_eq!(steps(scratch), (1..=steps(scratch).len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_run_of_processes_is_that_of_threads_bit_for_bit() {
    let scratch = scratch();
    let Some(mut command) = equimod(&scratch, 2, &[&ARGUMENTS[..], &["--out", "run"]].concat()) else { return };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("tiny.toml").count(), 1, "{text}");
    assert_eq!(text.matches("step 1/10").count(), 1, "{text}");
    assert_eq!(info(&scratch)["device"], "2 processes, the first on cpu, 1 thread");
    scratch.done(&[&ARGUMENTS[..5], &["2", "--out", "threads", "--device", "cpu:2"]].concat());
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let of = |run: &str| fs::read(scratch.path(&format!("{run}/checkpoints/step-00000010/{file}"))).unwrap();
        assert!(of("run") == of("threads"), "{file}");
    }
}

#[test]
fn a_signal_to_one_rank_stops_all_and_another_number_resumes() {
    let scratch = scratch();
    let Some(child) = started(&scratch, 4, &[]) else { return };
    signal("-TERM", &process_of(child.id(), 2));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    assert_eq!(info(&scratch)["status"], "interrupted");
    let latest = fs::read_to_string(scratch.path("run/checkpoints/latest")).unwrap();
    assert_eq!(latest, format!("step-{:08}", steps(&scratch).len()));
    resumes(&scratch, 2);
}

/// Tests the SLURM script for several nodes with a scheduler that only records its calls, and `mpirun` in place of
/// `srun`.
#[test]
fn the_slurm_script_for_nodes_starts_resumes_and_requeues() {
    let scratch = scratch();
    scratch.write("bin/scontrol", "#!/bin/sh\necho \"$@\" >> requeued\n");
    scratch.write("bin/srun", "#!/bin/sh\nshift 2\necho \"$@\" >> calls\nexec mpirun -n 2 \"$@\"\n");
    assert!(
        Command::new("sh").args(["-c", "chmod +x bin/*"]).current_dir(scratch.folder()).status().unwrap().success()
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_equimod")).parent().unwrap().to_path_buf();
    let path = format!("{}:{}:{}", scratch.path("bin").display(), program.display(), std::env::var("PATH").unwrap());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pretrain-nodes.sbatch");
    // Processes are warned by USR1; the script itself gets TERM when the job has to leave.
    for (job, resumes, warned) in [(7, 0, true), (8, 1, true), (9, 2, false)] {
        // Only its variables are of use.
        let Some(environment) = mpirun(2, "") else { return };
        let mut command = Command::new("bash");
        command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(&script).current_dir(scratch.folder()).env("PATH", &path).env("SLURM_JOB_ID", job.to_string());
        command.env("OUT", "run").env("DEVICE", "cpu");
        command.env("ARGUMENTS", "--recipe tiny.toml --epochs 4000 --no-eval --threads 1");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let before = if resumes == 0 { 0 } else { steps(&scratch).len() };
        while !scratch.path("run/checkpoints/latest").is_file() || steps(&scratch).len() < before + 5 {
            assert!(child.try_wait().unwrap().is_none(), "job {job} ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        let launcher = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        match warned {
            true => signal("-USR1", &process_of(launcher.trim().parse().unwrap(), 1)),
            false => signal("-TERM", &child.id().to_string()),
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(info(&scratch)["status"], "interrupted");
        assert_eq!(info(&scratch)["resumed_at"].as_array().map_or(0, Vec::len), resumes);
    }
    assert_eq!(fs::read_to_string(scratch.path("requeued")).unwrap(), "requeue 7\nrequeue 8\nrequeue 9\n");
    assert!(fs::read_to_string(scratch.path("calls")).unwrap().contains("pretrain --out run --resume --device cpu"));
}

#[test]
fn a_rank_that_is_killed_ends_all_and_keeps_the_checkpoint() {
    let scratch = scratch();
    let Some(child) = started(&scratch, 2, &[]) else { return };
    signal("-KILL", &process_of(child.id(), 1));
    let (code, error) = ended(child, LIMIT);
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(error.contains("process 1 was lost"), "{error}");
    assert_eq!(info(&scratch)["status"], "failed");
    resumes(&scratch, 2);
}

#[test]
fn a_rank_that_is_stuck_is_named_after_the_time_limit() {
    let scratch = scratch();
    let Some(child) = started(&scratch, 2, &["--set", "execution.timeout=2"]) else { return };
    signal("-STOP", &process_of(child.id(), 1));
    let (code, error) = ended(child, LIMIT);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("did not finish within 2 s: process 1 did not take part"), "{error}");
    assert_eq!(info(&scratch)["status"], "failed");
}

#[test]
fn an_error_of_one_rank_ends_all_with_its_code() {
    let scratch = scratch();
    let Some(child) = started(&scratch, 2, &["--set", "data.skip_share=0"]) else { return };
    fs::write(scratch.path("photographs/class1/7.png"), b"no image").unwrap();
    let (code, error) = ended(child, LIMIT);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("do not decode") && error.contains("7.png"), "{error}");
}

#[test]
fn ranks_that_start_different_runs_are_refused_in_one_sentence() {
    let scratch = scratch();
    let arguments = [&ARGUMENTS[..], &["--out", "run", "--seed", "1"]].concat();
    let Some(mut command) = equimod(&scratch, 1, &arguments) else { return };
    command.args([":", "-n", "1", env!("CARGO_BIN_EXE_equimod")]);
    let child = command.args(ARGUMENTS).args(["--out", "run", "--seed", "2"]).spawn().unwrap();
    let (code, error) = ended(child, LIMIT);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("the seed of process 1 is not that of process 0"), "{error}");
    assert!(!scratch.path("run").exists());
    let mut command = equimod(&scratch, 2, &[&ARGUMENTS[..], &["--device", "cpu:2"]].concat()).unwrap();
    let (code, error) = ended(command.spawn().unwrap(), LIMIT);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("each process is a rank"), "{error}");
}

#[test]
fn the_images_may_have_another_path_for_another_rank() {
    let scratch = scratch();
    for copy in ["elsewhere", "fewer"] {
        let copied = Command::new("cp").args(["-r", "photographs", copy]).current_dir(scratch.folder()).status();
        assert!(copied.unwrap().success());
    }
    fs::remove_file(scratch.path("fewer/class1/7.png")).unwrap();
    let of = |images| [&ARGUMENTS[..], &["--epochs", "1", "--out", "run", "--data", images]].concat();
    for (images, same) in [("elsewhere", true), ("fewer", false)] {
        let Some(mut command) = equimod(&scratch, 1, &of("photographs")) else { return };
        command.args([":", "-n", "1", env!("CARGO_BIN_EXE_equimod")]).args(of(images));
        let Output { status, stderr, .. } = command.spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&stderr);
        assert_eq!((status.success(), scratch.path("run").exists()), (same, same), "{text}");
        assert!(same || text.contains("the data set of process 1 is not that of process 0"), "{text}");
        fs::remove_dir_all(scratch.path("run")).ok();
    }
}

#[test]
fn an_evaluation_is_not_repeated_by_every_process() {
    let scratch = scratch();
    for arguments in [&["eval", "knn", "run"][..], &["embed", "run", "--out", "features.npy"]] {
        let Some(mut command) = equimod(&scratch, 2, arguments) else { return };
        let Output { status, stderr, .. } = command.spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&stderr);
        assert!(status.code() == Some(2) && text.contains("started 2 processes"), "{text}");
    }
}
