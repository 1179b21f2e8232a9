//! Detection of collapsed embeddings.

use std::collections::VecDeque;

use crate::metrics::StepReport;
use crate::recipe::GuardRecipe;

/// Detector of collapsed embeddings.
#[derive(Clone, Debug, Default)]
pub struct Collapse {
    /// Whether a metric was below its threshold, in each of the last `patience` steps.
    low: VecDeque<bool>,
    reported: bool,
}

impl Collapse {
    /// A warning, the first time that embeddings have been below a threshold in most of the last `guard.patience` steps,
    /// this one included.
    pub fn check(&mut self, report: &StepReport, guard: &GuardRecipe) -> Option<String> {
        let collapsed = report.metrics.iter().find(|(name, value)| {
            let is = |metric: &str| name.rsplit('.').next() == Some(metric);
            (is("effective_rank") && *value < guard.least_rank) || (is("embedding_std") && *value < guard.least_std)
        });
        self.low.push_back(collapsed.is_some());
        while self.low.len() as u64 > guard.patience.max(1) {
            self.low.pop_front();
        }
        let (steps, low) = (self.low.len(), self.low.iter().filter(|low| **low).count());
        let (name, value) = collapsed?;
        if self.reported || (steps as u64) < guard.patience || 2 * low <= steps {
            return None;
        }
        self.reported = true;
        Some(format!(
            "embeddings have collapsed: {name} was too small in {low} of the last {steps} steps and is {value:.2e} at step {}; try \
             a \
             lower learning rate or a longer warm-up, a larger batch, and, by objective, a target network or a \
             predictor that learns faster (byol, simsiam), a higher temperature (simclr, moco-v3), or more weight on \
             variance (vicreg)",
            report.step
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
        let reported = |ranks: &[f64]| -> Vec<bool> {
            let guard = GuardRecipe { patience: 4, ..GuardRecipe::default() };
            let mut collapse = Collapse::default();
            (0..).zip(ranks).map(|(step, rank)| collapse.check(&report(step, *rank), &guard).is_some()).collect()
        };
        // Two of four low steps are not most of them.
        assert_eq!(reported(&[1.0, 1.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0]).iter().position(|told| *told), Some(6));
        assert_eq!(reported(&[1.0; 8]).into_iter().filter(|told| *told).count(), 1);
        assert_eq!(reported(&[1.0, 9.0].repeat(8)), [false; 16]);
        // Embeddings that collapse and recover from step to step.
        assert!(reported(&[1.0, 1.0, 9.0].repeat(3)).contains(&true));
    }
}
