//! Values for the template of the model card.

use std::time::Duration;

use anyhow::Context;
use candle_core::Device;
use equimod_core::model::{CONFIG_FILE, Exported, HEADS_FILE, Imported, MODEL_FILE};
use equimod_core::{BackboneConfig, Description, Entry, LibraryName, MethodConfig, Model, ResNetConfig, Stem};
use equimod_data::source::ReadOptions;
use equimod_eval::results::EQUIVARIANCE;
use serde::Serialize;
use serde_json::Value;

use super::front_matter::{Origins, front_matter};
use super::methods::{entries, modules};
use super::results::{SeenImages, claim, equivariance, headlines, results, table};
use crate::artifact::{Files, IMPORTED_KEY, StartingWeights, TABLE_FILE, Training, read};
use crate::outputs::console::duration;
use crate::process::memory::peak;
use crate::reference::{PREFIX, shown};

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
    /// Whether one of them is the equivariance of the baseline.
    has_untrained_predictor: bool,
    /// Whether it has numbers on images of training.
    seen: Option<SeenImages>,
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
    /// Properties of imported weights that were assumed without evidence.
    assumed: Option<String>,
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
    /// The data for readers.
    on: Option<String>,
    /// Model that training started from, for readers, the one that it came from, and so on.
    start: Vec<String>,
    /// Whether the metrics go on after the weights.
    further_steps: bool,
    /// Epoch of weights from before the end of training.
    reached: Option<u64>,
    /// All of these with their SHA-256.
    origins: Vec<String>,
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
        let mut rows = headlines(&results);
        // Without a weight of the module's loss, nothing trained its predictor.
        if description.is_some_and(|description| modules(&description.method).is_empty()) {
            rows.retain(|row| !row.is_of_predictor());
        }
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
                Origins { data, from: training.training.iter().flat_map(origins).collect() },
                license.as_deref(),
                &rows,
            )?,
            claim: claim(&rows, data, &short, method.method.as_deref()),
            repo: repository.map(str::to_owned),
            branch: branch.map(str::to_owned),
            model: repository.map_or_else(|| ".".to_owned(), |repository| reference(repository, branch)),
            table: (!rows.is_empty()).then(|| table(&rows)),
            has_baseline: rows.iter().any(|row| row.baseline.is_some()),
            has_untrained_predictor: rows.iter().any(|row| row.protocol == EQUIVARIANCE && row.baseline.is_some()),
            all_results: files.keys().filter(|name| name.ends_with(TABLE_FILE)).cloned().collect(),
            heads: files.contains_key(HEADS_FILE),
            equivariance: equivariance(&rows),
            seen: data.and_then(|own| SeenImages::of(&rows, own)),
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
            // The description of our own weights is in the configuration.
            assumed: model.imported.as_ref().filter(|_| description.is_none()).and_then(Imported::assumed_values),
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
            on: Some(shown(&training.data)),
            start: start(&training),
            further_steps: training.further_steps,
            reached: training.epoch.filter(|_| !training.finished),
            origins: origins(&training).map(str::to_owned).collect(),
            command: command(&training),
            time: duration(Duration::from_secs_f64(training.seconds)),
            memory: peak(training.peak_memory),
            fingerprint: training.data_fingerprint.clone(),
            training: Some(training),
        }
    }
}

/// Such weights for readers, with the images that they were trained on if some were others than those of this training.
fn start(training: &Training) -> Vec<String> {
    let known: Vec<StartingWeights> = origins(training).map(StartingWeights::parse).collect();
    let is_other = |(_, fingerprint): (&str, &str)| fingerprint != training.data_fingerprint;
    let has_others = known.iter().filter_map(|weights| weights.images).any(is_other);
    let named = |StartingWeights { model, images, .. }: StartingWeights| match images.filter(|_| has_others) {
        Some((images, _)) => format!("`{}` (trained on `{}`)", shown(model), shown(images)),
        None => format!("`{}`", shown(model)),
    };
    known.into_iter().map(named).collect()
}

/// The weights that training started from, those that they came from, and so on.
fn origins(training: &Training) -> impl Iterator<Item = &str> {
    training.from.iter().chain(&training.ancestors).map(String::as_str)
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

/// MODEL reference of a repository, with its branch.
fn reference(repository: &str, branch: Option<&str>) -> String {
    format!("{PREFIX}{repository}{}", branch.map_or_else(String::new, |branch| format!("@{branch}")))
}

/// Command that reproduces the training, with a placeholder for local images.
fn command(training: &Training) -> String {
    let mut command = "equimod pretrain --recipe recipe.toml --out run".to_owned();
    let is_local = |source: &str| !source.is_empty() && source != "emoji" && !source.starts_with(PREFIX);
    if is_local(&training.data) {
        command += " --data IMAGES";
    }
    if is_local(&training.probe) {
        command += " --set probe.data=LABELED_IMAGES";
    }
    if let Some(from) = &training.from {
        let model =
            Some(StartingWeights::parse(from).model).filter(|model| model.starts_with(PREFIX)).unwrap_or("MODEL");
        command += &format!(" --from {model}");
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
