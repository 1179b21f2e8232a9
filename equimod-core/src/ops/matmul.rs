//! Products of matrices.

use candle_core::{Result, Tensor, bail};

use crate::backend;

/// Rows and columns of a matrix.
fn sizes(tensor: &Tensor) -> Result<[usize; 2]> {
    match tensor.dims() {
        &[rows, columns] => Ok([rows, columns]),
        dims => bail!("a product of matrices got a tensor of shape {dims:?}"),
    }
}

/// Checks that the dimensions over which two matrices are multiplied are one.
fn same_depth(a: &Tensor, dim_of_a: usize, b: &Tensor, dim_of_b: usize) -> Result<()> {
    let (a, b) = (sizes(a)?[dim_of_a], sizes(b)?[dim_of_b]);
    match a == b {
        true => Ok(()),
        false => bail!("the matrices of a product meet with {a} and {b} values"),
    }
}

/// a `[M, K]`, b `[K, N]` → a·b `[M, N]`.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 1, b, 0)?;
    backend::of(a).matmul(a, b)
}

/// a `[M, K]`, b `[N, K]` → a·bᵀ `[M, N]`.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 1, b, 1)?;
    backend::of(a).matmul_nt(a, b)
}

/// a `[K, M]`, b `[K, N]` → aᵀ·b `[M, N]`.
pub fn matmul_tn(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 0, b, 0)?;
    backend::of(a).matmul_tn(a, b)
}
