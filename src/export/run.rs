//! Files that a run directory adds to an export (recipe, curves, results), or files that are carried over from an
//! earlier export.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use equimod_core::Model;
use equimod_core::model::{CONFIG_FILE, HEADS_FILE, MODEL_FILE};
use equimod_eval::results::{DIFFERENCE, Results, markdown};
use equimod_train::run_dir::RESOLVED;
use equimod_train::{Origin, RunInfo, Status, recorded, recorded_text};
use serde_json::Value;
use shlex::try_join;

use super::{hub_results, sums};
use crate::artifact::{CARD_FILE, Files, IMPORTED_KEY, RESULTS_FILE, StartingWeights, TABLE_FILE, Training};
use crate::export::scan::{LocalPaths, last_part};
use crate::process::exit::Usage;
use crate::reference::PREFIX;
use crate::run_state::{METRICS_FILE, run_of, unrecorded_seconds};

/// File name of a run's recipe in an export.
pub const RECIPE_FILE: &str = "recipe.toml";

/// Name of a model without its folder, and of a checkpoint that of its run; that of one on the Hub stays whole.
fn model_name(model: &str) -> &str {
    let run = model.split("/checkpoints/").next().unwrap_or(model);
    // The weights of an export have the same name in all of them.
    let run = run.strip_suffix(&format!("/{MODEL_FILE}")).unwrap_or(run);
    if model.starts_with(PREFIX) { model } else { last_part(run) }
}

/// The weights that training started from, those that they came from, and so on.
fn origins(first: Option<&Origin>) -> impl Iterator<Item = &Origin> {
    std::iter::successors(first, |origin| origin.from.as_deref())
}

/// Files and facts from a run directory or an earlier export.
#[derive(Default)]
pub struct RunFiles {
    /// Files, by their names in the export.
    pub files: Files,
    /// Record of the training.
    pub training: Option<Training>,
    /// Description of the weights in an earlier export, if they come from one.
    pub earlier: Option<Value>,
    /// Skipped files, with reasons.
    pub left_out: Vec<String>,
    /// Paths of this machine that the run was given.
    local: LocalPaths,
    /// Names of data sources, by their places.
    sources: BTreeMap<String, String>,
}

impl RunFiles {
    /// Files of the run or export at `path`, if it is one, and further evaluation results of `model`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or a folder in `results` has no results.
    pub fn of(path: &Path, model: &Model, results: &[PathBuf]) -> anyhow::Result<Self> {
        let mut run_files = Self::default();
        let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
        if let Some(run) = run_of(path) {
            run_files.run(run, model)?;
        } else if path.is_dir() && folder.join(CONFIG_FILE).is_file() || path.ends_with(MODEL_FILE) {
            run_files.export(folder)?;
        }
        for folder in results {
            let file = folder.join(RESULTS_FILE);
            if !file.is_file() {
                let text = format!("{} has no {RESULTS_FILE}; give the --out of an evaluation", folder.display());
                return Err(Usage(text).into());
            }
            run_files.results(&file, Some(&name(&fs::canonicalize(folder)?)), model)?;
        }
        Ok(run_files)
    }

    fn run(&mut self, run: &Path, model: &Model) -> anyhow::Result<()> {
        let info = RunInfo::read(run)?;
        let own = recorded(&run.join(RESOLVED))?;
        let named = [own.data.source.as_str(), &own.probe.data].into_iter().chain(
            origins(info.from.as_ref()).flat_map(|origin| {
                std::iter::once(origin.model.as_str()).chain(origin.images.iter().map(|images| images.source.as_str()))
            }),
        );
        self.local.add(info.command.iter().map(String::as_str).chain(named));
        self.data_name(&own.data.source);
        let recipe = self.text(&run.join(RESOLVED), RECIPE_FILE)?;
        let recipe = recorded_text(RECIPE_FILE, &recipe)?;
        let seconds = info.seconds + unrecorded_seconds(run, &info);
        let metrics = run.join(METRICS_FILE);
        let metrics = if metrics.is_file() { self.text(&metrics, METRICS_FILE)? } else { String::new() };
        let step = model.description.as_ref().map(|description| description.step);
        let lines = || metrics.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = lines().filter_map(|line| line.get("step")?.as_u64()).max();
        let epoch =
            lines().filter(|line| line["step"].as_u64() <= step).filter_map(|line| line["epoch"].as_u64()).max();
        let command: Vec<String> = info.command.iter().map(|argument| self.local.cut(argument)).collect();
        let mut origins: Vec<String> = origins(info.from.as_ref()).map(|origin| self.start(origin)).collect();
        let first = if origins.is_empty() { None } else { Some(origins.remove(0)) };
        self.training = Some(Training {
            caveat: String::new(),
            data: recipe.data.source,
            data_fingerprint: info.data_fingerprint,
            background: recipe.data.background,
            apply_orientation: recipe.data.apply_orientation,
            probe: if recipe.probe.every_epochs > 0 { recipe.probe.data } else { String::new() },
            epochs: recipe.schedule.epochs,
            epoch,
            batch: recipe.data.batch,
            about: recipe.about.split_whitespace().collect::<Vec<_>>().join(" "),
            command: try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" ")),
            device: info.device,
            seconds,
            peak_memory: info.peak_memory,
            from: first,
            ancestors: origins,
            finished: info.status == Status::Finished && (last.is_none() || step == last),
            further_steps: last > step,
        });
        for path in entries(run)? {
            let name = name(&path);
            if name.starts_with("events.out.tfevents") {
                self.files.insert(name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
            }
        }
        if run.join(RESULTS_FILE).is_file() {
            self.results(&run.join(RESULTS_FILE), None, model)?;
        }
        for folder in entries(&run.join("eval")).unwrap_or_default() {
            let file = folder.join(RESULTS_FILE);
            if file.is_file() {
                self.results(&file, Some(&name(&folder)), model)?;
            }
        }
        Ok(())
    }

    /// Carries over the files of an earlier export, except weights, configuration and card.
    fn export(&mut self, folder: &Path) -> anyhow::Result<()> {
        let Ok(config) = fs::read(folder.join(CONFIG_FILE)) else { return Ok(()) };
        let config: Value = serde_json::from_slice(&config).with_context(|| format!("cannot read {CONFIG_FILE}"))?;
        self.earlier = config.get("equimod").or(config.get(IMPORTED_KEY)).filter(|entry| entry.is_object()).cloned();
        let training = self.earlier.as_ref().and_then(|ours| ours.get("training"));
        self.training = training.and_then(|training| serde_json::from_value(training.clone()).ok());
        if folder.join(sums::SUMS_FILE).is_file() {
            self.files = sums::read(folder)?;
            for regenerated in [CONFIG_FILE, MODEL_FILE, HEADS_FILE, CARD_FILE, sums::SUMS_FILE] {
                self.files.remove(regenerated);
            }
        }
        Ok(())
    }

    /// Adds a text file with absolute paths removed, and returns its text.
    fn text(&mut self, path: &Path, name: &str) -> anyhow::Result<String> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = self.local.cut(&text);
        self.files.insert(name.into(), text.clone().into_bytes());
        Ok(text)
    }

    /// Adds results if there are any and all of them are for these weights; `within` is the name of their folder.
    fn results(&mut self, path: &Path, within: Option<&str>, model: &Model) -> anyhow::Result<()> {
        let display = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {display}"))?;
        let results = match serde_json::from_str(&text) {
            Ok(results) => of_model(results, &model.sha256),
            Err(error) => {
                self.left_out.push(format!("{display}, which this version cannot read ({error})"));
                return Ok(());
            }
        };
        match results.models.as_slice() {
            _ if results.rows.is_empty() => return Ok(()),
            [one, ..] if one.sha256 == model.sha256 && is_of_one(&results) => {}
            _ if is_of_one(&results) => {
                self.left_out.push(format!("{display}, which is for other weights"));
                return Ok(());
            }
            several => {
                self.left_out.push(format!("{display}, which is for {} models", several.len()));
                return Ok(());
            }
        }
        let sources = results.rows.iter().map(|row| row.data.as_str());
        self.local.add(results.command.iter().map(String::as_str).chain(sources));
        let folder = within.map(|folder| self.free_folder(&self.local.cut_names(folder))).unwrap_or_default();
        let name = format!("{folder}{RESULTS_FILE}");
        let names: Vec<String> = results.rows.iter().map(|row| self.data_name(&row.data)).collect();
        let value = serde_json::to_value(&results)?;
        let mut results: Results =
            serde_json::from_value(self.local.cut_value(value)).with_context(|| format!("cannot read {display}"))?;
        results.rows.iter_mut().zip(names).for_each(|(row, name)| row.data = name);
        let measured = fs::metadata(path).and_then(|file| file.modified());
        let measured = measured.with_context(|| format!("cannot read the date of {display}"))?;
        hub_results::add(&mut self.files, &results, measured);
        let mut bytes = serde_json::to_vec_pretty(&results)?;
        bytes.push(b'\n');
        self.files.insert(name, bytes);
        self.files.insert(format!("{folder}{TABLE_FILE}"), markdown(&results.rows).into_bytes());
        Ok(())
    }
}

impl RunFiles {
    /// A folder for an evaluation that the export does not have yet.
    fn free_folder(&self, name: &str) -> String {
        let numbered = |number: usize| match number {
            1 => format!("eval/{name}/"),
            number => format!("eval/{name}-{number}/"),
        };
        let is_free = |folder: &String| !self.files.contains_key(&format!("{folder}{RESULTS_FILE}"));
        (1..).map(numbered).find(is_free).unwrap_or_default()
    }

    /// Weights that training started from, with the names of their images.
    fn start(&mut self, origin: &Origin) -> String {
        let images = origin.images.as_ref().map(|images| (self.data_name(&images.source), &images.fingerprint));
        let images = images.as_ref().map(|(name, fingerprint)| (name.as_str(), fingerprint.as_str()));
        StartingWeights { model: model_name(&origin.model), sha256: &origin.sha256, images }.to_string()
    }

    /// Name of a data source without its folder; another source with the same last part gets a number.
    fn data_name(&mut self, source: &str) -> String {
        let last = last_part(source);
        if source.starts_with(PREFIX) || last == source {
            self.sources.entry(source.into()).or_insert_with(|| source.into());
            return source.into();
        }
        let place = fs::canonicalize(source).map_or_else(|_| source.to_owned(), |path| path.display().to_string());
        if let Some(known) = self.sources.get(&place) {
            return known.clone();
        }
        let taken = |name: &String| self.sources.values().any(|known| known == name);
        let numbered = |number: usize| if number == 1 { last.to_owned() } else { format!("{last} ({number})") };
        let name = (1..).map(numbered).find(|name| !taken(name)).unwrap_or_default();
        self.sources.insert(place, name.clone());
        name
    }
}

/// Of results of several models side by side, those of the model with these weights, and of its network before training;
/// others as they are.
fn of_model(results: Results, sha256: &str) -> Results {
    let is_comparison = results.rows.iter().any(|row| row.metric.starts_with(DIFFERENCE));
    let Some(own) = results.models.iter().find(|one| one.sha256 == sha256).filter(|_| !is_comparison) else {
        return results;
    };
    let names = [own.name.clone(), format!("{} untrained", own.name)];
    let is_own = |name: &str| names.iter().any(|own| own == name);
    let models = results.models.into_iter().filter(|one| is_own(&one.name)).collect();
    let rows = results.rows.into_iter().filter(|row| row.model.is_empty() || is_own(&row.model)).collect();
    Results { models, rows, ..results }
}

/// Whether results are those of one model, perhaps with the same network before training.
fn is_of_one(results: &Results) -> bool {
    match results.models.as_slice() {
        [_] => true,
        [one, other] => other.name == format!("{} untrained", one.name),
        _ => false,
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()));
    let mut paths = read()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
