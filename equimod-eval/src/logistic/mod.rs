//! Multinomial logistic regression on frozen features (Kornblith et al., arXiv 1805.08974): minimizes
//! `Σ cross-entropy + w·Σθ²` by L-BFGS, with the L2 strength w chosen on validation.
//!
//! No maintained crate minimizes this for thousands of rows and dozens of classes at the speed of matrix products, so
//! the minimizer is our own ([`lbfgs`](crate::lbfgs)). Its heavy part is matrix products of the `gemm` crate, in f32
//! down to a gradient of 1e-6, then in f64.
//!
//! The preconditioner is `(a·XᵀX + 2w)⁻¹`: Böhning's bound (Multinomial logistic regression algorithm, 1992) with a,
//! the mean of p·(1−p) at the start of the fit, in place of its ½. It changes the path to the optimum, not the
//! optimum; correlated features no longer make that path long.

mod problem;

use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labeled};
use crate::lbfgs::LbfgsConfig;
use crate::matrix::{BLOCK, Real};
use crate::metrics::{hits, mean_per_class, rank};
use crate::predictions::Predictions;
use problem::{Problem, Spectrum, logits};

/// Settings of a sweep over L2 strengths.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticConfig {
    /// L2 strengths w, ascending; each fit starts from the last. Published: 45 values from 1e-6 to 1e5, evenly spaced
    /// in the logarithm. scikit-learn's `C` is 1/(2w).
    pub l2_strengths: Vec<f64>,
    /// Whether the search goes on by tenths or tens where the best strength is at an end, from 1e-6 to 1e5. Default: no.
    pub extend: bool,
    /// Whether the bias is regularized too. Published: yes (scikit-learn: no).
    pub regularize_bias: bool,
    /// Whether w is chosen by the mean over classes of their accuracy, as for data sets with that metric, rather than
    /// by top-1 accuracy. Default: no.
    pub select_by_class: bool,
    /// Settings of the minimizer, whose objective is the mean over images. Its default tolerance, 1e-5, is a tenth of
    /// scikit-learn's.
    pub lbfgs: LbfgsConfig,
}

/// Range of the L2 strengths of the protocol, with room for rounding.
const RANGE: RangeInclusive<f64> = 0.9e-6..=1.1e5;

/// `count` L2 strengths from 1e-6 to 1e5, evenly spaced in the logarithm.
pub fn l2_strengths(count: usize) -> Vec<f64> {
    let step = 11.0 / (count.max(2) - 1) as f64;
    (0..count).map(|i| 10f64.powf(-6.0 + step * i as f64)).collect()
}

impl Default for LogisticConfig {
    fn default() -> Self {
        let (l2_strengths, lbfgs) = (l2_strengths(45), LbfgsConfig::default());
        Self { l2_strengths, extend: false, regularize_bias: true, select_by_class: false, lbfgs }
    }
}

/// A fitted linear classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticClassifier {
    /// Weights `[classes, features + 1]`, row-major; the bias comes last.
    pub weights: Vec<f64>,
    /// Number of classes.
    pub classes: usize,
    /// Σ cross-entropy + w·Σθ² at the end of the fit.
    pub objective: f64,
}

/// The function from logits to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Softmax over all classes.
    Softmax,
    /// A logistic function for each class against all others: `1 / (1 + e^-logit)` (liblinear, one-vs-rest). With two
    /// classes, the weights of the second are scikit-learn's single row.
    OneVersusRest,
}

impl LogisticClassifier {
    /// Logits `[rows, classes]` of features `[rows, features]`, row-major.
    ///
    /// # Errors
    /// If the number of features is another than that of the fit.
    pub fn logits(&self, features: &Features) -> Result<Vec<f64>> {
        let columns = self.weights.len() / self.classes.max(1);
        if features.columns() + 1 != columns {
            return refuse(format!("a classifier of {} features got {}", columns.max(1) - 1, features.columns()));
        }
        let blocks = features.values().par_chunks(BLOCK * features.columns());
        Ok(blocks.flat_map_iter(|block| logits(&f64::of(block), &self.weights, columns)).collect())
    }

    /// The classes of each row, most likely first.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn ranked(&self, features: &Features) -> Result<Vec<Vec<u32>>> {
        Ok(self.logits(features)?.chunks_exact(self.classes.max(1)).map(rank).collect())
    }

    /// Probabilities of the classes of each row of `data`: `softmax(logits)`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), and if the number of classes is another.
    pub fn predict(&self, data: &Labeled) -> Result<Predictions> {
        if data.classes != self.classes {
            return refuse(format!("a classifier of {} classes got images of {}", self.classes, data.classes));
        }
        let logits = self.logits(&data.features)?;
        Predictions::from_logits(logits, data.labels.clone(), data.indices.clone(), self.classes)
    }
}

/// Fits a softmax classifier, starting from zero weights.
///
/// # Errors
/// If the images have fewer than two classes, or if the objective is not finite.
pub fn fit(data: &Labeled, l2: f64, regularize_bias: bool, config: &LbfgsConfig) -> Result<LogisticClassifier> {
    fit_linked(data, l2, regularize_bias, Link::Softmax, config)
}

/// Fits a classifier with another link, starting from zero weights.
///
/// # Errors
/// As [`fit`].
pub fn fit_linked(
    data: &Labeled,
    l2: f64,
    regularize_bias: bool,
    link: Link,
    config: &LbfgsConfig,
) -> Result<LogisticClassifier> {
    let problem = Problem::new(data, regularize_bias, link)?;
    problem.fit(l2, problem.zeros(), Spectrum::of(&data.features).as_ref(), config)
}

/// The result of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The classifier that was fitted on training and validation images.
    pub classifier: LogisticClassifier,
    /// The chosen L2 strength w.
    pub l2_strength: f64,
    /// Accuracy on validation with that strength, by which it was chosen.
    pub validation_accuracy: f64,
    /// Each L2 strength with its accuracy on validation, ascending.
    pub curve: Vec<(f64, f64)>,
}

impl Sweep {
    /// Whether a wider range of L2 strengths may do better: the best one is at an end of the range, its neighbor is worse,
    /// and validation leaves something to gain.
    pub fn is_at_an_end(&self) -> bool {
        beyond(&self.curve, self.l2_strength).is_some()
    }
}

/// The L2 strength beyond the end of a curve at which the `best` one is, if that may do better.
fn beyond(curve: &[(f64, f64)], best: f64) -> Option<f64> {
    let (end, neighbor, further) = match curve {
        [first, second, ..] if first.0 == best => (first, second, best / 10.0),
        [.., second, last] if last.0 == best => (last, second, best * 10.0),
        _ => return None,
    };
    (end.1 < 1.0 && neighbor.1 < end.1 - TIE).then_some(further)
}

/// Chooses w by the accuracy on `validation` (of equal ones the first), then fits `train` and `validation` together
/// from there.
///
/// # Errors
/// If no L2 strength is given, if the training images have fewer than two classes, or if features do not fit.
pub fn sweep(train: &Labeled, validation: &Labeled, config: &LogisticConfig) -> Result<Sweep> {
    sweep_observed(train, validation, config, &|_| ())
}

/// As [`sweep`], and passes the number of fits so far to `observer` after each; there is one for each L2 strength and a
/// last one.
///
/// # Errors
///
/// Those of [`sweep`].
pub fn sweep_observed(
    train: &Labeled,
    validation: &Labeled,
    config: &LogisticConfig,
    observer: &dyn Fn(usize),
) -> Result<Sweep> {
    let problem = Problem::new(train, config.regularize_bias, Link::Softmax)?;
    let spectrum = Spectrum::of(&train.features);
    let (mut weights, mut curve) = (problem.zeros(), Vec::new());
    let fit = |strength: f64, start: Vec<f64>| -> Result<(f64, Vec<f64>)> {
        let classifier = problem.fit(strength, start, spectrum.as_ref(), &config.lbfgs)?;
        Ok((accuracy(&classifier, validation, config.select_by_class)?, classifier.weights))
    };
    let mut best: Option<(f64, f64, Vec<f64>)> = None;
    for &strength in &config.l2_strengths {
        let accuracy;
        (accuracy, weights) = fit(strength, weights)?;
        curve.push((strength, accuracy));
        observer(curve.len());
        // Means over classes that are equal may differ in their last digits.
        if best.as_ref().is_none_or(|(highest, ..)| accuracy > *highest + TIE) {
            best = Some((accuracy, strength, weights.clone()));
        }
    }
    let Some((mut validation_accuracy, mut l2_strength, mut start)) = best else {
        return refuse("a sweep needs at least one L2 strength");
    };
    while let Some(strength) = beyond(&curve, l2_strength).filter(|further| config.extend && RANGE.contains(further)) {
        let (accuracy, weights) = fit(strength, start.clone())?;
        curve.insert(if strength < l2_strength { 0 } else { curve.len() }, (strength, accuracy));
        observer(curve.len());
        if accuracy > validation_accuracy + TIE {
            (validation_accuracy, l2_strength, start) = (accuracy, strength, weights);
        }
    }
    let both = concat(train, validation)?;
    let both = Problem::new(&both, config.regularize_bias, Link::Softmax)?;
    let classifier = both.fit(l2_strength, start, spectrum.as_ref(), &config.lbfgs)?;
    observer(curve.len() + 1);
    Ok(Sweep { classifier, l2_strength, validation_accuracy, curve })
}

/// Difference of accuracies up to which they are equal: less than that of one image.
const TIE: f64 = 1e-9;

/// Accuracy over images, or its mean over classes.
fn accuracy(classifier: &LogisticClassifier, data: &Labeled, by_class: bool) -> Result<f64> {
    let right = hits(&classifier.ranked(&data.features)?, &data.labels, 1);
    Ok(if by_class {
        mean_per_class(&right, &data.labels, data.classes)
    } else {
        right.iter().sum::<f64>() / right.len() as f64
    })
}

fn concat(a: &Labeled, b: &Labeled) -> Result<Labeled> {
    Labeled::new(a.features.concat(&b.features)?, [a.labels.as_slice(), &b.labels].concat(), a.classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stratified::stratified_split;

    fn planted(rows: usize, shuffled: bool) -> Labeled {
        let labels: Vec<u32> = (0..rows as u32).map(|i| i % 4).collect();
        let value = |i: usize| {
            let (row, column) = (i / 6, i % 6);
            let noise = ((i * 7919 % 1000) as f32 / 1000.0) - 0.5;
            let class = if shuffled { ((row * 2654435761) >> 7) % 4 } else { labels[row] as usize };
            noise * 0.3 + if column == class { 1.0 } else { 0.0 }
        };
        let features = Features::new(rows, 6, (0..rows * 6).map(value).collect()).unwrap();
        Labeled::new(features, labels, 4).unwrap()
    }

    fn accuracy(data: &Labeled) -> f64 {
        let (train, rest) = stratified_split(&data.labels, 0.4, 1);
        let (validation, test) = rest.split_at(rest.len() / 2);
        let config = LogisticConfig { l2_strengths: l2_strengths(7), ..Default::default() };
        let sweep = sweep(&data.select(&train), &data.select(validation), &config).unwrap();
        let test = data.select(test);
        let right = hits(&sweep.classifier.ranked(&test.features).unwrap(), &test.labels, 1);
        right.iter().sum::<f64>() / right.len() as f64
    }

    #[test]
    fn planted_labels_are_found_and_shuffled_ones_are_not() {
        assert_eq!(accuracy(&planted(400, false)), 1.0);
        // Chance is 1/4; with 80 test rows its standard deviation is 0.048.
        assert!((accuracy(&planted(400, true)) - 0.25).abs() < 4.0 * 0.048);
    }

    #[test]
    fn a_search_goes_on_beyond_an_end_that_is_best() {
        assert_eq!(beyond(&[(0.1, 0.6), (1.0, 0.5)], 0.1), Some(0.1 / 10.0));
        assert_eq!(beyond(&[(0.1, 0.5), (1.0, 0.6)], 1.0), Some(10.0));
        // Nothing to gain, no trend, and an end that was passed.
        assert_eq!(beyond(&[(0.1, 1.0), (1.0, 0.5)], 0.1), None);
        assert_eq!(beyond(&[(0.1, 0.6), (1.0, 0.6)], 0.1), None);
        assert_eq!(beyond(&[(0.01, 0.5), (0.1, 0.6), (1.0, 0.5)], 0.1), None);
        // Few images of many noisy features ask for more than these strengths.
        let noisy = |rows: usize, first: usize| {
            let value = |i: usize| {
                let (row, column) = (first + i / 40, i % 40);
                let bits = (row * 40 + column).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let noise = ((bits ^ (bits >> 31)) % 1000) as f32 / 500.0 - 1.0;
                noise + if column == row % 4 { 0.8 } else { 0.0 }
            };
            let features = Features::new(rows, 40, (0..rows * 40).map(value).collect()).unwrap();
            Labeled::new(features, (0..rows).map(|row| ((first + row) % 4) as u32).collect(), 4).unwrap()
        };
        let (train, validation) = (noisy(60, 0), noisy(400, 80));
        let of = |extend: bool| {
            let config = LogisticConfig { l2_strengths: vec![0.1, 1.0], extend, ..Default::default() };
            sweep(&train, &validation, &config).unwrap()
        };
        let (short, long) = (of(false), of(true));
        assert!(short.is_at_an_end() && short.curve.len() == 2 && !long.is_at_an_end(), "{:?}", long.curve);
        assert!(long.validation_accuracy > short.validation_accuracy, "{:?}", long.curve);
        assert!(
            long.curve.len() == 5 && long.l2_strength == 100.0 && long.curve.is_sorted_by(|a, b| a.0 < b.0),
            "{:?}",
            long.curve
        );
    }

    #[test]
    fn one_class_is_refused() {
        let features = Features::new(3, 1, vec![1.0, 2.0, 3.0]).unwrap();
        let data = Labeled::new(features, vec![1; 3], 2).unwrap();
        assert!(fit(&data, 1.0, true, &LbfgsConfig::default()).unwrap_err().to_string().contains("two classes"));
    }
}
