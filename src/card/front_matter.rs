//! YAML front matter of a model card, which the Hub uses for search and result tables.

use equimod_core::MethodConfig;
use equimod_eval::ResultRow;
use equimod_eval::results::TOP_1;
use serde::Serialize;
use serde_json::{Value, json};

use super::SHUFFLED;
use super::methods::entries;
use crate::reference::{PREFIX, Reference};

#[derive(Serialize)]
struct FrontMatter<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    library_name: &'static str,
    pipeline_tag: &'static str,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<String>,
    #[serde(rename = "model-index", skip_serializing_if = "Vec::is_empty")]
    model_index: Vec<Value>,
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
    data: Option<&str>,
    license: Option<&str>,
    rows: &[ResultRow],
) -> anyhow::Result<String> {
    let mut tags: Vec<String> = ["equimod", "image-feature-extraction"].map(str::to_owned).into();
    tags.extend(method.map(|_| "self-supervised-learning".to_owned()));
    let named = method.map(entries).unwrap_or_default();
    tags.extend(named.iter().map(|entry| format!("arxiv:{}", entry.arxiv)));
    tags.dedup();
    let mut entries: Vec<Value> = Vec::new();
    for row in rows.iter().filter(|row| row.metric != SHUFFLED) {
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
        datasets: data.and_then(dataset).into_iter().collect(),
        model_index,
    })?)
}

/// Id of the data set on the Hub, if it is from there.
fn dataset(source: &str) -> Option<String> {
    source.starts_with(PREFIX).then(|| Reference::parse(source).ok()).flatten().map(|reference| reference.id())
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
    let data = if row.task.is_empty() { row.data.clone() } else { format!("{}: {}", row.data, row.task) };
    let of = json!({
        "task": { "type": kind, "name": row.protocol },
        "dataset": { "type": dataset(&row.data).unwrap_or_else(|| row.data.clone()), "name": data },
    });
    (of, json!({ "type": metric, "value": row.value, "name": format!("{}{interval}", row.metric) }))
}
