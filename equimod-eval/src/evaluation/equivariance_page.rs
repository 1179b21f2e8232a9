//! Sections of a page for predicted embeddings.

use equimod_core::Model;
use equimod_core::equivariance::Start;
use equimod_data::Dataset;

use super::page::{short_name, title};
use crate::predicted_views::{PredictedView, View, predicted_views};
use crate::report::{Bar, Bars, Figure, ImageRow, ReportImage, Section, Table};
use crate::results::{ABSOLUTE, RATIO_OF_MEANS, RELATIVE, SHUFFLED};
use crate::shown::shown_images;
use crate::{Result, ResultRow};

/// Views among which the nearest to a prediction is shown.
const VIEWS: usize = 50;

/// A column of the table: its heading, and its cell for a task.
type Column<'a> = (&'static str, &'a dyn Fn(&str) -> Option<String>);

/// Absolute equivariance as a chart, and every measure of each augmentation as a table; empty without such rows.
pub fn equivariance_section(rows: &[ResultRow]) -> Section {
    // Of several evaluations, the newest.
    let is_newest = |row: &&ResultRow| {
        let same = |other: &&ResultRow| other.metric == ABSOLUTE && other.task == row.task;
        rows.iter().rev().find(same).is_some_and(|newest| std::ptr::eq(newest, *row))
    };
    let absolute: Vec<&ResultRow> = rows.iter().filter(|row| row.metric == ABSOLUTE).filter(is_newest).collect();
    if absolute.is_empty() {
        return Section::default();
    }
    let of = |task: &str, metric: &str| rows.iter().rev().find(|row| row.task == task && row.metric == metric);
    let bar = |row: &&ResultRow| Bar {
        label: short_name(&row.task),
        value: row.value,
        interval: row.interval,
        // Chance has no value here; its place keeps the control in a color of its own.
        references: vec![row.baseline, row.untrained, None, of(&row.task, SHUFFLED).map(|row| row.value)],
    };
    let chart = Bars {
        title: "absolute equivariance: above 0, a prediction is nearer to its view than the un-augmented image is"
            .into(),
        name: "with each view's own parameters".into(),
        references: ["baseline", "untrained", "chance", "control: shuffled parameters"].map(str::to_owned).to_vec(),
        bars: absolute.iter().map(bar).collect(),
        decimals: 3,
    };
    let number = |metric: &'static str| move |task: &str| of(task, metric).map(|row| row.text(row.value));
    let reference = |value: fn(&ResultRow) -> Option<f64>| {
        move |task: &str| of(task, ABSOLUTE).and_then(|row| Some(row.text(value(row)?)))
    };
    let columns: [Column; 7] = [
        ("absolute", &number(ABSOLUTE)),
        ("95 % interval", &|task| of(task, ABSOLUTE)?.interval_text()),
        ("control", &number(SHUFFLED)),
        ("baseline", &reference(|row| row.baseline)),
        ("untrained", &reference(|row| row.untrained)),
        ("relative", &number(RELATIVE)),
        ("ratio of means", &number(RATIO_OF_MEANS)),
    ];
    let tasks: Vec<&str> = absolute.iter().map(|row| row.task.as_str()).collect();
    Section::new("Equivariance", vec![Figure::Bars(chart), Figure::Table(table(&tasks, &columns))])
}

/// The table of those columns that have a cell.
fn table(tasks: &[&str], columns: &[Column]) -> Table {
    let used: Vec<&Column> = columns.iter().filter(|(_, cell)| tasks.iter().any(|task| cell(task).is_some())).collect();
    let headings = std::iter::once("augmentation").chain(used.iter().map(|(heading, _)| *heading));
    let line = |task: &&str| {
        let name = if task.contains(", ") { (*task).to_owned() } else { format!("{task}, all together") };
        let cells = used.iter().map(|(_, cell)| cell(task).unwrap_or_else(|| "–".into()));
        std::iter::once(name).chain(cells).collect()
    };
    Table { headings: headings.map(str::to_owned).collect(), rows: tasks.iter().map(line).collect() }
}

/// Un-augmented images, what is nearest to the prediction of a view, and that view.
///
/// # Errors
///
/// Those of [`predicted_views`].
pub fn predictions_section(model: &Model, dataset: &dyn Dataset, seed: u64) -> Result<Section> {
    let predicted = predicted_views(model, dataset, &shown_images(dataset), VIEWS, seed)?;
    let Some(first) = predicted.first() else { return Ok(Section::default()) };
    let start = match first.start {
        Start::Clean => "the un-augmented image",
        Start::View => "another view",
    };
    let text = format!(
        "From the embedding of {start} and the parameters of a view, the module predicts the embedding of that view. \
         Of {} views of the image, the one nearest to the prediction is shown in the middle, and the actual view on \
         the right. Rank 1 of {} is a perfect prediction: both are the same view. A crop has height h and width w, its \
         upper left corner in row y and column x.",
        first.views, first.views
    );
    let rows = predicted.iter().map(|one| image_row(one, dataset)).collect::<Result<_>>()?;
    Ok(Section::new("Predicted and actual views", vec![Figure::Text(text), Figure::Images(rows)]))
}

fn image_row(predicted: &PredictedView, dataset: &dyn Dataset) -> Result<ImageRow> {
    let image = |title: String, View { image, parameters }: &View, correct: Option<bool>| -> Result<ReportImage> {
        Ok(ReportImage { title, png: image.encode_png()?, parameters: parameters.clone(), correct })
    };
    let start = View { image: predicted.from.clone(), parameters: Vec::new() };
    let found = predicted.nearest == predicted.actual;
    let mut actual = image("actual".into(), &predicted.actual, None)?;
    let rank = format!("{} of {}", predicted.rank, predicted.views);
    actual.parameters.push(("rank".into(), rank));
    let nearest = image("predicted".into(), &predicted.nearest, Some(found))?;
    Ok(ImageRow { images: vec![image(title(dataset, predicted.sample), &start, None)?, nearest, actual] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_augmentation_and_a_column_for_each_measure() {
        let row = |task: &str, metric: &str, value: f64| ResultRow {
            task: task.into(),
            metric: metric.into(),
            value,
            ..ResultRow::default()
        };
        let alone = "equimod, grayscale alone";
        let rows = [
            ResultRow { untrained: Some(-0.5), ..row("equimod", ABSOLUTE, 0.25) },
            row("equimod", SHUFFLED, -0.125),
            row(alone, ABSOLUTE, 0.5),
            row(alone, RELATIVE, 2.0),
        ];
        let section = equivariance_section(&rows);
        let [Figure::Bars(chart), Figure::Table(table)] = &section.figures[..] else { panic!("{section:?}") };
        assert_eq!(
            chart.bars.iter().map(|bar| bar.references.clone()).collect::<Vec<_>>(),
            [vec![None, Some(-0.5), None, Some(-0.125)], vec![None; 4]]
        );
        assert_eq!(table.headings, ["augmentation", "absolute", "control", "untrained", "relative"]);
        assert_eq!(table.rows[0], ["equimod, all together", "0.250", "-0.125", "-0.500", "–"]);
        assert_eq!(table.rows[1], [alone, "0.500", "–", "–", "2.000"]);
        assert_eq!(equivariance_section(&[row("birds", "top-1 accuracy", 0.5)]), Section::default());
    }
}
