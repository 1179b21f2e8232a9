//! The end of a run: evaluation, results and the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::Device;
use equimod_core::checkpoint::write_atomic;
use equimod_core::{Model, ObjectiveConfig};
use equimod_data::{Dataset, Splits};
use equimod_eval::evaluation::{
    DEFAULT_SEED, DrawnImages, EquivarianceProtocol, Measurement, SummaryProtocol, distinct_draws,
};
use equimod_eval::references::with_baseline;
use equimod_eval::results::{EvaluatedModel, FORMAT, Results, markdown_page};
use equimod_eval::verdict::{Advice, MOST_SENTENCES, TrainingFacts, VERY_SHORT, is_saturated, verdict};
use equimod_eval::{Crop, Evaluation, InputTransform, ResultRow};
use equimod_train::{Recipe, RunDirectory, RunInfo, Trainer};

use super::reading;
use crate::cli::Pretrain;
use crate::inputs::sources::splits;
use crate::outputs::brief::brief;
use crate::outputs::console::{self, Console, duration};
use crate::outputs::suggestion::{Suggestion, on_page, print_all, quoted};
use crate::run::again::{against_start, compare, few_shot, find_rate, longer, lower, with_seed};
use crate::run::baseline::{self, judged, weighted_modules};
use crate::run::facts::training_facts;
use crate::run::files::all_results;
use crate::run::report::RunReport;
use crate::run::seeds;

/// A run after its last step.
pub struct Finished<'a> {
    /// Run directory.
    pub run: &'a RunDirectory,
    /// Content of `run.json`.
    pub info: &'a RunInfo,
    /// Recipe of the run.
    pub recipe: &'a Recipe,
    /// Training images.
    pub dataset: &'a dyn Dataset,
    /// Trainer of the first rank.
    pub trainer: &'a Trainer,
    /// Run directory of the baseline, if one was trained.
    pub baseline: Option<PathBuf>,
}

/// What was written at the end of a run.
pub struct Written {
    results: Results,
    /// Durations in words.
    times: String,
    advice: Option<Advice>,
}

impl Finished<'_> {
    /// Evaluates, writes results and the report, prints both, and suggests next steps.
    ///
    /// # Errors
    ///
    /// If the evaluation fails, or a file cannot be written.
    pub fn report(&self, arguments: &Pretrain, device: &Device, cost: String) -> anyhow::Result<()> {
        let Written { results, times, advice } = self.write(!arguments.no_eval, device, cost)?;
        if arguments.json {
            return console::json(&serde_json::json!({ "run": self.run.path(), "results": results }));
        }
        self.print(&results, &times, advice)
    }

    /// Writes results and the report, with or without an evaluation.
    ///
    /// # Errors
    ///
    /// If the evaluation fails, or a file cannot be written.
    pub fn write(&self, evaluated: bool, device: &Device, cost: String) -> anyhow::Result<Written> {
        let start = Instant::now();
        let measured = if evaluated { self.evaluate(device)? } else { Measurement::default() };
        let drawn = distinct_draws(&measured.classifications);
        let evaluation = if evaluated { format!(", evaluation {}", duration(start.elapsed())) } else { String::new() };
        let training = duration(Duration::from_secs_f64(self.info.seconds));
        let seconds = self.baseline.as_deref().map(|baseline| Ok::<_, anyhow::Error>(RunInfo::read(baseline)?.seconds));
        let baseline =
            seconds.transpose()?.map(|seconds| format!(", baseline {}", duration(Duration::from_secs_f64(seconds))));
        let baseline = baseline.unwrap_or_default();
        let times = format!("training {training}{baseline}{evaluation}");
        let model = Model::load(self.run.path(), device)?;
        let earlier = if evaluated { None } else { self.earlier(&model) };
        let mut results = earlier.map_or_else(|| self.results(measured.rows, &drawn, &model), Ok)?;
        let (judged, untrained) = judged(self.recipe, &results.rows);
        let verdict = verdict(&judged, Some(&self.facts()?));
        let first = self.place().into_iter().chain(untrained.map(str::to_owned));
        results.verdict = first.chain(verdict.sentences).take(MOST_SENTENCES).collect();
        if !drawn.is_empty() {
            self.run.write("splits.json", &serde_json::to_vec(&drawn)?)?;
        }
        self.run.write("results.json", &serde_json::to_vec_pretty(&results)?)?;
        self.run.write("results.md", markdown_page(&results).as_bytes())?;
        let folder = self.run.path().display().to_string();
        let report = RunReport {
            run: self.run.path(),
            info: self.info,
            recipe: self.recipe,
            model: &model,
            times: [
                ("time", times.clone()),
                ("cost", cost),
                (
                    "written",
                    format!("at the end of training; `equimod report {}` adds later evaluations", quoted(&folder)),
                ),
            ]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.into(), text))
            .collect(),
            results: &results.rows,
            verdict: &results.verdict,
            next: on_page(&self.next(verdict.advice)),
            dataset: self.dataset,
            policy: self.trainer.policy(),
        };
        self.run.write("report.html", report.html()?.as_bytes())?;
        Ok(Written { results, times, advice: verdict.advice })
    }

    /// Where the results of a baseline are.
    fn place(&self) -> Option<String> {
        let run = baseline::run_of(self.run.path())?;
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        Some(format!("This is the baseline of {name}, whose page has the results of both (../report.html)."))
    }

    fn facts(&self) -> anyhow::Result<TrainingFacts> {
        training_facts(self.run.path(), self.recipe, self.trainer.total_steps())
    }

    fn print(&self, results: &Results, times: &str, advice: Option<Advice>) -> anyhow::Result<()> {
        let folder = self.run.path().display();
        if !results.rows.is_empty() {
            console::result(&format!("\n{}", brief(&results.rows)))?;
        }
        console::sentences(&format!("\nreport {folder}/report.html ({times})"))?;
        if !results.verdict.is_empty() {
            console::sentences(&format!("\n{}", results.verdict.join("\n")))?;
        }
        print_all(&self.next(advice))
    }

    /// Commands that answer the next questions, the one that the verdict advises first.
    fn next(&self, advice: Option<Advice>) -> Vec<Suggestion> {
        let folder = self.run.path().display().to_string();
        // One class is told from no other.
        let labeled = self.dataset.tasks().iter().any(|task| task.classes.len() > 1);
        if let Some(run) = baseline::run_of(self.run.path()) {
            let pair = [self.run.path(), run].map(Path::to_owned);
            let with_run = compare(&pair, None).about("with the run, on the same test images");
            return labeled.then_some(with_run).into_iter().collect();
        }
        let evaluate = match labeled {
            true => Suggestion::new(["eval", "logistic", &folder, "--untrained"])
                .with(self.baseline.iter().map(|_| "--baseline"))
                .about("with all L2 strengths, against the untrained network"),
            false => Suggestion::new(["eval", "params", &folder, "--untrained"])
                .with(self.baseline.iter().map(|_| "--baseline"))
                .about("what features say of augmentations, without labels"),
        };
        let first = match advice {
            Some(Advice::LowerRate) => Some(lower(self.run.path(), self.info, self.recipe)),
            Some(Advice::FindRate) => Some(find_rate(self.run.path(), self.info, self.recipe)),
            Some(Advice::TrainLonger) => self.longer(),
            Some(Advice::WidenRange) => Some(evaluate.clone()),
            Some(
                Advice::CompareBaseline
                | Advice::RepeatWithSeed
                | Advice::FitToOptimum
                | Advice::EvaluateUntrained
                | Advice::EvaluateFewShot,
            )
            | None => None,
        };
        // A run whose loss did not fall is nothing to build on.
        if advice == Some(Advice::FindRate) {
            return first.into_iter().collect();
        }
        if advice == Some(Advice::EvaluateFewShot) || self.is_saturated() {
            let few = [few_shot(self.run.path(), None)];
            return first.into_iter().chain(few).chain(self.add_baseline()).collect();
        }
        let is_short =
            self.facts().is_ok_and(|facts| facts.is_too_short()) && !advice.is_some_and(Advice::is_conclusive);
        let longer = if is_short { self.longer() } else { None };
        // Of very few steps, nothing else tells much.
        let (before, after) = if self.trainer.total_steps() < VERY_SHORT { (longer, None) } else { (None, longer) };
        let start = against_start(self.run.path(), self.info).filter(|_| labeled);
        let mut commands: Vec<Suggestion> = first.into_iter().chain(before).chain(start).collect();
        commands.extend(self.add_baseline());
        // Without labels, no accuracy is compared.
        if self.baseline.is_some() && labeled {
            let pairs = seeds::pairs(self.run.path());
            let remark = match pairs.len() / 2 {
                0 | 1 => "with all L2 strengths, on the same test images".to_owned(),
                _ => seeds::tested(&pairs),
            };
            commands.push(compare(&pairs, None).about(&remark));
            commands.push(with_seed(self.run.path(), self.info, seeds::next_seed([self.run.path()])));
        }
        if advice != Some(Advice::WidenRange) {
            commands.push(evaluate);
        }
        commands.extend(after);
        commands
    }

    /// The command that trains the baseline, if there is none and can be one.
    fn add_baseline(&self) -> Option<Suggestion> {
        let weighted = weighted_modules(self.recipe);
        let module = weighted.first().filter(|_| self.baseline.is_none())?;
        if matches!(self.recipe.objective, ObjectiveConfig::None(_)) {
            return None;
        }
        let whose = if weighted.len() > 1 { "the modules' losses".to_owned() } else { format!("{module}'s loss") };
        let add = baseline::add(&self.run.path().display().to_string());
        Some(add.about(&format!("also train on the same batches without {whose}")))
    }

    /// Whether every test image is right, so that no comparison of accuracies tells more.
    fn is_saturated(&self) -> bool {
        all_results(self.run.path()).is_ok_and(|rows| is_saturated(&rows))
    }

    /// The command that follows for a run that may be too short.
    fn longer(&self) -> Option<Suggestion> {
        longer(self.run.path(), self.info, self.recipe, self.trainer.total_steps())
    }

    /// Evaluates the last checkpoint, the untrained network and the baseline with every protocol that the images
    /// support.
    fn evaluate(&self, device: &Device) -> anyhow::Result<Measurement> {
        console::note("evaluating");
        let splits = splits(&self.recipe.data.source, reading(self.recipe))?;
        match (splits.train.tasks().is_empty(), &splits.test, &splits.validation) {
            (true, ..) => console::note("the images have no labels: only equivariance is measured"),
            (false, None, None) => console::note(
                "a fifth of the images is held out from classifiers; pretraining saw all, without labels (folders train/ \
                 and test/ keep images apart)",
            ),
            _ => {}
        }
        let measured = self.measure(self.run.path(), &splits, device, true)?;
        let Some(baseline) = &self.baseline else { return Ok(measured) };
        let of_baseline = self.measure(baseline, &splits, device, false)?;
        let rows = with_baseline(measured.rows, &of_baseline.rows, DEFAULT_SEED);
        keep(baseline, of_baseline)?;
        Ok(Measurement { rows, ..measured })
    }

    /// Numbers of the model in the run directory `run`.
    fn measure(&self, run: &Path, splits: &Splits, device: &Device, untrained: bool) -> anyhow::Result<Measurement> {
        let model = Model::load(run, device)?;
        let (console, cache) = (Console::default(), run.join("eval/features"));
        let evaluation = Evaluation::new(&model, splits).cache(&cache).observer(&console);
        let evaluation = evaluation.with_untrained(untrained);
        let mut measured = Measurement::default();
        if !splits.train.tasks().is_empty() {
            measured = match evaluation.measure(&SummaryProtocol::default()) {
                // The model is worth a report, whatever its labels.
                Err(equimod_eval::Error::Data(error @ equimod_data::Error::DataSet { .. })) => {
                    console::note(&format!("no accuracy is measured: {error}"));
                    Measurement::default()
                }
                measured => measured?,
            };
        }
        if self.trainer.method().modules().iter().any(|module| module.module.start().is_some()) {
            let overall = EquivarianceProtocol { each_augmentation: false, ..Default::default() };
            measured.rows.extend(evaluation.measure(&overall)?.rows);
        }
        Ok(measured)
    }

    /// Results of the run that an earlier call measured with the same weights.
    fn earlier(&self, model: &Model) -> Option<Results> {
        let bytes = std::fs::read(self.run.path().join("results.json")).ok()?;
        let results: Results = serde_json::from_slice(&bytes).ok()?;
        let is_of_model = results.models.iter().any(|of| of.sha256 == model.sha256);
        Some(results).filter(|results| is_of_model && !results.rows.is_empty())
    }

    /// Results with their metadata, as they are written.
    fn results(&self, rows: Vec<ResultRow>, drawn: &[DrawnImages], model: &Model) -> anyhow::Result<Results> {
        let input = InputTransform::of(model, None, Crop::Center)?;
        Ok(Results {
            format: FORMAT,
            version: self.info.version.clone(),
            command: self.info.command.clone(),
            seed: DEFAULT_SEED,
            models: vec![EvaluatedModel::of(&self.run.path().display().to_string(), model, input)],
            rows,
            splits: drawn.iter().map(|drawn| drawn.split.clone()).collect(),
            ..Results::default()
        })
    }
}

/// Adds rows to the results of the baseline, so that `equimod report` and `runs` have them.
fn keep(baseline: &Path, measured: Measurement) -> anyhow::Result<()> {
    let file = baseline.join("results.json");
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let read: Results = serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", file.display()))?;
    let drawn = distinct_draws(&measured.classifications);
    if !drawn.is_empty() {
        write_atomic(&baseline.join("splits.json"), &serde_json::to_vec(&drawn)?)?;
    }
    let splits = drawn.into_iter().map(|drawn| drawn.split).collect();
    let results = Results { rows: measured.rows, splits, seed: DEFAULT_SEED, ..read };
    write_atomic(&baseline.join("results.md"), markdown_page(&results).as_bytes())?;
    Ok(write_atomic(&file, &serde_json::to_vec_pretty(&results)?)?)
}
