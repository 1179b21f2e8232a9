//! Measures of equivariance (method, section 6): how much nearer to a view its prediction is than the clean picture.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::collective::{Collective, sums_over_processes};
use crate::objective::normalise_rows;
use crate::step::Metrics;

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
        Self::of_sums(&Self::sums(rows))
    }

    /// Averages over the rows of all processes.
    pub fn over(rows: &[EquivarianceRow], collective: &dyn Collective) -> Result<Self> {
        Ok(Self::of_sums(&sums_over_processes(Self::sums(rows), collective)?))
    }

    /// Both measures by name.
    pub fn metrics(self) -> Metrics {
        vec![("absolute_equivariance".to_owned(), self.absolute), ("relative_equivariance".to_owned(), self.relative)]
    }

    /// Of both measures, the distances to the clean picture and to the prediction, and the number of rows.
    fn sums(rows: &[EquivarianceRow]) -> Vec<f64> {
        let sum = |f: &dyn Fn(&EquivarianceRow) -> f64| rows.iter().map(f).sum::<f64>();
        let measures = [sum(&EquivarianceRow::absolute), sum(&EquivarianceRow::relative)];
        let distances = [sum(&|r| 1.0 - r.clean), sum(&|r| 1.0 - r.predicted)];
        measures.into_iter().chain(distances).chain([rows.len() as f64]).collect()
    }

    fn of_sums(sums: &[f64]) -> Self {
        let &[absolute, relative, clean, predicted, rows] = sums else { return Self::default() };
        if rows == 0.0 {
            return Self::default();
        }
        let ratio_of_means = clean / predicted.max(LEAST_DISTANCE * rows);
        Self { absolute: absolute / rows, relative: relative / rows, ratio_of_means }
    }
}

/// The cosines of each view, from embeddings `[rows, width]` of clean pictures, views and predictions.
pub fn equivariance_rows(clean: &Tensor, views: &Tensor, predicted: &Tensor) -> Result<Vec<EquivarianceRow>> {
    let (predicted, clean) = (cosine_rows(views, predicted)?, cosine_rows(views, clean)?);
    Ok(predicted.into_iter().zip(clean).map(|(predicted, clean)| EquivarianceRow { predicted, clean }).collect())
}

/// The cosine of each row of `a` with that of `b`, `[rows, width]` both.
pub fn cosine_rows(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    // In 64 bits on the CPU: not every device has them, and rows are few.
    let unit = |t: &Tensor| normalise_rows(&t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?);
    Ok((unit(a)? * unit(b)?)?.sum(1)?.to_vec1()?)
}
