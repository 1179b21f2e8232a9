//! The training loop: batches in; steps, logs, probes and checkpoints out.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use candle_core::Device;
use equimod_core::Agreement;
use equimod_core::optim::clip;
use equimod_data::{Batch, Batches, Skipped};

use super::{Ending, TrainContext, Trainer};
use crate::Result;
use crate::guard::Collapse;
use crate::metrics::{ProbeReport, Sink, StepReport};
use crate::pending::ReadSteps;
use crate::probe::{Best, Probe};
use crate::run_dir::RunDirectory;
use crate::speed::{Pace, Speed, Spent};
use crate::tensors::{rotate_parameters, step_batch};

impl Trainer {
    /// Trains until the last step, or until the stop flag is set. Saves checkpoints on schedule and before it returns.
    ///
    /// With several processes, all call this, and the first one alone writes, logs and evaluates. Images per second are
    /// those of all processes.
    ///
    /// # Errors
    ///
    /// If the data cannot be read, a file cannot be written, or training diverges. The run directory then keeps its
    /// last checkpoint and, after divergence, the evidence for a replay.
    pub fn run(
        &mut self,
        run: &RunDirectory,
        sinks: &mut [Box<dyn Sink>],
        probe: Option<&mut dyn Probe>,
    ) -> Result<Ending> {
        let total = self.total_steps();
        let is_first = self.context.collective.is_first();
        let (sinks, probe) = if is_first { (sinks, probe) } else { (Default::default(), None) };
        let mut probe = probe;
        if is_first {
            self.keep_listing(run)?;
        }
        self.check_start()?;
        let mut batches = self.loader.start(self.step)?;
        let (mut speed, mut collapse) = (Speed::new(self.recipe.data.batch), Collapse::default());
        speed.pause(self.context.collective.waited());
        while self.step < total {
            let Some(skipped) = self.next_step(&mut batches, &mut speed)? else { break };
            let Agreement { stop, has_batch, news } = self.agreed_state(&skipped)?;
            if news {
                self.note_skipped(run, skipped)?;
            }
            if stop || self.log_is_due() || self.pending.has_diverged()? {
                self.find_slowest(&speed)?;
                self.log_steps(run, sinks, &mut collapse)?;
            }
            let probed = self.probe_if_due(sinks, probe.as_deref_mut())?;
            if is_first && (probed || stop || self.checkpoint_is_due()) {
                flush(sinks)?;
                self.save(run)?;
            }
            if stop || self.checkpoint_is_due() || self.probe_is_due().is_some() {
                self.wait_for_all()?;
            }
            speed.pause(self.context.collective.waited());
            if !has_batch {
                break;
            }
            if stop {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// The stop flag, whether steps are left, and whether images were skipped, on which all processes agree after every
    /// step.
    fn agreed_state(&self, skipped: &[Skipped]) -> Result<Agreement> {
        let TrainContext { collective, stop, .. } = &self.context;
        let has_batch = self.step < self.total_steps();
        let own = Agreement { stop: stop.load(Ordering::SeqCst), has_batch, news: !skipped.is_empty() };
        Ok(own.reach(collective.as_ref())?)
    }

    /// Takes a step on the next batch; returns the images that were skipped in it, or `None` if there was no batch.
    fn next_step(&mut self, batches: &mut Batches, speed: &mut Speed) -> Result<Option<Vec<Skipped>>> {
        let batch = tracing::trace_span!("wait for data").in_scope(|| batches.next()).transpose()?;
        let Some(mut batch) = batch else { return Ok(None) };
        let data = batches.take_waited();
        if self.recipe.augmentation.shuffle_parameters {
            rotate_parameters(&mut batch);
        }
        let spent = self.take_step(&batch, self.learning_rate())?;
        speed.tick(Spent { data, ..spent }, self.context.collective.waited());
        self.pace = Pace { slowest: self.pace.slowest, ..speed.overall() };
        if let Some(report) = self.pending.newest() {
            report.pace = speed.recent();
            report.remaining = remaining(report);
        }
        let skipped = std::mem::take(&mut batch.skipped);
        batches.recycle(batch);
        Ok(Some(skipped))
    }

    /// Takes one optimizer step on `batch` and adds its report to the pending ones. Nothing is read from the device; a
    /// step whose loss or gradient is not finite leaves the weights unchanged, as do all later ones.
    pub(crate) fn take_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<Spent> {
        let _step = tracing::trace_span!("step", number = self.step).entered();
        // The images of a batch in several parts are copied to the device part by part.
        let device = &self.context.device;
        let devices = [if self.recipe.execution.parts > 1 { &Device::Cpu } else { device }, device];
        let dtypes = [self.method.compute_dtype(), self.method.params().dtype()];
        let tensors = step_batch(batch, &self.recipe.normalization, devices, dtypes)?;
        let mut outcome = self.method.gated_step(&tensors, self.progress(), &self.pending.gate()?)?;
        drop(tensors);
        let _update = tracing::trace_span!("optimizer").entered();
        let start = Instant::now();
        let norm = outcome.gradients.norm()?;
        let gate =
            self.pending.push(self.report(batch, learning_rate), &outcome, &norm, self.context.collective.as_ref())?;
        clip(&mut outcome.gradients, &norm, self.recipe.gradient.clip_norm)?;
        self.optimizer.gated_step(self.method.params(), &mut outcome.gradients, learning_rate, &gate)?;
        self.step += 1;
        let times = outcome.times;
        Ok(Spent {
            data: Duration::ZERO,
            forward: times.backbone_forward + times.heads_forward,
            backward: times.heads_backward + times.backbone_backward,
            optimizer: start.elapsed(),
            exchange: Duration::ZERO,
        })
    }

    /// Report of the next step, without the numbers that are on the device.
    fn report(&self, batch: &Batch, learning_rate: f64) -> StepReport {
        StepReport {
            step: self.step + 1,
            total_steps: self.total_steps(),
            epoch: batch.epoch + 1,
            epochs: self.recipe.schedule.epochs,
            learning_rate,
            ..StepReport::default()
        }
    }

    /// Whether pending steps are read from the device now: at every log step, and before a checkpoint or a probe.
    fn log_is_due(&self) -> bool {
        let every = self.recipe.log_every_steps.max(1);
        self.step.is_multiple_of(every) || self.checkpoint_is_due() || self.probe_is_due().is_some()
    }

    /// Reads the pending steps from the device and passes them to the loggers.
    fn log_steps(&mut self, run: &RunDirectory, sinks: &mut [Box<dyn Sink>], collapse: &mut Collapse) -> Result<()> {
        let ReadSteps { sound, diverged } = self.pending.read()?;
        self.context.collective.check().map_err(equimod_core::Error::from)?;
        for report in sound {
            for sink in sinks.iter_mut() {
                sink.step(&report)?;
            }
            if let Some(warning) = collapse.check(&report, &self.recipe.guard) {
                log(sinks, &warning)?;
            }
        }
        let warnings: Vec<String> = sinks.iter_mut().filter_map(|sink| sink.warning()).collect();
        warnings.iter().try_for_each(|warning| log(sinks, warning))?;
        match diverged {
            None => Ok(()),
            Some(divergence) => {
                flush(sinks)?;
                Err(self.keep_evidence(run, divergence))
            }
        }
    }

    /// Number of completed epochs, if the last step ended one.
    fn epoch_done(&self) -> Option<u64> {
        let steps = self.steps_per_epoch();
        self.step.is_multiple_of(steps).then(|| self.step / steps)
    }

    fn checkpoint_is_due(&self) -> bool {
        let checkpoint = &self.recipe.checkpoint;
        let epoch = self.epoch_done();
        let by_epochs = |every: u64| every > 0 && epoch.is_some_and(|epoch| epoch.is_multiple_of(every));
        let by_steps = checkpoint.every_steps > 0 && self.step.is_multiple_of(checkpoint.every_steps);
        let kept = by_epochs(checkpoint.keep_every_epochs);
        by_epochs(checkpoint.every_epochs) || kept || by_steps || self.step == self.total_steps()
    }

    /// Number of completed epochs, if a probe is due.
    fn probe_is_due(&self) -> Option<u64> {
        let every = self.recipe.probe.every_epochs;
        self.epoch_done().filter(|epoch| every > 0 && epoch.is_multiple_of(every))
    }

    /// Evaluates the network with the probe if one is due, and updates the best score; returns whether it did. A probe
    /// that fails is logged, and training continues, because the weights do not depend on it.
    fn probe_if_due(&mut self, sinks: &mut [Box<dyn Sink>], probe: Option<&mut (dyn Probe + '_)>) -> Result<bool> {
        let (Some(epoch), Some(probe)) = (self.probe_is_due(), probe) else { return Ok(false) };
        let _probe = tracing::trace_span!("probe").entered();
        let scores = match probe.evaluate(&self.model()?) {
            Ok(scores) => scores,
            Err(error) => {
                log(sinks, &format!("the probe after epoch {epoch} failed, training goes on: {error}"))?;
                return Ok(false);
            }
        };
        let report = ProbeReport { step: self.step, epoch, scores };
        for sink in sinks.iter_mut() {
            sink.probe(&report)?;
        }
        self.update_best(&report);
        Ok(true)
    }

    /// Keeps the step of the highest score; of equal scores, the earlier one.
    fn update_best(&mut self, report: &ProbeReport) {
        let name = self.recipe.probe.best_by.name();
        let score = report.scores.iter().find(|(score, _)| score == name).map(|(_, score)| *score);
        if let Some(score) = score.filter(|&score| self.best.is_none_or(|best| score > best.score)) {
            self.best = Some(Best { step: self.step, score });
        }
    }
}

fn flush(sinks: &mut [Box<dyn Sink>]) -> Result<()> {
    sinks.iter_mut().try_for_each(|sink| sink.flush())
}

fn log(sinks: &mut [Box<dyn Sink>], text: &str) -> Result<()> {
    sinks.iter_mut().try_for_each(|sink| sink.note(text))
}

/// Estimated time to the end of the run, at the throughput of the most recent steps.
fn remaining(report: &StepReport) -> Duration {
    let of_one = report.pace.seconds / report.pace.steps.max(1) as f64;
    Duration::from_secs_f64(of_one * (report.total_steps - report.step) as f64)
}
