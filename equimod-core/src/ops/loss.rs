//! Cross-entropy over rows of a matrix of similarities.

use candle_core::{Result, Tensor, bail};

use crate::backend;
use crate::backend::contract::RowTargets;

/// For each row s of `similarities` `[rows, columns]`, with positive p: the loss `log Σ_j exp s_j − s_p`, `[rows]` (f64
/// on the CPU, f32 elsewhere), and its gradient `softmax(s) − onehot(p)`, `[rows, columns]`.
///
/// The memory of `similarities` may be used for the gradient: no other tensor may share it.
pub fn cross_entropy_rows(similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = similarities.dims2()?;
    let RowTargets { first, local, offset, .. } = *targets;
    if first + rows > local || offset + local > columns {
        bail!("rows {first} to {} of {local} at column {offset} do not fit {columns} columns", first + rows);
    }
    backend::of(&similarities).cross_entropy_rows(similarities, targets)
}
