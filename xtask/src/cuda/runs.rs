//! Runs of the command on the stand-in: training, a kill and a resume, bf16, evaluation.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::kit::count_launches;
use super::{Environment, folder};
use crate::steps::took;

/// A network and a data set of seconds.
const RECIPE: &str = r#"
base = "quick"
[data]
source = "images"
batch = 16
[backbone]
width = 4
[objective]
kind = "byol"
projection_head = "32-16 bias"
predictor = "8-16 bias"
[equivariance.equimod]
projection_head = "32-16 bn-"
parameter_head = "16 bn"
predictor = "16 bn-"
[augmentation]
size = 16
[schedule]
epochs = 2
warmup_epochs = 0.5
learning_rate = 1.0
[checkpoint]
every_epochs = 1
"#;

/// Files of a checkpoint that are the same bits however a run was interrupted.
const FILES: [&str; 3] = ["model.safetensors", "target.safetensors", "optimizer.safetensors"];

/// The command in a folder of its own.
struct Runs<'a> {
    program: &'a Path,
    environment: &'a Environment,
    folder: PathBuf,
}

impl Runs<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command to its end and returns what it printed.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        eprintln!("» equimod {}", arguments.join(" "));
        let start = Instant::now();
        let output = self.command(arguments).output().context("cannot start the command with CUDA")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "equimod {} failed:\n{said}", arguments.join(" "));
        took(&format!("equimod {}", arguments.join(" ")), start.elapsed());
        Ok(said)
    }

    /// Starts a run and kills it once it has written a checkpoint.
    fn killed(&self, arguments: &[&str], out: &str) -> anyhow::Result<()> {
        eprintln!("» equimod {}, killed after a checkpoint", arguments.join(" "));
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start a run")?;
        let start = Instant::now();
        while !self.folder.join(out).join("checkpoints/latest").is_file() {
            if let Some(status) = child.try_wait()? {
                bail!("the run that was to be killed ended before its first checkpoint: {status}");
            }
            ensure!(start.elapsed() < Duration::from_secs(300), "a run has written no checkpoint in 5 minutes");
            sleep(Duration::from_millis(5));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The newest checkpoint of a run.
    fn newest(&self, out: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(out).join("checkpoints");
        let latest = fs::read_to_string(folder.join("latest")).with_context(|| format!("{out} has no checkpoint"))?;
        Ok(folder.join(latest.trim()))
    }

    fn assert_same(&self, a: &str, b: &str) -> anyhow::Result<()> {
        let (first, second) = (self.newest(a)?, self.newest(b)?);
        for file in FILES {
            let same = fs::read(first.join(file))? == fs::read(second.join(file))?;
            ensure!(same, "{file} of the runs {a} and {b} differs");
        }
        Ok(())
    }

    /// A folder of 24-bit BMP images of two classes, whose sides are `side` and, for each image, `more` pixels longer
    /// than for the one before.
    fn images(&self, name: &str, side: usize, more: usize) -> anyhow::Result<()> {
        for (class, number) in (0..2).flat_map(|class| (0..16).map(move |number| (class, number))) {
            let folder = self.folder.join(format!("{name}/class{class}"));
            fs::create_dir_all(&folder)?;
            let side = side + more * number;
            // Rows are padded to a multiple of four bytes.
            let row = (3 * side).next_multiple_of(4);
            let mut bytes = b"BM".to_vec();
            for field in [54 + row * side, 0, 54, 40, side, side, 1 + (24 << 16), 0, 0, 0, 0, 0, 0] {
                bytes.extend(u32::try_from(field)?.to_le_bytes());
            }
            let value = |k: usize| if k % 3 == class { 220 } else { (k * (number + 1) % 97) as u8 };
            bytes.extend((0..row * side).map(value));
            fs::write(folder.join(format!("{number}.bmp")), bytes)?;
        }
        Ok(())
    }
}

/// Checks the memory of a step on the device in a dry run: more images take more, and micro-batches less.
fn check_dry_run(runs: &Runs) -> anyhow::Result<()> {
    let mebibytes = |more: &[&str]| -> anyhow::Result<f64> {
        let dry =
            ["pretrain", "--recipe", "tiny.toml", "--set", "backbone.width=16", "--device", "cuda:0", "--dry-run"];
        let said = runs.run(&[&dry[..], more].concat())?;
        let (_, after) = said.split_once("on cuda:0, a step of ").context("a dry run says nothing of its device")?;
        let (_, memory) = after.split_once(" has ").context("a dry run says nothing of a device's memory")?;
        Ok(memory.split(' ').next().unwrap_or_default().parse()?)
    };
    let (few, many) = (mebibytes(&["--set", "data.batch=8"])?, mebibytes(&["--set", "data.batch=32"])?);
    let parts = mebibytes(&["--set", "data.batch=32", "--set", "execution.parts=4"])?;
    ensure!(1.0 < few && few < many && parts < many, "dry runs report {few}, {many} and, in parts, {parts} MiB");
    Ok(())
}

/// Counts the launches of a step as the kit does on a card.
fn check_launches(runs: &Runs) -> anyhow::Result<()> {
    let library = runs.folder.join("launches.so");
    count_launches(&library)?;
    let count = |steps: &str| -> anyhow::Result<u64> {
        let file = runs.folder.join("launches");
        let more = [("LD_PRELOAD", library.clone().into()), ("LAUNCHES", file.clone().into())];
        let environment = [&runs.environment[..], &more].concat();
        let counted = Runs { environment: &environment, folder: runs.folder.clone(), ..*runs };
        let small = ["--width", "8", "--hidden", "32", "--batch", "4", "--size", "16", "--device", "cuda:0"];
        counted.run(&[&["bench", "step", "--steps", steps], &small[..]].concat())?;
        Ok(fs::read_to_string(file)?.trim().parse()?)
    };
    let (two, four) = (count("2")?, count("4")?);
    ensure!(two < four && (four - two) / 2 < 2000, "{two} launches in two steps, {four} in four");
    Ok(())
}

/// Trains in two processes with the variables of a launcher such as torchrun.
fn check_launched_processes(runs: &Runs, arguments: &[&str]) -> anyhow::Result<()> {
    eprintln!("» equimod {}, in two processes", arguments.join(" "));
    let start = Instant::now();
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let process = |rank: &'static str| {
        let mut command = runs.command(arguments);
        command.args(["--threads", "1"]).env("RANK", rank).env("LOCAL_RANK", rank);
        command.envs([("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")]);
        command.env("MASTER_PORT", &port).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let processes = [process("0")?, process("1")?];
    for process in processes {
        let output = process.wait_with_output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success() && !said.contains("stand-in:"), "a launched process failed:\n{said}");
    }
    took("equimod in two processes", start.elapsed());
    Ok(())
}

/// Trains on two devices, twice with the same result, and shares an evaluation among them.
fn check_two_devices(runs: &Runs) -> anyhow::Result<()> {
    let environment = [&runs.environment[..], &[("STANDIN_DEVICES", "2".into())]].concat();
    let runs = Runs { environment: &environment, folder: runs.folder.clone(), ..*runs };
    let with =
        |out: &'static str| ["pretrain", "--recipe", "tiny.toml", "--device", "cuda:0-1", "--no-eval", "--out", out];
    runs.run(&with("two"))?;
    runs.run(&with("two-again"))?;
    runs.assert_same("two", "two-again")?;
    check_launched_processes(&runs, &with("launched"))?;
    runs.assert_same("two", "launched")?;
    runs.killed(&with("two-killed"), "two-killed")?;
    runs.run(&["pretrain", "--resume", "--device", "cuda:0", "--no-eval", "--out", "two-killed"])?;
    let shared = runs.run(&["eval", "knn", "two", "--untrained", "--data", "images", "--device", "cuda:0,1"])?;
    ensure!(!shared.contains("stand-in:"), "an evaluation on two devices misuses one:\n{shared}");
    Ok(())
}

/// Trains, kills and resumes, trains in bf16, in parts and on two devices, fine-tunes and evaluates on the stand-in's device.
///
/// # Errors
///
/// If a run fails, or a resumed run differs from an uninterrupted one.
pub fn check(program: &Path, environment: &Environment) -> anyhow::Result<()> {
    let runs = Runs { program, environment, folder: folder()?.join("runs") };
    if runs.folder.is_dir() {
        fs::remove_dir_all(&runs.folder).context("cannot clear the folder of runs")?;
    }
    fs::create_dir_all(&runs.folder)?;
    runs.images("images", 16, 0)?;
    runs.images("sizes", 13, 3)?;
    fs::write(runs.folder.join("tiny.toml"), RECIPE)?;
    check_dry_run(&runs)?;
    let train = ["pretrain", "--recipe", "tiny.toml", "--device", "cuda:0", "--no-eval", "--out"];
    let with = |out: &'static str, more: &[&'static str]| [&train[..], &[out], more].concat();
    runs.run(&with("whole", &[]))?;
    runs.run(&with("again", &["--threads", "1"]))?;
    runs.assert_same("whole", "again")?;
    runs.killed(&with("killed", &[]), "killed")?;
    runs.run(&["pretrain", "--resume", "--device", "cuda:0", "--no-eval", "--out", "killed"])?;
    runs.assert_same("whole", "killed")?;
    runs.run(&with("bf16", &["--set", "execution.precision=bf16", "--set", "log_every_steps=3"]))?;
    runs.run(&with("auto", &["--set", "execution.precision=auto", "--set", "log_every_steps=3"]))?;
    runs.assert_same("bf16", "auto")?;
    let resolved = fs::read_to_string(runs.folder.join("auto/recipe.resolved.toml"))?;
    ensure!(resolved.contains("precision = \"bf16\""), "an automatic precision stays open:\n{resolved}");
    runs.run(&with("parts", &["--set", "execution.parts=3", "--set", "execution.recompute=true", "--epochs", "1"]))?;
    for (out, on) in [("views-cpu", "augmentation.on=cpu"), ("views", "augmentation.on=device")] {
        let policy = "augmentation.policy=byol-imagenet";
        runs.run(&with(out, &["--set", on, "--set", policy, "--set", "data.source=sizes", "--epochs", "1"]))?;
    }
    runs.assert_same("views-cpu", "views")?;
    check_launches(&runs)?;
    check_two_devices(&runs)?;
    let on = ["--data", "images", "--device", "cuda:0"];
    for protocol in ["knn", "equivariance"] {
        runs.run(&[&["eval", protocol, "whole"], &on[..]].concat())?;
    }
    runs.run(&[&["eval", "finetune", "whole", "--epochs", "1"], &on[..]].concat())?;
    Ok(())
}
