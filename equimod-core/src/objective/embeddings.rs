//! Metrics of the spread of embeddings, which reveal a collapse.

use candle_core::{DType, Tensor};

use crate::collective::Collective;
use crate::objective::normalize_rows;
use crate::objective::two_views::{centered, views};
use crate::step::{Metrics, scalars};
use crate::{Result, host};

/// Largest number of rows that the metrics use.
const ROWS: usize = 256;

/// Collapse metrics over the first 256 rows of the embeddings of all processes, normalized to length 1; zs
/// `[2n, width]` holds view 1, then view 2, of this process's images. Both metrics are scalars on the device of zs.
///
/// - `embedding_std`: standard deviation of each feature, averaged over the features; about 1/√width for embeddings
///   spread over all directions, 0 for collapsed ones.
/// - `effective_rank`: participation ratio `(Σλ)²/Σλ²` over the eigenvalues λ of the covariance; at most
///   min(rows − 1, width), 0 for collapsed embeddings.
///
/// # Errors
///
/// If zs is not a matrix, or the collective or a tensor operation fails.
pub fn spread(zs: &Tensor, collective: &dyn Collective) -> Result<Metrics> {
    let zs = first_rows(&zs.detach(), collective)?.to_dtype(DType::F32)?;
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

/// The first 256 rows of view 1, then view 2, of the images of all processes.
fn first_rows(zs: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    if collective.size() == 1 {
        return Ok(zs.narrow(0, 0, zs.dim(0)?.min(ROWS))?);
    }
    let [first, second] = views(zs)?;
    let images = first.dim(0)? * collective.size();
    let of_view = |view: &Tensor, rows: usize| -> Result<Tensor> {
        // Rows that are among the first of all are among the first of their process.
        let own = view.narrow(0, 0, view.dim(0)?.min(rows))?;
        Ok(collective.all_gather(&own.contiguous()?)?.narrow(0, 0, rows)?)
    };
    let of_first = of_view(&first, images.min(ROWS))?;
    match (ROWS - images.min(ROWS)).min(images) {
        0 => Ok(of_first),
        rest => Ok(Tensor::cat(&[of_first, of_view(&second, rest)?], 0)?),
    }
}
