//! What all protocols share: opening the model and the pictures, and telling and keeping what was found.

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use equimod_core::Model;
use equimod_eval::report::Section;
use equimod_eval::results::{FORMAT, Results, plain};
use equimod_eval::{Crop, Input, ResultRow};

use crate::cli::{CropKind, EvalArgs};
use crate::evaluation::{Outcome, Settings, evaluated, task_name};
use crate::record::{Record, drawn, write};
use crate::sources::{Elsewhere, Splits};
use crate::{device, models, output};

/// A model, and the pictures that it is evaluated on.
pub struct Session<'a> {
    /// What was asked for.
    pub arguments: &'a EvalArgs,
    /// Where tensors live.
    pub device: Device,
    /// The model.
    pub model: Model,
    /// The pictures.
    pub splits: Splits,
    /// How they enter the network.
    pub input: Input,
    cache: Option<PathBuf>,
}

/// What a protocol found.
#[derive(Default)]
pub struct Found {
    /// The numbers.
    pub rows: Vec<ResultRow>,
    /// What is shown of them.
    pub sections: Vec<Section>,
    /// What classifiers said.
    pub outcomes: Vec<Outcome>,
    /// What intervals and chance are.
    pub summary: &'static str,
}

impl<'a> Session<'a> {
    /// Opens the model and the pictures; `crop` is the protocol's own.
    pub fn open(arguments: &'a EvalArgs, crop: CropKind) -> anyhow::Result<Self> {
        let device = device::open(&arguments.device.device)?;
        let model = models::open(&arguments.model, &device)?;
        tell_guess(&model);
        let input = Input::of(&model, arguments.input.size, arguments.input.crop.unwrap_or(crop).into())?;
        let pictures = &arguments.pictures;
        let elsewhere = Elsewhere { validation: pictures.validation.as_deref(), test: pictures.test.as_deref() };
        let splits = elsewhere.splits(&pictures.data, pictures.reading.reading())?.with_labels(&pictures.task)?;
        let run = arguments.model.join("run.json").is_file().then(|| arguments.model.join("eval/features"));
        let cache = arguments.cache.clone().or(run);
        Ok(Self { arguments, device, model, splits, input, cache })
    }

    /// What decides the evaluation.
    pub fn settings(&self) -> Settings<'_> {
        Settings {
            tasks: &self.arguments.pictures.task,
            seed: self.arguments.seed,
            input: Some(self.input),
            cache: self.cache.as_deref(),
        }
    }

    /// The same network before training, if it was asked for.
    pub fn untrained(&self) -> anyhow::Result<Option<Model>> {
        Ok(self.arguments.untrained.then(|| self.model.untrained(&self.device)).transpose()?)
    }

    /// Where results are kept, if they are.
    fn folder(&self, protocol: &str) -> Option<PathBuf> {
        let model = &self.arguments.model;
        let in_run = || {
            let data = &self.arguments.pictures.data;
            let data: String = data.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            let mut name = format!("{protocol}-{}", data.trim_matches('-'));
            // Evaluations of other parts or at other sizes stand beside each other.
            let tasks = self.arguments.pictures.task.iter().map(|task| task_name(task));
            let input = &self.arguments.input;
            let other = input.size.map(|size| size.to_string()).into_iter();
            let other = other.chain(input.crop.map(|crop| Crop::from(crop).name().to_owned()));
            tasks.chain(other).for_each(|part| name += &format!("-{part}"));
            model.join("eval").join(name)
        };
        self.arguments.out.clone().or_else(|| model.join("run.json").is_file().then(in_run))
    }

    /// Prints what was found, and keeps it.
    pub fn finish(&self, protocol: &str, found: Found) -> anyhow::Result<ExitCode> {
        let seed = self.arguments.seed;
        let drawn = drawn(&found.outcomes);
        let results = Results {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            seed,
            models: vec![evaluated(&self.arguments.model.display().to_string(), &self.model, self.input)],
            splits: drawn.iter().map(|(split, _)| split.clone()).collect(),
            rows: found.rows,
        };
        let folder = self.folder(protocol);
        if let Some(folder) = &folder {
            let record = Record {
                title: format!("{protocol} on {}", self.splits.name),
                results: &results,
                sections: found.sections,
                outcomes: &found.outcomes,
                drawn: &drawn,
                splits: Some(&self.splits),
                summary: found.summary,
            };
            write(folder, record)?;
        }
        if self.arguments.json {
            output::json(&results)?;
        } else {
            output::result(&plain(&results.rows, true))?;
        }
        if let Some(folder) = folder {
            output::note(&format!("report {}", folder.join("report.html").display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says how pictures enter a network whose file does not.
pub fn tell_guess(model: &Model) {
    if model.guessed {
        let stem = if model.preprocessing.size == 32 { "as CIFAR-10's" } else { "as ImageNet's" };
        output::note(&format!("{} does not say how pictures enter it: {stem}, by its stem", model.path.display()));
    }
}
