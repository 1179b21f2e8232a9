//! Cross-entropy over the rows of a similarity matrix.

use candle_core::{Result, Tensor, bail};

use crate::backend;
use crate::backend::contract::RowTargets;

/// Loss `log Σ_j exp s_j − s_p` of each row s of `similarities` `[rows, columns]` with positive p, as `[rows]` (f64 on
/// the CPU, f32 elsewhere), and its gradient `softmax(s) − onehot(p)`, `[rows, columns]`.
///
/// The gradient may overwrite the memory of `similarities`, which no other tensor may share.
///
/// # Errors
///
/// If the targets do not fit the shape, or a tensor operation fails.
pub fn cross_entropy_rows(similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = similarities.dims2()?;
    let RowTargets { first, local, offset, .. } = *targets;
    if first + rows > local || offset + local > columns {
        bail!("rows {first} to {} of {local} at column {offset} do not fit {columns} columns", first + rows);
    }
    backend::of(&similarities).cross_entropy_rows(similarities, targets)
}
