//! Every setting of a run. The defaults are the published SimCLR recipe on CIFAR-10 without an equivariance module;
//! naming a module's table turns it on.

use equimod_core::objective::SimClrConfig;
use equimod_core::optim::{LarsConfig, LearningRates};
use equimod_core::{
    BackboneConfig, EquivarianceConfig, Execution, MethodConfig, Normalization, ObjectiveConfig, OptimizerConfig,
};
use equimod_data::loader::SKIP_SHARE;
use equimod_data::{Background, Encoding, LayoutConfig, ParamLayout, Policy, ReadOptions, Size, Statistics, spelling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::log_recipe::LogRecipe;
use crate::policy_choice::PolicyChoice;
pub use crate::schedule::{BatchScaling, ScheduleRecipe, Shape};

/// A complete recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// One-line summary of the purpose of the recipe.
    pub about: String,
    /// Seed of the initial weights, the order of the images and every augmentation.
    pub seed: u64,
    /// Number of steps between transfers of losses and metrics from the device; every step is logged in any case. A GPU
    /// waits for the host only there, so that 20 to 100 keeps it busy, and a step whose loss or gradient is not finite
    /// is noticed that much later (its update, and all that follow, are not applied); a CPU notices it at once.
    /// Default: 1.
    pub log_every_steps: u64,
    /// Training images.
    pub data: DataRecipe,
    /// Augmentations of the views, and the encoding of their parameters.
    pub augmentation: AugmentationRecipe,
    /// Per-channel mean and standard deviation that normalize the network's input.
    #[serde(alias = "normalisation")]
    pub normalization: Normalization,
    /// Network from images to features.
    pub backbone: BackboneConfig,
    /// Invariance objective: the loss that pulls the two views of an image together.
    pub objective: ObjectiveConfig,
    /// Equivariance modules: one table for each module that is on.
    pub equivariance: EquivarianceConfig,
    /// Optimizer of all parameters.
    pub optimizer: OptimizerConfig,
    /// Gradient clipping.
    pub gradient: GradientRecipe,
    /// Number of epochs and learning-rate schedule.
    pub schedule: ScheduleRecipe,
    /// Checkpoint intervals and retention.
    pub checkpoint: CheckpointRecipe,
    /// Evaluation during training.
    pub probe: ProbeRecipe,
    /// Thresholds below which embeddings count as collapsed.
    pub guard: GuardRecipe,
    /// Where metrics are written beside `metrics.jsonl` and TensorBoard's event file.
    pub log: LogRecipe,
    /// Execution settings: memory, time and rounding, but not the mathematics of a step.
    pub execution: Execution,
}

/// Training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataRecipe {
    /// Data source, one of `equimod list datasets`.
    pub source: String,
    /// Global batch size B: images in a step over all processes. Published: 512 on CIFAR-10, 4096 on ImageNet.
    pub batch: usize,
    /// Largest share of the images that may fail to decode; failed images are replaced and listed in `skipped.jsonl`.
    /// Default: 0.001.
    pub skip_share: f64,
    /// Number of images within which the order is random; 0 (published) shuffles the whole data set. With a window,
    /// slow storage and tables too large for memory are read in runs of neighbors, and every epoch is still a
    /// permutation.
    pub shuffle_window: usize,
    /// Whether images are rotated and flipped as their EXIF orientation says. Published: false.
    pub apply_orientation: bool,
    /// Color behind transparent pixels: `white`, `black` or `#rrggbb`; empty (published) drops alpha, as Pillow does.
    pub background: Background,
}

impl DataRecipe {
    /// Options for reading the images.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions { apply_orientation: self.apply_orientation, background: self.background }
    }
}

/// Augmentations of the views, and the encoding of their parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentationRecipe {
    /// Augmentation policy: the name of a built-in policy, or a table with `name`, `views` and `clean`. Published:
    /// `simclr-cifar10`.
    pub policy: PolicyChoice,
    /// Side of the views and of the original (un-augmented) image in pixels. Published: 32 on CIFAR-10, 224 on
    /// ImageNet.
    pub size: usize,
    /// Encoding of augmentation parameters as a vector. Published: `published`.
    #[serde(deserialize_with = "spelling::deserialize_name")]
    #[schemars(with = "Encoding")]
    pub encoding: String,
    /// Source of the means and standard deviations that normalize the vector: `computed` from the policy and the image
    /// sizes, or a published set by name (`published-simclr-cifar10`).
    #[schemars(with = "Statistics")]
    pub statistics: String,
    /// Where views are made: `cpu` by the loader's threads, or `device`, for machines whose cores cannot feed the GPU.
    /// Only CUDA devices make views; elsewhere `device` means `cpu`. Both make the same pixels.
    pub on: AugmentOn,
    /// Values that the vector holds, by their own names or those of their augmentations; empty for all.
    #[serde(deserialize_with = "spelling::deserialize_names")]
    pub parameters: Vec<String>,
    /// Whether modules get the parameters of the next image's views in place of the image's own: a control, in which
    /// parameters say nothing about the view. It needs a single rank. Default: false.
    pub shuffle_parameters: bool,
}

/// Where views are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AugmentOn {
    /// By the loader's threads.
    #[default]
    Cpu,
    /// By the training device, from decoded images. Policies must start with their crop, and may not use `equalize`,
    /// `quarter-turns`, `rotation`, `resize` or `center-crop`.
    Device,
}

/// Least side of views in pixels: a backbone halves it three times.
const LEAST_SIZE: usize = 8;

/// Learning rate above which AdamW is unlikely to train.
const LARGE_FOR_ADAMW: f64 = 0.05;

impl AugmentationRecipe {
    /// Augmentation policy for views of `size` pixels.
    ///
    /// # Errors
    ///
    /// If there is no built-in policy of that name, or the table contradicts itself.
    pub fn policy(&self) -> equimod_data::Result<Policy> {
        self.policy.policy(self.size)
    }

    /// Layout of the parameter vectors.
    ///
    /// # Errors
    ///
    /// If the name of the encoding or of the statistics is unknown.
    pub fn layout(&self) -> equimod_data::Result<LayoutConfig> {
        let (encoding, statistics) = (self.encoding.parse()?, self.statistics.parse()?);
        Ok(LayoutConfig { encoding, statistics, fields: self.parameters.clone() })
    }

    /// Every setting that does not work for training on two views.
    fn problems(&self) -> Vec<String> {
        let layout = self.layout();
        let mut problems: Vec<String> = layout.as_ref().err().map(ToString::to_string).into_iter().collect();
        if self.size < LEAST_SIZE {
            problems.push(format!("augmentation.size is {}; give at least {LEAST_SIZE} pixels", self.size));
            // Of a policy, what does not come from the size.
            problems.extend(self.policy.policy(LEAST_SIZE).err().map(|error| error.to_string()));
            return problems;
        }
        match self.policy() {
            Err(error) => problems.push(error.to_string()),
            Ok(policy) => {
                let deferred = if self.on == AugmentOn::Device { policy.check_plannable() } else { Ok(()) };
                let parameters = layout.iter().filter_map(|layout| ParamLayout::check(&policy, layout).err());
                problems.extend(deferred.err().into_iter().chain(parameters).map(|error| error.to_string()));
                let (sizes, side) = (policy.view_sizes(), self.size);
                if sizes != [Size::square(side); 2] || policy.size() != side {
                    let sizes: Vec<String> = sizes.iter().map(Size::to_string).collect();
                    problems.push(format!(
                        "policy {} makes views of {} pixels and original images of {}; training needs two views and an \
                         original image of augmentation.size = {side}",
                        policy.name,
                        sizes.join(", "),
                        Size::square(policy.size())
                    ));
                }
            }
        }
        problems
    }
}

/// Gradient clipping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientRecipe {
    /// Largest norm of all gradients together: above it, they are scaled down to it. 0 (published) turns clipping off.
    pub clip_norm: f64,
}

/// Checkpoint intervals and retention. The last step and every probed step are always saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointRecipe {
    /// Number of epochs between checkpoints.
    pub every_epochs: u64,
    /// Number of steps between additional checkpoints, for epochs that take hours; 0 for none.
    pub every_steps: u64,
    /// Number of newest checkpoints that are kept, at least 2. The best one by probe is kept as well.
    pub keep: usize,
    /// Number of epochs between checkpoints that are never removed; 0 for none.
    pub keep_every_epochs: u64,
}

/// Evaluation of frozen features on labeled images during training, which it does not influence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeRecipe {
    /// Number of epochs between probes; 0 for none.
    pub every_epochs: u64,
    /// Labeled data source; if empty, the training images.
    pub data: String,
    /// Name of the labels, for sources with several; if empty, the first.
    pub task: String,
    /// Number of nearest neighbors that vote.
    pub k: usize,
    /// Whether a linear probe is fitted as well: logistic regression with a few L2 strengths.
    pub linear: bool,
    /// Score that selects the best checkpoint: `knn` or `linear`.
    pub best_by: Score,
}

/// Score of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Top-1 accuracy of the weighted vote of nearest neighbors.
    Knn,
    /// Top-1 accuracy of logistic regression.
    Linear,
}

impl Score {
    /// Name of the score in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn => "knn",
            Self::Linear => "linear",
        }
    }
}

/// Thresholds below which embeddings count as collapsed. A collapse is reported once, and training continues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardRecipe {
    /// Effective rank of the embeddings below which they count as collapsed.
    pub least_rank: f64,
    /// Mean standard deviation of unit-length embeddings below which they count as collapsed; 1/√width for embeddings
    /// that fill all directions.
    #[serde(alias = "least_deviation")]
    pub least_std: f64,
    /// Number of last steps, in most of which one of them has to be too small.
    pub patience: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            about: String::new(),
            seed: 0,
            log_every_steps: 1,
            data: DataRecipe::default(),
            augmentation: AugmentationRecipe::default(),
            normalization: Normalization::CIFAR10,
            backbone: BackboneConfig::default(),
            objective: ObjectiveConfig::SimClr(SimClrConfig::default()),
            equivariance: EquivarianceConfig::default(),
            optimizer: OptimizerConfig::Lars(LarsConfig::default()),
            gradient: GradientRecipe::default(),
            schedule: ScheduleRecipe::default(),
            checkpoint: CheckpointRecipe::default(),
            probe: ProbeRecipe::default(),
            guard: GuardRecipe::default(),
            log: LogRecipe::default(),
            execution: Execution::default(),
        }
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            source: "emoji".into(),
            batch: 512,
            skip_share: SKIP_SHARE,
            shuffle_window: 0,
            apply_orientation: false,
            background: Background::default(),
        }
    }
}

impl Default for AugmentationRecipe {
    fn default() -> Self {
        Self {
            policy: PolicyChoice::Named("simclr-cifar10".into()),
            size: 32,
            encoding: "published".into(),
            statistics: "computed".into(),
            on: AugmentOn::Cpu,
            parameters: Vec::new(),
            shuffle_parameters: false,
        }
    }
}

impl Default for CheckpointRecipe {
    fn default() -> Self {
        Self { every_epochs: 10, every_steps: 0, keep: 2, keep_every_epochs: 0 }
    }
}

impl Default for ProbeRecipe {
    fn default() -> Self {
        let (data, task) = (String::new(), String::new());
        Self { every_epochs: 0, data, task, k: 20, linear: true, best_by: Score::Knn }
    }
}

impl Default for GuardRecipe {
    fn default() -> Self {
        Self { least_rank: 2.0, least_std: 0.002, patience: 50 }
    }
}

impl Recipe {
    /// Backbone, objective and equivariance modules of the recipe.
    pub fn method(&self) -> MethodConfig {
        MethodConfig {
            backbone: self.backbone.clone(),
            objective: self.objective.clone(),
            equivariance: self.equivariance.clone(),
        }
    }

    /// Learning rate of each step, for `steps_per_epoch` steps in an epoch.
    pub fn learning_rates(&self, steps_per_epoch: u64) -> LearningRates {
        self.schedule.learning_rates(steps_per_epoch, self.data.batch)
    }

    /// The recipe as TOML, with every setting written out.
    pub fn to_toml(&self) -> String {
        // Serializing plain structs of numbers, strings and tables does not fail.
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// Every contradiction between the recipe and the number of its images.
    pub fn problems_with(&self, images: usize) -> Vec<String> {
        let batch = self.data.batch;
        let text = format!("data.batch is {batch}, more than the {images} images; give at most {images}");
        if batch > images { vec![text] } else { Vec::new() }
    }

    /// Whether the recipe has a learning rate of SGD or LARS for AdamW, whose steps do not shrink with the gradient.
    pub fn has_large_rate_for_adamw(&self) -> bool {
        matches!(self.optimizer, OptimizerConfig::AdamW(_)) && self.schedule.learning_rate > LARGE_FOR_ADAMW
    }

    /// Every problem of the recipe: values out of range, and settings that contradict each other.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.method().validate(self.augmentation.size);
        let unknown = self.equivariance.unknown();
        problems.extend(unknown.map(|name| format!("this program has no equivariance module called {name}")));
        problems.extend(self.optimizer.validate());
        problems.extend(self.normalization.validate());
        problems.extend(self.augmentation.problems());
        problems.extend(self.schedule.problems());
        problems.extend(self.execution.validate());
        let mut check = |bad: bool, text: String| {
            if bad {
                problems.push(text);
            }
        };
        check(self.log_every_steps == 0, "log_every_steps is 0; give at least 1".into());
        let clip_norm = self.gradient.clip_norm;
        check(
            !clip_norm.is_finite() || clip_norm < 0.0,
            format!("gradient.clip_norm is {clip_norm}; it must be above 0, or 0 for no clipping"),
        );
        check(
            self.data.batch < 2,
            format!("data.batch is {}; a contrastive loss needs at least 2 images", self.data.batch),
        );
        check(
            !(0.0..=1.0).contains(&self.data.skip_share),
            format!("data.skip_share is {}; give a share from 0 to 1", self.data.skip_share),
        );
        check(self.checkpoint.every_epochs == 0, "checkpoint.every_epochs is 0; give at least 1".into());
        check(self.checkpoint.keep < 2, format!("checkpoint.keep is {}; keep at least 2", self.checkpoint.keep));
        check(self.probe.k == 0, "probe.k is 0; give at least 1 neighbor".into());
        check(
            self.probe.best_by == Score::Linear && !self.probe.linear,
            "probe.best_by is \"linear\" but probe.linear is false; turn it on, or choose by \"knn\"".into(),
        );
        let GuardRecipe { least_rank, least_std, patience } = self.guard;
        check(
            !(least_rank >= 0.0 && least_std >= 0.0),
            format!("guard.least_rank is {least_rank} and guard.least_std {least_std}; give 0 or more"),
        );
        check(patience == 0, "guard.patience is 0; give at least 1 step".into());
        check(
            self.execution.parts > self.data.batch.max(1),
            format!("execution.parts is {}, more than data.batch, {}", self.execution.parts, self.data.batch),
        );
        problems
    }
}
