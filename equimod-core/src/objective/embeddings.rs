//! How spread out embeddings are: what tells a collapse.

use candle_core::{DType, Tensor};

use crate::objective::normalize_rows;
use crate::objective::two_views::centered;
use crate::step::{Metrics, scalars};
use crate::{Result, host};

/// Rows that are looked at, at most.
const ROWS: usize = 256;

/// Of the first 256 rows of zs `[rows, width]` at most (those of this process), with length 1: `embedding_std`, the mean
/// over features of their deviation, 1/√width where they fill all directions and 0 where all are one; and
/// `effective_rank`, `(Σλ)²/Σλ²` over the eigenvalues λ of their covariance, at most the number of rows less one or the
/// width, and 0 where all rows are one.
pub fn spread(zs: &Tensor) -> Result<Metrics> {
    let rows = zs.dim(0)?.min(ROWS);
    let zs = zs.narrow(0, 0, rows)?.detach().to_dtype(DType::F32)?;
    let zs = centered(&normalize_rows(&zs)?)?.contiguous()?;
    let std = zs.sqr()?.mean(0)?.sqrt()?.mean_all()?;
    // Rows' products have the eigenvalues of features' products.
    let products = crate::ops::matmul_nt(&zs, &zs)?;
    let wide = host::widest(zs.device());
    let trace = zs.sqr()?.sum_all()?.to_dtype(wide)?;
    // Where all rows are equal both are 0, and so is the rank.
    let squares = products.sqr()?.sum_all()?.to_dtype(wide)?.maximum(f64::from(f32::MIN_POSITIVE))?;
    let rank = (trace.sqr()? / squares)?;
    Ok(scalars([("embedding_std", &std), ("effective_rank", &rank)]))
}
