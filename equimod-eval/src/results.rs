//! Results as rows: one schema for files, tables and reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::Estimate;

/// Metric of classifiers: the share of images whose class is predicted.
pub const TOP_1: &str = "top-1 accuracy";

/// The version of the schema of [`Results`].
pub const FORMAT: u32 = 1;

/// The file `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// The version of this schema, 1: a field is never taken away or renamed within a version.
    pub format: u32,
    /// The version of equimod.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// What decided splits, views and intervals.
    pub seed: u64,
    /// Who was evaluated.
    pub models: Vec<Evaluated>,
    /// One number each.
    pub rows: Vec<ResultRow>,
    /// Splits that were drawn here because the pictures have none of their own.
    pub splits: Vec<DrawnSplit>,
}

/// A model that was evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluated {
    /// As it is called in the rows.
    pub name: String,
    /// The file of weights.
    pub path: String,
    /// Hexadecimal SHA-256 of that file.
    pub sha256: String,
    /// The network, e.g. `resnet18, CIFAR stem, width 64`.
    pub backbone: String,
    /// How pictures entered it.
    pub preprocessing: String,
}

/// A split of a task's pictures that was drawn from the seed; `splits.json` beside the results lists the pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrawnSplit {
    /// The data set.
    pub data: String,
    /// The labels.
    pub task: String,
    /// `validation` or `test`.
    pub part: String,
    /// What it was drawn from: `train`.
    pub of: String,
    /// Number of its pictures.
    pub pictures: usize,
    /// Hexadecimal SHA-256 of their places in the data set, written in decimal with a line feed after each.
    pub sha256: String,
}

/// One number with its protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultRow {
    /// The model, where there are several.
    #[serde(default)]
    pub model: String,
    /// `knn`, `logistic`, `equivariance`, …
    pub protocol: String,
    /// The pictures.
    pub data: String,
    /// The labels, the module or the augmentation.
    pub task: String,
    /// What the number is.
    pub metric: String,
    /// The number; shares lie between 0 and 1.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The same for the network before training.
    pub untrained: Option<f64>,
    /// What guessing gives.
    pub chance: Option<f64>,
    /// The hyper-parameter that was chosen, and how.
    #[serde(default)]
    pub chosen: Option<String>,
    /// Settings, the split, numbers of pictures.
    pub detail: String,
}

impl ResultRow {
    /// Takes over a value and its interval.
    pub fn with(self, estimate: Estimate) -> Self {
        Self { value: estimate.value, interval: Some(estimate.interval), ..self }
    }

    /// `value` as text: shares in per cent.
    pub fn text(&self, value: f64) -> String {
        if self.is_share() { format!("{:.1} %", 100.0 * value) } else { format!("{value:.3}") }
    }

    /// Whether the number lies in [0, 1] (a difference of such in [−1, 1]) and reads best in per cent.
    fn is_share(&self) -> bool {
        ["accuracy", "recall", "H@", "mean over tasks"].iter().any(|share| self.metric.contains(share))
    }

    fn optional(&self, value: Option<f64>) -> Option<String> {
        value.map(|value| self.text(value))
    }

    /// The interval as text.
    pub fn interval_text(&self) -> Option<String> {
        self.interval.map(|(low, high)| format!("{} – {}", self.text(low), self.text(high)))
    }
}

/// A column of a table of rows: its heading, and its cell where there is one.
type Column = (&'static str, fn(&ResultRow) -> Option<String>);

fn named(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

const COLUMNS: [Column; 11] = [
    ("model", |row| named(&row.model)),
    ("protocol", |row| named(&row.protocol)),
    ("data", |row| named(&row.data)),
    ("task", |row| named(&row.task)),
    ("metric", |row| named(&row.metric)),
    ("value", |row| Some(row.text(row.value))),
    ("95 % interval", ResultRow::interval_text),
    ("untrained", |row| row.optional(row.untrained)),
    ("chance", |row| row.optional(row.chance)),
    ("chosen", |row| row.chosen.clone()),
    ("detail", |row| named(&row.detail)),
];

/// The detail that several rows have in common.
pub fn common_detail(rows: &[ResultRow]) -> Option<&str> {
    match rows {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|row| row.detail == first.detail) => {
            Some(&first.detail).filter(|detail| !detail.is_empty()).map(String::as_str)
        }
        _ => None,
    }
}

/// The headings and cells of `rows`: columns without any cell are left out, and so are data set and detail where all rows
/// have the same; `details` keeps the last two.
pub fn cells(rows: &[ResultRow], details: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let one_set = rows.windows(2).all(|pair| pair[0].data == pair[1].data);
    let wanted = |(heading, cell): &&Column| match *heading {
        "data" if one_set => false,
        "chosen" | "detail" if !details => false,
        "detail" if common_detail(rows).is_some() => false,
        _ => rows.iter().any(|row| cell(row).is_some()),
    };
    let columns: Vec<&Column> = COLUMNS.iter().filter(wanted).collect();
    let line = |row: &ResultRow| columns.iter().map(|(_, cell)| cell(row).unwrap_or_else(|| "–".into())).collect();
    (columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(), rows.iter().map(line).collect())
}

/// A Markdown table of any cells.
pub fn markdown_table(headings: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(headings);
    text += &format!("|{}\n", " --- |".repeat(headings.len()));
    rows.iter().for_each(|row| text += &line(row));
    text
}

/// The rows as a Markdown table.
pub fn markdown(rows: &[ResultRow]) -> String {
    let (headings, lines) = cells(rows, true);
    let below = common_detail(rows).map_or_else(String::new, |detail| format!("\n{detail}\n"));
    markdown_table(&headings, &lines) + &below
}

/// Cells as aligned text for a terminal.
pub fn aligned(headings: &[String], rows: &[Vec<String>]) -> String {
    let lines = || std::iter::once(headings).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for cells in lines() {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        text += padded.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

/// The rows as aligned text for a terminal; `details` adds what was chosen, and how.
pub fn plain(rows: &[ResultRow], details: bool) -> String {
    let (headings, lines) = cells(rows, details);
    let below = common_detail(rows).filter(|_| details).map_or_else(String::new, |detail| format!("{detail}\n"));
    aligned(&headings, &lines) + &below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_a_row_and_no_empty_column() {
        let row = ResultRow {
            protocol: "knn".into(),
            data: "d".into(),
            task: "a|b".into(),
            metric: "top-1 accuracy".into(),
            value: 0.5,
            interval: Some((0.4, 0.6)),
            chance: Some(0.1),
            detail: "k 20".into(),
            ..Default::default()
        };
        let text = markdown(std::slice::from_ref(&row));
        let line = "| knn | a\\|b | top-1 accuracy | 50.0 % | 40.0 % – 60.0 % | 10.0 % | k 20 |\n";
        assert!(text.ends_with(line), "{text}");
        let twice = plain(&[row.clone(), row.clone()], true);
        assert!(twice.lines().count() == 4 && twice.ends_with("\nk 20\n"), "{twice}");
        let other = ResultRow { data: "e".into(), ..row.clone() };
        assert!(plain(&[row, other], false).starts_with("protocol  data  task"));
    }

    #[test]
    fn a_file_reads_back_as_it_was() {
        let results = Results { format: FORMAT, rows: vec![ResultRow::default()], ..Default::default() };
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }
}
