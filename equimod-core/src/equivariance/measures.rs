//! Measures of equivariance (method, section 6): how much nearer to a view its prediction is than the clean picture.

use candle_core::{DType, Device, Tensor};

use crate::collective::Collective;
use crate::objective::{mean_over_rows, normalise_rows};
use crate::step::{Metrics, scalars};
use crate::{Result, host};

/// Distances below this count as this in the relative measure, so that a perfect prediction gives a finite value.
const LEAST_DISTANCE: f64 = 1e-12;

/// The cosines of one view: with its prediction and with the clean picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EquivarianceRow {
    /// cos(yt, ŷt).
    pub predicted: f64,
    /// cos(yt, y0).
    pub clean: f64,
}

impl EquivarianceRow {
    /// cos(yt, ŷt) − cos(yt, y0), in [−2, 2]; above 0 the prediction beats the clean embedding.
    pub fn absolute(&self) -> f64 {
        self.predicted - self.clean
    }

    /// (1 − cos(yt, y0)) / (1 − cos(yt, ŷt)), the denominator at least 1e-12; above 1 is good.
    pub fn relative(&self) -> f64 {
        (1.0 - self.clean) / (1.0 - self.predicted).max(LEAST_DISTANCE)
    }
}

/// The measures over many views.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Equivariance {
    /// Mean of the absolute measure.
    pub absolute: f64,
    /// Mean of the relative measure.
    pub relative: f64,
    /// Mean distance to the clean picture over mean distance to the prediction.
    pub ratio_of_means: f64,
}

impl Equivariance {
    /// Averages over rows; zeros if there are none.
    pub fn of(rows: &[EquivarianceRow]) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        let count = rows.len() as f64;
        let mean = |f: &dyn Fn(&EquivarianceRow) -> f64| rows.iter().map(f).sum::<f64>() / count;
        let (clean, predicted) = (mean(&|row| 1.0 - row.clean), mean(&|row| 1.0 - row.predicted));
        Self {
            absolute: mean(&EquivarianceRow::absolute),
            relative: mean(&EquivarianceRow::relative),
            ratio_of_means: clean / predicted.max(LEAST_DISTANCE),
        }
    }
}

/// The cosines of each view, from embeddings `[rows, width]` of clean pictures, views and predictions.
pub fn equivariance_rows(clean: &Tensor, views: &Tensor, predicted: &Tensor) -> Result<Vec<EquivarianceRow>> {
    let (predicted, clean) = (cosine_rows(views, predicted)?, cosine_rows(views, clean)?);
    Ok(predicted.into_iter().zip(clean).map(|(predicted, clean)| EquivarianceRow { predicted, clean }).collect())
}

/// `absolute_equivariance` and `relative_equivariance`, the means of both measures over the rows of all processes, on the
/// device; from embeddings `[rows, width]` as [`equivariance_rows`] takes them.
///
/// # Errors
///
/// If shapes do not fit, or a tensor operation fails.
pub fn equivariance_metrics(
    clean: &Tensor,
    views: &Tensor,
    predicted: &Tensor,
    collective: &dyn Collective,
) -> Result<Metrics> {
    let [predicted, clean] = [cosines(views, predicted)?, cosines(views, clean)?];
    let absolute = mean_over_rows(&(&predicted - &clean)?, collective)?;
    let distance = (1.0 - predicted)?.maximum(LEAST_DISTANCE)?;
    let relative = mean_over_rows(&((1.0 - clean)? / distance)?, collective)?;
    Ok(scalars([("absolute_equivariance", &absolute), ("relative_equivariance", &relative)]))
}

/// The cosine of each row of `a` with that of `b`, `[rows, width]` both.
#[allow(clippy::disallowed_methods, reason = "for evaluation: training calls `equivariance_metrics`")]
pub fn cosine_rows(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    Ok(cosines(a, b)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The cosine of each row of `a` with that of `b`, `[rows]`, in the widest type of the device.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let unit = |t: &Tensor| normalise_rows(&t.detach().to_dtype(host::widest(t.device()))?);
    Ok((unit(a)? * unit(b)?)?.sum(1)?)
}
