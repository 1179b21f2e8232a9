//! Arguments of `data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ReadingArgs;

/// Arguments of `data`.
#[derive(Args, Debug)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

/// The subcommands of `data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Draw a contact sheet: images, their views and the parameters of each view.
    #[command(after_help = "Example:\n  equimod data preview images/ --policy byol-imagenet --size 224")]
    Preview(Preview),
    /// Print image sizes, channel means and standard deviations, and label counts.
    #[command(after_help = "Example:\n  equimod data stats images/")]
    Stats(DataStats),
    /// Print measured and analytic statistics of each value of the parameter vector.
    #[command(after_help = "Example:\n  equimod data params images/ --set augmentation.encoding=pairwise")]
    Params(DataParams),
    /// Decode every training image, or with --test every test image; report failures, suspicious files and skipped files,
    /// and print a fingerprint.
    #[command(after_help = "Example:\n  equimod data verify images/")]
    Verify(Verify),
    /// Pack images into one memory-mapped file.
    #[command(after_help = "Example:\n  equimod data pack images/ --out images.equimod --resize 256 --storage jpeg")]
    Pack(Pack),
    /// Index tar shards in the WebDataset layout.
    #[command(after_help = "Example:\n  equimod data index 'shards/x-{000..012}.tar'")]
    Index(Index),
    /// Download a data set from the Hugging Face Hub, for use without a network.
    #[command(after_help = "Example:\n  equimod data fetch hf:uoft-cs/cifar10")]
    Fetch(Fetch),
}

/// A source of images.
#[derive(Args, Debug)]
pub struct SourceArgs {
    /// Data source of `equimod list datasets`.
    #[arg(default_value = "emoji")]
    pub source: String,
    /// Use the source's test images instead of its training images.
    #[arg(long)]
    pub test: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// An augmentation policy.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// Recipe with the augmentations: name of a built-in recipe, or a TOML file [default: quick for the bundled images;
    /// for others, the one that `equimod init` chooses].
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Built-in policy that replaces the recipe's.
    #[arg(long)]
    pub policy: Option<String>,
    /// Side of the views in pixels; replaces the recipe's.
    #[arg(long)]
    pub size: Option<usize>,
    /// Override a setting of the recipe, e.g. augmentation.encoding=pairwise; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// Arguments of `data preview`.
#[derive(Args, Debug)]
pub struct Preview {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Number of images.
    #[arg(long, alias = "pictures", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub images: u32,
    /// Seed of the choice of images and views.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// PNG file of the contact sheet.
    #[arg(long, default_value = "preview.png", value_name = "FILE")]
    pub out: PathBuf,
    /// Print the parameters as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data stats`.
#[derive(Args, Debug)]
pub struct DataStats {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Also count a column of strings or integers as labels; may be repeated.
    #[arg(long, value_name = "COLUMN")]
    pub task: Vec<String>,
    /// Number of images that are decoded for the channel statistics, evenly spaced; 0 for all.
    #[arg(long, alias = "pictures", default_value_t = 10_000)]
    pub images: usize,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data params`.
#[derive(Args, Debug)]
pub struct DataParams {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Number of parameter draws to measure.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub draws: u32,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data verify`.
#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Also write the JSON report to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data pack`.
#[derive(Args, Debug)]
pub struct Pack {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Also pack a column of strings or integers as labels; may be repeated.
    #[arg(long, value_name = "COLUMN")]
    pub task: Vec<String>,
    /// Packed file to write, usually NAME.equimod.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Downscale the shorter side to this many pixels (bicubic).
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub resize: Option<u32>,
    /// Storage format of the images.
    #[arg(long, value_enum, default_value = "raw")]
    pub storage: PackStorage,
    /// Quality of JPEG storage.
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Storage format of packed images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackStorage {
    /// Decoded pixels, the fastest to read.
    Raw,
    /// Lossless compression.
    Png,
    /// Lossy compression, the smallest.
    Jpeg,
}

/// Arguments of `data index`.
#[derive(Args, Debug)]
pub struct Index {
    /// Folder of .tar files, one such file, or a pattern such as x-{000..012}.tar.
    pub location: PathBuf,
    /// Write the index to this file, NAME.index.json, instead of next to the shards; it is a data source itself.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Extension of the images behind KEY, such as input.jpg [default: jpg and other image extensions, else the only
    /// longer one].
    #[arg(long, alias = "picture", value_name = "EXTENSION", conflicts_with = "dotted_keys")]
    pub image: Option<String>,
    /// Let keys end at the last dot of a name instead of the first: photo.0001.jpg and photo.0002.jpg are two samples.
    #[arg(long)]
    pub dotted_keys: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// Data set hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT]; all splits if none is named.
    pub source: String,
    /// Also copy the files to this folder, new or empty, which is a data source itself.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}
