//! Values for the template of the model card.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::Context;
use candle_core::Device;
use equimod_core::model::{CONFIG_FILE, Exported, HEADS_FILE, MODEL_FILE};
use equimod_core::{BackboneConfig, Description, Entry, LibraryName, MethodConfig, Model, ResNetConfig, Stem};
use equimod_data::source::ReadOptions;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::MEAN_PER_CLASS;
use equimod_eval::results::{
    OTHER_SETTINGS, Results, TOP_1, headline_accuracy, is_better_founded, is_reduced, markdown,
};
use serde::Serialize;
use serde_json::Value;

use super::SHUFFLED;
use super::front_matter::{Origins, front_matter};
use super::methods::{entries, modules};
use crate::artifact::{Files, IMPORTED_KEY, RESULTS_FILE, TABLE_FILE, Training};
use crate::outputs::console::duration;
use crate::reference::PREFIX;

const EQUIVARIANCE: &str = "absolute equivariance";
/// Licenses of the bundled images.
const BUNDLED: &str = "Noto Emoji (Apache-2.0) and Twemoji (CC-BY 4.0).";
const UNKNOWN: &str = "their license is not recorded here; ask their publisher.";

/// Values for the template.
#[derive(Debug, Serialize)]
pub struct Facts {
    front_matter: String,
    title: String,
    claim: Option<String>,
    repo: Option<String>,
    branch: Option<String>,
    /// MODEL argument for equimod's commands.
    model: String,
    #[serde(flatten)]
    network: NetworkFacts,
    #[serde(flatten)]
    method: MethodFacts,
    #[serde(flatten)]
    training: TrainingFacts,
    #[serde(flatten)]
    reading: ReadingFacts,
    table: Option<String>,
    /// Whether the table has values of a baseline.
    has_baseline: bool,
    /// Files with all results.
    all_results: Vec<String>,
    heads: bool,
    equivariance: Option<String>,
    vector: Vec<ParameterRow>,
    license: Option<String>,
    data_license: String,
}

/// Backbone and preprocessing.
#[derive(Debug, Serialize)]
struct NetworkFacts {
    network: String,
    features: usize,
    /// Numbers in millions, and MACs in billions.
    parameters: String,
    macs: Option<String>,
    activations: Option<String>,
    size: usize,
    mean: String,
    std: String,
    timm: Option<&'static str>,
    /// Whether torchvision and candle have it under the same name.
    in_torchvision: bool,
    in_candle: bool,
    architecture: String,
    /// Arguments of torchvision, if it is a ResNet.
    resnet: Option<ResNetFacts>,
}

/// Arguments of the ResNet in torchvision.
#[derive(Debug, Serialize)]
struct ResNetFacts {
    /// Whether torchvision can build it with changes to individual layers.
    from_torchvision: bool,
    cifar: bool,
    stem_padding: usize,
    stem_relu: bool,
    max_pool: bool,
    width: usize,
    block: &'static str,
    blocks: String,
}

/// Training method; empty for imported weights without a description.
#[derive(Debug, Default, Serialize)]
struct MethodFacts {
    method: Option<String>,
    equimod: bool,
    target: bool,
    modules: String,
    step: u64,
    seed: u64,
    version: String,
    citations: Vec<Entry>,
}

/// How images were read in training.
#[derive(Debug, Serialize)]
struct ReadingFacts {
    /// Names from PIL, and the lines of Python that read an image with them.
    pil: &'static str,
    image: String,
    /// Color behind transparent pixels.
    background: Option<String>,
}

/// Cost and data of training, if a run directory recorded them.
#[derive(Debug, Default, Serialize)]
struct TrainingFacts {
    training: Option<Training>,
    data: Option<String>,
    /// Command that reproduces the training.
    command: String,
    time: String,
    memory: String,
    fingerprint: String,
}

/// Row of the table of augmentation parameters.
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
    /// Values from the files of an export.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged.
    pub fn of(files: &Files, repository: Option<&str>, branch: Option<&str>) -> anyhow::Result<Self> {
        let config: Value = read(files, CONFIG_FILE)?;
        let ours = config.get("equimod").filter(|ours| !ours.is_null());
        let exported: Option<Exported> = ours.map(|ours| serde_json::from_value(ours.clone())).transpose()?;
        let description = exported.as_ref().map(|exported| &exported.description);
        let training =
            ours.and_then(|ours| ours.get("training")).map(|training| serde_json::from_value(training.clone()));
        let results = results(files)?;
        let rows = headlines(&results);
        let network = NetworkFacts::of(files, description)?;
        let method = description.map(MethodFacts::of).unwrap_or_default();
        let training = training.transpose()?.flatten().map(TrainingFacts::of).unwrap_or_default();
        let stated =
            |key: &str| ours.or(config.get(IMPORTED_KEY)).and_then(|entry| Some(entry.get(key)?.as_str()?.to_owned()));
        let license = stated("license").or_else(|| stated("licence"));
        let short = display(&network.architecture);
        let title = match (repository, &method.method) {
            (Some(repository), _) => repository.rsplit('/').next().unwrap_or(repository).to_owned(),
            (None, Some(method)) => format!("{short}, {method}"),
            (None, None) => short.clone(),
        };
        let known = description.map(|description| &description.method);
        let data = training.data.as_deref();
        Ok(Self {
            front_matter: front_matter(
                &title,
                network.timm.is_some(),
                known,
                Origins { data, from: training.training.as_ref().and_then(|training| training.from.as_deref()) },
                license.as_deref(),
                &rows,
            )?,
            claim: claim(&rows, &short, method.method.as_deref()),
            repo: repository.map(str::to_owned),
            branch: branch.map(str::to_owned),
            model: repository.map_or_else(|| ".".to_owned(), |repository| reference(repository, branch)),
            table: (!rows.is_empty()).then(|| markdown(&rows)),
            has_baseline: rows.iter().any(|row| row.baseline.is_some()),
            all_results: files.keys().filter(|name| name.ends_with(TABLE_FILE)).cloned().collect(),
            heads: files.contains_key(HEADS_FILE),
            equivariance: equivariance(&rows),
            vector: ours.and_then(|ours| ours.get("parameter_vector")).map(vector).unwrap_or_default(),
            data_license: data_license(stated("data_license").or_else(|| stated("data_licence")), data),
            title,
            network,
            method,
            reading: ReadingFacts::of(training.training.as_ref()),
            training,
            license,
        })
    }
}

impl NetworkFacts {
    fn of(files: &Files, description: Option<&Description>) -> anyhow::Result<Self> {
        let bytes = files.get(MODEL_FILE).context("the export has no weights")?;
        let model = Model::from_bytes(bytes, MODEL_FILE.as_ref(), &Device::Cpu)?;
        let backbone = model.backbone_config()?;
        let settings = backbone.settings();
        let known = settings.library_name();
        let has = |library: fn(LibraryName) -> bool| known.is_some_and(library);
        let preprocessing = description.map_or(&model.preprocessing, |description| &description.preprocessing);
        let side = preprocessing.size;
        let activations = match &backbone {
            BackboneConfig::ResNet(config) => Some(config.activations(side)),
            _ => None,
        };
        Ok(Self {
            parameters: scaled(model.params().count("") as f64, 1e6),
            macs: model.backbone().macs(side).map(|macs| scaled(macs, 1e9)),
            activations: activations.map(|values| scaled(values, 1e6)),
            network: match settings.describe().split_once(", ") {
                Some((name, variant)) => format!("{} ({variant})", display(name)),
                None => display(&settings.describe()),
            },
            features: model.backbone().features(),
            size: preprocessing.size,
            mean: list(&preprocessing.normalization.mean),
            std: list(&preprocessing.normalization.std),
            timm: known.map(|known| known.name),
            in_torchvision: has(|known| known.torchvision),
            in_candle: has(|known| known.candle),
            architecture: settings.name().to_owned(),
            resnet: match &backbone {
                BackboneConfig::ResNet(config) => Some(ResNetFacts::of(config)),
                _ => None,
            },
        })
    }
}

impl ResNetFacts {
    fn of(config: &ResNetConfig) -> Self {
        let standard = ResNetConfig::default();
        let is_grouped = (config.groups, config.width_per_group) != (standard.groups, standard.width_per_group);
        Self {
            from_torchvision: config.stem != Stem::Deep && !config.average_shortcut && !is_grouped,
            cifar: config.stem == Stem::Cifar,
            stem_padding: config.padding(),
            stem_relu: config.stem_relu,
            max_pool: config.pools(),
            width: config.width,
            block: if config.architecture.expansion() == 1 { "BasicBlock" } else { "Bottleneck" },
            blocks: format!("{:?}", config.architecture.blocks()),
        }
    }
}

impl MethodFacts {
    fn of(description: &Description) -> Self {
        let citations = entries(&description.method);
        Self {
            method: Some(method_name(&citations)),
            equimod: modules(&description.method).iter().any(|module| module.name == "equimod"),
            target: description.target,
            modules: module_names(&description.method),
            step: description.step,
            seed: description.seed,
            version: description.version.clone(),
            citations,
        }
    }
}

impl ReadingFacts {
    fn of(training: Option<&Training>) -> Self {
        let options = training.map_or_else(ReadOptions::default, |training| ReadOptions {
            apply_orientation: training.apply_orientation,
            background: training.background,
        });
        let (pil, opened) = match options.apply_orientation {
            true => ("Image, ImageOps", "ImageOps.exif_transpose(Image.open(\"image.jpg\"))"),
            false => ("Image", "Image.open(\"image.jpg\")"),
        };
        let background = options.background.0.map(|_| options.background.to_string());
        let image = match &background {
            None => format!("image = {opened}.convert(\"RGB\")"),
            Some(color) => format!(
                "image = {opened}.convert(\"RGBA\")\nimage = Image.alpha_composite(Image.new(\"RGBA\", image.size, \
                 \"{color}\"), image).convert(\"RGB\")"
            ),
        };
        Self { pil, image, background }
    }
}

impl TrainingFacts {
    fn of(training: Training) -> Self {
        Self {
            data: Some(training.data.clone()),
            command: command(&training),
            time: duration(Duration::from_secs_f64(training.seconds)),
            memory: format!("{:.0} MiB", training.peak_memory as f64 / f64::from(1 << 20)),
            fingerprint: training.data_fingerprint.clone(),
            training: Some(training),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> anyhow::Result<T> {
    let bytes = files.get(name).with_context(|| format!("the export has no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("cannot read {name}"))
}

/// Results of the export: those of the run itself come first, those with the default settings of a protocol, whose
/// folders have short names, last.
fn results(files: &Files) -> anyhow::Result<Vec<Results>> {
    let mut names: Vec<&String> = files.keys().filter(|name| name.ends_with(RESULTS_FILE)).collect();
    names.sort_by_key(|name| (name.contains('/'), Reverse(name.len()), name.as_str()));
    names.into_iter().map(|name| read(files, name)).collect()
}

/// Headline rows without duplicates, if possible of evaluations with the settings of their protocols; a separate evaluation replaces the one at the end of the run. The mean over classes
/// stands only for data sets without a top-1 accuracy.
fn headlines(results: &[Results]) -> Vec<ResultRow> {
    let mut rows: Vec<ResultRow> = Vec::new();
    // Evaluations with other settings come first, so that those with the settings of the protocol replace them.
    let (published, others): (Vec<&Results>, Vec<&Results>) =
        results.iter().partition(|results| results.settings.is_empty());
    for row in [others, published].concat().into_iter().flat_map(of_model).filter(is_headline) {
        let key = |row: &ResultRow| [&row.protocol, &row.data, &row.task, &row.metric].map(String::clone);
        match rows.iter_mut().find(|other| key(other) == key(&row)) {
            Some(other) if replaces(&row, other) => *other = row,
            Some(_) => {}
            None => rows.push(row),
        }
    }
    let top_1: Vec<[String; 3]> = rows.iter().filter(|row| row.metric == TOP_1).map(classified).collect();
    rows.retain(|row| row.metric != MEAN_PER_CLASS || !top_1.contains(&classified(row)));
    rows
}

/// The row with settings other than the defaults in its details.
fn with_settings(row: &ResultRow, settings: &[String]) -> ResultRow {
    let mut row = row.clone();
    if !settings.is_empty() {
        let gap = if row.detail.is_empty() { "" } else { "; " };
        row.detail += &format!("{gap}{OTHER_SETTINGS}{}", settings.join(", "));
    }
    row
}

/// The rows of the exported model, with the values of its untrained network if that was evaluated as another model.
fn of_model(results: &Results) -> Vec<ResultRow> {
    let [one, untrained] = results.models.as_slice() else {
        return results.rows.iter().map(|row| with_settings(row, &results.settings)).collect();
    };
    let key = |row: &ResultRow| [&row.protocol, &row.data, &row.task, &row.metric].map(String::clone);
    let of_untrained = |row: &&ResultRow| row.model == untrained.name;
    let value = |row: &ResultRow| {
        results.rows.iter().filter(of_untrained).find(|other| key(other) == key(row)).map(|other| other.value)
    };
    let own = results.rows.iter().filter(|row| row.model == one.name);
    own.map(|row| ResultRow { untrained: value(row), model: String::new(), ..row.clone() }).collect()
}

/// The classification that an accuracy is of.
fn classified(row: &ResultRow) -> [String; 3] {
    [&row.protocol, &row.data, &row.task].map(String::clone)
}

/// Whether a row of a later evaluation replaces that of an earlier one: if it is better founded, or as well founded and no
/// repetition that lacks the value of the untrained network.
fn replaces(row: &ResultRow, earlier: &ResultRow) -> bool {
    let is_same = row.detail == earlier.detail && row.chosen == earlier.chosen;
    let adds = row.untrained.is_some() || earlier.untrained.is_none() || !is_same;
    is_better_founded(row, earlier) || (adds && !is_better_founded(earlier, row))
}

fn is_headline(row: &ResultRow) -> bool {
    let whole = !row.task.ends_with(" alone");
    let metric = row.metric.as_str();
    row.value.is_finite()
        && ([TOP_1, MEAN_PER_CLASS, "recall@1", "MRR", "pooled R²"].contains(&metric)
            || metric.ends_with("-shot accuracy")
            || (whole && (metric == EQUIVARIANCE || metric == SHUFFLED)))
}

/// Names of the objective and the modules of a method, e.g. `SimCLR + EquiMod`.
fn method_name(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.title).collect::<Vec<_>>().join(" + ")
}

/// Name of an architecture as in papers, e.g. `ResNet-18`.
fn display(architecture: &str) -> String {
    architecture.replace("resnet", "ResNet-")
}

/// A number in multiples of `unit`, with three significant digits.
fn scaled(number: f64, unit: f64) -> String {
    let number = number / unit;
    let decimals = (2 - number.abs().max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{number:.decimals$}")
}

fn list(values: &[f32; 3]) -> String {
    format!("[{}, {}, {}]", values[0], values[1], values[2])
}

/// One sentence with the headline result.
fn claim(rows: &[ResultRow], network: &str, method: Option<&str>) -> Option<String> {
    let row = headline_accuracy(rows)?;
    let protocol = match row.protocol.as_str() {
        "linear" => "a linear layer on frozen features",
        "logistic" if is_reduced(row) => "a quick search of logistic regression on frozen features",
        "logistic" => "logistic regression on frozen features",
        _ => "k-nearest-neighbor classification of frozen features",
    };
    let mut also = Vec::new();
    also.extend(row.interval_text().map(|interval| format!("95 % interval {interval}")));
    also.extend(row.untrained.map(|value| format!("{} with random weights", row.text(value))));
    also.extend(row.chance.map(|value| format!("chance {}", row.text(value))));
    also.extend(row.detail.split_once(OTHER_SETTINGS).map(|(_, settings)| format!("{OTHER_SETTINGS}{settings}")));
    let task = if row.task.is_empty() { String::new() } else { format!(", task {}", row.task) };
    let by = method.map_or_else(String::new, |method| format!(" trained with {method}"));
    Some(format!(
        "**{} top-1 accuracy** ({}) with {protocol} of a {network}{by}, on `{}`{task}.",
        row.text(row.value),
        also.join("; "),
        row.data
    ))
}

/// One sentence with the equivariance results.
fn equivariance(rows: &[ResultRow]) -> Option<String> {
    let measured = |metric: &str| rows.iter().find(|row| row.protocol == "equivariance" && row.metric == metric);
    let row = measured(EQUIVARIANCE)?;
    let shuffled = measured(SHUFFLED)
        .map_or_else(String::new, |row| format!(" (with the parameters of other views: {})", row.text(row.value)));
    if row.interval.is_some_and(|(low, high)| low <= 0.0 && high >= 0.0) {
        return Some(format!(
            "On `{}`, the prediction from an image and the parameters of a view is not clearly closer to the embedding of the \
             view than the embedding of the image is: absolute equivariance {} (95 % interval {}).",
            row.data,
            row.text(row.value),
            row.interval_text().unwrap_or_default()
        ));
    }
    let side = if row.value > 0.0 { "closer to" } else { "farther from" };
    Some(format!(
        "On `{}`, the prediction from an image and the parameters of a view is {side} the embedding of the view than \
         the embedding of the image is, by {} in cosine similarity{shuffled}.",
        row.data,
        row.text(row.value.abs())
    ))
}

/// MODEL reference of a repository, with its branch.
fn reference(repository: &str, branch: Option<&str>) -> String {
    format!("{PREFIX}{repository}{}", branch.map_or_else(String::new, |branch| format!("@{branch}")))
}

/// Command that reproduces the training, with a placeholder for local images.
fn command(training: &Training) -> String {
    let mut command = "equimod pretrain --recipe recipe.toml --out run".to_owned();
    if training.data != "emoji" && !training.data.starts_with(PREFIX) {
        command += " --data IMAGES";
    }
    if training.from.is_some() {
        command += " --from MODEL";
    }
    command
}

fn module_names(method: &MethodConfig) -> String {
    let modules: Vec<&str> = modules(method).iter().map(|module| module.title).collect();
    match modules.as_slice() {
        [] => "those of the objective; there is no equivariance module".into(),
        names => format!("those of the objective and of {}", names.join(", ")),
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

fn data_license(stated: Option<String>, data: Option<&str>) -> String {
    match (stated, data) {
        (Some(stated), _) => format!("{}.", stated.trim_end_matches('.')),
        (None, Some("emoji")) => BUNDLED.into(),
        (None, _) => UNKNOWN.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use equimod_eval::results::EvaluatedModel;

    fn row(metric: &str, value: f64, strengths: usize, untrained: Option<f64>) -> ResultRow {
        ResultRow {
            protocol: "logistic".into(),
            metric: metric.into(),
            value,
            untrained,
            chosen: Some(format!("w 1, the best of {strengths} on validation")),
            ..ResultRow::default()
        }
    }

    fn values(files: Vec<Vec<ResultRow>>) -> Vec<f64> {
        let files: Vec<Results> = files.into_iter().map(|rows| Results { rows, ..Results::default() }).collect();
        headlines(&files).iter().map(|row| row.value).collect()
    }

    #[test]
    fn the_whole_search_replaces_a_quick_look_and_not_the_other_way_around() {
        let (quick, whole) = (row(TOP_1, 0.46, 4, Some(0.4)), row(TOP_1, 0.45, 45, None));
        assert_eq!(values(vec![vec![quick.clone()], vec![whole.clone()]]), [0.45]);
        assert_eq!(values(vec![vec![whole.clone()], vec![quick]]), [0.45]);
        // A repetition without the untrained network replaces nothing.
        let with_untrained = row(TOP_1, 0.44, 45, Some(0.4));
        assert_eq!(values(vec![vec![with_untrained], vec![whole]]), [0.44]);
    }

    #[test]
    fn trials_are_no_headline_beside_others_and_an_untrained_model_is_a_reference() {
        let whole = |model: &str, value| ResultRow { model: model.into(), ..row(TOP_1, value, 45, None) };
        let model = |name: &str| EvaluatedModel { name: name.into(), ..Default::default() };
        let trial = Results { rows: vec![whole("", 0.9)], settings: vec!["48".into()], ..Results::default() };
        assert_eq!(headlines(std::slice::from_ref(&trial))[0].detail, "other settings: 48");
        let linear = Results {
            rows: vec![ResultRow { protocol: "linear".into(), ..whole("", 0.9) }],
            settings: vec!["lr-1".into()],
            ..Results::default()
        };
        let published = Results { rows: vec![whole("", 0.5)], ..Results::default() };
        let rows = headlines(&[published, linear]);
        assert!(rows.len() == 2 && headline_accuracy(&rows).unwrap().protocol == "logistic");
        let suite = Results {
            models: vec![model("mine"), model("mine untrained")],
            rows: vec![whole("mine", 0.5), whole("mine untrained", 0.4)],
            ..Results::default()
        };
        let found = headlines(&[suite, trial]);
        let [row] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((row.value, row.untrained, row.model.as_str()), (0.5, Some(0.4), ""));
    }

    #[test]
    fn the_mean_over_classes_stands_for_data_without_a_top_1_accuracy() {
        let other = ResultRow { data: "birds".into(), ..row(MEAN_PER_CLASS, 0.3, 45, None) };
        let rows = vec![row(TOP_1, 0.5, 45, None), row(MEAN_PER_CLASS, 0.4, 45, None), other];
        assert_eq!(values(vec![rows]), [0.5, 0.3]);
    }
}
