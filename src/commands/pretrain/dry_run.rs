//! `pretrain --dry-run`: the resolved recipe, and the cost of a step.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use equimod_train::Trainer;

use super::Setup;
use super::session::begin_from;
use crate::outputs::console::{self, duration};
use crate::process::device;
use crate::run::forecast::{Forecast, Measured, forecast, measure};
use crate::run::probe::LabeledProbe;
use crate::run::rehearsal::Rehearsal;

/// Bytes of a MiB.
const MIB: f64 = 1024.0 * 1024.0;

impl Setup {
    /// Prints the recipe, the number of parameters, and the memory and time of a step on each rank.
    ///
    /// # Errors
    ///
    /// If the recipe does not fit the images or the ranks, or a step fails.
    pub fn dry_run(&self) -> anyhow::Result<ExitCode> {
        let (recipe, ranks) = (&self.recipe, self.ranks());
        let mut trainer = self.trainer(Rehearsal::shared(ranks))?;
        LabeledProbe::of(recipe)?;
        if let Some(model) = &self.arguments.from {
            begin_from(&mut trainer, model, &self.devices[0])?;
        }
        console::note(&self.difference());
        console::note(&parts(&trainer));
        self.large_rate().iter().chain(&self.idle_probe()).for_each(|text| console::note(text));
        console::result(&recipe.to_toml())?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads()).build()?;
        let parameters = trainer.parameters();
        let Forecast { bytes, exchanged, time, measured_batch } =
            pool.install(|| forecast(recipe, parameters, ranks))?;
        let all = time.mul_f64(trainer.total_steps() as f64);
        let (images, side) = (recipe.data.batch / ranks, recipe.augmentation.size);
        let flops = trainer.method().flops(images, side);
        let flops = flops.map_or_else(String::new, |flops| format!(" is about {flops:.3e} floating-point operations,"));
        let (each, exchange) = match ranks {
            1 => (String::new(), String::new()),
            _ => (format!("on each of {ranks} ranks, "), format!(" gives {:.1} MiB to exchanges,", exchanged / MIB)),
        };
        console::note(&format!(
            "{each}a step of {images} images has {:.0} MiB at most,{flops}{exchange} and takes about {} on this \
             machine's CPU ({} for all; from steps of up to {measured_batch}), loading aside",
            bytes / MIB,
            short(time),
            duration(all)
        ));
        if !self.devices[0].is_cpu() {
            console::note(&self.on_device(&trainer)?);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Memory and time of a step on the first device.
    fn on_device(&self, trainer: &Trainer) -> anyhow::Result<String> {
        let (recipe, ranks, device) = (&self.recipe, self.ranks(), &self.devices[0]);
        let (images, name) = (recipe.data.batch / ranks, device::describe(device));
        let Measured { bytes, time } = measure(recipe, trainer.parameters(), ranks, device).with_context(|| {
            format!("a step of {images} images fails on {name}; if its memory is too small, raise execution.parts")
        })?;
        let memory = bytes.map_or_else(String::new, |bytes| format!("has {} MiB at most and ", bytes >> 20));
        Ok(format!("on {name}, a step of {images} images {memory}takes {}, loading aside", short(time)))
    }
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
