//! Rows of channels: tensors `[N, C, …]` as `[N, …, C]`, the layout of the fast backends' memory.

use candle_core::{Result, Tensor, bail};

/// `[N, C, …]` viewed as `[N, …, C]`, which is contiguous if the memory is channels-last.
///
/// # Errors
///
/// If it has fewer than two dimensions.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    let rank = tensor.rank();
    if rank < 2 {
        bail!("a kernel needs a batch and channels, got {:?}", tensor.dims());
    }
    let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    tensor.permute(order)
}

/// `[N, …, C]` viewed as `[N, C, …]`.
///
/// # Errors
///
/// If it has fewer than two dimensions.
pub fn channels_second(rows: &Tensor) -> Result<Tensor> {
    let rank = rows.rank();
    if rank < 2 {
        bail!("rows of channels need a batch and channels, got {:?}", rows.dims());
    }
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    rows.permute(order)
}
