//! The arguments, and nothing but the arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use equimod_core::Architecture;

/// Self-supervised representations that keep what augmentations would erase.
#[derive(Debug, Parser)]
#[command(name = "equimod", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Tell the reasons behind an error.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Threads of computation; results do not depend on them [default: one a core].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage or recipe, 3 data, 4 diverged, \
    75 interrupted after a checkpoint, 130 interrupted.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a backbone, evaluate it and write a report.
    Pretrain(Pretrain),
    /// Evaluate a frozen backbone.
    Eval(Eval),
    /// Say what a MODEL holds and whether it loads.
    Inspect(Inspect),
    /// Look at pictures and their augmentations, check and pack them.
    Data(Data),
    /// Measure speed.
    Bench(Bench),
    /// List what there is to choose from.
    List(List),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where tensors live.
#[derive(Args, Debug)]
pub struct DeviceArgs {
    /// auto, cpu, cuda:N or metal:N; auto takes the first GPU that this build and machine have.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `pretrain`.
#[derive(Args, Debug)]
pub struct Pretrain {
    /// A built-in recipe (see `equimod list recipes`) or a TOML file.
    #[arg(long, default_value = "quick", value_name = "NAME|FILE")]
    pub recipe: String,
    /// The pictures, a source of `equimod list datasets` [default: the recipe's].
    #[arg(long)]
    pub data: Option<String>,
    /// The run directory, new or empty [default: out/<recipe>-<number>].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Change a setting of the recipe, e.g. schedule.epochs=20; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The recipe's seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The recipe's number of epochs.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Go on with the run in --out from its newest checkpoint.
    #[arg(long, requires = "out", conflicts_with_all = ["settings", "seed", "epochs", "data", "dry_run"])]
    pub resume: bool,
    /// Print the resolved recipe, the number of parameters, and what a step takes in memory and time, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not evaluate at the end.
    #[arg(long)]
    pub no_eval: bool,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// How pictures are read.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReadingArgs {
    /// Turn pictures as their EXIF orientation says.
    #[arg(long)]
    pub apply_orientation: bool,
}

/// `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    /// How to evaluate.
    #[arg(value_enum)]
    pub protocol: Protocol,
    /// A run directory, a checkpoint, or a .safetensors file.
    pub model: PathBuf,
    /// The pictures, a source of `equimod list datasets`; without test pictures of its own, a part is held out.
    #[arg(long, default_value = "emoji")]
    pub data: String,
    /// Test pictures from another source.
    #[arg(long, value_name = "DATA")]
    pub test: Option<String>,
    /// Only these labels; may be given several times [default: all].
    #[arg(long)]
    pub task: Vec<String>,
    /// Neighbours that vote (knn).
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Temperature of the vote (knn).
    #[arg(long, default_value_t = 0.07)]
    pub temperature: f64,
    /// Penalties that are tried, evenly in the logarithm from 1e-6 to 1e5 (logistic); published: 45.
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub penalties: u32,
    /// Pictures that are augmented (equivariance).
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub pictures: u32,
    /// Decides splits, views and intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also evaluate the same network before training.
    #[arg(long)]
    pub untrained: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Keep features in this folder [default: eval/features of a run directory, else nowhere].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A protocol of `eval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Weighted vote of the nearest neighbours by cosine.
    Knn,
    /// Logistic regression by L-BFGS, the penalty chosen on validation.
    Logistic,
    /// How much nearer to a view its prediction is than the clean picture.
    Equivariance,
}

/// `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A run directory, a checkpoint, or a .safetensors file.
    pub model: PathBuf,
    /// Also list every tensor with its shape.
    #[arg(long)]
    pub tensors: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `list`.
#[derive(Args, Debug)]
pub struct List {
    /// What; everything if left out.
    #[arg(value_enum)]
    pub what: Option<Listed>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// Built-in recipes.
    Recipes,
    /// What pulls views together.
    Objectives,
    /// Equivariance modules.
    Modules,
    /// Networks.
    Backbones,
    /// Augmentations and policies.
    Augmentations,
    /// Sources of pictures, and the notice of the bundled ones.
    Datasets,
}

/// `data`.
#[derive(Args, Debug)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What to do with pictures.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Draw a contact sheet: pictures, their views, and the parameters of each.
    Preview(Preview),
    /// Sizes, channel means and deviations, label counts.
    Stats(DataStats),
    /// Measured and analytic statistics of every value of the parameter vector.
    Params(DataParams),
    /// Decode every picture; list what fails, and print a fingerprint.
    Verify(Verify),
    /// Write pictures into one memory-mapped file.
    Pack(Pack),
    /// Index tar shards in the WebDataset layout.
    Index(Index),
    /// Fetch a data set from the Hugging Face Hub, for use without a network.
    Fetch(Fetch),
}

/// Which pictures.
#[derive(Args, Debug)]
pub struct SourceArgs {
    /// A source of `equimod list datasets`.
    #[arg(default_value = "emoji")]
    pub source: String,
    /// The source's test pictures instead of those to train on.
    #[arg(long)]
    pub test: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// How pictures are augmented.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// The recipe whose augmentations are meant: built in, or a TOML file.
    #[arg(long, default_value = "simclr-equimod-cifar10", value_name = "NAME|FILE")]
    pub recipe: String,
    /// A built-in policy in place of the recipe's.
    #[arg(long)]
    pub policy: Option<String>,
    /// Side of the views in pixels, in place of the recipe's.
    #[arg(long)]
    pub size: Option<usize>,
    /// Change a setting of the recipe, e.g. augmentation.encoding=pairwise; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// `data preview`.
#[derive(Args, Debug)]
pub struct Preview {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Pictures that are drawn.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub pictures: u32,
    /// Decides which pictures and which views.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The contact sheet, a PNG file.
    #[arg(long, default_value = "preview.png", value_name = "FILE")]
    pub out: PathBuf,
    /// Print the parameters as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `data stats`.
#[derive(Args, Debug)]
pub struct DataStats {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Pictures that are decoded for the channel statistics, evenly spaced; 0 for all.
    #[arg(long, default_value_t = 10_000)]
    pub pictures: usize,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `data params`.
#[derive(Args, Debug)]
pub struct DataParams {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Draws that are measured.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub draws: u32,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `data verify`.
#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Also write what is printed with --json into this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `data pack`.
#[derive(Args, Debug)]
pub struct Pack {
    #[command(flatten)]
    pub source: SourceArgs,
    /// The packed file, usually NAME.equimod.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Bring the shorter side down to this many pixels (bicubic).
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub resize: Option<u32>,
    /// How pictures are stored.
    #[arg(long, value_enum, default_value = "raw")]
    pub storage: PackStorage,
    /// Quality of JPEG storage.
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How packed pictures are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackStorage {
    /// Decoded: the fastest to read.
    Raw,
    /// Without loss.
    Png,
    /// With loss, the smallest.
    Jpeg,
}

/// `data index`.
#[derive(Args, Debug)]
pub struct Index {
    /// A folder of .tar files, one such file, or a pattern such as x-{000..012}.tar.
    pub location: PathBuf,
    /// Write the index here instead of beside the shards, as NAME.index.json; it is a source itself.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `data fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT]; every split if none is named.
    pub source: String,
    /// Also put the files into this folder, new or empty, to be carried elsewhere: the folder is a source itself.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Three views a picture with their parameters: the clean one and two augmented ones, normalised to f32.
    Augment {
        /// What to augment.
        #[command(subcommand)]
        what: BenchAugment,
    },
    /// Whole training steps of SimCLR + EquiMod on random pictures: backbone, heads, losses, optimiser.
    Step(BenchStep),
    /// Every convolution of a ResNet-18 with the CIFAR stem, forward and both backwards, beside a matrix product.
    Conv(BenchConv),
    /// A recipe's batches, made as in training by threads of their own, and not used.
    Loader(BenchLoader),
    /// What an evaluation is made of, on noise: features of an untrained ResNet, k nearest neighbours, a logistic regression.
    Eval(BenchEval),
}

/// `bench step`.
#[derive(Args, Debug)]
pub struct BenchStep {
    /// Depth of the ResNet.
    #[arg(long, default_value = "resnet18")]
    pub arch: Architecture,
    /// Side of the pictures; above 64 the backbone has the ImageNet stem.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub size: u32,
    /// Images a step, three views each.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub batch: u32,
    /// Channels of the backbone's first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Width of the hidden layers of both projection heads.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub hidden: u32,
    /// Forget what is inside the backbone's blocks, and compute it again on the way back.
    #[arg(long)]
    pub recompute: bool,
    /// Convolve 3×3 windows directly, without Winograd's algorithm.
    #[arg(long)]
    pub no_winograd: bool,
    /// Steps that are measured, after two that are not; their median is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `bench conv`.
#[derive(Args, Debug)]
pub struct BenchConv {
    /// Pictures a batch.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Calls that are measured, after one that is not; their median is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `bench loader`.
#[derive(Args, Debug)]
pub struct BenchLoader {
    /// A built-in recipe (see `equimod list recipes`) or a TOML file.
    #[arg(long, default_value = "quick", value_name = "NAME|FILE")]
    pub recipe: String,
    /// The pictures, a source of `equimod list datasets` [default: the recipe's].
    #[arg(long)]
    pub data: Option<String>,
    /// Change a setting of the recipe, e.g. data.batch=512; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Batches that are measured, after three that are not.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub batches: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `bench eval`.
#[derive(Args, Debug)]
pub struct BenchEval {
    /// Depth of the ResNet.
    #[arg(long, default_value = "resnet18")]
    pub arch: Architecture,
    /// Side of the pictures; above 64 the backbone has the ImageNet stem.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub size: u32,
    /// Pictures.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub pictures: u32,
    /// Channels of the backbone's first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Which pictures are augmented.
#[derive(Debug, Subcommand)]
pub enum BenchAugment {
    /// Decoded pictures of 32 × 32 in memory, with the policy simclr-cifar10.
    Cifar(BenchArgs),
    /// A folder of pictures, decoded, with 224-pixel views of the policy simclr-imagenet.
    Folder {
        /// The folder.
        dir: PathBuf,
        #[command(flatten)]
        arguments: BenchArgs,
    },
}

/// How it is measured.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Pictures; those of a folder are repeated as often as needed [default: 20000 of cifar, 400 of a folder].
    #[arg(long)]
    pub images: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
