//! The labelled pictures of a task: what is fitted on, chosen on and tested on.

use std::sync::Arc;

use equimod_core::checkpoint::sha256;
use equimod_data::dataset::likely_labels;
use equimod_data::{Dataset, Error};
use equimod_eval::logistic::split;
use equimod_eval::results::DrawnSplit;
use equimod_eval::{Features, Labelled};

use super::Evaluation;
use crate::sources::{Splits, task_name};

/// The share of training pictures on which hyper-parameters are chosen, and of a source without test pictures that is
/// held out.
const HELD_OUT: f64 = 0.2;

/// One task's labelled features.
pub struct Task {
    /// As it is called in results.
    pub name: String,
    /// Its number among the tasks of the training pictures.
    pub number: usize,
    /// The name of each class.
    pub classes: Vec<String>,
    /// All training pictures.
    pub train: Labelled,
    /// Those of them that are fitted on while a hyper-parameter is chosen.
    pub fit: Labelled,
    /// What it is chosen on.
    pub validation: Labelled,
    /// What is tested on.
    pub test: Labelled,
    /// Whether the test pictures are held-out training pictures.
    pub held_out: bool,
    /// The splits that were drawn here, with the places of their pictures.
    pub drawn: Vec<(DrawnSplit, Vec<usize>)>,
}

/// A data set that cannot be evaluated, with the reason.
pub fn wrong(name: &str, reason: impl Into<String>) -> anyhow::Error {
    Error::DataSet { name: name.into(), reason: reason.into() }.into()
}

/// The columns that look like labels, as the end of a sentence; empty where there are none.
fn offered(dataset: &dyn Dataset) -> String {
    let columns: Vec<String> =
        likely_labels(dataset).into_iter().map(|(name, count)| format!("{name} ({count} values)")).collect();
    match columns.is_empty() {
        true => String::new(),
        false => format!("; --task takes as labels: {}", columns.join(", ")),
    }
}

/// Refuses tasks that the source does not have.
pub fn check(splits: &Splits, tasks: &[String]) -> anyhow::Result<()> {
    for task in tasks {
        let mut columns = splits.train.tasks().iter().map(|t| task_name(&t.name));
        if !columns.any(|name| name == task_name(task)) {
            splits.train.task(task).map_err(|error| match error {
                Error::DataSet { name, reason } => wrong(&name, reason + &offered(splits.train.as_ref())),
                other => other.into(),
            })?;
        }
    }
    Ok(())
}

impl Evaluation<'_> {
    /// The tasks that were asked for, with labels in both splits; one-shot tasks (no class twice) are left to retrieval.
    pub fn tasks(&self) -> anyhow::Result<Vec<Task>> {
        let asked = self.settings.tasks;
        let wanted = |name: &str| asked.is_empty() || asked.iter().any(|task| task_name(task) == task_name(name));
        let one_shot = self.splits.designs.as_ref().map(|designs| designs.one_shot);
        let columns = self.splits.train.tasks().iter().enumerate();
        let numbers = columns.filter(|(_, task)| wanted(&task.name) && one_shot != Some(task.name.as_str()));
        let found = numbers.map(|(number, _)| self.task(number)).collect::<anyhow::Result<Vec<Task>>>()?;
        if let (true, Some(one_shot)) = (found.is_empty() && !asked.is_empty(), one_shot) {
            let text = format!("each {one_shot} has one picture a design; `eval retrieval` finds them across designs");
            return Err(wrong(&self.splits.name, text));
        }
        if found.is_empty() && self.splits.designs.is_none() {
            let text = match offered(self.splits.train.as_ref()) {
                none if none.is_empty() => {
                    "; a folder has them by class sub-folders, a table by a column, a shard by .cls \
                                            or .json members"
                        .into()
                }
                offered => offered,
            };
            return Err(wrong(&self.splits.name, format!("it has no labels{text}")));
        }
        Ok(found)
    }

    fn task(&self, number: usize) -> anyhow::Result<Task> {
        let column = &self.splits.train.tasks()[number];
        let train = Labelled::of_task(&self.train, self.splits.train.as_ref(), number)
            .map_err(|error| wrong(&self.splits.name, format!("its labels {}: {error}", column.name)))?;
        let name = task_name(&column.name);
        let mut task = Task {
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
        match (&self.splits.test, &self.test) {
            (Some(dataset), Some(features)) => task.test = self.of_split(features, dataset.as_ref(), &task)?,
            _ => task.hold_out_test(&self.splits.name, self.settings.seed),
        }
        match (&self.splits.validation, &self.validation) {
            (Some(dataset), Some(features)) => {
                task.fit = task.train.clone();
                task.validation = self.of_split(features, dataset.as_ref(), &task)?;
            }
            _ => task.draw_validation(&self.splits.name, self.settings.seed),
        }
        task.check(&self.splits.name)?;
        Ok(task)
    }

    /// The labelled pictures of another split, which must have the same classes.
    fn of_split(&self, features: &Features, dataset: &dyn Dataset, task: &Task) -> anyhow::Result<Labelled> {
        let column = &self.splits.train.tasks()[task.number].name;
        // Columns of other sources may be called otherwise where there is only one.
        let number = match dataset.tasks() {
            [_] => 0,
            _ => dataset.task(column)?,
        };
        let classes = &dataset.tasks()[number].classes;
        let labelled = Labelled::of_task(features, dataset, number)?;
        if *classes == task.classes {
            return Ok(labelled);
        }
        // Classes are the same by their names, wherever they stand.
        let known = |class: &String| task.classes.iter().position(|known| known == class).map(|place| place as u32);
        let places: Vec<Option<u32>> = classes.iter().map(known).collect();
        let place = |&label: &u32| {
            places[label as usize].ok_or_else(|| untrained(&self.splits.name, 1, &task.name, &classes[label as usize]))
        };
        let labels = labelled.labels.iter().map(place).collect::<anyhow::Result<Vec<u32>>>()?;
        Ok(Labelled { labels, classes: task.classes.len(), ..labelled })
    }
}

/// Classes without training pictures, as an error.
fn untrained(data: &str, count: usize, task: &str, first: &str) -> anyhow::Error {
    let what = if count == 1 { "one class" } else { &format!("{count} classes") };
    let text = format!(
        "{what} of {task} has test or validation pictures but no training pictures: {first:?}{}; add some, or take those out",
        if count == 1 { "" } else { ", …" }
    );
    wrong(data, text)
}

impl Task {
    /// Holds a stratified part of the training pictures out to test on.
    fn hold_out_test(&mut self, data: &str, seed: u64) {
        let (train, test) = split(&self.train.labels, HELD_OUT, seed);
        self.drawn.push(self.split_of("test", data, &test));
        (self.train, self.test, self.held_out) = (self.train.select(&train), self.train.select(&test), true);
    }

    /// Takes a stratified part of the training pictures to choose hyper-parameters on.
    fn draw_validation(&mut self, data: &str, seed: u64) {
        let (fit, validation) = split(&self.train.labels, HELD_OUT, seed);
        self.drawn.push(self.split_of("validation", data, &validation));
        (self.fit, self.validation) = (self.train.select(&fit), self.train.select(&validation));
    }

    fn split_of(&self, part: &str, data: &str, rows: &[usize]) -> (DrawnSplit, Vec<usize>) {
        let indices: Vec<usize> = rows.iter().map(|&row| self.train.pictures[row]).collect();
        let text: String = indices.iter().map(|index| format!("{index}\n")).collect();
        let split = DrawnSplit {
            data: data.into(),
            task: self.name.clone(),
            part: part.into(),
            of: "train".into(),
            pictures: indices.len(),
            sha256: sha256(text.as_bytes()),
        };
        (split, indices)
    }

    /// Refuses what no classifier can be fitted on.
    fn check(&self, data: &str) -> anyhow::Result<()> {
        if self.train.present() < 2 {
            let text = format!("all its training pictures have the same {}; give pictures of two classes", self.name);
            return Err(wrong(data, text));
        }
        let empty =
            [("test", &self.test), ("validation", &self.validation)].into_iter().find(|(_, p)| p.labels.is_empty());
        if let Some((part, _)) = empty {
            let text = format!(
                "no class of {} has a picture to spare for {part}; give two pictures of a class at least, or {part} \
                 pictures by --{part}",
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

    /// The data set that the test pictures are places of.
    pub fn test_pictures<'a>(&self, splits: &'a Splits) -> &'a Arc<dyn Dataset> {
        match &splits.test {
            Some(test) if !self.held_out => test,
            _ => &splits.train,
        }
    }

    /// Which test pictures, for people.
    pub fn tested_on(&self) -> String {
        let part = if self.held_out { "held-out" } else { "test" };
        format!("{} {part} pictures of {} classes", self.test.labels.len(), self.test.present())
    }

    /// On which pictures a hyper-parameter was chosen, for people.
    pub fn chosen_on(&self) -> String {
        match self.drawn.iter().find(|(split, _)| split.part == "validation") {
            Some((split, _)) => {
                format!("a stratified fifth of the training pictures (sha256 {})", &split.sha256[..8])
            }
            None => format!("the {} validation pictures", self.validation.labels.len()),
        }
    }
}
