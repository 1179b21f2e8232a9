//! Images of an evaluation: the named source, or the one that the model was trained on.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use equimod_core::model::{MODEL_FILE, check_location};
use equimod_data::source::ReadOptions;
use equimod_data::{Background, Splits};
use equimod_train::RunInfo;
use equimod_train::recorded;
use equimod_train::run_dir::RESOLVED;
use serde_json::Value;

use super::channels::ignored_transparency;
use crate::process::exit::Usage;
use crate::reference::PREFIX;
use crate::run_state::run_of;

/// A data source, and how it is read.
#[derive(Clone, Debug)]
pub struct DataChoice {
    /// Name of the source.
    pub source: String,
    /// Options for decoding.
    pub options: ReadOptions,
    /// The run's own images, if the source was not named.
    pub of_run: Option<OwnImages>,
}

/// The images of a run, as its files describe them.
#[derive(Clone, Debug)]
pub struct OwnImages {
    /// Name of their source in the recipe, from wherever the evaluation is started.
    pub name: String,
    /// Their fingerprint; `None` for an older run or export.
    fingerprint: Option<String>,
    /// Whether an export names them, whose recipe has no path.
    of_export: bool,
}

impl DataChoice {
    /// Adds to an error of opening the source where its name comes from.
    pub fn explain<T>(&self, opened: anyhow::Result<T>) -> anyhow::Result<T> {
        opened.map_err(|error| {
            // What an option names is no matter of the source.
            if error.is::<Usage>() {
                return error;
            }
            let source = &self.source;
            let text = match &self.of_run {
                Some(OwnImages { of_export: true, .. }) => format!(
                    "{error}; the model was trained on {source}, of which an export keeps the name alone: give the folder \
                     by --data"
                ),
                Some(_) => format!("{error}; the model was trained on {source}, name other images by --data"),
                None => return error,
            };
            error.context(text)
        })
    }

    /// Whether the images of another run are these, by their fingerprint; `None` if it is not known.
    fn are_images_of(&self, other: &Self) -> Option<bool> {
        let fingerprint = |choice: &Self| choice.of_run.as_ref().and_then(|own| own.fingerprint.clone());
        Some(fingerprint(self)? == fingerprint(other)?)
    }

    /// A warning of transparent pixels that are ignored in images which the run did not train on.
    pub fn ignored_transparency(&self, splits: &Splits) -> Option<String> {
        let give = "; --background white puts them on white";
        let warning = || ignored_transparency(splits.train.as_ref(), self.options.background, give);
        self.of_run.is_none().then(warning).flatten()
    }

    /// Checks that images which are taken for those of the run are them.
    ///
    /// # Errors
    ///
    /// If their fingerprint is another one.
    pub fn check(&self, splits: &Splits) -> anyhow::Result<()> {
        // Pretraining may have had further images.
        let training = splits.pretraining.as_ref().unwrap_or(&splits.train);
        let own = self.of_run.as_ref().and_then(|own| own.fingerprint.as_deref());
        match own {
            Some(own) if training.fingerprint()? != own => {
                let text = format!(
                    "{} no longer holds the images of the run; give --data with the images to evaluate on",
                    self.source
                );
                Err(Usage(text).into())
            }
            _ => Ok(()),
        }
    }

    /// Name of the source, with where it comes from and how it is read.
    pub fn describe(&self) -> String {
        let of_run = if self.of_run.is_some() { ", the data of the run" } else { "" };
        format!("data: {}{of_run}{}", self.source, behind(self.options))
    }
}

/// The background of images, in words, if they have one.
pub fn behind(options: ReadOptions) -> String {
    match options.background {
        Background(None) => String::new(),
        color => format!(", transparent pixels on {color}"),
    }
}

/// How images of any source are decoded for a model: as in its training, as far as `options` leave it open.
///
/// # Errors
///
/// If there is no such model.
pub fn reading(model: &Path, options: ReadOptions) -> anyhow::Result<ReadOptions> {
    Ok(choose(model, Some(""), options)?.options)
}

/// [`reading`] for each of several models.
///
/// # Errors
///
/// If one of them does not exist.
pub fn readings(models: &[PathBuf], options: ReadOptions) -> anyhow::Result<Vec<ReadOptions>> {
    Ok(choose_each(models, Some(""), options)?.into_iter().map(|choice| choice.options).collect())
}

/// The images of several models, which `open` opens once for each way of decoding; it is given the number of a model.
///
/// # Errors
///
/// Those of `open`.
pub fn open_each<T>(
    readings: &[ReadOptions],
    mut open: impl FnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<Rc<T>>> {
    let mut opened: Vec<Rc<T>> = Vec::new();
    for (place, options) in readings.iter().enumerate() {
        let known = readings[..place].iter().position(|earlier| earlier == options);
        let images = known.map_or_else(|| open(place).map(Rc::new), |earlier| Ok(opened[earlier].clone()))?;
        opened.push(images);
    }
    Ok(opened)
}

/// The source `named`, else that on which the model was trained. Either is decoded as it was in training, as far as the
/// model says and `options` leave open.
///
/// # Errors
///
/// If no source is named, and the model does not say.
pub fn choose(model: &Path, named: Option<&str>, options: ReadOptions) -> anyhow::Result<DataChoice> {
    Ok(choose_each(&[model.to_owned()], named, options)?.swap_remove(0))
}

/// [`choose`] for several models: for each of them, the common source, decoded as for the model.
///
/// # Errors
///
/// If no source is named, and no model says, or they say different sources.
pub fn choose_each(models: &[PathBuf], named: Option<&str>, options: ReadOptions) -> anyhow::Result<Vec<DataChoice>> {
    let mut found: Option<DataChoice> = None;
    let mut own: Vec<Option<ReadOptions>> = Vec::new();
    for model in models {
        let choice = of_model(model, options);
        // With named images, a recipe that cannot be read is no obstacle.
        let choice = if named.is_some() { choice.unwrap_or_default() } else { choice? };
        own.push(choice.as_ref().map(|choice| choice.options));
        let Some(choice) = choice else { continue };
        match &found {
            _ if named.is_some() => {}
            // An export knows its images by their last folder and their fingerprint.
            Some(first) if first.are_images_of(&choice) == Some(true) => {
                let is_missing = !Path::new(&first.source).exists() && Path::new(&choice.source).exists();
                if is_missing {
                    found = Some(choice);
                }
            }
            Some(first) if first.source != choice.source => {
                let text = format!(
                    "the models were trained on {} and {}; give --data with the images to evaluate on",
                    first.source, choice.source
                );
                return Err(Usage(text).into());
            }
            Some(first) if first.are_images_of(&choice) == Some(false) => {
                let text = format!(
                    "the models were trained on different images that are both called {}; give --data with the images to \
                     evaluate on",
                    first.source
                );
                return Err(Usage(text).into());
            }
            Some(_) => {}
            None => found = Some(choice),
        }
    }
    if let Some(source) = named {
        found = Some(DataChoice { source: source.to_owned(), options, of_run: None });
    }
    let choice = found.ok_or_else(|| {
        let models: Vec<String> = models.iter().map(|model| model.display().to_string()).collect();
        let text = format!(
            "{} does not say on which images it was trained; give --data with the images to evaluate on, e.g. --data \
             emoji for the bundled ones",
            models.join(", ")
        );
        anyhow::Error::from(Usage(text))
    })?;
    // For weights that say nothing, images are decoded as for the others.
    let known = own.iter().flatten().next().copied().unwrap_or(options);
    Ok(own.into_iter().map(|own| DataChoice { options: own.unwrap_or(known), ..choice.clone() }).collect())
}

/// Source of the run or export that a model belongs to.
fn of_model(model: &Path, options: ReadOptions) -> anyhow::Result<Option<DataChoice>> {
    if model.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
        return Ok(None);
    }
    check_location(model)?;
    let Some(recipe) = recipe_of(model) else { return Ok(None) };
    let data = recorded(&recipe)?.data;
    let apply_orientation = options.apply_orientation || data.apply_orientation;
    let background = if options.background.0.is_some() { options.background } else { data.background };
    let options = ReadOptions { apply_orientation, background };
    let info = recipe.parent().and_then(|run| RunInfo::read(run).ok());
    let is_export = info.is_none();
    let fingerprint = info.map(|info| info.data_fingerprint).or_else(|| of_export(&recipe));
    let fingerprint = fingerprint.filter(|fingerprint| !fingerprint.is_empty());
    let of_run = Some(OwnImages { name: data.source.clone(), fingerprint, of_export: is_export });
    Ok(Some(DataChoice { source: found(data.source, &recipe), options, of_run }))
}

/// Fingerprint of the training images of an export whose recipe is the file `recipe`.
fn of_export(recipe: &Path) -> Option<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(recipe.with_file_name("config.json")).ok()?).ok()?;
    Some(config["equimod"]["training"]["data_fingerprint"].as_str()?.to_owned())
}

/// The source of a run whose resolved recipe is the file `recipe`. A relative path is that of the folder in which the run
/// was started, if the images are still there.
pub fn found(source: String, recipe: &Path) -> String {
    let started = || {
        let info = RunInfo::read(recipe.parent()?).ok()?;
        let folder = PathBuf::from(info.directory);
        // From the same folder, the name is the shorter one.
        let is_here = std::env::current_dir().is_ok_and(|here| here == folder);
        Some(folder.join(&source)).filter(|path| !is_here && path.is_absolute() && path.exists())
    };
    started().map_or_else(|| source.clone(), |path| path.display().to_string())
}

/// The resolved recipe of a run directory, of a checkpoint in one, or of an export.
fn recipe_of(model: &Path) -> Option<PathBuf> {
    let in_run = run_of(model).into_iter().map(|run| run.join(RESOLVED));
    // Weights in an export are read with its configuration.
    let folder = if model.ends_with(MODEL_FILE) { model.with_file_name("") } else { model.to_owned() };
    let in_export = std::iter::once(folder.join("recipe.toml")).filter(|_| folder.join("config.json").is_file());
    in_run.chain(in_export).find(|recipe| recipe.is_file())
}
