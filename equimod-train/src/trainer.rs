//! The loop, and nothing but the loop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;
use equimod_core::backbone::BackboneBuilder;
use equimod_core::method::ModuleBuilder;
use equimod_core::optim::{Schedule, clip};
use equimod_core::{
    Description, Extensions, Method, Optimizer, PairValue, Parameters, Placement, Preprocessing, Progress,
    SharedCollective, SingleProcess, ViewValue,
};
use equimod_data::augment::FLAG;
use equimod_data::{Batch, Dataset, Encoding, LayoutConfig, Loader, LoaderConfig, ParamLayout, ParamValue, Policy};

use crate::guard::Collapse;
use crate::metrics::{ProbeReport, Sink, StepReport};
use crate::pending::{PendingSteps, ReadSteps};
use crate::probe::{Best, Probe};
use crate::recipe::Recipe;
use crate::run_dir::{RunDirectory, RunInfo};
use crate::speed::{Pace, Speed, Spent};
use crate::tensors::step_batch;
use crate::{Error, Result};

/// Batches made ahead.
const PREFETCH: usize = 2;
/// Pictures whose sizes the statistics of parameters are computed over, at most.
const STATISTICS_PICTURES: usize = 10_000;

/// Device, processes and threads of a run, and the flag that stops it.
pub struct TrainContext {
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

impl TrainContext {
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

/// A method in training.
pub struct Trainer {
    pub(crate) recipe: Recipe,
    pub(crate) context: TrainContext,
    pub(crate) method: Method,
    pub(crate) optimizer: Box<dyn Optimizer>,
    loader: Loader,
    policy: Policy,
    layout: ParamLayout,
    /// Of vectors from view to view, if the method needs them.
    pairs: Option<ParamLayout>,
    parameters: Parameters,
    pub(crate) fingerprint: String,
    pub(crate) step: u64,
    /// Steps whose loss and metrics are still on the device.
    pub(crate) pending: PendingSteps,
    pub(crate) best: Option<Best>,
    /// Pictures that did not decode and were written down.
    told: Option<BTreeSet<usize>>,
    pace: Pace,
}

impl Trainer {
    /// Prepares a run of `recipe` on `dataset`, at its first step.
    pub fn new(recipe: Recipe, dataset: Arc<dyn Dataset>, context: TrainContext) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::default())
    }

    /// As [`new`](Self::new), with a backbone that the program brings along; the recipe's is `kind = "custom"`.
    pub fn with_backbone(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        backbone: BackboneBuilder,
    ) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::backbone(backbone))
    }

    /// As [`new`](Self::new), with equivariance modules beside those that the recipe names.
    pub fn with_modules(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        modules: ModuleBuilder,
    ) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::modules(modules))
    }

    /// As [`new`](Self::new), with parts of the method that the program brings along.
    pub fn with_extensions(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        extensions: Extensions,
    ) -> Result<Self> {
        if context.collective.size() > 1 {
            return Err(Error::DataSet("training by several processes is not there yet; train with one".into()));
        }
        let a = &recipe.augmentation;
        let (policy, config, sizes) = (a.policy()?, a.layout()?, dataset.sample_sizes(STATISTICS_PICTURES)?);
        let layout = ParamLayout::new(&policy, &config, &sizes)?;
        let pairs = LayoutConfig { encoding: Encoding::Pairwise, fields: config.fields, ..LayoutConfig::default() };
        let pairs = ParamLayout::new(&policy, &pairs, &sizes).map(ParamLayout::both_ways);
        // A method that needs them says so where there are none.
        let pair = pairs.as_ref().map_or_else(|_| Vec::new(), |layout| pair_values(&policy, layout));
        let parameters = Parameters { view: view_values(&policy, &layout), pair };
        let placement = Placement {
            seed: recipe.seed,
            dtype: recipe.execution.precision.dtype(),
            device: &context.device,
            image_size: recipe.augmentation.size,
            collective: context.collective.clone(),
            execution: recipe.execution,
        };
        let method = Method::with_extensions(&recipe.method(), &parameters, placement, extensions).map_err(
            |error| match error {
                equimod_core::Error::Config(problem) => Error::Recipe(vec![problem]),
                other => other.into(),
            },
        )?;
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
            threads: context.loader_threads,
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
            context,
            method,
            optimizer,
            loader,
            policy,
            layout,
            pairs,
            parameters,
            fingerprint,
            step: 0,
            pending: PendingSteps::default(),
            best: None,
            told: None,
            pace: Pace::default(),
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

    /// How fast the last call of [`run`](Self::run) was.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The best probe so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Trains up to the last step, or until a stop is asked for; saves checkpoints on the way and at the end.
    pub fn run(
        &mut self,
        run: &RunDirectory,
        sinks: &mut [Box<dyn Sink>],
        mut probe: Option<&mut dyn Probe>,
    ) -> Result<Ending> {
        let total = self.total_steps();
        self.keep_listing(run)?;
        let mut batches = self.loader.start(self.step)?;
        let (mut speed, mut collapse) = (Speed::new(self.recipe.data.batch), Collapse::default());
        while self.step < total {
            let Some(batch) = tracing::trace_span!("wait for data").in_scope(|| batches.next()).transpose()? else {
                break;
            };
            let data = batches.take_waited();
            let spent = self.take_step(&batch, self.learning_rate())?;
            speed.tick(Spent { data, ..spent });
            self.pace = speed.overall();
            if let Some(report) = self.pending.newest() {
                report.pace = speed.recent();
                report.remaining = remaining(report);
            }
            run.note_skipped(&batch.skipped, &mut self.told)?;
            batches.recycle(batch);
            let stop = self.context.stop.load(Ordering::SeqCst);
            if stop || self.log_is_due() {
                self.log_steps(run, sinks, &mut collapse)?;
            }
            let probed = self.probe_if_due(sinks, probe.as_deref_mut())?;
            if probed || stop || self.checkpoint_is_due() {
                flush(sinks)?;
                self.save(run)?;
            }
            speed.pause();
            if stop && self.step < total {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// Batches in an epoch.
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.loader.batches() as u64
    }

    /// The number of epochs that are done, if the last step was the end of one.
    fn epoch_done(&self) -> Option<u64> {
        let steps = self.steps_per_epoch();
        self.step.is_multiple_of(steps).then(|| self.step / steps)
    }

    /// Whether the steps so far are read from the device: at every log step, and before anything that they decide on.
    fn log_is_due(&self) -> bool {
        let every = self.recipe.log_every_steps.max(1);
        self.step.is_multiple_of(every) || self.checkpoint_is_due() || self.probe_is_due().is_some()
    }

    /// Reads the steps since the last time from the device, and hands them to the loggers.
    fn log_steps(&mut self, run: &RunDirectory, sinks: &mut [Box<dyn Sink>], collapse: &mut Collapse) -> Result<()> {
        let ReadSteps { sound, diverged } = self.pending.read()?;
        for report in sound {
            for sink in sinks.iter_mut() {
                sink.step(&report)?;
            }
            if let Some(warning) = collapse.check(&report, &self.recipe.guard) {
                log(sinks, &warning)?;
            }
        }
        match diverged {
            None => Ok(()),
            Some(divergence) => {
                flush(sinks)?;
                Err(self.keep_evidence(run, divergence))
            }
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let checkpoint = &self.recipe.checkpoint;
        let epoch = self.epoch_done();
        let of_epoch = |every: u64| every > 0 && epoch.is_some_and(|epoch| epoch.is_multiple_of(every));
        let of_steps = checkpoint.every_steps > 0 && self.step.is_multiple_of(checkpoint.every_steps);
        let kept = of_epoch(checkpoint.keep_every_epochs);
        of_epoch(checkpoint.every_epochs) || kept || of_steps || self.step == self.total_steps()
    }

    /// The number of epochs that are done, if it is time for a probe.
    fn probe_is_due(&self) -> Option<u64> {
        let every = self.recipe.probe.every_epochs;
        self.epoch_done().filter(|epoch| every > 0 && epoch.is_multiple_of(every))
    }

    /// Has the probe look at the network if it is time; whether it did.
    fn probe_if_due(&mut self, sinks: &mut [Box<dyn Sink>], probe: Option<&mut (dyn Probe + '_)>) -> Result<bool> {
        let (Some(epoch), Some(probe)) = (self.probe_is_due(), probe) else { return Ok(false) };
        let _probe = tracing::trace_span!("probe").entered();
        let scores = match probe.evaluate(&self.model()?) {
            Ok(scores) => scores,
            // Nothing that is trained depends on it.
            Err(error) => {
                log(sinks, &format!("the probe after epoch {epoch} failed, training goes on: {error}"))?;
                return Ok(false);
            }
        };
        let report = ProbeReport { step: self.step, epoch, scores };
        for sink in sinks.iter_mut() {
            sink.probe(&report)?;
        }
        let name = self.recipe.probe.best_by.name();
        let score = report.scores.iter().find(|(score, _)| score == name).map(|(_, score)| *score);
        if let Some(score) = score.filter(|&score| self.best.is_none_or(|best| score > best.score)) {
            self.best = Some(Best { step: self.step, score });
        }
        Ok(true)
    }

    /// Takes a step, whose report is then among the pending ones: nothing is read from the device.
    pub(crate) fn take_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<Spent> {
        let _step = tracing::trace_span!("step", number = self.step).entered();
        // Parts of a batch go to the device one by one.
        let device = if self.recipe.execution.parts > 1 { &Device::Cpu } else { &self.context.device };
        let dtype = self.method.params().dtype();
        let tensors = step_batch(batch, &self.recipe.normalisation, device, dtype)?;
        let mut outcome = self.method.gated_step(&tensors, self.progress(), &self.pending.gate()?)?;
        drop(tensors);
        let _update = tracing::trace_span!("optimizer").entered();
        let start = Instant::now();
        let report = StepReport {
            step: self.step + 1,
            total_steps: self.total_steps(),
            epoch: batch.epoch + 1,
            epochs: self.recipe.schedule.epochs,
            learning_rate,
            ..StepReport::default()
        };
        let norm = outcome.gradients.norm()?;
        let gate = self.pending.push(report, &outcome, &norm)?;
        clip(&mut outcome.gradients, &norm, self.recipe.gradient.clip_norm)?;
        self.optimizer.gated_step(self.method.params(), &mut outcome.gradients, learning_rate, &gate)?;
        self.step += 1;
        let times = outcome.times;
        Ok(Spent {
            data: Duration::ZERO,
            forward: times.backbone_forward + times.heads_forward,
            backward: times.heads_backward + times.backbone_backward,
            optimizer: start.elapsed(),
        })
    }

    /// The rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.recipe.learning_rates(self.steps_per_epoch()).rate(self.step)
    }

    /// Where in the run the next step is.
    pub(crate) fn progress(&self) -> Progress {
        Progress { step: self.step, total: self.total_steps() }
    }

    /// `run.json` of a run that begins; command line, host and device are left to whoever knows them.
    pub fn info(&self) -> RunInfo {
        RunInfo {
            version: self.context.version.clone(),
            seed: self.recipe.seed,
            data_fingerprint: self.fingerprint.clone(),
            ..RunInfo::default()
        }
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What is written beside the weights.
    pub fn description(&self) -> Description {
        Description {
            version: self.context.version.clone(),
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
}

/// The values of a layout of views, for modules.
fn view_values(policy: &Policy, layout: &ParamLayout) -> Vec<ViewValue> {
    let value = |(value, (&mean, &std)): (ParamValue, (&f32, &f32))| ViewValue {
        name: value.name.into(),
        augmentation: value.augmentation.into(),
        mean,
        std,
        flag: value.unit == FLAG,
    };
    layout.values(policy).into_iter().zip(layout.mean.iter().zip(&layout.std)).map(value).collect()
}

/// The values of a pairwise layout, for modules.
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

fn flush(sinks: &mut [Box<dyn Sink>]) -> Result<()> {
    sinks.iter_mut().try_for_each(|sink| sink.flush())
}

fn log(sinks: &mut [Box<dyn Sink>], text: &str) -> Result<()> {
    sinks.iter_mut().try_for_each(|sink| sink.note(text))
}

/// Until the end, at the pace of the last steps.
fn remaining(report: &StepReport) -> Duration {
    let of_one = report.pace.seconds / report.pace.steps.max(1) as f64;
    Duration::from_secs_f64(of_one * (report.total_steps - report.step) as f64)
}
