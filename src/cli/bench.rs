//! Arguments of `bench`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use equimod_core::{Architecture, Precision};

use super::{DeviceArgs, DevicesArgs, RecipeArgs};

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Augmentation: the original image and two augmented views, with their parameters, normalized to f32 [default:
    /// cifar].
    #[command(after_help = "Examples:
  equimod bench augment cifar --threads 1 --json
  equimod bench augment folder images/")]
    Augment(BenchAugment),
    /// Complete training steps of SimCLR + EquiMod on random images: backbone, heads, losses and optimizer.
    #[command(after_help = "Examples:
  equimod bench step --arch resnet50 --size 224 --batch 8 --steps 3 --json
  equimod bench step --device cpu:2 --threads 2
  mpirun -n 2 equimod bench step --device cpu --threads 1
  equimod bench step --device cuda:0 --size 224 --precision bf16 --autotune")]
    Step(BenchStep),
    /// Sums over ranks of tensors of several sizes, alone.
    #[command(after_help = "Examples:
  equimod bench exchange --device cpu:2
  mpirun -n 2 equimod bench exchange --device cpu")]
    Exchange(BenchExchange),
    /// Each convolution of a ResNet-18 with the CIFAR stem, forward and backward, next to a matrix product.
    #[command(after_help = "Example:
  equimod bench conv --steps 9")]
    Conv(BenchConv),
    /// Data loading: the batches of a recipe without training on them.
    #[command(after_help = "Example:
  equimod bench loader --recipe quick --batches 200")]
    Loader(BenchLoader),
    /// Evaluation on noise: features of an untrained ResNet, k-NN and logistic regression.
    #[command(after_help = "Example:
  equimod bench eval --images 2048")]
    Eval(BenchEval),
}

/// Arguments of `bench step`.
#[derive(Args, Clone, Debug)]
pub struct BenchStep {
    /// ResNet architecture.
    #[arg(long, default_value = "resnet18")]
    pub arch: Architecture,
    /// Side of the images in pixels; above 64 the backbone has the ImageNet stem.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub size: u32,
    /// Images per step over all ranks, three views each.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub batch: u32,
    /// Number of channels of the backbone's first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Width of the hidden layers of both projection heads.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub hidden: u32,
    /// Use activation checkpointing: recompute the activations inside the backbone's blocks in the backward pass.
    #[arg(long)]
    pub recompute: bool,
    /// Compute 3×3 convolutions directly, without Winograd's algorithm.
    #[arg(long)]
    pub no_winograd: bool,
    /// Precision of the backbone (`execution.precision` of recipes): f32, tf32 or bf16.
    #[arg(long, default_value = "f32", value_parser = precision())]
    pub precision: Precision,
    /// On an NVIDIA GPU, choose the algorithms of convolutions by their time (`execution.autotune`).
    #[arg(long)]
    pub autotune: bool,
    /// On an NVIDIA GPU in bf16, compute convolutions apart from the operations around them (`execution.fused`).
    #[arg(long)]
    pub no_fusion: bool,
    /// Number of timed steps, after two warm-up steps; the median is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Arguments of `bench exchange`.
#[derive(Args, Debug)]
pub struct BenchExchange {
    /// Number of timed sums of each size, after one for warming up; the median is printed.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Parser of `--precision`.
fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(["f32", "tf32", "bf16"]).map(|name| match name.as_str() {
        "tf32" => Precision::Tf32,
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    })
}

/// Arguments of `bench conv`.
#[derive(Args, Debug)]
pub struct BenchConv {
    /// Images per batch.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Number of channels of the first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Number of timed calls, after one warm-up call; the median is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench loader`.
#[derive(Args, Debug)]
pub struct BenchLoader {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Number of timed batches, after three warm-up batches.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batches: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench eval`.
#[derive(Args, Debug)]
pub struct BenchEval {
    /// ResNet architecture.
    #[arg(long, default_value = "resnet18")]
    pub arch: Architecture,
    /// Side of the images in pixels; above 64 the backbone has the ImageNet stem.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub size: u32,
    /// Number of images.
    #[arg(
        long,
        alias = "pictures",
        default_value_t = 2048,
        value_parser = clap::value_parser!(u32).range(20..=1_000_000)
    )]
    pub images: u32,
    /// Number of channels of the backbone's first stage.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: u32,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `bench augment`.
#[derive(Args, Debug)]
pub struct BenchAugment {
    /// Images to augment.
    #[command(subcommand)]
    pub what: Option<Augmented>,
    /// Number of images; a folder's are repeated as needed [default: 20000 for cifar, 400 for a folder].
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub images: Option<u32>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Images to augment.
#[derive(Debug, Subcommand)]
pub enum Augmented {
    /// Decoded 32 × 32 images in memory, with the policy simclr-cifar10.
    #[command(after_help = "Example:
  equimod bench augment cifar --json")]
    Cifar,
    /// A folder of image files, decoded, with 224-pixel views of the policy simclr-imagenet.
    #[command(after_help = "Example:
  equimod bench augment folder birds/")]
    Folder {
        /// Folder of images.
        dir: PathBuf,
    },
}
