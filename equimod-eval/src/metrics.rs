//! Metrics of predictions, with bootstrap intervals.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A mean or another statistic with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The statistic of all values.
    pub value: f64,
    /// Lower and upper end of the bootstrap interval.
    pub interval: (f64, f64),
}

/// Number of bootstrap resamples.
const RESAMPLES: usize = 1000;

/// The mean of `values` and the 2.5 and 97.5 percentiles of the means of 1000 resamples; zeros if there are none.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Estimate {
    if values.is_empty() {
        return Estimate { value: 0.0, interval: (0.0, 0.0) };
    }
    bootstrap(values.len(), seed, |rows| rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64)
}

/// A statistic of rows and its 2.5 and 97.5 percentiles over 1000 resamples of the rows. Resamples on which it is not a
/// number are left out; without any others, so is the interval.
pub fn bootstrap(rows: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut resampled = vec![0; rows];
    let mut resample = || {
        resampled.iter_mut().for_each(|row| *row = generator.random_range(0..rows));
        statistic(&resampled)
    };
    let values: Vec<f64> = (0..RESAMPLES).map(|_| resample()).filter(|value| !value.is_nan()).collect();
    let interval = if values.is_empty() { (f64::NAN, f64::NAN) } else { middle(values) };
    Estimate { value: statistic(&(0..rows).collect::<Vec<_>>()), interval }
}

/// The 2.5 and 97.5 percentiles.
fn middle(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    (at(0.025), at(0.975))
}

/// The mean over classes of their accuracy, as [`mean_per_class`], with the interval of 1000 resamples in which each
/// class keeps its number of images.
pub fn bootstrap_mean_per_class(correct: &[f64], labels: &[u32], classes: usize, seed: u64) -> Estimate {
    let mut by_class = vec![Vec::new(); classes];
    correct.iter().zip(labels).for_each(|(&value, &label)| by_class[label as usize].push(value));
    by_class.retain(|values| !values.is_empty());
    if by_class.is_empty() {
        return Estimate { value: 0.0, interval: (0.0, 0.0) };
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |values: &Vec<f64>| {
        let sum: f64 = (0..values.len()).map(|_| values[generator.random_range(0..values.len())]).sum();
        sum / values.len() as f64
    };
    let mut resample = || by_class.iter().map(&mut draw).sum::<f64>() / by_class.len() as f64;
    let interval = middle((0..RESAMPLES).map(|_| resample()).collect());
    Estimate { value: mean_per_class(correct, labels, classes), interval }
}

/// 1 for each image whose label is among the first `k` of its ranked classes, else 0.
pub fn hits(ranked: &[Vec<u32>], labels: &[u32], k: usize) -> Vec<f64> {
    let hit = |(ranked, label): (&Vec<u32>, &u32)| if ranked.iter().take(k).any(|c| c == label) { 1.0 } else { 0.0 };
    ranked.iter().zip(labels).map(hit).collect()
}

/// Class indices in descending order of their score; of equal scores the lower class first.
pub fn rank(scores: &[f64]) -> Vec<u32> {
    let mut classes: Vec<u32> = (0..scores.len() as u32).collect();
    classes.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    classes
}

/// The mean of the accuracy of each class that has images.
pub fn mean_per_class(correct: &[f64], labels: &[u32], classes: usize) -> f64 {
    let (mut right, mut count) = (vec![0.0; classes], vec![0.0; classes]);
    for (value, &label) in correct.iter().zip(labels) {
        right[label as usize] += value;
        count[label as usize] += 1.0;
    }
    let shares: Vec<f64> = right.iter().zip(&count).filter(|(_, n)| **n > 0.0).map(|(r, n)| r / n).collect();
    if shares.is_empty() { 0.0 } else { shares.iter().sum::<f64>() / shares.len() as f64 }
}

/// The share of the `k` most frequent classes: the accuracy of always guessing them.
pub fn majority_share(labels: &[u32], classes: usize, k: usize) -> f64 {
    let mut count = vec![0usize; classes];
    labels.iter().for_each(|&label| count[label as usize] += 1);
    count.sort_unstable_by(|a, b| b.cmp(a));
    count.iter().take(k).sum::<usize>() as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_value_and_shrink_with_its_certainty() {
        let coin: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let estimate = bootstrap_mean(&coin, 1);
        assert_eq!(estimate.value, 0.5);
        // The standard deviation of the mean is 0.025: 95 % lie within 1.96 of it, here give or take a fifth.
        let (low, high) = estimate.interval;
        assert!((high - low - 0.098).abs() < 0.02 && low < 0.5 && high > 0.5, "{low} {high}");
        assert_eq!(bootstrap_mean(&coin, 1), estimate);
        assert_eq!(bootstrap_mean(&[1.0; 9], 2).interval, (1.0, 1.0));
    }

    #[test]
    fn ranks_hits_and_class_means() {
        let ranked = vec![rank(&[0.1, 0.7, 0.2]), rank(&[0.5, 0.5, 0.0])];
        assert_eq!(ranked, vec![vec![1, 2, 0], vec![0, 1, 2]]);
        assert_eq!(hits(&ranked, &[2, 0], 1), [0.0, 1.0]);
        assert_eq!(hits(&ranked, &[2, 0], 2), [1.0, 1.0]);
        assert_eq!(mean_per_class(&[1.0, 0.0, 1.0], &[0, 0, 3], 5), 0.75);
        assert_eq!(majority_share(&[0, 0, 3], 5, 1), 2.0 / 3.0);
        assert_eq!(majority_share(&[0, 0, 3], 5, 2), 1.0);
    }
}
