//! Everything that decides a run. Defaults are the published SimCLR + nothing recipe on CIFAR-10; modules are added by
//! naming them.

use equimod_core::objective::SimClrConfig;
use equimod_core::optim::{LarsConfig, WarmupCosine};
use equimod_core::{
    BackboneConfig, EquivarianceConfig, Execution, MethodConfig, Normalisation, ObjectiveConfig, OptimizerConfig,
    ResNetConfig,
};
use equimod_data::loader::SKIP_SHARE;
use equimod_data::{Encoding, LayoutConfig, Policy, Size, Statistics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy_choice::PolicyChoice;

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
    /// For how long, and how fast.
    pub schedule: ScheduleRecipe,
    /// When states are saved.
    pub checkpoint: CheckpointRecipe,
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

/// For how long, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleRecipe {
    /// Passes over the data. Published: 800 (BYOL on ImageNet: 1000).
    pub epochs: u64,
    /// Of them, with a rising rate; may be a fraction. Published: 10.
    pub warmup_epochs: f64,
    /// The highest rate, not scaled by the batch. Published: 4.0 (SimCLR on CIFAR-10).
    pub learning_rate: f64,
    /// The rate at the end. Published: 1e-8.
    pub final_learning_rate: f64,
}

/// When states are saved; the last one always is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointRecipe {
    /// Epochs between checkpoints.
    pub every_epochs: u64,
    /// How many of the newest are kept, at least 2.
    pub keep: usize,
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
            schedule: ScheduleRecipe::default(),
            checkpoint: CheckpointRecipe::default(),
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

impl Default for ScheduleRecipe {
    fn default() -> Self {
        Self { epochs: 800, warmup_epochs: 10.0, learning_rate: 4.0, final_learning_rate: 1e-8 }
    }
}

impl Default for CheckpointRecipe {
    fn default() -> Self {
        Self { every_epochs: 10, keep: 2 }
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
    pub fn learning_rates(&self, steps_per_epoch: u64) -> WarmupCosine {
        let ScheduleRecipe { epochs, warmup_epochs, learning_rate, final_learning_rate } = self.schedule;
        WarmupCosine {
            base: learning_rate,
            last: final_learning_rate,
            warmup_steps: (warmup_epochs * steps_per_epoch as f64).round() as u64,
            total_steps: epochs * steps_per_epoch,
        }
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
        let mut check = |bad: bool, text: String| {
            if bad {
                problems.push(text);
            }
        };
        let ScheduleRecipe { epochs, warmup_epochs, learning_rate, final_learning_rate } = self.schedule;
        check(epochs == 0, "schedule.epochs is 0; train for at least one".into());
        check(
            !(0.0..=epochs as f64).contains(&warmup_epochs),
            format!("schedule.warmup_epochs is {warmup_epochs} but there are {epochs} epochs; give 0 to {epochs}"),
        );
        check(
            !learning_rate.is_finite() || learning_rate <= 0.0,
            format!("schedule.learning_rate is {learning_rate}; it must be above 0"),
        );
        check(
            !final_learning_rate.is_finite() || final_learning_rate < 0.0,
            format!("schedule.final_learning_rate is {final_learning_rate}; it must not be negative"),
        );
        check(self.data.batch < 2, format!("data.batch is {}; contrast needs at least 2 pictures", self.data.batch));
        check(
            !(0.0..=1.0).contains(&self.data.skip_share),
            format!("data.skip_share is {}; give a share from 0 to 1", self.data.skip_share),
        );
        check(self.checkpoint.every_epochs == 0, "checkpoint.every_epochs is 0; give at least 1".into());
        check(self.checkpoint.keep < 2, format!("checkpoint.keep is {}; keep at least 2", self.checkpoint.keep));
        problems
    }
}
