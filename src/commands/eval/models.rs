//! Several models in one evaluation.

use std::path::{Path, PathBuf};

use candle_core::Device;
use equimod_core::Model;
use equimod_eval::Input;
use equimod_eval::ResultRow;
use equimod_eval::report::Section;
use equimod_eval::results::{Evaluated, FORMAT, Results};

use super::session::tell_guess;
use crate::cli::{CropKind, SharedArgs};
use crate::evaluation::{Settings, evaluated};
use crate::record::{Drawn, Record, write};
use crate::{models, output};

/// One of several models.
pub struct Contender {
    /// As it is called in tables.
    pub name: String,
    /// The model.
    pub model: Model,
    /// How pictures enter it.
    pub input: Input,
    cache: Option<PathBuf>,
}

impl Contender {
    /// Loads the model at `path`.
    pub fn load(path: &Path, name: String, arguments: &SharedArgs, device: &Device) -> anyhow::Result<Self> {
        let model = models::open(path, device)?;
        tell_guess(&model);
        let run = path.join("run.json").is_file().then(|| path.join("eval/features"));
        Self::of(model, name, arguments, arguments.cache.clone().or(run))
    }

    fn of(model: Model, name: String, arguments: &SharedArgs, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let input = Input::of(&model, arguments.input.size, arguments.input.crop.unwrap_or(CropKind::Centre).into())?;
        Ok(Self { name, model, input, cache })
    }

    /// The same network before training.
    pub fn untrained(&self, arguments: &SharedArgs, device: &Device) -> anyhow::Result<Self> {
        let name = format!("{} untrained", self.name);
        Self::of(self.model.untrained(device)?, name, arguments, self.cache.clone())
    }

    /// What decides its evaluation on `tasks`.
    pub fn settings<'a>(&'a self, tasks: &'a [String], seed: u64) -> Settings<'a> {
        Settings { tasks, seed, input: Some(self.input), cache: self.cache.as_deref() }
    }

    fn evaluated(&self) -> Evaluated {
        evaluated(&self.name, &self.model, self.input)
    }
}

/// The shortest ends of the paths that tell them apart; of equal paths the later ones are numbered.
pub fn names(paths: &[PathBuf]) -> Vec<String> {
    let ends = |count: usize| {
        let end = |path: &PathBuf| {
            let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            parts[parts.len().saturating_sub(count)..].join("/")
        };
        paths.iter().map(end).collect::<Vec<String>>()
    };
    let longest = paths.iter().map(|path| path.components().count()).max().unwrap_or(1);
    let distinct = |names: &Vec<String>| {
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        sorted.len() == names.len()
    };
    (1..=longest).map(ends).find(distinct).unwrap_or_else(|| numbered(ends(longest)))
}

fn numbered(names: Vec<String>) -> Vec<String> {
    let before = |place: usize| names[..place].iter().filter(|name| **name == names[place]).count();
    let name = |place: usize| match before(place) {
        0 => names[place].clone(),
        earlier => format!("{} ({})", names[place], earlier + 1),
    };
    (0..names.len()).map(name).collect()
}

/// What was found of several models.
pub struct Comparison {
    /// What the page is called.
    pub title: String,
    /// What intervals are.
    pub summary: &'static str,
    /// The numbers.
    pub rows: Vec<ResultRow>,
    /// What is shown of them.
    pub sections: Vec<Section>,
    /// The splits that were drawn.
    pub drawn: Vec<Drawn>,
}

impl Comparison {
    /// Keeps what was found, if it is kept, and gives it as it is written.
    pub fn keep(self, arguments: &SharedArgs, contenders: &[Contender]) -> anyhow::Result<Results> {
        let Self { title, summary, rows, sections, drawn } = self;
        let results = Results {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            seed: arguments.seed,
            models: contenders.iter().map(Contender::evaluated).collect(),
            rows,
            splits: drawn.iter().map(|(split, _)| split.clone()).collect(),
        };
        if let Some(folder) = &arguments.out {
            let record =
                Record { title, results: &results, sections, outcomes: &[], drawn: &drawn, splits: None, summary };
            write(folder, record)?;
            output::note(&format!("report {}", folder.join("report.html").display()));
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_models_apart() {
        let named = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(named(&["out/a", "out/b"]), ["a", "b"]);
        assert_eq!(named(&["x/run", "y/run"]), ["x/run", "y/run"]);
        assert_eq!(named(&["run", "run"]), ["run", "run (2)"]);
    }
}
