//! Metrics of the spread of embeddings, which reveal a collapse.

use candle_core::{DType, Tensor};

use crate::objective::normalize_rows;
use crate::objective::two_views::centered;
use crate::step::{Metrics, scalars};
use crate::{Result, host};

/// Largest number of rows that the metrics use.
const ROWS: usize = 256;

/// Collapse metrics over the first 256 rows of this process's embeddings zs `[rows, width]`, normalized to length 1.
/// Both are scalars on the device of zs.
///
/// - `embedding_std`: standard deviation of each feature, averaged over the features; about 1/√width for embeddings
///   spread over all directions, 0 for collapsed ones.
/// - `effective_rank`: participation ratio `(Σλ)²/Σλ²` over the eigenvalues λ of the covariance; at most
///   min(rows − 1, width), 0 for collapsed embeddings.
///
/// # Errors
///
/// If zs is not a matrix, or a tensor operation fails.
pub fn spread(zs: &Tensor) -> Result<Metrics> {
    let rows = zs.dim(0)?.min(ROWS);
    let zs = zs.narrow(0, 0, rows)?.detach().to_dtype(DType::F32)?;
    let zs = centered(&normalize_rows(&zs)?)?.contiguous()?;
    let std = zs.sqr()?.mean(0)?.sqrt()?.mean_all()?;
    // The Gram matrix Z·Zᵀ has the nonzero eigenvalues of Zᵀ·Z.
    let products = crate::ops::matmul_nt(&zs, &zs)?;
    let wide = host::widest(zs.device());
    let trace = zs.sqr()?.sum_all()?.to_dtype(wide)?;
    // For equal rows both sums are 0, and so is the rank.
    let squares = products.sqr()?.sum_all()?.to_dtype(wide)?.maximum(f64::from(f32::MIN_POSITIVE))?;
    let rank = (trace.sqr()? / squares)?;
    Ok(scalars([("embedding_std", &std), ("effective_rank", &rank)]))
}
