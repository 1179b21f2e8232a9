//! Schedules of the learning rate, the target network's momentum and the weights of loss terms.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Position of a step within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Current step, counted from 0.
    pub step: u64,
    /// Number of steps of the whole run.
    pub total: u64,
}

impl Progress {
    /// Progress of a run with a single step.
    pub const ONLY: Self = Self { step: 0, total: 1 };
}

/// A schedule of learning rates over optimizer steps.
pub trait Schedule: Send + Sync {
    /// Learning rate at step `step`, counted from 0.
    fn rate(&self, step: u64) -> f64;
}

/// Linear warm-up followed by cosine decay. With W warm-up steps and T steps after them, the rate at step k is
/// `base·(1e-8 + (1 − 1e-8)·k/W)` for k ≤ W, then `last + (base − last)·(1 + cos(π(k − W)/T))/2`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// Peak learning rate.
    pub base: f64,
    /// Final learning rate. Published: 1e-8 in pretraining, 1e-4 in the linear evaluation.
    pub last: f64,
    /// Number of warm-up steps (W).
    pub warmup_steps: u64,
    /// Total number of steps (W + T).
    pub total_steps: u64,
}

/// Fraction of the base rate at which the warm-up starts, as in the reference's `LinearLR`.
const START: f64 = 1e-8;

impl Schedule for WarmupCosine {
    fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return warm_up(self.base, step, self.warmup_steps);
        }
        let (warmup, step) = (self.warmup_steps as f64, step as f64);
        let length = (self.total_steps as f64 - warmup).max(1.0);
        let progress = ((step - warmup) / length).min(1.0);
        self.last + (self.base - self.last) * (1.0 + (PI * progress).cos()) / 2.0
    }
}

fn warm_up(base: f64, step: u64, steps: u64) -> f64 {
    base * (START + (1.0 - START) * step as f64 / steps as f64)
}

/// The warm-up of [`WarmupCosine`], then `base·factorⁿ` after n milestones, as `torch.optim.lr_scheduler.MultiStepLR`.
/// Without milestones, the rate stays constant after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupSteps {
    /// Peak learning rate.
    pub base: f64,
    /// Factor by which the rate is multiplied at each milestone (`gamma` in PyTorch).
    pub factor: f64,
    /// First step of each new rate.
    pub milestones: Vec<u64>,
    /// Number of warm-up steps.
    pub warmup_steps: u64,
}

impl Schedule for WarmupSteps {
    fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return warm_up(self.base, step, self.warmup_steps);
        }
        let reached = self.milestones.iter().filter(|milestone| **milestone <= step);
        reached.fold(self.base, |rate, _| rate * self.factor)
    }
}

/// Choice of the learning rate schedule of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRates {
    /// Cosine decay.
    Cosine(WarmupCosine),
    /// Step decay at milestones; a constant rate without any.
    Steps(WarmupSteps),
}

impl Schedule for LearningRates {
    fn rate(&self, step: u64) -> f64 {
        match self {
            Self::Cosine(schedule) => schedule.rate(step),
            Self::Steps(schedule) => schedule.rate(step),
        }
    }
}

/// Schedule of the target network's momentum τ, starting from τ0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetMomentum {
    /// `τ(s) = 1 − (1 − τ0)·(cos(πs/S) + 1)/2` at step s of S, which reaches 1 at the end (Grill et al., arXiv
    /// 2006.07733, section 3).
    #[default]
    Cosine,
    /// τ0 throughout.
    Constant,
}

impl TargetMomentum {
    /// τ at a step, where `first` is τ0.
    pub fn at(self, first: f64, Progress { step, total }: Progress) -> f64 {
        match self {
            Self::Cosine => 1.0 - (1.0 - first) * ((PI * step as f64 / total.max(1) as f64).cos() + 1.0) / 2.0,
            Self::Constant => first,
        }
    }
}

/// λ, the weight of a term in the loss: a constant, or a linear ramp such as `0 to 1 until 0.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// A constant weight.
    Fixed(f64),
    /// A linear ramp between two values over the first part of the run; constant afterwards.
    Line {
        /// Weight at the first step.
        from: f64,
        /// Weight at the end of the ramp, and from then on.
        to: f64,
        /// Fraction of all steps that the ramp takes, above 0 and at most 1.
        until: f64,
    },
}

impl Weight {
    /// λ at a step.
    pub fn at(self, Progress { step, total }: Progress) -> f64 {
        match self {
            Self::Fixed(weight) => weight,
            Self::Line { from, to, until } => {
                let done = (step as f64 / (until * total.max(1) as f64)).min(1.0);
                from + (to - from) * done
            }
        }
    }

    /// Whether the weight is 0 at every step.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Fixed(weight) => weight == 0.0,
            Self::Line { from, to, .. } => from == 0.0 && to == 0.0,
        }
    }

    /// A sentence if this is no valid weight of the part called `part`; empty otherwise.
    pub fn problems(self, part: &str) -> Vec<String> {
        let fine = |value: f64| value.is_finite() && value >= 0.0;
        match self {
            Self::Fixed(weight) if fine(weight) => Vec::new(),
            Self::Line { from, to, until } if fine(from) && fine(to) && until > 0.0 && until <= 1.0 => Vec::new(),
            _ => {
                vec![format!("{part}.weight is {self}; weights are 0 or more, shares of steps above 0 and at most 1")]
            }
        }
    }
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || {
            format!("{text:?} is no weight; write a number, or a line over a share of the steps: \"0 to 1 until 0.1\"")
        };
        let number = |text: &str| text.parse::<f64>().map_err(|_| problem());
        match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            [weight] => Ok(Self::Fixed(number(weight)?)),
            [from, "to", to, "until", until] => {
                Ok(Self::Line { from: number(from)?, to: number(to)?, until: number(until)? })
            }
            _ => Err(problem()),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(weight) => weight.fmt(f),
            Self::Line { from, to, until } => write!(f, "{from} to {to} until {until}"),
        }
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(weight) => serializer.serialize_f64(*weight),
            Self::Line { .. } => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightVisitor)
    }
}

struct WeightVisitor;

impl Visitor<'_> for WeightVisitor {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a line such as \"0 to 1 until 0.1\"")
    }

    fn visit_f64<E: de::Error>(self, weight: f64) -> Result<Weight, E> {
        Ok(Weight::Fixed(weight))
    }

    fn visit_i64<E: de::Error>(self, weight: i64) -> Result<Weight, E> {
        Ok(Weight::Fixed(weight as f64))
    }

    fn visit_u64<E: de::Error>(self, weight: u64) -> Result<Weight, E> {
        Ok(Weight::Fixed(weight as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Weight, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_at_milestones_after_the_same_warm_up() {
        let steps = WarmupSteps { base: 0.5, factor: 0.25, milestones: vec![6, 9], warmup_steps: 4 };
        let cosine = WarmupCosine { base: 0.5, last: 0.0, warmup_steps: 4, total_steps: 12 };
        assert!((0..=4).all(|step| steps.rate(step) == cosine.rate(step)));
        assert_eq!([4, 5, 6, 8, 9, 99].map(|step| steps.rate(step)), [0.5, 0.5, 0.125, 0.125, 0.03125, 0.03125]);
        assert_eq!([0, 2].map(|step| steps.rate(step)), [0.5 * START, 0.5 * (START + (1.0 - START) * 0.5)]);
        let constant = LearningRates::Steps(WarmupSteps { milestones: Vec::new(), warmup_steps: 0, ..steps });
        assert_eq!([0, 1, 99].map(|step| constant.rate(step)), [0.5; 3]);
        assert_eq!(LearningRates::Cosine(cosine).rate(8), cosine.rate(8));
    }

    #[test]
    fn a_weight_follows_its_line_and_reads_back() {
        let weight: Weight = "0.5 to 2 until 0.25".parse().unwrap();
        let at = |step| weight.at(Progress { step, total: 8 });
        assert_eq!([at(0), at(1), at(2), at(7)], [0.5, 1.25, 2.0, 2.0]);
        assert_eq!(weight.to_string(), "0.5 to 2 until 0.25");
        let json = serde_json::to_string(&[Weight::Fixed(1.0), weight]).unwrap();
        assert_eq!(serde_json::from_str::<[Weight; 2]>(&json).unwrap(), [Weight::Fixed(1.0), weight]);
        assert_eq!(serde_json::from_str::<Weight>("3").unwrap(), Weight::Fixed(3.0));
        for text in ["x", "0 to 1", "0 to 1 until x"] {
            assert!(text.parse::<Weight>().unwrap_err().contains("is no weight"));
        }
        for text in ["-1", "0 to 1 until 0", "0 to 1 until 2", "NaN"] {
            assert_eq!(text.parse::<Weight>().unwrap().problems("equimod").len(), 1, "{text}");
        }
        assert!("0".parse::<Weight>().unwrap().is_zero() && !weight.is_zero());
    }
}
