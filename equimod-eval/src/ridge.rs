//! Ridge regression from features to several targets at once (Hoerl & Kennard, 1970), to probe augmentation parameters.

use std::ops::Range;

use crate::Result;
use crate::error::refuse;
use crate::features::Features;
use crate::matrix::{Matrix, eigen, gram, matmul, sum_over_blocks};
use crate::metrics::{Estimate, bootstrap, bootstrap_mean};

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
    pub r2: Estimate,
    /// The part of each held-out row in [`r2`](Self::r2), which is their mean.
    pub by_row: Vec<f64>,
    /// Ridge that was chosen on validation, as a share of the number of training rows.
    pub ridge: f64,
    /// For a target that is always 0 or 1: the share of held-out rows predicted on the right side of ½.
    pub accuracy: Option<Estimate>,
}

/// The scores of [`probe`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeScores {
    /// Score of each target that varies over the training rows.
    pub targets: Vec<TargetScore>,
    /// R² of all of these together, each in units of its standard deviation over the training rows.
    pub pooled: Estimate,
    /// The part of each held-out row in [`pooled`](Self::pooled), which is their mean.
    pub pooled_by_row: Vec<f64>,
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
/// regression falls. Intervals are percentiles of R² and accuracy over bootstrap resamples of the held-out rows, drawn
/// from `seed`; the fit stays the same.
///
/// # Errors
/// If a split has different numbers of rows of features and targets, or other features or targets than `train`.
pub fn probe(
    train: (&Features, &ProbeTargets),
    validation: (&Features, &ProbeTargets),
    test: (&Features, &ProbeTargets),
    seed: u64,
) -> Result<ProbeScores> {
    for (split, (features, targets)) in [("training", train), ("validation", validation), ("test", test)] {
        check(split, features, targets, train)?;
    }
    let scale = Scale::of(train.0);
    let model = Ridge::new(scale.apply(train.0), train.0.columns());
    let (chosen_on, held_out) = (model.rotate(&scale.apply(validation.0)), model.rotate(&scale.apply(test.0)));
    let (mut targets, mut left_out, mut held_out_values) = (Vec::new(), Vec::new(), Vec::new());
    for (index, name) in train.1.names.iter().enumerate() {
        let known = train.1.column(index);
        let (mean, std) = mean_and_std(&known);
        if std <= 1e-7 * mean.abs().max(1e-30) {
            left_out.push(name.clone());
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
        let is_flag = known.iter().chain(&truth).all(|y| *y == 0.0 || *y == 1.0);
        let accuracy = is_flag.then(|| bootstrap_mean(&correct(&truth, &predicted), seed));
        let values = HeldOut { truth, predicted, std };
        let r2 = r2_of(std::slice::from_ref(&values), seed);
        let by_row = r2_by_row(std::slice::from_ref(&values));
        targets.push(TargetScore { name: name.clone(), r2, by_row, ridge, accuracy });
        held_out_values.push(values);
    }
    let pooled_by_row = r2_by_row(&held_out_values);
    Ok(ProbeScores { targets, pooled: r2_of(&held_out_values, seed), pooled_by_row, left_out })
}

/// Held-out values of a target with their predictions, and its standard deviation over the training rows.
struct HeldOut {
    truth: Vec<f64>,
    predicted: Vec<f64>,
    std: f64,
}

impl HeldOut {
    /// `Σ(y − ŷ)²` and `Σ(y − ȳ)²` of some rows, in units of the variance over the training rows.
    fn squares_of(&self, rows: &[usize]) -> (f64, f64) {
        let mean = rows.iter().map(|&row| self.truth[row]).sum::<f64>() / rows.len() as f64;
        let of = |other: &dyn Fn(usize) -> f64| {
            rows.iter().map(|&row| ((self.truth[row] - other(row)) / self.std).powi(2)).sum::<f64>()
        };
        (of(&|row| self.predicted[row]), of(&|_| mean))
    }
}

/// R² of targets together.
fn r2_of(targets: &[HeldOut], seed: u64) -> Estimate {
    let rows = targets.first().map_or(0, |target| target.truth.len());
    bootstrap(rows, seed, |rows| {
        let sums = targets.iter().map(|target| target.squares_of(rows));
        let (error, variation) = sums.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if variation > 0.0 { 1.0 - error / variation } else { f64::NAN }
    })
}

/// A value for each held-out row, `1 − n·(y − ŷ)²/Σ(y − ȳ)²` summed over targets: their mean is R².
fn r2_by_row(targets: &[HeldOut]) -> Vec<f64> {
    let rows: Vec<usize> = (0..targets.first().map_or(0, |target| target.truth.len())).collect();
    let variation: f64 = targets.iter().map(|target| target.squares_of(&rows).1).sum();
    let error = |row: usize| targets.iter().map(|target| target.squares_of(&[row]).0).sum::<f64>();
    rows.iter().map(|&row| 1.0 - rows.len() as f64 * error(row) / variation).collect()
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

/// Mean and standard deviation.
fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt())
}

fn squares(truth: &[f64], predicted: &[f64]) -> f64 {
    truth.iter().zip(predicted).map(|(a, b)| (a - b).powi(2)).sum()
}

/// 1 for each row predicted on the right side of ½, else 0.
fn correct(truth: &[f64], predicted: &[f64]) -> Vec<f64> {
    truth.iter().zip(predicted).map(|(y, p)| f64::from(u8::from((*y > 0.5) == (*p > 0.5)))).collect()
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
        let scores = probe(train, validation, test, 1).unwrap();
        assert_eq!(scores.left_out, ["constant"]);
        let [linear, noise, on] = &scores.targets[..] else { panic!("three targets") };
        assert!(linear.r2.value > 0.999_999 && linear.r2.interval.0 > 0.999_999, "{linear:?}");
        assert!(linear.accuracy.is_none());
        // The variance of R² of a constant guess on 300 rows is about 1/300.
        assert!(noise.r2.value < 0.06 && noise.r2.interval.0 < 0.0, "{noise:?}");
        let accuracy = on.accuracy.unwrap();
        assert!(accuracy.value > 0.95 && accuracy.interval.0 > 0.9 && on.r2.value > 0.6, "{on:?}");
        let (pooled, mean) = (scores.pooled, (linear.r2.value + noise.r2.value + on.r2.value) / 3.0);
        assert!((pooled.value - mean).abs() < 0.1);
        assert!(pooled.interval.0 < pooled.value && pooled.value < pooled.interval.1, "{pooled:?}");
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
        let validation = (almost_dead(validation.0, &[]), validation.1);
        let scores = probe((&train.0, &train.1), (&validation.0, &validation.1), (&test.0, &test.1), 1).unwrap();
        assert!(scores.targets[0].r2.value > 0.95 && scores.targets[1].r2.value > -0.1, "{scores:?}");
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
    fn the_interval_of_r2_is_that_of_many_drawings() {
        // y is uniform on ±1, and its guess is off by a normal number with a third of its variance: R² is 2/3.
        let mut generator = ChaCha8Rng::seed_from_u64(7);
        let mut draw = |count: usize| -> HeldOut {
            let normal = |generator: &mut ChaCha8Rng| (0..12).map(|_| generator.random::<f64>()).sum::<f64>() - 6.0;
            let truth: Vec<f64> = (0..count).map(|_| generator.random_range(-1.0..1.0)).collect();
            let predicted = truth.iter().map(|y| y + normal(&mut generator) / 3.0).collect();
            HeldOut { truth, predicted, std: 1.0 }
        };
        let values: Vec<f64> = (0..400).map(|_| r2_of(&[draw(200)], 1).value).collect();
        let (mean, std) = mean_and_std(&values);
        assert!((mean - 2.0 / 3.0).abs() < 0.01, "{mean}");
        // Of one drawing, the interval is about as wide as 95 % of the others.
        let (low, high) = r2_of(&[draw(200)], 1).interval;
        assert!(((high - low) / (2.0 * 1.96 * std) - 1.0).abs() < 0.3, "{low} {high} {std}");
        // R² is the mean of its parts.
        let targets = [draw(50), draw(50)];
        let mean = r2_by_row(&targets).iter().sum::<f64>() / 50.0;
        assert!((mean - r2_of(&targets, 1).value).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn splits_that_do_not_match_are_refused() {
        let (a, b) = (split(20, 1), split(21, 2));
        assert!(probe((&a.0, &a.1), (&b.0, &a.1), (&a.0, &a.1), 1).unwrap_err().to_string().contains("validation"));
        assert!(ProbeTargets::new(vec!["a".to_owned()], vec![f32::NAN]).is_err());
    }
}
