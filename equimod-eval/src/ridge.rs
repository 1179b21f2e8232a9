//! Probes of augmentation parameters: ridge regression from features to several targets at once (Hoerl & Kennard, 1970).

use std::ops::Range;

use crate::Result;
use crate::error::refuse;
use crate::features::Features;
use crate::matrix::{Matrix, eigen, gram, matmul, sum_over_blocks};

/// Numbers to be told from features, with their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    names: Vec<String>,
    /// `[rows, names]`, row-major.
    values: Vec<f32>,
}

impl Targets {
    /// Wraps row-major values; all must be finite.
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

/// How well one target is told.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetScore {
    /// Its name.
    pub name: String,
    /// `1 − Σ(y − ŷ)² / Σ(y − ȳ)²` on held-out rows, ȳ their mean; no number if it is constant there.
    pub r2: f64,
    /// The ridge that validation chose, as a share of the number of training rows.
    pub ridge: f64,
    /// For a target that is 0 or 1 everywhere: the share of held-out rows on the right side of ½.
    pub accuracy: Option<f64>,
}

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Each target that varies over the training rows.
    pub targets: Vec<TargetScore>,
    /// R² of all of these together, each in units of its deviation over the training rows.
    pub pooled: f64,
    /// Targets that are constant over the training rows.
    pub left_out: Vec<String>,
}

/// Ridges that are tried, as shares of the number of training rows: 1e-6 to 1e3, two a decade.
pub fn ridges() -> Vec<f64> {
    (0..19).map(|i| 10f64.powf(-6.0 + 0.5 * f64::from(i))).collect()
}

/// Fits every target on `train`, chooses its ridge by R² on `validation` (of equal ones the smallest), scores it on `test`.
/// Features and targets are standardised with the statistics of `train`, and nothing is fitted again: validation only
/// chooses. An on/off target is told by the side of ½ on which its regression falls, which needs no second fit.
pub fn probe(
    train: (&Features, &Targets),
    validation: (&Features, &Targets),
    test: (&Features, &Targets),
) -> Result<Probe> {
    for (part, (features, targets)) in [("training", train), ("validation", validation), ("test", test)] {
        check(part, features, targets, train)?;
    }
    let scale = Scale::of(train.0);
    let model = Ridge::new(scale.apply(train.0), train.0.columns());
    let (held, asked) = (model.turn(&scale.apply(validation.0)), model.turn(&scale.apply(test.0)));
    let mut found = Probe { targets: Vec::new(), pooled: f64::NAN, left_out: Vec::new() };
    let (mut missed, mut total) = (0.0, 0.0);
    for (index, name) in train.1.names.iter().enumerate() {
        let known = train.1.column(index);
        let (mean, deviation) = moments(&known);
        if deviation <= 1e-7 * mean.abs().max(1e-30) {
            found.left_out.push(name.clone());
            continue;
        }
        let standard: Vec<f64> = known.iter().map(|y| (y - mean) / deviation).collect();
        let products = model.products(&standard);
        let said = |ridge: f64, rows: &[f64]| model.predict(&products, ridge, rows, mean, deviation);
        let truth = validation.1.column(index);
        let errors = ridges().into_iter().map(|ridge| (ridge, squares(&truth, &said(ridge, &held))));
        let ridge = errors.reduce(|best, next| if next.1 < best.1 { next } else { best }).map_or(1.0, |best| best.0);
        let (truth, said) = (test.1.column(index), said(ridge, &asked));
        let (error, spread) = (squares(&truth, &said), squares(&truth, &vec![moments(&truth).0; truth.len()]));
        missed += error / (deviation * deviation);
        total += spread / (deviation * deviation);
        let accuracy = known.iter().chain(&truth).all(|y| *y == 0.0 || *y == 1.0).then(|| sides(&truth, &said));
        found.targets.push(TargetScore { name: name.clone(), r2: share_told(error, spread), ridge, accuracy });
    }
    found.pooled = share_told(missed, total);
    Ok(found)
}

fn check(part: &str, features: &Features, targets: &Targets, train: (&Features, &Targets)) -> Result<()> {
    if features.rows() != targets.rows() || features.rows() < 2 {
        return refuse(format!(
            "the {part} part has {} rows of features and {} of targets; it needs as many of both, and two at least",
            features.rows(),
            targets.rows()
        ));
    }
    if features.columns() != train.0.columns() || targets.names != train.1.names {
        return refuse(format!("the {part} part has other features or targets than the training part"));
    }
    Ok(())
}

fn share_told(error: f64, spread: f64) -> f64 {
    if spread > 0.0 { 1.0 - error / spread } else { f64::NAN }
}

/// Mean and deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt())
}

fn squares(truth: &[f64], said: &[f64]) -> f64 {
    truth.iter().zip(said).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The share whose side of ½ is right.
fn sides(truth: &[f64], said: &[f64]) -> f64 {
    let right = truth.iter().zip(said).filter(|(y, s)| (**y > 0.5) == (**s > 0.5)).count();
    right as f64 / truth.len() as f64
}

/// Mean and deviation of each feature; a constant one has deviation 1, so it becomes 0.
struct Scale(Vec<(f64, f64)>);

impl Scale {
    fn of(features: &Features) -> Self {
        let columns = features.columns();
        let column = |index: usize| -> Vec<f64> {
            features.values().iter().skip(index).step_by(columns).map(|&v| f64::from(v)).collect()
        };
        let safe = |(mean, deviation): (f64, f64)| {
            (mean, if deviation > 1e-7 * mean.abs().max(1e-30) { deviation } else { 1.0 })
        };
        Self((0..columns).map(|index| safe(moments(&column(index)))).collect())
    }

    fn apply(&self, features: &Features) -> Vec<f64> {
        let values = features.values().iter().zip(self.0.iter().cycle());
        values.map(|(&v, (mean, deviation))| (f64::from(v) - mean) / deviation).collect()
    }
}

/// Standardised rows in the eigenvectors of `XᵀX`: there every ridge is a division.
struct Ridge {
    columns: usize,
    eigenvalues: Vec<f64>,
    vectors: Vec<f64>,
    turned: Vec<f64>,
}

impl Ridge {
    fn new(inputs: Vec<f64>, columns: usize) -> Self {
        let (eigenvalues, vectors) = eigen(gram(&inputs, columns), columns);
        let eigenvalues = eigenvalues.into_iter().map(|v| v.max(0.0)).collect();
        let model = Self { columns, eigenvalues, vectors, turned: Vec::new() };
        Self { turned: model.turn(&inputs), ..model }
    }

    /// Rows in the eigenvectors.
    fn turn(&self, rows: &[f64]) -> Vec<f64> {
        let (n, count) = (self.columns, rows.len() / self.columns);
        let mut out = vec![0.0; rows.len()];
        let vectors = Matrix::rows(&self.vectors, n).transposed();
        matmul((count, n, n), Matrix::rows(rows, n), vectors, (&mut out, n), false);
        out
    }

    /// `Xᵀy` in the eigenvectors.
    fn products(&self, target: &[f64]) -> Vec<f64> {
        let share = |block: Range<usize>| {
            let mut sums = vec![0.0; self.columns];
            for i in block {
                let row = &self.turned[i * self.columns..][..self.columns];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * target[i]);
            }
            (0.0, sums)
        };
        sum_over_blocks(target.len(), self.columns, share).1
    }

    /// `x·(XᵀX + ridge·rows)⁻¹Xᵀy` of turned rows, in the target's own units.
    fn predict(&self, products: &[f64], ridge: f64, rows: &[f64], mean: f64, deviation: f64) -> Vec<f64> {
        let ridge = ridge * (self.turned.len() / self.columns) as f64;
        let weights: Vec<f64> = products.iter().zip(&self.eigenvalues).map(|(p, value)| p / (value + ridge)).collect();
        let said = |row: &[f64]| mean + deviation * row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
        rows.chunks_exact(self.columns).map(said).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn part(rows: usize, seed: u64) -> (Features, Targets) {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * 5).map(|_| generator.random_range(-1.0..1.0)).collect();
        let of = |row: &[f32]| {
            let told = 3.0 * row[0] - 40.0 * row[2] + 7.0;
            [told, generator.random_range(-1.0..1.0), 0.25, f32::from(u8::from(row[1] > 0.0))]
        };
        let targets = values.chunks_exact(5).flat_map(of).collect();
        let names = ["told", "noise", "constant", "on"].map(str::to_owned).to_vec();
        (Features::new(rows, 5, values).unwrap(), Targets::new(names, targets).unwrap())
    }

    #[test]
    fn a_planted_target_is_told_noise_is_not_and_a_constant_is_left_out() {
        let parts = [part(800, 1), part(300, 2), part(300, 3)];
        let [train, validation, test] = [&parts[0], &parts[1], &parts[2]].map(|(x, y)| (x, y));
        let found = probe(train, validation, test).unwrap();
        assert_eq!(found.left_out, ["constant"]);
        let [told, noise, on] = &found.targets[..] else { panic!("three targets") };
        assert!(told.r2 > 0.999_999 && told.accuracy.is_none(), "{told:?}");
        // The variance of R² of a constant guess on 300 rows is about 1/300.
        assert!(noise.r2 < 0.06, "{noise:?}");
        assert!(on.accuracy.unwrap() > 0.95 && on.r2 > 0.6, "{on:?}");
        assert!((found.pooled - (told.r2 + noise.r2 + on.r2) / 3.0).abs() < 0.1);
    }

    #[test]
    fn the_solution_satisfies_the_normal_equations() {
        let (features, targets) = part(50, 4);
        let inputs = Scale::of(&features).apply(&features);
        let model = Ridge::new(inputs.clone(), 5);
        let y = targets.column(0);
        let axes: Vec<f64> = (0..25).map(|i| f64::from(u8::from(i / 5 == i % 5))).collect();
        let weights = model.predict(&model.products(&y), 0.3, &model.turn(&axes), 0.0, 1.0);
        for column in 0..5 {
            let rows = || inputs.chunks_exact(5).zip(&y);
            let left: f64 =
                rows().map(|(x, _)| x[column] * x.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>()).sum();
            let right: f64 = rows().map(|(x, y)| x[column] * y).sum();
            assert!((left + 0.3 * 50.0 * weights[column] - right).abs() < 1e-8 * right.abs().max(1.0));
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (a, b) = (part(20, 1), part(21, 2));
        assert!(probe((&a.0, &a.1), (&b.0, &a.1), (&a.0, &a.1)).unwrap_err().to_string().contains("validation"));
        assert!(Targets::new(vec!["a".to_owned()], vec![f32::NAN]).is_err());
    }
}
