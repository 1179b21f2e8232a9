//! Collective communication between the processes of a run: all-reduce, all-gather and broadcast.
//!
//! Batch norm's per-channel sums and the losses use a [`Collective`], so that N processes compute the same result as
//! one process with the whole batch. [`SingleProcess`] is the collective of a run in one process.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;

/// Communication between the processes of one run. Every rank must call the same operations in the same order.
pub trait Collective: Send + Sync {
    /// Rank of this process, counted from 0.
    fn rank(&self) -> usize;
    /// Number of processes (the world size).
    fn size(&self) -> usize;
    /// Sum of `tensor`, which has the same shape on every rank, over all ranks, added in the order of ranks; same
    /// shape.
    ///
    /// # Errors
    ///
    /// If communication with another process fails.
    fn all_reduce_sum(&self, tensor: &Tensor) -> Result<Tensor>;
    /// Tensors `[rows, …]` of all ranks, with the same shape on each, concatenated to `[size·rows, …]` in the order of
    /// ranks.
    ///
    /// # Errors
    ///
    /// If communication with another process fails.
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;
    /// The tensor of rank `root`, which has the shape of `tensor` on every rank.
    ///
    /// # Errors
    ///
    /// If communication with another process fails.
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Tensor>;
}

/// Shared handle to the collective of a run.
pub type SharedCollective = Arc<dyn Collective>;

/// Collective of a single process: every operation returns its input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl SingleProcess {
    /// Shared handle to the collective of a single process.
    pub fn shared() -> SharedCollective {
        Arc::new(Self)
    }
}

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce_sum(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }

    fn broadcast(&self, tensor: &Tensor, _root: usize) -> Result<Tensor> {
        Ok(tensor.clone())
    }
}
