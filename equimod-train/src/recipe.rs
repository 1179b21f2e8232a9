//! Everything that decides a run. Defaults are the published SimCLR + nothing recipe on CIFAR-10; modules are added by
//! naming them.

use equimod_core::objective::SimClrConfig;
use equimod_core::optim::{LarsConfig, LearningRates};
use equimod_core::{
    BackboneConfig, EquivarianceConfig, Execution, MethodConfig, Normalisation, ObjectiveConfig, OptimizerConfig,
    ResNetConfig,
};
use equimod_data::loader::SKIP_SHARE;
use equimod_data::{Encoding, LayoutConfig, Policy, Size, Statistics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy_choice::PolicyChoice;
pub use crate::schedule::{BatchScaling, ScheduleRecipe, Shape};

/// A complete recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// One line that says what the recipe is for.
    pub about: String,
    /// Decides initial weights, the order of pictures and every augmentation.
    pub seed: u64,
    /// Which pictures.
    pub data: DataRecipe,
    /// How views are made and their parameters written down.
    pub augmentation: AugmentationRecipe,
    /// Channel statistics of the network's input.
    pub normalisation: Normalisation,
    /// From images to features.
    pub backbone: BackboneConfig,
    /// What pulls views together.
    pub objective: ObjectiveConfig,
    /// What keeps the effect of augmentations: one table for each module that is on.
    pub equivariance: EquivarianceConfig,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
    /// What is done to gradients before that.
    pub gradient: GradientRecipe,
    /// For how long, and how fast.
    pub schedule: ScheduleRecipe,
    /// When states are saved.
    pub checkpoint: CheckpointRecipe,
    /// What is evaluated on the way.
    pub probe: ProbeRecipe,
    /// When features count as collapsed.
    pub guard: GuardRecipe,
    /// How the work is done: in what memory and time, and with which rounding.
    pub execution: Execution,
}

/// Which pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataRecipe {
    /// A source of `equimod list datasets`.
    pub source: String,
    /// B: pictures in a step over all processes. Published: 512 on CIFAR-10, 4096 on ImageNet.
    pub batch: usize,
    /// Share of the pictures that may fail to decode; they are replaced and listed in `skipped.jsonl`. Default: 0.001.
    pub skip_share: f64,
    /// Pictures within which the order is random: 0 for all, which is the published way. A window makes slow storage and
    /// tables too large for memory be read in runs of neighbours; every epoch is a permutation still.
    pub shuffle_window: usize,
    /// Whether pictures are turned as their EXIF orientation says. Published: false.
    pub apply_orientation: bool,
}

/// How views are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentationRecipe {
    /// A built-in policy by name, or a table with `name`, `views` and `clean`. Published: `simclr-cifar10`.
    pub policy: PolicyChoice,
    /// Side of the views and of the clean picture, in pixels. Published: 32 on CIFAR-10, 224 on ImageNet.
    pub size: usize,
    /// How parameters become a vector. Published: `published`.
    #[schemars(with = "Encoding")]
    pub encoding: String,
    /// Where the means and deviations of the vector come from: `computed` from the policy and the pictures' sizes, or
    /// a published set by name (`published-simclr-cifar10`).
    #[schemars(with = "Statistics")]
    pub statistics: String,
    /// Which values the vector holds, by their names or their augmentations'; all if there are none.
    pub parameters: Vec<String>,
}

impl AugmentationRecipe {
    /// How views are made.
    pub fn policy(&self) -> equimod_data::Result<Policy> {
        self.policy.policy(self.size)
    }

    /// What parameter vectors hold.
    pub fn layout(&self) -> equimod_data::Result<LayoutConfig> {
        let (encoding, statistics) = (self.encoding.parse()?, self.statistics.parse()?);
        Ok(LayoutConfig { encoding, statistics, fields: self.parameters.clone() })
    }

    /// What is wrong with it for training on two views.
    fn problems(&self) -> Vec<String> {
        if self.size == 0 {
            return vec!["augmentation.size is 0; give a size in pixels".into()];
        }
        let mut problems: Vec<String> = self.layout().err().map(|e| e.to_string()).into_iter().collect();
        match self.policy() {
            Err(error) => problems.push(error.to_string()),
            Ok(policy) => {
                let (sizes, side) = (policy.view_sizes(), self.size);
                if sizes != [Size::square(side); 2] || policy.size() != side {
                    let sizes: Vec<String> = sizes.iter().map(Size::to_string).collect();
                    problems.push(format!(
                        "policy {} makes views of {} pixels and clean pictures of {}; training needs two views and the clean picture of augmentation.size = {side}",
                        policy.name, sizes.join(", "), Size::square(policy.size())
                    ));
                }
            }
        }
        problems
    }
}

/// What is done to gradients before parameters move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientRecipe {
    /// The norm of all gradients together above which they are scaled down to it; 0: they are left as they are, which is
    /// the published way.
    pub clip_norm: f64,
}

/// When states are saved; the last one always is, and so is every one that was probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointRecipe {
    /// Epochs between checkpoints.
    pub every_epochs: u64,
    /// Steps between further checkpoints, for epochs that take hours; 0: none.
    pub every_steps: u64,
    /// How many of the newest are kept, at least 2. The best one by probe is kept beside them.
    pub keep: usize,
    /// Epochs between checkpoints that are kept for good; 0: none.
    pub keep_every_epochs: u64,
}

/// What is evaluated on the way: frozen features of labelled pictures. Training does not notice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeRecipe {
    /// Epochs between probes; 0: none.
    pub every_epochs: u64,
    /// A labelled source; the pictures that are trained on if this is empty.
    pub data: String,
    /// Which labels, where the source has several; its first if this is empty.
    pub task: String,
    /// Neighbours that vote.
    pub k: usize,
    /// Whether a linear probe is fitted as well (logistic regression with a few penalties).
    pub linear: bool,
    /// The score by which the best checkpoint is chosen: `knn` or `linear`.
    pub best_by: Score,
}

/// A score of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Accuracy of the weighted vote of nearest neighbours.
    Knn,
    /// Accuracy of logistic regression.
    Linear,
}

impl Score {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn => "knn",
            Self::Linear => "linear",
        }
    }
}

/// When features count as collapsed, which is told once; training goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardRecipe {
    /// The effective rank of embeddings below which they do.
    pub least_rank: f64,
    /// The mean deviation of embeddings of length 1 below which they do; 1/√width where they fill all directions.
    pub least_deviation: f64,
    /// For how many steps in a row one of them has to be too small.
    pub patience: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            about: String::new(),
            seed: 0,
            data: DataRecipe::default(),
            augmentation: AugmentationRecipe::default(),
            normalisation: Normalisation::CIFAR10,
            backbone: BackboneConfig(ResNetConfig::default()),
            objective: ObjectiveConfig::SimClr(SimClrConfig::default()),
            equivariance: EquivarianceConfig::default(),
            optimizer: OptimizerConfig::Lars(LarsConfig::default()),
            gradient: GradientRecipe::default(),
            schedule: ScheduleRecipe::default(),
            checkpoint: CheckpointRecipe::default(),
            probe: ProbeRecipe::default(),
            guard: GuardRecipe::default(),
            execution: Execution::default(),
        }
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self { source: "emoji".into(), batch: 512, skip_share: SKIP_SHARE, shuffle_window: 0, apply_orientation: false }
    }
}

impl Default for AugmentationRecipe {
    fn default() -> Self {
        Self {
            policy: PolicyChoice::Named("simclr-cifar10".into()),
            size: 32,
            encoding: "published".into(),
            statistics: "computed".into(),
            parameters: Vec::new(),
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
        Self { least_rank: 2.0, least_deviation: 0.002, patience: 50 }
    }
}

impl Recipe {
    /// Backbone, objective and modules.
    pub fn method(&self) -> MethodConfig {
        MethodConfig {
            backbone: self.backbone.clone(),
            objective: self.objective.clone(),
            equivariance: self.equivariance.clone(),
        }
    }

    /// The learning rate of each step, for a number of steps in an epoch.
    pub fn learning_rates(&self, steps_per_epoch: u64) -> LearningRates {
        self.schedule.learning_rates(steps_per_epoch, self.data.batch)
    }

    /// The recipe as TOML, every setting written out.
    pub fn to_toml(&self) -> String {
        // Serialising plain structs of numbers, texts and tables does not fail.
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// Every problem: values out of range and settings that contradict each other.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.method().validate();
        problems.extend(self.optimizer.validate());
        problems.extend(self.normalisation.validate());
        problems.extend(self.augmentation.problems());
        problems.extend(self.schedule.problems());
        problems.extend(self.execution.validate());
        let mut check = |bad: bool, text: String| {
            if bad {
                problems.push(text);
            }
        };
        let clip_norm = self.gradient.clip_norm;
        check(
            !clip_norm.is_finite() || clip_norm < 0.0,
            format!("gradient.clip_norm is {clip_norm}; it must be above 0, or 0 for no clipping"),
        );
        check(self.data.batch < 2, format!("data.batch is {}; contrast needs at least 2 pictures", self.data.batch));
        check(
            !(0.0..=1.0).contains(&self.data.skip_share),
            format!("data.skip_share is {}; give a share from 0 to 1", self.data.skip_share),
        );
        check(self.checkpoint.every_epochs == 0, "checkpoint.every_epochs is 0; give at least 1".into());
        check(self.checkpoint.keep < 2, format!("checkpoint.keep is {}; keep at least 2", self.checkpoint.keep));
        check(self.probe.k == 0, "probe.k is 0; let at least one neighbour vote".into());
        check(
            self.probe.best_by == Score::Linear && !self.probe.linear,
            "probe.best_by is \"linear\" but probe.linear is false; turn it on, or choose by \"knn\"".into(),
        );
        let GuardRecipe { least_rank, least_deviation, patience } = self.guard;
        check(
            !(least_rank >= 0.0 && least_deviation >= 0.0),
            format!("guard.least_rank is {least_rank} and guard.least_deviation {least_deviation}; give 0 or more"),
        );
        check(patience == 0, "guard.patience is 0; give at least 1 step".into());
        check(
            self.execution.parts > self.data.batch,
            format!("execution.parts is {}, more than data.batch, {}", self.execution.parts, self.data.batch),
        );
        problems
    }
}
