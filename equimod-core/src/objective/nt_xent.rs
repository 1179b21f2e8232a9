//! NT-Xent, the normalized temperature-scaled cross-entropy (Chen et al., arXiv 2002.05709, equation 1).
//!
//! Rows are normalized to length 1 (as `F.normalize` does, with eps = 1e-12), and `S = Y·Yᵀ/T`. The loss is the mean
//! over rows of `log Σ_j exp S_ij − S_ip`, where `p` is the positive of row `i` and `j` runs over all rows but `i`.
//!
//! Similarities are computed one block of rows at a time, and their gradient together with the loss, so that memory is
//! linear in the number of rows rather than quadratic.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::collective::Collective;
use crate::nn::hand_written;
use crate::ops::{self, Positives, RowTargets};
use crate::{Error, Result};

/// Number of rows of the similarity matrix that are in memory at once.
pub(super) const BLOCK: usize = 1024;

/// Choice of each row's negatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// All other rows (published).
    #[default]
    All,
    /// All other rows except those of the sibling view (the other view of the same image): its embedding and its
    /// prediction.
    ExcludeSibling,
    /// As `all`, with the positive left out of the denominator: decoupled contrastive learning (Yeh et al., arXiv
    /// 2110.06848).
    Decoupled,
}

/// Rows of xs `[rows, width]`, each divided by max(‖row‖, 1e-12), as by `torch.nn.functional.normalize`; same shape.
///
/// # Errors
///
/// If xs is not a matrix, or a tensor operation fails.
pub fn normalize_rows(xs: &Tensor) -> Result<Tensor> {
    // The lower bound is applied under the root, so that the derivative of ‖x‖ at 0 is never needed.
    let lengths = xs.sqr()?.sum_keepdim(1)?.maximum(1e-24)?.sqrt()?;
    Ok(xs.broadcast_div(&lengths)?)
}

/// NT-Xent loss of the embeddings `zs` `[2n, width]` with all other rows as negatives, a scalar. Row i ± n is the
/// positive of row i.
///
/// With several processes, each passes its own rows; the loss and its gradient are those of all rows together.
///
/// # Errors
///
/// If the number of rows is 0 or odd, or a tensor operation fails.
pub fn nt_xent(zs: &Tensor, temperature: f64, collective: &dyn Collective) -> Result<Tensor> {
    nt_xent_with(zs, temperature, Negatives::All, collective)
}

/// [`nt_xent`] with a choice of negatives. For [`Negatives::ExcludeSibling`], each half of `zs` must itself consist of
/// two halves (view 1, view 2); the siblings of a row are the rows of the other view of its image, in both halves.
///
/// # Errors
///
/// If the number of rows is 0 or no multiple of 2 (of 4 for [`Negatives::ExcludeSibling`]), or a tensor operation
/// fails.
pub fn nt_xent_with(
    zs: &Tensor,
    temperature: f64,
    negatives: Negatives,
    collective: &dyn Collective,
) -> Result<Tensor> {
    check_rows(zs.dim(0)?, negatives)?;
    let ys = normalize_rows(zs)?;
    let (loss, gradient) = value_and_gradient(&ys.detach(), temperature, negatives, collective)?;
    Ok(hand_written(&ys, &loss, move |g| gradient.broadcast_mul(g))?)
}

/// Checks that the number of rows divides into views.
pub(super) fn check_rows(rows: usize, negatives: Negatives) -> Result<()> {
    let divisor = if negatives == Negatives::ExcludeSibling { 4 } else { 2 };
    match rows > 0 && rows.is_multiple_of(divisor) {
        true => Ok(()),
        false => Err(Error::uneven("NT-Xent", "rows", divisor, rows)),
    }
}

/// Loss over the rows of all processes, a scalar, and its gradient with respect to this process's `ys`
/// `[local, width]`.
fn value_and_gradient(
    ys: &Tensor,
    temperature: f64,
    negatives: Negatives,
    collective: &dyn Collective,
) -> Result<(Tensor, Tensor)> {
    let all = collective.all_gather(ys)?.contiguous()?;
    let (local, total) = (ys.dim(0)?, all.dim(0)?);
    let offset = collective.rank() * local;
    let scale = 1.0 / (total as f64 * temperature);
    let transposed = all.t()?.contiguous()?;
    let mut gradient = all.zeros_like()?;
    let mut losses = Vec::new();
    for start in (0..local).step_by(BLOCK) {
        let length = BLOCK.min(local - start);
        let block = all.narrow(0, offset + start, length)?.contiguous()?;
        let similarities = ops::matmul(&(&block / temperature)?, &transposed)?;
        let targets = RowTargets { first: start, local, offset, ..targets_of(negatives) };
        let (of_rows, weights) = ops::cross_entropy_rows(similarities, &targets)?;
        losses.push(of_rows.sum_all()?.to_dtype(ys.dtype())?);
        // S = Y·Yᵀ: a row of dS contributes to its own row of dY and, transposed, to every row it was compared with.
        let own = ops::matmul(&weights, &all)?;
        gradient = (gradient + ops::matmul_tn(&weights, &block)?)?;
        let own = own.pad_with_zeros(0, offset + start, total - offset - start - length)?;
        gradient = (gradient + own)?;
    }
    let loss = (collective.all_reduce_sum(&Tensor::stack(&losses, 0)?.sum_all()?)? / total as f64)?;
    let gradient = collective.all_reduce_sum(&gradient)?.narrow(0, offset, local)?;
    Ok((loss, (gradient * scale)?.contiguous()?))
}

/// Positive of each row and the columns it is compared with.
pub(super) fn targets_of(negatives: Negatives) -> RowTargets {
    let positives = match negatives {
        Negatives::All | Negatives::Decoupled => Positives::OtherHalf,
        Negatives::ExcludeSibling => Positives::OtherHalfWithoutSiblings,
    };
    let decoupled = negatives == Negatives::Decoupled;
    RowTargets { first: 0, local: 0, offset: 0, positives, decoupled }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::collective::SingleProcess;

    fn rows(seed: u64, count: usize, width: usize) -> Tensor {
        let value = |i: usize| ((i as f64 + seed as f64) * 0.7391).sin() + ((i * i) as f64 * 0.113).cos();
        Tensor::from_vec((0..count * width).map(value).collect::<Vec<f64>>(), (count, width), &Device::Cpu).unwrap()
    }

    fn loss(z: &Tensor, negatives: Negatives) -> f64 {
        nt_xent_with(z, 0.3, negatives, &SingleProcess).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for negatives in [Negatives::All, Negatives::ExcludeSibling, Negatives::Decoupled] {
            let z = Var::from_tensor(&rows(3, 8, 5)).unwrap();
            let gradients = nt_xent_with(&z, 0.3, negatives, &SingleProcess).unwrap().backward().unwrap();
            let gradient = gradients.get(&z).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = z.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for i in 0..values.len() {
                let moved = |by: f64| {
                    let mut v = values.clone();
                    v[i] += by;
                    loss(&Tensor::from_vec(v, (8, 5), &Device::Cpu).unwrap(), negatives)
                };
                // Central differences have an error of order step² = 1e-10.
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((gradient[i] - expected).abs() < 1e-8, "{negatives:?} {i}: {} {expected}", gradient[i]);
            }
        }
    }

    #[test]
    fn scaling_rows_swapping_halves_and_permuting_pairs_change_nothing() {
        let z = rows(1, 12, 4);
        let value = loss(&z, Negatives::All);
        let scales = Tensor::from_vec((1..=12).map(f64::from).collect(), (12, 1), &Device::Cpu).unwrap();
        let scaled = z.broadcast_mul(&scales).unwrap();
        let order = |o: [u32; 12]| z.index_select(&Tensor::new(&o, &Device::Cpu).unwrap(), 0).unwrap();
        let swapped = order([6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
        let permuted = order([2, 0, 1, 5, 4, 3, 8, 6, 7, 11, 10, 9]);
        for other in [scaled, swapped, permuted] {
            assert!((loss(&other, Negatives::All) - value).abs() < 1e-12);
        }
    }

    #[test]
    fn blocks_change_nothing() {
        // More rows than fit in one block, against the definition.
        let z = normalize_rows(&rows(9, 2 * BLOCK + 20, 3)).unwrap();
        let n = BLOCK + 10;
        let s = (z.matmul(&z.t().unwrap()).unwrap() / 0.3).unwrap().to_vec2::<f64>().unwrap();
        let row_loss = |i: usize| {
            let sum: f64 = (0..2 * n).filter(|&j| j != i).map(|j| s[i][j].exp()).sum();
            sum.ln() - s[i][(i + n) % (2 * n)]
        };
        let expected = (0..2 * n).map(row_loss).sum::<f64>() / (2 * n) as f64;
        assert!((loss(&z, Negatives::All) - expected).abs() < 1e-11);
    }

    #[test]
    fn an_odd_number_of_rows_is_refused() {
        let error = nt_xent(&rows(0, 5, 2), 0.5, &SingleProcess).unwrap_err().to_string();
        assert!(error.contains("multiple of 2 rows, got 5"), "{error}");
    }
}
