//! Products of matrices.

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::fast::layout::transposed;
use super::fast::matrix::product;
use super::values::{Kernels, Values, planes};

/// A matrix's sides.
fn sides(tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] => Ok((rows, columns)),
        dims => bail!("a product of matrices got a tensor of shape {dims:?}"),
    }
}

/// `of(a, b)` over the values of two matrices in f32 on the CPU, `[rows, columns]`; candle's elsewhere.
fn either(
    (a, b): (&Tensor, &Tensor),
    (rows, columns): (usize, usize),
    of: impl Fn(&[f32], &[f32]) -> Vec<f32>,
    candle: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (a, b) = (planes(a)?, planes(b)?);
    match Kernels::of(&a) {
        Kernels::Fast => {
            let values = of(Values::of(&a)?.get()?, Values::of(&b)?.get()?);
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        }
        Kernels::Portable | Kernels::Composed => candle(&a, &b),
    }
}

fn one_depth(a: usize, b: usize) -> Result<()> {
    if a != b {
        bail!("the matrices of a product meet with {a} and {b} values");
    }
    Ok(())
}

/// a `[M, K]`, b `[K, N]` → a·b `[M, N]`.
pub fn times(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((rows, depth), (other, columns)) = (sides(a)?, sides(b)?);
    one_depth(depth, other)?;
    let of = |a: &[f32], b: &[f32]| product(Arch::new(), a, b, (rows, depth, columns));
    either((a, b), (rows, columns), of, |a, b| a.matmul(b))
}

/// a `[M, K]`, b `[N, K]` → a·bᵀ `[M, N]`.
pub fn times_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((rows, depth), (columns, other)) = (sides(a)?, sides(b)?);
    one_depth(depth, other)?;
    // Either b is turned, or a and the result of (b·aᵀ)ᵀ: whichever has fewer values.
    let of = |a: &[f32], b: &[f32]| match b.len() <= a.len() + rows * columns {
        true => product(Arch::new(), a, &transposed(b, 1, columns, depth), (rows, depth, columns)),
        false => {
            let turned = product(Arch::new(), b, &transposed(a, 1, rows, depth), (columns, depth, rows));
            transposed(&turned, 1, columns, rows)
        }
    };
    either((a, b), (rows, columns), of, |a, b| a.matmul(&b.t()?))
}

/// a `[K, M]`, b `[K, N]` → aᵀ·b `[M, N]`.
pub fn transposed_times(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((depth, rows), (other, columns)) = (sides(a)?, sides(b)?);
    one_depth(depth, other)?;
    // Either a is turned, or b and the result of (bᵀ·a)ᵀ: whichever has fewer values.
    let of = |a: &[f32], b: &[f32]| match a.len() <= b.len() + rows * columns {
        true => product(Arch::new(), &transposed(a, 1, depth, rows), b, (rows, depth, columns)),
        false => {
            let turned = product(Arch::new(), &transposed(b, 1, depth, columns), a, (columns, depth, rows));
            transposed(&turned, 1, columns, rows)
        }
    };
    either((a, b), (rows, columns), of, |a, b| a.t()?.matmul(b))
}
