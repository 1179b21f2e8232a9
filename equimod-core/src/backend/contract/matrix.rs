//! Matrix products.

use candle_core::{Result, Tensor};

/// Products of two matrices, by default those of candle.
pub trait MatrixOps {
    /// Product of a `[M, K]` and b `[K, N]` → a·b `[M, N]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.matmul(&b.detach().contiguous()?)
    }

    /// Product of a `[M, K]` and b `[N, K]` → a·bᵀ `[M, N]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn matmul_nt(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.matmul(&b.detach().contiguous()?.t()?)
    }

    /// Product of a `[K, M]` and b `[K, N]` → aᵀ·b `[M, N]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn matmul_tn(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.t()?.matmul(&b.detach().contiguous()?)
    }
}
