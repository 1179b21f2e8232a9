//! Results as the Hub collects them from model repositories: files `.eval_results/*.yaml`, one for each condition.
//!
//! The layout is that of the Hub's documentation page "Evaluation Results".

use std::time::SystemTime;

use equimod_eval::ResultRow;
use equimod_eval::results::{Results, TOP_1, is_quick_search};

use crate::artifact::{Files, has_other_validation, other_test};
use crate::reference::{PREFIX, Reference};

const FOLDER: &str = ".eval_results/";
const EXTENSION: &str = ".yaml";
/// Task of a data set that has only one.
const ONLY_TASK: &str = "default";
/// Key of the source, the last one of a file.
const SOURCE: &str = "  source:\n";

/// Adds files for the accuracies on data sets of the Hub, which were measured at this time. They replace those of the
/// same condition: the same protocol with the same settings. A quick search is no protocol, and test images of another
/// source are not those of the data set: they get no file.
pub fn add(files: &mut Files, results: &Results, measured: SystemTime) {
    let date: String = humantime::format_rfc3339_seconds(measured).to_string().chars().take(10).collect();
    let rows = results.of_first().filter(|row| row.metric == TOP_1 && row.value.is_finite() && !is_quick_search(row));
    let rows = rows.filter(|row| other_test(row).is_none() && !has_other_validation(row));
    files.extend(rows.filter_map(|row| file(row, &date)));
}

/// Letters, digits and hyphens of a text, and `_` for what is between them.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(|c| !is_plain(c)).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// Names the model's repository as the source of its results, in place of an earlier one.
pub fn name_source(files: &mut Files, repository: &str) {
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name.starts_with(FOLDER)) {
        let earlier = bytes.windows(SOURCE.len()).position(|window| window == SOURCE.as_bytes());
        bytes.truncate(earlier.unwrap_or(bytes.len()));
        let source = format!("{SOURCE}    url: \"https://huggingface.co/{repository}\"\n    name: \"Model card\"\n");
        bytes.extend(source.into_bytes());
    }
}

/// Name and content of the file for a row; `None` for data that is not on the Hub.
fn file(row: &ResultRow, date: &str) -> Option<(String, Vec<u8>)> {
    let data = row.data.starts_with(PREFIX).then(|| Reference::parse(&row.data).ok())??;
    let labels = if row.labels.is_empty() { &row.task } else { &row.labels };
    let task = if labels.is_empty() { ONLY_TASK } else { labels };
    let revision = data.revision.as_deref().map(|revision| format!("    revision: {}\n", quoted(revision)));
    let text = format!(
        "- dataset:\n    id: {}\n    task_id: {}\n{}  value: {:.2}\n  date: {}\n  notes: {}\n",
        quoted(&data.id()),
        quoted(task),
        revision.unwrap_or_default(),
        100.0 * row.value,
        quoted(date),
        quoted(&notes(row)),
    );
    let settings = if row.settings.is_empty() { String::new() } else { format!("-{}", row.settings) };
    let name = plain(&format!("{}-{task}-{}{settings}", data.id(), row.protocol));
    Some((format!("{FOLDER}{name}{EXTENSION}"), text.into_bytes()))
}

/// The condition of a result.
fn notes(row: &ResultRow) -> String {
    let protocol = match row.protocol.as_str() {
        "linear" => "linear probe on frozen features",
        "logistic" => "logistic regression on frozen features",
        "knn" => "k-NN on frozen features",
        other => match other.strip_prefix("finetune, ") {
            Some(share) => &format!("fine-tuned on {share}"),
            None => other,
        },
    };
    let interval = row.interval_text().map_or_else(String::new, |interval| format!("; 95 % interval {interval}"));
    let remarks: String = [&row.detail, &row.settings]
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| format!("; {text}"))
        .collect();
    format!("{protocol}; top-1 accuracy in %{interval}{remarks}")
}

/// A string in YAML: a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use equimod_eval::results::EvaluatedModel;

    use super::*;

    #[test]
    fn accuracies_on_data_sets_of_the_hub_have_a_file_each() {
        let row = |data: &str, protocol: &str, metric: &str| ResultRow {
            protocol: protocol.into(),
            data: data.into(),
            task: "bird \"species\"".into(),
            metric: metric.into(),
            value: 0.87512,
            interval: Some((0.8, 0.9375)),
            ..ResultRow::default()
        };
        let rows = vec![
            ResultRow {
                chosen: Some("w 1, the best of 45 on validation".into()),
                ..row("hf:lab/birds@0a1b:train", "logistic", TOP_1)
            },
            row("hf:lab/birds@0a1b:train", "knn", TOP_1),
            // A quick search, and test images of another source.
            row("hf:lab/cars", "logistic", TOP_1),
            ResultRow { settings: "size-48, test-others".into(), ..row("hf:lab/cars", "knn", TOP_1) },
            ResultRow { settings: "validation-others".into(), ..row("hf:lab/cars", "knn", TOP_1) },
            row("hf:lab/birds", "retrieval", "recall@1"),
            row("images", "knn", TOP_1),
        ];
        let measured = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let mut files = Files::new();
        add(&mut files, &Results { rows, ..Results::default() }, measured);
        let names: Vec<&String> = files.keys().collect();
        let names_expected = ["knn", "logistic"].map(|end| format!(".eval_results/lab_birds-bird_species_-{end}.yaml"));
        assert_eq!(names, names_expected.iter().collect::<Vec<_>>());
        name_source(&mut files, "lab/other");
        name_source(&mut files, "lab/net");
        let text = std::str::from_utf8(&files[&names_expected[1]]).unwrap();
        let entries: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(
            entries,
            serde_json::json!([{
                "dataset": { "id": "lab/birds", "task_id": "bird \"species\"", "revision": "0a1b" },
                "value": 87.51,
                "date": "2026-01-01",
                "notes": "logistic regression on frozen features; top-1 accuracy in %; 95 % interval 80.0–93.8 %",
                "source": { "url": "https://huggingface.co/lab/net", "name": "Model card" }
            }])
        );
    }

    #[test]
    fn a_suite_names_the_label_column_and_its_untrained_network_is_no_result() {
        let row = |model: &str, value: f64| ResultRow {
            model: model.into(),
            protocol: "finetune, 10 % of the labels".into(),
            data: "hf:lab/birds".into(),
            task: "my-birds".into(),
            labels: "species".into(),
            metric: TOP_1.into(),
            value,
            ..ResultRow::default()
        };
        let model = |name: &str| EvaluatedModel { name: name.into(), ..EvaluatedModel::default() };
        let mut files = Files::new();
        let results = Results {
            models: ["mine", "mine untrained"].map(model).into(),
            rows: vec![row("mine", 0.5), row("mine untrained", 0.2)],
            ..Results::default()
        };
        add(&mut files, &results, SystemTime::UNIX_EPOCH);
        let bytes = &files[".eval_results/lab_birds-species-finetune_10_of_the_labels.yaml"];
        let text = String::from_utf8_lossy(bytes);
        for part in ["task_id: \"species\"", "value: 50.00", "fine-tuned on 10 % of the labels; top-1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn another_condition_has_another_file() {
        let row = |value: f64, settings: &str| ResultRow {
            protocol: "knn".into(),
            data: "hf:lab/birds".into(),
            metric: TOP_1.into(),
            value,
            settings: settings.into(),
            ..ResultRow::default()
        };
        let mut files = Files::new();
        for (value, settings) in [(0.5, ""), (0.6, ""), (0.7, "k-2"), (0.8, "k-2")] {
            let results = Results { rows: vec![row(value, settings)], ..Results::default() };
            add(&mut files, &results, SystemTime::UNIX_EPOCH);
        }
        let values: Vec<(&str, bool)> = files
            .iter()
            .zip(["value: 80.00", "value: 60.00"])
            .map(|((name, bytes), value)| (name.as_str(), String::from_utf8_lossy(bytes).contains(value)))
            .collect();
        let name = ".eval_results/lab_birds-default-knn";
        assert_eq!(values, [(format!("{name}-k-2.yaml").as_str(), true), (format!("{name}.yaml").as_str(), true)]);
    }
}
