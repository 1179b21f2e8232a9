//! Ridge regression from features to several targets at once (Hoerl & Kennard, 1970), to probe augmentation parameters.

use std::ops::Range;

use crate::Result;
use crate::error::refuse;
use crate::features::Features;
use crate::matrix::{Matrix, eigen, gram, matmul, sum_over_blocks};

/// Named numbers `[rows, targets]` to be regressed from features.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeTargets {
    names: Vec<String>,
    /// Values `[rows, names]`, row-major.
    values: Vec<f32>,
}

impl ProbeTargets {
    /// Wraps row-major values `[rows, names]`.
    ///
    /// # Errors
    /// If the values do not fill rows, or if one is not finite.
    pub fn new(names: Vec<String>, values: Vec<f32>) -> Result<Self> {
        if names.is_empty() || !values.len().is_multiple_of(names.len()) {
            return refuse(format!("{} values do not fill rows of {} targets", values.len(), names.len()));
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let (row, name) = (bad / names.len(), &names[bad % names.len()]);
            return refuse(format!("target {name} of row {row} is not finite; leave the row or the target out"));
        }
        Ok(Self { names, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.names.len()
    }

    /// The values of one target.
    fn column(&self, index: usize) -> Vec<f64> {
        self.values.iter().skip(index).step_by(self.names.len()).map(|&v| f64::from(v)).collect()
    }
}

/// The score of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetScore {
    /// Name of the target.
    pub name: String,
    /// R² = `1 − Σ(y − ŷ)² / Σ(y − ȳ)²` on held-out rows, ȳ their mean; not a number if the target is constant there.
    pub r2: f64,
    /// Ridge that was chosen on validation, as a share of the number of training rows.
    pub ridge: f64,
    /// For a target that is always 0 or 1: the share of held-out rows predicted on the right side of ½.
    pub accuracy: Option<f64>,
}

/// The scores of [`probe`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeScores {
    /// Score of each target that varies over the training rows.
    pub targets: Vec<TargetScore>,
    /// R² of all of these together, each in units of its standard deviation over the training rows.
    pub pooled: f64,
    /// Names of the targets that are constant over the training rows.
    pub left_out: Vec<String>,
}

/// The grid of ridges, as shares of the number of training rows: 1e-6 to 1e3, two values a decade.
pub fn ridges() -> Vec<f64> {
    (0..19).map(|i| 10f64.powf(-6.0 + 0.5 * f64::from(i))).collect()
}

/// Fits every target on `train`, chooses its ridge by R² on `validation` (of equal ones the smallest) and scores it
/// on `test`.
///
/// Features and targets are standardized with the statistics of `train`. Validation rows only choose; they are not
/// added to the fit. Predictions stay within the range of the target on `train`: otherwise, a single image that
/// activates a feature as no training image does could decide R². A flag is classified by the side of ½ on which its
/// regression falls.
///
/// # Errors
/// If a split has different numbers of rows of features and targets, or other features or targets than `train`.
pub fn probe(
    train: (&Features, &ProbeTargets),
    validation: (&Features, &ProbeTargets),
    test: (&Features, &ProbeTargets),
) -> Result<ProbeScores> {
    for (split, (features, targets)) in [("training", train), ("validation", validation), ("test", test)] {
        check(split, features, targets, train)?;
    }
    let scale = Scale::of(train.0);
    let model = Ridge::new(scale.apply(train.0), train.0.columns());
    let (chosen_on, held_out) = (model.rotate(&scale.apply(validation.0)), model.rotate(&scale.apply(test.0)));
    let mut scores = ProbeScores { targets: Vec::new(), pooled: f64::NAN, left_out: Vec::new() };
    let (mut residual, mut total) = (0.0, 0.0);
    for (index, name) in train.1.names.iter().enumerate() {
        let known = train.1.column(index);
        let (mean, std) = mean_and_std(&known);
        if std <= 1e-7 * mean.abs().max(1e-30) {
            scores.left_out.push(name.clone());
            continue;
        }
        let standard: Vec<f64> = known.iter().map(|y| (y - mean) / std).collect();
        let products = model.products(&standard);
        let (least, most) = known.iter().fold((f64::MAX, f64::MIN), |(a, b), &y| (a.min(y), b.max(y)));
        let predict = |ridge: f64, rows: &[f64]| {
            let mut predicted = model.predict(&products, ridge, rows, mean, std);
            predicted.iter_mut().for_each(|y| *y = y.clamp(least, most));
            predicted
        };
        let truth = validation.1.column(index);
        let errors = ridges().into_iter().map(|ridge| (ridge, squares(&truth, &predict(ridge, &chosen_on))));
        let ridge = errors.reduce(|best, next| if next.1 < best.1 { next } else { best }).map_or(1.0, |best| best.0);
        let (truth, predicted) = (test.1.column(index), predict(ridge, &held_out));
        let mean = vec![mean_and_std(&truth).0; truth.len()];
        let (error, variation) = (squares(&truth, &predicted), squares(&truth, &mean));
        residual += error / (std * std);
        total += variation / (std * std);
        let accuracy =
            known.iter().chain(&truth).all(|y| *y == 0.0 || *y == 1.0).then(|| flag_accuracy(&truth, &predicted));
        scores.targets.push(TargetScore { name: name.clone(), r2: r2(error, variation), ridge, accuracy });
    }
    scores.pooled = r2(residual, total);
    Ok(scores)
}

fn check(split: &str, features: &Features, targets: &ProbeTargets, train: (&Features, &ProbeTargets)) -> Result<()> {
    if features.rows() != targets.rows() || features.rows() < 2 {
        return refuse(format!(
            "the {split} split has {} rows of features and {} of targets; it needs the same number of both, at \
             least two",
            features.rows(),
            targets.rows()
        ));
    }
    if features.columns() != train.0.columns() || targets.names != train.1.names {
        return refuse(format!("the {split} split has other features or targets than the training split"));
    }
    Ok(())
}

fn r2(error: f64, variation: f64) -> f64 {
    if variation > 0.0 { 1.0 - error / variation } else { f64::NAN }
}

/// Mean and standard deviation.
fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt())
}

fn squares(truth: &[f64], predicted: &[f64]) -> f64 {
    truth.iter().zip(predicted).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The share of rows predicted on the right side of ½.
fn flag_accuracy(truth: &[f64], predicted: &[f64]) -> f64 {
    let correct = truth.iter().zip(predicted).filter(|(y, p)| (**y > 0.5) == (**p > 0.5)).count();
    correct as f64 / truth.len() as f64
}

/// Mean and standard deviation of each feature; a constant feature gets 1, so that it becomes 0.
struct Scale(Vec<(f64, f64)>);

impl Scale {
    fn of(features: &Features) -> Self {
        let columns = features.columns();
        let column = |index: usize| -> Vec<f64> {
            features.values().iter().skip(index).step_by(columns).map(|&v| f64::from(v)).collect()
        };
        let safe = |(mean, std): (f64, f64)| (mean, if std > 1e-7 * mean.abs().max(1e-30) { std } else { 1.0 });
        Self((0..columns).map(|index| safe(mean_and_std(&column(index)))).collect())
    }

    fn apply(&self, features: &Features) -> Vec<f64> {
        let values = features.values().iter().zip(self.0.iter().cycle());
        values.map(|(&v, (mean, std))| (f64::from(v) - mean) / std).collect()
    }
}

/// Standardized rows X in the eigenbasis of `XᵀX`, where every ridge solution is a division.
struct Ridge {
    columns: usize,
    eigenvalues: Vec<f64>,
    vectors: Vec<f64>,
    rotated: Vec<f64>,
}

impl Ridge {
    fn new(inputs: Vec<f64>, columns: usize) -> Self {
        let (eigenvalues, vectors) = eigen(gram(&inputs, columns), columns);
        let eigenvalues = eigenvalues.into_iter().map(|v| v.max(0.0)).collect();
        let model = Self { columns, eigenvalues, vectors, rotated: Vec::new() };
        Self { rotated: model.rotate(&inputs), ..model }
    }

    /// Rows `[rows, features]` rotated into the eigenbasis.
    fn rotate(&self, rows: &[f64]) -> Vec<f64> {
        let (n, count) = (self.columns, rows.len() / self.columns);
        let mut out = vec![0.0; rows.len()];
        let vectors = Matrix::rows(&self.vectors, n).transposed();
        matmul((count, n, n), Matrix::rows(rows, n), vectors, (&mut out, n), false);
        out
    }

    /// `Xᵀy` in the eigenbasis.
    fn products(&self, target: &[f64]) -> Vec<f64> {
        let share = |block: Range<usize>| {
            let mut sums = vec![0.0; self.columns];
            for i in block {
                let row = &self.rotated[i * self.columns..][..self.columns];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * target[i]);
            }
            (0.0, sums)
        };
        sum_over_blocks(target.len(), self.columns, share).1
    }

    /// Predictions `x·(XᵀX + ridge·rows)⁻¹Xᵀy` for rotated rows, in the target's own units.
    fn predict(&self, products: &[f64], ridge: f64, rows: &[f64], mean: f64, std: f64) -> Vec<f64> {
        let ridge = ridge * (self.rotated.len() / self.columns) as f64;
        let weights: Vec<f64> = products.iter().zip(&self.eigenvalues).map(|(p, value)| p / (value + ridge)).collect();
        let predicted = |row: &[f64]| mean + std * row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
        rows.chunks_exact(self.columns).map(predicted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn split(rows: usize, seed: u64) -> (Features, ProbeTargets) {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * 5).map(|_| generator.random_range(-1.0..1.0)).collect();
        let of = |row: &[f32]| {
            let linear = 3.0 * row[0] - 40.0 * row[2] + 7.0;
            [linear, generator.random_range(-1.0..1.0), 0.25, f32::from(u8::from(row[1] > 0.0))]
        };
        let targets = values.chunks_exact(5).flat_map(of).collect();
        let names = ["linear", "noise", "constant", "on"].map(str::to_owned).to_vec();
        (Features::new(rows, 5, values).unwrap(), ProbeTargets::new(names, targets).unwrap())
    }

    #[test]
    fn a_planted_target_is_recovered_noise_is_not_and_a_constant_is_left_out() {
        let splits = [split(800, 1), split(300, 2), split(300, 3)];
        let [train, validation, test] = [&splits[0], &splits[1], &splits[2]].map(|(x, y)| (x, y));
        let scores = probe(train, validation, test).unwrap();
        assert_eq!(scores.left_out, ["constant"]);
        let [linear, noise, on] = &scores.targets[..] else { panic!("three targets") };
        assert!(linear.r2 > 0.999_999 && linear.accuracy.is_none(), "{linear:?}");
        // The variance of R² of a constant guess on 300 rows is about 1/300.
        assert!(noise.r2 < 0.06, "{noise:?}");
        assert!(on.accuracy.unwrap() > 0.95 && on.r2 > 0.6, "{on:?}");
        assert!((scores.pooled - (linear.r2 + noise.r2 + on.r2) / 3.0).abs() < 0.1);
    }

    #[test]
    fn a_feature_that_wakes_up_on_one_image_does_not_decide() {
        let [train, validation, mut test] = [split(800, 1), split(300, 2), split(300, 3)];
        let almost_dead = |features: Features, awake: &[(usize, f32)]| {
            let mut values = features.values().to_vec();
            values.iter_mut().skip(4).step_by(5).for_each(|value| *value = 0.0);
            awake.iter().for_each(|&(row, value)| values[5 * row + 4] = value);
            Features::new(features.rows(), 5, values).unwrap()
        };
        let train = (almost_dead(train.0, &[(7, 1e-3)]), train.1);
        test.0 = almost_dead(test.0, &[(11, 1.0)]);
        let scores = probe((&train.0, &train.1), (&almost_dead(validation.0, &[]), &validation.1), (&test.0, &test.1));
        let scores = scores.unwrap();
        assert!(scores.targets[0].r2 > 0.95 && scores.targets[1].r2 > -0.1, "{scores:?}");
    }

    #[test]
    fn the_solution_satisfies_the_normal_equations() {
        let (features, targets) = split(50, 4);
        let inputs = Scale::of(&features).apply(&features);
        let model = Ridge::new(inputs.clone(), 5);
        let y = targets.column(0);
        let axes: Vec<f64> = (0..25).map(|i| f64::from(u8::from(i / 5 == i % 5))).collect();
        let weights = model.predict(&model.products(&y), 0.3, &model.rotate(&axes), 0.0, 1.0);
        for column in 0..5 {
            let rows = || inputs.chunks_exact(5).zip(&y);
            let left: f64 =
                rows().map(|(x, _)| x[column] * x.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>()).sum();
            let right: f64 = rows().map(|(x, y)| x[column] * y).sum();
            assert!((left + 0.3 * 50.0 * weights[column] - right).abs() < 1e-8 * right.abs().max(1.0));
        }
    }

    #[test]
    fn splits_that_do_not_match_are_refused() {
        let (a, b) = (split(20, 1), split(21, 2));
        assert!(probe((&a.0, &a.1), (&b.0, &a.1), (&a.0, &a.1)).unwrap_err().to_string().contains("validation"));
        assert!(ProbeTargets::new(vec!["a".to_owned()], vec![f32::NAN]).is_err());
    }
}
