//! Augmentation parameters regressed from features.

use super::{Evaluation, Measurement, Protocol, page};
use crate::metrics::Estimate;
use crate::parameter_probe::{ProbeConfig, ProbeData, ProbeKind, collect, policy_of};
use crate::report::{Bar, Bars, Figure, Section};
use crate::results::{ACCURACY_OF_FLAG, POOLED_R2, R2};
use crate::ridge::{ProbeTargets, probe, ridges};
use crate::{Result, ResultRow};

/// Ridge regression from features of augmented training images to each augmentation parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterProtocol {
    /// Maximum number of images; a fifth validates, a fifth is held out. Default: 4000.
    pub images: usize,
}

impl Default for ParameterProtocol {
    fn default() -> Self {
        Self { images: ProbeConfig::default().images }
    }
}

/// Lowest R² that figures show; lower ones are drawn there.
const LOWEST_DRAWN: f64 = -1.0;
const KINDS: [(ProbeKind, &str); 2] =
    [(ProbeKind::Absolute, "params, absolute"), (ProbeKind::Relative, "params, relative")];

impl Protocol for ParameterProtocol {
    fn name(&self) -> &'static str {
        "params"
    }

    fn summary(&self) -> &'static str {
        "R² on held-out images of the training split, with 95 % bootstrap intervals over them; guessing the mean gives 0."
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let mut rows = Vec::new();
        for (kind, protocol) in KINDS {
            rows.extend(self.of_kind(evaluation, kind, protocol)?);
        }
        Ok(rows.into())
    }

    fn sections(
        &self,
        _evaluation: &Evaluation,
        measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        let figure = |(_, protocol): (_, &str)| {
            let rows = measurement.rows.iter().filter(|row| row.metric == R2 && row.protocol == protocol);
            let bar = |row: &ResultRow| Bar {
                label: page::short_name(&row.task),
                value: row.value.max(LOWEST_DRAWN),
                interval: row.interval.map(|(low, high)| (low.max(LOWEST_DRAWN), high.max(LOWEST_DRAWN))),
                references: [row.baseline, row.untrained].map(|value| Some(value?.max(LOWEST_DRAWN))).into(),
            };
            Figure::Bars(Bars {
                title: format!("{protocol}: R² on held-out images (below {LOWEST_DRAWN} shown as {LOWEST_DRAWN})"),
                name: "trained".into(),
                references: ["baseline", "untrained"].map(str::to_owned).into(),
                bars: rows.map(bar).collect(),
                decimals: 3,
            })
        };
        Ok(vec![Section::new("Augmentation parameters in the features", KINDS.map(figure).into())])
    }
}

impl ParameterProtocol {
    /// R² of each parameter, and the accuracy of flags; empty for pairs of views of a policy with one view.
    fn of_kind(&self, evaluation: &Evaluation, kind: ProbeKind, protocol: &str) -> Result<Vec<ResultRow>> {
        let policy = policy_of(evaluation.model)?;
        if kind == ProbeKind::Relative && policy.views.len() < 2 {
            return Ok(Vec::new());
        }
        let config = ProbeConfig { images: self.images, seed: evaluation.seed, ..Default::default() };
        let data = collect(evaluation.model, policy, evaluation.splits.train.as_ref(), kind, &config)?;
        let splits = [&data.train, &data.validation, &data.test];
        let [train, validation, test] = [targets(splits[0])?, targets(splits[1])?, targets(splits[2])?];
        let scores = probe(
            (&data.train.features, &train),
            (&data.validation.features, &validation),
            (&data.test.features, &test),
            evaluation.seed,
        )?;
        let counts = splits.map(|split| split.features.rows());
        let detail = format!("{} training images, {} for validation, {} held out", counts[0], counts[1], counts[2]);
        let row = |task: &str, metric: &str, estimate: Estimate| ResultRow {
            detail: detail.clone(),
            interval: Some(estimate.interval).filter(|(low, high)| low.is_finite() && high.is_finite()),
            ..evaluation.number(protocol, task, metric, estimate.value)
        };
        let mut rows = Vec::new();
        for score in &scores.targets {
            let chosen =
                Some(format!("ridge {:.1e} × images, the best of {} on validation", score.ridge, ridges().len()));
            let r2 = ResultRow { samples: Some(score.by_row.clone().into()), ..row(&score.name, R2, score.r2) };
            rows.push(ResultRow { chosen: chosen.clone(), chance: Some(0.0), ..r2 });
            if let Some(accuracy) = score.accuracy {
                let chance = majority(&data.test, &score.name);
                rows.push(ResultRow { chosen, chance, ..row(&score.name, ACCURACY_OF_FLAG, accuracy) });
            }
        }
        let pooled = row("all parameters", POOLED_R2, scores.pooled);
        rows.push(ResultRow { chance: Some(0.0), samples: Some(scores.pooled_by_row.into()), ..pooled });
        Ok(rows)
    }
}

/// The columns as rows of targets. The order of the jitters is left out: it is a code, whose values have no order.
fn targets(data: &ProbeData) -> Result<ProbeTargets> {
    let rows = data.features.rows();
    let numbers = || data.names.iter().zip(&data.targets).filter(|(name, _)| !name.contains("jitter_order"));
    let values = (0..rows).flat_map(|row| numbers().map(move |(_, column)| column[row])).collect();
    ProbeTargets::new(numbers().map(|(name, _)| name.clone()).collect(), values)
}

/// The share of the more frequent value of a flag.
fn majority(data: &ProbeData, name: &str) -> Option<f64> {
    let column = &data.targets[data.names.iter().position(|known| known == name)?];
    let on = column.iter().filter(|value| **value > 0.5).count() as f64 / column.len().max(1) as f64;
    Some(on.max(1.0 - on))
}
