//! Number of epochs and learning-rate schedule of a run.

use equimod_core::optim::{LearningRates, WarmupCosine, WarmupSteps};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of epochs and learning-rate schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleRecipe {
    /// Number of passes over the data. Published: 800 (BYOL on ImageNet: 1000).
    pub epochs: u64,
    /// Number of those epochs with a linearly rising learning rate; may be a fraction. Published: 10.
    pub warmup_epochs: f64,
    /// Shape of the learning rate after the warm-up. Published: `cosine`.
    pub shape: Shape,
    /// Peak learning rate, before it is scaled by the batch size. Published: 4.0 (SimCLR on CIFAR-10).
    pub learning_rate: f64,
    /// Scaling of the peak learning rate with the batch size. Published: `none`.
    pub batch_scaling: BatchScaling,
    /// Learning rate at the end of `cosine`, not scaled by the batch size; ignored by the other shapes. Published:
    /// 1e-8.
    pub final_learning_rate: f64,
    /// For `step`: epochs at which the learning rate falls, in increasing order; may be fractions.
    pub milestones: Vec<f64>,
    /// For `step`: factor of the learning rate at each milestone. Default: 0.1.
    pub factor: f64,
}

/// Shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Half a cosine down to the final learning rate.
    #[default]
    Cosine,
    /// Multiplication by a factor at each milestone.
    Step,
    /// Constant.
    Constant,
}

/// Scaling of the learning rate with the batch size, relative to 256 images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BatchScaling {
    /// No scaling.
    #[default]
    None,
    /// `rate·batch/256` (Goyal et al., arXiv 1706.02677).
    Linear,
    /// `rate·√(batch/256)` (Krizhevsky, arXiv 1404.5997).
    SquareRoot,
}

impl BatchScaling {
    /// Factor of the learning rate for `batch` images in a step.
    pub fn factor(self, batch: usize) -> f64 {
        let share = batch as f64 / 256.0;
        match self {
            Self::None => 1.0,
            Self::Linear => share,
            Self::SquareRoot => share.sqrt(),
        }
    }
}

impl Default for ScheduleRecipe {
    fn default() -> Self {
        Self {
            epochs: 800,
            warmup_epochs: 10.0,
            shape: Shape::Cosine,
            learning_rate: 4.0,
            batch_scaling: BatchScaling::None,
            final_learning_rate: 1e-8,
            milestones: Vec::new(),
            factor: 0.1,
        }
    }
}

impl ScheduleRecipe {
    /// Learning rate of each step, for `steps_per_epoch` steps in an epoch and `batch` images in a step.
    pub fn learning_rates(&self, steps_per_epoch: u64, batch: usize) -> LearningRates {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
        let base = self.learning_rate * self.batch_scaling.factor(batch);
        let warmup_steps = steps(self.warmup_epochs);
        let falling_at = |milestones: &[f64]| {
            let milestones = milestones.iter().copied().map(steps).collect();
            LearningRates::Steps(WarmupSteps { base, factor: self.factor, milestones, warmup_steps })
        };
        match self.shape {
            Shape::Cosine => {
                let (last, total_steps) = (self.final_learning_rate, self.epochs * steps_per_epoch);
                LearningRates::Cosine(WarmupCosine { base, last, warmup_steps, total_steps })
            }
            Shape::Step => falling_at(&self.milestones),
            Shape::Constant => falling_at(&[]),
        }
    }

    /// Values out of range and settings that contradict each other.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Self { epochs, warmup_epochs, learning_rate, final_learning_rate, .. } = *self;
        let mut problems = Vec::new();
        let mut check = |bad: bool, text: String| {
            if bad {
                problems.push(text);
            }
        };
        check(epochs == 0, "schedule.epochs is 0; train for at least one".into());
        check(
            epochs > 0 && !(0.0..=epochs as f64).contains(&warmup_epochs),
            format!(
                "schedule.warmup_epochs is {warmup_epochs} but schedule.epochs is {epochs}; give 0 to {epochs}, e.g. {:.1}",
                0.1 * epochs as f64
            ),
        );
        check(
            !learning_rate.is_finite() || learning_rate <= 0.0,
            format!("schedule.learning_rate is {learning_rate}; it must be above 0"),
        );
        check(
            !final_learning_rate.is_finite() || final_learning_rate < 0.0,
            format!("schedule.final_learning_rate is {final_learning_rate}; it must not be negative"),
        );
        problems.extend(self.milestone_problem());
        if !self.factor.is_finite() || self.factor <= 0.0 {
            problems.push(format!("schedule.factor is {}; it must be above 0", self.factor));
        }
        problems
    }

    fn milestone_problem(&self) -> Option<String> {
        let Self { shape, milestones, epochs, .. } = self;
        if *shape != Shape::Step {
            let text = "schedule.milestones are for schedule.shape = \"step\"; set that or leave them out";
            return (!milestones.is_empty()).then(|| text.into());
        }
        if milestones.is_empty() {
            return Some(
                "schedule.shape is \"step\" without schedule.milestones; give epochs such as [120, 160]".into(),
            );
        }
        let all = [&[self.warmup_epochs], milestones.as_slice(), &[*epochs as f64]].concat();
        let rule = "they must increase, all after the warm-up and before the end of the last epoch";
        (!all.is_sorted_by(|a, b| a < b)).then(|| format!("schedule.milestones are {milestones:?}; {rule}"))
    }
}

#[cfg(test)]
mod tests {
    use equimod_core::optim::Schedule;

    use super::*;

    fn schedule(shape: Shape, milestones: &[f64]) -> ScheduleRecipe {
        let (epochs, warmup_epochs, learning_rate, factor) = (8, 0.5, 0.5, 0.25);
        let milestones = milestones.to_vec();
        ScheduleRecipe { epochs, warmup_epochs, shape, learning_rate, milestones, factor, ..Default::default() }
    }

    #[test]
    fn epochs_become_steps_whatever_the_shape() {
        let rates = |shape, milestones: &[f64]| schedule(shape, milestones).learning_rates(4, 512);
        let step = rates(Shape::Step, &[1.5, 5.0]);
        assert_eq!([2, 5, 6, 19, 20, 31].map(|k| step.rate(k)), [0.5, 0.5, 0.125, 0.125, 0.03125, 0.03125]);
        let constant = rates(Shape::Constant, &[]);
        assert_eq!([2, 31].map(|k| constant.rate(k)), [0.5, 0.5]);
        let cosine = WarmupCosine { base: 0.5, last: 1e-8, warmup_steps: 2, total_steps: 32 };
        assert_eq!(rates(Shape::Cosine, &[]), LearningRates::Cosine(cosine));
        assert!((0..2).all(|k| step.rate(k) == cosine.rate(k) && constant.rate(k) == cosine.rate(k)));
    }

    #[test]
    fn the_batch_scales_the_highest_rate() {
        let scalings = [BatchScaling::None, BatchScaling::Linear, BatchScaling::SquareRoot];
        assert_eq!(scalings.map(|scaling| scaling.factor(1024)), [1.0, 4.0, 2.0]);
        assert_eq!(scalings.map(|scaling| scaling.factor(64)), [1.0, 0.25, 0.5]);
        let scaled = ScheduleRecipe { batch_scaling: BatchScaling::Linear, ..schedule(Shape::Cosine, &[]) };
        let cosine = WarmupCosine { base: 1.0, last: 1e-8, warmup_steps: 2, total_steps: 32 };
        assert_eq!(scaled.learning_rates(4, 512), LearningRates::Cosine(cosine));
    }

    #[test]
    fn shapes_and_milestones_that_do_not_fit_are_reported() {
        for (shape, milestones) in [(Shape::Step, &[0.75, 7.5][..]), (Shape::Constant, &[]), (Shape::Cosine, &[])] {
            assert!(schedule(shape, milestones).problems().is_empty(), "{shape:?}");
        }
        let wrong: [(Shape, &[f64]); 7] = [
            (Shape::Step, &[]),
            (Shape::Cosine, &[2.0]),
            (Shape::Constant, &[2.0]),
            (Shape::Step, &[3.0, 2.0]),
            (Shape::Step, &[0.5, 2.0]),
            (Shape::Step, &[2.0, 8.0]),
            (Shape::Step, &[f64::NAN]),
        ];
        for (shape, milestones) in wrong {
            let problems = schedule(shape, milestones).problems();
            assert!(
                problems.len() == 1 && problems[0].contains("milestones"),
                "{shape:?} {milestones:?}: {problems:?}"
            );
        }
        let factor = ScheduleRecipe { factor: 0.0, ..schedule(Shape::Step, &[2.0]) };
        assert!(factor.problems()[0].contains("schedule.factor is 0"));
    }
}
