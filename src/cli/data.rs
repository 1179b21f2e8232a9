//! The arguments of `data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ReadingArgs;

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
    /// Decode every image; report what fails, what is suspicious and what was passed over, and print a fingerprint.
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
    /// Also count a column of texts or whole numbers as labels; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    pub task: Vec<String>,
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
    /// Also pack a column of texts or whole numbers as labels; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    pub task: Vec<String>,
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
    /// Take the members KEY.ENDING as images, such as input.jpg [default: KEY.jpg and the like, else the only longer
    /// ending that there is].
    #[arg(long, value_name = "ENDING", conflicts_with = "dotted_keys")]
    pub picture: Option<String>,
    /// Keys go up to the last dot of a name, instead of the first: photo.0001.jpg and photo.0002.jpg are two samples.
    #[arg(long)]
    pub dotted_keys: bool,
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
