//! The arguments, and nothing but the arguments.

mod bench;
mod data;
mod eval;
mod weights;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bench::{Augmented, Bench, BenchAugment, BenchCommand, BenchConv, BenchEval, BenchLoader, BenchStep};
pub use data::{
    Data, DataCommand, DataParams, DataStats, Fetch, Index, Pack, PackStorage, PolicyArgs, Preview, SourceArgs, Verify,
};
pub use eval::{
    Compare, Compared, CropKind, Embed, EmbeddedSplit, Equivariance, Eval, EvalArgs, EvalCommand, FewShot, Finetune,
    FinetuneOptimizer, Health, Knn, Linear, Logistic, MapKind, Params, Retrieval, SharedArgs, Transfer,
};
pub use weights::{Export, Import, Inspect, Publish};

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
    /// Find learning rates that a recipe can be trained with.
    #[command(name = "find-lr")]
    FindRate(FindRate),
    /// Compare runs on one page: curves, differences of recipes, results.
    Report(Report),
    /// Take a step again that went wrong, and say where.
    Replay(Replay),
    /// Evaluate a frozen backbone: classifiers, equivariance, retrieval, transfer, comparisons.
    Eval(Eval),
    /// Write the features of pictures into a file.
    Embed(Embed),
    /// Say what a MODEL holds and whether it loads: every key that fits, is missing or is too much.
    Inspect(Inspect),
    /// Turn weights of PyTorch and of other codes into a .safetensors file under torchvision's names.
    Import(Import),
    /// Write weights for others: the backbone under torchvision's names, heads, a model card, results.
    Export(Export),
    /// Put an export on the Hugging Face Hub.
    Publish(Publish),
    /// Look at pictures and their augmentations, check and pack them.
    Data(Data),
    /// Measure speed.
    Bench(Bench),
    /// List what there is to choose from, or print a schema of recipes for editors.
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

/// A recipe, and what is changed in it.
#[derive(Args, Debug)]
pub struct RecipeArgs {
    /// A built-in recipe (see `equimod list recipes`) or a TOML file.
    #[arg(long, default_value = "quick", value_name = "NAME|FILE")]
    pub recipe: String,
    /// The pictures, a source of `equimod list datasets` [default: the recipe's].
    #[arg(long)]
    pub data: Option<String>,
    /// Change a setting of the recipe, e.g. schedule.epochs=20; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// `pretrain`.
#[derive(Args, Debug)]
pub struct Pretrain {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// The run directory, new or empty [default: out/<recipe>-<number>].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The recipe's seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The recipe's number of epochs.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Go on with the run in --out from its newest checkpoint. Settings that decide weights stay as they are; where pictures
    /// lie, `execution.recompute`, and [checkpoint], [probe] and [guard], may change by --data and --set.
    #[arg(long, requires = "out", conflicts_with_all = ["dry_run", "from"])]
    pub resume: bool,
    /// Begin with the weights of a MODEL: its backbone, and those heads that fit.
    #[arg(long, value_name = "MODEL")]
    pub from: Option<PathBuf>,
    /// Write a trace of the first N steps into trace.json, for chrome://tracing or Perfetto [default N: 20].
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    pub profile: Option<u64>,
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

/// `find-lr`.
#[derive(Args, Debug)]
pub struct FindRate {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// The first rate.
    #[arg(long, default_value_t = 1e-4)]
    pub least: f64,
    /// The last rate, if the loss does not rise before.
    #[arg(long, default_value_t = 100.0)]
    pub most: f64,
    /// Steps from the first rate to the last.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(30..))]
    pub steps: u32,
    /// The page with the plot.
    #[arg(long, default_value = "find-lr.html", value_name = "FILE")]
    pub out: PathBuf,
    /// Print every step as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Run directories.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The page.
    #[arg(long, default_value = "report.html", value_name = "FILE")]
    pub out: PathBuf,
}

/// `replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// A folder diverged/step-… of a run.
    pub folder: PathBuf,
    /// Compute in 64 bits: what goes well then is a matter of precision.
    #[arg(long)]
    pub double: bool,
    /// Print as JSON.
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

/// `list`.
#[derive(Args, Debug)]
pub struct List {
    /// List to print [default: all lists].
    #[arg(value_enum)]
    pub what: Option<Listed>,
    /// With `recipes`: print the text of this built-in recipe, as a start for one's own.
    pub name: Option<String>,
    /// Print as JSON, as the schema always is.
    #[arg(long)]
    pub json: bool,
}

/// A list, or a schema.
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
    /// Suites of data sets for `eval transfer`.
    Suites,
    /// A JSON Schema of recipe files, for editors; not among all lists.
    RecipeSchema,
    /// A JSON Schema of results.json; not among all lists.
    ResultsSchema,
}
