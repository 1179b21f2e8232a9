//! Files of an evaluation: results, report page, predictions, splits.

use std::path::Path;

use anyhow::Context;
use equimod_core::checkpoint::write_atomic;
use equimod_data::Splits;
use equimod_eval::evaluation::{Classification, DrawnImages};
use equimod_eval::report::{ReportData, Section, render};
use equimod_eval::results::{Results, markdown_page};

use super::suggestion::{Suggestion, on_page};

/// A finished evaluation.
pub struct Record<'a> {
    /// Title of the page.
    pub title: String,
    /// Numbers.
    pub results: &'a Results,
    /// Sections of the page.
    pub sections: Vec<Section>,
    /// Predictions for each image.
    pub classifications: &'a [Classification],
    /// Splits that were drawn.
    pub drawn: Vec<DrawnImages>,
    /// The data set, if there is one only.
    pub splits: Option<&'a Splits>,
    /// Meaning of intervals and chance levels.
    pub summary: &'a str,
    /// Commands that answer the next question.
    pub next: Vec<Suggestion>,
}

impl Record<'_> {
    /// Renders the report page.
    fn page(&mut self) -> String {
        let results = self.results;
        let mut facts = vec![
            ("version".to_owned(), results.version.clone()),
            ("seed".into(), results.seed.to_string()),
            ("command".into(), results.command.join(" ")),
        ];
        for model in &results.models {
            let weights = format!("{} (sha256 {:.16}…)", model.path, model.sha256);
            let parts =
                [("weights", weights), ("backbone", model.backbone.clone()), ("input", model.preprocessing.clone())];
            match results.models.len() {
                1 => {
                    facts.push(("model".into(), model.name.clone()));
                    facts.extend(parts.map(|(name, text)| (name.into(), text)));
                }
                // Each model keeps what belongs to it.
                _ => facts.push((model.name.clone(), parts.map(|(_, text)| text).join("; "))),
            }
        }
        for split in &results.splits {
            let what = format!("{} of {}: {} images drawn from {}", split.task, split.data, split.images, split.of);
            facts.push((split.part.clone(), format!("{what} (sha256 {:.16}…)", split.sha256)));
        }
        let datasets = self.splits.map_or_else(Vec::new, |splits| vec![&splits.train]);
        // The comparison of several models precedes the list of all numbers.
        let sections = std::mem::take(&mut self.sections);
        let (lead, sections) = if self.splits.is_none() { (sections, Vec::new()) } else { (Vec::new(), sections) };
        render(&ReportData {
            title: format!("equimod: {}", self.title),
            summary: self.summary.into(),
            verdict: results.verdict.clone(),
            next: on_page(&self.next),
            facts,
            results: results.rows.clone(),
            lead,
            sections,
            recipe: String::new(),
            notices: datasets.iter().filter_map(|set| set.notice()).map(str::to_owned).collect(),
        })
    }
}

/// Writes an evaluation into `folder`: `results.json`, `results.md` and `report.html`; for classifiers also
/// `predictions-<task>.csv` and `confusion-<task>.csv`; if splits were drawn, `splits.json`.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path, mut record: Record) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    remove_older(folder)?;
    let put = |name: &str, bytes: &[u8]| write_atomic(&folder.join(name), bytes);
    put("results.md", markdown_page(record.results).as_bytes())?;
    put("report.html", record.page().as_bytes())?;
    for classification in record.classifications {
        let name = file_name(&classification.title());
        if let Some(splits) = record.splits {
            put(&format!("predictions-{name}.csv"), &predictions(classification, splits)?)?;
        }
        put(&format!("confusion-{name}.csv"), &confusion(classification)?)?;
    }
    if !record.drawn.is_empty() {
        put("splits.json", &serde_json::to_vec(&record.drawn)?)?;
    }
    // Written last: with this file, the others are complete.
    Ok(put("results.json", &serde_json::to_vec_pretty(record.results)?)?)
}

/// Removes files of an earlier evaluation that this one may not replace.
fn remove_older(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_task = name.starts_with("predictions-") || name.starts_with("confusion-");
        if (of_task && name.ends_with(".csv")) || name == "splits.json" {
            std::fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Letters and digits of a title, joined by hyphens.
pub fn file_name(title: &str) -> String {
    title.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Table with one row per test image: index, key, class, predicted class and probabilities.
fn predictions(classification: &Classification, splits: &Splits) -> anyhow::Result<Vec<u8>> {
    let (task, predictions) = (&classification.task, &classification.predictions);
    let dataset = task.test_dataset(splits).as_ref();
    let class = |label: u32| task.classes.get(label as usize).map_or("", String::as_str);
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["image", "key", "class", "predicted", "right", "probability", "probability of its class"])?;
    let predicted = predictions.first();
    for (row, (&index, &label)) in predictions.indices().iter().zip(predictions.labels()).enumerate() {
        let (probabilities, predicted) = (predictions.row(row), predicted[row]);
        table.write_record([
            index.to_string(),
            dataset.key(index),
            class(label).to_owned(),
            class(predicted).to_owned(),
            u8::from(predicted == label).to_string(),
            format!("{:.6}", probabilities[predicted as usize]),
            format!("{:.6}", probabilities[label as usize]),
        ])?;
    }
    Ok(table.into_inner()?)
}

/// Confusion matrix: true classes in rows, predicted classes in columns.
fn confusion(classification: &Classification) -> anyhow::Result<Vec<u8>> {
    let classes = &classification.task.classes;
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(std::iter::once("true class \\ predicted").chain(classes.iter().map(String::as_str)))?;
    for (class, counts) in classes.iter().zip(classification.predictions.confusion()) {
        table.write_record(std::iter::once(class.clone()).chain(counts.iter().map(usize::to_string)))?;
    }
    Ok(table.into_inner()?)
}
