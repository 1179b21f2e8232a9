//! Arguments of `inspect`, `import`, `export` and `publish`.

use std::path::{Path, PathBuf};

use clap::Args;
use equimod_core::model::Choices;

use super::DeviceArgs;

/// Arguments of `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Run directory, checkpoint, export, .safetensors file, PyTorch checkpoint, or hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// Prefix of the names of one of several networks in a PyTorch checkpoint.
    #[arg(long)]
    pub prefix: Option<String>,
    /// List every tensor with its shape.
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

/// Arguments of `import`.
#[derive(Args, Debug)]
pub struct Import {
    /// PyTorch checkpoint (.pth, .pt, .ckpt, .bin) or .safetensors file that holds a ResNet, or
    /// hf:OWNER/NAME[/FILE][@REVISION].
    pub file: PathBuf,
    /// File to write, .safetensors [default: the input's name, in the current folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Prefix of the names of one of several networks, e.g. state_dict.module.encoder_q.
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

/// A name in lower case, as the Hub writes license ids.
fn lowercase(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_lowercase())
}

/// Name of a repository without the beginning that it has in an address or as a MODEL.
fn repository(text: &str) -> Result<String, std::convert::Infallible> {
    let beginnings = ["hf:", "https://huggingface.co/"];
    let name = beginnings.iter().find_map(|beginning| text.strip_prefix(beginning));
    Ok(name.unwrap_or(text).trim_end_matches('/').to_owned())
}

/// Three numbers with commas between them.
fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse::<f32>()).collect();
    let three = numbers.ok().and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    let finite = three.filter(|three| three.iter().all(|number| number.is_finite()));
    finite.ok_or_else(|| "give three numbers with commas between them, e.g. 0.485,0.456,0.406".into())
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Run directory, checkpoint, export (whose other files are carried over), .safetensors file, or
    /// hf:OWNER/NAME[/FILE][@REVISION].
    pub model: PathBuf,
    /// Folder to write: new, empty, or an earlier export, whose files are replaced. An edited model card and all other
    /// files stay.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// As --out.
    #[arg(value_name = "DIR", conflicts_with = "out", required_unless_present = "out")]
    pub folder: Option<PathBuf>,
    /// Export the target network (BYOL, MoCo v3) instead of the online network.
    #[arg(long)]
    pub target: bool,
    /// Add the results in this folder, the --out of an evaluation of these weights; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub results: Vec<PathBuf>,
    /// License of the weights as an identifier of the Hub, e.g. mit or cc-by-4.0.
    #[arg(long, alias = "licence", value_name = "NAME", value_parser = lowercase)]
    pub license: Option<String>,
    /// License of the images, in words.
    #[arg(long, alias = "data-licence", value_name = "TEXT")]
    pub data_license: Option<String>,
    /// Overwrite the model card even if a person edited it.
    #[arg(long)]
    pub force_card: bool,
    /// Load the written files, compare features on fixed images, and report every key.
    #[arg(long)]
    pub verify: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Export {
    /// The folder to write.
    pub fn out(&self) -> &Path {
        self.out.as_deref().or(self.folder.as_deref()).unwrap_or(Path::new(""))
    }
}

/// Arguments of `publish`.
#[derive(Args, Debug)]
pub struct Publish {
    /// Folder that `equimod export` wrote.
    pub folder: PathBuf,
    /// Repository on the Hub; created if it does not exist.
    #[arg(long, value_name = "OWNER/NAME", value_parser = repository)]
    pub repo: Option<String>,
    /// As --repo.
    #[arg(value_name = "OWNER/NAME", value_parser = repository, conflicts_with = "repo", required_unless_present = "repo")]
    pub repository: Option<String>,
    /// Create the repository as private.
    #[arg(long)]
    pub private: bool,
    /// Open a pull request instead of committing.
    #[arg(long)]
    pub create_pr: bool,
    /// Branch; created if it does not exist.
    #[arg(long, value_name = "BRANCH")]
    pub revision: Option<String>,
    /// Overwrite the model card even if a person edited it on the Hub.
    #[arg(long)]
    pub force_card: bool,
    /// Check everything and list the files to send, without contacting the Hub.
    #[arg(long)]
    pub dry_run: bool,
    /// Commit message.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Publish {
    /// The repository on the Hub.
    pub fn repo(&self) -> &str {
        self.repo.as_deref().or(self.repository.as_deref()).unwrap_or_default()
    }
}
