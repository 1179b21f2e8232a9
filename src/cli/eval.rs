//! The arguments of `eval` and `embed`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use equimod_eval::Crop;
use equimod_eval::evaluation::FeatureMap;

use super::{DeviceArgs, ReadingArgs};

/// `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// A protocol.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// The published linear evaluation: a linear layer trained by SGD on random crops and flips.
    Linear(Linear),
    /// Logistic regression on frozen features by L-BFGS, with the L2 strength chosen on validation.
    Logistic(Logistic),
    /// Weighted vote of the nearest neighbours by cosine.
    Knn(Knn),
    /// Few-shot episodes: logistic regression and nearest prototype.
    FewShot(FewShot),
    /// Fine-tune the whole network on all labels or a share of them.
    Finetune(Finetune),
    /// How much nearer to a view its prediction is than the original image, overall and for each augmentation.
    Equivariance(Equivariance),
    /// Ridge regression from features to each augmentation parameter: R².
    Params(Params),
    /// Retrieve views by their predictions, and images of the same class or of the other design by features.
    Retrieval(Retrieval),
    /// Standard deviation, effective rank, alignment and uniformity of features.
    Health(Health),
    /// A suite of data sets: one table of models, with mean and rank.
    Transfer(Transfer),
    /// Two models on the same test pictures, paired; also over several seeds.
    Compare(Compare),
}

/// What every protocol takes.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A run directory, a checkpoint, an export, a .safetensors file, or hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Decides splits, views and intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also evaluate the same network before training.
    #[arg(long)]
    pub untrained: bool,
    #[command(flatten)]
    pub input: InputArgs,
    /// Keep features in this folder [default: eval/features of a run directory, else nowhere].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write results.json, results.md, report.html and what belongs to them into this folder
    /// [default: eval/<protocol>-<data> of a run directory, else nowhere].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The two-dimensional map of features in the report.
    #[arg(long, value_enum, default_value_t = MapKind::Pca)]
    pub map: MapKind,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Which pictures are evaluated on.
#[derive(Args, Debug)]
pub struct PictureArgs {
    /// The pictures, a source of `equimod list datasets`; without test pictures of its own, a part is held out.
    #[arg(long, default_value = "emoji")]
    pub data: String,
    /// Test pictures from another source.
    #[arg(long, value_name = "DATA")]
    pub test: Option<String>,
    /// Validation pictures from another source [default: the data's own, else a fifth of its training pictures].
    #[arg(long, value_name = "DATA")]
    pub validation: Option<String>,
    /// Only these labels; may be given several times [default: all]. Also a column of a table or shard that holds words or
    /// whole numbers.
    #[arg(long)]
    pub task: Vec<String>,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// How images enter the network.
#[derive(Args, Clone, Copy, Debug)]
pub struct InputArgs {
    /// Side of the network's input in pixels, e.g. 224 or 448 [default: that of training].
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Part of an image that enters the network [default: center; for linear and finetune: inset].
    #[arg(long, value_enum)]
    pub crop: Option<CropKind>,
}

/// A crop, as an argument.
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

/// A map of features, as an argument.
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

/// `eval logistic`.
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

/// `eval knn`.
#[derive(Args, Debug)]
pub struct Knn {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Neighbours that vote.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Temperature of the vote.
    #[arg(long, default_value_t = 0.07)]
    pub temperature: f64,
}

/// `eval transfer`.
#[derive(Args, Debug)]
pub struct Transfer {
    /// Models: run directories, checkpoints, or .safetensors files.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// A built-in suite (see `equimod list suites`) or a TOML file.
    #[arg(long, default_value = "emoji", value_name = "NAME|FILE")]
    pub suite: String,
    /// Only these tasks of the suite; may be given several times.
    #[arg(long, value_name = "TASK")]
    pub only: Vec<String>,
    /// Take the pictures of a task from elsewhere, e.g. MIT-67=FOLDER; may be given several times.
    #[arg(long, value_name = "TASK=DATA")]
    pub data: Vec<String>,
    /// Leave tasks out, and say so, whose pictures cannot be had.
    #[arg(long)]
    pub skip_missing: bool,
    /// Number of L2 strengths to try, evenly spaced in the logarithm from 1e-6 to 1e5 (published: 45).
    #[arg(long, alias = "penalties", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub l2_strengths: u32,
    /// Also evaluate the first model's network before training.
    #[arg(long)]
    pub untrained: bool,
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// `eval compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// Two models A and B, or pairs of them, A1 B1 A2 B2 …, one pair a seed.
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// How they are evaluated.
    #[arg(long, value_enum, default_value_t = Compared::Logistic)]
    pub by: Compared,
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Number of L2 strengths to try, for --by logistic.
    #[arg(long, alias = "penalties", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub l2_strengths: u32,
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// By what models are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compared {
    /// Logistic regression on frozen features.
    Logistic,
    /// Weighted vote of the 20 nearest neighbours.
    Knn,
}

/// What evaluations of several models take.
#[derive(Args, Debug)]
pub struct SharedArgs {
    /// Decides splits and intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub input: InputArgs,
    /// Keep features in this folder [default: eval/features of each run directory, else nowhere].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write results.json, results.md and report.html into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `embed`.
#[derive(Args, Debug)]
pub struct Embed {
    /// A run directory, a checkpoint, an export, a .safetensors file, or hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// The pictures, a source of `equimod list datasets`.
    #[arg(long, default_value = "emoji")]
    pub data: String,
    /// Only the pictures of these splits; may be given several times [default: all].
    #[arg(long, value_enum)]
    pub split: Vec<EmbeddedSplit>,
    /// The file, whose ending says what it is: .safetensors, .npy, .csv or .parquet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Keep features in this folder, too [default: eval/features of a run directory, else nowhere].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A split of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmbeddedSplit {
    /// What is fitted on.
    Train,
    /// What hyper-parameters are chosen on.
    Validation,
    /// What is tested on.
    Test,
}

/// `eval linear`.
#[derive(Args, Debug)]
pub struct Linear {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Passes over the training pictures.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Pictures a step.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Learning rate of the first step; it falls along half a cosine to 1e-4.
    #[arg(long, default_value_t = 0.2)]
    pub learning_rate: f64,
}

/// `eval few-shot`.
#[derive(Args, Debug)]
pub struct FewShot {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Classes of an episode.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    pub ways: u32,
    /// Pictures a class to learn from; may be given several times [default: 1 and 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub shots: Vec<u32>,
    /// Pictures a class to tell.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub queries: u32,
    /// Episodes.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub episodes: u32,
}

/// `eval finetune`.
#[derive(Args, Debug)]
pub struct Finetune {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Per cent of the labels of each class; may be given several times [default: 1, 10 and 100].
    #[arg(long, value_name = "PER CENT")]
    pub labels: Vec<f64>,
    /// Passes over the labelled pictures.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Of them, those in which the learning rate rises.
    #[arg(long, default_value_t = 0)]
    pub warmup_epochs: u32,
    /// Pictures a step [default: 256, or what makes 40 steps an epoch, 16 at least].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Optimiser.
    #[arg(long, value_enum, default_value_t = FinetuneOptimizer::Sgd)]
    pub optimizer: FinetuneOptimizer,
    /// The highest learning rate; it falls along half a cosine to 0 [default: of sgd 0.05 for a batch of
    /// 256, in proportion to the batch; of adamw 0.001].
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Weight decay.
    #[arg(long, default_value_t = 0.0)]
    pub weight_decay: f64,
    /// The rate of each stage, as a share of that of the stage above.
    #[arg(long, default_value_t = 1.0)]
    pub layer_decay: f64,
    /// Leave the running statistics of batch norm as pretraining left them.
    #[arg(long)]
    pub frozen_batch_norm: bool,
}

/// Optimisers of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FinetuneOptimizer {
    /// Nesterov's momentum 0.9.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// `eval equivariance`.
#[derive(Args, Debug)]
pub struct Equivariance {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Pictures that are augmented.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub pictures: u32,
    /// Only overall, not by each augmentation alone.
    #[arg(long)]
    pub overall: bool,
}

/// `eval params`.
#[derive(Args, Debug)]
pub struct Params {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Pictures that are augmented; a fifth validates, a fifth is held out.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(20..))]
    pub pictures: u32,
}

/// `eval retrieval`.
#[derive(Args, Debug)]
pub struct Retrieval {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Pictures whose views are predicted.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub pictures: u32,
    /// Views of each picture.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    pub views: u32,
}

/// `eval health`.
#[derive(Args, Debug)]
pub struct Health {
    #[command(flatten)]
    pub common: EvalArgs,
    /// Pictures whose views are compared.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub pictures: u32,
}
