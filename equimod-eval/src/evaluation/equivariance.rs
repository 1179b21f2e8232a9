//! Equivariance of predicted embeddings, overall and by augmentation.

use equimod_core::Model;
use equimod_core::equivariance::EquivarianceRow;

use super::{Evaluation, Measurement, Protocol, page};
use crate::equivariance::{ModuleEquivariance, measure, measure_each, predicting};
use crate::metrics::bootstrap_mean;
use crate::report::{Bar, Bars, Figure, Section};
use crate::results::{ABSOLUTE, SHUFFLED};
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
        "equivariance"
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % bootstrap intervals over images, each with all its views. The control takes the \
         parameters of \
         another image's view; for an augmentation that is only on or off (a flip, grayscale), those of no change."
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
        _evaluation: &Evaluation,
        measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        let rows = &measurement.rows;
        let control = |bar: &ResultRow| rows.iter().find(|row| row.task == bar.task && row.metric == SHUFFLED);
        let bars = rows.iter().filter(|row| row.metric == ABSOLUTE).map(|row| Bar {
            label: page::short_name(&row.task),
            value: row.value,
            interval: row.interval,
            references: vec![control(row).map(|row| row.value)],
        });
        let figure = Figure::Bars(Bars {
            title: "absolute equivariance: above 0, a prediction is nearer to its view than the original image is"
                .into(),
            name: "with each view's own parameters".into(),
            references: vec!["control: with wrong parameters".into()],
            bars: bars.collect(),
        });
        Ok(vec![Section::new("Equivariance", vec![figure])])
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
        ("relative equivariance", module.measured.relative, None),
        ("relative equivariance, ratio of means", module.measured.ratio_of_means, None),
    ];
    let detail = format!("{} images, {} views", module.images, module.rows.len());
    let row = |(metric, value, interval): (&str, f64, _)| ResultRow {
        interval,
        detail: detail.clone(),
        ..evaluation.number("equivariance", task, metric, value)
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
