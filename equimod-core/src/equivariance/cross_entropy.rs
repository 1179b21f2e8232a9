//! The loss of modules that tell classes apart.

use candle_core::{D, Tensor};
use candle_nn::ops::log_softmax;

use crate::Result;
use crate::collective::Collective;
use crate::objective::mean_over_rows;

/// The mean over the rows of all processes of `−log softmax(logits)_class`: logits `[rows, classes]`, classes `[rows]`.
pub fn cross_entropy(logits: &Tensor, classes: &Tensor, collective: &dyn Collective) -> Result<Tensor> {
    let of_class = log_softmax(logits, D::Minus1)?.gather(&classes.unsqueeze(1)?, 1)?.squeeze(1)?;
    Ok(mean_over_rows(&of_class, collective)?.neg()?)
}
