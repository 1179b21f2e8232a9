//! Multinomial logistic regression on frozen features (Kornblith et al., arXiv 1805.08974): minimise
//! `Σ cross-entropy + w·Σθ²` by L-BFGS, w chosen on validation.
//!
//! No kept crate minimises this for thousands of rows and dozens of classes at the speed of matrix products, so the
//! minimiser is our own ([`lbfgs`](crate::lbfgs)); everything heavy in it is candle's `matmul`, in 64 bits.

use candle_core::{D, Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labelled};
use crate::lbfgs::{LbfgsConfig, minimise};
use crate::metrics::{hits, rank};

/// Settings of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticConfig {
    /// w, ascending; each fit starts from the last. Published: 45 points from 1e-6 to 1e5, evenly in the logarithm.
    pub penalties: Vec<f64>,
    /// Whether the bias is penalised too. Published: yes (scikit-learn: no).
    pub penalise_bias: bool,
    /// The minimiser.
    pub lbfgs: LbfgsConfig,
}

/// `count` penalties from 1e-6 to 1e5, evenly in the logarithm.
pub fn penalties(count: usize) -> Vec<f64> {
    let step = 11.0 / (count.max(2) - 1) as f64;
    (0..count).map(|i| 10f64.powf(-6.0 + step * i as f64)).collect()
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self { penalties: penalties(45), penalise_bias: true, lbfgs: LbfgsConfig::default() }
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

/// Rows with a 1 appended, and what the objective needs of the labels.
struct Problem {
    /// `[rows, features + 1]`.
    inputs: Tensor,
    transposed: Tensor,
    /// `[rows, classes]`.
    targets: Tensor,
    classes: usize,
    columns: usize,
    penalise_bias: bool,
}

impl Problem {
    fn new(data: &Labelled, penalise_bias: bool) -> Result<Self> {
        if data.present() < 2 {
            return refuse("a classifier needs pictures of at least two classes");
        }
        let inputs = with_ones(&data.features)?;
        let mut targets = vec![0f64; data.labels.len() * data.classes];
        for (row, &label) in data.labels.iter().enumerate() {
            targets[row * data.classes + label as usize] = 1.0;
        }
        let targets = Tensor::from_vec(targets, (data.labels.len(), data.classes), &Device::Cpu)?;
        let columns = data.features.columns() + 1;
        let transposed = inputs.t()?.contiguous()?;
        Ok(Self { inputs, transposed, targets, classes: data.classes, columns, penalise_bias })
    }

    /// The objective and its gradient at `weights`.
    fn evaluate(&self, weights: &[f64], penalty: f64) -> Result<(f64, Vec<f64>)> {
        let matrix = Tensor::from_slice(weights, (self.classes, self.columns), &Device::Cpu)?;
        let logits = self.inputs.matmul(&matrix.t()?.contiguous()?)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        let exponentials = shifted.exp()?;
        let sums = exponentials.sum_keepdim(D::Minus1)?;
        let own = (&shifted * &self.targets)?.sum_keepdim(D::Minus1)?;
        let mut value = (sums.log()? - own)?.sum_all()?.to_scalar::<f64>()?;
        let residual = (exponentials.broadcast_div(&sums)? - &self.targets)?;
        let gradient = self.transposed.matmul(&residual)?.t()?.contiguous()?;
        let mut gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
        for (i, (g, w)) in gradient.iter_mut().zip(weights).enumerate() {
            if self.penalise_bias || i % self.columns + 1 != self.columns {
                value += penalty * w * w;
                *g += 2.0 * penalty * w;
            }
        }
        Ok((value, gradient))
    }

    fn fit(&self, penalty: f64, start: Vec<f64>, config: &LbfgsConfig) -> Result<Classifier> {
        let (weights, objective) = minimise(start, config, |weights| self.evaluate(weights, penalty))?;
        Ok(Classifier { weights, classes: self.classes, objective })
    }

    fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.classes * self.columns]
    }
}

fn with_ones(features: &Features) -> Result<Tensor> {
    let ones = Tensor::ones((features.rows(), 1), candle_core::DType::F64, &Device::Cpu)?;
    Ok(Tensor::cat(&[&features.tensor()?, &ones], 1)?)
}

impl Classifier {
    /// The classes of each row, most likely first.
    pub fn ranked(&self, features: &Features) -> Result<Vec<Vec<u32>>> {
        let columns = self.weights.len() / self.classes.max(1);
        if features.columns() + 1 != columns {
            return refuse(format!("a classifier of {} features got {}", columns.max(1) - 1, features.columns()));
        }
        let matrix = Tensor::from_slice(&self.weights, (self.classes, columns), &Device::Cpu)?;
        let logits = with_ones(features)?.matmul(&matrix.t()?.contiguous()?)?.to_vec2::<f64>()?;
        Ok(logits.iter().map(|row| rank(row)).collect())
    }
}

/// Fits one classifier, from zero.
pub fn fit(data: &Labelled, penalty: f64, penalise_bias: bool, config: &LbfgsConfig) -> Result<Classifier> {
    let problem = Problem::new(data, penalise_bias)?;
    problem.fit(penalty, problem.zeros(), config)
}

/// What a sweep found.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Fitted on training and validation pictures.
    pub classifier: Classifier,
    /// The chosen w.
    pub penalty: f64,
    /// Accuracy on validation with it.
    pub validation_accuracy: f64,
}

/// Chooses w on `validation` (the first best), then fits on both from there.
pub fn sweep(train: &Labelled, validation: &Labelled, config: &LogisticConfig) -> Result<Sweep> {
    let problem = Problem::new(train, config.penalise_bias)?;
    let mut weights = problem.zeros();
    let mut best: Option<(f64, f64, Vec<f64>)> = None;
    for &penalty in &config.penalties {
        let classifier = problem.fit(penalty, weights, &config.lbfgs)?;
        let right = hits(&classifier.ranked(&validation.features)?, &validation.labels, 1);
        let accuracy = right.iter().sum::<f64>() / right.len().max(1) as f64;
        if best.as_ref().is_none_or(|(highest, ..)| accuracy > *highest) {
            best = Some((accuracy, penalty, classifier.weights.clone()));
        }
        weights = classifier.weights;
    }
    let Some((validation_accuracy, penalty, start)) = best else { return refuse("a sweep needs at least one penalty") };
    let both = Problem::new(&joined(train, validation)?, config.penalise_bias)?;
    Ok(Sweep { classifier: both.fit(penalty, start, &config.lbfgs)?, penalty, validation_accuracy })
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
