//! Command-line arguments, as clap types without logic.

mod bench;
mod data;
mod doctor;
mod eval;
mod hints;
mod init;
mod runs;
mod study;
mod weights;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use equimod_data::Background;

pub use bench::{
    Augmented, Bench, BenchAugment, BenchCommand, BenchConv, BenchEval, BenchExchange, BenchLoader, BenchStep,
};
pub use data::{
    Data, DataCommand, DataParams, DataStats, Fetch, Index, Pack, PackStorage, PolicyArgs, Preview, SourceArgs, Verify,
};
pub use doctor::Doctor;
pub use eval::{
    Compare, Compared, CropKind, Embed, EmbeddedSplit, Equivariance, Eval, EvalArgs, EvalCommand, FewShot, Finetune,
    FinetuneOptimizer, Health, ImageArgs, InputArgs, Knn, Linear, Logistic, Params, Retrieval, SharedArgs, Transfer,
};
pub use hints::{of_another_command, of_another_program, of_images};
pub use init::Init;
pub use runs::{Report, Runs};
pub use study::{Shard, Study};
pub use weights::{Export, Import, Inspect, Publish};

/// Self-supervised representations that keep what augmentations would erase.
#[derive(Debug, Parser)]
#[command(name = "equimod", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// Print the chain of causes of an error.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Number of compute threads; results do not depend on it [default: one per core].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Examples:
  equimod pretrain
  equimod eval knn out/quick-1 --data images/

Exit codes: 0 done, 1 failed, 2 usage or recipe, 3 data, 4 diverged, \
    75 interrupted after a checkpoint, 130 interrupted.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pretrain a backbone, evaluate it and write a report.
    #[command(after_help = "Examples:
  equimod pretrain
  equimod pretrain images/
  equimod pretrain images/ --recipe simclr-equimod-cifar10 --epochs 100
  equimod pretrain --out out/mine --resume
  equimod pretrain images/ --recipe simclr-equimod-imagenet --device cuda:0-3")]
    Pretrain(Pretrain),
    /// Write a recipe for your own images, with the reason for each choice, and the time that it takes here.
    #[command(after_help = "Examples:
  equimod init images/
  equimod init images/ --out birds.toml --device cuda:0
  equimod init images/ --size 64 --epochs 50")]
    Init(Init),
    /// Run a learning-rate range test of a recipe.
    #[command(
        name = "find-lr",
        after_help = "Example:
  equimod find-lr --recipe quick --min-lr 0.01 --max-lr 50"
    )]
    FindRate(FindRate),
    /// Compare runs on one page: curves, recipe differences and results.
    #[command(after_help = "Example:
  equimod report out/simclr out/equimod --out compare.html")]
    Report(Report),
    /// List the runs in a folder: status, progress, loss, accuracy, and the settings in which they differ.
    #[command(after_help = "Examples:
  equimod runs
  equimod runs out/sweep --sort eval --descending
  equimod runs --json")]
    Runs(Runs),
    /// Run a study: a grid of recipes with several seeds, evaluated and compared with baselines.
    #[command(after_help = "Examples:
  equimod study emoji --dry-run
  equimod study mine.toml --out out/mine --shard 2/5
  equimod study --report out/mine/study.json")]
    Study(Study),
    /// Repeat a diverged step, and name its non-finite gradients and weights.
    #[command(after_help = "Example:
  equimod replay out/mine/diverged/step-00000012 --double")]
    Replay(Replay),
    /// Evaluate a frozen backbone: linear probe, k-NN, few-shot, fine-tuning, equivariance, retrieval, transfer.
    #[command(after_help = "Examples:
  equimod eval knn out/mine --data birds/
  equimod eval compare out/simclr out/equimod --data birds/")]
    Eval(Eval),
    /// Write the features of images to a file.
    #[command(after_help = "Example:
  equimod embed out/mine --data birds/ --out features.parquet")]
    Embed(Embed),
    /// Describe a MODEL, and check that it loads: matching, missing and unexpected keys.
    #[command(after_help = "Examples:
  equimod inspect out/mine
  equimod inspect weights.safetensors --tensors")]
    Inspect(Inspect),
    /// Convert a PyTorch checkpoint of another code base to a .safetensors file with torchvision's names.
    #[command(after_help = "Example:
  equimod import moco.pth.tar --prefix state_dict.module.encoder_q --out m.safetensors")]
    Import(Import),
    /// Export weights for sharing: the backbone with torchvision's names, heads, model card and results.
    #[command(after_help = "Example:
  equimod export out/mine --out mine --license mit --verify")]
    Export(Export),
    /// Publish an export on the Hugging Face Hub.
    #[command(after_help = "Examples:
  equimod publish mine --repo lab/mine --dry-run
  equimod publish mine --repo lab/mine")]
    Publish(Publish),
    /// Inspect, verify, pack and download image data.
    #[command(after_help = "Examples:
  equimod data preview images/
  equimod data verify images/")]
    Data(Data),
    /// Report what this build and this machine can do, and check a device: its numbers, its speed.
    #[command(after_help = "Examples:
  equimod doctor
  equimod doctor --device cuda:0
  equimod doctor --device cpu --json > doctor.json")]
    Doctor(Doctor),
    /// Benchmark training steps, convolutions, augmentation, loading and evaluation.
    #[command(after_help = "Example:
  equimod bench step --batch 32 --steps 6 --json")]
    Bench(Bench),
    /// List recipes, objectives, modules, backbones, augmentations, data sources, suites and studies, or print a JSON
    /// Schema.
    #[command(after_help = "Examples:
  equimod list modules
  equimod list recipes quick
  equimod list recipe-schema > recipe.schema.json")]
    List(List),
    /// Print the manual page, of all commands or of one.
    #[command(after_help = "Examples:
  equimod man > ~/.local/share/man/man1/equimod.1
  equimod man eval knn | man -l -")]
    Man {
        /// Command, e.g. `eval knn` [default: all].
        command: Vec<String>,
    },
    /// Print a shell completion script.
    #[command(after_help = "Example:
  equimod completions bash > ~/.local/share/bash-completion/completions/equimod")]
    Completions {
        /// Shell to complete in.
        shell: clap_complete::Shell,
    },
}

/// Compute device.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Device: auto, cpu, cuda:N or metal:N; auto takes the first GPU that the build and the machine support, else the
    /// CPU.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Recipe of the bundled images.
pub const DEFAULT_RECIPE: &str = "quick";
/// Source of the bundled images.
pub const BUNDLED: &str = "emoji";

/// A recipe with overrides.
#[derive(Args, Clone, Debug)]
pub struct RecipeArgs {
    /// Name of a built-in recipe (see `equimod list recipes`), or a TOML file [default: quick; for pretrain and find-lr
    /// with DATA, one that is chosen for the images, as `equimod init` does].
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Training images: a data source of `equimod list datasets` [default: the recipe's].
    #[arg(long)]
    pub data: Option<String>,
    /// As --data.
    #[arg(value_name = "DATA", conflicts_with = "data")]
    pub source: Option<String>,
    /// Override a setting of the recipe, e.g. schedule.epochs=20; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    #[command(flatten)]
    pub shortcuts: Shortcuts,
}

/// Options for settings that are changed often.
#[derive(Args, Clone, Debug, Default)]
pub struct Shortcuts {
    /// As --set data.batch=N.
    #[arg(long, value_name = "N", alias = "batch-size")]
    pub batch: Option<u64>,
    /// As --set augmentation.size=PIXELS.
    #[arg(long, value_name = "PIXELS", alias = "image-size")]
    pub size: Option<u64>,
    /// As --set schedule.learning_rate=RATE.
    #[arg(long, value_name = "RATE", alias = "learning-rate", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// As --set backbone.width=N.
    #[arg(long, value_name = "N")]
    pub width: Option<u64>,
    /// Refused: the loader has as many threads as --threads says.
    #[arg(long, hide = true, alias = "num-workers", value_name = "N", value_parser = no_workers)]
    pub workers: Option<u64>,
}

impl Shortcuts {
    /// The settings that they stand for, of the form `key=value`.
    pub fn settings(&self) -> Vec<String> {
        let whole = [("data.batch", self.batch), ("augmentation.size", self.size), ("backbone.width", self.width)];
        let whole = whole.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        // A rate without a decimal point would be an integer.
        whole.chain(self.lr.map(|rate| format!("schedule.learning_rate={rate:?}"))).collect()
    }
}

/// Refuses a number of loader threads, and says what sets it.
fn no_workers(_: &str) -> Result<u64, String> {
    Err("the loader starts a thread for each compute thread; use --threads N".into())
}

impl RecipeArgs {
    /// Name of the recipe, or of the default.
    pub fn name(&self) -> &str {
        self.recipe.as_deref().unwrap_or(DEFAULT_RECIPE)
    }

    /// Source of images other than the bundled ones that is given without a recipe.
    pub fn without_recipe(&self) -> Option<&str> {
        let data = self.data.as_deref().or(self.source.as_deref());
        data.filter(|data| self.recipe.is_none() && *data != BUNDLED)
    }

    /// The settings of the arguments, in the order in which they override the recipe.
    pub fn settings(&self) -> Vec<String> {
        let data = self.data.iter().chain(&self.source).map(|data| format!("data.source={data:?}"));
        self.settings.iter().cloned().chain(data).chain(self.shortcuts.settings()).collect()
    }
}

/// Compute devices, which share the work.
#[derive(Args, Clone, Debug)]
pub struct DevicesArgs {
    /// Devices: auto, cpu, cuda:N or metal:N; cuda:0-3, cuda:0,2 or cuda:all for several GPUs; cpu:N for N ranks that
    /// share the compute threads.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Arguments of `pretrain`.
#[derive(Args, Clone, Debug)]
pub struct Pretrain {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Run directory, new or empty [default: out/<recipe>-<number>, or out/<images>-<number> without a
    /// recipe].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Override the recipe's seed.
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Override the recipe's number of epochs.
    #[arg(long, allow_negative_numbers = true)]
    pub epochs: Option<u64>,
    /// Resume the run in --out from its newest checkpoint. Only settings that affect no weight may change: the location
    /// of the images (--data), `execution.recompute`, `execution.timeout`, `log_every_steps`, `augmentation.on`, [log],
    /// [checkpoint], [probe] and [guard] (--set), and the number of ranks (--device). A finished baseline stays part of
    /// the results.
    #[arg(long, conflicts_with_all = ["dry_run", "from"])]
    pub resume: bool,
    /// Start from the weights of a MODEL: its backbone, and the heads whose names and shapes match.
    #[arg(long, value_name = "MODEL")]
    pub from: Option<PathBuf>,
    /// Write a trace of the first N steps to trace.json, for chrome://tracing or Perfetto [default N: 20].
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    pub profile: Option<u64>,
    /// Print the resolved recipe, the number of parameters, and the memory, time and exchanged bytes of a step on the
    /// CPU, its memory and time on the device, and exit.
    #[arg(long)]
    pub dry_run: bool,
    /// Skip the evaluation at the end. Results that a finished run has already stay.
    #[arg(long)]
    pub no_eval: bool,
    /// Also train the same recipe without the losses of its equivariance modules, into the folder `baseline` of the
    /// run, and show its results beside those of the run. The default run does so without being asked, and a run that
    /// was begun with it also when it is resumed.
    #[arg(long)]
    pub baseline: bool,
    /// Train no baseline beside the default run.
    #[arg(long, conflicts_with = "baseline")]
    pub no_baseline: bool,
    /// Print results as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// Arguments of `find-lr`.
#[derive(Args, Debug)]
pub struct FindRate {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// First learning rate.
    #[arg(long, default_value_t = 1e-4)]
    pub min_lr: f64,
    /// Last learning rate; the test ends earlier if the loss rises.
    #[arg(long, default_value_t = 100.0)]
    pub max_lr: f64,
    /// Number of steps from the first learning rate to the last, at least 30.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(30..))]
    pub steps: u32,
    /// Start from the weights of a MODEL, as `pretrain --from` does.
    #[arg(long, value_name = "MODEL")]
    pub from: Option<PathBuf>,
    /// HTML page with the plot.
    #[arg(long, default_value = "find-lr.html", value_name = "FILE")]
    pub out: PathBuf,
    /// Print every step as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// Folder diverged/step-… of a run.
    pub folder: PathBuf,
    /// Compute in f64, which shows whether precision is to blame.
    #[arg(long)]
    pub double: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Options for decoding images.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReadingArgs {
    /// Rotate and flip images as their EXIF orientation says.
    #[arg(long)]
    pub apply_orientation: bool,
    /// Color behind transparent pixels: white, black, gray or #rrggbb [default: as in the model's training, else none: alpha
    /// is dropped].
    #[arg(long, value_name = "COLOR")]
    pub background: Option<Background>,
}

/// Arguments of `list`.
#[derive(Args, Debug)]
pub struct List {
    /// List to print [default: all lists].
    #[arg(value_enum)]
    pub what: Option<Listed>,
    /// With `recipes` or `studies`: print the text of this built-in one, as a start for one's own.
    pub name: Option<String>,
    /// Print as JSON; schemas always are.
    #[arg(long)]
    pub json: bool,
}

/// The lists and schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// Built-in recipes.
    Recipes,
    /// Invariance objectives.
    Objectives,
    /// Equivariance modules.
    Modules,
    /// Backbones.
    Backbones,
    /// Augmentations and built-in policies.
    Augmentations,
    /// Data sources, and the license notice of the bundled images.
    Datasets,
    /// Suites of data sets for `eval transfer`.
    Suites,
    /// Built-in studies.
    Studies,
    /// JSON Schema of recipe files, for editors; not part of all lists.
    RecipeSchema,
    /// JSON Schema of results.json; not part of all lists.
    ResultsSchema,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Names of the commands whose help has no example that calls them.
    fn without_example(command: &clap::Command, path: &str) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shown = help.contains("Example") && help.contains(path);
        let inside =
            command.get_subcommands().flat_map(|sub| without_example(sub, &format!("{path} {}", sub.get_name())));
        (!shown).then(|| path.to_owned()).into_iter().chain(inside).collect()
    }

    #[test]
    fn every_help_has_an_example() {
        assert_eq!(without_example(&Cli::command(), "equimod"), Vec::<String>::new());
    }
}
