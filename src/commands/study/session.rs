//! A study on this machine: its cells with opened images, sizes and budgets.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use equimod_core::Method;
use equimod_core::checkpoint::sha256;
use equimod_core::equivariance::Needs;
use equimod_data::Dataset;
use equimod_eval::study::{Measure, Run};
use equimod_train::{Change, Recipe, Trainer, changes};

use super::file::Match;
use super::merged::Merged;
use super::plan::{Plan, PlannedCell};
use crate::cli::{DevicesArgs, Pretrain, RecipeArgs, Shard, Shortcuts};
use crate::commands::pretrain::{Setup, Watcher};
use crate::inputs::sources::training;
use crate::outputs::console;
use crate::process::device;
use crate::process::launch::Launch;
use crate::process::signals::Signals;
use crate::reference::plain_name;
use crate::run::rehearsal::Rehearsal;

/// Deviation from the FLOPs of the baseline that is reported.
const INEXACT: f64 = 0.05;

/// An opened study.
pub struct Session {
    /// Cells with final recipes.
    pub plan: Plan,
    /// Sizes and budgets of the cells.
    pub sizes: Vec<CellSize>,
    /// Folder of the runs.
    pub out: PathBuf,
    /// Finished runs of other machines.
    pub merged: Merged,
    /// Devices of each run.
    pub devices: Vec<Device>,
    /// Signals.
    pub signals: Signals,
    device: String,
    data: BTreeMap<String, (Arc<dyn Dataset>, String)>,
}

/// Size and budget of a cell.
pub struct CellSize {
    /// Images in a step of the backbone, in words.
    pub images: String,
    /// Number of trained parameters.
    pub parameters: usize,
    /// Floating-point operations of a step, if the backbone counts its own.
    pub flops: Option<f64>,
    /// Number of steps.
    pub steps: u64,
}

impl CellSize {
    /// Cost of a run in a unit that all cells of a study share.
    pub fn work(&self) -> f64 {
        self.flops.unwrap_or(1.0) * self.steps as f64
    }
}

/// A run of the study.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Index of the cell.
    pub cell: usize,
    /// Seed.
    pub seed: u64,
    /// Run directory.
    pub folder: PathBuf,
}

impl Session {
    /// Opens the images of all cells, and determines sizes and budgets.
    ///
    /// # Errors
    ///
    /// If images or devices cannot be opened, or a recipe does not fit them.
    pub fn open(plan: Plan, out: PathBuf, device: &str) -> anyhow::Result<Self> {
        let (devices, signals) = (device::open_all(device)?, Signals::default());
        let (sizes, data, device) = (Vec::new(), BTreeMap::new(), device.to_owned());
        let mut session = Self { plan, sizes, out, merged: Merged::default(), devices, signals, device, data };
        let mut sizes = Vec::new();
        for number in 0..session.plan.cells.len() {
            let recipe = session.plan.cells[number].recipe.clone();
            session.open_data(&recipe)?;
            let trainer = session.trainer(&session.plan.cells[number])?;
            sizes.push(size(&trainer));
        }
        session.sizes = sizes;
        if session.plan.file.matched_by == Match::Flops {
            session.match_flops()?;
        }
        Ok(session)
    }

    fn open_data(&mut self, recipe: &Recipe) -> anyhow::Result<()> {
        if let Entry::Vacant(place) = self.data.entry(data_key(recipe)) {
            place.insert(training(&recipe.data.source, recipe.data.reading())?);
        }
        Ok(())
    }

    /// Trainer of a cell that does not train.
    ///
    /// # Errors
    ///
    /// If the recipe does not fit the images.
    pub fn trainer(&self, cell: &PlannedCell) -> anyhow::Result<Trainer> {
        let setup = self.setup(cell.recipe.clone(), String::new(), &self.out, false, Arc::new(|_| ()))?;
        setup.trainer(Rehearsal::shared(self.devices.len()))
    }

    /// Everything that a run needs; the training may go on with an earlier one.
    ///
    /// # Errors
    ///
    /// If the recipe names images that no cell has.
    pub fn setup(
        &self,
        mut recipe: Recipe,
        asked: String,
        folder: &Path,
        resume: bool,
        watcher: Watcher,
    ) -> anyhow::Result<Arc<Setup>> {
        let (devices, stop) = (self.devices.clone(), self.signals.stop.clone());
        let Some((dataset, source)) = self.data.get(&data_key(&recipe)) else {
            anyhow::bail!("the images of {} are not open", recipe.data.source);
        };
        recipe.execution = recipe.execution.on(&devices[0]);
        recipe.data.source.clone_from(source);
        let (dataset, arguments) = (dataset.clone(), self.arguments(folder, resume));
        Ok(Arc::new(Setup {
            arguments,
            launch: Launch::Alone,
            devices,
            recipe,
            asked,
            dataset,
            stop,
            watcher: Some(watcher),
            is_baseline: false,
        }))
    }

    fn arguments(&self, folder: &Path, resume: bool) -> Pretrain {
        let recipe = RecipeArgs {
            recipe: Some(self.plan.file.recipe.clone()),
            data: None,
            source: None,
            settings: Vec::new(),
            shortcuts: Shortcuts::default(),
        };
        Pretrain {
            recipe,
            out: Some(folder.into()),
            seed: None,
            epochs: None,
            resume,
            from: None,
            profile: None,
            dry_run: false,
            no_eval: true,
            baseline: false,
            no_baseline: true,
            json: false,
            device: DevicesArgs { device: self.device.clone() },
        }
    }

    /// Gives each cell the epochs that cost the FLOPs of its baseline.
    fn match_flops(&mut self) -> anyhow::Result<()> {
        let seed = self.plan.file.seeds.first().copied().unwrap_or(0);
        for number in 0..self.plan.cells.len() {
            let baseline = self.plan.cells[number].baselines.first().copied().unwrap_or(number);
            let (Some(own), Some(other)) = (self.sizes[number].flops, self.sizes[baseline].flops) else {
                anyhow::bail!("a backbone does not count its FLOPs; use match = \"steps\"");
            };
            let schedule = &self.plan.cells[number].recipe.schedule;
            let (before, steps) = (schedule.epochs, self.sizes[number].steps);
            let after = ((before as f64 * other / own).round() as u64).max(1);
            let excess = after as f64 * own / (before as f64 * other) - 1.0;
            if excess.abs() > INEXACT {
                console::note(&format!(
                    "{}: in whole epochs ({after}), its FLOPs differ by {:+.0} % from its baseline's; with more epochs, they \
                     match better",
                    self.plan.cells[number].name,
                    100.0 * excess
                ));
            }
            if after == before {
                continue;
            }
            let scale = after as f64 / before as f64;
            let (warmup, milestones) = (schedule.warmup_epochs * scale, schedule.milestones.clone());
            let milestones: Vec<f64> = milestones.iter().map(|epoch| epoch * scale).collect();
            let cell = &mut self.plan.cells[number];
            cell.set("schedule.epochs", &after.to_string());
            cell.set("schedule.warmup_epochs", &format!("{warmup:?}"));
            cell.set("schedule.milestones", &format!("{milestones:?}"));
            let (recipe, _) = self.plan.recipe(&self.plan.cells[number], seed)?;
            self.plan.cells[number].recipe = recipe;
            self.sizes[number].steps = steps / before * after;
        }
        Ok(())
    }

    /// The recipe of a run as it is trained, and its text as it was given.
    ///
    /// # Errors
    ///
    /// If the recipe cannot be resolved any more.
    pub fn recipe(&self, unit: &Unit) -> anyhow::Result<(Recipe, String)> {
        let (mut recipe, asked) = self.plan.recipe(&self.plan.cells[unit.cell], unit.seed)?;
        recipe.execution = recipe.execution.on(&self.devices[0]);
        if let Some((_, source)) = self.data.get(&data_key(&recipe)) {
            recipe.data.source.clone_from(source);
        }
        Ok((recipe, asked))
    }

    /// Hexadecimal SHA-256 of the settings in which the recipe of a run differs from the defaults: a later version with
    /// more settings has the same one.
    ///
    /// # Errors
    ///
    /// If the recipe cannot be resolved any more.
    pub fn recipe_hash(&self, unit: &Unit) -> anyhow::Result<String> {
        let (recipe, _) = self.recipe(unit)?;
        let line = |change: Change| format!("{} = {}\n", change.setting, change.to.unwrap_or_default());
        let lines: String = changes(&Recipe::default(), &recipe).into_iter().map(line).collect();
        Ok(sha256(lines.as_bytes()))
    }

    /// All runs, seed by seed, or those of a part.
    pub fn units(&self, shard: Option<Shard>) -> Vec<Unit> {
        let cells = 0..self.plan.cells.len();
        let of_seed = |&seed: &u64| cells.clone().map(move |cell| (cell, seed)).collect::<Vec<_>>();
        let all = self.plan.file.seeds.iter().flat_map(of_seed).enumerate();
        let wanted = all.filter(|(number, _)| shard.is_none_or(|Shard { part, parts }| number % parts == part - 1));
        let unit = |(_, (cell, seed)): (usize, (usize, u64))| {
            let name = &self.plan.cells[cell].name;
            Unit { cell, seed, folder: self.out.join("cells").join(name).join(format!("seed-{seed}")) }
        };
        wanted.map(unit).collect()
    }

    /// The run of a unit that was finished on another machine, and the measures of its values.
    pub fn merged(&self, unit: &Unit) -> Option<(&Run, &[Measure])> {
        self.merged.run(&self.plan.cells[unit.cell].name, unit.seed)
    }

    /// Devices as they were named.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Name of the training images of the first cell.
    pub fn data(&self) -> String {
        let source = self.plan.cells.first().and_then(|cell| self.data.get(&data_key(&cell.recipe)));
        source.map_or_else(String::new, |(_, source)| source.clone())
    }
}

fn data_key(recipe: &Recipe) -> String {
    format!("{} {:?}", plain_name(&recipe.data.source), recipe.data.reading())
}

fn size(trainer: &Trainer) -> CellSize {
    let (method, recipe) = (trainer.method(), trainer.recipe());
    CellSize {
        images: composition(method),
        parameters: method.params().count(""),
        flops: method.flops(recipe.data.batch, recipe.augmentation.size),
        steps: trainer.total_steps(),
    }
}

/// Images that pass through the backbone together in a step: those of the statistics of batch norm.
fn composition(method: &Method) -> String {
    let Needs { clean_view, small, shared_by, .. } = method.needs();
    let small = small.map_or_else(String::new, |small| format!(" + 4B of {} px", small.size));
    let shared = shared_by.map_or_else(String::new, |images| format!(", {images} share augmentations"));
    format!("{}{small}{shared}", if clean_view { "3B" } else { "2B" })
}
