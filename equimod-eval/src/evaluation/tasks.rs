//! The labeled features of a task: what is fitted on, chosen on and tested on.

use std::sync::Arc;

use equimod_core::checkpoint::sha256;
use equimod_data::dataset::likely_labels;
use equimod_data::{Dataset, Splits, task_name};
use serde::Serialize;

use super::Evaluation;
use super::cross_design::pair_names;
use crate::results::DrawnSplit;
use crate::stratified::stratified_split;
use crate::{Error, Features, Labeled, Result};

/// The share of training images on which hyper-parameters are chosen, and that is held out where a data set has no test
/// images.
const HELD_OUT: f64 = 0.2;

/// The labeled features of one task.
pub struct LabeledTask {
    /// Name in results.
    pub name: String,
    /// Index among the tasks of the training images.
    pub number: usize,
    /// Class names.
    pub classes: Vec<String>,
    /// All training images.
    pub train: Labeled,
    /// The training images to fit on while a hyper-parameter is chosen.
    pub fit: Labeled,
    /// The images to choose a hyper-parameter on.
    pub validation: Labeled,
    /// The images to test on.
    pub test: Labeled,
    /// Whether the test images are held-out training images.
    pub held_out: bool,
    /// The splits that were drawn.
    pub drawn: Vec<DrawnImages>,
}

/// A drawn split with the indices of its images in the data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnImages {
    /// The split.
    pub split: DrawnSplit,
    /// Indices of its images.
    pub indices: Vec<usize>,
}

/// A data set that cannot be evaluated, with the reason.
fn wrong(name: &str, reason: impl Into<String>) -> Error {
    equimod_data::Error::DataSet { name: name.into(), reason: reason.into() }.into()
}

/// The columns that may be labels, as the end of a sentence; empty if there are none.
fn possible_labels(dataset: &dyn Dataset) -> String {
    let columns = likely_labels(dataset).into_iter().map(|(name, count)| format!("{name} ({count} values)"));
    let columns: Vec<String> = columns.collect();
    if columns.is_empty() { String::new() } else { format!("; --task takes as labels: {}", columns.join(", ")) }
}

/// Checks that a data set has the labels of `tasks`, and any if a protocol `needs` them.
///
/// # Errors
/// If it lacks them.
pub fn check_labels(needs: bool, splits: &Splits, tasks: &[String]) -> Result<()> {
    check(splits, tasks)?;
    let is_unlabeled = splits.train.tasks().is_empty() && splits.designs.is_none();
    if is_unlabeled && needs { Err(unlabeled(splits)) } else { Ok(()) }
}

/// A data set without labels, with what may become some.
fn unlabeled(splits: &Splits) -> Error {
    let columns = possible_labels(splits.train.as_ref());
    let text = match columns.is_empty() {
        true => "; a folder has them by class sub-folders, a table by a column, a shard by .cls or .json members",
        false => &columns,
    };
    wrong(&splits.name, format!("it has no labels{text}; --data takes images with labels"))
}

/// Refuses tasks that are neither label columns nor pairs of designs of the data set.
pub fn check(splits: &Splits, tasks: &[String]) -> Result<()> {
    let pairs = splits.designs.as_ref().map(pair_names).unwrap_or_default();
    for task in tasks {
        let columns = splits.train.tasks().iter().map(|t| task_name(&t.name));
        if !columns.chain(pairs.clone()).any(|name| name == task_name(task)) {
            splits.train.task(task).map_err(|error| match error {
                equimod_data::Error::DataSet { name, reason } => {
                    wrong(&name, reason + &possible_labels(splits.train.as_ref()))
                }
                other => other.into(),
            })?;
        }
    }
    Ok(())
}

impl Evaluation<'_> {
    /// The selected tasks. One-shot tasks, with one image of each class, are left to retrieval.
    ///
    /// # Errors
    /// If the images have no labels, or too few for a training, a validation and a test split.
    pub fn labeled_tasks(&self) -> Result<Vec<LabeledTask>> {
        let selected = &self.tasks;
        let is_selected =
            |name: &str| selected.is_empty() || selected.iter().any(|task| task_name(task) == task_name(name));
        let one_shot = self.splits.designs.as_ref().map(|designs| designs.one_shot.as_str());
        let columns = self.splits.train.tasks().iter().enumerate();
        let numbers = columns.filter(|(_, task)| is_selected(&task.name) && one_shot != Some(task.name.as_str()));
        let found: Vec<Result<LabeledTask>> = numbers.map(|(number, _)| self.task(number)).collect();
        // Of several columns that nobody asked for, those that cannot be evaluated are left out.
        let leaves_out = selected.is_empty() && found.iter().any(Result::is_ok);
        let mut tasks = Vec::new();
        for task in found {
            match task {
                Err(error @ Error::Data(equimod_data::Error::DataSet { .. })) if leaves_out => {
                    self.observer.log(&format!("left out: {error}"));
                }
                task => tasks.push(task?),
            }
        }
        if let Some(one_shot) = one_shot.filter(|name| !selected.is_empty() && is_selected(name)) {
            let text = format!("each {one_shot} has one image a design; `eval retrieval` finds them across designs");
            if tasks.is_empty() {
                return Err(Error::Protocol(text));
            }
            self.observer.log(&format!("left out: {text}"));
        }
        if tasks.is_empty() && self.splits.designs.is_none() {
            return Err(unlabeled(self.splits));
        }
        Ok(tasks)
    }

    fn task(&self, number: usize) -> Result<LabeledTask> {
        let features = self.features()?;
        let column = &self.splits.train.tasks()[number];
        let train = Labeled::of_task(&features.train, self.splits.train.as_ref(), number)
            .map_err(|error| wrong(&self.splits.name, format!("its labels {}: {error}", column.name)))?;
        let name = task_name(&column.name);
        let mut task = LabeledTask {
            name,
            number,
            classes: column.classes.clone(),
            fit: train.clone(),
            validation: train.select(&[]),
            test: train.select(&[]),
            train,
            held_out: false,
            drawn: Vec::new(),
        };
        match (&self.splits.test, &features.test) {
            (Some(dataset), Some(features)) => task.test = self.of_split(features, dataset.as_ref(), &task)?,
            _ => task.hold_out_test(&self.splits.name, self.seed),
        }
        match (&self.splits.validation, &features.validation) {
            (Some(dataset), Some(features)) => {
                task.fit = task.train.clone();
                task.validation = self.of_split(features, dataset.as_ref(), &task)?;
            }
            _ => task.draw_validation(&self.splits.name, self.seed),
        }
        task.check(&self.splits.name)?;
        Ok(task)
    }

    /// The labeled images of another split. Its classes are matched by name.
    fn of_split(&self, features: &Features, dataset: &dyn Dataset, task: &LabeledTask) -> Result<Labeled> {
        let column = &self.splits.train.tasks()[task.number].name;
        // A single column of another source may have another name.
        let number = match dataset.tasks() {
            [_] => 0,
            _ => dataset.task(column)?,
        };
        let classes = &dataset.tasks()[number].classes;
        let labeled = Labeled::of_task(features, dataset, number)?;
        if *classes == task.classes {
            return Ok(labeled);
        }
        let index = |class: &String| task.classes.iter().position(|known| known == class).map(|index| index as u32);
        let indices: Vec<Option<u32>> = classes.iter().map(index).collect();
        let is_missing = |number: &usize| indices[*number].is_none() && labeled.labels.contains(&(*number as u32));
        let missing: Vec<usize> = (0..classes.len()).filter(is_missing).collect();
        if let Some(first) = missing.first() {
            return Err(untrained(&self.splits.name, missing.len(), &task.name, &classes[*first]));
        }
        let labels = labeled.labels.iter().filter_map(|&label| indices[label as usize]).collect();
        Ok(Labeled { labels, classes: task.classes.len(), ..labeled })
    }
}

/// The error for classes without training images.
fn untrained(data: &str, count: usize, task: &str, first: &str) -> Error {
    let what = if count == 1 { "one class" } else { &format!("{count} classes") };
    let text = format!(
        "{what} of {task} has test or validation images but no training images: {first:?}{}; add some, or take \
         those out",
        if count == 1 { "" } else { ", …" }
    );
    wrong(data, text)
}

impl LabeledTask {
    /// Holds a stratified part of the training images out to test on.
    fn hold_out_test(&mut self, data: &str, seed: u64) {
        let (train, test) = stratified_split(&self.train.labels, HELD_OUT, seed);
        self.drawn.push(self.split_of("test", data, &test));
        (self.train, self.test, self.held_out) = (self.train.select(&train), self.train.select(&test), true);
    }

    /// Takes a stratified part of the training images to choose hyper-parameters on.
    fn draw_validation(&mut self, data: &str, seed: u64) {
        let (fit, validation) = stratified_split(&self.train.labels, HELD_OUT, seed);
        self.drawn.push(self.split_of("validation", data, &validation));
        (self.fit, self.validation) = (self.train.select(&fit), self.train.select(&validation));
    }

    fn split_of(&self, part: &str, data: &str, rows: &[usize]) -> DrawnImages {
        let indices: Vec<usize> = rows.iter().map(|&row| self.train.indices[row]).collect();
        let text: String = indices.iter().map(|index| format!("{index}\n")).collect();
        let split = DrawnSplit {
            data: data.into(),
            task: self.name.clone(),
            part: part.into(),
            of: "train".into(),
            images: indices.len(),
            sha256: sha256(text.as_bytes()),
        };
        DrawnImages { split, indices }
    }

    /// Refuses labels that no classifier can be fitted on.
    fn check(&self, data: &str) -> Result<()> {
        if self.train.present() < 2 {
            let text = format!("all its training images have the same {}; give images of two classes", self.name);
            return Err(wrong(data, text));
        }
        let empty =
            [("test", &self.test), ("validation", &self.validation)].into_iter().find(|(_, p)| p.labels.is_empty());
        if let Some((part, _)) = empty {
            let text = format!(
                "no class of {} has an image to spare for {part}; give at least two images of a class, or {part} \
                 images with --{part}",
                self.name
            );
            return Err(wrong(data, text));
        }
        let mut trained = vec![false; self.classes.len()];
        self.train.labels.iter().for_each(|&label| trained[label as usize] = true);
        let mut missing: Vec<u32> = self.test.labels.iter().copied().filter(|&l| !trained[l as usize]).collect();
        missing.sort_unstable();
        missing.dedup();
        if let Some(&first) = missing.first() {
            return Err(untrained(data, missing.len(), &self.name, &self.classes[first as usize]));
        }
        Ok(())
    }

    /// The data set that the indices of the test images refer to.
    pub fn test_dataset<'a>(&self, splits: &'a Splits) -> &'a Arc<dyn Dataset> {
        match &splits.test {
            Some(test) if !self.held_out => test,
            _ => &splits.train,
        }
    }

    /// Number of test images and their classes, as text.
    pub fn test_description(&self) -> String {
        let part = if self.held_out { "held-out" } else { "test" };
        format!("{} {part} images of {} classes", self.test.labels.len(), self.test.present())
    }

    /// The images that a hyper-parameter was chosen on, as text.
    pub fn validation_description(&self) -> String {
        match self.drawn.iter().find(|drawn| drawn.split.part == "validation") {
            Some(DrawnImages { split, .. }) => {
                format!("a stratified fifth of the training images (sha256 {})", &split.sha256[..8])
            }
            None => format!("the {} validation images", self.validation.labels.len()),
        }
    }
}
