//! Matrix products.

use candle_core::{Result, Tensor, bail};

use crate::backend;

/// Number of rows and columns of a matrix.
fn sizes(tensor: &Tensor) -> Result<[usize; 2]> {
    match tensor.dims() {
        &[rows, columns] => Ok([rows, columns]),
        dims => bail!("a product of matrices got a tensor of shape {dims:?}"),
    }
}

/// Checks that the inner dimensions of two matrices are equal.
fn same_depth(a: &Tensor, dim_of_a: usize, b: &Tensor, dim_of_b: usize) -> Result<()> {
    let (a, b) = (sizes(a)?[dim_of_a], sizes(b)?[dim_of_b]);
    match a == b {
        true => Ok(()),
        false => bail!("the matrices of a product meet with {a} and {b} values"),
    }
}

/// Product of a `[M, K]` and b `[K, N]` → a·b `[M, N]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 1, b, 0)?;
    backend::of(a).matmul(a, b)
}

/// Product of a `[M, K]` and b `[N, K]` → a·bᵀ `[M, N]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 1, b, 1)?;
    backend::of(a).matmul_nt(a, b)
}

/// Product of a `[K, M]` and b `[K, N]` → aᵀ·b `[M, N]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn matmul_tn(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_depth(a, 0, b, 0)?;
    backend::of(a).matmul_tn(a, b)
}
