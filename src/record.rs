//! What is kept of an evaluation: results, the page, predictions, splits.

use std::path::Path;

use anyhow::Context;
use equimod_core::checkpoint::write_atomic;
use equimod_eval::report::{ReportData, Section, render};
use equimod_eval::results::{DrawnSplit, Results, markdown};
use serde_json::json;

use crate::evaluation::Outcome;
use crate::sources::Splits;

/// An evaluation that is over.
pub struct Record<'a> {
    /// What the page is called.
    pub title: String,
    /// The numbers.
    pub results: &'a Results,
    /// What is shown of them.
    pub sections: Vec<Section>,
    /// What classifiers said of each picture.
    pub outcomes: &'a [Outcome],
    /// The splits that were drawn.
    pub drawn: &'a [Drawn],
    /// The pictures, if they are of one source.
    pub splits: Option<&'a Splits>,
    /// What intervals and chance are.
    pub summary: &'static str,
}

/// A split that was drawn here, with the places of its pictures.
pub type Drawn = (DrawnSplit, Vec<usize>);

/// The splits that were drawn for `outcomes`, each once.
pub fn drawn<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<Drawn> {
    let mut splits: Vec<Drawn> = Vec::new();
    for one in outcomes.into_iter().flat_map(Outcome::drawn) {
        if !splits.contains(one) {
            splits.push(one.clone());
        }
    }
    splits
}

impl Record<'_> {
    /// The page.
    fn page(&mut self) -> String {
        let results = self.results;
        let mut facts = vec![
            ("version".to_owned(), results.version.clone()),
            ("seed".into(), results.seed.to_string()),
            ("command".into(), results.command.join(" ")),
        ];
        for model in &results.models {
            facts.push(("model".into(), model.name.clone()));
            facts.push(("weights".into(), format!("{} (sha256 {:.16}…)", model.path, model.sha256)));
            facts.push(("backbone".into(), model.backbone.clone()));
            facts.push(("input".into(), model.preprocessing.clone()));
        }
        for split in &results.splits {
            let what = format!("{}: {} pictures drawn from {}", split.task, split.pictures, split.of);
            facts.push((split.part.clone(), format!("{what} (sha256 {:.16}…)", split.sha256)));
        }
        let datasets = self.splits.map_or_else(Vec::new, |splits| vec![&splits.train]);
        // Several models are seen best beside each other, before the list of all numbers.
        let sections = std::mem::take(&mut self.sections);
        let (lead, sections) = if self.splits.is_none() { (sections, Vec::new()) } else { (Vec::new(), sections) };
        render(&ReportData {
            title: format!("equimod: {}", self.title),
            summary: self.summary.into(),
            facts,
            results: results.rows.clone(),
            lead,
            sections,
            recipe: String::new(),
            notices: datasets.iter().filter_map(|set| set.notice()).map(str::to_owned).collect(),
        })
    }
}

/// Writes an evaluation into `folder`: `results.json`, `results.md`, `report.html`; for classifiers also
/// `predictions-<task>.csv`, `confusion-<task>.csv` and, where splits were drawn, `splits.json`.
pub fn write(folder: &Path, mut record: Record) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    remove_older(folder)?;
    let put = |name: &str, bytes: &[u8]| write_atomic(&folder.join(name), bytes);
    put("results.json", &serde_json::to_vec_pretty(record.results)?)?;
    put("results.md", markdown(&record.results.rows).as_bytes())?;
    put("report.html", record.page().as_bytes())?;
    for outcome in record.outcomes {
        let name = file_name(&outcome.title());
        if let Some(splits) = record.splits {
            put(&format!("predictions-{name}.csv"), &predictions(outcome, splits)?)?;
        }
        put(&format!("confusion-{name}.csv"), &confusion(outcome)?)?;
    }
    if !record.drawn.is_empty() {
        let list = |(split, indices): &Drawn| json!({"split": split, "indices": indices});
        put("splits.json", &serde_json::to_vec(&record.drawn.iter().map(list).collect::<Vec<_>>())?)?;
    }
    Ok(())
}

/// Removes what an earlier evaluation left that this one may not write anew.
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

/// Letters and digits, joined by hyphens.
fn file_name(title: &str) -> String {
    title.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A line a test picture: what it is, what was said, and how surely.
fn predictions(outcome: &Outcome, splits: &Splits) -> anyhow::Result<Vec<u8>> {
    let dataset = outcome.task.test_pictures(splits).as_ref();
    let class = |label: u32| outcome.task.classes.get(label as usize).map_or("", String::as_str);
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["picture", "key", "class", "predicted", "right", "probability", "probability of its class"])?;
    let said = outcome.predictions.first();
    for (row, (&picture, &label)) in outcome.predictions.pictures().iter().zip(outcome.predictions.labels()).enumerate()
    {
        let probabilities = outcome.predictions.row(row);
        let said = said[row];
        table.write_record([
            picture.to_string(),
            dataset.key(picture),
            class(label).to_owned(),
            class(said).to_owned(),
            u8::from(said == label).to_string(),
            format!("{:.6}", probabilities[said as usize]),
            format!("{:.6}", probabilities[label as usize]),
        ])?;
    }
    Ok(table.into_inner()?)
}

/// True classes in rows, what was said in columns.
fn confusion(outcome: &Outcome) -> anyhow::Result<Vec<u8>> {
    let classes = &outcome.task.classes;
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(std::iter::once("true class \\ predicted").chain(classes.iter().map(String::as_str)))?;
    for (class, counts) in classes.iter().zip(outcome.predictions.confusion()) {
        table.write_record(std::iter::once(class.clone()).chain(counts.iter().map(usize::to_string)))?;
    }
    Ok(table.into_inner()?)
}
