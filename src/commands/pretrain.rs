//! `equimod pretrain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::Device;
use equimod::bundled::RECIPES;
use equimod::recipes::{as_comments, base, named};
use equimod_core::{Model, ObjectiveConfig};
use equimod_data::Dataset;
use equimod_data::source::ReadOptions;
use equimod_eval::evaluation::{EquivarianceProtocol, SummaryProtocol};
use equimod_eval::results::{EvaluatedModel, FORMAT, Results, markdown, plain};
use equimod_eval::{Crop, Evaluation, InputTransform, ResultRow};
use equimod_train::{
    Ending, JsonLines, Origin, Pace, Probe, Recipe, RunDirectory, RunInfo, Sink, Status, TensorBoard, TextLog,
    TrainContext, Trainer, changes, resolve,
};

use crate::cli::Pretrain;
use crate::inputs::model_argument;
use crate::inputs::sources::{splits, training};
use crate::outputs::console::{self, Console, Progress, duration};
use crate::process::allocator::MEMORY;
use crate::process::device;
use crate::process::exit;
use crate::process::signals::Signals;
use crate::run::forecast::{Forecast, forecast};
use crate::run::probe::LabeledProbe;
use crate::run::report::RunReport;
use crate::run::trace::Profile;

/// Trains, evaluates and reports.
pub fn run(arguments: &Pretrain) -> anyhow::Result<ExitCode> {
    let device = device::open(&arguments.device.device)?;
    let (mut recipe, asked) = recipe(arguments)?;
    let (dataset, source) = match training(&recipe.data.source, reading(&recipe)) {
        Err(error) if arguments.dry_run => {
            // The recipe can be printed nevertheless.
            console::result(&recipe.to_toml())?;
            return Err(error);
        }
        opened => opened?,
    };
    recipe.data.source = source;
    let signals = Signals::default();
    let (threads, version) = (rayon::current_num_threads(), env!("CARGO_PKG_VERSION"));
    let context = TrainContext { stop: signals.stop.clone(), ..TrainContext::alone(device.clone(), threads, version) };
    let mut trainer = Trainer::new(recipe.clone(), dataset.clone(), context)?;
    if arguments.dry_run {
        return dry_run(arguments, &recipe, &trainer);
    }
    let mut probe = LabeledProbe::of(&recipe)?;
    signals.listen()?;
    let (run, mut info) = open_run(arguments, &recipe, &asked, &mut trainer, &device)?;
    let start = Instant::now();
    let mut sinks = sinks(arguments, &run, &trainer)?;
    let ending = trainer.run(&run, &mut sinks, probe.as_mut().map(|probe| probe as &mut dyn Probe));
    let cost = cost(trainer.pace(), MEMORY.peak_usage() as u64);
    let noted = sinks.iter_mut().try_for_each(|sink| sink.note(&cost).and_then(|()| sink.flush()));
    drop(sinks);
    info.status = status(&ending);
    info.seconds += start.elapsed().as_secs_f64();
    info.peak_memory = info.peak_memory.max(MEMORY.peak_usage() as u64);
    let written = noted.and_then(|()| run.write_info(&info));
    // The reason why the run ended takes precedence over a failure to write the files.
    let ending = ending?;
    written?;
    if ending == Ending::Interrupted {
        let folder = run.path().display();
        console::note(&format!(
            "stopped after step {}; go on with: equimod pretrain --out {folder} --resume",
            trainer.step()
        ));
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    // The remaining work can be repeated with --resume.
    signals.end_at_once();
    let times = vec![("training".to_owned(), duration(Duration::from_secs_f64(info.seconds)))];
    let finished = Finished { run: &run, info: &info, recipe: &recipe, dataset: dataset.as_ref(), trainer: &trainer };
    finished.report(arguments, &device, times, cost)?;
    Ok(ExitCode::SUCCESS)
}

fn status(ending: &equimod_train::Result<Ending>) -> Status {
    match ending {
        Ok(Ending::Finished) => Status::Finished,
        Ok(Ending::Interrupted) => Status::Interrupted,
        Err(equimod_train::Error::Diverged { .. }) => Status::Diverged,
        Err(_) => Status::Failed,
    }
}

/// Memory, speed, and share of each phase in the time of a step.
fn cost(pace: Pace, peak_memory: u64) -> String {
    let shares = pace.shares.named().map(|(part, share)| format!("{part} {:.0} %", 100.0 * share)).join(", ");
    format!(
        "{:.1} images/s over {} steps; of a step: {shares}; at most {:.0} MiB of memory",
        pace.images_per_second,
        pace.steps,
        peak_memory as f64 / f64::from(1 << 20)
    )
}

/// Resolved recipe, and its text as it was given.
fn recipe(arguments: &Pretrain) -> anyhow::Result<(Recipe, String)> {
    let mut settings = arguments.recipe.settings();
    settings.extend(arguments.seed.iter().map(|seed| format!("seed={seed}")));
    settings.extend(arguments.epochs.iter().map(|epochs| format!("schedule.epochs={epochs}")));
    if arguments.resume {
        let out = arguments.out.clone().unwrap_or_default();
        if out.join("run.json").is_file() {
            RunInfo::read(&out)?;
        }
        let path = out.join("recipe.resolved.toml");
        let read = |path: &Path| std::fs::read_to_string(path);
        let text =
            read(&path).with_context(|| format!("there is no run to go on with: {} cannot be read", path.display()))?;
        let asked = read(&out.join("recipe.toml")).unwrap_or_default() + &as_comments(&settings);
        return Ok((resolve(&RECIPES, &path.display().to_string(), &text, &settings)?, asked));
    }
    Ok(named(&arguments.recipe.recipe, &settings)?)
}

/// Options for reading the recipe's images.
fn reading(recipe: &Recipe) -> ReadOptions {
    ReadOptions { apply_orientation: recipe.data.apply_orientation }
}

fn dry_run(arguments: &Pretrain, recipe: &Recipe, trainer: &Trainer) -> anyhow::Result<ExitCode> {
    console::note(&difference(&arguments.recipe.recipe, recipe));
    console::note(&parts(trainer));
    console::result(&recipe.to_toml())?;
    let Forecast { bytes, time, measured_batch } = forecast(recipe, trainer.parameters())?;
    let all = time.mul_f64(trainer.total_steps() as f64);
    let (images, side) = (recipe.data.batch, recipe.augmentation.size);
    let flops = trainer.method().flops(images, side);
    let flops = flops.map_or_else(String::new, |flops| format!(" is about {flops:.3e} floating-point operations,"));
    console::note(&format!(
        "a step of {images} images has {:.0} MiB at most,{flops} and takes about {} on \
         this machine's CPU ({} for all; from steps of up to {measured_batch}), loading aside",
        bytes / f64::from(1 << 20),
        short(time),
        duration(all)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Number of parameters of each part: the backbone, each head, the target network.
fn parts(trainer: &Trainer) -> String {
    let method = trainer.method();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, slot) in method.params().trainable() {
        // equivariance.equimod.predictor.0.weight belongs to equivariance.equimod.predictor.
        let depth = if name.starts_with("equivariance.") { 3 } else { 2 };
        let part = if name.starts_with("backbone.") { 1 } else { depth };
        let part = name.split('.').take(part).collect::<Vec<_>>().join(".");
        *counts.entry(part).or_default() += slot.var.elem_count();
    }
    let list: Vec<String> = counts.iter().map(|(part, count)| format!("\n  {part}  {count}")).collect();
    let target = method
        .target()
        .map_or(String::new(), |target| format!("\n  target network (not trained)  {}", target.params().count("")));
    let (all, steps) = (method.params().count(""), trainer.total_steps());
    format!("{all} parameters, {steps} steps{}{target}", list.join(""))
}

/// Duration with one decimal in seconds, or in milliseconds.
fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

fn open_run(
    arguments: &Pretrain,
    recipe: &Recipe,
    asked: &str,
    trainer: &mut Trainer,
    device: &Device,
) -> anyhow::Result<(RunDirectory, RunInfo)> {
    if arguments.resume {
        return resume(arguments, recipe, asked, trainer);
    }
    let mut info = RunInfo {
        command: std::env::args().collect(),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        device: device::describe(device),
        ..trainer.info()
    };
    if let Some(model) = &arguments.from {
        info.from = Some(begin_from(trainer, model, device)?);
    }
    let folder = arguments.out.clone().unwrap_or_else(|| next_folder(&arguments.recipe.recipe));
    let run = RunDirectory::create(&folder, &info, asked, recipe)?;
    let (steps, about) = (trainer.total_steps(), &recipe.about);
    console::note(&format!("{about}: {steps} steps into {}", run.path().display()));
    console::note(&difference(&arguments.recipe.recipe, recipe));
    Ok((run, info))
}

fn resume(
    arguments: &Pretrain,
    recipe: &Recipe,
    asked: &str,
    trainer: &mut Trainer,
) -> anyhow::Result<(RunDirectory, RunInfo)> {
    let (run, mut info) = RunDirectory::open(&arguments.out.clone().unwrap_or_default())?;
    for reason in trainer.resume(&run)? {
        console::note(&format!("skipped: {reason}"));
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
    run.write_info(&info)?;
    console::note(&format!("going on with {} after step {}", run.path().display(), trainer.step()));
    Ok((run, info))
}

/// Loads initial weights, and reports which.
fn begin_from(trainer: &mut Trainer, path: &Path, device: &Device) -> anyhow::Result<Origin> {
    let model = model_argument::open(path, device)?;
    let taken = trainer.begin_from(&model)?;
    console::note(&format!("from {}: {}", model.path.display(), taken.summary()));
    // A model on the Hub is named with its commit.
    let named = if model.path.starts_with(path) { path } else { &model.path };
    Ok(Origin { model: named.display().to_string(), sha256: model.sha256 })
}

/// Settings in which the recipe differs from the built-in one that it builds on.
fn difference(name: &str, recipe: &Recipe) -> String {
    let Ok((base, original)) = base(name) else { return String::new() };
    let changes = changes(&original, recipe);
    if changes.is_empty() {
        return format!("every setting is as in {base}");
    }
    let value = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let lines = changes.into_iter().map(|c| format!("\n  {}: {} → {}", c.setting, value(c.from), value(c.to)));
    format!("settings that differ from {base}:{}", lines.collect::<String>())
}

/// First unused path `out/<recipe>-<number>`.
fn next_folder(recipe: &str) -> PathBuf {
    let name = Path::new(recipe).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = |number: u64| Path::new("out").join(format!("{name}-{number}"));
    (1..).map(folder).find(|folder| !folder.exists()).unwrap_or_else(|| folder(0))
}

fn sinks(arguments: &Pretrain, run: &RunDirectory, trainer: &Trainer) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = vec![
        Box::new(JsonLines::open(&run.path().join("metrics.jsonl"))?),
        Box::new(TensorBoard::open(run.path(), trainer.step())?),
        Box::new(TextLog::open(&run.path().join("train.log"))?),
        Box::new(Progress::new(trainer.step(), trainer.total_steps())),
    ];
    if let Some(steps) = arguments.profile {
        sinks.push(Box::new(Profile::start(&run.path().join("trace.json"), trainer.step() + steps)?));
    }
    Ok(sinks)
}

/// A run after its last step.
struct Finished<'a> {
    run: &'a RunDirectory,
    info: &'a RunInfo,
    recipe: &'a Recipe,
    dataset: &'a dyn Dataset,
    trainer: &'a Trainer,
}

impl Finished<'_> {
    /// Evaluates, writes results and the report, prints both, and suggests next steps.
    fn report(
        &self,
        arguments: &Pretrain,
        device: &Device,
        mut times: Vec<(String, String)>,
        cost: String,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let rows = match arguments.no_eval {
            true => Vec::new(),
            false => self.evaluate(device)?,
        };
        times.push(("evaluation".into(), duration(start.elapsed())));
        let results = self.results(rows, device)?;
        let rows = &results.rows;
        self.run.write("results.json", &serde_json::to_vec_pretty(&results)?)?;
        self.run.write("results.md", markdown(rows).as_bytes())?;
        let times: Vec<String> = times.iter().map(|(what, time)| format!("{what} {time}")).collect();
        let report = RunReport {
            run: self.run.path(),
            info: self.info,
            recipe: self.recipe,
            times: vec![("time".into(), times.join(", ")), ("cost".into(), cost)],
            results: rows,
            verdict: &results.verdict,
            dataset: self.dataset,
            policy: self.trainer.policy(),
        };
        self.run.write("report.html", report.html()?.as_bytes())?;
        if arguments.json {
            return console::json(&serde_json::json!({ "run": self.run.path(), "results": results }));
        }
        self.print(rows, &times.join(", "))
    }

    fn print(&self, rows: &[ResultRow], times: &str) -> anyhow::Result<()> {
        let folder = self.run.path().display();
        let mut text = format!("\n{}\nreport {folder}/report.html ({times})\n", plain(rows, false));
        // The name as it was called: with cargo, `equimod` is not in the search path.
        let program = std::env::args().next().unwrap_or_else(|| "equimod".into());
        text += &format!("\nNext:\n  {program} inspect {folder}\n");
        text += &format!("  {program} eval knn {folder} --data {} --k 5 --untrained\n", self.recipe.data.source);
        text += &match self.trainer.method().modules().first() {
            Some(module) if !matches!(self.recipe.objective, ObjectiveConfig::None(_)) => format!(
                "  {program} pretrain --recipe {folder}/recipe.resolved.toml --set equivariance.{0}.weight=0   # the \
                 same batches without {0}'s loss\n",
                module.name
            ),
            _ => format!("  {program} list recipes\n"),
        };
        console::result(&text)
    }

    /// Evaluates the last checkpoint and the untrained network with every protocol that the images support.
    fn evaluate(&self, device: &Device) -> anyhow::Result<Vec<ResultRow>> {
        console::note("evaluating");
        let splits = splits(&self.recipe.data.source, reading(self.recipe))?;
        let model = Model::load(self.run.path(), device)?;
        let (console, cache) = (Console::default(), self.run.path().join("eval/features"));
        let evaluation = || Evaluation::new(&model, &splits).seed(self.info.seed).cache(&cache).observer(&console);
        let mut rows = Vec::new();
        if splits.train.tasks().is_empty() {
            console::note("the images have no labels: only equivariance is measured");
        } else {
            rows = evaluation().with_untrained(true).measure(&SummaryProtocol::default())?.rows;
        }
        if self.trainer.method().modules().iter().any(|module| module.module.start().is_some()) {
            let overall = EquivarianceProtocol { each_augmentation: false, ..Default::default() };
            rows.extend(evaluation().measure(&overall)?.rows);
        }
        Ok(rows)
    }

    /// Results with their metadata, as they are written.
    fn results(&self, rows: Vec<ResultRow>, device: &Device) -> anyhow::Result<Results> {
        let model = Model::load(self.run.path(), device)?;
        let input = InputTransform::of(&model, None, Crop::Center)?;
        Ok(Results {
            format: FORMAT,
            version: self.info.version.clone(),
            command: self.info.command.clone(),
            seed: self.info.seed,
            models: vec![EvaluatedModel::of(&self.run.path().display().to_string(), &model, input)],
            rows,
            ..Results::default()
        })
    }
}
