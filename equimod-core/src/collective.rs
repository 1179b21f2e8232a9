//! What processes that train together exchange: sums, gathered rows, broadcasts.
//!
//! Batch norm's per-channel sums and the contrastive losses go through a [`Collective`], so that N processes compute
//! what one process with the whole batch would. [`SingleProcess`] is the form for one.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;

/// Communication between the processes of one run. Every rank calls the same operations in the same order.
pub trait Collective: Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;
    /// The number of processes.
    fn size(&self) -> usize;
    /// The sum over ranks of `tensor` (same shape everywhere), added in the order of ranks.
    fn all_reduce_sum(&self, tensor: &Tensor) -> Result<Tensor>;
    /// The ranks' tensors (same shape everywhere) concatenated along the first dimension, in the order of ranks.
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;
    /// `tensor` as rank `root` has it.
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Tensor>;
}

/// A shared handle to the run's collective.
pub type SharedCollective = Arc<dyn Collective>;

/// One process: every operation returns its input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl SingleProcess {
    /// A shared handle.
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
