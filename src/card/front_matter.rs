//! YAML front matter of a model card, which the Hub uses for search and result tables.

use equimod_core::MethodConfig;
use equimod_eval::ResultRow;
use equimod_eval::results::{SHUFFLED, TOP_1, is_quick_search};
use serde::Serialize;
use serde_json::{Value, json};

use super::methods::entries;
use crate::artifact::{StartingWeights, other_test};
use crate::reference::{ModelReference, PREFIX, Reference, shown};

#[derive(Serialize)]
struct FrontMatter<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    library_name: &'static str,
    pipeline_tag: &'static str,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<String>,
    #[serde(rename = "model-index", skip_serializing_if = "Vec::is_empty")]
    model_index: Vec<Value>,
}

/// What weights were made from.
pub struct Origins<'a> {
    /// Data source of the training.
    pub data: Option<&'a str>,
    /// Weights that it started from, unless they were random, those that they came from, and so on.
    pub from: Vec<&'a str>,
}

/// The lines between `---`.
///
/// # Errors
///
/// If the values cannot be written as YAML.
pub fn front_matter(
    title: &str,
    timm: bool,
    method: Option<&MethodConfig>,
    Origins { data, from }: Origins,
    license: Option<&str>,
    rows: &[ResultRow],
) -> anyhow::Result<String> {
    let mut tags: Vec<String> = ["equimod", "image-feature-extraction"].map(str::to_owned).into();
    tags.extend(method.map(|_| "self-supervised-learning".to_owned()));
    let named = method.map(entries).unwrap_or_default();
    tags.extend(named.iter().map(|entry| format!("arxiv:{}", entry.arxiv)));
    tags.dedup();
    let mut entries: Vec<Value> = Vec::new();
    // The index has no place for test images of another source.
    for row in rows.iter().filter(|row| row.metric != SHUFFLED && other_test(row).is_none()) {
        let (of, metric) = entry(row);
        match entries.iter_mut().find(|entry| entry["task"] == of["task"] && entry["dataset"] == of["dataset"]) {
            Some(entry) => entry["metrics"].as_array_mut().into_iter().for_each(|metrics| metrics.push(metric.clone())),
            None => entries.push(json!({ "task": of["task"], "dataset": of["dataset"], "metrics": [metric] })),
        }
    }
    let model_index = match entries.is_empty() {
        true => Vec::new(),
        false => vec![json!({ "name": title, "results": entries })],
    };
    Ok(serde_saphyr::to_string(&FrontMatter {
        license,
        library_name: if timm { "timm" } else { "equimod" },
        pipeline_tag: "image-feature-extraction",
        tags,
        base_model: from.into_iter().find_map(base_model),
        datasets: data.and_then(repository).into_iter().collect(),
        model_index,
    })?)
}

/// Id of a repository on the Hub, if the source is one.
fn repository(source: &str) -> Option<String> {
    source.starts_with(PREFIX).then(|| Reference::parse(source).ok()).flatten().map(|reference| reference.id())
}

/// Id on the Hub of the weights that training started from, if they are from there.
fn base_model(from: &str) -> Option<String> {
    ModelReference::parse(StartingWeights::parse(from).model).ok().map(|model| model.id())
}

/// One result as the Hub's tables expect it: task and data set, and the metric.
fn entry(row: &ResultRow) -> (Value, Value) {
    let kind = if row.metric.contains("accuracy") { "image-classification" } else { "image-feature-extraction" };
    let metric = match row.metric.as_str() {
        TOP_1 => "accuracy".to_owned(),
        other => {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            other.replace('²', "2").chars().map(plain).collect()
        }
    };
    let interval = row.interval_text().map_or_else(String::new, |interval| format!(" ({interval})"));
    // Readers of the index merge the results of one data set, whatever their protocol.
    let settings = if row.settings.is_empty() { String::new() } else { format!(", other settings: {}", row.settings) };
    let quick = if is_quick_search(row) { " (quick search)" } else { "" };
    let name = format!("{}, {}{quick}{settings}{interval}", row.metric, row.protocol);
    let data = shown(&row.data);
    let data = if row.task.is_empty() { data } else { format!("{data}: {}", row.task) };
    let mut dataset = json!({ "type": repository(&row.data).unwrap_or_else(|| row.data.clone()), "name": data });
    if let Some(revision) = Reference::parse(&row.data).ok().and_then(|reference| reference.revision) {
        dataset["revision"] = revision.into();
    }
    let of = json!({ "task": { "type": kind, "name": row.protocol }, "dataset": dataset });
    (of, json!({ "type": metric, "value": rounded(row.value), "name": name }))
}

/// A value with four decimals: more than its interval supports.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_from_the_hub_are_the_base_model() {
        let found =
            ["hf:lab/birds@main (sha256 0a1b)", "hf:lab/birds/sub/model.safetensors (sha256 0)", "run (sha256 0)"]
                .map(base_model);
        assert_eq!(found, [Some("lab/birds".to_owned()), Some("lab/birds".to_owned()), None]);
    }

    #[test]
    fn values_have_four_decimals() {
        assert_eq!([0.123_456, 2.0 / 3.0, 1.0].map(rounded), [0.1235, 0.6667, 1.0]);
    }
}
