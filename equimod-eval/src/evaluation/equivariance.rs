//! Equivariance of predicted embeddings, overall and by augmentation.

use equimod_core::Model;
use equimod_core::equivariance::EquivarianceRow;

use super::equivariance_page::{equivariance_section, predictions_section};
use super::{Evaluation, Measurement, Protocol};
use crate::equivariance::{ModuleEquivariance, measure, measure_each, predicting};
use crate::metrics::bootstrap_mean;
use crate::report::Section;
use crate::results::{ABSOLUTE, EQUIVARIANCE, RATIO_OF_MEANS, RELATIVE, SHUFFLED};
use crate::{Result, ResultRow};

/// Absolute and relative equivariance of every module that predicts embeddings, on the test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EquivarianceProtocol {
    /// Maximum number of images. Default: 512.
    pub images: usize,
    /// Whether each augmentation is also measured alone. Default: yes.
    pub each_augmentation: bool,
}

impl Default for EquivarianceProtocol {
    fn default() -> Self {
        Self { images: 512, each_augmentation: true }
    }
}

impl Protocol for EquivarianceProtocol {
    fn name(&self) -> &'static str {
        EQUIVARIANCE
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % bootstrap intervals over images, each with all its views. The control takes the \
         parameters of another image's view; for an augmentation that is only on or off (a flip, grayscale), those of no \
         change."
    }

    fn applies_to(&self, model: &Model) -> bool {
        predicting(model).is_ok()
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let (model, seed) = (evaluation.model, evaluation.seed);
        let images = evaluation.splits.test_or_train().as_ref();
        let rows = |module: &ModuleEquivariance, task: &str| rows(evaluation, module, task);
        let overall = measure(model, images, self.images, seed)?;
        let mut all: Vec<ResultRow> = overall.iter().flat_map(|module| rows(module, &module.module)).collect();
        if self.each_augmentation {
            for one in measure_each(model, images, self.images, seed)? {
                for module in &one.modules {
                    all.extend(rows(module, &format!("{}, {} alone", module.module, one.augmentation)));
                }
            }
        }
        Ok(all.into())
    }

    fn sections(
        &self,
        evaluation: &Evaluation,
        measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        let images = evaluation.splits.test_or_train().as_ref();
        let predictions = predictions_section(evaluation.model, images, evaluation.seed)?;
        Ok(vec![equivariance_section(&measurement.rows), predictions])
    }
}

fn rows(evaluation: &Evaluation, module: &ModuleEquivariance, task: &str) -> Vec<ResultRow> {
    // The views of an image are not independent: images are resampled, each with all its views.
    let views = (module.rows.len() / module.images.max(1)).max(1);
    let mean = |rows: &[EquivarianceRow]| rows.iter().map(|row| row.absolute()).sum::<f64>() / rows.len() as f64;
    let absolute: Vec<f64> = module.rows.chunks(views).map(mean).collect();
    let interval = bootstrap_mean(&absolute, evaluation.seed).interval;
    let numbers = [
        (ABSOLUTE, module.measured.absolute, Some(interval)),
        (SHUFFLED, module.shuffled.absolute, None),
        (RELATIVE, module.measured.relative, None),
        (RATIO_OF_MEANS, module.measured.ratio_of_means, None),
    ];
    let part = evaluation.splits.tested_part();
    let detail = format!("{} {part} images, {} views", module.images, module.rows.len());
    let row = |(metric, value, interval): (&str, f64, _)| ResultRow {
        interval,
        detail: detail.clone(),
        ..evaluation.number(EQUIVARIANCE, task, metric, value)
    };
    numbers.map(row).to_vec()
}

impl Evaluation<'_> {
    /// A row with a single number.
    pub(super) fn number(&self, protocol: &str, task: &str, metric: &str, value: f64) -> ResultRow {
        ResultRow {
            protocol: protocol.into(),
            data: self.splits.name.clone(),
            task: task.into(),
            metric: metric.into(),
            value,
            ..Default::default()
        }
    }
}
