//! Training on every rank: the first one opens the run directory, writes and logs; the others follow.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use candle_core::Device;
use equimod_core::agreement::gather_bytes;
use equimod_core::{RankThreads, SharedCollective, SingleProcess, run_ranks};
use equimod_train::run_dir::RESOLVED;
use equimod_train::{
    Csv, Ending, Error, JsonLines, Origin, Pace, Probe, RunDirectory, RunInfo, Sink, Status, StepReport, TensorBoard,
    TextLog, TrainContext, Trainer,
};

use super::{Setup, Watcher};
use crate::cli::Pretrain;
use crate::inputs::model_argument;
use crate::outputs::console;
use crate::outputs::progress::Progress;
use crate::outputs::suggestion::Suggestion;
use crate::process::allocator::MEMORY;
use crate::process::between_gpus::between_gpus;
use crate::process::failure::InWords;
use crate::process::{device, git};
use crate::run::ancestry;
use crate::run::mlflow::{Client, Mlflow};
use crate::run::probe::{self, LabeledProbe};
use crate::run::trace::Profile;
use crate::run_state::seconds_to_last_metrics;

/// A run after its training, on one rank.
pub struct Trained {
    /// Run directory.
    pub run: RunDirectory,
    /// Content of `run.json`.
    pub info: RunInfo,
    /// Trainer with the final weights.
    pub trainer: Trainer,
    /// Reason of the end.
    pub ending: Ending,
    /// Memory and speed, in words.
    pub cost: String,
}

impl Trained {
    /// Says how a run that was stopped goes on, with what `arguments` ask for after the training.
    pub fn say_how_to_go_on(&self, arguments: &Pretrain) {
        let asked = [
            (arguments.baseline, "--baseline"),
            (arguments.no_baseline, "--no-baseline"),
            (arguments.no_eval, "--no-eval"),
        ];
        let asked = asked.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, option)| option);
        let resume = Suggestion::new(["pretrain", "--out", &self.run.path().display().to_string(), "--resume"]);
        resume.with(asked).note(&format!("stopped after step {}; go on with: ", self.trainer.step()));
    }
}

/// Number of steps below which a run is reported as too short before it starts.
const FEW_STEPS: u64 = 50;

impl Setup {
    /// Number of ranks of all processes.
    pub fn ranks(&self) -> usize {
        self.launch.processes() * self.devices.len()
    }

    /// Number of compute threads of each rank.
    pub fn threads(&self) -> usize {
        (rayon::current_num_threads() / self.devices.len()).max(1)
    }

    /// Trains on all ranks of this process, and returns the reason of the end, and the first rank's state if it is one
    /// of them.
    ///
    /// # Errors
    ///
    /// The failure of the rank that failed first.
    pub fn train(self: &Arc<Self>) -> anyhow::Result<(Ending, Option<Trained>)> {
        let (ranks, timeout) = (self.devices.len(), Duration::from_secs(self.recipe.execution.timeout));
        if let Some(collective) = self.launch.collective(&self.devices[0], timeout)? {
            return self.train_rank(collective);
        }
        if ranks == 1 {
            return self.train_rank(SingleProcess::shared());
        }
        let (group, setup) = (RankThreads { ranks, threads: self.threads(), timeout }, self.clone());
        let ended = run_ranks(group, move |collective| {
            let device = setup.device_of(&collective);
            setup.train_rank(between_gpus(collective, device, timeout)?)
        });
        let ended = ended.map_err(|failure| failure.in_words(ranks))?;
        ended.into_iter().next().context("the first rank ended without a result")
    }

    fn train_rank(&self, collective: SharedCollective) -> anyhow::Result<(Ending, Option<Trained>)> {
        match collective.is_first() {
            true => self.lead(collective).map(|trained| (trained.ending, Some(trained))),
            false => self.follow(collective).map(|ending| (ending, None)),
        }
    }

    /// Device of a rank. One of several processes has one device.
    fn device_of(&self, collective: &SharedCollective) -> &Device {
        &self.devices[if self.devices.len() == 1 { 0 } else { collective.rank() }]
    }

    /// Assembles the trainer of a rank.
    ///
    /// # Errors
    ///
    /// If the recipe does not fit the images or the ranks.
    pub fn trainer(&self, collective: SharedCollective) -> anyhow::Result<Trainer> {
        let device = self.device_of(&collective).clone();
        let context = TrainContext {
            collective,
            stop: self.stop.clone(),
            ..TrainContext::alone(device, self.threads(), env!("CARGO_PKG_VERSION"))
        };
        Trainer::new(self.recipe.clone(), self.dataset.clone(), context).map_err(|error| match error {
            Error::Recipe(problems) => {
                Error::Recipe(problems.into_iter().chain(probe::problem(&self.recipe)).collect()).into()
            }
            error => error.into(),
        })
    }

    /// Trains as the first rank.
    fn lead(&self, collective: SharedCollective) -> anyhow::Result<Trained> {
        let mut trainer = self.trainer(collective.clone())?;
        // Before anything is written.
        trainer.check_start()?;
        let mut probe = LabeledProbe::of(&self.recipe)?;
        let mlflow = (!self.recipe.log.mlflow.is_empty()).then(Client::of_environment).transpose()?;
        let (run, mut info) = self.open_run(&mut trainer, &collective)?;
        let start = Instant::now();
        let mut sinks = self.sinks(&run, &trainer)?;
        let mlflow = mlflow.map(|client| Mlflow::start(client, &run, &info, &self.recipe)).transpose()?;
        let (mlflow, sink) = mlflow.unzip();
        sinks.extend(sink.map(|sink| Box::new(sink) as Box<dyn Sink>));
        let ending = trainer.run(&run, &mut sinks, probe.as_mut().map(|probe| probe as &mut dyn Probe));
        let cost = cost(trainer.pace(), MEMORY.peak_usage() as u64);
        let noted = if cost.is_empty() { Ok(()) } else { note_on_all(&mut sinks, &cost) };
        info.status = status(&ending);
        info.seconds += start.elapsed().as_secs_f64();
        info.peak_memory = info.peak_memory.max(MEMORY.peak_usage() as u64);
        info.ended.get_or_insert_with(present);
        let written = noted.and_then(|()| run.write_info(&info));
        let lacking = mlflow.and_then(|mlflow| mlflow.finish(info.status));
        let written = written.and_then(|()| lacking.iter().try_for_each(|text| note_on_all(&mut sinks, text)));
        drop(sinks);
        // The reason why the run ended takes precedence over a failure to write the files.
        let ending = ending?;
        written?;
        Ok(Trained { run, info, trainer, ending, cost })
    }

    /// Trains as one of the other ranks.
    fn follow(&self, collective: SharedCollective) -> anyhow::Result<Ending> {
        let mut trainer = self.trainer(collective.clone())?;
        trainer.check_start()?;
        let path = path_of_first(None, &collective)?;
        let run = RunDirectory::of_first(&path);
        let mut from = self.arguments.from.clone();
        if self.arguments.resume {
            trainer.resume(&run)?;
            from = RunInfo::read(&path)?.from.map(|from| from.model.into()).filter(|_| trainer.step() == 0);
        }
        if let Some(from) = from {
            let model = model_argument::open(&from, trainer.method().params().device())?;
            trainer.begin_from(&model)?;
        }
        Ok(trainer.run(&run, &mut [], None)?)
    }

    fn open_run(
        &self,
        trainer: &mut Trainer,
        collective: &SharedCollective,
    ) -> anyhow::Result<(RunDirectory, RunInfo)> {
        let Self { arguments, recipe, asked, devices, .. } = self;
        if arguments.resume {
            return self.resume(trainer, collective);
        }
        let mut info = RunInfo {
            command: std::env::args().collect(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            device: device::describe_all(devices, self.launch.processes()),
            directory: std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default(),
            started: Some(present()),
            git: git::state(),
            ..trainer.info()
        };
        if let Some(model) = &arguments.from {
            info.from = Some(begin_from(trainer, model, &devices[0])?);
        }
        let folder = arguments.out.clone().unwrap_or_else(|| {
            let recipe = &arguments.recipe;
            next_folder(recipe.without_recipe().unwrap_or(recipe.name()))
        });
        let run = RunDirectory::create(&folder, &info, asked, recipe)?;
        path_of_first(Some(run.path()), collective)?;
        let (steps, about) = (trainer.total_steps(), &recipe.about);
        self.note(&format!("{about}: {steps} steps into {}", run.path().display()));
        if self.watcher.is_none() && !self.is_baseline {
            console::note(&self.difference());
            if self.wants_baseline() {
                let skip = if arguments.baseline { "" } else { " (--no-baseline skips it)" };
                console::note(&format!("then its baseline for as long, without the module's loss{skip}"));
            }
            self.few_steps(steps)
                .into_iter()
                .chain(self.large_rate())
                .chain(self.idle_probe())
                .for_each(|text| console::note(&text));
        }
        Ok((run, info))
    }

    /// Warning of a run that is too short to learn anything.
    fn few_steps(&self, steps: u64) -> Option<String> {
        let Self { arguments, recipe, dataset, .. } = self;
        let unless = if arguments.recipe.recipe.is_some() && arguments.recipe.source.is_some() {
            ", or no --recipe, so that settings are chosen for these images"
        } else {
            ""
        };
        (steps < FEW_STEPS).then(|| {
            format!(
                "only {steps} steps: {} images in batches of {} for {}; give more --epochs, a smaller --batch{unless}",
                dataset.len(),
                recipe.data.batch,
                epochs(recipe.schedule.epochs),
            )
        })
    }

    /// Note on images for a probe that is off.
    pub(super) fn idle_probe(&self) -> Option<String> {
        let probe = &self.recipe.probe;
        let is_idle = probe.every_epochs == 0 && !probe.data.is_empty();
        is_idle.then(|| "probe.data is not used, because probe.every_epochs is 0: set it, too".into())
    }

    /// Warning of a learning rate of SGD or LARS for AdamW, whose steps do not shrink with the gradient.
    pub(super) fn large_rate(&self) -> Option<String> {
        let rate = self.recipe.schedule.learning_rate;
        self.recipe
            .has_large_rate_for_adamw()
            .then(|| format!("a learning rate of {rate} is large for AdamW, which usually has about 0.001: give --lr"))
    }

    fn resume(&self, trainer: &mut Trainer, collective: &SharedCollective) -> anyhow::Result<(RunDirectory, RunInfo)> {
        let Self { arguments, recipe, asked, .. } = self;
        let (run, mut info) = RunDirectory::open(&arguments.out.clone().unwrap_or_default())?;
        path_of_first(Some(run.path()), collective)?;
        if info.status == Status::Running {
            // It was killed, and its file does not count the time.
            info.seconds += seconds_to_last_metrics(run.path());
        }
        for reason in trainer.resume(&run)? {
            self.note(&format!("skipped: {reason}"));
        }
        if let (0, Some(from)) = (trainer.step(), &info.from) {
            // There is no checkpoint yet.
            let again = begin_from(trainer, Path::new(&from.model), &trainer.method().params().device().clone())?;
            anyhow::ensure!(again == *from, "{} is not what the run began with; begin another run with it", from.model);
        }
        run.write_recipe(asked, recipe)?;
        run.cut_metrics(trainer.step())?;
        info.status = Status::Running;
        info.resumed_at.push(trainer.step());
        // A run that goes on has not ended; one without steps left only sends or writes what it lacks.
        if trainer.step() < trainer.total_steps() {
            info.ended = None;
        }
        run.write_info(&info)?;
        self.note(&format!("going on with {} after step {}", run.path().display(), trainer.step()));
        Ok((run, info))
    }

    /// What the time left is of: with a baseline, half of the training remains after the run.
    fn part(&self) -> &'static str {
        match (self.is_baseline, self.wants_baseline()) {
            (true, _) => " (baseline)",
            (_, true) => ", then the baseline",
            _ => "",
        }
    }

    fn sinks(&self, run: &RunDirectory, trainer: &Trainer) -> anyhow::Result<Vec<Box<dyn Sink>>> {
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(JsonLines::open(&run.path().join("metrics.jsonl"))?),
            Box::new(TensorBoard::open(run.path(), trainer.step())?),
            Box::new(TextLog::open(&run.path().join("train.log"))?),
            match &self.watcher {
                Some(watcher) => Box::new(Watched(watcher.clone())),
                None => Box::new(Progress::new(trainer.step(), trainer.total_steps(), self.part())),
            },
        ];
        if self.recipe.log.csv {
            sinks.push(Box::new(Csv::open(run.path())?));
        }
        if let Some(steps) = self.arguments.profile {
            sinks.push(Box::new(Profile::start(&run.path().join("trace.json"), trainer.step() + steps)?));
        }
        Ok(sinks)
    }
}

/// Sink that hands steps to a watcher.
struct Watched(Watcher);

impl Sink for Watched {
    fn step(&mut self, report: &StepReport) -> equimod_train::Result<()> {
        (self.0)(report);
        Ok(())
    }
}

/// Logs a message, and writes everything to disk.
fn note_on_all(sinks: &mut [Box<dyn Sink>], text: &str) -> equimod_train::Result<()> {
    sinks.iter_mut().try_for_each(|sink| sink.note(text).and_then(|()| sink.flush()))
}

/// The present as RFC 3339 in UTC.
fn present() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The run directory of the first rank, which passes it to the others.
fn path_of_first(path: Option<&Path>, collective: &SharedCollective) -> anyhow::Result<PathBuf> {
    let own = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let all = gather_bytes(own.as_bytes(), collective.as_ref())?;
    Ok(String::from_utf8_lossy(all.first().map_or(&[], Vec::as_slice)).into_owned().into())
}

fn status(ending: &equimod_train::Result<Ending>) -> Status {
    match ending {
        Ok(Ending::Finished) => Status::Finished,
        Ok(Ending::Interrupted) => Status::Interrupted,
        Err(Error::Diverged { .. }) => Status::Diverged,
        Err(_) => Status::Failed,
    }
}

/// Memory, speed, the share of each phase in the time of a step, and the slowest rank; empty without a step.
fn cost(pace: Pace, peak_memory: u64) -> String {
    if pace.steps == 0 {
        return String::new();
    }
    let shares = pace.shares.named().map(|(part, share)| format!("{part} {:.0} %", 100.0 * share)).join(", ");
    let slowest = pace.slowest.map_or_else(String::new, |slowest| format!("{slowest}; "));
    format!(
        "{:.1} images/s over {} steps; of a step: {shares}; {slowest}at most {:.0} MiB of memory",
        pace.images_per_second,
        pace.steps,
        peak_memory as f64 / f64::from(1 << 20)
    )
}

/// Loads initial weights, and reports which.
pub(super) fn begin_from(trainer: &mut Trainer, path: &Path, device: &Device) -> anyhow::Result<Origin> {
    let model = model_argument::begin_from(trainer, path, device)?;
    // A model on the Hub is named with its commit.
    let named = if model.path.starts_with(path) { path } else { &model.path };
    // `.` says nothing to readers of the run elsewhere.
    let named = if named.file_name().is_none() { fs::canonicalize(named)? } else { named.to_owned() };
    // Weights of the Hub lie in its cache.
    let folder = if path.exists() { path } else { &model.path };
    let (images, from) = (ancestry::images(folder), ancestry::origin(folder).map(Box::new));
    Ok(Origin { model: named.display().to_string(), sha256: model.sha256, images, from })
}

/// First unused path `out/<name>-<number>`, where the name is that of a recipe or, without one, of a data source.
pub fn next_folder(name: &str) -> PathBuf {
    // A recipe of a run has the run's name.
    let path = Path::new(name);
    let named = if path.ends_with(RESOLVED) { path.parent().and_then(Path::file_name) } else { path.file_stem() };
    let name = named.unwrap_or_else(|| OsStr::new("run")).to_string_lossy().into_owned();
    let folder = |number: u64| Path::new("out").join(format!("{name}-{number}"));
    (1..).map(folder).find(|folder| !folder.exists()).unwrap_or_else(|| folder(0))
}

/// A number of epochs in words.
fn epochs(count: u64) -> String {
    if count == 1 { "1 epoch".into() } else { format!("{count} epochs") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use equimod_core::checkpoint::read_folder;
    use equimod_data::{Dataset, Image, Size, Task};

    use super::super::{reading, recipe};
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::inputs::sources::training;
    use crate::process::exit;
    use crate::process::launch::Launch;

    #[test]
    fn a_recipe_of_a_run_names_the_next_run_after_it() {
        let name = |recipe: &str| next_folder(recipe).file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name("out/mine/recipe.resolved.toml"), "mine-1");
        assert_eq!([name("some/birds.toml"), name("photos")], ["birds-1", "photos-1"]);
    }

    /// Images whose fingerprint panics on the second rank.
    struct Fragile(Arc<dyn Dataset>);

    impl Dataset for Fragile {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn len(&self) -> usize {
            self.0.len()
        }

        fn image(&self, index: usize) -> equimod_data::Result<Image> {
            self.0.image(index)
        }

        fn key(&self, index: usize) -> String {
            self.0.key(index)
        }

        fn fingerprint(&self) -> equimod_data::Result<String> {
            assert!(!std::thread::current().name().is_some_and(|name| name.starts_with("rank-1")), "deliberately");
            self.0.fingerprint()
        }

        fn size(&self, index: usize) -> equimod_data::Result<Size> {
            self.0.size(index)
        }

        fn tasks(&self) -> &[Task] {
            self.0.tasks()
        }

        fn label(&self, task: usize, index: usize) -> Option<u32> {
            self.0.label(task, index)
        }
    }

    /// A run on two ranks.
    fn setup(arguments: &[&str], wrap: impl Fn(Arc<dyn Dataset>) -> Arc<dyn Dataset>) -> Arc<Setup> {
        let parsed = Cli::try_parse_from([&["equimod", "pretrain", "--no-eval"], arguments].concat()).unwrap();
        let Command::Pretrain(arguments) = parsed.command else { panic!("another command") };
        let (mut recipe, asked) = recipe(&arguments, &Launch::Alone, &[Device::Cpu, Device::Cpu]).unwrap();
        let (dataset, source) = training(&recipe.data.source, reading(&recipe)).unwrap();
        recipe.data.source = source;
        let (launch, devices, dataset) = (Launch::Alone, vec![Device::Cpu; 2], wrap(dataset));
        Arc::new(Setup {
            arguments,
            launch,
            devices,
            recipe,
            asked,
            dataset,
            stop: Arc::default(),
            watcher: None,
            is_baseline: false,
        })
    }

    #[test]
    fn a_rank_that_panics_ends_the_command_and_keeps_the_checkpoint() {
        let scratch = tempfile::tempdir().unwrap();
        let images = scratch.path().join("images");
        std::fs::create_dir(&images).unwrap();
        for i in 0..8u8 {
            let pixels = (0..16 * 16 * 3).map(|k| (k % 251) as u8 ^ i).collect();
            let image = Image::new(Size::square(16), pixels).unwrap();
            std::fs::write(images.join(format!("{i}.png")), image.encode_png().unwrap()).unwrap();
        }
        let (images, out) = (images.display().to_string(), scratch.path().join("run").display().to_string());
        let new = ["--data", &images, "--out", &out, "--batch", "4", "--width", "2", "--epochs", "1"];
        setup(&new, |images| images).train().unwrap();
        let failed = setup(&["--out", &out, "--resume"], |images| Arc::new(Fragile(images))).train();
        let Err(error) = failed else { panic!("no error") };
        let text = error.to_string();
        assert!(text.starts_with("process 1 of 2 was lost: it panicked: deliberately"), "{text}");
        assert!(text.contains("--resume") && !text.contains('\n'), "{text}");
        assert_eq!(exit::code_of(&error), exit::FAILED);
        let latest = std::fs::read_to_string(Path::new(&out).join("checkpoints/latest")).unwrap();
        assert!(read_folder(&Path::new(&out).join("checkpoints").join(latest)).is_ok());
        setup(&["--out", &out, "--resume"], |images| images).train().unwrap();
    }
}
