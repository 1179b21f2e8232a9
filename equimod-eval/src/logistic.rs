//! Multinomial logistic regression on frozen features (Kornblith et al., arXiv 1805.08974): minimise
//! `Σ cross-entropy + w·Σθ²` by L-BFGS, w chosen on validation.
//!
//! No kept crate minimises this for thousands of rows and dozens of classes at the speed of matrix products, so the
//! minimiser is our own ([`lbfgs`](crate::lbfgs)); everything heavy in it is matrix products of the `gemm` crate, in 32
//! bits to a gradient of 1e-6, then in 64. It starts from `(a·XᵀX + 2w)⁻¹`, which is Böhning's bound (Multinomial logistic
//! regression algorithm, 1992) with a, the mean of p·(1−p) where the fit starts, in place of its ½: that changes the way
//! to the optimum, not the optimum, and features that go together no longer make the way long.

use std::ops::Range;

use pulp::Arch;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labelled};
use crate::lbfgs::{LbfgsConfig, Minimum, Precondition, minimise};
use crate::matrix::{BLOCK, Matrix, Real, eigen, gram, matmul, sum_over_blocks};
use crate::metrics::{hits, mean_per_class, rank};
use crate::predictions::Predictions;

/// Settings of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticConfig {
    /// w, ascending; each fit starts from the last. Published: 45 points from 1e-6 to 1e5, evenly in the logarithm.
    pub penalties: Vec<f64>,
    /// Whether the bias is penalised too. Published: yes (scikit-learn: no).
    pub penalise_bias: bool,
    /// Whether the mean over classes of their accuracy chooses w, as for data sets with that metric; else top-1 does.
    pub select_by_class: bool,
    /// The minimiser, whose objective is the mean over pictures: its default tolerance, 1e-5, is a tenth of
    /// scikit-learn's.
    pub lbfgs: LbfgsConfig,
}

/// `count` penalties from 1e-6 to 1e5, evenly in the logarithm.
pub fn penalties(count: usize) -> Vec<f64> {
    let step = 11.0 / (count.max(2) - 1) as f64;
    (0..count).map(|i| 10f64.powf(-6.0 + step * i as f64)).collect()
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self { penalties: penalties(45), penalise_bias: true, select_by_class: false, lbfgs: LbfgsConfig::default() }
    }
}

/// A fitted classifier: `classes` rows of `features + 1` values, the bias last.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Row-major.
    pub weights: Vec<f64>,
    /// Number of rows.
    pub classes: usize,
    /// Σ cross-entropy + w·Σθ² at the end.
    pub objective: f64,
}

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// All classes share a row: `softmax`.
    Softmax,
    /// Each class against all others, by itself: `1 / (1 + e^-logit)` (liblinear, one-vs-rest). Of two classes the second's
    /// row is scikit-learn's one-vector form.
    OneVersusRest,
}

/// What is minimised: the mean over pictures, so that tolerances mean the same for few and many.
struct Problem<'a> {
    features: &'a Features,
    labels: &'a [u32],
    classes: usize,
    /// Of the weights: features + 1.
    columns: usize,
    penalise_bias: bool,
    link: Link,
}

impl<'a> Problem<'a> {
    fn new(data: &'a Labelled, penalise_bias: bool, link: Link) -> Result<Self> {
        if data.present() < 2 {
            return refuse("a classifier needs pictures of at least two classes");
        }
        let (features, columns) = (&data.features, data.features.columns() + 1);
        Ok(Self { features, labels: &data.labels, classes: data.classes, columns, penalise_bias, link })
    }

    /// `penalty` if the weight with this number is penalised.
    fn penalty_of(&self, index: usize, penalty: f64) -> f64 {
        if self.penalise_bias || index % self.columns + 1 != self.columns { penalty } else { 0.0 }
    }

    /// The mean objective and its gradient at `weights`, its matrix products in the precision `T`.
    fn evaluate<T: Real>(&self, weights: &[f64], penalty: f64) -> (f64, Vec<f64>) {
        let narrow: Vec<T> = weights.iter().map(|&w| T::near(w)).collect();
        let (mut value, mut gradient) =
            sum_over_blocks(self.labels.len(), weights.len(), |block| self.share::<T>(&narrow, block));
        let rows = self.labels.len() as f64;
        for (i, (g, w)) in gradient.iter_mut().zip(weights).enumerate() {
            let penalty = self.penalty_of(i, penalty);
            value += penalty * w * w;
            *g = (*g + 2.0 * penalty * w) / rows;
        }
        (value / rows, gradient)
    }

    /// The cross-entropy of one block of rows, and its gradient.
    fn share<T: Real>(&self, weights: &[T], block: Range<usize>) -> (f64, Vec<T>) {
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

    /// The minimum from `start`: in 32 bits as far as they go, in 64 where the tolerance asks for more.
    fn fit(
        &self,
        penalty: f64,
        start: Vec<f64>,
        spectrum: Option<&Spectrum>,
        config: &LbfgsConfig,
    ) -> Result<Classifier> {
        let precondition = spectrum.map(|spectrum| {
            let scale = self.curvature(&start);
            let ridge = 2.0 * penalty / self.labels.len() as f64;
            move |gradient: &[f64]| spectrum.inverse_times(gradient, scale, ridge)
        });
        let precondition = precondition.as_ref().map(|function| function as &Precondition);
        let coarse = LbfgsConfig { tolerance: config.tolerance.max(SINGLE), ..*config };
        let mut found = minimise(start, &coarse, precondition, |w| Ok(self.evaluate::<f32>(w, penalty)))?;
        if config.tolerance < SINGLE || (!found.converged && found.iterations < config.iterations) {
            let rest = LbfgsConfig { iterations: config.iterations - found.iterations, ..*config };
            found = minimise(found.at, &rest, precondition, |w| Ok(self.evaluate::<f64>(w, penalty)))?;
        }
        let Minimum { at: weights, value, .. } = found;
        Ok(Classifier { weights, classes: self.classes, objective: value * self.labels.len() as f64 })
    }

    /// The mean over at most one block of rows and all classes of p·(1−p), not below a thousandth.
    fn curvature(&self, weights: &[f64]) -> f64 {
        let (rows, features) = (self.labels.len().min(BLOCK), self.columns - 1);
        let inputs = f64::of(&self.features.values()[..rows * features]);
        let mut shares = logits(&inputs, weights, self.columns);
        residual(&mut shares, &self.labels[..rows], self.link);
        // A residual is p or p − 1: either way, its size times one less its size is p·(1−p).
        let sum: f64 = shares.iter().map(|share| share.abs() * (1.0 - share.abs())).sum();
        (sum / shares.len() as f64).max(1e-3)
    }

    fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.classes * self.columns]
    }
}

/// Below this tolerance 32 bits do not reach.
const SINGLE: f64 = 1e-6;

/// Most features whose eigenvectors are worth their time.
const SPECTRAL: usize = 1024;

/// The eigenvectors and eigenvalues of `XᵀX / rows`, X with a column of ones.
struct Spectrum {
    columns: usize,
    values: Vec<f64>,
    /// One a row.
    vectors: Vec<f64>,
}

impl Spectrum {
    /// `None` if there are so many features that it would take longer than it saves.
    fn of(features: &Features) -> Option<Self> {
        let (rows, columns) = (features.rows(), features.columns() + 1);
        if columns > SPECTRAL.min(rows) {
            return None;
        }
        let ones = |row: &[f32]| row.iter().copied().chain([1.0]).collect::<Vec<f32>>();
        let inputs: Vec<f32> = features.values().chunks_exact(columns - 1).flat_map(ones).collect();
        let (values, vectors) = eigen(gram(&inputs, columns), columns);
        Some(Self { columns, values: values.iter().map(|v| v.max(0.0) / rows as f64).collect(), vectors })
    }

    /// `(scale·XᵀX/rows + ridge)⁻¹` times each class' row of the gradient. Eigenvalues below a millionth of the largest
    /// one are noise of 32 bits and count as that.
    fn inverse_times(&self, gradient: &[f64], scale: f64, ridge: f64) -> Vec<f64> {
        let n = self.columns;
        let least = self.values.first().map_or(0.0, |largest| largest * 1e-6);
        let mut out = vec![0.0; gradient.len()];
        let vectors = Matrix::rows(&self.vectors, n);
        out.par_chunks_mut(8 * n).zip(gradient.par_chunks(8 * n)).for_each(|(out, gradient)| {
            let rows = gradient.len() / n;
            let mut turned = vec![0.0; gradient.len()];
            matmul((rows, n, n), Matrix::rows(gradient, n), vectors.transposed(), (&mut turned, n), false);
            for row in turned.chunks_exact_mut(n) {
                row.iter_mut().zip(&self.values).for_each(|(v, value)| *v /= scale * value.max(least) + ridge);
            }
            matmul((rows, n, n), Matrix::rows(&turned, n), vectors, (out, n), false);
        });
        out
    }
}

/// `[rows, classes]`: inputs times weights, and the bias, the last weight of each class.
fn logits<T: Real>(inputs: &[T], weights: &[T], columns: usize) -> Vec<T> {
    let (rows, classes) = (inputs.len() / (columns - 1), weights.len() / columns);
    let bias: Vec<T> = weights.chunks_exact(columns).map(|row| row[columns - 1]).collect();
    let mut logits = bias.repeat(rows);
    let weights = Matrix::rows(weights, columns).transposed();
    matmul((rows, columns - 1, classes), Matrix::rows(inputs, columns - 1), weights, (&mut logits, classes), true);
    logits
}

/// Turns logits into probabilities less targets; gives the cross-entropy.
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

/// Turns a row of logits into probabilities; gives its cross-entropy.
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

/// The same, each class against the rest: `Σ log(1 + e^∓logit)`.
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

impl Classifier {
    /// `[rows, classes]`, row-major.
    pub fn logits(&self, features: &Features) -> Result<Vec<f64>> {
        let columns = self.weights.len() / self.classes.max(1);
        if features.columns() + 1 != columns {
            return refuse(format!("a classifier of {} features got {}", columns.max(1) - 1, features.columns()));
        }
        let blocks = features.values().par_chunks(BLOCK * features.columns());
        Ok(blocks.flat_map_iter(|block| logits(&f64::of(block), &self.weights, columns)).collect())
    }

    /// The classes of each row, most likely first.
    pub fn ranked(&self, features: &Features) -> Result<Vec<Vec<u32>>> {
        Ok(self.logits(features)?.chunks_exact(self.classes.max(1)).map(rank).collect())
    }

    /// What the classifier says of `data`: `softmax(logits)`.
    pub fn predict(&self, data: &Labelled) -> Result<Predictions> {
        if data.classes != self.classes {
            return refuse(format!("a classifier of {} classes got pictures of {}", self.classes, data.classes));
        }
        let logits = self.logits(&data.features)?;
        Predictions::from_logits(logits, data.labels.clone(), data.pictures.clone(), self.classes)
    }
}

/// Fits one classifier by softmax, from zero.
pub fn fit(data: &Labelled, penalty: f64, penalise_bias: bool, config: &LbfgsConfig) -> Result<Classifier> {
    fit_linked(data, penalty, penalise_bias, Link::Softmax, config)
}

/// Fits one classifier, from zero.
pub fn fit_linked(
    data: &Labelled,
    penalty: f64,
    penalise_bias: bool,
    link: Link,
    config: &LbfgsConfig,
) -> Result<Classifier> {
    let problem = Problem::new(data, penalise_bias, link)?;
    problem.fit(penalty, problem.zeros(), Spectrum::of(&data.features).as_ref(), config)
}

/// What a sweep found.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Fitted on training and validation pictures.
    pub classifier: Classifier,
    /// The chosen w.
    pub penalty: f64,
    /// The accuracy on validation that chose it.
    pub validation_accuracy: f64,
    /// Each w and the accuracy on validation there, in the order of the penalties.
    pub curve: Vec<(f64, f64)>,
}

/// Chooses w on validation (the first best wins), then fits training and validation pictures from there.
pub fn sweep(train: &Labelled, validation: &Labelled, config: &LogisticConfig) -> Result<Sweep> {
    let problem = Problem::new(train, config.penalise_bias, Link::Softmax)?;
    let spectrum = Spectrum::of(&train.features);
    let (mut weights, mut curve) = (problem.zeros(), Vec::new());
    let mut best: Option<(f64, f64, Vec<f64>)> = None;
    for &penalty in &config.penalties {
        let classifier = problem.fit(penalty, weights, spectrum.as_ref(), &config.lbfgs)?;
        let accuracy = accuracy(&classifier, validation, config.select_by_class)?;
        curve.push((penalty, accuracy));
        if best.as_ref().is_none_or(|(highest, ..)| accuracy > *highest) {
            best = Some((accuracy, penalty, classifier.weights.clone()));
        }
        weights = classifier.weights;
    }
    let Some((validation_accuracy, penalty, start)) = best else { return refuse("a sweep needs at least one penalty") };
    let both = joined(train, validation)?;
    let both = Problem::new(&both, config.penalise_bias, Link::Softmax)?;
    let classifier = both.fit(penalty, start, spectrum.as_ref(), &config.lbfgs)?;
    Ok(Sweep { classifier, penalty, validation_accuracy, curve })
}

/// The share of right answers, over pictures or as the mean over classes.
fn accuracy(classifier: &Classifier, data: &Labelled, by_class: bool) -> Result<f64> {
    let right = hits(&classifier.ranked(&data.features)?, &data.labels, 1);
    Ok(if by_class {
        mean_per_class(&right, &data.labels, data.classes)
    } else {
        right.iter().sum::<f64>() / right.len() as f64
    })
}

fn joined(a: &Labelled, b: &Labelled) -> Result<Labelled> {
    Labelled::new(a.features.joined(&b.features)?, [a.labels.as_slice(), &b.labels].concat(), a.classes)
}

/// Splits off about `share` of each class for validation, drawn from `seed`: indices of training and validation rows.
/// A class of one picture stays in training.
pub fn split(labels: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let classes = labels.iter().max().map_or(0, |&c| c + 1);
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        rows.shuffle(&mut generator);
        let held =
            if rows.len() < 2 { 0 } else { ((rows.len() as f64 * share).round() as usize).clamp(1, rows.len() - 1) };
        validation.extend(rows.drain(..held));
        train.extend(rows);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(rows: usize, shuffled: bool) -> Labelled {
        let labels: Vec<u32> = (0..rows as u32).map(|i| i % 4).collect();
        let value = |i: usize| {
            let (row, column) = (i / 6, i % 6);
            let noise = ((i * 7919 % 1000) as f32 / 1000.0) - 0.5;
            let class = if shuffled { ((row * 2654435761) >> 7) % 4 } else { labels[row] as usize };
            noise * 0.3 + if column == class { 1.0 } else { 0.0 }
        };
        let features = Features::new(rows, 6, (0..rows * 6).map(value).collect()).unwrap();
        Labelled::new(features, labels, 4).unwrap()
    }

    fn accuracy(data: &Labelled) -> f64 {
        let (train, rest) = split(&data.labels, 0.4, 1);
        let (validation, test) = rest.split_at(rest.len() / 2);
        let config = LogisticConfig { penalties: penalties(7), ..Default::default() };
        let sweep = sweep(&data.select(&train), &data.select(validation), &config).unwrap();
        let test = data.select(test);
        let right = hits(&sweep.classifier.ranked(&test.features).unwrap(), &test.labels, 1);
        right.iter().sum::<f64>() / right.len() as f64
    }

    #[test]
    fn planted_labels_are_found_and_shuffled_ones_are_not() {
        assert_eq!(accuracy(&planted(400, false)), 1.0);
        // Chance is 1/4; with 80 test rows its deviation is 0.048.
        assert!((accuracy(&planted(400, true)) - 0.25).abs() < 4.0 * 0.048);
    }

    #[test]
    fn splits_are_stratified_and_repeatable() {
        let labels: Vec<u32> = (0..100).map(|i| if i == 0 { 7 } else { i % 3 }).collect();
        let (train, validation) = split(&labels, 0.2, 5);
        assert_eq!((train.clone(), validation.clone()), split(&labels, 0.2, 5));
        assert_eq!(train.len() + validation.len(), 100);
        assert!(train.contains(&0), "the class of one picture stays");
        // Three classes of 33 pictures: a fifth of each is 6.6.
        assert_eq!(validation.len(), 21);
    }

    #[test]
    fn one_class_is_refused() {
        let features = Features::new(3, 1, vec![1.0, 2.0, 3.0]).unwrap();
        let data = Labelled::new(features, vec![1; 3], 2).unwrap();
        assert!(fit(&data, 1.0, true, &LbfgsConfig::default()).unwrap_err().to_string().contains("two classes"));
    }
}
