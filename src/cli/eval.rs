//! Arguments of `eval` and `embed`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use equimod_eval::Crop;
use equimod_eval::evaluation::FeatureMap;

use super::{DevicesArgs, ReadingArgs};

/// Arguments of `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// The evaluation protocols.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Linear probe as published: a linear layer trained by SGD on random crops and flips.
    #[command(after_help = "Example:\n  equimod eval linear out/mine --data birds/")]
    Linear(Linear),
    /// Logistic regression on frozen features by L-BFGS, with the L2 strength chosen on validation images.
    #[command(after_help = "Example:\n  equimod eval logistic out/mine --data birds/ --untrained")]
    Logistic(Logistic),
    /// k-NN classification: weighted vote of the nearest neighbors by cosine similarity.
    #[command(after_help = "Example:\n  equimod eval knn weights.safetensors --data birds/ --size 224")]
    Knn(Knn),
    /// Few-shot classification: logistic regression and nearest prototype.
    #[command(after_help = "Example:\n  equimod eval few-shot out/mine --data birds/ --shots 1 --shots 5")]
    FewShot(FewShot),
    /// Fine-tuning of the whole network on all labels or a share of them.
    #[command(after_help = "Example:\n  equimod eval finetune out/mine --data birds/ --labels 10")]
    Finetune(Finetune),
    /// Equivariance: how much closer to a view its prediction is than the original image, overall and by augmentation.
    #[command(after_help = "Example:\n  equimod eval equivariance out/mine")]
    Equivariance(Equivariance),
    /// Parameter probes: R² of a ridge regression from features to each augmentation parameter.
    #[command(after_help = "Example:\n  equimod eval params out/mine --untrained")]
    Params(Params),
    /// Retrieval of views by their predictions, and of images by their features.
    #[command(after_help = "Example:\n  equimod eval retrieval out/mine --images 500")]
    Retrieval(Retrieval),
    /// Standard deviation, effective rank, alignment and uniformity of features.
    #[command(after_help = "Example:\n  equimod eval health out/mine")]
    Health(Health),
    /// Transfer to a suite of data sets: one table of models, with their mean and mean rank.
    #[command(after_help = "Example:\n  equimod eval transfer out/simclr out/mine --suite emoji --out transfer")]
    Transfer(Transfer),
    /// Paired comparison of two models on the same test images, also over several seeds.
    #[command(after_help = "Example:\n  equimod eval compare out/simclr out/mine --data birds/ --out comparison")]
    Compare(Compare),
}

/// Arguments of every protocol.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Run directory, checkpoint, export, .safetensors file, or hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// As --data.
    #[arg(value_name = "DATA", conflicts_with = "data")]
    pub source: Option<String>,
    #[command(flatten)]
    pub images: ImageArgs,
    /// Seed of splits, views and intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also evaluate the same network before training.
    #[arg(long)]
    pub untrained: bool,
    /// Also evaluate the baseline of the run, which `equimod pretrain --baseline` trains. Its own run keeps its results.
    #[arg(long)]
    pub baseline: bool,
    #[command(flatten)]
    pub input: InputArgs,
    /// Cache features in this folder [default: eval/features of a run directory, else none].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write results.json, results.md, report.html and their companions to this folder
    /// [default: eval/<protocol>-<data> of a run directory, with settings that are not the default, else none].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Two-dimensional map of features in the report.
    #[arg(long, value_enum, default_value_t = MapKind::Pca)]
    pub map: MapKind,
    /// Print results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Images of an evaluation.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Data source of `equimod list datasets` [default: that of the model's run]. Without test images of its own, a
    /// part is held out.
    #[arg(long)]
    pub data: Option<String>,
    /// Another data source for the test images.
    #[arg(long, value_name = "DATA")]
    pub test: Option<String>,
    /// Another data source for the validation images [default: the data's own, else a fifth of its training images].
    #[arg(long, value_name = "DATA")]
    pub validation: Option<String>,
    /// Evaluate only these labels; may be repeated [default: all]. A column of strings or integers in a table or shard
    /// will do as well.
    #[arg(long)]
    pub task: Vec<String>,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Resizing and cropping of images.
#[derive(Args, Clone, Copy, Debug)]
pub struct InputArgs {
    /// Side of the network's input in pixels, e.g. 224 or 448 [default: that of training].
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Part of an image that enters the network [default: center; for linear and finetune: inset].
    #[arg(long, value_enum)]
    pub crop: Option<CropKind>,
}

/// Crop of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CropKind {
    /// Resize the shorter side to the size, then crop the center.
    #[value(alias = "centre")]
    Center,
    /// Resize the shorter side to 8/7 of the size (32 → 36, 224 → 256), then crop the center.
    Inset,
    /// Resize the whole image to the square.
    Whole,
}

impl From<CropKind> for Crop {
    fn from(kind: CropKind) -> Self {
        match kind {
            CropKind::Center => Self::Center,
            CropKind::Inset => Self::Inset,
            CropKind::Whole => Self::Whole,
        }
    }
}

/// Map of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MapKind {
    /// No map.
    None,
    /// The first two principal components.
    Pca,
    /// Principal components and t-SNE, which takes longer.
    Tsne,
}

impl From<MapKind> for FeatureMap {
    fn from(kind: MapKind) -> Self {
        match kind {
            MapKind::None => Self::None,
            MapKind::Pca => Self::Pca,
            MapKind::Tsne => Self::Tsne,
        }
    }
}

/// Arguments of `eval logistic`.
#[derive(Args, Debug)]
pub struct Logistic {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of L2 strengths to try, evenly spaced in the logarithm from 1e-6 to 1e5 (published: 45).
    #[arg(long, alias = "penalties", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub l2_strengths: u32,
    /// Choose the L2 strength by the mean over classes of their accuracy on validation instead of the accuracy.
    #[arg(long)]
    pub by_class: bool,
}

/// Arguments of `eval knn`.
#[derive(Args, Debug)]
pub struct Knn {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of nearest neighbors that vote.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Temperature of the vote.
    #[arg(long, default_value_t = 0.07)]
    pub temperature: f64,
}

/// Arguments of `eval transfer`.
#[derive(Args, Debug)]
pub struct Transfer {
    /// Models: run directories, checkpoints, exports, .safetensors files, or hf: names.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Name of a built-in suite (see `equimod list suites`), or a TOML file.
    #[arg(long, default_value = "emoji", value_name = "NAME|FILE")]
    pub suite: String,
    /// Evaluate only these tasks of the suite; may be repeated.
    #[arg(long, value_name = "TASK")]
    pub only: Vec<String>,
    /// Data source of a task, e.g. MIT-67=FOLDER; may be repeated.
    #[arg(long, value_name = "TASK=DATA")]
    pub data: Vec<String>,
    /// Skip tasks whose images are not available, and name them.
    #[arg(long)]
    pub skip_missing: bool,
    /// Number of L2 strengths to try, evenly spaced in the logarithm from 1e-6 to 1e5 (published: 45).
    #[arg(long, alias = "penalties", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub l2_strengths: u32,
    /// Also evaluate the first model's network before training.
    #[arg(long)]
    pub untrained: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Arguments of `eval compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// Two models A and B, or one pair per seed: A1 B1 A2 B2 …
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Classifier for the comparison.
    #[arg(long, value_enum, default_value_t = Compared::Logistic)]
    pub by: Compared,
    #[command(flatten)]
    pub images: ImageArgs,
    /// Number of nearest neighbors that vote, for --by knn.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Number of L2 strengths to try, for --by logistic.
    #[arg(long, alias = "penalties", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub l2_strengths: u32,
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Classifier of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compared {
    /// Logistic regression on frozen features.
    Logistic,
    /// Weighted vote of the nearest neighbors.
    Knn,
}

/// Arguments of evaluations of several models.
#[derive(Args, Debug)]
pub struct SharedArgs {
    /// Seed of splits and intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub input: InputArgs,
    /// Cache features in this folder [default: eval/features of each run directory, else none].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write results.json, results.md and report.html to this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Arguments of `embed`.
#[derive(Args, Debug)]
pub struct Embed {
    /// Run directory, checkpoint, export, .safetensors file, or hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// As --data.
    #[arg(value_name = "DATA", conflicts_with = "data")]
    pub source: Option<String>,
    /// Data source of `equimod list datasets` [default: that of the model's run].
    #[arg(long)]
    pub data: Option<String>,
    /// Embed only the images of these splits; may be repeated [default: all].
    #[arg(long, value_enum)]
    pub split: Vec<EmbeddedSplit>,
    /// File to write; its extension selects the format: .safetensors, .npy, .csv or .parquet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Also cache features in this folder [default: eval/features of a run directory, else none].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Splits of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmbeddedSplit {
    /// Training split.
    Train,
    /// Validation split.
    Validation,
    /// Test split.
    Test,
}

/// Arguments of `eval linear`.
#[derive(Args, Debug)]
pub struct Linear {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of passes over the training images.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Batch size.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Learning rate of the first step; decays along half a cosine to 1e-4.
    #[arg(long, alias = "lr", default_value_t = 0.2)]
    pub learning_rate: f64,
}

/// Arguments of `eval few-shot`.
#[derive(Args, Debug)]
pub struct FewShot {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of classes per episode.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    pub ways: u32,
    /// Numbers of support images per class, e.g. 1,5; may be repeated [default: 1 and 5].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub shots: Vec<u32>,
    /// Number of query images per class.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub queries: u32,
    /// Number of episodes.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub episodes: u32,
}

/// Arguments of `eval finetune`.
#[derive(Args, Debug)]
pub struct Finetune {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Percentage of each class's labels; may be repeated [default: 1, 10 and 100].
    #[arg(long, value_name = "PERCENT")]
    pub labels: Vec<f64>,
    /// Number of passes over the labeled images.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Number of warm-up epochs among them.
    #[arg(long, default_value_t = 0)]
    pub warmup_epochs: u32,
    /// Batch size [default: 256, or fewer for at least 40 steps per epoch, but not below 16].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Optimizer.
    #[arg(long, value_enum, default_value_t = FinetuneOptimizer::Sgd)]
    pub optimizer: FinetuneOptimizer,
    /// Peak learning rate; decays along half a cosine to 0 [default: 0.05·batch/256 for sgd, 0.001 for adamw].
    #[arg(long, alias = "lr")]
    pub learning_rate: Option<f64>,
    /// Weight decay.
    #[arg(long, default_value_t = 0.0)]
    pub weight_decay: f64,
    /// Learning rate of each stage as a share of that of the next stage.
    #[arg(long, default_value_t = 1.0)]
    pub layer_decay: f64,
    /// Keep the running statistics of batch norm from pretraining.
    #[arg(long)]
    pub frozen_batch_norm: bool,
}

/// Optimizers of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FinetuneOptimizer {
    /// SGD with Nesterov momentum 0.9.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// Arguments of `eval equivariance`.
#[derive(Args, Debug)]
pub struct Equivariance {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of images to augment.
    #[arg(long, alias = "pictures", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub images: u32,
    /// Measure only overall, not by each augmentation alone.
    #[arg(long)]
    pub overall: bool,
}

/// Arguments of `eval params`.
#[derive(Args, Debug)]
pub struct Params {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of images to augment; a fifth is for validation, a fifth is held out.
    #[arg(long, alias = "pictures", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(20..))]
    pub images: u32,
}

/// Arguments of `eval retrieval`.
#[derive(Args, Debug)]
pub struct Retrieval {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of images whose views are predicted.
    #[arg(long, alias = "pictures", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Number of views per image.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    pub views: u32,
}

/// Arguments of `eval health`.
#[derive(Args, Debug)]
pub struct Health {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Number of images whose views are compared.
    #[arg(long, alias = "pictures", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub images: u32,
}
