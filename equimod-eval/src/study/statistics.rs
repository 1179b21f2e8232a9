//! Statistics over seeds: Student's t for paired differences, and Holm's correction.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean of paired differences with its interval and test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedT {
    /// Mean difference.
    pub mean: f64,
    /// 95 % interval: `mean ± t(0.975, n − 1)·s/√n`.
    pub interval: (f64, f64),
    /// Two-sided p-value of a mean of 0; `None` if all differences are equal, which leaves no spread to test against.
    pub p_value: Option<f64>,
}

/// Mean of `values`; not a number if there are none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of `values` with n − 1 in the denominator; `None` for fewer than two.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let (count, mean) = (values.len() as f64, mean(values));
    let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt())
}

/// Student's t interval and test of paired `differences`; `None` for fewer than two.
pub fn paired_t(differences: &[f64]) -> Option<PairedT> {
    let (mean, deviation) = (mean(differences), deviation(differences)?);
    let count = differences.len() as f64;
    let student = StudentsT::new(0.0, 1.0, count - 1.0).ok()?;
    let error = deviation / count.sqrt();
    let half = student.inverse_cdf(0.975) * error;
    let p_value = (error > 0.0).then(|| 2.0 * student.sf((mean / error).abs()));
    Some(PairedT { mean, interval: (mean - half, mean + half), p_value })
}

/// P-values adjusted by Holm's step-down procedure (1979), which bounds the probability of any false rejection in the
/// family. `None` stays out of the family.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> = p_values.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut adjusted, mut largest) = (vec![None; p_values.len()], 0.0f64);
    for (rank, &(index, p)) in order.iter().enumerate() {
        largest = largest.max(((order.len() - rank) as f64 * p).min(1.0));
        adjusted[index] = Some(largest);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_differences_have_students_interval() {
        let t = paired_t(&[0.10, 0.12, 0.08]).unwrap();
        // s = 0.02, t(0.975, 2) = 4.302653.
        let half = 4.302_652_73 * 0.02 / 3f64.sqrt();
        assert!((t.mean - 0.1).abs() < 1e-12);
        assert!((t.interval.0 - (0.1 - half)).abs() < 1e-7 && (t.interval.1 - (0.1 + half)).abs() < 1e-7);
        // With two degrees of freedom, P(|T| > t) = 1 − t/√(2 + t²).
        let value = 0.1 / (0.02 / 3f64.sqrt());
        let p = 1.0 - value / (2.0 + value * value).sqrt();
        assert!((t.p_value.unwrap() - p).abs() < 1e-9, "{:?} {p}", t.p_value);
    }

    #[test]
    fn two_differences_have_cauchys_interval_and_fewer_have_none() {
        // With one degree of freedom, t(0.975) = tan(0.475·π) and P(|T| > 1) = 1/2.
        let t = paired_t(&[0.0, 2.0]).unwrap();
        let half = (0.475 * std::f64::consts::PI).tan();
        assert!((t.interval.1 - (1.0 + half)).abs() < 1e-6 && (t.p_value.unwrap() - 0.5).abs() < 1e-9, "{t:?}");
        assert_eq!(paired_t(&[1.0]), None);
        assert_eq!(paired_t(&[]), None);
        assert_eq!(paired_t(&[0.5, 0.5]).unwrap(), PairedT { mean: 0.5, interval: (0.5, 0.5), p_value: None });
        assert_eq!((deviation(&[1.0]), deviation(&[1.0, 3.0])), (None, Some(2f64.sqrt())));
    }

    #[test]
    fn holms_procedure_multiplies_and_never_decreases() {
        let adjusted = holm(&[Some(0.01), Some(0.04), None, Some(0.03), Some(0.005)]);
        // In order: 0.005·4, 0.01·3, 0.03·2, max(0.04·1, 0.06).
        let expected = [Some(0.03), Some(0.06), None, Some(0.06), Some(0.02)];
        for (a, b) in adjusted.iter().zip(expected) {
            assert!((a.unwrap_or(-1.0) - b.unwrap_or(-1.0)).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[Some(0.6), Some(0.7)]), [Some(1.0), Some(1.0)]);
        assert!(holm(&[]).is_empty());
    }
}
