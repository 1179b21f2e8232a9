//! Looks at loss and gradient before any trained weight changes, and at how spread out embeddings are.

use equimod_core::StepOutcome;

use crate::Result;
use crate::metrics::StepReport;
use crate::recipe::GuardRecipe;

/// What a look at a step's outcome found.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The gradient's norm.
    Sound(f64),
    /// What is no longer a number.
    Diverged(String),
}

/// Looks at loss and gradient.
pub fn check(outcome: &StepOutcome) -> Result<Verdict> {
    if !outcome.loss.is_finite() {
        return Ok(Verdict::Diverged(format!("the loss is {}", outcome.loss)));
    }
    let norm = outcome.gradients.norm()?;
    Ok(if norm.is_finite() {
        Verdict::Sound(norm)
    } else {
        Verdict::Diverged(format!("the gradient's norm is {norm}"))
    })
}

/// Notices embeddings that no longer differ.
#[derive(Clone, Debug, Default)]
pub struct Collapse {
    /// Steps in a row in which they did not.
    steps: u64,
    told: bool,
}

impl Collapse {
    /// What to tell, the first time that embeddings have not differed for long enough.
    pub fn look(&mut self, report: &StepReport, guard: &GuardRecipe) -> Option<String> {
        let flat = report.metrics.iter().find(|(name, value)| {
            let is = |metric: &str| name.rsplit('.').next() == Some(metric);
            (is("effective_rank") && *value < guard.least_rank)
                || (is("embedding_std") && *value < guard.least_deviation)
        });
        let Some((name, value)) = flat else {
            self.steps = 0;
            return None;
        };
        self.steps += 1;
        if self.told || self.steps < guard.patience {
            return None;
        }
        self.told = true;
        Some(format!(
            "embeddings have collapsed: {name} has been too small for {} steps and is {value:.2e} at step {}; try a lower \
             learning rate or a longer warm-up, a larger batch, and, by objective, a target network or a predictor that \
             learns faster (byol, simsiam), a higher temperature (simclr, moco-v3), or more weight on variance (vicreg)",
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
    fn a_collapse_is_told_once_and_only_if_it_lasts() {
        let guard = GuardRecipe { patience: 3, ..GuardRecipe::default() };
        let mut collapse = Collapse::default();
        let ranks = [1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0];
        let told: Vec<bool> =
            (0..).zip(ranks).map(|(step, rank)| collapse.look(&report(step, rank), &guard).is_some()).collect();
        assert_eq!(told, [false, false, false, false, false, true, false]);
    }
}
