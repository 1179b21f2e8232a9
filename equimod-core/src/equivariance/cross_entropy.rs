//! Cross-entropy loss of modules that classify.

use candle_core::{D, Tensor};
use candle_nn::ops::log_softmax;

use crate::Result;
use crate::collective::Collective;
use crate::objective::mean_over_rows;

/// Cross-entropy `−log softmax(logits)_class` of logits `[rows, classes]` for class indices `[rows]`, averaged over the
/// rows of all processes; a scalar.
///
/// # Errors
///
/// If the shapes do not fit, a class index is out of range, or a tensor operation fails.
pub fn cross_entropy(logits: &Tensor, classes: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    let of_class = log_softmax(logits, D::Minus1)?.gather(&classes.unsqueeze(1)?, 1)?.squeeze(1)?;
    Ok(mean_over_rows(&of_class, collective)?.neg()?)
}
