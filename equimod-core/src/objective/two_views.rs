//! Shared parts of losses over two views: gathering the rows of all processes, and sums over a cross-correlation or
//! covariance matrix of features.

use candle_core::{D, Tensor, Var};

use crate::collective::Collective;
use crate::nn::hand_written;
use crate::objective::normalize_rows;
use crate::ops;
use crate::step::Term;
use crate::{Error, Result};

/// Number of rows of a `[features, features]` matrix that are in memory at once.
const BLOCK: usize = 1024;

/// Halves of zs `[2n, width]`: view 1 and view 2, `[n, width]` each.
///
/// # Errors
///
/// If the number of rows is 0 or odd.
pub fn views(zs: &Tensor) -> Result<[Tensor; 2]> {
    let rows = zs.dim(0)?;
    if rows == 0 || !rows.is_multiple_of(2) {
        return Err(Error::uneven("a loss over two views", "rows", 2, rows));
    }
    Ok([zs.narrow(0, 0, rows / 2)?, zs.narrow(0, rows / 2, rows / 2)?])
}

/// zs `[2n, width]` with its halves exchanged, so that each row holds the other view of its image; same shape.
///
/// # Errors
///
/// If the number of rows is 0 or odd.
pub fn swapped(zs: &Tensor) -> Result<Tensor> {
    let [z1, z2] = views(zs)?;
    Ok(Tensor::cat(&[z2, z1], 0)?)
}

/// Mean of `values` `[rows]` over the rows of all processes, a scalar. Each process must have the same number of rows.
///
/// # Errors
///
/// If the collective or a tensor operation fails.
pub fn mean_over_rows(values: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    if collective.size() == 1 {
        return Ok(values.mean_all()?);
    }
    let (shape, total) = (values.shape().clone(), (values.elem_count() * collective.size()) as f64);
    let mean = (collective.all_reduce_sum(&values.detach().sum_all()?)? / total)?;
    Ok(hand_written(values, &mean, move |g| (g / total)?.broadcast_as(shape.clone()))?)
}

/// Mean cosine similarity of ps and ts `[rows, width]`, row by row, over the rows of all processes; a scalar. No
/// gradient reaches ts.
///
/// # Errors
///
/// If the shapes differ, or the collective or a tensor operation fails.
pub fn mean_cosine(ps: &Tensor, ts: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    let cosines = (normalize_rows(ps)? * normalize_rows(&ts.detach())?)?.sum(1)?;
    mean_over_rows(&cosines, collective)
}

/// The term `of(view 1, view 2)` over the rows of all processes, where `zs` `[2n, width]` holds those of this process.
/// Every process gets the same scalars, and the gradient with respect to its own rows.
///
/// # Errors
///
/// If the number of rows is 0 or odd, or `of`, the collective or a tensor operation fails.
pub fn over_all_rows(
    zs: &Tensor,
    collective: &dyn Collective,
    of: impl Fn(&Tensor, &Tensor) -> Result<Term>,
) -> Result<Term> {
    let [z1, z2] = views(zs)?;
    if collective.size() == 1 {
        return of(&z1, &z2);
    }
    let gather =
        |z: &Tensor| -> Result<Var> { Ok(Var::from_tensor(&collective.all_gather(&z.detach().contiguous()?)?)?) };
    let all = [gather(&z1)?, gather(&z2)?];
    let Term { loss, metrics } = of(&all[0], &all[1])?;
    let mut gradients = loss.backward()?;
    let rows = z1.dim(0)?;
    let mut own = Vec::with_capacity(2);
    for view in &all {
        let gradient = gradients.remove(view).map_or_else(|| view.zeros_like(), Ok)?;
        own.push(gradient.narrow(0, collective.rank() * rows, rows)?);
    }
    let gradient = Tensor::cat(&own, 0)?;
    Ok(Term { loss: hand_written(zs, &loss.detach(), move |g| gradient.broadcast_mul(g))?, metrics })
}

/// xs `[rows, width]` with the mean of each column subtracted; same shape.
///
/// # Errors
///
/// If a tensor operation fails.
pub fn centered(xs: &Tensor) -> Result<Tensor> {
    Ok(xs.broadcast_sub(&xs.mean_keepdim(0)?)?)
}

/// Result of [`sum_over_features`].
pub struct FeatureSums {
    /// Weighted total, a differentiable scalar.
    pub total: Tensor,
    /// `Σ_i diagonal(M_ii)`, a scalar.
    pub diagonal: Tensor,
    /// `Σ_{i≠j} M_ij²`, without its weight, a scalar.
    pub others: Tensor,
}

/// `Σ_i diagonal(M_ii) + weight·Σ_{i≠j} M_ij²` of the matrix `M = aᵀ·b/divisor`, with a and b `[rows, features]`.
///
/// `diagonal` maps diagonal elements `[count]` to their values and derivatives, `[count]` each. M
/// `[features, features]` is computed one block of rows at a time and never held in full.
///
/// # Errors
///
/// If the shapes differ, or a tensor operation fails.
pub fn sum_over_features(
    (a, b): (&Tensor, &Tensor),
    divisor: f64,
    weight: f64,
    diagonal: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>,
) -> Result<FeatureSums> {
    let both = Tensor::cat(&[a, b], 0)?;
    let (a, b) = (a.detach().contiguous()?, b.detach().contiguous()?);
    let features = a.dim(1)?;
    let mut sums = [Tensor::zeros((), a.dtype(), a.device())?, Tensor::zeros((), a.dtype(), a.device())?];
    let (mut gradients_of_a, mut gradient_of_b) = (Vec::new(), b.zeros_like()?);
    for first in (0..features).step_by(BLOCK) {
        let count = BLOCK.min(features - first);
        let part = a.narrow(1, first, count)?.contiguous()?;
        let m = (ops::matmul_tn(&part, &b)? / divisor)?;
        let on_diagonal = unit_rows(first, count, features, &m)?;
        let (values, derivatives) = diagonal(&(&m * &on_diagonal)?.sum(D::Minus1)?)?;
        let others = (&m * (1.0 - &on_diagonal)?)?;
        sums = [(&sums[0] + values.sum_all()?)?, (&sums[1] + others.sqr()?.sum_all()?)?];
        // dL/dM for the rows of this block.
        let slope = ((others * (2.0 * weight))? + on_diagonal.broadcast_mul(&derivatives.unsqueeze(1)?)?)?;
        let slope = (slope / divisor)?;
        gradients_of_a.push(ops::matmul_nt(&b, &slope)?);
        gradient_of_b = (gradient_of_b + ops::matmul(&part, &slope)?)?;
    }
    let gradient = Tensor::cat(&[Tensor::cat(&gradients_of_a, 1)?, gradient_of_b], 0)?;
    let total = (&sums[0] + (&sums[1] * weight)?)?;
    let [diagonal, others] = sums;
    let total = hand_written(&both, &total, move |g| gradient.broadcast_mul(g))?;
    Ok(FeatureSums { total, diagonal, others })
}

/// Rows `first` to `first + count` of the identity matrix, `[count, size]`.
fn unit_rows(first: usize, count: usize, size: usize, like: &Tensor) -> Result<Tensor> {
    let columns = (first..first + count).map(|column| column as u32).collect();
    Ok(ops::one_hot(columns, size, like.device(), like.dtype())?)
}
