//! Label-free properties of features.

use super::{Evaluation, Measurement, Protocol, maps};
use crate::health::{alignment, effective_rank, feature_stds, normalized_std, uniformity};
use crate::parameter_probe::policy_of;
use crate::report::{Plot, Section, Series};
use crate::results::{EFFECTIVE_RANK, NORMALIZED_STD};
use crate::view_pairs::view_pairs;
use crate::{Result, ResultRow};

/// Standard deviation, effective rank, alignment and uniformity of the test images' features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthProtocol {
    /// Maximum number of images whose views are compared. Default: 2000.
    pub images: usize,
}

impl Default for HealthProtocol {
    fn default() -> Self {
        Self { images: 2000 }
    }
}

impl Protocol for HealthProtocol {
    fn name(&self) -> &'static str {
        "health"
    }

    fn summary(&self) -> &'static str {
        "Measured on the test split or, without one, on all images; labels are not used."
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let (features, dataset) = evaluation.test_features()?;
        let mut stds = feature_stds(features);
        stds.sort_by(|a, b| b.total_cmp(a));
        let (model, seed) = (evaluation.model, evaluation.seed);
        let views = view_pairs(model, &policy_of(model)?, dataset, self.images, seed)?;
        let part = evaluation.splits.tested_part();
        let of_features = format!("{} {part} images, {} features", features.rows(), features.columns());
        let of_views = format!("two views of {} {part} images", views[0].rows());
        let row = |metric: &str, value: f64, detail: &str| ResultRow {
            detail: detail.into(),
            ..evaluation.number("health", "features", metric, value)
        };
        let mean = stds.iter().sum::<f64>() / stds.len().max(1) as f64;
        let rows = vec![
            row("standard deviation, mean over dimensions", mean, &of_features),
            row(NORMALIZED_STD, normalized_std(features), &of_features),
            row(EFFECTIVE_RANK, effective_rank(features), &of_features),
            row("alignment (0: views agree)", alignment(&views[0], &views[1])?, &of_views),
            row("uniformity (lower: more even)", uniformity(features)?, &of_features),
        ];
        let points = stds.iter().enumerate().map(|(i, &std)| (i as f64 + 1.0, std)).collect();
        let series = vec![Series { name: "this model".into(), points }];
        Ok(Measurement { rows, series, ..Default::default() })
    }

    fn sections(
        &self,
        evaluation: &Evaluation,
        measurement: &Measurement,
        untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        let mut series = measurement.series.clone();
        let other = untrained.into_iter().flat_map(|untrained| untrained.series.clone());
        series.extend(other.map(|series| Series { name: "untrained".into(), ..series }));
        let title = "standard deviation of each feature, in descending order";
        let plot = Plot { title: title.into(), x_label: "feature".into(), series, ..Plot::default() };
        let map = Section::new("Map of features", maps::figures(evaluation)?);
        Ok(vec![Section::lines("Standard deviations", vec![plot]), map])
    }
}
