//! The loop, and nothing but the loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use equimod_core::checkpoint::{from_bytes, load_strict, read_folder, to_bytes};
use equimod_core::method::MoreModules;
use equimod_core::model::{MODEL_FILE, TARGET_FILE, checkpoint_folders};
use equimod_core::optim::Schedule;
use equimod_core::{
    Description, Method, Moment, Optimizer, PairValue, Parameters, Placement, Preprocessing, SharedCollective,
    SingleProcess, StepBatch,
};
use equimod_data::augment::FLAG;
use equimod_data::{
    Batch, Dataset, Encoding, LayoutConfig, Loader, LoaderConfig, ParamLayout, ParamValue, Pixels, Policy,
};
use serde::{Deserialize, Serialize};

use crate::guard;
use crate::metrics::{Sink, StepReport};
use crate::recipe::Recipe;
use crate::run_dir::{FORMAT, RunDirectory, RunInfo, Status};
use crate::{Error, Result};

/// Steps over which speed and waiting are averaged.
const WINDOW: usize = 20;
/// Batches made ahead.
const PREFETCH: usize = 2;
/// Pictures whose sizes the statistics of parameters are computed over, at most.
const STATISTICS_PICTURES: usize = 10_000;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";

/// Where a run is carried out.
pub struct Surroundings {
    /// Where tensors live.
    pub device: Device,
    /// The processes that train together.
    pub collective: SharedCollective,
    /// Threads that make batches.
    pub loader_threads: usize,
    /// Set from outside to stop after the current step.
    pub stop: Arc<AtomicBool>,
    /// Version of the program, for the files it writes.
    pub version: String,
}

impl Surroundings {
    /// One process that nobody stops.
    pub fn alone(device: Device, loader_threads: usize, version: &str) -> Self {
        let (collective, stop) = (SingleProcess::shared(), Arc::default());
        Self { device, collective, loader_threads, stop, version: version.into() }
    }
}

/// How a call of [`Trainer::run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// Stopped on request, after a checkpoint.
    Interrupted,
}

/// What a checkpoint holds beside tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedState {
    step: u64,
    recipe: Recipe,
    data_fingerprint: String,
}

/// A method in training.
pub struct Trainer {
    recipe: Recipe,
    surroundings: Surroundings,
    method: Method,
    optimizer: Box<dyn Optimizer>,
    loader: Loader,
    policy: Policy,
    layout: ParamLayout,
    /// Of vectors from view to view, if the method needs them.
    pairs: Option<ParamLayout>,
    parameters: Parameters,
    fingerprint: String,
    step: u64,
    /// Pictures that did not decode and were written down.
    told: Option<BTreeSet<usize>>,
}

impl Trainer {
    /// Prepares a run of `recipe` on `dataset`, at its first step.
    pub fn new(recipe: Recipe, dataset: Arc<dyn Dataset>, surroundings: Surroundings) -> Result<Self> {
        Self::with_modules(recipe, dataset, surroundings, &|_, _| Ok(Vec::new()))
    }

    /// As [`new`](Self::new), with `more` equivariance modules than the recipe names.
    pub fn with_modules(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        surroundings: Surroundings,
        more: MoreModules,
    ) -> Result<Self> {
        if surroundings.collective.size() > 1 {
            return Err(Error::DataSet("training by several processes is not there yet; train with one".into()));
        }
        let a = &recipe.augmentation;
        let (policy, config, sizes) = (a.policy()?, a.layout()?, dataset.sample_sizes(STATISTICS_PICTURES)?);
        let layout = ParamLayout::new(&policy, &config, &sizes)?;
        let pairs = LayoutConfig { encoding: Encoding::Pairwise, fields: config.fields, ..LayoutConfig::default() };
        let pairs = ParamLayout::new(&policy, &pairs, &sizes).map(ParamLayout::both_ways);
        // A method that needs them says so where there are none.
        let pair = pairs.as_ref().map_or_else(|_| Vec::new(), |layout| pair_values(&policy, layout));
        let parameters = Parameters { view: layout.width(), pair };
        let placement = Placement {
            seed: recipe.seed,
            dtype: DType::F32,
            device: &surroundings.device,
            collective: surroundings.collective.clone(),
            execution: recipe.execution,
        };
        let method =
            Method::with_modules(&recipe.method(), &parameters, placement, more).map_err(|error| match error {
                equimod_core::Error::Config(problem) => Error::Recipe(vec![problem]),
                other => other.into(),
            })?;
        let needs = method.needs();
        if needs.parameters && layout.encoding == Encoding::Pairwise {
            return Err(Error::Recipe(vec![
                "a module needs the parameters of views; give augmentation.encoding = \"published\" or \"size-normalised\""
                    .into(),
            ]));
        }
        if let Some(chunk) = needs.shared_by.filter(|chunk| !recipe.data.batch.is_multiple_of(*chunk)) {
            let batch = recipe.data.batch;
            return Err(Error::Recipe(vec![format!(
                "data.batch is {batch}, but a module shares augmentations {chunk} by {chunk}; give a multiple of {chunk}"
            )]));
        }
        let pairs = if needs.pairs { Some(pairs?) } else { None };
        let small = needs.small.map(|small| policy.views[0].with_crop(small.size, small.scale)).transpose()?;
        let config = LoaderConfig {
            seed: recipe.seed,
            batch: recipe.data.batch,
            clean: needs.clean_view,
            params: needs.parameters,
            pairs: pairs.clone(),
            small,
            shared_by: needs.shared_by,
            threads: surroundings.loader_threads,
            prefetch: PREFETCH,
            window: Some(recipe.data.shuffle_window).filter(|&window| window > 0),
            skip_share: recipe.data.skip_share,
            ..LoaderConfig::default()
        };
        let fingerprint = dataset.fingerprint()?;
        let loader = Loader::new(dataset, policy.clone(), layout.clone(), &config)?;
        let optimizer = recipe.optimizer.build();
        Ok(Self {
            recipe,
            surroundings,
            method,
            optimizer,
            loader,
            policy,
            layout,
            pairs,
            parameters,
            fingerprint,
            step: 0,
            told: None,
        })
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.recipe.schedule.epochs * self.loader.batches() as u64
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What is trained.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Hexadecimal SHA-256 of what decides the pictures.
    pub fn data_fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What makes its batches.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// How views are made.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What parameter vectors hold.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Trains up to the last step, or until a stop is asked for; saves checkpoints on the way and at the end.
    pub fn run(&mut self, run: &RunDirectory, sinks: &mut [Box<dyn Sink>]) -> Result<Ending> {
        let (total, per_epoch) = (self.total_steps(), self.loader.batches() as u64);
        let rates = self.recipe.learning_rates(per_epoch);
        let mut batches = self.loader.start(self.step)?;
        let mut clock = Clock::new();
        while self.step < total {
            let Some(batch) = batches.next().transpose()? else { break };
            let waited = batches.take_waited();
            let mut report = self.take_step(&batch, rates.rate(self.step))?;
            clock.tick(waited, self.recipe.data.batch);
            clock.fill(&mut report);
            run.note_skipped(&batch.skipped, &mut self.told)?;
            batches.recycle(batch);
            for sink in sinks.iter_mut() {
                sink.step(&report)?;
            }
            let stop = self.surroundings.stop.load(Ordering::SeqCst);
            let epoch_done = self.step.is_multiple_of(per_epoch);
            let due = epoch_done && (self.step / per_epoch).is_multiple_of(self.recipe.checkpoint.every_epochs);
            if due || stop || self.step == total {
                for sink in sinks.iter_mut() {
                    sink.flush()?;
                }
                self.save(run)?;
            }
            if stop && self.step < total {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    fn take_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<StepReport> {
        let tensors = self.tensors(batch)?;
        let moment = Moment { step: self.step, total: self.total_steps() };
        let mut outcome = self.method.step(&tensors, moment)?;
        let gradient_norm = guard::check(&outcome, self.step)?;
        self.optimizer.step(self.method.params(), &mut outcome.gradients, learning_rate)?;
        self.step += 1;
        Ok(StepReport {
            step: self.step,
            total_steps: self.total_steps(),
            epoch: batch.epoch + 1,
            epochs: self.recipe.schedule.epochs,
            learning_rate,
            loss: outcome.loss,
            gradient_norm,
            metrics: outcome.metrics,
            elapsed: Duration::ZERO,
            images_per_second: 0.0,
            wait_share: 0.0,
            remaining: Duration::ZERO,
        })
    }

    /// The batch on the device, normalised.
    fn tensors(&self, batch: &Batch) -> Result<StepBatch> {
        let device = &self.surroundings.device;
        let normalise = |pixels: &Pixels| -> Result<Tensor> {
            let shape = (pixels.count, pixels.size.height, pixels.size.width);
            Ok(self.recipe.normalisation.tensor(&pixels.bytes, shape, device, DType::F32)?)
        };
        let [first, second] = batch.views.as_slice() else {
            return Err(Error::DataSet(format!("the policy makes {} views, training needs two", batch.views.len())));
        };
        let vectors = |vectors: &[Vec<f32>], width: usize| -> Result<Tensor> {
            let values: Vec<f32> = vectors.concat();
            let rows = values.len() / width.max(1);
            Ok(Tensor::from_vec(values, (rows, width), device)?)
        };
        let params = self.method.needs().parameters.then(|| vectors(&batch.params, self.layout.width())).transpose()?;
        let pairs = self.pairs.as_ref().map(|layout| vectors(&batch.pairs, layout.width())).transpose()?;
        let clean = batch.clean.as_ref().map(normalise).transpose()?;
        let small = batch.small.as_ref().map(normalise).transpose()?;
        Ok(StepBatch { clean, views: [normalise(first)?, normalise(second)?], small, params, pairs })
    }

    /// `run.json` of a run that begins; command line, host and device are left to whoever knows them.
    pub fn info(&self) -> RunInfo {
        RunInfo {
            format: FORMAT,
            status: Status::Running,
            version: self.surroundings.version.clone(),
            command: Vec::new(),
            host: String::new(),
            device: String::new(),
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            resumed_at: Vec::new(),
        }
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What is written beside the weights.
    pub fn description(&self) -> Description {
        Description {
            version: self.surroundings.version.clone(),
            method: self.recipe.method(),
            preprocessing: Preprocessing {
                size: self.recipe.augmentation.size,
                normalisation: self.recipe.normalisation,
            },
            parameters: self.parameters.clone(),
            augmentation: serde_json::json!({ "policy": self.policy, "layout": self.layout, "pairs": self.pairs }),
            target: false,
            step: self.step,
            seed: self.recipe.seed,
        }
    }

    fn described(&self, description: Description) -> Result<String> {
        serde_json::to_string(&description).map_err(|e| Error::RunDirectory(e.to_string()))
    }

    fn save(&self, run: &RunDirectory) -> Result<()> {
        let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|e| Error::RunDirectory(e.to_string()));
        let description = self.described(self.description())?;
        let state =
            SavedState { step: self.step, recipe: self.recipe.clone(), data_fingerprint: self.fingerprint.clone() };
        let mut files = vec![
            (MODEL_FILE, to_bytes(&self.method.params().tensors(""), &description)?),
            (OPTIMIZER_FILE, to_bytes(&self.optimizer.state(), "{}")?),
            (STATE_FILE, json(serde_json::to_vec_pretty(&state))?),
        ];
        if let Some(target) = self.method.target() {
            let description = self.described(Description { target: true, ..self.description() })?;
            files.push((TARGET_FILE, to_bytes(&target.params().tensors(""), &description)?));
        }
        run.save(self.step, &files, self.recipe.checkpoint.keep)?;
        Ok(())
    }

    /// Takes over the newest checkpoint of `run` that verifies; returns why newer ones were passed over.
    pub fn resume(&mut self, run: &RunDirectory) -> Result<Vec<String>> {
        let mut skipped = Vec::new();
        for folder in checkpoint_folders(run.path())? {
            match read_folder(&folder) {
                Ok(files) => {
                    self.restore(&files, &folder)?;
                    return Ok(skipped);
                }
                Err(error) => skipped.push(error.to_string()),
            }
        }
        Err(Error::RunDirectory(format!("{} has no complete checkpoint to go on from", run.path().display())))
    }

    fn restore(&mut self, files: &BTreeMap<String, Vec<u8>>, folder: &std::path::Path) -> Result<()> {
        let file = |name: &str| {
            let missing = || Error::RunDirectory(format!("{} holds no {name}", folder.display()));
            files.get(name).map(Vec::as_slice).ok_or_else(missing)
        };
        let state: SavedState = serde_json::from_slice(file(STATE_FILE)?)
            .map_err(|e| Error::RunDirectory(format!("{}: {STATE_FILE} cannot be read: {e}", folder.display())))?;
        if state.recipe != self.recipe {
            let changed = differences(&state.recipe, &self.recipe).join(", ");
            return Err(Error::Recipe(vec![format!("a resumed run keeps its settings, but these differ: {changed}")]));
        }
        if state.data_fingerprint != self.fingerprint {
            return Err(Error::DataSet("the pictures are not those that the run was started with".into()));
        }
        let device = &self.surroundings.device;
        let path = folder.join(MODEL_FILE);
        load_strict(self.method.params(), &from_bytes(file(MODEL_FILE)?, &path, device)?.tensors, &path)?;
        if let Some(target) = self.method.target() {
            let path = folder.join(TARGET_FILE);
            load_strict(target.params(), &from_bytes(file(TARGET_FILE)?, &path, device)?.tensors, &path)?;
        }
        let path = folder.join(OPTIMIZER_FILE);
        self.optimizer.load_state(from_bytes(file(OPTIMIZER_FILE)?, &path, device)?.tensors)?;
        self.step = state.step;
        Ok(())
    }
}

/// What the values of a pairwise layout are, for modules.
fn pair_values(policy: &Policy, layout: &ParamLayout) -> Vec<PairValue> {
    let value = |(value, (&mean, &std)): (ParamValue, (&f32, &f32))| PairValue {
        name: value.name.into(),
        augmentation: value.augmentation.into(),
        mean,
        std,
        reach: value.largest - value.least,
        flag: value.unit == FLAG,
    };
    layout.values(policy).into_iter().zip(layout.mean.iter().zip(&layout.std)).map(value).collect()
}

/// The names of the settings in which two recipes differ.
fn differences(a: &Recipe, b: &Recipe) -> Vec<String> {
    let lines = |recipe: &Recipe| -> Vec<String> {
        let mut section = String::new();
        let mut named = Vec::new();
        for line in recipe.to_toml().lines() {
            match line.strip_prefix('[') {
                Some(name) => section = format!("{}.", name.trim_end_matches(']')),
                None => named.push(format!("{section}{line}")),
            }
        }
        named
    };
    let (a, b) = (lines(a), lines(b));
    let name = |line: &String| line.split(" = ").next().unwrap_or_default().to_owned();
    let mut names: Vec<String> =
        a.iter().filter(|l| !b.contains(l)).chain(b.iter().filter(|l| !a.contains(l))).map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// Speed over the last steps.
struct Clock {
    start: Instant,
    last: Instant,
    /// Duration, waiting and pictures of each step.
    steps: VecDeque<(Duration, Duration, usize)>,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self { start: now, last: now, steps: VecDeque::with_capacity(WINDOW) }
    }

    fn tick(&mut self, waited: Duration, images: usize) {
        let now = Instant::now();
        if self.steps.len() == WINDOW {
            self.steps.pop_front();
        }
        self.steps.push_back((now - self.last, waited, images));
        self.last = now;
    }

    fn fill(&self, report: &mut StepReport) {
        let sum = |f: &dyn Fn(&(Duration, Duration, usize)) -> f64| self.steps.iter().map(f).sum::<f64>();
        let seconds = sum(&|s| s.0.as_secs_f64()).max(1e-9);
        report.elapsed = self.start.elapsed();
        report.images_per_second = sum(&|s| s.2 as f64) / seconds;
        report.wait_share = sum(&|s| s.1.as_secs_f64()) / seconds;
        let per_step = seconds / self.steps.len().max(1) as f64;
        report.remaining = Duration::from_secs_f64(per_step * (report.total_steps - report.step) as f64);
    }
}
