//! Several models in one evaluation.

use std::path::{Path, PathBuf};

use candle_core::Device;
use equimod_core::Model;
use equimod_data::Splits;
use equimod_eval::evaluation::DrawnImages;
use equimod_eval::report::Section;
use equimod_eval::results::{EvaluatedModel, FORMAT, Results};
use equimod_eval::verdict::{MOST_SENTENCES, TrainingFacts, is_saturated, of_trainings, verdict};
use equimod_eval::{Copies, Evaluation, InputTransform, ResultRow};
use equimod_train::run_dir::is_run;

use crate::cli::{CropKind, SharedArgs};
use crate::inputs::model_argument;
use crate::outputs::console;
use crate::outputs::console::Console;
use crate::outputs::evaluation::{Record, write};
use crate::outputs::suggestion::Suggestion;
use crate::run::facts::of_run;

/// One of several models.
pub struct Contender {
    /// Name in tables.
    pub name: String,
    /// The model.
    pub model: Model,
    /// The model on the other devices.
    copies: Copies,
    /// Resizing and cropping of images.
    pub input: InputTransform,
    cache: Option<PathBuf>,
    /// Facts about its training, of a run, as far as a comparison is to name them.
    pub training: Option<TrainingFacts>,
}

impl Contender {
    /// Loads the model at `path`.
    pub fn load(path: &Path, name: String, arguments: &SharedArgs, devices: &[Device]) -> anyhow::Result<Self> {
        let (model, copies) = model_argument::open_on(path, devices)?;
        let run = is_run(path).then(|| path.join("eval/features"));
        let loaded = Self::of((model, copies), name, arguments, arguments.cache.clone().or(run))?;
        Ok(Self { training: of_run(path), ..loaded })
    }

    fn of(
        (model, copies): (Model, Copies),
        name: String,
        arguments: &SharedArgs,
        cache: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let crop = arguments.input.crop.unwrap_or(CropKind::Center).into();
        let input = InputTransform::of(&model, arguments.input.size, crop)?;
        Ok(Self { name, model, copies, input, cache, training: None })
    }

    /// The same network before training.
    pub fn untrained(&self, arguments: &SharedArgs) -> anyhow::Result<Self> {
        let name = format!("{} untrained", self.name);
        let copies = Copies::untrained(&self.model, &self.copies)?;
        let untrained = self.model.untrained(self.model.params().device())?;
        Self::of((untrained, copies), name, arguments, self.cache.clone())
    }

    /// The evaluation of the model on `splits`.
    pub fn evaluation<'a>(&'a self, splits: &'a Splits, seed: u64, console: &'a Console) -> Evaluation<'a> {
        let evaluation = Evaluation::new(&self.model, splits).copies(&self.copies).seed(seed).input(self.input);
        let evaluation = evaluation.observer(console);
        match &self.cache {
            Some(folder) => evaluation.cache(folder),
            None => evaluation,
        }
    }

    fn description(&self) -> EvaluatedModel {
        EvaluatedModel::of(&self.name, &self.model, self.input)
    }
}

/// Of each path, the shortest end that no other one has; later ones of equal paths are numbered.
pub fn names(paths: &[PathBuf]) -> Vec<String> {
    let parts = |path: &PathBuf| -> Vec<String> {
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let all: Vec<Vec<String>> = paths.iter().map(parts).collect();
    let end = |place: usize| {
        let parts = &all[place];
        let others = || all.iter().enumerate().filter(|(other, _)| *other != place);
        let is_alone = |count: &usize| others().all(|(_, other)| !other.ends_with(&parts[parts.len() - count..]));
        let count = (1..=parts.len()).find(is_alone).unwrap_or(parts.len());
        parts[parts.len() - count..].join("/")
    };
    numbered((0..paths.len()).map(end).collect())
}

fn numbered(names: Vec<String>) -> Vec<String> {
    let before = |place: usize| names[..place].iter().filter(|name| **name == names[place]).count();
    let name = |place: usize| match before(place) {
        0 => names[place].clone(),
        earlier => format!("{} ({})", names[place], earlier + 1),
    };
    (0..names.len()).map(name).collect()
}

/// The results of several models.
pub struct Comparison {
    /// Title of the page.
    pub title: String,
    /// Meaning of the intervals.
    pub summary: String,
    /// Numbers.
    pub rows: Vec<ResultRow>,
    /// Sections of the page.
    pub sections: Vec<Section>,
    /// Splits that were drawn.
    pub drawn: Vec<DrawnImages>,
    /// Commands that answer the next question.
    pub next: Vec<Suggestion>,
}

impl Comparison {
    /// Writes the results into `--out`, if it is given, and returns them.
    pub fn write(self, arguments: &SharedArgs, contenders: &[Contender]) -> anyhow::Result<Results> {
        let Self { title, summary, rows, sections, drawn, next } = self;
        let mut verdict = verdict(&rows, None).sentences;
        // The training of a single model is judged by the evaluation of that model.
        let trained = contenders.iter().filter_map(|one| Some((one.name.clone(), one.training.clone()?)));
        let is_pair = contenders.len() > 1 && !is_saturated(&rows);
        verdict.extend(of_trainings(&trained.collect::<Vec<_>>()).filter(|_| is_pair));
        verdict.truncate(MOST_SENTENCES);
        let results = Results {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            seed: arguments.seed,
            models: contenders.iter().map(Contender::description).collect(),
            rows,
            splits: drawn.iter().map(|drawn| drawn.split.clone()).collect(),
            verdict,
        };
        if let Some(folder) = &arguments.out {
            let record = Record {
                title,
                results: &results,
                sections,
                classifications: &[],
                drawn,
                splits: None,
                summary: &summary,
                next,
            };
            write(folder, record)?;
            console::note(&format!("report {}", folder.join("report.html").display()));
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_distinguish_models() {
        let named = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(named(&["out/a", "out/b"]), ["a", "b"]);
        assert_eq!(named(&["x/run", "y/run"]), ["x/run", "y/run"]);
        assert_eq!(named(&["run", "run"]), ["run", "run (2)"]);
        // Of each, the shortest end that no other has.
        assert_eq!(named(&["out/a/baseline", "out/a", "out/b/baseline"]), ["a/baseline", "a", "b/baseline"]);
        assert_eq!(named(&["run", "out/run", "out/run"]), ["run", "out/run", "out/run (2)"]);
    }
}
