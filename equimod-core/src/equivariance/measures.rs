//! Measures of equivariance (Devillers & Lefort, arXiv 2211.01244): how much closer the prediction is to the embedding
//! of a view than the embedding of the original image is.

use candle_core::{DType, Device, Tensor};

use crate::collective::Collective;
use crate::objective::{mean_over_rows, normalize_rows};
use crate::step::{Metrics, scalars};
use crate::{Result, host};

/// Lower bound of the denominator in the relative measure, which keeps it finite for a perfect prediction.
const LEAST_DISTANCE: f64 = 1e-12;

/// Cosine similarities of one view's embedding with its prediction and with the embedding of the original image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EquivarianceRow {
    /// cos(yt, ŷt).
    pub predicted: f64,
    /// cos(yt, y0).
    pub clean: f64,
}

impl EquivarianceRow {
    /// Absolute equivariance cos(yt, ŷt) − cos(yt, y0), in [−2, 2]. Above 0, the prediction is closer to the view than
    /// the original image is.
    pub fn absolute(&self) -> f64 {
        self.predicted - self.clean
    }

    /// Relative equivariance (1 − cos(yt, y0)) / (1 − cos(yt, ŷt)), with a denominator of at least 1e-12. Above 1, the
    /// prediction is closer to the view than the original image is.
    pub fn relative(&self) -> f64 {
        (1.0 - self.clean) / (1.0 - self.predicted).max(LEAST_DISTANCE)
    }
}

/// Averages of the measures over many views.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Equivariance {
    /// Mean absolute equivariance.
    pub absolute: f64,
    /// Mean relative equivariance.
    pub relative: f64,
    /// Mean cosine distance between view and original image, divided by the mean between view and prediction.
    pub ratio_of_means: f64,
}

impl Equivariance {
    /// Averages over rows; zeros for no rows.
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

/// Cosine similarities of each view, from embeddings `[rows, width]` of original images, views and predictions.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
pub fn equivariance_rows(clean: &Tensor, views: &Tensor, predicted: &Tensor) -> Result<Vec<EquivarianceRow>> {
    let (predicted, clean) = (cosine_rows(views, predicted)?, cosine_rows(views, clean)?);
    Ok(predicted.into_iter().zip(clean).map(|(predicted, clean)| EquivarianceRow { predicted, clean }).collect())
}

/// Metrics `absolute_equivariance` and `relative_equivariance`: means of both measures over the rows of all processes,
/// as scalars on the device. The embeddings are `[rows, width]`, as in [`equivariance_rows`].
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
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

/// Cosine similarity of each row of `a` with the same row of `b`, both `[rows, width]`.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
#[allow(clippy::disallowed_methods, reason = "for evaluation: training calls `equivariance_metrics`")]
pub fn cosine_rows(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    Ok(cosines(a, b)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Cosine similarity of each row of `a` with the same row of `b`, `[rows]`, in the widest float type of the device.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let unit = |t: &Tensor| normalize_rows(&t.detach().to_dtype(host::widest(t.device()))?);
    Ok((unit(a)? * unit(b)?)?.sum(1)?)
}
