//! Paired comparison of two models on the same test images.

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::Result;
use crate::error::refuse;
use crate::metrics::{Estimate, bootstrap_mean};
use crate::study::paired_t;

/// The difference of two models A and B on the same images, over one or more pairs of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedComparison {
    /// Accuracy of A, over images and runs.
    pub a: f64,
    /// Accuracy of B.
    pub b: f64,
    /// B − A, with the 95 % bootstrap interval over images, each resampled with all its runs.
    pub difference: Estimate,
    /// Number of images (of all runs) that only A predicts right.
    pub only_a: usize,
    /// Number of images (of all runs) that only B predicts right.
    pub only_b: usize,
    /// Two-sided p-value of McNemar's exact test on these counts; `None` for several runs, whose images are the same.
    pub p_value: Option<f64>,
    /// B − A of each pair of runs.
    pub run_differences: Vec<f64>,
    /// 95 % interval of the mean difference over pairs of runs as repeated measures (Student's t); `None` for one pair.
    pub run_interval: Option<(f64, f64)>,
}

/// Compares which images models A and B predict right (1) and wrong (0): `runs[r] = (A, B)`, each over the same
/// images in the same order.
///
/// # Errors
/// If the runs have different numbers of images, or none.
pub fn compare_paired(runs: &[(Vec<f64>, Vec<f64>)], seed: u64) -> Result<PairedComparison> {
    let count = runs.first().map_or(0, |(a, _)| a.len());
    if count == 0 || runs.iter().any(|(a, b)| a.len() != count || b.len() != count) {
        return refuse("models can be paired only on the same test images; evaluate them on the same data");
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let run_differences: Vec<f64> = runs.iter().map(|(a, b)| mean(b) - mean(a)).collect();
    let by_image: Vec<f64> =
        (0..count).map(|i| runs.iter().map(|(a, b)| b[i] - a[i]).sum::<f64>() / runs.len() as f64).collect();
    let discordant =
        |sign: f64| runs.iter().flat_map(|(a, b)| a.iter().zip(b)).filter(move |(a, b)| (*b - *a) * sign > 0.0);
    let (only_a, only_b) = (discordant(-1.0).count(), discordant(1.0).count());
    Ok(PairedComparison {
        a: runs.iter().map(|(a, _)| mean(a)).sum::<f64>() / runs.len() as f64,
        b: runs.iter().map(|(_, b)| mean(b)).sum::<f64>() / runs.len() as f64,
        difference: bootstrap_mean(&by_image, seed),
        only_a,
        only_b,
        p_value: if runs.len() == 1 { mcnemar(only_a as u64, only_b as u64) } else { None },
        run_interval: paired_t(&run_differences).map(|t| t.interval),
        run_differences,
    })
}

/// Two-sided p-value of McNemar's exact test: the probability that a fair coin for each image on which the models
/// differ gives a split at least as uneven.
fn mcnemar(only_a: u64, only_b: u64) -> Option<f64> {
    let coin = Binomial::new(0.5, only_a + only_b).ok()?;
    Some((2.0 * coin.cdf(only_a.min(only_b))).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_paired() {
        let a: Vec<f64> = (0..200).map(|i| f64::from(u8::from(i % 2 == 0))).collect();
        let mut b = a.clone();
        // B is right on ten more images, and wrong on none that A has right.
        (0..20).filter(|i| i % 2 == 1).for_each(|i| b[i] = 1.0);
        let comparison = compare_paired(&[(a.clone(), b)], 3).unwrap();
        assert_eq!((comparison.a, comparison.only_a, comparison.only_b), (0.5, 0, 10));
        assert!((comparison.difference.value - 0.05).abs() < 1e-12);
        // Unpaired, the standard deviation of the difference would be 0.05; paired it is √(0.05·0.95/200) = 0.0154.
        let (low, high) = comparison.difference.interval;
        assert!((high - low - 2.0 * 1.96 * 0.0154).abs() < 0.012 && low > 0.0, "{low} {high}");
        // Ten heads of ten: 2·2⁻¹⁰.
        assert!((comparison.p_value.unwrap() - 2f64.powi(-9)).abs() < 1e-12);
        assert_eq!(comparison.run_interval, None);
        assert_eq!(compare_paired(&[(a.clone(), a.clone())], 0).unwrap().p_value, Some(1.0));
        assert!(compare_paired(&[(a.clone(), a[1..].to_vec())], 0).is_err());
    }

    #[test]
    fn runs_are_repeated_measures() {
        let run =
            |right: usize| ((0..100).map(|i| f64::from(u8::from(i < right))).collect::<Vec<f64>>(), vec![1.0; 100]);
        let comparison = compare_paired(&[run(90), run(88), run(92)], 1).unwrap();
        assert_eq!(comparison.p_value, None);
        assert!((comparison.difference.value - 0.1).abs() < 1e-12);
        // s = 0.02, t(0.975, 2) = 4.302653.
        let half = 4.302653 * 0.02 / 3f64.sqrt();
        let (low, high) = comparison.run_interval.unwrap();
        assert!((low - (0.1 - half)).abs() < 1e-6 && (high - (0.1 + half)).abs() < 1e-6);
    }
}
