//! Few-shot episodes (Vinyals et al., arXiv 1606.04080): a classifier learns from a support set of a few classes and
//! is tested on query images of them.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labeled};
use crate::lbfgs::LbfgsConfig;
use crate::logistic::{Link, fit_linked};
use crate::matrix::{Matrix, Real, dot_here, eigen, matmul};

/// Settings of a set of episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpisodeConfig {
    /// Classes of an episode. Default: 5.
    pub ways: usize,
    /// Support images of each class. Default: 1.
    pub shots: usize,
    /// Query images of each class. Default: 16.
    pub queries: usize,
    /// Number of episodes. Default: 2000.
    pub episodes: usize,
}

impl Default for EpisodeConfig {
    fn default() -> Self {
        Self { ways: 5, shots: 1, queries: 16, episodes: 2000 }
    }
}

/// A classifier that learns from the support set of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpisodeClassifier {
    /// Multinomial logistic regression, `Σ cross-entropy + ½|W|²` with an unregularized bias: scikit-learn's default.
    Logistic,
    /// Logistic regression of each class against the rest, the bias regularized too: scikit-learn's `liblinear`, as
    /// in AugSelf (Lee et al., arXiv 2111.09613).
    OneVersusRest,
    /// The nearest class mean by squared Euclidean distance (Snell et al., arXiv 1703.05175). Features have unit
    /// norm, their means are not normalized.
    Prototype,
}

/// Drawn episodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episodes {
    /// For each episode and each of its classes, the rows of its images: the support first, then the queries.
    pub episodes: Vec<Vec<Vec<usize>>>,
    /// Number of support images of each class.
    pub shots: usize,
    /// Classes that were left out because they have too few images, though at least one.
    pub left_out: Vec<u32>,
}

/// Number of classes with at least `images` images; `labels` are the classes of all rows.
pub fn usable_classes(labels: &[u32], images: usize) -> usize {
    let mut counts = vec![0; labels.iter().max().map_or(0, |&label| label as usize + 1)];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts.into_iter().filter(|&count: &usize| count >= images.max(1)).count()
}

/// Draws episodes from `seed`; `labels` are the classes of all rows.
///
/// # Errors
/// If the settings make no episode, or too few classes have enough images.
pub fn episodes(labels: &[u32], config: &EpisodeConfig, seed: u64) -> Result<Episodes> {
    let EpisodeConfig { ways, shots, queries, episodes } = *config;
    if ways < 2 || shots == 0 || queries == 0 {
        return refuse(format!(
            "episodes of {ways} classes, {shots} shots and {queries} queries are empty; give at least 2, 1 and 1"
        ));
    }
    let mut rows = vec![Vec::new(); labels.iter().max().map_or(0, |&label| label as usize + 1)];
    labels.iter().enumerate().for_each(|(row, &label)| rows[label as usize].push(row));
    let enough = |rows: &Vec<usize>| rows.len() >= shots + queries;
    let few = rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty() && !enough(rows));
    let left_out = few.map(|(class, _)| class as u32).collect();
    let usable: Vec<&Vec<usize>> = rows.iter().filter(|rows| enough(rows)).collect();
    if usable.is_empty() {
        let most = rows.iter().map(Vec::len).max().unwrap_or(0);
        return refuse(format!(
            "no class has the {} test images that an episode of {shots} shots and {queries} queries needs: the largest has \
             {most}",
            shots + queries
        ));
    }
    if usable.len() < ways {
        return refuse(format!(
            "only {} classes have the {} test images that an episode needs, and episodes have {ways} classes; give {}fewer shots or \
             queries",
            usable.len(),
            shots + queries,
            if ways > 2 { "fewer classes, " } else { "" }
        ));
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut episode = || {
        let classes = sample(&mut generator, usable.len(), ways);
        let images = |class: usize| {
            sample(&mut generator, usable[class].len(), shots + queries).iter().map(|i| usable[class][i]).collect()
        };
        classes.iter().map(images).collect()
    };
    Ok(Episodes { episodes: (0..episodes).map(|_| episode()).collect(), shots, left_out })
}

/// Accuracy over episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeScores {
    /// Accuracy of each episode.
    pub accuracies: Vec<f64>,
    /// Mean accuracy.
    pub mean: f64,
    /// Half the width of the mean's 95 % interval: `1.96·std/√episodes`, std without Bessel's correction.
    pub half_width: f64,
}

/// Accuracy of a classifier on every episode.
///
/// # Errors
/// If a class of an episode has no query image, or a fit fails.
pub fn evaluate(data: &Labeled, episodes: &Episodes, classifier: EpisodeClassifier) -> Result<EpisodeScores> {
    let accuracy = |episode: &Vec<Vec<usize>>| -> Result<f64> {
        let predicted = predict_queries(&data.features, episode, episodes.shots, classifier)?;
        let each = predicted.len() / episode.len();
        let hits = predicted.iter().enumerate().filter(|(i, class)| **class as usize == i / each).count();
        Ok(hits as f64 / predicted.len() as f64)
    };
    let accuracies = episodes.episodes.par_iter().map(accuracy).collect::<Result<Vec<f64>>>()?;
    let count = accuracies.len().max(1) as f64;
    let mean = accuracies.iter().sum::<f64>() / count;
    let variance = accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / count;
    Ok(EpisodeScores { accuracies, mean, half_width: 1.96 * (variance / count).sqrt() })
}

/// The predicted class, as an index within the episode, of each query, class by class.
///
/// # Errors
/// If the classes have different numbers of images or no query image, or a fit fails.
pub fn predict_queries(
    features: &Features,
    episode: &[Vec<usize>],
    shots: usize,
    classifier: EpisodeClassifier,
) -> Result<Vec<u32>> {
    let width = episode.first().map_or(0, Vec::len);
    if shots == 0 || width <= shots || episode.iter().any(|rows| rows.len() != width) {
        return refuse(format!("an episode with {width} images of each class cannot have {shots} support images"));
    }
    let support: Vec<usize> = episode.iter().flat_map(|rows| rows[..shots].to_vec()).collect();
    let queries: Vec<usize> = episode.iter().flat_map(|rows| rows[shots..].to_vec()).collect();
    let (support, queries) = (features.select(&support), features.select(&queries));
    let link = match classifier {
        EpisodeClassifier::Prototype => return Ok(nearest_mean(&support.normalized(), &queries.normalized(), shots)),
        EpisodeClassifier::Logistic => Link::Softmax,
        EpisodeClassifier::OneVersusRest => Link::OneVersusRest,
    };
    let basis = orthonormal(&support);
    let labels = (0..support.rows()).map(|row| (row / shots) as u32).collect();
    let support = Labeled::new(coordinates(&support, &basis)?, labels, episode.len())?;
    let config = LbfgsConfig { tolerance: TOLERANCE, ..Default::default() };
    let classifier = fit_linked(&support, 0.5, link == Link::OneVersusRest, link, &config)?;
    let logits = classifier.logits(&coordinates(&queries, &basis)?)?;
    Ok(logits.chunks_exact(episode.len()).map(|row| argmax(row.iter().copied())).collect())
}

/// Tolerance of the mean gradient: an episode is small and costs little to fit closely.
const TOLERANCE: f64 = 1e-5;

/// The index of the highest value; of equal ones the first.
fn argmax(values: impl Iterator<Item = f64>) -> u32 {
    let start = (0, f64::NEG_INFINITY);
    values.enumerate().fold(start, |best, (i, v)| if v > best.1 { (i, v) } else { best }).0 as u32
}

/// The class whose mean of `shots` support rows is nearest to each query. `‖q‖²` in `‖q − m‖²` is the same for all
/// classes.
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
    near.chunks_exact(ways).map(|row| argmax(row.iter().copied())).collect()
}

/// An orthonormal basis of the span of the support, one vector a row.
///
/// The optimal weights lie in that span, because a component orthogonal to it would only add to the L2 term. Fitting
/// in these few coordinates is therefore exact. The basis is `Λ^-½·Vᵀ·S` with `V·Λ·Vᵀ = S·Sᵀ`; eigenvalues below
/// 1e-12 of the largest are rounding errors and are dropped.
fn orthonormal(support: &Features) -> Vec<f64> {
    let (rows, columns) = (support.rows(), support.columns());
    let values = f64::of(support.values());
    let matrix = Matrix::rows(&values, columns);
    let mut products = vec![0.0; rows * rows];
    matmul((rows, columns, rows), matrix, matrix.transposed(), (&mut products, rows), false);
    let (eigenvalues, mut vectors) = eigen(products, rows);
    let rank = eigenvalues.iter().take_while(|value| **value > eigenvalues[0] * 1e-12 && **value > 0.0).count();
    for (vector, value) in vectors.chunks_exact_mut(rows).zip(&eigenvalues).take(rank) {
        vector.iter_mut().for_each(|v| *v /= value.sqrt());
    }
    let mut basis = vec![0.0; rank * columns];
    matmul((rank, rows, columns), Matrix::rows(&vectors, rows), matrix, (&mut basis, columns), false);
    basis
}

/// The coordinates of the rows in an orthonormal basis; one column of zeros if it is empty.
fn coordinates(features: &Features, basis: &[f64]) -> Result<Features> {
    let (rows, columns) = (features.rows(), features.columns());
    let count = basis.len() / columns;
    let mut rotated = vec![0.0; rows * count.max(1)];
    let (values, basis) = (f64::of(features.values()), Matrix::rows(basis, columns).transposed());
    matmul((rows, columns, count), Matrix::rows(&values, columns), basis, (&mut rotated, count.max(1)), false);
    Features::new(rows, count.max(1), rotated.into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> Labeled {
        let labels: Vec<u32> = (0..60).map(|i| if i == 59 { 6 } else { i % 6 }).collect();
        let value = |i: usize| {
            let (row, column) = (i / 8, i % 8);
            (i * 7919 % 100) as f32 / 500.0 + f32::from(u8::from(labels[row] as usize == column))
        };
        Labeled::new(Features::new(60, 8, (0..480).map(value).collect()).unwrap(), labels.clone(), 7).unwrap()
    }

    #[test]
    fn clusters_are_separated_and_small_classes_left_out() {
        let data = clusters();
        let config = EpisodeConfig { ways: 5, shots: 2, queries: 6, episodes: 20 };
        let drawn = episodes(&data.labels, &config, 3).unwrap();
        assert_eq!(drawn, episodes(&data.labels, &config, 3).unwrap());
        assert_eq!(drawn.left_out, [6]);
        for classifier in [EpisodeClassifier::Logistic, EpisodeClassifier::OneVersusRest, EpisodeClassifier::Prototype]
        {
            let scores = evaluate(&data, &drawn, classifier).unwrap();
            assert_eq!((scores.mean, scores.half_width, scores.accuracies.len()), (1.0, 0.0, 20), "{classifier:?}");
        }
        for rows in drawn.episodes.iter().flatten() {
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8, "no image twice");
        }
        assert!(episodes(&data.labels, &EpisodeConfig { ways: 7, ..config }, 3).is_err());
    }

    #[test]
    fn coordinates_keep_products_and_drop_repetitions() {
        let rows = Features::new(3, 4, vec![1.0, 2.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 2.0, 0.0, 1.0]).unwrap();
        let basis = orthonormal(&rows);
        assert_eq!(basis.len(), 2 * 4);
        let rotated = coordinates(&rows, &basis).unwrap();
        let product = |rows: &Features, a, b| dot_here(rows.row(a), rows.row(b));
        for (a, b) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
            assert!((product(&rows, a, b) - product(&rotated, a, b)).abs() < 1e-5);
        }
    }
}
