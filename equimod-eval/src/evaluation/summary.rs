//! A quick look at the labels: the numbers at the end of a pretraining run.

use super::{Classify, Evaluation, Measurement, Protocol};
use crate::Result;
use crate::knn::KnnConfig;
use crate::lbfgs::LbfgsConfig;
use crate::logistic::LogisticConfig;

/// Top-1 accuracy of k-NN and of a short logistic regression, and retrieval across designs where the data set has them.
///
/// The logistic regression tries four L2 strengths, and more where the best one is at an end, with at most 80 iterations: a
/// look, not the published protocol, which is the default [`LogisticConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryProtocol {
    /// The k-NN classifier.
    pub knn: KnnConfig,
    /// The logistic regression.
    pub logistic: LogisticConfig,
}

impl Default for SummaryProtocol {
    fn default() -> Self {
        let lbfgs = LbfgsConfig { history: 20, iterations: 80, tolerance: 1e-4, change: 0.0 };
        let l2_strengths = vec![1e-2, 1e-1, 1.0, 10.0];
        let logistic = LogisticConfig { l2_strengths, extend: true, lbfgs, ..Default::default() };
        Self { knn: KnnConfig::default(), logistic }
    }
}

impl Protocol for SummaryProtocol {
    fn name(&self) -> &'static str {
        "summary"
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % bootstrap intervals over test images; chance is the accuracy of guessing the most \
         frequent class."
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let mut classifications = self.knn.classify(evaluation)?;
        classifications.extend(self.logistic.classify(evaluation)?);
        let top_1 = classifications.iter().map(|one| one.top_1(&evaluation.splits.name, evaluation.seed));
        let mut rows: Vec<_> = top_1.collect();
        rows.extend(evaluation.cross_design()?);
        Ok(Measurement { rows, classifications, series: Vec::new() })
    }
}
