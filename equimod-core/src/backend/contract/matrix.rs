//! Products of matrices.

use candle_core::{Result, Tensor};

/// Products of two matrices, by default candle's.
pub trait MatrixOps {
    /// a `[M, K]`, b `[K, N]` → a·b `[M, N]`.
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.matmul(&b.detach().contiguous()?)
    }

    /// a `[M, K]`, b `[N, K]` → a·bᵀ `[M, N]`.
    fn matmul_nt(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.matmul(&b.detach().contiguous()?.t()?)
    }

    /// a `[K, M]`, b `[K, N]` → aᵀ·b `[M, N]`.
    fn matmul_tn(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.detach().contiguous()?.t()?.matmul(&b.detach().contiguous()?)
    }
}
