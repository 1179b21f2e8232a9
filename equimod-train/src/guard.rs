//! Detection of collapsed embeddings.

use crate::metrics::StepReport;
use crate::recipe::GuardRecipe;

/// Detector of collapsed embeddings.
#[derive(Clone, Debug, Default)]
pub struct Collapse {
    /// Number of consecutive steps below a threshold.
    steps: u64,
    reported: bool,
}

impl Collapse {
    /// A warning, the first time that embeddings have been below a threshold for `guard.patience` consecutive steps.
    pub fn check(&mut self, report: &StepReport, guard: &GuardRecipe) -> Option<String> {
        let collapsed = report.metrics.iter().find(|(name, value)| {
            let is = |metric: &str| name.rsplit('.').next() == Some(metric);
            (is("effective_rank") && *value < guard.least_rank) || (is("embedding_std") && *value < guard.least_std)
        });
        let Some((name, value)) = collapsed else {
            self.steps = 0;
            return None;
        };
        self.steps += 1;
        if self.reported || self.steps < guard.patience {
            return None;
        }
        self.reported = true;
        Some(format!(
            "embeddings have collapsed: {name} has been too small for {} steps and is {value:.2e} at step {}; try a \
             lower learning rate or a longer warm-up, a larger batch, and, by objective, a target network or a \
             predictor that learns faster (byol, simsiam), a higher temperature (simclr, moco-v3), or more weight on \
             variance (vicreg)",
            self.steps, report.step
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64, rank: f64) -> StepReport {
        StepReport { step, metrics: vec![("equimod.effective_rank".into(), rank)], ..StepReport::default() }
    }

    #[test]
    fn a_collapse_is_reported_once_and_only_if_it_lasts() {
        let guard = GuardRecipe { patience: 3, ..GuardRecipe::default() };
        let mut collapse = Collapse::default();
        let ranks = [1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0];
        let reported: Vec<bool> =
            (0..).zip(ranks).map(|(step, rank)| collapse.check(&report(step, rank), &guard).is_some()).collect();
        assert_eq!(reported, [false, false, false, false, false, true, false]);
    }
}
