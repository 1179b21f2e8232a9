//! The arguments of `inspect`, `import`, `export` and `publish`.

use std::path::PathBuf;

use clap::Args;
use equimod_core::model::Choices;

use super::DeviceArgs;

/// `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A run directory, a checkpoint, an export, a .safetensors file, a file of PyTorch, or
    /// hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// Which of several networks in a file of PyTorch, by what stands before its names.
    #[arg(long)]
    pub prefix: Option<String>,
    /// Also list every tensor with its shape.
    #[arg(long)]
    pub tensors: bool,
    #[command(flatten)]
    pub assumptions: AssumptionArgs,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `import`.
#[derive(Args, Debug)]
pub struct Import {
    /// A file of PyTorch (.pth, .pt, .ckpt, .bin) or a .safetensors file with a ResNet in it, or
    /// hf:OWNER/NAME[/FILE][@REVISION].
    pub file: PathBuf,
    /// The .safetensors file to write [default: the file's name, in this folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Which of several networks, by what stands before its names, e.g. state_dict.module.encoder_q.
    #[arg(long)]
    pub prefix: Option<String>,
    #[command(flatten)]
    pub assumptions: AssumptionArgs,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Properties of a network of another code that names and shapes do not show.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What names and shapes do not say")]
pub struct AssumptionArgs {
    /// Zeros around the input of the first convolution [default: half its kernel]; solo-learn's CIFAR ResNets have 2.
    #[arg(long, value_name = "PIXELS")]
    pub stem_padding: Option<usize>,
    /// A ReLU follows the first batch norm [default, unless layers are numbered without one].
    #[arg(long, conflicts_with = "no_stem_relu")]
    pub stem_relu: bool,
    /// No ReLU follows the first batch norm: a ResNet that calls ReLUs as functions, taken apart into a Sequential.
    #[arg(long)]
    pub no_stem_relu: bool,
    /// The stem ends with a 3×3 max-pool of stride 2 [default with a 7×7 or a deep stem].
    #[arg(long, conflicts_with = "no_stem_max_pool")]
    pub stem_max_pool: bool,
    /// The stem ends without a max-pool [default with a 3×3 stem].
    #[arg(long)]
    pub no_stem_max_pool: bool,
    /// Side of the square input [default: 224, or 32 with a 3×3 stem].
    #[arg(long, value_name = "PIXELS")]
    pub input_size: Option<usize>,
    /// Means of red, green and blue in [0, 1] [default: ImageNet's, or CIFAR-10's with a 3×3 stem].
    #[arg(long, value_name = "R,G,B", value_parser = three)]
    pub mean: Option<[f32; 3]>,
    /// Standard deviations of red, green and blue in [0, 1] [default: as for the means].
    #[arg(long, value_name = "R,G,B", value_parser = three)]
    pub std: Option<[f32; 3]>,
}

impl AssumptionArgs {
    /// The choices that were made.
    pub fn choices(&self) -> Choices {
        let either = |yes: bool, no: bool| (yes || no).then_some(yes);
        Choices {
            stem_padding: self.stem_padding,
            stem_relu: either(self.stem_relu, self.no_stem_relu),
            stem_max_pool: either(self.stem_max_pool, self.no_stem_max_pool),
            input_size: self.input_size,
            mean: self.mean,
            std: self.std,
        }
    }
}

/// Three numbers with commas between them.
fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse::<f32>()).collect();
    let three = numbers.ok().and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    let finite = three.filter(|three| three.iter().all(|number| number.is_finite()));
    finite.ok_or_else(|| "give three numbers with commas between them, e.g. 0.485,0.456,0.406".into())
}

/// `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// A run directory, a checkpoint, an export (whose other files are carried over), a .safetensors file, or
    /// hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// The folder to write: new, empty, or an earlier export, whose files are replaced; a card that a person edited,
    /// and whatever else is there, stays.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Take the target network (BYOL, MoCo v3) in place of the trained one.
    #[arg(long)]
    pub target: bool,
    /// Also take the results in this folder, the --out of an evaluation of these weights; may be given several times.
    #[arg(long, value_name = "DIR")]
    pub results: Vec<PathBuf>,
    /// The licence of the weights, as the Hub abbreviates it, e.g. mit or cc-by-4.0.
    #[arg(long, visible_alias = "license", value_name = "NAME")]
    pub licence: Option<String>,
    /// The licence of the pictures, in words.
    #[arg(long, visible_alias = "data-license", value_name = "TEXT")]
    pub data_licence: Option<String>,
    /// Write the card anew even if a person edited it.
    #[arg(long)]
    pub force_card: bool,
    /// Load what was written, compare its features on fixed pictures, and report every key.
    #[arg(long)]
    pub verify: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `publish`.
#[derive(Args, Debug)]
pub struct Publish {
    /// What `equimod export` wrote.
    pub folder: PathBuf,
    /// The repository on the Hub; made if it is not there.
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: String,
    /// Make it private, if it is made.
    #[arg(long)]
    pub private: bool,
    /// Propose the files in a pull request.
    #[arg(long)]
    pub create_pr: bool,
    /// The branch; made if it is not there.
    #[arg(long, value_name = "BRANCH")]
    pub revision: Option<String>,
    /// Overwrite the card even if a person edited it on the Hub.
    #[arg(long)]
    pub force_card: bool,
    /// Check everything, say what would be sent, and ask nothing of the Hub.
    #[arg(long)]
    pub dry_run: bool,
    /// The commit's message.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}
