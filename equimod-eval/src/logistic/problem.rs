//! The objective of logistic regression, its gradient and its preconditioner.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::{Link, LogisticClassifier};
use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labeled};
use crate::lbfgs::{LbfgsConfig, Minimum, Preconditioner, minimize};
use crate::matrix::{BLOCK, Matrix, Real, eigen, gram, matmul, sum_over_blocks};

/// The objective of a fit: the mean over images, so that a tolerance means the same for few and many images.
pub(super) struct Problem<'a> {
    features: &'a Features,
    labels: &'a [u32],
    classes: usize,
    /// Weights of a class: features + 1.
    columns: usize,
    regularize_bias: bool,
    link: Link,
}

impl<'a> Problem<'a> {
    pub(super) fn new(data: &'a Labeled, regularize_bias: bool, link: Link) -> Result<Self> {
        if data.present() < 2 {
            return refuse("a classifier needs images of at least two classes");
        }
        let (features, columns) = (&data.features, data.features.columns() + 1);
        Ok(Self { features, labels: &data.labels, classes: data.classes, columns, regularize_bias, link })
    }

    /// The L2 strength of the weight with this index: 0 for a bias that is not regularized.
    fn l2_of(&self, index: usize, l2: f64) -> f64 {
        if self.regularize_bias || index % self.columns + 1 != self.columns { l2 } else { 0.0 }
    }

    /// The mean objective and its gradient at `weights`, both `[classes, features + 1]`; matrix products in precision
    /// `T`.
    fn evaluate<T: Real>(&self, weights: &[f64], l2: f64) -> (f64, Vec<f64>) {
        let narrow: Vec<T> = weights.iter().map(|&w| T::near(w)).collect();
        let (mut value, mut gradient) =
            sum_over_blocks(self.labels.len(), weights.len(), |block| self.of_block::<T>(&narrow, block));
        let rows = self.labels.len() as f64;
        for (i, (g, w)) in gradient.iter_mut().zip(weights).enumerate() {
            let l2 = self.l2_of(i, l2);
            value += l2 * w * w;
            *g = (*g + 2.0 * l2 * w) / rows;
        }
        (value / rows, gradient)
    }

    /// The cross-entropy of one block of rows, and its gradient.
    fn of_block<T: Real>(&self, weights: &[T], block: Range<usize>) -> (f64, Vec<T>) {
        let (rows, features) = (block.len(), self.columns - 1);
        let inputs = T::of(&self.features.values()[block.start * features..block.end * features]);
        let mut residuals = logits(&inputs, weights, self.columns);
        let labels = &self.labels[block];
        let value = Arch::new().dispatch(|| residual(&mut residuals, labels, self.link));
        let mut gradient = vec![T::zero(); self.classes * self.columns];
        let (left, right) = (Matrix::rows(&residuals, self.classes).transposed(), Matrix::rows(&inputs, features));
        matmul((self.classes, rows, features), left, right, (&mut gradient, self.columns), false);
        for row in residuals.chunks_exact(self.classes) {
            for (class, &residual) in row.iter().enumerate() {
                gradient[class * self.columns + features] += residual;
            }
        }
        (value, gradient)
    }

    /// The minimum from `start`: in f32 as far as its precision goes, then in f64 if the tolerance asks for more.
    pub(super) fn fit(
        &self,
        l2: f64,
        start: Vec<f64>,
        spectrum: Option<&Spectrum>,
        config: &LbfgsConfig,
    ) -> Result<LogisticClassifier> {
        let preconditioner = spectrum.map(|spectrum| {
            let scale = self.curvature(&start);
            let ridge = 2.0 * l2 / self.labels.len() as f64;
            move |gradient: &[f64]| spectrum.inverse_times(gradient, scale, ridge)
        });
        let preconditioner = preconditioner.as_ref().map(|function| function as &Preconditioner);
        let coarse = LbfgsConfig { tolerance: config.tolerance.max(SINGLE), ..*config };
        let mut minimum = minimize(start, &coarse, preconditioner, |w| Ok(self.evaluate::<f32>(w, l2)))?;
        if config.tolerance < SINGLE || (!minimum.converged && minimum.iterations < config.iterations) {
            let rest = LbfgsConfig { iterations: config.iterations - minimum.iterations, ..*config };
            minimum = minimize(minimum.at, &rest, preconditioner, |w| Ok(self.evaluate::<f64>(w, l2)))?;
        }
        let Minimum { at: weights, value, .. } = minimum;
        Ok(LogisticClassifier { weights, classes: self.classes, objective: value * self.labels.len() as f64 })
    }

    /// The mean of p·(1−p) over at most one block of rows and all classes, at least 0.001.
    fn curvature(&self, weights: &[f64]) -> f64 {
        let (rows, features) = (self.labels.len().min(BLOCK), self.columns - 1);
        let inputs = f64::of(&self.features.values()[..rows * features]);
        let mut shares = logits(&inputs, weights, self.columns);
        residual(&mut shares, &self.labels[..rows], self.link);
        // A residual r is p or p − 1: in both cases |r|·(1 − |r|) is p·(1−p).
        let sum: f64 = shares.iter().map(|share| share.abs() * (1.0 - share.abs())).sum();
        (sum / shares.len() as f64).max(1e-3)
    }

    pub(super) fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.classes * self.columns]
    }
}

/// Lowest tolerance that f32 reaches.
const SINGLE: f64 = 1e-6;

/// Maximum number of features whose eigenvectors are worth their time.
const SPECTRAL: usize = 1024;

/// The eigenvectors and eigenvalues of `XᵀX / rows`, X with a column of ones.
pub(super) struct Spectrum {
    columns: usize,
    values: Vec<f64>,
    /// One eigenvector a row.
    vectors: Vec<f64>,
}

impl Spectrum {
    /// The spectrum of `features`; `None` if there are so many features that it would take longer than it saves.
    pub(super) fn of(features: &Features) -> Option<Self> {
        let (rows, columns) = (features.rows(), features.columns() + 1);
        if columns > SPECTRAL.min(rows) {
            return None;
        }
        let ones = |row: &[f32]| row.iter().copied().chain([1.0]).collect::<Vec<f32>>();
        let inputs: Vec<f32> = features.values().chunks_exact(columns - 1).flat_map(ones).collect();
        let (values, vectors) = eigen(gram(&inputs, columns), columns);
        Some(Self { columns, values: values.iter().map(|v| v.max(0.0) / rows as f64).collect(), vectors })
    }

    /// `(scale·XᵀX/rows + ridge)⁻¹` times each class's row of the gradient. Eigenvalues below a millionth of the
    /// largest one are f32 noise and are raised to it.
    fn inverse_times(&self, gradient: &[f64], scale: f64, ridge: f64) -> Vec<f64> {
        let n = self.columns;
        let least = self.values.first().map_or(0.0, |largest| largest * 1e-6);
        let mut out = vec![0.0; gradient.len()];
        let vectors = Matrix::rows(&self.vectors, n);
        out.par_chunks_mut(8 * n).zip(gradient.par_chunks(8 * n)).for_each(|(out, gradient)| {
            let rows = gradient.len() / n;
            let mut rotated = vec![0.0; gradient.len()];
            matmul((rows, n, n), Matrix::rows(gradient, n), vectors.transposed(), (&mut rotated, n), false);
            for row in rotated.chunks_exact_mut(n) {
                row.iter_mut().zip(&self.values).for_each(|(v, value)| *v /= scale * value.max(least) + ridge);
            }
            matmul((rows, n, n), Matrix::rows(&rotated, n), vectors, (out, n), false);
        });
        out
    }
}

/// Logits `[rows, classes]` of inputs `[rows, features]` and weights `[classes, features + 1]`, the bias last.
pub(super) fn logits<T: Real>(inputs: &[T], weights: &[T], columns: usize) -> Vec<T> {
    let (rows, classes) = (inputs.len() / (columns - 1), weights.len() / columns);
    let bias: Vec<T> = weights.chunks_exact(columns).map(|row| row[columns - 1]).collect();
    let mut logits = bias.repeat(rows);
    let weights = Matrix::rows(weights, columns).transposed();
    matmul((rows, columns - 1, classes), Matrix::rows(inputs, columns - 1), weights, (&mut logits, classes), true);
    logits
}

/// Replaces logits `[rows, classes]` by probabilities minus one-hot targets; returns the summed cross-entropy.
#[inline(always)]
fn residual<T: Real>(logits: &mut [T], labels: &[u32], link: Link) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    let mut value = 0.0;
    for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        value += match link {
            Link::Softmax => softmax(row, label as usize),
            Link::OneVersusRest => sigmoids(row, label as usize),
        };
        row[label as usize] -= T::one();
    }
    value
}

/// Replaces a row of logits by probabilities; returns its cross-entropy.
#[inline(always)]
fn softmax<T: Real>(row: &mut [T], label: usize) -> f64 {
    let highest = row.iter().fold(T::neg_infinity(), |a, &b| if b > a { b } else { a });
    let own = row[label] - highest;
    row.iter_mut().for_each(|v| *v = (*v - highest).exponential());
    let sum = row.iter().fold(T::zero(), |a, &b| a + b);
    let inverse = T::one() / sum;
    row.iter_mut().for_each(|v| *v *= inverse);
    (sum.ln() - own).wide()
}

/// Replaces a row of logits by the probability of each class against the rest; returns `Σ log(1 + e^∓logit)`.
#[inline(always)]
fn sigmoids<T: Real>(row: &mut [T], label: usize) -> f64 {
    let mut value = 0.0;
    for (class, v) in row.iter_mut().enumerate() {
        let small = (-v.abs()).exponential();
        let against = if class == label { -*v } else { *v };
        value += (against.max(T::zero()) + small.ln_1p()).wide();
        let one = T::one();
        *v = if *v >= T::zero() { one / (one + small) } else { small / (one + small) };
    }
    value
}
