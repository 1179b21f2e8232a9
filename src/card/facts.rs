//! What the card's template is filled with.

use std::time::Duration;

use anyhow::Context;
use equimod_core::model::{CONFIG_FILE, Exported, HEADS_FILE};
use equimod_core::{MethodConfig, Model};
use equimod_eval::ResultRow;
use equimod_eval::results::{Results, markdown};
use serde::Serialize;
use serde_json::Value;

use super::front_matter::front_matter;
use super::methods::{Part, has_equimod, modules, parts};
use crate::evaluation::TOP_1;
use crate::export::run::{RESULTS_FILE, TABLE_FILE};
use crate::export::{Files, Training, timm_name};
use crate::hub::reference::PREFIX;
use crate::output::duration;

/// Protocols, those first whose number says most about a backbone.
const CLAIMS: [&str; 3] = ["linear", "logistic", "knn"];
const EQUIVARIANCE: &str = "absolute equivariance";
/// The control of it.
pub const SHUFFLED: &str = "absolute equivariance, shuffled parameters";
/// The licences of the bundled pictures.
const BUNDLED: &str = "Noto Emoji (Apache-2.0) and Twemoji (CC-BY 4.0).";
const UNKNOWN: &str = "their licence is not recorded here; ask whoever published them.";

/// What the template knows.
#[derive(Debug, Serialize)]
pub struct Facts {
    front_matter: String,
    title: String,
    claim: Option<String>,
    repo: Option<String>,
    branch: Option<String>,
    /// As equimod takes it.
    model: String,
    network: String,
    method: Option<String>,
    equimod: bool,
    target: bool,
    data: Option<String>,
    features: usize,
    size: usize,
    mean: String,
    std: String,
    timm: Option<&'static str>,
    architecture: &'static str,
    cifar: bool,
    width: usize,
    block: &'static str,
    blocks: String,
    table: Option<String>,
    /// Files with every number.
    all_results: Vec<String>,
    heads: bool,
    modules: String,
    equivariance: Option<String>,
    vector: Vec<ParameterRow>,
    training: Option<Training>,
    /// The command that trains again.
    again: Option<String>,
    step: u64,
    seed: u64,
    version: String,
    time: String,
    memory: String,
    fingerprint: String,
    licence: Option<String>,
    data_licence: String,
    citations: Vec<Part>,
}

/// A line of the table of parameters.
#[derive(Debug, Serialize)]
struct ParameterRow {
    name: String,
    augmentation: String,
    unit: String,
    range: String,
    mean: String,
    std: String,
}

impl Facts {
    /// Reads an export's files.
    pub fn of(files: &Files, repository: Option<&str>, branch: Option<&str>) -> anyhow::Result<Self> {
        let config: Value = read(files, CONFIG_FILE)?;
        let ours = config.get("equimod").filter(|ours| !ours.is_null());
        let exported: Option<Exported> = ours.map(|ours| serde_json::from_value(ours.clone())).transpose()?;
        let training: Option<Training> =
            ours.and_then(|ours| serde_json::from_value(ours.get("training")?.clone()).ok()).flatten();
        let results = results(files)?;
        let rows = headlines(&results);
        let bytes = files.get(equimod_core::model::MODEL_FILE).context("an export has weights")?;
        let model = Model::from_bytes(bytes, equimod_core::model::MODEL_FILE.as_ref(), &candle_core::Device::Cpu)?;
        let backbone = model.backbone_config()?;
        let preprocessing =
            exported.as_ref().map_or(&model.preprocessing, |exported| &exported.description.preprocessing);
        let method = exported.as_ref().map(|exported| &exported.description.method);
        let data = training.as_ref().map(|training| training.data.clone());
        let licence = config.pointer("/equimod/licence").and_then(Value::as_str).map(str::to_owned);
        let name = method.map(|method| named(&parts(method)));
        let architecture = backbone.architecture;
        let network = display(architecture.name());
        let title = match (repository, &name) {
            (Some(repository), _) => repository.rsplit('/').next().unwrap_or(repository).to_owned(),
            (None, Some(method)) => format!("{network}, {method}"),
            (None, None) => network.clone(),
        };
        let claim = claim(&rows, &network, name.as_deref());
        let described = format!("{network} ({} stem, width {})", backbone.stem.name(), backbone.width);
        Ok(Self {
            front_matter: front_matter(
                &title,
                timm_name(&backbone).is_some(),
                method,
                data.as_deref(),
                licence.as_deref(),
                &rows,
            )?,
            claim,
            model: repository.map_or_else(|| ".".to_owned(), |repository| reference(repository, branch)),
            repo: repository.map(str::to_owned),
            branch: branch.map(str::to_owned),
            again: training.as_ref().map(again),
            step: exported.as_ref().map_or(0, |exported| exported.description.step),
            network: described,
            equimod: method.is_some_and(has_equimod),
            target: exported.as_ref().is_some_and(|exported| exported.description.target),
            features: model.backbone().features(),
            size: preprocessing.size,
            mean: list(&preprocessing.normalisation.mean),
            std: list(&preprocessing.normalisation.std),
            timm: timm_name(&backbone),
            architecture: architecture.name(),
            cifar: backbone.stem == equimod_core::Stem::Cifar,
            width: backbone.width,
            block: if architecture.expansion() == 1 { "BasicBlock" } else { "Bottleneck" },
            blocks: format!("{:?}", architecture.blocks()),
            table: (!rows.is_empty()).then(|| markdown(&rows)),
            all_results: files.keys().filter(|name| name.ends_with(TABLE_FILE)).cloned().collect(),
            heads: files.contains_key(HEADS_FILE),
            modules: method.map(heads).unwrap_or_default(),
            equivariance: equivariance(&rows),
            vector: ours.and_then(|ours| ours.get("parameter_vector")).map(vector).unwrap_or_default(),
            seed: exported.as_ref().map_or(0, |exported| exported.description.seed),
            version: exported.as_ref().map_or_else(String::new, |exported| exported.description.version.clone()),
            time: training.as_ref().map_or_else(String::new, |t| duration(Duration::from_secs_f64(t.seconds))),
            memory: training
                .as_ref()
                .map_or_else(String::new, |t| format!("{:.0} MiB", t.peak_memory as f64 / f64::from(1 << 20))),
            fingerprint: training.as_ref().map_or_else(String::new, |t| t.data_fingerprint.clone()),
            data_licence: data_licence(ours, data.as_deref()),
            citations: method.map(parts).unwrap_or_default(),
            method: name,
            training,
            licence,
            data,
            title,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> anyhow::Result<T> {
    let bytes = files.get(name).with_context(|| format!("the export holds no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("{name} cannot be read"))
}

/// The run's own results first.
fn results(files: &Files) -> anyhow::Result<Vec<Results>> {
    let mut names: Vec<&String> = files.keys().filter(|name| name.ends_with(RESULTS_FILE)).collect();
    names.sort_by_key(|name| (name.contains('/'), name.as_str()));
    names.into_iter().map(|name| read(files, name)).collect()
}

/// The rows that say most, each once: that of an evaluation of its own in place of the one at the end of the run.
fn headlines(results: &[Results]) -> Vec<ResultRow> {
    let mut rows: Vec<ResultRow> = Vec::new();
    for row in results.iter().flat_map(|results| &results.rows).filter(|row| is_headline(row)) {
        let key = |row: &ResultRow| [&row.protocol, &row.data, &row.task, &row.metric].map(String::clone);
        match rows.iter_mut().find(|other| key(other) == key(row)) {
            // One with its control says more.
            Some(other) if row.untrained.is_some() || other.untrained.is_none() => *other = row.clone(),
            Some(_) => {}
            None => rows.push(row.clone()),
        }
    }
    rows
}

fn is_headline(row: &ResultRow) -> bool {
    let whole = !row.task.ends_with(" alone");
    let metric = row.metric.as_str();
    row.value.is_finite()
        && ([TOP_1, "recall@1", "MRR", "pooled R²"].contains(&metric)
            || metric.ends_with("-shot accuracy")
            || (whole && (metric == EQUIVARIANCE || metric == SHUFFLED)))
}

/// `SimCLR + EquiMod`
fn named(parts: &[Part]) -> String {
    parts.iter().map(|part| part.name).collect::<Vec<_>>().join(" + ")
}

/// `resnet18` as papers write it.
fn display(architecture: &str) -> String {
    architecture.replace("resnet", "ResNet-")
}

fn list(values: &[f32; 3]) -> String {
    format!("[{}, {}, {}]", values[0], values[1], values[2])
}

/// One sentence with the number that says most.
fn claim(rows: &[ResultRow], network: &str, method: Option<&str>) -> Option<String> {
    let of = |protocol: &&str| rows.iter().find(|row| row.protocol == *protocol && row.metric == TOP_1);
    let row = CLAIMS.iter().find_map(of)?;
    let protocol = match row.protocol.as_str() {
        "linear" => "a linear layer on frozen features",
        "logistic" => "logistic regression on frozen features",
        _ => "a vote of nearest neighbours by frozen features",
    };
    let mut also = Vec::new();
    also.extend(row.interval_text().map(|interval| format!("95 % interval {interval}")));
    also.extend(row.untrained.map(|value| format!("{} without training", row.text(value))));
    also.extend(row.chance.map(|value| format!("{} by guessing", row.text(value))));
    let task = if row.task.is_empty() { String::new() } else { format!(", task {}", row.task) };
    let by = method.map_or_else(String::new, |method| format!(" trained by {method}"));
    Some(format!(
        "**{} top-1 accuracy** ({}) with {protocol} of a {network}{by}, on `{}`{task}.",
        row.text(row.value),
        also.join("; "),
        row.data
    ))
}

/// What was measured of predictions.
fn equivariance(rows: &[ResultRow]) -> Option<String> {
    let measured = |metric: &str| rows.iter().find(|row| row.protocol == "equivariance" && row.metric == metric);
    let row = measured(EQUIVARIANCE)?;
    let shuffled = measured(SHUFFLED)
        .map_or_else(String::new, |row| format!(" (with the parameters of other views: {})", row.text(row.value)));
    Some(format!(
        "On `{}`, the prediction from a picture and the parameters of a view is nearer to the view's embedding than the picture's own \
         embedding is, by {} in cosine{shuffled}.",
        row.data,
        row.text(row.value)
    ))
}

/// As equimod takes it.
fn reference(repository: &str, branch: Option<&str>) -> String {
    format!("{PREFIX}{repository}{}", branch.map_or_else(String::new, |branch| format!("@{branch}")))
}

/// The command that trains again, with the pictures that are no longer where they were.
fn again(training: &Training) -> String {
    let mut command = "equimod pretrain --recipe recipe.toml --out run".to_owned();
    if training.data != "emoji" && !training.data.starts_with(PREFIX) {
        command += " --data PICTURES";
    }
    if training.from.is_some() {
        command += " --from BEGINNING";
    }
    command
}

fn heads(method: &MethodConfig) -> String {
    let modules: Vec<&str> = modules(method).iter().map(|part| part.name).collect();
    match modules.as_slice() {
        [] => "the objective's; there is no equivariance module".into(),
        names => format!("the objective's, and those of {}", names.join(", ")),
    }
}

fn vector(values: &Value) -> Vec<ParameterRow> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64);
    let short = |value: Option<f64>| {
        value.map_or_else(
            || "any".to_owned(),
            |value| format!("{:.4}", value).trim_end_matches('0').trim_end_matches('.').to_owned(),
        )
    };
    let row = |value: &Value| ParameterRow {
        name: text(value, "name"),
        augmentation: text(value, "augmentation"),
        unit: text(value, "unit"),
        range: format!("{} to {}", short(number(value, "least")), short(number(value, "largest"))),
        mean: short(number(value, "mean")),
        std: short(number(value, "std")),
    };
    values.as_array().map(|values| values.iter().map(row).collect()).unwrap_or_default()
}

fn data_licence(ours: Option<&Value>, data: Option<&str>) -> String {
    match (ours.and_then(|ours| ours.get("data_licence")?.as_str()), data) {
        (Some(told), _) => format!("{}.", told.trim_end_matches('.')),
        (None, Some("emoji")) => BUNDLED.into(),
        (None, _) => UNKNOWN.into(),
    }
}
