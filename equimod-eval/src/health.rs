//! Label-free properties of features: standard deviation, effective rank, alignment, uniformity.

use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::Features;
use crate::matrix::{BLOCK, Matrix, Real, dot_here, eigen, gram, matmul};

/// Standard deviation of each feature, `[features]`.
pub fn feature_stds(features: &Features) -> Vec<f64> {
    let (rows, columns) = (features.rows().max(1) as f64, features.columns());
    let mut sums = vec![0.0; columns];
    for row in features.values().chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v) / rows);
    }
    let mut squares = vec![0.0; columns];
    for row in features.values().chunks_exact(columns) {
        squares.iter_mut().zip(row).zip(&sums).for_each(|((s, &v), mean)| *s += (f64::from(v) - mean).powi(2) / rows);
    }
    squares.into_iter().map(f64::sqrt).collect()
}

/// Mean standard deviation of the features of unit-norm rows, times √features: 1 if rows spread evenly over the
/// sphere, 0 if they have collapsed (Chen & He, arXiv 2011.10566, section 4.1).
pub fn normalized_std(features: &Features) -> f64 {
    let stds = feature_stds(&features.normalized());
    stds.iter().sum::<f64>() / (stds.len() as f64).sqrt()
}

/// Effective rank RankMe (Garrido et al., arXiv 2210.02885, equation 1): `exp(−Σ p·ln p)` with `p = σ / Σσ + 1e-7`
/// and σ the singular values of the features, neither centered nor normalized.
///
/// The σ are square roots of the eigenvalues of `XᵀX` in f64. Those below 1e-7 of the largest are rounding errors and
/// count as 0.
pub fn effective_rank(features: &Features) -> f64 {
    let (eigenvalues, _) = eigen(gram(&f64::of(features.values()), features.columns()), features.columns());
    let least = eigenvalues.first().map_or(0.0, |largest| largest * 1e-14);
    let count = features.rows().min(features.columns());
    let values: Vec<f64> = eigenvalues.iter().take(count).map(|&v| if v > least { v.sqrt() } else { 0.0 }).collect();
    let sum: f64 = values.iter().sum();
    if sum == 0.0 {
        return 0.0;
    }
    let shares = values.iter().map(|value| value / sum + 1e-7);
    (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
}

/// Alignment (Wang & Isola, arXiv 2005.10242, equation 4 with α = 2): `mean ‖x − y‖²` of the unit-norm rows x of `a`
/// and y of `b`, two views of the same images, both `[images, features]`. 0 is best.
///
/// # Errors
/// If the shapes differ or there are no rows.
pub fn alignment(a: &Features, b: &Features) -> Result<f64> {
    if (a.rows(), a.columns()) != (b.rows(), b.columns()) || a.rows() == 0 {
        return refuse(format!(
            "alignment compares two views of the same images, not {} × {} and {} × {} features",
            a.rows(),
            a.columns(),
            b.rows(),
            b.columns()
        ));
    }
    let (a, b) = (a.normalized(), b.normalized());
    let square = |(&x, &y): (&f32, &f32)| (f64::from(x) - f64::from(y)).powi(2);
    Ok(a.values().iter().zip(b.values()).map(square).sum::<f64>() / a.rows() as f64)
}

/// Uniformity (Wang & Isola, arXiv 2005.10242, equation 5 with t = 2): `ln mean exp(−2‖x − y‖²)` over all pairs of
/// different unit-norm rows. About −4 is best, 0 is collapse.
///
/// # Errors
/// If there are fewer than two rows.
pub fn uniformity(features: &Features) -> Result<f64> {
    let (rows, columns) = (features.rows(), features.columns());
    if rows < 2 {
        return refuse(format!("uniformity needs at least two images, not {rows}"));
    }
    let unit = features.normalized();
    let values = f64::of(unit.values());
    let squares: Vec<f64> = values.chunks_exact(columns).map(|row| dot_here(row, row)).collect();
    let starts: Vec<usize> = (0..rows).step_by(BLOCK).collect();
    let pairs: Vec<(usize, usize)> =
        starts.iter().flat_map(|&a| starts.iter().filter(move |&&b| b >= a).map(move |&b| (a, b))).collect();
    let sum = |&(a, b): &(usize, usize)| {
        let (first, second) = (a..rows.min(a + BLOCK), b..rows.min(b + BLOCK));
        let block = |range: &std::ops::Range<usize>| &values[range.start * columns..range.end * columns];
        let (m, n) = (first.len(), second.len());
        let mut products = vec![0.0; m * n];
        let right = Matrix::rows(block(&second), columns).transposed();
        matmul((m, columns, n), Matrix::rows(block(&first), columns), right, (&mut products, n), false);
        let mut sum = 0.0;
        for (i, row) in first.zip(products.chunks_exact(n)) {
            for (j, product) in second.clone().zip(row).filter(|(j, _)| *j > i) {
                sum += (-2.0 * (squares[i] + squares[j] - 2.0 * product)).exp();
            }
        }
        sum
    };
    let sums: Vec<f64> = pairs.par_iter().map(sum).collect();
    Ok((sums.iter().sum::<f64>() / (rows as f64 * (rows - 1) as f64 / 2.0)).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: usize) -> Features {
        let value = |i: usize| f32::from(u8::from(i / n == i % n));
        Features::new(n, n, (0..n * n).map(value).collect()).unwrap()
    }

    fn collapsed() -> Features {
        Features::new(6, 3, [0.3f32, -0.2, 0.9].repeat(6)).unwrap()
    }

    #[test]
    fn an_orthonormal_basis_has_full_rank_and_a_collapsed_one_rank_1() {
        assert!((effective_rank(&identity(7)) - 7.0).abs() < 1e-4);
        assert!((effective_rank(&collapsed()) - 1.0).abs() < 1e-4);
        assert_eq!(effective_rank(&Features::new(2, 2, vec![0.0; 4]).unwrap()), 0.0);
    }

    #[test]
    fn uniformity_of_orthonormal_and_of_equal_rows() {
        assert!((uniformity(&identity(600)).unwrap() + 4.0).abs() < 1e-9);
        assert!(uniformity(&collapsed()).unwrap().abs() < 1e-6);
        assert!(uniformity(&identity(1)).is_err());
    }

    #[test]
    fn alignment_of_equal_and_of_opposite_views() {
        let a = identity(5);
        let negative = Features::new(5, 5, a.values().iter().map(|v| -2.0 * v).collect()).unwrap();
        assert_eq!(alignment(&a, &a).unwrap(), 0.0);
        assert!((alignment(&a, &negative).unwrap() - 4.0).abs() < 1e-12);
        assert!(alignment(&a, &collapsed()).is_err());
    }

    #[test]
    fn standard_deviations_have_closed_forms() {
        let two = Features::new(2, 2, vec![1.0, 5.0, 3.0, 5.0]).unwrap();
        assert_eq!(feature_stds(&two), [1.0, 0.0]);
        // Each column of the identity has standard deviation √(1/n·(1 − 1/n)).
        assert!((normalized_std(&identity(100)) - (0.99f64).sqrt()).abs() < 1e-6);
        assert!(normalized_std(&collapsed()) < 1e-6);
    }
}
