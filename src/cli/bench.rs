//! The arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use equimod_core::Architecture;

use super::{DeviceArgs, RecipeArgs};

/// `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Three views a picture with their parameters: the clean one and two augmented ones, normalised to f32. Of `cifar`, if
    /// nothing else is named.
    Augment(BenchAugment),
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `bench loader`.
#[derive(Args, Debug)]
pub struct BenchLoader {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Batches that are measured, after three that are not.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
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

/// `bench augment`.
#[derive(Args, Debug)]
pub struct BenchAugment {
    /// Which pictures are augmented.
    #[command(subcommand)]
    pub what: Option<Augmented>,
    /// Pictures; those of a folder are repeated as often as needed [default: 20000 of cifar, 400 of a folder].
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub images: Option<u32>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Which pictures are augmented.
#[derive(Debug, Subcommand)]
pub enum Augmented {
    /// Decoded pictures of 32 × 32 in memory, with the policy simclr-cifar10.
    Cifar,
    /// A folder of pictures, decoded, with 224-pixel views of the policy simclr-imagenet.
    Folder {
        /// The folder.
        dir: PathBuf,
    },
}
