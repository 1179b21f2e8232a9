//! What the page of an evaluation shows.

use equimod_data::{Dataset, Image};
use equimod_eval::knn::nearest;
use equimod_eval::report::{Figure, Map, Picture, PictureRow, Reliability, Section, Table};
use equimod_eval::{Crop, Input};

use super::{Evaluation, Outcome, Task, projections, task_name};
use crate::cli::MapKind;

/// Classes whose confusions are shown, and how many confusions of each.
const WORST: usize = 6;
const CONFUSED: usize = 4;
/// Test pictures whose neighbours are shown, and how many. An odd number: half-way through the bundled pictures is the same
/// picture in the other design.
const QUERIES: usize = 5;
const NEIGHBOURS: usize = 5;
/// Intervals of a reliability diagram.
const BINS: usize = 15;
/// Most classes that a map colours: more cannot be told apart.
const COLOURED: usize = 60;
/// Side of the square that pictures are shown in.
const SHOWN: usize = 96;

/// Reliability, curves, worst classes, neighbours and the map of features.
pub fn sections(evaluation: &Evaluation, outcomes: &[Outcome], map: MapKind) -> anyhow::Result<Vec<Section>> {
    let diagram = |outcome: &Outcome| {
        let title =
            format!("{}: expected calibration error {:.3}", outcome.title(), outcome.predictions.calibration_error());
        Figure::Reliability(Reliability { title, bins: outcome.predictions.reliability(BINS) })
    };
    let mut sections = vec![
        Section::new("Reliability", outcomes.iter().map(diagram).collect()),
        Section::lines("Curves", outcomes.iter().flat_map(|outcome| outcome.curves.clone()).collect()),
    ];
    for outcome in outcomes {
        sections.push(worst_classes(evaluation, outcome)?);
    }
    sections.extend(galleries(evaluation, outcomes.iter().map(|outcome| &outcome.task))?);
    sections.push(Section::new("Map of features", maps(evaluation, map)?));
    Ok(sections)
}

/// The nearest neighbours for each of `tasks`, once for those of one name.
pub fn galleries<'a>(evaluation: &Evaluation, tasks: impl Iterator<Item = &'a Task>) -> anyhow::Result<Vec<Section>> {
    let mut shown: Vec<&str> = Vec::new();
    let mut sections = Vec::new();
    for task in tasks {
        if !shown.contains(&task.name.as_str()) {
            shown.push(&task.name);
            sections.push(neighbours(evaluation, task)?);
        }
    }
    Ok(sections)
}

/// A picture for people: whole, small.
fn shown(image: &Image) -> anyhow::Result<Vec<u8>> {
    let larger = image.size().height.max(image.size().width) > SHOWN;
    let image = if larger { Input { size: SHOWN, crop: Crop::Centre }.view(image) } else { image.clone() };
    Ok(image.encode_png()?)
}

/// The name of a picture of `dataset`.
fn title(dataset: &dyn Dataset, picture: usize) -> String {
    dataset.text("name", picture).map_or_else(|| dataset.key(picture), str::to_lowercase)
}

/// The classes with the lowest accuracy, and what their pictures are taken for.
fn worst_classes(evaluation: &Evaluation, outcome: &Outcome) -> anyhow::Result<Section> {
    let (task, predictions) = (&outcome.task, &outcome.predictions);
    let dataset = task.test_pictures(evaluation.splits).as_ref();
    let confusion = predictions.confusion();
    let share = |class: usize| confusion[class][class] as f64 / confusion[class].iter().sum::<usize>() as f64;
    let wrong = |class: usize| confusion[class].iter().sum::<usize>() - confusion[class][class];
    let mut order: Vec<usize> = (0..confusion.len()).filter(|&class| wrong(class) > 0).collect();
    order.sort_by(|&a, &b| share(a).total_cmp(&share(b)).then(wrong(b).cmp(&wrong(a))).then(a.cmp(&b)));
    let said = predictions.first();
    // The first test picture of a class that is taken for another, or for itself where there is one.
    let example = |class: usize, taken_for: Option<usize>| -> anyhow::Result<Vec<u8>> {
        let fits = |row: &usize| {
            predictions.labels()[*row] as usize == class && taken_for.is_none_or(|other| said[*row] as usize == other)
        };
        match (0..predictions.len()).find(fits) {
            Some(row) => shown(&dataset.image(predictions.pictures()[row])?),
            None => Ok(Vec::new()),
        }
    };
    let row = |&class: &usize| -> anyhow::Result<PictureRow> {
        let all: usize = confusion[class].iter().sum();
        let right = vec![("right".to_owned(), format!("{} of {all}", confusion[class][class]))];
        let own = if confusion[class][class] > 0 { Some(class) } else { None };
        let png = example(class, own)?;
        let mut pictures = vec![Picture { title: task.classes[class].clone(), png, parameters: right, right: None }];
        let mut taken: Vec<usize> = (0..confusion.len()).filter(|&c| c != class && confusion[class][c] > 0).collect();
        taken.sort_by_key(|&c| (std::cmp::Reverse(confusion[class][c]), c));
        for &other in taken.iter().take(CONFUSED) {
            pictures.push(Picture {
                title: format!("taken for {}", task.classes[other]),
                png: example(class, Some(other))?,
                parameters: vec![("pictures".into(), confusion[class][other].to_string())],
                right: Some(false),
            });
        }
        Ok(PictureRow { pictures })
    };
    let rows = order.iter().take(WORST).map(row).collect::<anyhow::Result<Vec<_>>>()?;
    let mut figures = vec![Figure::Pictures(rows)];
    if confusion.len() <= 10 {
        figures.push(Figure::Table(matrix(task, &confusion)));
    }
    Ok(Section::new(&format!("Worst classes of {}", outcome.title()), figures))
}

fn matrix(task: &Task, confusion: &[Vec<usize>]) -> Table {
    let headings = std::iter::once("true class \\ predicted".to_owned()).chain(task.classes.iter().cloned());
    let line = |(class, counts): (&String, &Vec<usize>)| {
        std::iter::once(class.clone()).chain(counts.iter().map(usize::to_string)).collect()
    };
    Table { headings: headings.collect(), rows: task.classes.iter().zip(confusion).map(line).collect() }
}

/// Some test pictures, evenly spaced, with their nearest training pictures.
fn neighbours(evaluation: &Evaluation, task: &Task) -> anyhow::Result<Section> {
    let dataset = task.test_pictures(evaluation.splits).as_ref();
    let trained = evaluation.splits.train.as_ref();
    let count = QUERIES.min(task.test.labels.len());
    let queries: Vec<usize> = (0..count).map(|i| i * task.test.labels.len() / count).collect();
    let found = nearest(&task.train.features, &task.test.features.select(&queries), NEIGHBOURS)?;
    let mut rows = Vec::new();
    for (&query, neighbours) in queries.iter().zip(&found) {
        let class = |label: u32| ("class".to_owned(), task.classes[label as usize].clone());
        let place = task.test.pictures[query];
        let mut pictures = vec![Picture {
            title: title(dataset, place),
            png: shown(&dataset.image(place)?)?,
            parameters: vec![class(task.test.labels[query])],
            right: None,
        }];
        for &(row, cosine) in neighbours {
            let place = task.train.pictures[row];
            pictures.push(Picture {
                title: title(trained, place),
                png: shown(&trained.image(place)?)?,
                parameters: vec![class(task.train.labels[row]), ("cosine".into(), format!("{cosine:.3}"))],
                right: Some(task.train.labels[row] == task.test.labels[query]),
            });
        }
        rows.push(PictureRow { pictures });
    }
    let title = format!("Nearest training pictures by {}", task.name);
    Ok(Section::new(&title, vec![Figure::Pictures(rows)]))
}

/// The test pictures' features in the plane, coloured by each of their labels.
pub fn maps(evaluation: &Evaluation, kind: MapKind) -> anyhow::Result<Vec<Figure>> {
    let (features, dataset) = evaluation.shown();
    let decoded: Vec<usize> =
        (0..features.rows()).filter(|place| features.left_out().binary_search(place).is_err()).collect();
    let places: Vec<usize> = projections::chosen(decoded.len()).into_iter().map(|row| decoded[row]).collect();
    let mut figures = Vec::new();
    for (name, points) in projections::of(&features.select(&places), kind)? {
        let tasks = dataset.tasks().iter().enumerate().filter(|(_, task)| task.classes.len() <= COLOURED);
        for (number, task) in tasks {
            let mut classes: Vec<(String, Vec<(f64, f64)>)> =
                task.classes.iter().map(|class| (class.clone(), Vec::new())).collect();
            for (&place, point) in places.iter().zip(&points) {
                if let Some(label) = dataset.label(number, place) {
                    classes[label as usize].1.push(*point);
                }
            }
            classes.retain(|(_, points)| !points.is_empty());
            figures.push(Figure::Map(Map { title: format!("{name} by {}", task_name(&task.name)), classes }));
        }
    }
    Ok(figures)
}
