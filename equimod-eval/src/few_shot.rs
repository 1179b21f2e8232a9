//! Few-shot episodes (Vinyals et al., arXiv 1606.04080): a few pictures of a few classes teach, others of them ask.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labelled};
use crate::lbfgs::LbfgsConfig;
use crate::logistic::{Link, fit_linked};
use crate::matrix::{Matrix, Real, dot_here, eigen, matmul};

/// Settings of the episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FewShotConfig {
    /// Classes of an episode.
    pub ways: usize,
    /// Pictures of each class that teach.
    pub shots: usize,
    /// Pictures of each class that ask.
    pub queries: usize,
    /// Number of episodes.
    pub episodes: usize,
}

impl Default for FewShotConfig {
    fn default() -> Self {
        Self { ways: 5, shots: 1, queries: 16, episodes: 2000 }
    }
}

/// What learns from an episode's support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classifier {
    /// Multinomial logistic regression, `Σ cross-entropy + ½|W|²`, the bias free: scikit-learn's default.
    Logistic,
    /// Each class against the rest, the bias penalised too: scikit-learn's `liblinear`, as AugSelf has it (Lee et al., arXiv
    /// 2111.09613).
    OneVersusRest,
    /// The nearest mean of a class (Snell et al., arXiv 1703.05175) by squared Euclidean distance; features have length 1,
    /// their means as they come.
    Prototype,
}

/// Drawn episodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episodes {
    /// For each episode and each of its classes the rows of its pictures, those that teach first.
    pub episodes: Vec<Vec<Vec<usize>>>,
    /// How many teach.
    pub shots: usize,
    /// Classes with too few pictures, which were left out; classes without any are not named.
    pub left_out: Vec<u32>,
}

/// Draws episodes from `seed`.
pub fn episodes(labels: &[u32], config: &FewShotConfig, seed: u64) -> Result<Episodes> {
    let FewShotConfig { ways, shots, queries, episodes } = *config;
    if ways < 2 || shots == 0 || queries == 0 {
        return refuse(format!("episodes of {ways} classes, {shots} shots and {queries} queries teach or ask nothing"));
    }
    let mut rows = vec![Vec::new(); labels.iter().max().map_or(0, |&label| label as usize + 1)];
    labels.iter().enumerate().for_each(|(row, &label)| rows[label as usize].push(row));
    let enough = |rows: &Vec<usize>| rows.len() >= shots + queries;
    let few = rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty() && !enough(rows));
    let left_out = few.map(|(class, _)| class as u32).collect();
    let usable: Vec<&Vec<usize>> = rows.iter().filter(|rows| enough(rows)).collect();
    if usable.len() < ways {
        return refuse(format!(
            "only {} classes have the {} pictures that an episode takes; ask for fewer than {ways} classes, or for fewer \
             shots or queries",
            usable.len(),
            shots + queries
        ));
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut episode = || {
        let classes = sample(&mut generator, usable.len(), ways);
        let pictures = |class: usize| {
            sample(&mut generator, usable[class].len(), shots + queries).iter().map(|i| usable[class][i]).collect()
        };
        classes.iter().map(pictures).collect()
    };
    Ok(Episodes { episodes: (0..episodes).map(|_| episode()).collect(), shots, left_out })
}

/// Accuracies of episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct FewShot {
    /// Of each episode, in order.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Half the width of its 95 % interval: `1.96·std/√episodes`, std without Bessel's correction.
    pub half_width: f64,
}

/// Learns and answers every episode.
pub fn evaluate(data: &Labelled, episodes: &Episodes, classifier: Classifier) -> Result<FewShot> {
    let right = |episode: &Vec<Vec<usize>>| -> Result<f64> {
        let said = answers(&data.features, episode, episodes.shots, classifier)?;
        let each = said.len() / episode.len();
        let hits = said.iter().enumerate().filter(|(i, class)| **class as usize == i / each).count();
        Ok(hits as f64 / said.len() as f64)
    };
    let accuracies = episodes.episodes.par_iter().map(right).collect::<Result<Vec<f64>>>()?;
    let count = accuracies.len().max(1) as f64;
    let mean = accuracies.iter().sum::<f64>() / count;
    let variance = accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / count;
    Ok(FewShot { accuracies, mean, half_width: 1.96 * (variance / count).sqrt() })
}

/// The class, counted within the episode, that is said of each of its queries, class by class.
pub fn answers(features: &Features, episode: &[Vec<usize>], shots: usize, classifier: Classifier) -> Result<Vec<u32>> {
    let width = episode.first().map_or(0, Vec::len);
    if shots == 0 || width <= shots || episode.iter().any(|rows| rows.len() != width) {
        return refuse(format!("an episode whose classes have {width} pictures cannot teach with {shots} of them"));
    }
    let support: Vec<usize> = episode.iter().flat_map(|rows| rows[..shots].to_vec()).collect();
    let queries: Vec<usize> = episode.iter().flat_map(|rows| rows[shots..].to_vec()).collect();
    let (support, queries) = (features.select(&support), features.select(&queries));
    let link = match classifier {
        Classifier::Prototype => return Ok(nearest_mean(&support.normalised(), &queries.normalised(), shots)),
        Classifier::Logistic => Link::Softmax,
        Classifier::OneVersusRest => Link::OneVersusRest,
    };
    let basis = orthonormal(&support);
    let labels = (0..support.rows()).map(|row| (row / shots) as u32).collect();
    let support = Labelled::new(coordinates(&support, &basis)?, labels, episode.len())?;
    let config = LbfgsConfig { tolerance: TOLERANCE, ..Default::default() };
    let classifier = fit_linked(&support, 0.5, link == Link::OneVersusRest, link, &config)?;
    let logits = classifier.logits(&coordinates(&queries, &basis)?)?;
    Ok(logits.chunks_exact(episode.len()).map(|row| first_highest(row.iter().copied())).collect())
}

/// Of the mean gradient: an episode is small, and costs little to fit closely.
const TOLERANCE: f64 = 1e-5;

/// The place of the highest value, of equal ones the first.
fn first_highest(values: impl Iterator<Item = f64>) -> u32 {
    let start = (0, f64::NEG_INFINITY);
    values.enumerate().fold(start, |best, (i, v)| if v > best.1 { (i, v) } else { best }).0 as u32
}

/// The class with the nearest mean of its `shots` rows: of `‖q − m‖²`, `‖q‖²` is the same for all.
fn nearest_mean(support: &Features, queries: &Features, shots: usize) -> Vec<u32> {
    let columns = support.columns();
    let mean = |rows: &[f32]| {
        let mut mean = vec![0.0; columns];
        for row in rows.chunks_exact(columns) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / shots as f64);
        }
        mean
    };
    let means: Vec<f64> = support.values().chunks_exact(shots * columns).flat_map(mean).collect();
    let (rows, ways) = (queries.rows(), means.len() / columns);
    let half: Vec<f64> = means.chunks_exact(columns).map(|mean| -0.5 * dot_here(mean, mean)).collect();
    let mut near = half.repeat(rows);
    let (values, means) = (f64::of(queries.values()), Matrix::rows(&means, columns).transposed());
    matmul((rows, columns, ways), Matrix::rows(&values, columns), means, (&mut near, ways), true);
    near.chunks_exact(ways).map(|row| first_highest(row.iter().copied())).collect()
}

/// An orthonormal basis of the span of the support, one row each. The optimum's rows lie in that span, for a part across
/// it would add to the penalty alone, so fitting the coordinates there is exact, and there are few of them. The basis is
/// `Λ^-½·Vᵀ·S` with `V·Λ·Vᵀ = S·Sᵀ`; directions whose share of the largest is below 1e-12 are rounding and go.
fn orthonormal(support: &Features) -> Vec<f64> {
    let (rows, columns) = (support.rows(), support.columns());
    let values = f64::of(support.values());
    let matrix = Matrix::rows(&values, columns);
    let mut products = vec![0.0; rows * rows];
    matmul((rows, columns, rows), matrix, matrix.transposed(), (&mut products, rows), false);
    let (lengths, mut vectors) = eigen(products, rows);
    let kept = lengths.iter().take_while(|length| **length > lengths[0] * 1e-12 && **length > 0.0).count();
    for (vector, length) in vectors.chunks_exact_mut(rows).zip(&lengths).take(kept) {
        vector.iter_mut().for_each(|v| *v /= length.sqrt());
    }
    let mut basis = vec![0.0; kept * columns];
    matmul((kept, rows, columns), Matrix::rows(&vectors, rows), matrix, (&mut basis, columns), false);
    basis
}

/// The rows in an orthonormal basis; one column of zeros if it is empty.
fn coordinates(features: &Features, basis: &[f64]) -> Result<Features> {
    let (rows, columns) = (features.rows(), features.columns());
    let count = basis.len() / columns;
    let mut turned = vec![0.0; rows * count.max(1)];
    let (values, basis) = (f64::of(features.values()), Matrix::rows(basis, columns).transposed());
    matmul((rows, columns, count), Matrix::rows(&values, columns), basis, (&mut turned, count.max(1)), false);
    Features::new(rows, count.max(1), turned.into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> Labelled {
        let labels: Vec<u32> = (0..60).map(|i| if i == 59 { 6 } else { i % 6 }).collect();
        let value = |i: usize| {
            let (row, column) = (i / 8, i % 8);
            (i * 7919 % 100) as f32 / 500.0 + f32::from(u8::from(labels[row] as usize == column))
        };
        Labelled::new(Features::new(60, 8, (0..480).map(value).collect()).unwrap(), labels.clone(), 7).unwrap()
    }

    #[test]
    fn clusters_are_told_apart_and_small_classes_left_out() {
        let data = clusters();
        let config = FewShotConfig { ways: 5, shots: 2, queries: 6, episodes: 20 };
        let drawn = episodes(&data.labels, &config, 3).unwrap();
        assert_eq!(drawn, episodes(&data.labels, &config, 3).unwrap());
        assert_eq!(drawn.left_out, [6]);
        for classifier in [Classifier::Logistic, Classifier::OneVersusRest, Classifier::Prototype] {
            let found = evaluate(&data, &drawn, classifier).unwrap();
            assert_eq!((found.mean, found.half_width, found.accuracies.len()), (1.0, 0.0, 20), "{classifier:?}");
        }
        for rows in drawn.episodes.iter().flatten() {
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8, "no picture twice");
        }
        assert!(episodes(&data.labels, &FewShotConfig { ways: 7, ..config }, 3).is_err());
    }

    #[test]
    fn coordinates_keep_products_and_drop_repetitions() {
        let rows = Features::new(3, 4, vec![1.0, 2.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 2.0, 0.0, 1.0]).unwrap();
        let basis = orthonormal(&rows);
        assert_eq!(basis.len(), 2 * 4);
        let turned = coordinates(&rows, &basis).unwrap();
        let product = |rows: &Features, a, b| dot_here(rows.row(a), rows.row(b));
        for (a, b) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
            assert!((product(&rows, a, b) - product(&turned, a, b)).abs() < 1e-5);
        }
    }
}
