//! NT-Xent of each row, for losses that weight rows differently.

use candle_core::Tensor;

use super::nt_xent::{BLOCK, Negatives, check_rows, normalize_rows, targets_of};
use crate::collective::{Collective, SharedCollective};
use crate::nn::hand_written;
use crate::ops::{self, RowTargets};
use crate::{Error, Result};

/// NT-Xent loss of each row of the embeddings `zs` `[2n, width]`, as a differentiable tensor `[2n]`. Row i ± n is the
/// positive of row i. The mean over the rows of all processes is [`nt_xent_with`](super::nt_xent_with).
///
/// With several processes, each passes its own rows and receives their losses; the gradient sums the contributions of
/// the losses on all processes, with the weight that each process gave to its rows. Similarities are computed one block
/// of rows at a time, and recomputed in the backward pass.
///
/// # Errors
///
/// If the number of rows does not fit `negatives`, a row is left without negatives, or a tensor operation fails.
pub fn nt_xent_rows(
    zs: &Tensor,
    temperature: f64,
    negatives: Negatives,
    collective: &SharedCollective,
) -> Result<Tensor> {
    check_rows(zs.dim(0)?, negatives)?;
    let ys = normalize_rows(zs)?;
    let rows = Rows::new(&ys.detach(), temperature, negatives, collective.as_ref())?;
    let losses = rows.blocks().map(|block| Ok(rows.block(block)?.0)).collect::<Result<Vec<_>>>()?;
    let losses = Tensor::cat(&losses, 0)?;
    let collective = collective.clone();
    let backward = move |g: &Tensor| rows.gradient(g, collective.as_ref()).map_err(Error::into_candle);
    Ok(hand_written(&ys, &losses, backward)?)
}

/// Normalized rows, with the settings of their comparison.
struct Rows {
    /// Rows of all processes, `[total, width]`.
    all: Tensor,
    local: usize,
    /// Index of this process's first row in `all`.
    offset: usize,
    temperature: f64,
    negatives: Negatives,
}

impl Rows {
    fn new(ys: &Tensor, temperature: f64, negatives: Negatives, collective: &dyn Collective) -> Result<Self> {
        let (all, local) = (collective.all_gather(ys)?.contiguous()?, ys.dim(0)?);
        if negatives == Negatives::Decoupled && all.dim(0)? == 2 {
            return Err(Error::fewer_than_two("decoupled NT-Xent", "images", 1));
        }
        Ok(Self { all, local, offset: collective.rank() * local, temperature, negatives })
    }

    /// `(start, length)` of each block of this process's rows.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let local = self.local;
        (0..local).step_by(BLOCK).map(move |start| (start, BLOCK.min(local - start)))
    }

    /// Losses `log Σ_j exp s_j − s_p` of a block, `[length]`, and their gradients with respect to the similarities,
    /// `softmax(s) − onehot(p)`, `[length, total]`.
    fn block(&self, (start, length): (usize, usize)) -> Result<(Tensor, Tensor)> {
        let rows = self.all.narrow(0, self.offset + start, length)?;
        let similarities = (ops::matmul_nt(&rows, &self.all)? / self.temperature)?;
        let targets = RowTargets { first: start, local: self.local, offset: self.offset, ..targets_of(self.negatives) };
        let (losses, weights) = ops::cross_entropy_rows(similarities, &targets)?;
        Ok((losses.to_dtype(weights.dtype())?, weights))
    }

    /// Gradient of this process's rows, `[local, width]`, from the gradients `[local]` of their losses.
    fn gradient(&self, losses: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
        let total = self.all.dim(0)?;
        let mut gradient = self.all.zeros_like()?;
        for (start, length) in self.blocks() {
            let rows = self.all.narrow(0, self.offset + start, length)?;
            let factors = (losses.narrow(0, start, length)? / self.temperature)?.unsqueeze(1)?;
            let weights = self.block((start, length))?.1.broadcast_mul(&factors)?;
            // S = Y·Yᵀ: a row of dS contributes to its own row of dY and, transposed, to every row it was compared
            // with.
            let own = ops::matmul(&weights, &self.all)?;
            let own = own.pad_with_zeros(0, self.offset + start, total - self.offset - start - length)?;
            gradient = ((gradient + ops::matmul_tn(&weights, &rows)?)? + own)?;
        }
        Ok(collective.all_reduce_sum(&gradient)?.narrow(0, self.offset, self.local)?.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::collective::SingleProcess;
    use crate::objective::nt_xent_with;

    const ALL: [Negatives; 3] = [Negatives::All, Negatives::ExcludeSibling, Negatives::Decoupled];

    fn random(count: usize, width: usize) -> Tensor {
        let value = |i: usize| ((i as f64 + 3.0) * 0.7391).sin() + ((i * i) as f64 * 0.113).cos();
        Tensor::from_vec((0..count * width).map(value).collect::<Vec<f64>>(), (count, width), &Device::Cpu).unwrap()
    }

    fn losses(zs: &Tensor, negatives: Negatives) -> Tensor {
        nt_xent_rows(zs, 0.3, negatives, &SingleProcess::shared()).unwrap()
    }

    #[test]
    fn each_row_is_the_definition_and_the_mean_is_the_loss() {
        // More rows than fit in one block.
        let count = 2 * (BLOCK / 2 + 10);
        let zs = random(count, 3);
        let ys = normalize_rows(&zs).unwrap();
        let s = (ys.matmul(&ys.t().unwrap()).unwrap() / 0.3).unwrap().to_vec2::<f64>().unwrap();
        for (i, loss) in losses(&zs, Negatives::All).to_vec1::<f64>().unwrap().into_iter().enumerate() {
            let sum: f64 = (0..count).filter(|&j| j != i).map(|j| s[i][j].exp()).sum();
            let want = sum.ln() - s[i][(i + count / 2) % count];
            assert!((loss - want).abs() < 1e-11, "{i}: {loss} {want}");
        }
        for negatives in ALL {
            let mean: f64 = losses(&zs, negatives).mean_all().unwrap().to_scalar().unwrap();
            let want: f64 = nt_xent_with(&zs, 0.3, negatives, &SingleProcess).unwrap().to_scalar().unwrap();
            assert!((mean - want).abs() < 1e-11, "{negatives:?}: {mean} {want}");
        }
    }

    #[test]
    fn gradients_of_weighted_rows_agree_with_finite_differences() {
        let weights = Tensor::new(&[1.0, 0.5, -2.0, 0.0, 3.0, 0.1, 1.5, 0.7], &Device::Cpu).unwrap();
        for negatives in ALL {
            let weighted = |zs: &Tensor| (losses(zs, negatives) * &weights).unwrap().sum_all().unwrap();
            let zs = Var::from_tensor(&random(8, 5)).unwrap();
            let gradient = weighted(&zs).backward().unwrap().remove(&zs).unwrap();
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = zs.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for i in 0..values.len() {
                let moved = |by: f64| -> f64 {
                    let mut values = values.clone();
                    values[i] += by;
                    weighted(&Tensor::from_vec(values, (8, 5), &Device::Cpu).unwrap()).to_scalar().unwrap()
                };
                // Central differences have an error of order step² = 1e-10.
                let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((gradient[i] - want).abs() < 1e-8, "{negatives:?} {i}: {} {want}", gradient[i]);
            }
        }
    }

    #[test]
    fn rows_that_cannot_be_compared_are_refused() {
        let refused = |count: usize, negatives| {
            nt_xent_rows(&random(count, 2), 0.3, negatives, &SingleProcess::shared()).unwrap_err().to_string()
        };
        assert!(refused(5, Negatives::All).contains("rows, got 5"));
        assert!(refused(2, Negatives::Decoupled).contains("at least 2 images, got 1"));
    }
}
