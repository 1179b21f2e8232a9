//! Sections of a page for classifiers and tasks.

use equimod_data::{Dataset, Image};

use super::{Classification, Evaluation, LabeledTask, maps};
use crate::knn::nearest;
use crate::report::{Figure, ImageRow, Reliability, ReportImage, Section, Table};
use crate::{Crop, InputTransform, Result};

/// Maximum number of classes whose confusions are shown, and of confusions of each.
const WORST: usize = 6;
const CONFUSED: usize = 4;
/// Maximum number of classes of a confusion matrix that is shown whole.
const MATRIX: usize = 10;
/// Test images whose neighbors are shown, and neighbors of each. The first is odd: half-way through the bundled
/// images is the same thing in the other design.
const QUERIES: usize = 5;
const NEIGHBORS: usize = 5;
/// Bins of a reliability diagram.
const BINS: usize = 15;
/// Side of the square that images are shown in, in pixels.
const SHOWN: usize = 96;

/// Reliability, curves, worst classes, neighbors and the map of features.
pub fn classification_sections(evaluation: &Evaluation, classifications: &[Classification]) -> Result<Vec<Section>> {
    let diagram = |one: &Classification| {
        let title = format!("{}: expected calibration error {:.3}", one.title(), one.predictions.calibration_error());
        Figure::Reliability(Reliability { title, bins: one.predictions.reliability(BINS) })
    };
    let mut sections = vec![
        Section::new("Reliability", classifications.iter().map(diagram).collect()),
        Section::lines("Curves", classifications.iter().flat_map(|one| one.curves.clone()).collect()),
    ];
    for (number, one) in classifications.iter().enumerate() {
        sections.push(first_open(number, worst_classes(evaluation, one)?));
    }
    let tasks: Vec<&LabeledTask> = classifications.iter().map(|one| &one.task).collect();
    sections.extend(neighbor_sections(evaluation, &tasks)?);
    sections.push(Section::new("Map of features", maps::figures(evaluation)?));
    Ok(sections)
}

/// The nearest neighbors for each of `tasks`; tasks of one name are shown once.
pub fn neighbor_sections(evaluation: &Evaluation, tasks: &[&LabeledTask]) -> Result<Vec<Section>> {
    let is_first = |(i, task): &(usize, &&LabeledTask)| tasks[..*i].iter().all(|other| other.name != task.name);
    let shown = tasks.iter().enumerate().filter(is_first);
    shown.map(|(number, task)| Ok(first_open(number, neighbors(evaluation, task)?))).collect()
}

/// The section of task number `number`: those after the first open on a click, so that the page stays short in print.
fn first_open(number: usize, section: Section) -> Section {
    if number == 0 { section } else { section.folded() }
}

/// A task's name without its unit and the augmentation or module it belongs to: `equimod, grayscale alone` → `grayscale
/// alone`, `color-jitter: hue (share of the circle)` → `hue`.
pub fn short_name(task: &str) -> String {
    let name = task.split(" (").next().unwrap_or(task);
    let name = name.split_once(": ").map_or(name, |(_, rest)| rest);
    match name.split_once(", ") {
        Some((_, alone)) if alone.ends_with("alone") => alone.into(),
        Some((value, "difference")) => value.into(),
        _ => name.into(),
    }
}

/// A small PNG of a whole image.
fn thumbnail(image: &Image) -> Result<Vec<u8>> {
    let larger = image.size().height.max(image.size().width) > SHOWN;
    let image = if larger { InputTransform { size: SHOWN, crop: Crop::Center }.apply(image) } else { image.clone() };
    Ok(image.encode_png()?)
}

/// The name of an image of `dataset`; for a file, its name without folders.
pub fn title(dataset: &dyn Dataset, index: usize) -> String {
    // Files of several folders may have one name.
    let file = || {
        let key = dataset.key(index);
        let parts: Vec<&str> = key.rsplit(['/', '\\']).take(2).collect();
        parts.into_iter().rev().collect::<Vec<_>>().join("/")
    };
    dataset.text("name", index).map_or_else(file, str::to_lowercase)
}

/// The classes with the lowest accuracy, and the classes they are confused with.
fn worst_classes(evaluation: &Evaluation, classification: &Classification) -> Result<Section> {
    let (task, confusion) = (&classification.task, classification.predictions.confusion());
    let total = |class: usize| confusion[class].iter().sum::<usize>();
    let accuracy = |class: usize| confusion[class][class] as f64 / total(class) as f64;
    let wrong = |class: usize| total(class) - confusion[class][class];
    let mut order: Vec<usize> = (0..confusion.len()).filter(|&class| wrong(class) > 0).collect();
    order.sort_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b)).then(wrong(b).cmp(&wrong(a))).then(a.cmp(&b)));
    let examples = Examples { evaluation, classification };
    let rows = order.iter().take(WORST).map(|&class| examples.row(class, &confusion[class])).collect::<Result<_>>()?;
    let mut figures = vec![Figure::Images(rows)];
    if confusion.len() <= MATRIX {
        figures.push(Figure::Table(matrix(task, &confusion)));
    }
    Ok(Section::new(&format!("Worst classes of {}", classification.title()), figures))
}

/// Example images of confusions.
struct Examples<'a> {
    evaluation: &'a Evaluation<'a>,
    classification: &'a Classification,
}

impl Examples<'_> {
    /// A class that is predicted right, then what it is confused with most often; `counts` are its predicted classes.
    fn row(&self, class: usize, counts: &[usize]) -> Result<ImageRow> {
        let classes = &self.classification.task.classes;
        let right = format!("{} of {}", counts[class], counts.iter().sum::<usize>());
        let mut images = vec![ReportImage {
            title: classes[class].clone(),
            png: self.png(class, (counts[class] > 0).then_some(class))?,
            parameters: vec![("right".to_owned(), right)],
            correct: None,
        }];
        let mut confused: Vec<usize> = (0..counts.len()).filter(|&other| other != class && counts[other] > 0).collect();
        confused.sort_by_key(|&other| (std::cmp::Reverse(counts[other]), other));
        for &other in confused.iter().take(CONFUSED) {
            images.push(ReportImage {
                title: classes[other].clone(),
                png: self.png(class, Some(other))?,
                parameters: vec![("predicted for".into(), counts[other].to_string())],
                correct: Some(false),
            });
        }
        Ok(ImageRow { images })
    }

    /// The first test image of `class` that is predicted as `predicted`, or as anything; empty if there is none.
    fn png(&self, class: usize, predicted: Option<usize>) -> Result<Vec<u8>> {
        let predictions = &self.classification.predictions;
        let all = predictions.first();
        let fits = |row: &usize| {
            predictions.labels()[*row] as usize == class && predicted.is_none_or(|other| all[*row] as usize == other)
        };
        let dataset = self.classification.task.test_dataset(self.evaluation.splits);
        match (0..predictions.len()).find(fits) {
            Some(row) => thumbnail(&dataset.image(predictions.indices()[row])?),
            None => Ok(Vec::new()),
        }
    }
}

fn matrix(task: &LabeledTask, confusion: &[Vec<usize>]) -> Table {
    let headings = std::iter::once("true class \\ predicted".to_owned()).chain(task.classes.iter().cloned());
    let line = |(class, counts): (&String, &Vec<usize>)| {
        std::iter::once(class.clone()).chain(counts.iter().map(usize::to_string)).collect()
    };
    Table { headings: headings.collect(), rows: task.classes.iter().zip(confusion).map(line).collect() }
}

/// Some test images, evenly spaced, with their nearest training images.
fn neighbors(evaluation: &Evaluation, task: &LabeledTask) -> Result<Section> {
    let (test, train) = (task.test_dataset(evaluation.splits).as_ref(), evaluation.splits.train.as_ref());
    let count = QUERIES.min(task.test.labels.len());
    let queries: Vec<usize> = (0..count).map(|i| i * task.test.labels.len() / count).collect();
    let nearest = nearest(&task.train.features, &task.test.features.select(&queries), NEIGHBORS)?;
    let class = |label: u32| ("class".to_owned(), task.classes[label as usize].clone());
    let mut rows = Vec::new();
    for (&query, neighbors) in queries.iter().zip(&nearest) {
        let index = task.test.indices[query];
        let mut images = vec![ReportImage {
            title: title(test, index),
            png: thumbnail(&test.image(index)?)?,
            parameters: vec![class(task.test.labels[query])],
            correct: None,
        }];
        for &(row, cosine) in neighbors {
            let index = task.train.indices[row];
            images.push(ReportImage {
                title: title(train, index),
                png: thumbnail(&train.image(index)?)?,
                parameters: vec![class(task.train.labels[row]), ("cosine".into(), format!("{cosine:.3}"))],
                correct: Some(task.train.labels[row] == task.test.labels[query]),
            });
        }
        rows.push(ImageRow { images });
    }
    Ok(Section::new(&format!("Nearest training images by {}", task.name), vec![Figure::Images(rows)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_units_and_owners() {
        assert_eq!(short_name("equimod, grayscale alone"), "grayscale alone");
        assert_eq!(short_name("color-jitter: hue (share of the circle)"), "hue");
        assert_eq!(short_name("color-jitter: hue, difference (share of the circle)"), "hue");
        assert_eq!(short_name("equimod"), "equimod");
    }
}
