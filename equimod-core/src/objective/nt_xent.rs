//! NT-Xent, the normalised temperature-scaled cross-entropy (Chen et al., arXiv 2002.05709, equation 1).
//!
//! Rows are normalised to length 1 (as `F.normalize`, with 1e-12 as the least length), `S = Y·Yᵀ/T`, and the loss is
//! the mean over rows of `log Σ_j exp S_ij − S_ip`, `p` the positive of row `i` and `j` over all rows but `i`.
//! The similarities are made a block of rows at a time, forward and backward at once, so that memory grows with the
//! number of rows and not with its square.

use std::cell::Cell;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, bail};
use num_traits::Float;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::collective::Collective;
use crate::kernels;
use crate::nn::hand_written;
use crate::{Error, Result};

/// Rows of the similarity matrix that are held at once.
pub(super) const BLOCK: usize = 1024;

/// Which rows a row is compared with, beside its positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Every other row (published).
    #[default]
    All,
    /// Every other row but the sibling view of the same image and what belongs to it.
    ExcludeSibling,
    /// As `all`, with the positive left out of the sum (Yeh et al., arXiv 2110.06848).
    Decoupled,
}

/// xs `[rows, width]` → the rows divided by max(length, 1e-12), as `torch.nn.functional.normalize`.
pub fn normalise_rows(xs: &Tensor) -> Result<Tensor> {
    // The bound is inside the root: the derivative of ‖x‖ at 0 is never taken.
    let lengths = xs.sqr()?.sum_keepdim(1)?.maximum(1e-24)?.sqrt()?;
    Ok(xs.broadcast_div(&lengths)?)
}

/// The loss of `zs` `[2n, width]`, whose row i has row i ± n as its positive; a scalar.
///
/// With several processes each gives its own rows; the loss and its gradient are those of all rows together.
pub fn nt_xent(zs: &Tensor, temperature: f64, collective: &dyn Collective) -> Result<Tensor> {
    nt_xent_with(zs, temperature, Negatives::All, collective)
}

/// [`nt_xent`] with a choice of negatives. For [`Negatives::ExcludeSibling`] each half of `zs` must itself be two
/// halves (view 1, view 2): the sibling of a row is the row of the other view in either half.
pub fn nt_xent_with(
    zs: &Tensor,
    temperature: f64,
    negatives: Negatives,
    collective: &dyn Collective,
) -> Result<Tensor> {
    check_rows(zs.dim(0)?, negatives)?;
    let ys = normalise_rows(zs)?;
    let (loss, gradient) = value_and_gradient(&ys.detach(), temperature, negatives, collective)?;
    Ok(hand_written(&ys, &loss, move |g| gradient.broadcast_mul(g))?)
}

/// An error where a number of rows does not divide into views.
pub(super) fn check_rows(rows: usize, negatives: Negatives) -> Result<()> {
    let divisor = if negatives == Negatives::ExcludeSibling { 4 } else { 2 };
    match rows > 0 && rows.is_multiple_of(divisor) {
        true => Ok(()),
        false => Err(Error::Config(format!("NT-Xent got {rows} rows; it needs a positive multiple of {divisor}"))),
    }
}

/// The loss of all processes' rows and its gradient with respect to this process's `ys`.
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
        let similarities = kernels::times(&(&block / temperature)?, &transposed)?;
        let targets: Vec<_> = (start..start + length).map(|r| Target::of(r, local, offset, negatives)).collect();
        let (loss, weights) = cross_entropy(similarities, &targets, negatives == Negatives::Decoupled)?;
        losses.push(loss);
        // S = Y·Yᵀ: a row of dS reaches its own row of Y and, transposed, every row it was compared with.
        let own = kernels::times(&weights, &all)?;
        gradient = (gradient + kernels::transposed_times(&weights, &block)?)?;
        let own = own.pad_with_zeros(0, offset + start, total - offset - start - length)?;
        gradient = (gradient + own)?;
    }
    let loss = (collective.all_reduce_sum(&Tensor::stack(&losses, 0)?.sum_all()?)? / total as f64)?;
    let gradient = collective.all_reduce_sum(&gradient)?.narrow(0, offset, local)?;
    Ok((loss, (gradient * scale)?.contiguous()?))
}

/// The columns that matter to one row.
pub(super) struct Target {
    pub positive: usize,
    pub excluded: Vec<usize>,
}

impl Target {
    /// For row `row` of `local` rows that start at column `offset`.
    pub fn of(row: usize, local: usize, offset: usize, negatives: Negatives) -> Self {
        let (half, quarter) = (local / 2, local / 4);
        let positive = (row + half) % local;
        let mut excluded = vec![offset + row];
        if negatives == Negatives::ExcludeSibling {
            let sibling = |r: usize| if r % half < quarter { r + quarter } else { r - quarter };
            excluded.extend([offset + sibling(row), offset + sibling(positive)]);
        }
        Self { positive: offset + positive, excluded }
    }
}

/// For each row of `s` `[rows, columns]`: the loss `log Σ_j exp s_j − s_p`, summed over rows, and the weights
/// `softmax(s) − onehot(p)`, `[rows, columns]`. `decoupled` leaves the positive out of the sum.
pub(super) fn cross_entropy(s: Tensor, targets: &[Target], decoupled: bool) -> Result<(Tensor, Tensor)> {
    if !s.device().is_cpu() {
        return composed_cross_entropy(&s, targets, decoupled);
    }
    let kernel = CrossEntropy { targets, decoupled, sum: Cell::new(0.0) };
    // The similarities are this function's own, and fresh: the weights take their place.
    s.inplace_op1(&kernel)?;
    Ok((Tensor::new(kernel.sum.get(), s.device())?.to_dtype(s.dtype())?, s))
}

/// [`cross_entropy`] of rows in place; keeps the sum of their losses.
struct CrossEntropy<'a> {
    targets: &'a [Target],
    decoupled: bool,
    sum: Cell<f64>,
}

impl CrossEntropy<'_> {
    fn run<T: Float + Send + Sync>(&self, values: &mut [T], columns: usize) {
        let (rows, decoupled) = (values.par_chunks_mut(columns).zip(self.targets), self.decoupled);
        let losses: Vec<f64> = rows.map(|(row, target)| cross_entropy_row(row, target, decoupled)).collect();
        self.sum.set(losses.iter().sum());
    }
}

impl InplaceOp1 for CrossEntropy<'_> {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (Some((start, end)), columns) = (layout.contiguous_offsets(), layout.dims()[1]) else {
            bail!("NT-Xent needs contiguous similarities")
        };
        match storage {
            CpuStorage::F32(values) => self.run(&mut values[start..end], columns),
            CpuStorage::F64(values) => self.run(&mut values[start..end], columns),
            other => bail!("NT-Xent is computed in f32 or f64, not {:?}", other.dtype()),
        }
        Ok(())
    }
}

fn cross_entropy_row<T: Float>(row: &mut [T], target: &Target, decoupled: bool) -> f64 {
    let positive = row[target.positive];
    for &column in &target.excluded {
        row[column] = T::neg_infinity();
    }
    if decoupled {
        row[target.positive] = T::neg_infinity();
    }
    let highest = row.iter().copied().fold(T::neg_infinity(), T::max);
    if highest == T::neg_infinity() {
        // Nothing to be compared with: the loss is the similarity alone.
        row.fill(T::zero());
        row[target.positive] = -T::one();
        return (-positive).to_f64().unwrap_or(f64::NAN);
    }
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - highest).exp();
        sum += value.to_f64().unwrap_or(f64::NAN);
    }
    let inverse = T::from(1.0 / sum).unwrap_or_else(T::nan);
    for value in row.iter_mut() {
        *value = *value * inverse;
    }
    row[target.positive] = row[target.positive] - T::one();
    sum.ln() + (highest - positive).to_f64().unwrap_or(f64::NAN)
}

/// The same from candle's operations, for other devices.
fn composed_cross_entropy(s: &Tensor, targets: &[Target], decoupled: bool) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = s.dims2()?;
    let (mut mask, mut onehot) = (vec![0f32; rows * columns], vec![0f32; rows * columns]);
    for (r, target) in targets.iter().enumerate() {
        let own = decoupled.then_some(target.positive);
        for &column in target.excluded.iter().chain(own.iter()) {
            mask[r * columns + column] = -1e8;
        }
        onehot[r * columns + target.positive] = 1.0;
    }
    let upload = |values: Vec<f32>| -> Result<Tensor> {
        Ok(Tensor::from_vec(values, (rows, columns), &candle_core::Device::Cpu)?
            .to_device(s.device())?
            .to_dtype(s.dtype())?)
    };
    let (mask, onehot) = (upload(mask)?, upload(onehot)?);
    let masked = (s + mask)?;
    let highest = masked.max_keepdim(1)?;
    let exponentials = masked.broadcast_sub(&highest)?.exp()?;
    let sums = exponentials.sum_keepdim(1)?;
    let positives = (s * &onehot)?.sum_keepdim(1)?;
    let loss = ((sums.log()? + highest)? - positives)?.to_dtype(DType::F32)?.sum_all()?.to_dtype(s.dtype())?;
    Ok((loss, (exponentials.broadcast_div(&sums)? - onehot)?))
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
                // Central differences: error of order step² = 1e-10.
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
    fn composed_form_equals_the_kernel() {
        let s = rows(5, 6, 6);
        let targets = |_| (0..6).map(|r| Target::of(r, 6, 0, Negatives::All)).collect::<Vec<_>>();
        for decoupled in [false, true] {
            let (a, ga) = cross_entropy(s.copy().unwrap(), &targets(()), decoupled).unwrap();
            let (b, gb) = composed_cross_entropy(&s, &targets(()), decoupled).unwrap();
            // The composed sum of losses is rounded to f32.
            assert!((a.to_scalar::<f64>().unwrap() - b.to_scalar::<f64>().unwrap()).abs() < 1e-5);
            let difference = (ga - gb).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(difference < 1e-12, "{difference}");
        }
    }

    #[test]
    fn blocks_change_nothing() {
        // More rows than a block holds, against the definition.
        let z = normalise_rows(&rows(9, 2 * BLOCK + 20, 3)).unwrap();
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
        assert!(error.contains("5 rows"), "{error}");
    }
}
