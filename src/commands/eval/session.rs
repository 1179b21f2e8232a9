//! One model and one data set: opens both, runs a protocol, prints and writes the results.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Device;
use equimod_core::Model;
use equimod_data::{Splits, task_name};
use equimod_eval::evaluation::{Measurement, Report, distinct_draws};
use equimod_eval::results::{EvaluatedModel, FORMAT, Results, TOP_1};
use equimod_eval::verdict::{MOST_SENTENCES, of_evaluation, verdict};
use equimod_eval::{Copies, Evaluation, InputTransform, Observer, ResultRow};
use equimod_train::recorded;
use equimod_train::run_dir::{RESOLVED, is_run};

use super::next::{Kept, after_evaluation};
use super::protocols::Chosen;
use super::settings;
use crate::artifact::dashed;
use crate::cli::{CropKind, EvalArgs, ImageArgs, InputArgs};
use crate::inputs::evaluated_data::{self, DataChoice};
use crate::inputs::model_argument::{self, check_order};
use crate::inputs::sources::OtherSources;
use crate::outputs::console;
use crate::outputs::console::Console;
use crate::outputs::evaluation::{Record, write};
use crate::outputs::suggestion::{Suggestion, quoted};
use crate::outputs::verdict::{print_rows, print_verdict};
use crate::process::device;
use crate::process::exit::Usage;
use crate::run::baseline::{self, judged};
use crate::run::facts::of_run;
use crate::run::files::all_results;

/// Runs a protocol on a model and a data set, prints and writes the results.
pub fn run(chosen: &Chosen) -> anyhow::Result<ExitCode> {
    let protocol = &chosen.protocol;
    let session = Session::open(chosen, console::note)?;
    let console = Console::default();
    let report = session.evaluation(&console).run(protocol.as_ref())?;
    drop(console);
    session.finish(protocol.name(), report)
}

/// Runs a protocol as a part of something larger: writes the numbers and a page without figures, and prints nothing.
/// `command` is recorded with them. A model that lacks what the protocol measures gets no numbers.
///
/// # Errors
///
/// If the evaluation fails, or a file cannot be written.
pub fn measure(chosen: &Chosen, command: Vec<String>) -> anyhow::Result<()> {
    let protocol = &chosen.protocol;
    let session = Session::open(chosen, |_| ())?;
    let measured = match protocol.applies_to(&session.model) {
        true => session.evaluation(&()).measure(protocol.as_ref())?,
        false => Measurement::default(),
    };
    let Measurement { rows, classifications, .. } = measured;
    let report = Report { rows, classifications, summary: protocol.summary(), ..Report::default() };
    session.write(protocol.name(), report, command)?;
    Ok(())
}

/// A model and the data set that it is evaluated on.
struct Session<'a> {
    arguments: &'a EvalArgs,
    /// Settings of the protocol that differ from its defaults.
    other: &'a [String],
    /// Settings of the protocol that the metrics name.
    in_metrics: &'a [String],
    /// Arguments of the protocol that a comparison takes, too.
    of_comparison: &'a [String],
    /// Default crop of the protocol.
    crop: CropKind,
    /// Name of the data source, the same from any folder.
    data: String,
    model: Model,
    /// The baseline of the model's run, if it is evaluated, too.
    baseline: Option<Model>,
    /// Results of the model's run.
    earlier: Vec<ResultRow>,
    /// The model on the other devices.
    copies: Copies,
    splits: Splits,
    input: InputTransform,
    cache: Option<PathBuf>,
}

impl<'a> Session<'a> {
    /// Opens both; `note` receives what is worth a message.
    fn open(chosen: &'a Chosen, note: fn(&str)) -> anyhow::Result<Self> {
        let Chosen { arguments, crop, other, in_metrics, of_comparison, .. } = chosen;
        let devices = device::open_all(&arguments.device.device)?;
        let named = arguments.source.as_deref().or(arguments.images.data.as_deref());
        check_order(&arguments.model, named)?;
        let reading = arguments.images.reading.reading();
        let data = evaluated_data::choose(&arguments.model, named, reading)?;
        note(&data.describe());
        let (model, copies) = model_argument::open_on(&arguments.model, &devices)?;
        let baseline = arguments.baseline.then(|| open_baseline(&arguments.model, &devices[0])).transpose()?;
        let input = InputTransform::of(&model, arguments.input.size, arguments.input.crop.unwrap_or(*crop).into())?;
        let splits = open_images(&data, &arguments.images, note)?;
        let run = is_run(&arguments.model).then(|| arguments.model.join("eval/features"));
        let cache = arguments.cache.clone().or(run);
        let data = data.of_run.map_or(data.source, |own| own.name);
        // What the run measured of the untrained network and its baseline need not be measured again.
        let earlier = if is_run(&arguments.model) { all_results(&arguments.model)? } else { Vec::new() };
        let mut session = Self {
            arguments,
            other,
            in_metrics,
            of_comparison,
            crop: *crop,
            data,
            model,
            baseline,
            earlier,
            copies,
            splits,
            input,
            cache,
        };
        // Only under the same settings.
        let settings = session.settings_of_rows();
        session.earlier.retain(|row| row.settings == settings);
        session.earlier.iter_mut().for_each(|row| row.settings.clear());
        Ok(session)
    }

    fn evaluation<'b>(&'b self, observer: &'b dyn Observer) -> Evaluation<'b> {
        let evaluation = Evaluation::new(&self.model, &self.splits)
            .copies(&self.copies)
            .tasks(&self.arguments.images.task)
            .seed(self.arguments.seed)
            .input(self.input)
            .map(self.arguments.map.into())
            .with_untrained(self.arguments.untrained)
            .with_baseline(self.baseline.as_ref())
            .earlier(&self.earlier)
            .observer(observer);
        match &self.cache {
            Some(folder) => evaluation.cache(folder),
            None => evaluation,
        }
    }

    /// The folder for results; `None` if they are not written.
    fn folder(&self, protocol: &str) -> Option<PathBuf> {
        let model = &self.arguments.model;
        self.arguments.out.clone().or_else(|| is_run(model).then(|| self.folder_in(model, protocol)))
    }

    /// The folder for results in a run directory.
    fn folder_in(&self, run: &Path, protocol: &str) -> PathBuf {
        let mut name = format!("{protocol}-{}", dashed(&self.data));
        // Evaluations of other tasks, and with other settings, have folders of their own.
        let tasks = self.arguments.images.task.iter().map(|task| task_name(task));
        tasks.chain(self.settings()).for_each(|part| name += &format!("-{part}"));
        run.join("eval").join(name)
    }

    /// Settings other than the defaults, which make an evaluation another one than that of the published protocol.
    fn settings(&self) -> Vec<String> {
        let EvalArgs { images, input, seed, .. } = self.arguments;
        // The size of training is no other one.
        let size = input.size.filter(|size| *size != self.model.preprocessing.size);
        let input = InputArgs { size, ..*input };
        let of_images = settings::of_images(&self.arguments.model, &input, self.crop, &images.reading, *seed);
        let of_sources = settings::of_sources(images.test.as_deref(), images.validation.as_deref());
        of_images.into_iter().chain(of_sources).chain(self.other.iter().cloned()).collect()
    }

    /// [`Self::settings`] as rows have them: without those that the metrics name.
    fn settings_of_rows(&self) -> String {
        let settings: Vec<String> =
            self.settings().into_iter().filter(|setting| !self.in_metrics.contains(setting)).collect();
        settings.join(", ")
    }

    /// The arguments that a comparison by the same protocol takes, too. Tasks are those of classifiers.
    fn kept(&self, rows: &[ResultRow]) -> Kept {
        let EvalArgs { images, input, seed, .. } = self.arguments;
        let is_of_classifier = rows.iter().any(|row| row.metric == TOP_1);
        let others = settings::repeated(images, input, *seed, is_of_classifier);
        let data = self.arguments.source.clone().or_else(|| images.data.clone());
        Kept { data, others, of_classifier: self.of_comparison.to_vec(), is_of_this: true }
    }

    /// Prints and writes the results of a protocol.
    fn finish(&self, protocol: &str, report: Report) -> anyhow::Result<ExitCode> {
        let (results, folder) = self.write(protocol, report, std::env::args().collect())?;
        if self.arguments.json {
            console::json(&results)?;
        } else {
            print_rows(&results.rows)?;
            print_verdict(&results.verdict, &self.next(&results.rows))?;
        }
        if let Some(folder) = folder {
            console::note(&format!("report {}", folder.join("report.html").display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The command that answers the next question.
    fn next(&self, rows: &[ResultRow]) -> Vec<Suggestion> {
        let (judged, _) = judged_of(&self.arguments.model, rows);
        after_evaluation(verdict(&judged, None).advice, &self.arguments.model, &self.kept(rows), rows)
    }

    /// Writes the results of a protocol, if there is a folder for them, and those of the baseline into its own run;
    /// returns the first and their folder.
    fn write(
        &self,
        protocol: &str,
        report: Report,
        command: Vec<String>,
    ) -> anyhow::Result<(Results, Option<PathBuf>)> {
        let Report { rows, classifications, sections, summary, baseline: other } = report;
        let own = Measurement { rows, classifications, ..Measurement::default() };
        let (path, folder) = (&self.arguments.model, self.folder(protocol));
        let results = self.results(path, &self.model, &own, command.clone());
        if let Some(folder) = &folder {
            let next = self.next(&results.rows);
            write(folder, Record { sections, next, ..self.record(protocol, summary, &results, &own) })?;
        }
        let other = baseline::of(path).zip(self.baseline.as_ref()).zip(other);
        if let Some(((path, model), measured)) = other.filter(|_| self.arguments.out.is_none()) {
            let folder = self.folder_in(&path, protocol);
            // An evaluation of the baseline by itself has more to show.
            if !folder.join("results.json").is_file() {
                let results = self.results(&path, model, &measured, command);
                write(&folder, self.record(protocol, summary, &results, &measured))?;
            }
        }
        Ok((results, folder))
    }

    /// The numbers of a model with their metadata.
    fn results(&self, path: &Path, model: &Model, measured: &Measurement, command: Vec<String>) -> Results {
        let settings = self.settings_of_rows();
        let mut rows = measured.rows.clone();
        rows.iter_mut().for_each(|row| row.settings.clone_from(&settings));
        let (judged, untrained) = judged_of(path, &rows);
        let said = of_evaluation(&judged, of_run(path).as_ref()).sentences;
        Results {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            command,
            seed: self.arguments.seed,
            models: vec![EvaluatedModel::of(&path.display().to_string(), model, self.input)],
            splits: distinct_draws(&measured.classifications).into_iter().map(|drawn| drawn.split).collect(),
            verdict: untrained.map(str::to_owned).into_iter().chain(said).take(MOST_SENTENCES).collect(),
            rows,
        }
    }

    /// Everything that is written of a model, without figures and next commands.
    fn record<'r>(
        &'r self,
        protocol: &str,
        summary: &'static str,
        results: &'r Results,
        measured: &'r Measurement,
    ) -> Record<'r> {
        Record {
            title: format!("{protocol} of {}, on {}", results.models[0].name, self.splits.name),
            results,
            sections: Vec::new(),
            classifications: &measured.classifications,
            drawn: distinct_draws(&measured.classifications),
            splits: Some(&self.splits),
            summary,
            next: Vec::new(),
        }
    }
}

/// The rows that a verdict is on, and what it says of the others; of models that are no runs, all.
fn judged_of(model: &Path, rows: &[ResultRow]) -> (Vec<ResultRow>, Option<&'static str>) {
    match recorded(&model.join(RESOLVED)) {
        Ok(recipe) => judged(&recipe, rows),
        Err(_) => (rows.to_vec(), None),
    }
}

/// Loads the baseline of a run.
fn open_baseline(run: &Path, device: &Device) -> anyhow::Result<Model> {
    if let Some(parent) = baseline::run_of(run) {
        let (run, parent) = (run.display(), parent.display());
        return Err(Usage(format!("{run} is itself a baseline; leave --baseline out, or evaluate {parent}")).into());
    }
    if !is_run(run) {
        return Err(Usage(format!("{} is no run, and only runs have baselines", run.display())).into());
    }
    let baseline = baseline::of(run).ok_or_else(|| {
        let run = quoted(&run.display().to_string());
        Usage(format!("{run} has no baseline; `equimod pretrain --out {run} --resume --baseline` trains one"))
    })?;
    if baseline::finished(run).is_none() {
        let (run, baseline) = (quoted(&run.display().to_string()), baseline.display());
        let text =
            format!("{baseline} is not finished; `equimod pretrain --out {run} --resume --baseline` goes on with it");
        return Err(Usage(text).into());
    }
    Ok(Model::load(&baseline, device)?)
}

/// Opens the chosen images. `note` receives a warning of a missing background.
pub fn open_images(data: &DataChoice, images: &ImageArgs, note: fn(&str)) -> anyhow::Result<Splits> {
    let others = OtherSources { validation: images.validation.as_deref(), test: images.test.as_deref() };
    let mut splits = data.explain(others.splits(&data.source, data.options))?;
    data.check(&splits)?;
    data.ignored_transparency(&splits).iter().for_each(|text| note(text));
    if let Some(own) = &data.of_run {
        // The same from any folder.
        splits.name.clone_from(&own.name);
    }
    Ok(splits.with_labels(&images.task)?)
}
